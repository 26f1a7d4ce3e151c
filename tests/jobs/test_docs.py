"""What the docs state of constants is what the code has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atlas_schema.columns import SCHEMA_VERSION
from jobs.cleaning import KINDS
from jobs.config import IDLE_SECONDS, ModelEntry, RunConfig
from jobs.driver import LOOK_SECONDS
from jobs.events import Policy
from jobs.graph import FAN_IN
from jobs.lock import WATCH_SECONDS
from jobs.machine import USABLE_SHARE
from jobs.memory import EASY_BATCH, MOST_BATCH, batches
from jobs.plan import SPEEDS
from jobs.ray_run import HEAD_SECONDS
from jobs.settings import Settings
from jobs.stages import groups
from pipeline.images.pixel_cache import MOST_BYTES

DOCS = Path(__file__).parents[2] / "docs"
WORDS = {8: "eight", 10: "ten", 16: "sixteen", 3: "three"}


def said(page: str) -> str:
    """A page's text with single blanks."""
    return " ".join((DOCS / page).read_text().split())


def default(option: str) -> str:
    return f"{RunConfig.model_fields[option].default:g}"


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("running.md", f"{SPEEDS['cpu'] / 1e9:g} GFLOP/s a CPU thread, {SPEEDS['cuda'] / 1e12:g} TFLOP/s a GPU"),
        ("running.md", f"gives those at work {default('drain_seconds')} seconds"),
        ("running.md", f"with `address` {IDLE_SECONDS:g}, else never"),
        ("running.md", f"noticed within {LOOK_SECONDS:g} seconds"),
        ("running.md", f"watched for {WATCH_SECONDS:g} s, then taken over"),
        ("running.md", f"a unit that takes down {WORDS[Policy().felled]} workers by itself is given up"),
        (
            "running.md",
            f"fit with a batch of {EASY_BATCH['cpu']} into {USABLE_SHARE:.0%} of the memory".replace("%", " %"),
        ),
        ("running.md", f"the largest of {', '.join(map(str, batches('cpu')))} that fits into the worker's share"),
        ("running.md", f"on a GPU of {MOST_BATCH['cuda']}, {MOST_BATCH['cuda'] // 2}, ..."),
        ("running.md", f"the run ends with a report after {HEAD_SECONDS:g} s"),
        ("reliability.md", f"a store that refuses for {WORDS[Policy().store_seconds / 60]} minutes without one commit"),
        (
            "reliability.md",
            f"{WORDS[Policy().lost_together]} or more within {Policy().one_event_seconds:g} seconds",
        ),
        ("running.md", f"at most {MOST_BYTES >> 30} GiB, and a quarter of the disk's free space"),
        ("running.md", f"| {', '.join(default(name) for name in ('examples', 'panel', 'match_images'))} |"),
        ("running.md", f"| aimed length of a work unit | {default('unit_seconds')} |"),
        ("running.md", f"| attempts after the first for a unit that fails | {default('retries')} |"),
        ("running.md", f"| a worker without a step for so long is replaced | {default('hang_seconds')} |"),
        ("architecture.md", f"{WORDS[FAN_IN]} neighbours are merged into one"),
        ("decisions/stages.md", f"The {WORDS[Settings().effect.measured_units]} are those of the layer"),
        ("../CHANGELOG.md", f"Dataset schema {SCHEMA_VERSION}"),
    ],
    ids=lambda value: value[:60],
)
def test_numbers_in_the_docs_are_those_of_the_code(page: str, words: str) -> None:
    assert words in said(page)


def test_every_option_and_every_group_of_stages_stands_in_the_docs() -> None:
    table = said("running.md")
    named = set(re.findall(r"`([a-z_]+)`", table.split("| option |")[1].split("## Exit codes")[0]))
    assert (set(RunConfig.model_fields) | set(ModelEntry.model_fields)) - {"model"} <= named
    assert set(groups()) <= named


def test_every_kind_of_file_that_clean_removes_stands_in_the_docs() -> None:
    table = said("running.md").split("## Making room")[1].split("## What happens when")[0]
    assert [kind for kind in KINDS if f"| `{kind}` |" not in table] == []


def test_the_changelog_names_no_work_to_come() -> None:
    assert "to come" not in said("../CHANGELOG.md")
