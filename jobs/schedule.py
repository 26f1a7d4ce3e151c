"""How long a plan takes on the clock: what several workers share, and what they cannot. Pure.

A stage of a model waits for what it reads. However many workers there are, a run takes as long as the longest chain of
units of which each waits for the one before; and however few wait, as long as all its work divided by the workers.
"""

from __future__ import annotations

from jobs.plan import Job, Plan


def clock_seconds(plan: Plan, workers: int) -> float:
    """Estimated seconds on the clock with so many workers, from the first unit's begin to the last one's end.

    The larger of the two bounds above. Where both are alike a run takes somewhat longer: workers wait at its end.
    """
    return max(plan.seconds / workers, longest_chain(plan))


def longest_chain(plan: Plan) -> float:
    """Seconds of the longest chain of units that wait for one another: no number of workers makes a run shorter."""
    jobs = {(job.stage.name, job.slug): job for job in plan.jobs}
    embedders = {job.stage.name: job for job in plan.jobs if job.stage.owner == "embedder"}
    known: dict[tuple[str, str], float] = {}

    def end(job: Job) -> float:
        key = job.stage.name, job.slug
        if key not in known:
            names = (*job.stage.reads, *job.stage.reads_if_there)
            before = [one for name in names if (one := jobs.get((name, job.slug)) or embedders.get(name))]
            longest = max(job.flops, default=0.0) / plan.machine.speed * plan.pace(job.stage.name)
            known[key] = longest + max(map(end, before), default=0.0)
        return known[key]

    return max(map(end, plan.jobs), default=0.0)
