"""Addresses of pages: every one that was ever given out opens its page, and what is printed is read back."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Page, missing, plain_server

from site_builder import app
from site_builder.bundling import sources
from site_builder.sections import ON_REQUEST, SECTIONS

#: Address -> its page and parts, as they were before pages had a list. Links never change.
ADDRESSES: dict[str, dict[str, Any]] = {
    "#/": {"page": "home"},
    "#/m/drawn-vit": {"page": "model", "slug": "drawn-vit"},
    "#/m/drawn-vit?by=norm_share": {"page": "model", "slug": "drawn-vit", "query": {"by": "norm_share"}},
    "#/m/a--b/12": {"page": "layer", "slug": "a--b", "layer": 12},
    "#/m/a/1?sort=certainty&label=labelled&text=dog": {
        "page": "layer",
        "slug": "a",
        "layer": 1,
        "query": {"sort": "certainty", "label": "labelled", "text": "dog"},
    },
    "#/n/drawn-vit/3/41": {"page": "neuron", "slug": "drawn-vit", "layer": 3, "unit": 41},
    "#/h/drawn-vit": {"page": "heads", "slug": "drawn-vit"},
    "#/h/drawn-vit?by=feature%3Acolour": {"page": "heads", "slug": "drawn-vit", "query": {"by": "feature:colour"}},
    "#/h/drawn-vit/1/2": {"page": "head", "slug": "drawn-vit", "layer": 1, "head": 2},
    "#/i/drawn-vit": {"page": "inversions", "slug": "drawn-vit"},
    "#/i/drawn-vit/class/12?by=pii": {
        "page": "inversion",
        "slug": "drawn-vit",
        "kind": "class",
        "id": "12",
        "query": {"by": "pii"},
    },
    "#/i/drawn-vit/head/3.2/axis-0-high?by=fast": {
        "page": "headpicture",
        "slug": "drawn-vit",
        "place": "3.2",
        "direction": "axis-0-high",
        "query": {"by": "fast"},
    },
    "#/features": {"page": "features"},
    "#/f/colour": {"page": "feature", "feature": "colour"},
    "#/f/a%2Fb%20%C3%A9?kind=head&sort=ablation_margin": {
        "page": "feature",
        "feature": "a/b é",
        "query": {"kind": "head", "sort": "ablation_margin"},
    },
    "#/rosetta": {"page": "clusters"},
    "#/rosetta?page=3": {"page": "clusters", "query": {"page": "3"}},
    "#/r/7": {"page": "cluster", "number": 7},
    "#/s?q=two%20stripes": {"page": "search", "query": {"q": "two stripes"}},
    "#/s?q=a%2Fb%26c&m=drawn-vit": {"page": "search", "query": {"q": "a/b&c", "m": "drawn-vit"}},
    "#/image": {"page": "images"},
    "#/image/drawn-vit?layer=3": {"page": "image", "slug": "drawn-vit", "query": {"layer": "3"}},
    "#/p/5e7a11ce5e7a11ce": {"page": "probes", "set": "5e7a11ce5e7a11ce"},
    "#/p/5e7a11ce5e7a11ce?page=2": {"page": "probes", "set": "5e7a11ce5e7a11ce", "query": {"page": "2"}},
    "#/p/5e7a11ce5e7a11ce/7?m=drawn-vit&layer=1": {
        "page": "probe",
        "set": "5e7a11ce5e7a11ce",
        "number": 7,
        "query": {"m": "drawn-vit", "layer": "1"},
    },
    "#/map": {"page": "map"},
    "#/map?by=verdict&q=dog&at=0.5%2C0.25%2C4": {
        "page": "map",
        "query": {"by": "verdict", "q": "dog", "at": "0.5,0.25,4"},
    },
    "#/map/a-b": {"page": "modelmap", "slug": "a-b"},
    "#/cmp": {"page": "compare"},
    "#/cmp?u=a%2Fmlp%2F1%2F2%2Ca%2Fhead%2F0%2F3&title=mine": {
        "page": "compare",
        "query": {"u": "a/mlp/1/2,a/head/0/3", "title": "mine"},
    },
    "#/e/n/a/1/2": {"page": "embed", "slug": "a", "layer": 1, "unit": 2},
    "#/e/h/a/1/2": {"page": "embedhead", "slug": "a", "layer": 1, "head": 2},
    "#/help": {"page": "help"},
    "#/r": {"page": "random"},
}
#: What somebody types, or an old bookmark holds: read, but printed otherwise.
TYPED = {
    "": "home",
    "#": "home",
    "m/a/1/": "layer",
    "#/f/100%": "feature",
    "#/n/a/1/02": "neuron",
    "#/M/a": "unknown",
    "#/n/a/1": "unknown",
    "#/n/a/1/2/3": "unknown",
    "#/n/a/-1/2": "unknown",
    "#/f/a/b": "unknown",
    "#/r/x": "unknown",
}
READ = """
  const plain = ({ query, hash, ...route }) => ({ ...route, query: Object.fromEntries(query) });
  const parts = ({ query, page, ...route }) => Object.values(route);
  const read = addresses.map((address) => plain(parseHash(address)));
  const known = read.filter(({ page }) => page !== "unknown");
  const printed = known.map((route) => link[route.page](...parts(route), route.query));
  const forms = PAGES.flatMap(({ page, form }) => form === undefined ? [] : [{ page, form }]);
"""


@pytest.fixture(scope="module")
def told() -> Iterator[dict[str, Any]]:
    """What route.js reads and prints in a browser."""
    if missing():
        pytest.skip(missing())
    with plain_server(app.STATIC) as (address, _):
        page = Page()
        try:
            page.driver.get(f"{address}/icon.svg")
            script = f"""
              const [addresses, done] = arguments;
              const modules = [import("/route.js"), import("/pages/index.js")];
              Promise.all(modules).then(([{{ parseHash, link }}, {{ PAGES }}]) => {{
                {READ} done({{ read, printed, forms }});
              }})"""
            yield page.driver.execute_async_script(script, [*ADDRESSES, *TYPED])
        finally:
            page.close()


@pytest.mark.browser
def test_every_address_ever_given_out_opens_its_page_and_prints_the_same(told: dict[str, Any]) -> None:
    for address, found in zip(ADDRESSES, told["read"], strict=False):
        assert found == {"query": {}, **ADDRESSES[address]}, address
    assert told["printed"][: len(ADDRESSES)] == list(ADDRESSES)


@pytest.mark.browser
def test_typed_addresses_are_read_with_tolerance_and_what_is_none_is_unknown(told: dict[str, Any]) -> None:
    assert [found["page"] for found in told["read"][len(ADDRESSES) :]] == list(TYPED.values())


@pytest.mark.browser
def test_every_page_has_an_address_in_the_list_above(told: dict[str, Any]) -> None:
    assert {one["page"] for one in told["forms"]} == {route["page"] for route in ADDRESSES.values()}


@pytest.mark.browser
def test_a_section_is_entered_by_a_page(told: dict[str, Any]) -> None:
    forms = {re.sub(r":\w+", "", one["form"]) for one in told["forms"]}
    assert {section.entered for section in (*SECTIONS, *ON_REQUEST)} <= forms


@pytest.mark.browser
def test_every_link_of_a_script_leads_to_a_page(told: dict[str, Any]) -> None:
    pages = {one["page"] for one in told["forms"]}
    scripts = [path for path in sources() if path.suffix == ".js" and "vendor" not in path.parts]
    used = {(path.name, name) for path in scripts for name in re.findall(r"\blink\.(\w+)\(", path.read_text())}
    assert len({name for _, name in used}) > 8
    assert {one for one in used if one[1] not in pages} == set()


@pytest.mark.skipif(shutil.which("node") is None, reason="node missing")
def test_addresses_are_read_without_a_browser(tmp_path: Path) -> None:
    """Nothing that route.js needs asks for a document."""
    shutil.copytree(app.STATIC, tmp_path / "static")
    (tmp_path / "static" / "package.json").write_text('{"type": "module"}')
    script = f"""
      import {{ parseHash, link }} from "./route.js";
      import {{ PAGES }} from "./pages/index.js";
      const addresses = {json.dumps([*ADDRESSES])};
      {READ} console.log(JSON.stringify(printed));"""
    (tmp_path / "static" / "test.js").write_text(script)
    done = subprocess.run(["node", "test.js"], cwd=tmp_path / "static", capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == list(ADDRESSES)
