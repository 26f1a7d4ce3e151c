"""Screenshots of a built site for docs/screenshots: `python tests/site_builder/screenshots.py SITE OUT [--all]`.

PNGs of few colours of the pages in KEPT; with --all every page at 390, 768 and 1280 px, light and dark, each as
long as it is. The neuron is one late in the home page's wall, or the one asked for. Pages that show what this atlas
does not have (evidence, search, a Rosetta cluster, heads) are left out.
"""

from __future__ import annotations

import argparse
import base64
import gzip
import json
import re
import sys
from html import escape, unescape
from itertools import product
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from browser import Page, missing, plain_server
from PIL import Image

#: What docs/screenshots keeps: each kind of page wide and narrow, one of them dark. (page, width, theme)
KEPT = [
    ("home", 1280, "light"),
    ("layer", 1280, "dark"),
    ("neuron", 1280, "light"),
    ("neuron", 1280, "dark"),
    ("evidence", 1280, "light"),
    ("filters", 1280, "light"),
    ("search", 1280, "dark"),
    ("cluster", 1280, "light"),
    ("home", 390, "dark"),
    ("layer", 390, "light"),
    ("neuron", 390, "light"),
    ("neuron", 390, "dark"),
    ("evidence", 390, "dark"),
    ("search", 390, "light"),
    ("cluster", 390, "dark"),
    ("head", 1280, "light"),
    ("head-images", 1280, "dark"),
    ("heads", 1280, "light"),
    ("feature", 1280, "light"),
    ("head", 390, "dark"),
    ("head-images", 390, "light"),
    ("heads", 390, "light"),
    ("feature", 390, "dark"),
    ("inversions", 1280, "light"),
    ("inversion", 390, "dark"),
    ("image", 1280, "light"),
    ("image", 390, "dark"),
    ("map", 1280, "light"),
    ("map-pictures", 1280, "dark"),
    ("map", 390, "dark"),
    ("model", 1280, "dark"),
    ("clusters", 1280, "light"),
    ("features", 390, "light"),
    ("probes", 390, "dark"),
    ("probe", 1280, "light"),
    ("probe", 390, "dark"),
    ("compare", 1280, "light"),
    ("compare", 390, "dark"),
    ("help", 390, "light"),
    ("model", 390, "light"),
    ("clusters", 390, "dark"),
    ("features", 1280, "dark"),
    ("probes", 1280, "light"),
    ("help", 1280, "dark"),
    ("inversions", 390, "dark"),
    ("inversion", 1280, "light"),
    ("filters", 390, "dark"),
]
PAGES = ["home", "model", "layer", "neuron", "evidence", "filters", "search", "clusters", "cluster", "help"]
PAGES += ["head", "heads", "features", "feature", "inversions", "inversion", "map", "image", "probes", "probe"]
PAGES += ["compare"]
EVERY = list(product(PAGES, [390, 768, 1280], ["light", "dark"]))
#: Where the picture begins, on pages of which the upper end shows nothing new.
FROM = {"evidence": ".images", "head-images": ".images"}
#: On phones the images flow around the picture, and have no box of their own to begin at.
FROM_ON_PHONES = FROM | {"evidence": ".images .example"}
#: Pages of which another shows everything.
PARTS = ("evidence", "head-images")


def places(site: Path, neuron: str | None, words: str | None, head: str | None) -> dict[str, str]:
    """Name of a page -> its address after #/, of those that this site has something to show on.

    The neuron is the one asked for, or one late in the wall; the head the one asked for, or the first that carries
    the first feature; the words searched for are those asked for, or the label that most neurons carry.
    """
    page = (site / "index.html").read_text(encoding="utf-8")
    found = re.search(r'id="manifest">(.*?)</script>', page, re.S)
    assert found
    manifest = json.loads(found[1])
    if neuron is None:
        tiles = [tile for tile in manifest["wall"]["tiles"] if tile]
        index, layer, unit = tiles[len(tiles) * 2 // 3]
        neuron = f"{manifest['models'][index]['slug']}/{layer}/{unit}"
    slug, layer, _ = neuron.split("/")
    stages = next(entry["stages"] for entry in manifest["models"] if entry["slug"] == slug)
    where = {"home": "", "model": f"m/{slug}", "layer": f"m/{slug}/{layer}", "neuron": f"n/{neuron}", "help": "help"}
    if "examples" in stages:
        where["evidence"] = where["neuron"]
    if "label" in stages:
        where["filters"] = f"m/{slug}/{layer}?sort=certainty&label=labelled"
    if manifest["search"]:
        where["search"] = f"s?q={quote(words or most_common(site, manifest['search']))}"
    if manifest.get("map"):
        where |= {"map": "map", "map-pictures": "map?at=0.62,0.55,12&by=verdict"}
    if manifest["clusters"]:
        where |= {"clusters": "rosetta", "cluster": "r/0", "compare": f"cmp?u={','.join(alike(site, manifest))}"}
    if manifest["excited"]:
        first = next(iter(manifest["excited"]))
        where |= {"probes": f"p/{first}", "probe": f"p/{first}/7"}
    if manifest["features"]:
        first = manifest["features"]["list"][0]
        where |= {"features": "features", "feature": f"f/{quote(first['name'], safe='')}"}
        model, kind, site_layer, number, _ = next((one for one in first["best"] if one[1] == "head"), first["best"][0])
        if head is None and kind == "head":
            head = f"{manifest['models'][model]['slug']}/{site_layer}/{number}"
    inverted = [model["slug"] for model in manifest["models"] if model["inversions"]]
    if inverted:
        own = slug if slug in inverted else inverted[-1]
        entry = next(model["inversions"] for model in manifest["models"] if model["slug"] == own)
        listed = json.loads(gzip.decompress((site / entry["folder"] / "index.json.gz").read_bytes()))
        where |= {"inversions": f"i/{own}", "inversion": f"i/{own}/{listed['id'][len(listed['id']) // 4]}"}
    if manifest.get("runtime"):
        where["image"] = "image"
    if head is not None:
        where |= {"head": f"h/{head}", "head-images": f"h/{head}", "heads": f"h/{head.split('/')[0]}"}
    return where


def alike(site: Path, manifest: dict[str, Any]) -> list[str]:
    """Addresses of three neurons of the first Rosetta cluster, of three models."""
    first = json.loads(gzip.decompress((site / manifest["clusters"]["folder"] / "00000.json.gz").read_bytes()))[0]
    return list({slug: f"{slug}/mlp/{layer}/{unit}" for slug, layer, unit, _ in first["members"]}.values())[:3]


def most_common(site: Path, about: dict[str, Any]) -> str:
    """The label that most neurons of the atlas carry."""
    shards = (site / about["folder"] / "w").glob("*.json.gz")
    words = [texts for shard in shards for texts in json.loads(gzip.decompress(shard.read_bytes())).values()]
    counts = {text: neurons for texts in words for _, text, neurons in texts}
    return max(sorted(counts), key=counts.__getitem__)


def shoot(page: Page, address: str, out: Path, *, whole: bool, start: str = "", image: Path | None = None) -> None:
    """One picture: the first screen, or the `whole` page, or the screen that begins at the element `start`.

    image: what the page of images is given, where it is that page; without, a probe image.
    """
    page.open(address)
    if "#/image" in address:
        if image is None:
            page.wait(lambda: page.all(".samples button"))[0].click()
        else:
            page.all("input[type=file]")[0].send_keys(str(image.resolve()))
        page.wait(lambda: page.all(".neurons-of li"), 120)
    page.through() if whole else page.settle()
    if start and not whole:
        page.wait(lambda: page.all(start))
        page.run(f"document.querySelector({start!r}).scrollIntoView()")
        page.settle()
    picture = page.whole() if whole else Image.fromarray(page.pixels())
    # Phones draw 2 device pixels a CSS pixel; the documents show one.
    width = page.run("return innerWidth")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    # A large picture shows its steps without dithering; walls of small ones do not, and weigh a third less.
    colors, dither = (
        (256, Image.Dither.FLOYDSTEINBERG)
        if out.name.startswith(("neuron", "evidence", "cluster-", "head-images", "map-pictures", "image"))
        else (128, Image.Dither.NONE)
    )
    # Red and blue of signed maps cover little of the page: the usual palette would leave them out.
    rare = out.name.startswith("head-images")
    method = Image.Quantize.MAXCOVERAGE if rare else Image.Quantize.MEDIANCUT
    picture.convert("RGB").quantize(colors, method, dither=dither).save(out, optimize=True)


CARD = """<body style="margin:0;font:15px/1.4 system-ui;background:#fff;color:#111">
<div style="width:600px;border:1px solid #ccc;border-radius:12px;overflow:hidden">
<img src="data:image/jpeg;base64,{image}" width="600" style="display:block">
<div style="padding:10px 14px"><div style="color:#666;font-size:13px">{host}</div><b>{title}</b><div>{description}</div>
</div></div>"""


def shoot_card(page: Page, stub: Path, out: Path) -> None:
    """The stub page of a neuron as a messenger draws it: from what its head says, in the order of most."""
    said = {
        name: unescape(text)
        for name, text in re.findall(r'<meta property="og:(\S+)" content="([^"]*)"', stub.read_text())
    }
    image = base64.b64encode((stub.parent / said["image"].rpartition("/")[2]).read_bytes()).decode()
    told = {name: escape(said[name]) for name in ("title", "description")}
    card = CARD.format(image=image, host=urlsplit(said["url"]).hostname, **told)
    page.size(640, 480)
    page.driver.get("data:text/html;charset=utf-8;base64," + base64.b64encode(card.encode()).decode())
    Image.fromarray(page.pixels()).crop((0, 0, 602, 420)).convert("RGB").quantize(256).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--neuron", help="SLUG/LAYER/UNIT to show")
    parser.add_argument("--head", help="SLUG/LAYER/HEAD to show")
    parser.add_argument("--search", help="words to search for")
    parser.add_argument("--image", type=Path, help="image whose neurons are shown, where a model runs in the browser")
    parser.add_argument("--all", action="store_true", help="every page, at 768 px too, each as long as it is")
    options = parser.parse_args()
    if missing():
        sys.exit(missing())
    options.out.mkdir(parents=True, exist_ok=True)
    where = places(options.site, options.neuron, options.search, options.head)
    page = Page()
    try:
        with plain_server(options.site.resolve().parent) as (address, _):
            for name, width, scheme in EVERY if options.all else KEPT:
                if name not in where or (options.all and name in PARTS):
                    continue
                page.size(width, 844 if width < 600 else 900, phone=width < 600)
                page.scheme(scheme)
                url = f"{address}/{options.site.resolve().name}/#/{where[name]}"
                out = options.out / f"{name}-{width}-{scheme}.png"
                start = (FROM_ON_PHONES if width < 600 else FROM).get(name, "")
                shoot(page, url, out, whole=options.all, start=start, image=options.image)
        slug, layer, unit = where["neuron"].removeprefix("n/").split("/")
        stub = options.site / "c" / slug / "mlp" / layer / f"{unit}.html"
        if stub.exists():  # of a site that was built with --url
            shoot_card(page, stub, options.out / "card.png")
    finally:
        page.close()


if __name__ == "__main__":
    main()
