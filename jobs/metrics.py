"""What a run tells a monitor: counters and gauges of Ray, which Prometheus collects and Grafana draws.

The driver counts what it hears from the workers, on a cluster only: a Ray that a run starts for itself exports nothing.
Where nobody collects them they cost a dictionary look-up a unit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from atlas_schema.units import WorkUnit
from jobs.progress import Progress
from jobs.stages import STAGES

EVERY_SECONDS = 5.0  # between two states of the gauges
STAGE, MODEL = "stage", "model"
_CUTS = {stage.name: stage.cut for stage in STAGES}


@dataclass(frozen=True)
class Metric:
    """One counter (which only grows) or gauge, and the sentence that explains it."""

    name: str
    means: str
    tags: tuple[str, ...] = ()
    counts: bool = True  # else a gauge

    @property
    def exported(self) -> str:
        """Its name as Prometheus sees it."""
        return f"ray_{self.name}" + ("_total" if self.counts else "")


UNITS = Metric("atlas_units", "Work units committed", (STAGE, MODEL))
SECONDS = Metric("atlas_worker_seconds", "Seconds of workers that committed units took", (STAGE, MODEL))
NEURONS = Metric("atlas_neurons", "Neurons described", (STAGE, MODEL))
IMAGES = Metric("atlas_images", "Images passed through a model", (STAGE, MODEL))
FAILURES = Metric("atlas_failures", "Work units that were given up", (STAGE, MODEL))
RETRIES = Metric("atlas_retries", "Attempts at a work unit that failed, after which it was tried again", (STAGE, MODEL))
LOST = Metric("atlas_workers_lost", "Workers that died, hung or vanished")
WORKERS = Metric("atlas_workers", "Workers that have started", counts=False)
AT_WORK = Metric("atlas_units_at_work", "Work units that workers are at", counts=False)
SHARE = Metric("atlas_work_share", "Share of the run's work that is done, by cost", counts=False)
LEFT = Metric("atlas_seconds_left", "Seconds until the run's work is done, as far as was seen", counts=False)
METRICS = (UNITS, SECONDS, NEURONS, IMAGES, FAILURES, RETRIES, LOST, WORKERS, AT_WORK, SHARE, LEFT)
_SIZES = {"neurons": NEURONS, "images": IMAGES}  # of the kinds of work whose units are counted by these


class Meters:
    """The counters and gauges of one run.

    make: gives what keeps one, with `inc(value, tags)` of a counter and `set(value)` of a gauge; None: nothing is kept.
    """

    def __init__(self, make: Callable[[Metric], Any] | None = None) -> None:
        self._kept = {metric: make(metric) for metric in METRICS} if make else {}
        self._told = float("-inf")

    def committed(self, unit: WorkUnit, seconds: float, *, counts: bool = True) -> None:
        """A unit was done, in so many seconds of a worker. counts: whether its neurons or images are new."""
        self._count(UNITS, 1, unit)
        self._count(SECONDS, seconds, unit)
        if counts and _CUTS.get(unit.stage) in _SIZES:
            self._count(_SIZES[_CUTS[unit.stage]], unit.size, unit)

    def gave_up(self, unit: WorkUnit) -> None:
        """A unit will not be done by this run."""
        self._count(FAILURES, 1, unit)

    def retrying(self, unit: WorkUnit) -> None:
        """An attempt at a unit failed; it is tried again."""
        self._count(RETRIES, 1, unit)

    def lost(self) -> None:
        """A worker is gone."""
        self._count(LOST, 1)

    def tick(self, progress: Progress) -> None:
        """The state of the run now; looked at every few seconds only."""
        if self._kept and time.monotonic() - self._told >= EVERY_SECONDS:
            self._told = time.monotonic()
            self.tell(progress)

    def tell(self, progress: Progress) -> None:
        """The same at once: the last word of a run."""
        if not self._kept:
            return
        self._kept[WORKERS].set(progress.workers)
        self._kept[AT_WORK].set(progress.at_work)
        done = all(count.complete for count in progress.stages.values())
        outlook = (1.0, 0.0) if done else progress.outlook()
        if outlook:
            self._kept[SHARE].set(outlook[0])
            self._kept[LEFT].set(outlook[1])

    def _count(self, metric: Metric, value: float, unit: WorkUnit | None = None) -> None:
        if self._kept and value > 0:  # a counter of Ray takes no 0
            tags = {STAGE: unit.stage, MODEL: unit.slug} if unit else {}
            self._kept[metric].inc(value, tags)


def by_ray(metric: Metric) -> Any:
    """What keeps a metric in the Ray that this process has joined."""
    from ray.util.metrics import Counter, Gauge

    return (Counter if metric.counts else Gauge)(metric.name, description=metric.means, tag_keys=metric.tags)
