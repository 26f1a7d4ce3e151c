"""How far a run is: one live line a stage on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bars

from atlas_schema.units import Images, WorkUnit
from jobs.forecast import Forecast, seconds_left
from jobs.graph import Graph
from jobs.plan import Plan

PLAIN_SECONDS = 20.0  # between plain lines
DRAW_SECONDS = 0.25  # between two states of live ones: to draw costs more than to take in a commit
COUNTED = {
    "neurons": "neurons",
    "images": "images",
    "targets": "targets",
    "readings": "readings",
    "model": "models",
    "pair": "pairs",
}

TELLING = 0.005  # share of a run's work that is done before it tells how long the rest takes


@dataclass
class StageCount:
    """How far one stage is, over all models."""

    name: str
    counted: str  # what the numbers count: neurons, images, models or pairs
    total: int
    reused: int  # committed before this run
    done: int = 0  # by this run
    failed: int = 0

    @property
    def complete(self) -> bool:
        return self.reused + self.done >= self.total

    def __str__(self) -> str:
        text = f"{self.name} {min(self.reused + self.done, self.total):,} of {self.total:,} {self.counted}"
        return f"{text}, {self.failed:,} failed" if self.failed else text


class Progress:
    """Counts of all stages of a run, and how much of its work is done (`jobs.forecast`)."""

    def __init__(self, plan: Plan, graph: Graph, stream: IO[str] | None = None):
        self.stages: dict[str, StageCount] = {}
        self.forecast = Forecast(plan, graph)
        for job in plan.jobs:
            held = graph.jobs[job.stage.name, job.slug]
            gaps = (unit.size for layer in held.layers for unit in held.gaps(layer))
            missing = sum(gaps) if graph.needed(held) else 0
            wanted = sum(cut.stop - cut.start for layer in held.layers for cut in held.cuts(layer))
            count = self.stages.setdefault(job.stage.name, StageCount(job.stage.name, COUNTED[job.stage.cut], 0, 0))
            count.total += wanted
            count.reused += wanted - missing
        self.console = Console(file=stream or sys.stderr, highlight=False)
        self.began = self.told = time.monotonic()
        self.live: Bars | None = None
        self.workers = self.at_work = 0
        self.shards = 0  # assembled by this run
        self.working_since: float | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
            self.live = Bars(*columns, console=self.console, refresh_per_second=4)
            self.bars = {
                name: self.live.add_task(f"{name:10}", total=count.total, completed=count.reused, text="")
                for name, count in self.stages.items()
            }
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self._draw()
            self.live.stop()
        else:
            self.say(self.line())

    def say(self, text: str) -> None:
        """A line above the live ones, or a plain line."""
        self.console.print(text, markup=False, soft_wrap=True)

    def started(self, unit: WorkUnit) -> None:
        """A unit was handed to a worker."""
        self.forecast.began(unit, time.monotonic())

    def ended(self, unit: WorkUnit) -> None:
        """No worker is at a unit any more, though it is not done."""
        self.forecast.ended(unit)

    def committed(self, unit: WorkUnit, seconds: float) -> bool:
        """A unit was done, in so many seconds of a worker. Whether its size counts: a merge of slices counts no image
        again.
        """
        count = self.stages.get(unit.stage)
        new = count is not None and not (isinstance(unit.cut, Images) and count.complete)
        self.forecast.committed(unit, seconds, counts=new)
        if count and new:
            count.done += unit.size
        return new

    def assembled(self, shards: int) -> None:
        """Shards were written, or found as they would be."""
        self.shards += shards

    def gave_up(self, unit: WorkUnit) -> None:
        """A unit will not be done by this run."""
        if unit.stage in self.stages:
            self.stages[unit.stage].failed += unit.size
            self.forecast.gave_up(unit)

    def again(self, unit: WorkUnit) -> None:
        """A committed unit was found damaged."""
        if unit.stage in self.stages:
            self.stages[unit.stage].done -= unit.size
            self.forecast.again(unit)

    def tick(self, workers: int, at_work: int) -> None:
        """Show how it stands; `workers` have started, `at_work` of them are at a unit."""
        self.workers, self.at_work = workers, at_work
        if workers and self.working_since is None:
            self.working_since = time.monotonic()
        if self.live and time.monotonic() - self.told >= DRAW_SECONDS:
            self.told = time.monotonic()
            self._draw()
        elif not self.live and time.monotonic() - self.told >= PLAIN_SECONDS:
            self.told = time.monotonic()
            self.say(self.line())

    def _draw(self) -> None:
        assert self.live is not None
        for name, count in self.stages.items():
            text = f"{count.reused + count.done:,} of {count.total:,} {count.counted}"
            text += f", {count.failed:,} failed" if count.failed else ""
            self.live.update(self.bars[name], completed=count.reused + count.done, text=text)
        first = next(iter(self.bars.values()), None)
        if first is not None:
            self.live.update(first, text=f"{self.live.tasks[0].fields['text']}   {self._pace()}")

    def work(self) -> tuple[float, float]:
        """Seconds of a worker that were spent on units, and those that the rest will take, as far as was seen."""
        return self.forecast.work(time.monotonic())

    def outlook(self) -> tuple[float, float] | None:
        """The share of the work that is done, and the seconds until the rest is; None before enough was seen."""
        elapsed = time.monotonic() - (self.began if self.working_since is None else self.working_since)
        busy, left = self.work()
        if left and busy > TELLING * (busy + left) and elapsed:
            return busy / (busy + left), seconds_left(busy, left, elapsed)
        return None

    def _pace(self) -> str:
        """For example `37 % of the work, 2 units at work, 9 min left, 0 failed`."""
        parts = []
        if not self.workers and any(not count.complete for count in self.stages.values()):
            parts.append("waiting for workers")
        if self.at_work:
            parts.append(f"{self.at_work} unit{'s' * (self.at_work > 1)} at work")
        outlook = self.outlook()
        if outlook:
            parts.insert(0, f"{100 * outlook[0]:.0f} % of the work")
            parts.append(duration(outlook[1]) + " left")
        if self.shards:
            parts.append(f"{self.shards:,} shard{'s' * (self.shards > 1)} assembled")
        parts.append(f"{sum(count.failed for count in self.stages.values()):,} failed")
        return ", ".join(parts)

    def line(self) -> str:
        """For example `8 % of the work, 2 units at work, 9 min left, 0 failed; visualize 96 of 1,024 neurons; to come:
        label`.

        Stages that are complete, and those that have not begun, are named together at the end.
        """
        stages = list(self.stages.values())
        going = [count for count in stages if not count.complete and (count.reused or count.done or count.failed)]
        ended = [count.name for count in stages if count.complete]
        waiting = [count.name for count in stages if not count.complete and count not in going]
        if len(ended) == len(stages):
            going, ended = stages, []
        told = "; ".join([self._pace(), *map(str, going)])
        told += f"; complete: {', '.join(ended)}" if ended else ""
        return told + (f"; to come: {', '.join(waiting)}" if waiting else "")


def duration(seconds: float) -> str:
    """Seconds as people say them: `40 s`, `9 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
