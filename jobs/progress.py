"""How far a run is: one live line a stage on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from atlas_schema.parts import WorkUnit

PLAIN_SECONDS = 20.0  # between plain lines


class StageProgress:
    """Counts of one stage, in neurons; the time left follows estimated FLOPs, as deep neurons cost more."""

    def __init__(
        self, stage: str, total: int, reused: int, flops: dict[WorkUnit, float], stream: IO[str] | None = None
    ):
        self.stage, self.total, self.done, self.reused, self.failed = stage, total, reused, reused, 0
        self.flops, self.flops_all, self.flops_done = flops, sum(flops.values()), 0.0
        self.console = Console(file=stream or sys.stderr, highlight=False)
        self.began = self.told = time.monotonic()
        self.live: Progress | None = None
        self.workers = self.at_work = 0
        self.working_since: float | None = None
        self.others: Counter[str] = Counter()  # units done of further stages

    @property
    def name(self) -> str:
        """What the line is about: the stage, or everything else where it has nothing to do."""
        return self.stage if self.total else "measure"

    def __enter__(self) -> StageProgress:
        if self.console.is_terminal:
            self.live = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[text]}"),
                console=self.console,
                refresh_per_second=4,
            )
            self.bar = self.live.add_task(self.name, total=self.total, completed=self.done, text="starting")
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()
        else:
            self.say(f"{self.name}: {self.line()}")

    def say(self, text: str) -> None:
        """A line above the live one, or a plain line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def committed(self, unit: WorkUnit) -> None:
        if unit.stage != self.stage:
            self.others[unit.stage] += 1
            return
        self.done += unit.stop - unit.start
        self.flops_done += self.flops.get(unit, 0.0)

    def gave_up(self, unit: WorkUnit) -> None:
        if unit.stage != self.stage:
            return
        self.failed += unit.stop - unit.start
        self.flops_done += self.flops.get(unit, 0.0)

    def again(self, unit: WorkUnit) -> None:
        """A committed unit was found damaged."""
        if unit.stage != self.stage:
            self.others[unit.stage] -= 1
            return
        self.done -= unit.stop - unit.start
        self.flops_done -= self.flops.get(unit, 0.0)

    def tick(self, workers: int, at_work: int) -> None:
        """Show how it stands; `workers` have started, `at_work` of them are at a unit."""
        self.workers, self.at_work = workers, at_work
        if workers and self.working_since is None:
            self.working_since = time.monotonic()
        if self.live:
            self.live.update(self.bar, completed=self.done, text=self.line())
        elif time.monotonic() - self.told >= PLAIN_SECONDS:
            self.told = time.monotonic()
            self.say(f"{self.name}: {self.line()}")

    def line(self) -> str:
        """For example `96 of 1,024 neurons, 2 units at work, 1.6/s, 9 min left, 0 failed`."""
        elapsed = time.monotonic() - (self.began if self.working_since is None else self.working_since)
        new = self.done - self.reused
        parts = [f"{self.done:,} of {self.total:,} neurons"] if self.total else []
        if not self.workers and self.done + self.failed < self.total:
            parts.append("waiting for workers")
        if self.at_work:
            parts.append(f"{self.at_work} unit{'s' * (self.at_work > 1)} at work")
        if new and elapsed:
            parts.append(f"{new / elapsed:.3g}/s")
        if 0 < self.flops_done < self.flops_all:
            parts.append(duration(elapsed * (self.flops_all / self.flops_done - 1)) + " left")
        parts.append(f"{self.failed:,} failed")
        if self.others:
            parts.append("units of " + ", ".join(f"{stage} {count}" for stage, count in self.others.items()))
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `9 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
