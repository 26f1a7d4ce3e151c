"""What was opened stays readable without a connection, and a site that was built anew is never missed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from browser import Page, PlainHandler, missing

from site_builder.build import build_site

pytestmark = [pytest.mark.browser, pytest.mark.skipif(bool(missing()), reason=missing())]
SLUG = "drawn-vit"


class Breaking(PlainHandler):
    """Ends an answer in its middle where the file's name says so, as a line does that breaks."""

    def do_GET(self) -> None:
        if "broken" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"a few bytes")
        else:
            super().do_GET()


class Host:
    """A server of a site that can be switched off and on at the same address."""

    def __init__(self, site: Path) -> None:
        self.site, self.port = site, 0
        self.on()

    def on(self) -> None:
        handler = type("Handler", (Breaking,), {"asked": [], "extra": {}})  # one request a connection: off is off
        self.server = ThreadingHTTPServer(("127.0.0.1", self.port), partial(handler, directory=str(self.site)))
        self.port = self.server.server_address[1]
        Thread(target=self.server.serve_forever, daemon=True).start()

    def off(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def at(self, route: str) -> str:
        return f"http://127.0.0.1:{self.port}/{route}"


@pytest.fixture
def host(evident_atlas: Path, tmp_path: Path) -> Iterator[tuple[Host, Path]]:
    atlas = tmp_path / "atlas"
    shutil.copytree(evident_atlas, atlas)
    build_site(atlas, tmp_path / "site")
    host = Host(tmp_path / "site")
    yield host, atlas
    host.off()


def test_what_was_opened_is_there_without_a_connection(host: tuple[Host, Path]) -> None:
    server, atlas = host
    page = Page()
    try:
        page.open(server.at(f"#/n/{SLUG}/1/3"), ".neuron .picture img")
        page.wait(lambda: kept(page), what="for the worker to keep what was loaded")
        page.open(server.at("#/help"))
        page.wait(lambda: "files at present" in page.run("return document.body.innerText"))
        server.off()
        page.open(server.at(f"#/n/{SLUG}/1/3"), ".neuron .picture img")
        page.wait(lambda: page.run("return document.querySelector('.neuron .picture img').naturalWidth") > 0)
        page.open(server.at("#/m/drawn-pit/0"), ".failure")
        assert "could not be reached" in page.text(".failure")
        server.on()
        build_site(atlas, server.site, title="Built anew")
        page.open(server.at("#/help"))
        assert page.run("return document.title").endswith("Built anew"), "with a connection the newest site is shown"
        next(one for one in page.all("main button") if one.text == "Forget them").click()
        page.wait(lambda: "0 files at present" in page.run("return document.body.innerText"))
    finally:
        page.close()


def test_an_answer_that_breaks_off_costs_nothing_that_is_kept(host: tuple[Host, Path]) -> None:
    """Only a browser that allows no more bytes makes the oldest go."""
    count = """
      const done = arguments[0];
      caches.open("neuron-atlas-1").then((cache) => cache.keys()).then((keys) => done(keys.length));"""
    page = Page()
    try:
        page.open(host[0].at(f"#/n/{SLUG}/1/3"), ".neuron .picture img")
        page.wait(lambda: kept(page), what="for the worker to keep what was loaded")
        page.settle()
        before = page.driver.execute_async_script(count)
        assert before > 4
        asked = """
          const done = arguments[0];
          const text = fetch("data/broken-0123456789ab.json").then((answer) => answer.text());
          text.then(() => done("whole"), () => done("broken"));"""
        assert page.driver.execute_async_script(asked) == "broken"
        page.run("return new Promise((done) => setTimeout(done, 1500))")
        assert page.driver.execute_async_script(count) >= before
    finally:
        page.close()


def kept(page: Page) -> bool:
    """Whether the browser keeps the page itself and the app."""
    script = """
      const done = arguments[0];
      (async () => {
        const cache = await caches.open("neuron-atlas-1");
        const names = (await cache.keys()).map(({ url }) => new URL(url).pathname);
        const app = names.some((name) => name.endsWith("/main.js"));
        done(names.includes("/") && app && navigator.serviceWorker.controller !== null);
      })().catch(() => done(false));"""
    return bool(page.driver.execute_async_script(script))
