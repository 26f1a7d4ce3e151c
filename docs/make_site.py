"""The documentation as a site, a folder a version: `python -m docs.make_site --out build/docs`.

The pages are README.md, docs/ and what these link to, laid out so that their links hold on the site: files of code
that a page names lie beside it as they are. Zensical makes the site from mkdocs.yml, strictly: a link or a heading that
is not there fails. Versions that lie in the folder already stay; versions.json and the page that leads to the newest
are written anew.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
HOME = "README.md"
SHOWN = (".md", ".png", ".webp", ".json", ".svg")  # of docs/; this file is none of the site's
_FENCE = re.compile(r"^(```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")


def place_of(path: str) -> str:
    """Where a file of the repository lies on the site: docs/ is its root, README.md its home page."""
    return "index.md" if path == HOME else path.removeprefix("docs/")


def links_of(path: str, text: str) -> Iterator[str]:
    """Files of the repository that a page links to, by their path in it."""
    for part in _FENCE.split(text)[::2]:
        for _, target, _ in _LINK.findall(part):
            if "://" not in target:
                yield posixpath.normpath(posixpath.join(posixpath.dirname(path), target))


def pages() -> dict[str, str]:
    """All that the site is made of, with its place: pages of the first folder, docs/, and whatever these link to."""
    found = [path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*") if path.suffix in SHOWN]
    waiting, taken = [*(path.name for path in ROOT.glob("*.md")), *found], dict[str, str]()
    while waiting:
        path = waiting.pop()
        if path in taken or not (ROOT / path).exists():  # what is not there is told by the strict build
            continue
        taken[path] = place_of(path)
        if (ROOT / path).is_dir():
            del taken[path]
            waiting.append(f"{path}/README.md")
        elif path.endswith(".md"):
            waiting += links_of(path, (ROOT / path).read_text(encoding="utf-8"))
    return taken


def rewritten(path: str, text: str) -> str:
    """A page with its links as they are on the site; what stands in code blocks is left alone."""
    here = posixpath.dirname(place_of(path)) or "."

    def moved(link: re.Match[str]) -> str:
        before, target, after = link.groups()
        if "://" in target:
            return link[0]
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(path), target))
        if (ROOT / goal).is_dir():
            goal = f"{goal}/README.md"
        return before + posixpath.relpath(place_of(goal), here) + after

    parts = _FENCE.split(text)
    return "".join(part if at % 2 else _LINK.sub(moved, part) for at, part in enumerate(parts))


def lay_out(folder: Path) -> None:
    """Write the pages, and what they name, into an empty folder."""
    for path, place in pages().items():
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".md"):
            target.write_text(rewritten(path, (ROOT / path).read_text(encoding="utf-8")), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / path, target)


def config_of(docs: str, site: str) -> Mapping[str, Any]:
    """mkdocs.yml with the folders of a build."""
    return yaml.safe_load((ROOT / "mkdocs.yml").read_text()) | {"docs_dir": docs, "site_dir": site}


def project_version() -> str:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


def versions_in(folder: Path) -> list[str]:
    """Versions whose pages lie in a folder, the newest first."""
    found = [path.name for path in folder.iterdir() if path.is_dir() and _VERSION.fullmatch(path.name)]
    return sorted(found, key=lambda name: [int(one) for one in re.findall(r"\d+", name)], reverse=True)


def build(out: Path, version: str) -> None:
    """Build a version into its folder of `out`. Raises CalledProcessError where the strict build fails."""
    work = out / ".work"
    shutil.rmtree(work, ignore_errors=True)
    lay_out(work / "pages")
    config = work / "mkdocs.yml"
    config.write_text(yaml.safe_dump(dict(config_of("pages", "site")), sort_keys=False))
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(config)], check=True)
    shutil.rmtree(out / version, ignore_errors=True)
    os.rename(work / "site", out / version)
    shutil.rmtree(work)
    versions = versions_in(out)
    told = [{"version": one, "title": one, "aliases": ["latest"] if at == 0 else []} for at, one in enumerate(versions)]
    (out / "versions.json").write_text(json.dumps(told))
    (out / "index.html").write_text(_NEWEST.format(newest=versions[0]))


_NEWEST = """<!doctype html><meta charset="utf-8"><title>Neuron atlas</title>
<meta http-equiv="refresh" content="0; url={newest}/"><a href="{newest}/">The newest version</a>
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("--out", type=Path, default=Path("build/docs"), help="folder of all versions")
    parser.add_argument("--version", default=project_version(), help="name of this version's folder")
    options = parser.parse_args()
    if not _VERSION.fullmatch(options.version):
        parser.error(f"--version {options.version}: expected numbers with dots, as 1.2.0")
    try:
        build(options.out.resolve(), options.version)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # Zensical has said what is wrong, and where
    print(f"{options.out / options.version}: look at it with `python -m http.server -d {options.out}`")


if __name__ == "__main__":
    main()
