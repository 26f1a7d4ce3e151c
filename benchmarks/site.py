"""A site of a synthetic atlas: what building and rebuilding it takes, and what a reader waits for.

python -m benchmarks.site --models 1 --drawn FOLDER --out docs/benchmarks/site-37k.json

Models in the shape of ViT-B/16 (benchmarks/site_atlas.py), 36,864 neurons each, with pictures of as many pixels and
bytes as real ones. Each build runs in a process of its own, so that its peak memory is its own; then nothing changes,
then a model is added. All layers are made in one thread; of the CPU time and of the memory is said what each section
took.
Pages are opened in a headless Chromium with an empty cache, over its DevTools' model of a line: 1.6 Mbit/s with 150 ms,
and 9 Mbit/s with 40 ms. Bytes are those on the line, headers among them; the time to the picture ends when the large
picture (or, on other pages, the first of the wall) is drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmarks.machine import description, public, put
from benchmarks.site_atlas import BESIDE, Shape, draw_large
from site_builder.serve import make_server

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "site_builder"))

from browser import Page, missing, running
from drawn_evidence import PROBE_SET

#: Name -> bytes a second, delay in milliseconds.
LINES = {"1.6 Mbit/s, 150 ms": (1.6e6 / 8, 150), "9 Mbit/s, 40 ms": (9e6 / 8, 40)}
#: Page -> its address, and what is drawn when the reader sees its first picture.
PAGES = {
    "home": ("", ".wall-of-models .tile"),
    "layer": ("m/large-0/1", ".wall .tile"),
    "neuron": ("n/large-0/1/41", ".neuron .picture img"),
    "head": ("h/large-0/1/2", ".direction .example img"),
    "clusters": ("rosetta", ".clusters .neuron-tile img"),
    "cluster": ("r/0", ".members .example img"),
    "probe image": (f"p/{PROBE_SET}/7", ".probe img"),
}
BUILD = """
import json, re, sys, time
from site_builder.build import build_site
from site_builder.sections import SECTIONS
from dataclasses import replace

took, peaks = {}, {}

def most():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])  # of this program alone

def timed(name, does):
    def call(*given):
        peaks[""] = max(peaks.get("", 0), most())
        open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew
        began = time.process_time()
        try:
            return does(*given)
        finally:
            took[name] = round(took.get(name, 0) + time.process_time() - began, 2)
            peaks[name] = max(peaks.get(name, 0), most())
    return call

sections = [replace(one, survey=timed(one.name, one.survey), write=timed(one.name, one.write)) for one in SECTIONS]
began = time.perf_counter()
report = build_site(sys.argv[1], sys.argv[2], workers=1, sections=sections)
seconds = time.perf_counter() - began
peak = max(most(), *peaks.values())
size = {"files": report.files, "bytes": report.bytes}
cpu = round(time.process_time(), 2)
print(json.dumps({"seconds": round(seconds, 2), "cpu_seconds": cpu, "peak_bytes": peak, **size, "cpu by section": took,
    "peak by section": {name: value for name, value in peaks.items() if name}}))
"""


def build(atlas: Path, site: Path) -> dict[str, Any]:
    """Seconds, peak memory, files and bytes of one build."""
    done = subprocess.run([sys.executable, "-c", BUILD, atlas, site], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


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
    of_page = {
        event["params"]["requestId"]
        for event in events
        if event["method"] == "Network.requestWillBeSent" and event["params"]["request"]["url"].startswith("blob:")
    }  # what the page has in memory
    done = [event["params"] for event in events if event["method"] == "Network.loadingFinished"]
    finished = [one for one in done if one["requestId"] not in of_page]
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
    parser.add_argument("--models", type=int, default=1, help="large ones; two small ones stand beside")
    parser.add_argument("--layers", type=int, default=Shape.layers)
    parser.add_argument("--width", type=int, default=Shape.width)
    parser.add_argument("--images", type=int, default=Shape.images, help="of the probe set")
    parser.add_argument("--repeats", type=int, default=3, help="visits of each page")
    parser.add_argument("--drawn", help="keep the drawn atlas here, and take one that was drawn here before")
    parser.add_argument("--out", help="file for the report")
    options = parser.parse_args()
    if missing():
        sys.exit(missing())
    shape = Shape(layers=options.layers, width=options.width, images=options.images)
    with tempfile.TemporaryDirectory() as name:
        drawn, folder = Path(options.drawn or name), Path(name)
        draw_large(drawn, shape, options.models)
        atlas, site = folder / "merged", folder / "site"
        joined(drawn / "atlas", atlas)
        neurons = options.models * shape.layers * shape.width + 2 * shape.layers * min(BESIDE, shape.width)
        report: dict[str, Any] = {"command": public(sys.argv), "machine": description(), "neurons": neurons}
        report["builds"] = {"first": build(atlas, site), "nothing changed": build(atlas, site)}
        bundled = sum(path.stat().st_size for path in site.glob("d/**/*.pictures"))
        report["bytes of a picture"] = round(bundled / neurons)
        report["pages"] = pages(site, options.repeats)
        joined(drawn / "third", atlas)
        report["builds"]["one more model"] = build(atlas, site)
        report["builds"]["nothing changed, with it"] = build(atlas, site)
    put(report, options.out)


def joined(drawn: Path, atlas: Path) -> None:
    """Add what is drawn to an atlas, parts of its run left out."""
    shutil.copytree(drawn, atlas, ignore=shutil.ignore_patterns(".atlas"), copy_function=os.link, dirs_exist_ok=True)


if __name__ == "__main__":
    main()
