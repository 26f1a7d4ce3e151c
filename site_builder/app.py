"""The app itself: scripts and style in a folder named by their content, and the one HTML page."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jinja2 import Environment, PackageLoader, select_autoescape

from site_builder import bundling
from site_builder.folders import replace, write_by_content
from site_builder.section import Size

STATIC = Path(__file__).parent / "static"
#: What a module needs before it runs, and scripts of pages that come with the site (static/pages/index.js).
_IMPORT = re.compile(rb'^import [^"]* from "(\.[^"]+)";|\bsoon: "([^"]+)"', re.MULTILINE)
#: Beside index.html, as a service worker has the folder it lies in and no other: keeps what a reader has opened.
WORKER = Path(__file__).parent / "templates" / "worker.js"
_SHELL = Environment(
    loader=PackageLoader("site_builder"), autoescape=select_autoescape(), trim_blocks=True, lstrip_blocks=True
)
_SHELL.policies["json.dumps_kwargs"] = {"sort_keys": False}  # columns keep the schema's order


def app_files() -> dict[str, bytes]:
    """What browsers get, by its place in the app: scripts and style joined into few files, if these were made of what
    lies below static/ now; else every module.
    """
    own = [path for path in sorted(STATIC.rglob("*")) if path.is_file() and not path.name.endswith(".d.ts")]
    joined = bundling.bundled(STATIC)
    if joined is not None:
        own = [path for path in own if path.suffix not in (".js", ".css")]
    return {path.relative_to(STATIC).as_posix(): path.read_bytes() for path in own} | (joined or {})


def size() -> Size:
    """Of all its files."""
    files = [*app_files().values(), WORKER.read_bytes()]
    return Size(len(files), sum(map(len, files)))


def write(folder: Path, manifest: Mapping[str, Any], dataset_url: str | None, *, runs_models: bool = False) -> set[str]:
    """Write the app, its service worker, a page for missing files and, last, index.html with the manifest. Returns what
    the page names.

    runs_models: the page may compile WebAssembly, and start a worker that obeys the same policy.
    """
    files = app_files()
    home = write_by_content(folder, "app", files)
    (folder / ".nojekyll").touch()  # GitHub Pages would otherwise leave out what begins with a dot or underscore
    modules = (
        sorted(_imported("main.js", files) - {"main.js"}) if "data.js" in files else []
    )  # not where they are joined
    page = _SHELL.get_template("shell.html").render(
        app=home,
        modules=modules,
        manifest=manifest,
        connect=connect_sources(dataset_url),
        runs_models=runs_models,
    )
    missing = _SHELL.get_template("404.html").render(title=manifest["title"])
    replace(folder / "404.html", missing.encode())
    if not (folder / WORKER.name).is_file() or (folder / WORKER.name).read_bytes() != WORKER.read_bytes():
        replace(folder / WORKER.name, WORKER.read_bytes())
    replace(folder / "index.html", page.encode())
    return {home}


def _imported(name: str, files: Mapping[str, bytes]) -> set[str]:
    """The module and all that it imports, however deep, as long as it does not wait for a page to be opened."""
    found, waiting = set(), [name]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            own = [(first or second).decode() for first, second in _IMPORT.findall(files[module])]
            waiting += [posixpath.normpath(posixpath.join(posixpath.dirname(module), other)) for other in own]
    return found


def browser_url(dataset_url: str | None) -> str:
    """Address of the dataset's files for a browser; the Hub's hf:// form becomes its https:// form."""
    if dataset_url is None:
        return ""
    if dataset_url.startswith("hf://datasets/"):
        name, _, revision = dataset_url.removeprefix("hf://datasets/").rstrip("/").partition("@")
        return f"https://huggingface.co/datasets/{name}/resolve/{revision or 'main'}"
    return dataset_url.rstrip("/")


def connect_sources(dataset_url: str | None) -> str:
    """Content-Security-Policy sources of data: this site alone, and the dataset where it is read from."""
    parts = urlsplit(browser_url(dataset_url))
    if not parts.netloc:
        return "'self'"
    sources = ["'self'", f"{parts.scheme}://{parts.netloc}"]
    if parts.netloc == "huggingface.co":  # its files are answered by a redirect to these
        sources += ["https://*.huggingface.co", "https://*.hf.co"]
    return " ".join(sources)


def space_card(title: str) -> str:
    """README.md that makes a Hugging Face repository a static Space."""
    quoted = title.replace('"', "'")
    return f'---\ntitle: "{quoted}"\nsdk: static\napp_file: index.html\npinned: false\n---\n'
