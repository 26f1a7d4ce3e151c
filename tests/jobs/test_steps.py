"""Stages show progress: each batch of a long pass is a step, or a slow machine takes the worker for hung."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from jobs.stages.heads import pool
from jobs.stages.label import texts
from pipeline.label.embedder import TEXTS_AT_ONCE, load_embedder
from pipeline.models import ModelRequest


@pytest.mark.parametrize("stage", [pool, texts])
def test_texts_are_embedded_in_steps(stage: Any) -> None:
    embedder, steps = load_embedder(ModelRequest("zoo/clip")), []
    many = ("a red object",) * (2 * TEXTS_AT_ONCE + 1)  # three batches
    inputs = SimpleNamespace(
        concepts=SimpleNamespace(prompts=many), head_texts=SimpleNamespace(prompts=lambda: {"pool": many})
    )
    work: Any = SimpleNamespace(embedder=lambda: embedder, inputs=inputs, step=lambda: steps.append(1))
    (found,) = stage(work, None).values()
    assert len(found) == len(many)
    assert len(steps) == 3
