"""A site of a synthetic atlas: what building and rebuilding it takes, and what a reader waits for.

python -m benchmarks.site --neurons 3000 --side 224 --out docs/benchmarks/site.json

Two models with every stage but further pictures, their pictures drawn (tests/site_builder/drawn_atlas.py) in as many
pixels as real ones; how many bytes that makes of one is reported, real ones weigh 18 to 21 kB. Each build runs in a
process of its own, so that its peak memory is its own; then nothing changes, then a third model is added.
Pages are opened in a headless Chromium with an empty cache, over its DevTools' model of a line: 1.6 Mbit/s with 150 ms,
and 9 Mbit/s with 40 ms. Bytes are those on the line, headers among them; the time to the picture ends when the large
picture (or, on home and layer, the first of the wall) is drawn.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from atlas_schema.store import Store
from benchmarks.machine import description, public, put
from site_builder.serve import make_server

TESTS = Path(__file__).parents[1] / "tests" / "site_builder"
sys.path.insert(0, str(TESTS))

from browser import Page, missing, running  # noqa: E402
from drawn_atlas import ALL_STAGES, FURTHER, Drawn, draw_atlas, write_model  # noqa: E402
from drawn_evidence import PROBE_SET  # noqa: E402

#: Name -> bytes a second, delay in milliseconds.
LINES = {"1.6 Mbit/s, 150 ms": (1.6e6 / 8, 150), "9 Mbit/s, 40 ms": (9e6 / 8, 40)}
#: Noise of pictures: those of 224 pixels weigh 18 to 21 kB with it, as real ones do.
GRAIN = 0.11
#: Page -> its address, and what is drawn when the reader sees its first picture.
PAGES = {
    "home": ("", ".wall-of-models .tile"),
    "layer": ("m/large-one/1", ".wall .tile"),
    "neuron": ("n/large-one/1/41", ".neuron .picture img"),
    "head": ("h/large-one/1/2", ".direction .example img"),
}
BUILD = """
import json, re, sys, time
from site_builder.build import build_site
began = time.perf_counter()
report = build_site(sys.argv[1], sys.argv[2])
peak = 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # of this program alone
size = {"files": report.files, "bytes": report.bytes}
print(json.dumps({"seconds": time.perf_counter() - began, "peak_bytes": peak, **size}))
"""


def build(atlas: Path, site: Path) -> dict[str, float]:
    """Seconds, peak memory, files and bytes of one build."""
    done = subprocess.run([sys.executable, "-c", BUILD, atlas, site], capture_output=True, text=True, check=True)
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return {name: round(value, 2) for name, value in told.items()}


def models(neurons: int, side: int, names: tuple[str, ...]) -> tuple[Drawn, ...]:
    """Models of four layers each, which together have so many neurons."""
    stages = tuple(stage for stage in ALL_STAGES if stage not in FURTHER)
    widths = (neurons // len(names) // 4,) * 4
    return tuple(
        Drawn(name, widths, side=side, grain=GRAIN, stages=stages, probe_set=PROBE_SET, heads=(6, 6, 6, 6))
        for name in names
    )


def cold(page: Page, url: str, seen: str, line: tuple[float, int]) -> dict[str, float]:
    """Bytes, requests and seconds of a page that a browser with an empty cache opens."""
    driver = page.driver
    driver.get("about:blank")
    driver.execute_cdp_cmd("Network.enable", {})
    driver.execute_cdp_cmd("Network.clearBrowserCache", {})
    origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
    driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": origin, "storageTypes": "all"})  # and what is kept
    rate, delay = line
    driver.execute_cdp_cmd(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": delay, "downloadThroughput": rate, "uploadThroughput": rate},
    )
    driver.get_log("performance")
    began = time.perf_counter()
    driver.get(url)
    page.wait(_drawn(page, seen), what=f"for {seen}")
    shown = time.perf_counter() - began
    page.settle()
    page.settle()
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    finished = [event["params"] for event in events if event["method"] == "Network.loadingFinished"]
    return {
        "bytes": sum(one["encodedDataLength"] for one in finished),
        "requests": len(finished),
        "seconds_to_picture": round(shown, 2),
    }


def _drawn(page: Page, seen: str) -> Callable[[], bool]:
    """Whether the picture is there: an image that is complete, or a tile whose sheet has come."""
    script = """
      const one = document.querySelector(arguments[0]);
      if (!one) return false;
      if (one.tagName === "IMG") return one.complete && one.naturalWidth > 0;
      const sheet = /url\\("(.*)"\\)/.exec(getComputedStyle(one).backgroundImage)?.[1];
      const told = performance.getEntriesByName(sheet);
      return told.length > 0 && told[0].responseEnd > 0;"""
    return lambda: bool(page.run(script, seen))


def pages(site: Path, repeats: int) -> dict[str, Any]:
    """Of each page and line the median of several visits."""
    found: dict[str, Any] = {}
    page = Page()
    try:
        with running(make_server(site, 0)) as address:
            page.size(1280)
            for name, (where, seen) in PAGES.items():
                for line, settings in LINES.items():
                    visits = [cold(page, f"{address}/#/{where}", seen, settings) for _ in range(repeats)]
                    found.setdefault(name, {})[line] = {
                        figure: statistics.median(visit[figure] for visit in visits) for figure in visits[0]
                    }
    finally:
        page.close()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--neurons", type=int, default=37_000)
    parser.add_argument("--side", type=int, default=224, help="of a picture, pixels")
    parser.add_argument("--repeats", type=int, default=3, help="visits of each page")
    parser.add_argument("--out", help="file for the report")
    options = parser.parse_args()
    if missing():
        sys.exit(missing())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        atlas, site = folder / "atlas", folder / "site"
        both = models(options.neurons, options.side, ("large-one", "large-two"))
        draw_atlas(atlas, both)
        report: dict[str, Any] = {"command": public(sys.argv), "machine": description(), "neurons": options.neurons}
        report["builds"] = {"first": build(atlas, site), "nothing changed": build(atlas, site)}
        bundled = sum(path.stat().st_size for path in site.glob("d/**/*.pictures"))
        report["bytes of a picture"] = round(bundled / options.neurons)
        report["pages"] = pages(site, options.repeats)
        (third,) = models(options.neurons // 2, options.side, ("third",))
        write_model(Store(str(atlas)), third, {third.slug: third.widths})
        report["builds"]["one more model"] = build(atlas, site)
    put(report, options.out)


if __name__ == "__main__":
    main()
