"""The demo: its site is there from the beginning, fills while the run is at work, and is whole at the end."""

from __future__ import annotations

import re
import socket
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from jobs.cli import call
from jobs.commands import demo
from jobs.config import load_config
from jobs.targets import heads_of_model
from pipeline.models import load
from pipeline.zoo import ZOO
from site_builder.build import build_site
from tests.jobs.tiny import EVIDENCE, OPTIONS


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Visitor(threading.Thread):
    """Opens the home page again and again; keeps each that is another than the one before."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self.address, self.pages, self.ended = f"http://127.0.0.1:{port}/", [""], threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.1):
            try:
                page = urllib.request.urlopen(self.address, timeout=5).read().decode()
            except OSError:  # not yet, or no more
                continue
            if page != self.pages[-1]:
                self.pages.append(page)


@pytest.mark.slow
def test_the_demo_shows_what_there_is_and_ends_with_the_whole_site(
    ray_here: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    few = {**OPTIONS, **EVIDENCE, "stages": "visualize,verdict,probe,label,effect"}
    monkeypatch.setattr(demo, "_flags", lambda atlas, workers: few | {"out": str(atlas)})
    visitor = Visitor(port := free_port())
    visitor.start()
    assert call(["demo", "--out", str(tmp_path / "demo"), "--port", str(port)]) == 0, "no terminal: it ends by itself"
    visitor.ended.set()
    visitor.join()
    said = capfd.readouterr()
    assert visitor.address in said.err.split("work units to do")[0], "before any work"
    assert "neuron-atlas site serve" in said.out

    assert "Nothing to see yet" in visitor.pages[1]
    growing = [page for page in visitor.pages if '"growing": true' in page]
    assert growing, "a site before the last"
    revisions = {found[1] for page in visitor.pages if (found := re.search(r'"revision": "(\w+)"', page))}
    assert len(revisions) > 1, "and it filled"
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(visitor.address, timeout=5)

    shown: list[str] = []

    def enter() -> str:
        shown.append(urllib.request.urlopen(visitor.address, timeout=5).read().decode())
        return ""

    monkeypatch.setattr("builtins.input", enter)
    assert call(["demo", "--out", str(tmp_path / "demo"), "--port", str(port), "--stay"]) == 0
    assert "manifest" in shown[0], "there was nothing to do: it is shown until Enter"
    assert "growing" not in shown[0]

    made = files(tmp_path / "demo" / "site")
    assert made.pop("revision.txt").endswith(b" whole\n")
    build_site(tmp_path / "demo" / "atlas", tmp_path / "alone")
    assert made == files(tmp_path / "alone"), "what one build makes of it"


def test_the_process_that_builds_ends_with_the_one_that_began_it(tmp_path: Path) -> None:
    """Though there is nothing to build: its input tells it."""
    began = time.monotonic()
    with demo._built_beside(tmp_path / "atlas", tmp_path / "site") as builder:
        builder.communicate(timeout=60)
        assert builder.returncode == 1, "no atlas: the demo builds again, and hears why"
    assert time.monotonic() - began < 60


def test_every_model_of_the_zoo_has_the_heads_that_the_demo_shows(tmp_path: Path) -> None:
    config = load_config(None, demo._flags(tmp_path / "atlas", None))
    assert [entry.model for entry in config.models] == [f"zoo/{name}" for name in ZOO]
    for entry in config.models:
        targets = heads_of_model(config, load(entry.request()), 3)
        assert {target.text.partition("/")[0] for target in targets} == set(demo.HEADS)
        assert len(targets) == 5 * len(demo.HEADS), "both ends of the first axis and three texts"


def test_a_folder_of_somebody_elses_is_refused_before_anything_is_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo" / "site").mkdir(parents=True)
    (tmp_path / "demo" / "site" / "thesis.tex").write_text("mine")
    assert call(["demo", "--out", str(tmp_path / "demo")]) == 2
    assert "holds no site of this project" in capsys.readouterr().err
    assert not (tmp_path / "demo" / "atlas").exists()
