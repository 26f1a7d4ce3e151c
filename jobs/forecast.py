"""What is done and what is left of a run, in seconds of a worker: the plan's costs, weighed by what units took. Pure.

The plan says what each unit should take. A stage takes as many times more as its units took so far; as long as few of
them are done, what units of all stages took counts too, and a stage that none was seen of goes by that alone.
"""

from __future__ import annotations

from atlas_schema.units import Neurons, Pair, Readings, WorkUnit
from jobs.graph import Graph
from jobs.plan import Partner, Plan, size_of

USUAL_SHARE = 0.1  # of a stage's own work, as which what is usual for all stages counts
ALMOST = 0.9  # of what a unit should take: so much of it counts as done at most while it is at work


class Forecast:
    """Takes in units as they begin, are done and are given up; `work` says how much is done and how much is left."""

    def __init__(self, plan: Plan, graph: Graph) -> None:
        self._each: dict[tuple[str, str, int | str | None], float] = {}  # seconds of one neuron, image, model or pair
        self.planned: dict[str, float] = {}  # seconds that this run's units should take, by stage
        self.left: dict[str, float] = {}  # of these, what is not done
        self.took: dict[str, tuple[float, float]] = {}  # by stage, of units done: seconds planned, seconds taken
        self._begun: dict[WorkUnit, float] = {}  # units at work, and when they began
        for job in plan.jobs:
            stage, slug = job.stage.name, job.slug
            sums: dict[tuple[str, str, int | str | None], tuple[float, int]] = {}
            for cut, flops in zip(job.cuts, job.flops, strict=True):
                key = (stage, slug, cut.slug if isinstance(cut, Partner) else _part(cut))
                whole, size = sums.get(key, (0.0, 0))
                sums[key] = (whole + flops, size + size_of(cut))
            self._each |= {key: whole / plan.machine.speed / size for key, (whole, size) in sums.items()}
            held = graph.jobs[stage, slug]
            gaps = [unit for layer in held.layers for unit in held.gaps(layer)] if graph.needed(held) else []
            wanted = sum(map(self._of, gaps))
            self.planned[stage] = self.planned.get(stage, 0.0) + wanted
            self.left[stage] = self.left.get(stage, 0.0) + wanted

    def began(self, unit: WorkUnit, at: float) -> None:
        """A worker has come to a unit; at: seconds of any clock, the one of `work`."""
        self._begun[unit] = at

    def ended(self, unit: WorkUnit) -> None:
        """Nobody is at the unit any more, for whatever reason."""
        self._begun.pop(unit, None)

    def committed(self, unit: WorkUnit, seconds: float, *, counts: bool = True) -> None:
        """A unit took so many seconds; counts: False of a merge, which is no work of the plan's."""
        self.ended(unit)
        planned, taken = self.took.get(unit.stage, (0.0, 0.0))
        own = self._of(unit) if counts else 0.0
        self.took[unit.stage] = planned + own, taken + seconds
        self._take(unit, own)

    def gave_up(self, unit: WorkUnit) -> None:
        """A unit will not be done."""
        self.ended(unit)
        self._take(unit, self._of(unit))

    def again(self, unit: WorkUnit) -> None:
        """A unit that was done is to be done again."""
        self._take(unit, -self._of(unit))

    def _take(self, unit: WorkUnit, seconds: float) -> None:
        if unit.stage in self.left:
            self.left[unit.stage] -= seconds

    def _of(self, unit: WorkUnit) -> float:
        """Seconds that a unit should take."""
        return self._each.get((unit.stage, unit.slug, _part(unit.cut)), 0.0) * unit.size

    def pace(self, stage: str) -> float:
        """How many times longer than planned the units of a stage take; 0 as long as none of any stage was seen."""
        planned, taken = (sum(values) for values in zip((0.0, 0.0), *self.took.values(), strict=True))
        usual = taken / planned if planned else 0.0
        own, seconds = self.took.get(stage, (0.0, 0.0))
        weight = USUAL_SHARE * self.planned.get(stage, 0.0) * max(0.0, 1 - own / (self.planned.get(stage) or 1.0))
        return (seconds + weight * usual) / (own + weight) if own + weight else usual

    def work(self, now: float | None = None) -> tuple[float, float]:
        """Seconds of a worker that were spent on units, and those that the rest takes.

        now: by the clock of `began`; without it units at work count as not begun.
        """
        spent = sum(taken for _, taken in self.took.values())
        left = sum(max(rest, 0.0) * self.pace(stage) for stage, rest in self.left.items())
        for unit, since in self._begun.items() if now is not None else ():
            so_far = min(now - since, ALMOST * self._of(unit) * self.pace(unit.stage)) if now is not None else 0.0
            spent, left = spent + so_far, left - so_far
        return spent, max(left, 0.0)


def seconds_left(spent: float, left: float, elapsed: float) -> float:
    """On the clock: as many workers at work, and waiting, as so far."""
    return left * elapsed / spent if spent else 0.0


def _part(cut: object) -> int | str | None:
    """What costs of a job differ by: the layer, or the other model of a pair."""
    if isinstance(cut, Neurons):
        return cut.layer
    return cut.partner if isinstance(cut, Pair | Readings) else None
