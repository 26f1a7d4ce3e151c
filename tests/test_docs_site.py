"""The documentation as a site: every page has its place in the navigation, every link on the site leads somewhere."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

from docs import make_site

ROOT = Path(__file__).parents[1]


def named(entries: list[Any]) -> Iterator[str]:
    """Pages of a navigation, in reading order."""
    for entry in entries:
        for page in entry.values():
            if isinstance(page, str):
                yield page
            else:
                yield from named(page)


def test_every_page_has_one_place_in_the_navigation() -> None:
    listed = list(named(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert listed[0] == "index.md"
    assert sorted(listed) == sorted(place for place in make_site.pages().values() if place.endswith(".md"))


def test_links_are_those_of_the_site() -> None:
    text = (
        "[a](docs/running.md#before) [b](docs/benchmarks/) [c](jobs/cluster/rayjob.yaml) [d](https://x.y/z.md)\n"
        "```\n[e](docs/site.md)\n```\n"
    )
    assert make_site.rewritten("README.md", text) == (
        "[a](running.md#before) [b](benchmarks/README.md) [c](jobs/cluster/rayjob.yaml) [d](https://x.y/z.md)\n"
        "```\n[e](docs/site.md)\n```\n"
    )
    assert make_site.rewritten("docs/decisions/heads.md", "[a](../../README.md)") == "[a](../index.md)"
    assert {"index.md", "jobs/cluster/rayjob.yaml", "images/neurons.png"} <= set(make_site.pages().values())


class Links(HTMLParser):
    """What a page of the site names: addresses that one follows, and those that a browser fetches by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.followed: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        told = dict(attrs)
        if tag == "a":
            self.followed.append(told.get("href") or "")
        elif tag in ("script", "img", "link") and told.get("rel") not in ("canonical", "next", "prev"):
            self.fetched.append(told.get("src") or told.get("href") or "")


@pytest.mark.slow
def test_the_site_is_built_strictly_and_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_site.build(tmp_path, "0.9.0")
    make_site.build(tmp_path, "0.10.0")
    assert [one["version"] for one in json.loads((tmp_path / "versions.json").read_text())] == ["0.10.0", "0.9.0"]
    assert "0.10.0/" in (tmp_path / "index.html").read_text()

    site = tmp_path / "0.10.0"
    pages = list(site.rglob("*.html"))
    lacking = []
    for page in pages:
        links = Links()
        links.feed(page.read_text())
        assert not [one for one in links.fetched if urlsplit(one).netloc], "a request to somebody else"
        for target in [*links.fetched, *links.followed]:
            path = unquote(urlsplit(target).path)
            place = site / path.removeprefix("/") if path.startswith("/") else (page.parent / path).resolve()
            if path and not urlsplit(target).scheme and page.name != "404.html":
                place = place / "index.html" if place.is_dir() else place
                lacking += [] if place.is_file() else [f"{page.relative_to(site)}: {target}"]
    assert len(pages) > 40
    assert not lacking

    real = make_site.rewritten
    monkeypatch.setattr(make_site, "rewritten", lambda path, text: real(path, text) + "\n[gone](gone.md)\n")
    with pytest.raises(subprocess.CalledProcessError):
        make_site.build(tmp_path, "0.11.0")
    assert not (tmp_path / "0.11.0").exists()
    assert re.search(r"0\.10\.0", (tmp_path / "index.html").read_text()), "what stood stands"
