"""Screenshots of a built site for docs/screenshots: `python tests/site_builder/screenshots.py SITE OUT [--all]`.

PNGs of few colours of the pages in KEPT; with --all every page at 390, 768 and 1280 px, light and dark, each as
long as it is. The neuron is one late in the home page's wall, or the one asked for.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from itertools import product
from pathlib import Path

from browser import Page, missing, plain_server
from PIL import Image

#: What docs/screenshots keeps: each page wide and narrow, the neuron's in both themes. (page, width, theme)
KEPT = [
    ("home", 1280, "light"),
    ("layer", 1280, "dark"),
    ("neuron", 1280, "light"),
    ("neuron", 1280, "dark"),
    ("home", 390, "dark"),
    ("layer", 390, "light"),
    ("neuron", 390, "light"),
    ("neuron", 390, "dark"),
]
EVERY = list(product(["home", "model", "layer", "neuron", "help"], [390, 768, 1280], ["light", "dark"]))


def places(site: Path, neuron: str | None) -> dict[str, str]:
    """Name of a page -> its address after #/. The neuron is the one asked for, or one late in the wall."""
    page = (site / "index.html").read_text(encoding="utf-8")
    found = re.search(r'id="manifest">(.*?)</script>', page, re.S)
    assert found
    manifest = json.loads(found[1])
    if neuron is None:
        tiles = [tile for tile in manifest["wall"]["tiles"] if tile]
        index, layer, unit = tiles[len(tiles) * 2 // 3]
        neuron = f"{manifest['models'][index]['slug']}/{layer}/{unit}"
    slug, layer, _ = neuron.split("/")
    return {"home": "", "model": f"m/{slug}", "layer": f"m/{slug}/{layer}", "neuron": f"n/{neuron}", "help": "help"}


def shoot(page: Page, address: str, out: Path, *, whole: bool) -> None:
    page.open(address)
    page.settle()
    picture = page.whole() if whole else Image.fromarray(page.pixels())
    # Phones draw 2 device pixels a CSS pixel; the documents show one.
    width = page.run("return innerWidth")
    if picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    # A large picture shows its steps without dithering; walls of small ones do not, and weigh a third less.
    colors, dither = (256, Image.Dither.FLOYDSTEINBERG) if "neuron" in out.name else (128, Image.Dither.NONE)
    picture.convert("RGB").quantize(colors, dither=dither).save(out, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("site", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--neuron", help="SLUG/LAYER/UNIT to show")
    parser.add_argument("--all", action="store_true", help="every page, at 768 px too, each as long as it is")
    options = parser.parse_args()
    if missing():
        sys.exit(missing())
    options.out.mkdir(parents=True, exist_ok=True)
    where = places(options.site, options.neuron)
    page = Page()
    try:
        with plain_server(options.site.resolve().parent) as (address, _):
            for name, width, scheme in EVERY if options.all else KEPT:
                page.size(width, 844 if width < 600 else 900, phone=width < 600)
                page.scheme(scheme)
                url = f"{address}/{options.site.resolve().name}/#/{where[name]}"
                shoot(page, url, options.out / f"{name}-{width}-{scheme}.png", whole=options.all)
    finally:
        page.close()


if __name__ == "__main__":
    main()
