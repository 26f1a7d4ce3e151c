"""The scripts and the style of the site joined into few small files: `make bundle`.

    python -m site_builder.bundling

What people read and change are the modules below static/. What a site gets are the files below bundled/, made from them
by rollup and esbuild and kept in the repository, so that nobody who builds a site needs node. The digest of the modules
stands beside them: where a module has changed since, a site gets the modules themselves, and a test fails.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STATIC, BUNDLED = HERE / "static", HERE / "bundled"
CONFIG = HERE / "rollup.config.mjs"
DIGEST = "sources.sha256"
TOOLS = ("rollup@4.68.8", "esbuild@0.28.2")
_PAGE = re.compile(r'\b(soon|late): "([^"]+)\.js"')


def sources(static: Path = STATIC) -> list[Path]:
    """The files that a bundle is made of."""
    return [
        path for path in sorted(static.rglob("*")) if path.suffix in (".js", ".css") and not path.name.endswith(".d.ts")
    ]


def digest(static: Path = STATIC) -> str:
    """64 hex digits that stand for the sources and for how they are joined."""
    found = hashlib.sha256(" ".join(TOOLS).encode() + CONFIG.read_bytes())
    for path in sources(static):
        content = path.read_bytes()
        found.update(f"{path.relative_to(static).as_posix()} {len(content)} ".encode() + content)
    return found.hexdigest()


def bundled(static: Path = STATIC) -> dict[str, bytes] | None:
    """The files of the bundle by name; None where it was not made of these sources."""
    told = BUNDLED / DIGEST
    if not told.exists() or told.read_text().strip() != digest(static):
        return None
    return {path.name: path.read_bytes() for path in sorted(BUNDLED.iterdir()) if path.suffix in (".js", ".css")}


def make(folder: Path = BUNDLED) -> None:
    """Join and minify the sources into `folder`. Raises CalledProcessError where the tools fail; they say why."""
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "site"
        shutil.copytree(STATIC, copy)
        shutil.copy(CONFIG, copy)
        _know_the_pages(copy / "pages")
        (copy / "package.json").write_text('{"type": "module", "private": true}')
        _run("npm", "install", "--silent", "--no-audit", "--no-fund", "--no-package-lock", *TOOLS, at=copy)
        _run("npx", "rollup", "--silent", "--config", CONFIG.name, at=copy)
        alone = [*(path.name for path in sorted(copy.glob("*.css"))), "theme.js"]  # each by itself
        _run("npx", "esbuild", *alone, "--minify", "--outdir=bundled", "--log-level=warning", at=copy)
        folder.mkdir(exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        for made in (copy / "bundled").iterdir():
            shutil.copy(made, folder)
    (folder / DIGEST).write_text(digest() + "\n")


def _know_the_pages(pages: Path) -> None:
    """Put scripts in place of load.js that name all pages, as a bundle can fetch none by its name alone."""
    named: dict[str, set[str]] = {"soon": set(), "late": set()}
    for kind, name in _PAGE.findall((pages / "index.js").read_text()):
        named[kind].add(name)
    tables = {}
    for kind, names in named.items():
        lines = [f'import * as {name} from "./{name}.js";' for name in sorted(names)]
        table = ", ".join(f'"{name}.js": {name}' for name in sorted(names))
        tables[kind] = ("\n".join(lines), table)
    imports, table = tables["late"]
    (pages / "late.js").write_text(f"{imports}\nexport const LATE = {{ {table} }};\n")
    imports, table = tables["soon"]
    fetched = 'SOON[script] ?? (await import("./late.js")).LATE[script]'
    (pages / "load.js").write_text(
        f"{imports}\nconst SOON = {{ {table} }};\nexport const load = async (script) => {fetched};\n"
    )


def _run(*command: str, at: Path) -> None:
    try:
        subprocess.run(command, cwd=at, check=True, stdout=sys.stderr)
    except FileNotFoundError:
        raise SystemExit(f"{command[0]} is missing: install node, then run `make bundle` again.") from None


if __name__ == "__main__":
    make()
