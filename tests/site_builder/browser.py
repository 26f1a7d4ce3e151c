"""A headless Chromium that looks at a built site: sizes, themes, console, requests, pixels."""

from __future__ import annotations

import base64
import io
import json
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"


def missing() -> str:
    """What is not installed, or an empty text."""
    absent = [path for path in (CHROMIUM, DRIVER) if shutil.which(path) is None]
    return f"{' and '.join(absent)} missing: apt-get install chromium chromium-driver" if absent else ""


class PlainHandler(SimpleHTTPRequestHandler):
    """The standard library's file server as it is: no Range. It keeps a list of what was asked."""

    asked: list[str]
    extra: dict[str, str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def end_headers(self) -> None:
        for name, value in self.extra.items():
            self.send_header(name, value)
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


@contextmanager
def plain_server(root: Path, **extra: str) -> Iterator[tuple[str, list[str]]]:
    """Serve `root` by the plain handler (with extra headers); its address and the paths asked so far."""
    asked: list[str] = []
    handler = type("Handler", (PlainHandler,), {"asked": asked, "extra": extra})
    with running(ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(root)))) as address:
        yield address, asked


@contextmanager
def running(server: ThreadingHTTPServer) -> Iterator[str]:
    """Run a server in a thread; its address."""
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Page:
    """One tab, with what tests and screenshots ask of it."""

    def __init__(self) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in (
            "--headless=new",
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--disable-gpu",
        ):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))

    def close(self) -> None:
        self.driver.quit()

    def size(self, width: int, height: int = 900, *, phone: bool = False) -> None:
        """CSS pixels of the window; a phone has touch and 2 device pixels a CSS pixel."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 2 if phone else 1, "mobile": phone}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": phone})

    def scheme(self, scheme: str, forced: bool = False) -> None:
        """Light or dark; forced: with the colours that a reader forces on every page (Windows' high contrast)."""
        features = [
            {"name": "prefers-color-scheme", "value": scheme},
            {"name": "forced-colors", "value": "active" if forced else "none"},
        ]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def open(self, url: str, ready: str = "h1") -> None:
        """Load `url` anew (also where only its hash differs) and wait for `ready`, a CSS selector."""
        self.driver.get("about:blank")
        self.driver.get(url)
        self.wait(lambda: self.all(ready))

    def leave(self) -> None:
        """Away from the page before its server goes: two seconds after it was opened it asks for what keeps it."""
        self.driver.get("about:blank")

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        return self.wait(lambda: self.all(selector))[0].text

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, condition: Callable[[], Any], seconds: float = 30, what: str = "") -> Any:
        """The first true value of `condition`; AssertionError after `seconds`."""
        until = time.monotonic() + seconds
        while True:
            try:
                value = condition()
            except Exception as error:  # an element that was redrawn while it was asked
                value, problem = None, error
            else:
                problem = None
            if value:
                return value
            if time.monotonic() > until:
                shown = self.run("return document.body.innerText")[:500]
                raise AssertionError(
                    f"waited {seconds} s {what or 'in vain'}; {problem or ''} page shows: {shown}; "
                    f"not answered: {self.unanswered()}"
                )
            time.sleep(0.03)

    def settle(self) -> None:
        """Wait until no picture and no request is under way."""
        script = """
          const done = arguments[0];
          const asked = () => performance.getEntriesByType("resource").length;
          let last = asked(), still = 0;
          const tick = () => {
            const loading = [...document.images].some((image) => !image.complete);
            still = asked() === last && !loading ? still + 1 : 0;
            last = asked();
            still > 4 ? done() : setTimeout(tick, 50);
          };
          tick();"""
        self.driver.execute_async_script(script)

    def choose(self, selector: str, value: str) -> None:
        """Choose the option with this value of a select element."""
        script = """
          const [element, value] = arguments;
          element.value = value;
          element.dispatchEvent(new Event("change", { bubbles: true }));"""
        self.run(script, self.all(selector)[0], value)

    def through(self) -> None:
        """Scroll down the page, so that all of it loads, and back to its top."""
        height = self.run("return document.documentElement.scrollHeight")
        for place in range(0, height, 1200):
            self.run("scrollTo(0, arguments[0])", place)
            self.settle()
        self.run("scrollTo(0, 0)")
        self.settle()

    def unfold(self, ready: str = "details.fold") -> None:
        """Open all that is folded, once `ready` is there."""
        self.wait(lambda: self.all(ready))
        self.run("document.querySelectorAll('details.fold').forEach((one) => (one.open = true))")

    @contextmanager
    def holding(self, *patterns: str) -> Iterator[None]:
        """Requests for such addresses (* stands for anything) wait until the end, as on a slow line: also those that
        the browser or the site's own worker has an answer to.
        """
        tell = self.driver.execute_cdp_cmd
        tell("Network.enable", {})
        tell("Network.setBypassServiceWorker", {"bypass": True})
        tell("Network.setCacheDisabled", {"cacheDisabled": True})
        tell("Fetch.enable", {"patterns": [{"urlPattern": pattern} for pattern in patterns]})
        try:
            yield
        finally:
            tell("Fetch.disable", {})  # what was held goes on
            tell("Network.setBypassServiceWorker", {"bypass": False})
            tell("Network.setCacheDisabled", {"cacheDisabled": False})

    def key(self, key: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(key).perform()

    def pixels(self, selector: str = "", at: int = 0) -> np.ndarray:
        """uint8 (height, width, 3) of the window, or of the `at`-th element that matches."""
        png = self.all(selector)[at].screenshot_as_png if selector else self.driver.get_screenshot_as_png()
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def whole(self) -> Image.Image:
        """The whole page, however long, in one picture."""
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        shot = self.driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        return Image.open(io.BytesIO(base64.b64decode(shot["data"])))

    def console(self) -> list[str]:
        """Everything the console said since the last call, warnings included."""
        return [f"{entry['level']}: {entry['message']}" for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses asked for by the page since the last call."""
        return [event["params"]["request"]["url"] for event in self._events("Network.requestWillBeSent")]

    def unanswered(self) -> list[str]:
        """Those of them that nobody has answered yet."""
        ended = ("Network.loadingFinished", "Network.loadingFailed")
        asked: dict[str, str] = {}
        for event in self._events("Network.requestWillBeSent", *ended):
            if event["method"] in ended:
                asked.pop(event["params"]["requestId"], None)
            else:
                asked[event["params"]["requestId"]] = event["params"]["request"]["url"]
        return list(asked.values())

    def _events(self, *methods: str) -> list[Any]:
        """What the browser has told of these since it was last asked."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        return [event for event in events if event["method"] in methods]


@dataclass(frozen=True)
class Seen:
    """The tab, and where the sites are."""

    page: Page
    address: str

    def open(self, where: str, ready: str = "h1", site: str = "small") -> Page:
        self.page.open(f"{self.address}/some/where/{site}/{where}", ready)
        return self.page

    @contextmanager
    def quiet(self) -> Iterator[None]:
        """A wide light page to begin with; afterwards nothing on the console, no request to another host."""
        self.page.size(1280)
        self.page.scheme("light")
        self.page.console(), self.page.requests()
        yield
        assert self.page.console() == []
        hosts = {urlsplit(url).netloc for url in self.page.requests() if url.startswith("http")}
        assert hosts <= {urlsplit(self.address).netloc}


def painted(pixels: np.ndarray) -> bool:
    """Whether something is drawn: many colours, not one surface."""
    return (
        bool(pixels.astype(float).reshape(-1, 3).std(0).max() > 8)
        and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
    )


@contextmanager
def hosting(root: Path, *, mapped: Collection[str] = (), **atlases: Path) -> Iterator[Seen]:
    """A server of the folder, and a tab to look at it. atlases: of which sites are built in it first, by name; those
    that are `mapped` with what a site has on request alone.

    The modules of which sites have the joined form lie below /modules/, for tests that ask one alone.
    """
    from site_builder.build import build_site
    from site_builder.bundling import STATIC
    from site_builder.sections import ON_REQUEST, SECTIONS

    shutil.copytree(STATIC, root / "modules")
    for name, atlas in atlases.items():
        sections = (*SECTIONS, *ON_REQUEST) if name in mapped else SECTIONS
        build_site(atlas, root / "some" / "where" / name, sections=sections)
    with plain_server(root) as (address, _):
        page = Page()
        try:
            yield Seen(page, address)
        finally:
            page.close()
