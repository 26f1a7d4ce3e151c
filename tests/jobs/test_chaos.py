"""Runs under drawn faults: no row is lost or doubled, and the atlas is that of an undisturbed run. See `chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.jobs.chaos import play, undisturbed

pytestmark = pytest.mark.timeout(900)


def test_whatever_fails_the_atlas_is_that_of_an_undisturbed_run(tmp_path: Path) -> None:
    """One seed; `make chaos` plays twenty."""
    clean = undisturbed(tmp_path / "clean" / "atlas")
    for seed in (7,):
        played = play(seed, tmp_path / str(seed) / "atlas", clean)
        assert played.sound, played
