"""What the pages name is there: files that they link to, modules that they say to run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_files_and_modules_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text) if "://" not in link]
    files = re.findall(r"`((?:pipeline|jobs|atlas_schema|site_builder|tests|benchmarks|docs)/[\w./-]+\.\w+)`", text)
    modules = re.findall(r"python -m ((?:benchmarks|jobs|pipeline|atlas_schema|tests)(?:\.\w+)*)", text)
    lacking = [link for link in links if not (page.parent / link).exists()]
    lacking += [file for file in files if not (ROOT / file).exists()]
    lacking += [
        module
        for module in modules
        if not ((ROOT / module.replace(".", "/")).is_dir() or (ROOT / f"{module.replace('.', '/')}.py").is_file())
    ]
    assert not lacking
