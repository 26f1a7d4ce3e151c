"""The command `zoo train`: the small models that ship with the project, trained from scratch."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

TOLD_EVERY = 100  # steps


def train(
    *names: Annotated[str, Parameter(help="vit, deit, swin, coat, convit, pit, twins, clip (default: all).")],
    out: Annotated[Path, Parameter(help="Folder for NAME.safetensors.")] = Path("zoo-weights"),
    steps: Annotated[int | None, Parameter(help="Training steps (default: the recipe's).")] = None,
    scenes: Annotated[int | None, Parameter(help="Distinct scenes to train on (default: no scene twice).")] = None,
    seed: Annotated[int, Parameter(help="Seed of weights, images and order.")] = 0,
    threads: Annotated[int | None, Parameter(help="CPU threads (default: all cores).")] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print the reports as JSON.", negative="")] = False,
) -> int:
    """Train zoo models from scratch on the procedural images: minutes a model on a CPU."""
    import torch

    from jobs.machine import cores
    from pipeline.zoo import ZOO, weights_path
    from pipeline.zoo.train import train as train_one

    for name in names:
        weights_path(name)  # an unknown name is told before the first training
    torch.set_num_threads(threads or cores())
    reports = [
        train_one(name, steps=steps, scenes=scenes, seed=seed, out=out, on_progress=_teller(name))
        for name in names or ZOO
    ]
    if as_json:
        print(json.dumps([asdict(report) for report in reports], indent=1, default=str))
    else:
        for report in reports:
            figures = ", ".join(f"{attribute} {value:.3f}" for attribute, value in report.accuracies.items())
            print(f"{report.path}: held-out accuracy {figures}; {report.seconds:.0f} s")
    return 0


def _teller(name: str) -> Callable[[int, int, float], None]:
    def tell(step: int, steps: int, loss: float) -> None:
        if sys.stderr.isatty():
            print(
                f"\rzoo/{name} step {step} of {steps}, loss {loss:.3f}",
                end="\n" if step == steps else "",
                file=sys.stderr,
                flush=True,
            )
        elif step % TOLD_EVERY == 0 or step == steps:
            print(f"zoo/{name} step {step} of {steps}, loss {loss:.3f}", file=sys.stderr, flush=True)

    return tell
