"""`run`: from a config to a complete atlas, or as far as it goes; what is committed is never done again.

Order of things: describe, load, compare with what the folder holds, all before anything is written; then
lock, claim, plan, compute on Ray, assemble each layer as it completes, and close the run's record.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from atlas_schema.card import write_card
from atlas_schema.errors import AtlasLocked, BadConfig, WorkFailed
from atlas_schema.parts import PartReceipt, WorkUnit
from atlas_schema.shards import write_rows
from atlas_schema.store import Store
from atlas_schema.tables import MODELS, SITES
from jobs.claim import model_row, planned_with, refuse_foreign, site_rows
from jobs.config import RunConfig
from jobs.failpoints import failpoint
from jobs.layers import Identity, Layers, neurons_in, work_units
from jobs.lock import Lock, locked
from jobs.loop import Fault, Listener, Loop, Outcome, Policy, Stop
from jobs.machine import local_machine, machine_json
from jobs.plan import Machine, Plan, make_plan, remaining
from jobs.progress import StageProgress, duration
from jobs.records import RunLog, RunRow, close_dead_runs, failed_path, new_run_id, now, record_failure
from jobs.signals import StopRequest
from jobs.version import code_version

if TYPE_CHECKING:
    from pipeline.models import ModelDescription, ModelRequest
    from pipeline.recipes import Recipe

Say = Callable[[str], None]


@dataclass
class RunReport:
    """How a run ended. `status`: done, failed (something is missing) or interrupted."""

    run_id: str
    atlas: str
    status: str = "done"
    exit_code: int = 0
    neurons: int = 0  # of this run's selection, that the atlas now holds
    units_done: int = 0
    units_reused: int = 0
    units_failed: int = 0
    workers_lost: int = 0
    seconds: float = 0.0
    missing: list[str] = field(default_factory=list)
    error: str = ""


@dataclass(frozen=True)
class Prepared:
    """What is known before anything is written."""

    config: RunConfig
    store: Store
    recipe: Recipe
    described: tuple[tuple[ModelRequest, ModelDescription], ...]
    rows: tuple[dict[str, Any], ...]  # of `models`
    identities: dict[str, Identity]


def run(config: RunConfig, *, command: str, say: Say) -> RunReport:
    """Carry out `config`; every error of the user's raises before the folder is touched.

    Raises BadConfig, UnknownModel, ForeignAtlas, AtlasLocked, ... (AtlasError); work that fails is reported.
    """
    prepared = prepare(config, say)
    store, run_id = prepared.store, new_run_id()
    with ExitStack() as stack:
        lock = stack.enter_context(
            locked(
                store,
                run_id,
                lambda holder: say(
                    f"{holder.run_id} on {holder.host.split()[0]} left a lock; watching whether it lives."
                ),
            )
        )
        known = refuse_foreign(store, prepared.rows)  # again, now that nobody else writes
        close_dead_runs(store)
        machine = _enter_ray(stack, config, say)
        plan = make_plan(config, prepared.described, prepared.recipe, machine)
        log = RunLog(store, run_id)
        stack.callback(log.close)
        claim(prepared, plan, known)
        row = RunRow(run_id, command, config.to_json(), machine_json(machine, config.address))
        row.write(store)
        stop = stack.enter_context(StopRequest(say))
        return Run(prepared, plan, lock, log, row, stop, say).carry_out()


def prepare(config: RunConfig, say: Say) -> Prepared:
    """Describe and load the models, and compare them with the folder. Writes nothing."""
    from pipeline.recipes import recipe_named

    recipe = recipe_named(config.recipe)
    store = open_store(config.out)
    described = describe_all(config)
    make_plan(
        config, described, recipe, Machine()
    )  # slug clashes and impossible selections, before any download
    rows = []
    for request, description in described:
        say(f"Loading {description.id}" + (f" with {request.weights}" if request.weights else ""))
        rows.append(_identified(request, recipe, config))
    refuse_foreign(store, rows)
    identities = {row["slug"]: Identity(row["fingerprint"], recipe.hash, config.seed) for row in rows}
    return Prepared(config, store, recipe, described, tuple(rows), identities)


def describe_all(config: RunConfig) -> tuple[tuple[ModelRequest, ModelDescription], ...]:
    """Descriptions of the models asked for; a pattern such as zoo/* stands for all that it matches."""
    from pipeline.models import describe

    requests = [entry.request() for entry in expand(config).models]
    return tuple((request, describe(request)) for request in requests)


def expand(config: RunConfig) -> RunConfig:
    """Replace patterns among the models by what they match. Raises BadConfig where one matches nothing."""
    if not any("*" in entry.model for entry in config.models):
        return config
    from pipeline.models import known_models

    entries = []
    for entry in config.models:
        names = known_models(entry.model) if "*" in entry.model else [entry.model]
        if not names:
            raise BadConfig(f"{entry.model}: no known model matches. See `neuron-atlas models`.")
        entries += [entry.model_copy(update={"model": name}) for name in names]
    return config.model_copy(update={"models": tuple(entries)})


def open_store(url: str) -> Store:
    """The atlas's store; a folder becomes absolute, as workers start elsewhere. Refuses memory://."""
    if url.startswith("memory:"):
        raise BadConfig(
            f"{url}: a memory store lives in one process, but the workers are others. "
            "Give a folder or an object store with --out."
        )
    return Store(url if "://" in url else os.path.abspath(os.path.expanduser(url)))


def _identified(request: ModelRequest, recipe: Recipe, config: RunConfig) -> dict[str, Any]:
    """The model's row of `models`; the weights are read for their fingerprint and let go."""
    from pipeline.models import load

    return model_row(load(request), recipe, config.seed, config.precision)


def _enter_ray(stack: ExitStack, config: RunConfig, say: Say) -> Machine:
    from jobs.ray_run import machine_of_cluster, ray_session

    machine = None if config.address else local_machine(config)
    stack.enter_context(ray_session(config.address, machine))
    machine = machine or machine_of_cluster(config)
    say(
        f"{machine.workers} worker{'s' * (machine.workers > 1)} on {machine.device}"
        + (f", {machine.threads} thread{'s' * (machine.threads > 1)} each" if machine.device == "cpu" else "")
    )
    return machine


def claim(prepared: Prepared, plan: Plan, known: dict[str, dict[str, Any]]) -> None:
    """Write the rows that say whose atlas this is and what it sets out to describe."""
    provenance = {"code_version": code_version()}
    for model, row in zip(plan.models, prepared.rows, strict=True):
        planned = planned_with(prepared.store, model.slug, model.slug in known, model.ranges)
        write_rows(prepared.store, MODELS, model.slug, [row], provenance=provenance)
        write_rows(
            prepared.store, SITES, model.slug, site_rows(model.description, planned), provenance=provenance
        )


class Run(Listener):
    """The computing part of a run, under lock and with Ray up."""

    def __init__(
        self,
        prepared: Prepared,
        plan: Plan,
        lock: Lock,
        log: RunLog,
        row: RunRow,
        stop: StopRequest,
        say: Say,
    ):
        self.prepared, self.plan, self.lock, self.log, self.row = prepared, plan, lock, log, row
        self.stop, self.say, self.store = stop, say, prepared.store
        self.layers = Layers.of(self.store, plan, prepared.identities)
        self.receipts = 0
        self.progress: StageProgress

    def carry_out(self) -> RunReport:
        damaged = self.layers.assemble_complete()
        self._tell_damaged(damaged)
        left = remaining(self.plan.slices, self.layers.covered())
        units = work_units(self.plan, left, self.prepared.identities)
        flops = dict(zip(units, (one.flops for one in left), strict=True))
        self.row.units_reused = sum(len(found) for found in self.layers.units.values())
        total = sum(model.neurons for model in self.plan.models)
        reused = total - neurons_in((unit.start, unit.stop) for unit in units)
        self.log(
            "start",
            units=len(units),
            reused=self.row.units_reused,
            neurons=total,
            machine=self.row.machine,
            host=socket.gethostname(),
        )
        outcome = Outcome()
        try:
            with StageProgress("visualize", total, reused, flops) as self.progress:
                self.progress.say(f"{len(units)} work units to do, {self.row.units_reused} already committed")
                if units:
                    outcome = self._loop(units)
        finally:
            report = self._close(outcome)
        return report

    def _loop(self, units: Sequence[WorkUnit]) -> Outcome:
        from jobs.ray_run import RayExecutor
        from jobs.worker import WorkerSettings

        config, machine = self.prepared.config, self.plan.machine
        settings = WorkerSettings(
            store_url=self.store.url,
            requests={model.slug: model.request for model in self.plan.models},
            recipe=self.prepared.recipe,
            device=machine.device,
            threads=machine.threads,
            precision=config.precision,
            nonce=self.lock.me.nonce,
        )
        policy = Policy(workers=machine.workers, retries=config.retries, hang_seconds=config.hang_seconds)
        executor = RayExecutor(settings, machine, beat_seconds=min(5.0, config.hang_seconds / 4))
        return Loop(units, executor, policy, self, self._stop).run()

    def _stop(self) -> Stop:
        return Stop.DRAIN if self.lock.lost else self.stop.state()

    # What the loop tells.

    def started(self, worker: int, unit: WorkUnit, attempt: int) -> None:
        self.log("started", unit=str(unit), worker=worker, attempt=attempt)

    def committed(
        self, worker: int, unit: WorkUnit, receipt: PartReceipt, seconds: float
    ) -> Iterable[WorkUnit]:
        self.receipts += 1
        failpoint("receipt", str(unit), self.receipts)
        self.log(
            "committed",
            unit=str(unit),
            worker=worker,
            seconds=round(seconds, 3),
            bytes=receipt.bytes,
            adopted=not receipt.created,
        )
        self.row.units_done += 1
        self.layers.add(unit)
        self.progress.committed(unit)
        self.store.delete(failed_path(unit))
        site = (unit.stage, unit.slug, unit.layer)
        if not self.layers.complete(site):
            return ()
        again = self.layers.assemble(site)
        self._tell_damaged(again)
        for one in again:
            self.progress.again(one)
        return again

    def retrying(self, unit: WorkUnit, attempt: int, fault: Fault) -> None:
        self.log("retrying", unit=str(unit), attempt=attempt, error=str(fault), trace=fault.trace)

    def gave_up(self, unit: WorkUnit, fault: Fault) -> None:
        self.log("gave up", unit=str(unit), error=str(fault), trace=fault.trace)
        record_failure(self.store, unit, fault, self.row.run_id)
        self.progress.gave_up(unit)
        self.progress.say(f"Gave up {unit}: {fault}")

    def lost(self, worker: int, unit: WorkUnit | None, reason: str) -> None:
        self.log("worker lost", unit=str(unit) if unit else None, worker=worker, reason=reason)
        doing = f" while doing {unit}" if unit else ""
        self.progress.say(f"Worker {worker} was lost{doing} ({reason}); its unit will be done again.")

    def tick(self, todo: int, flying: int, workers: int) -> None:
        self.progress.tick()

    def _tell_damaged(self, units: Iterable[WorkUnit]) -> None:
        for unit in units:
            self.log("damaged part removed", unit=str(unit), path=unit.path)
            self.say(f"The part of {unit} was damaged and was removed; that unit is done again.")

    # The end.

    def _close(self, outcome: Outcome) -> RunReport:
        """Assemble what can be read, close the run's record, and say how it stands."""
        report = RunReport(
            self.row.run_id,
            self.store.url,
            units_done=self.row.units_done,
            units_reused=self.row.units_reused,
            units_failed=len(outcome.failed),
            workers_lost=outcome.workers_lost,
        )
        store_works = outcome.fatal is None or not outcome.fatal.kind.startswith("Store")
        for unit in outcome.failed:  # a layer with gaps is still worth reading; `validate` names the gaps
            self.layers.assemble((unit.stage, unit.slug, unit.layer))
        gaps = self.layers.missing()
        report.missing = [
            f"{slug}/mlp/{layer} units {start} to {stop - 1}" for (_, slug, layer), (start, stop) in gaps
        ]
        report.neurons = sum(model.neurons for model in self.plan.models) - neurons_in(gap for _, gap in gaps)
        self._verdict(report, outcome)
        self.row.status, self.row.finished = report.status, now()
        self.row.units_failed = report.units_failed
        self.row.failures = [
            {"unit": str(unit), "error": str(fault)} for unit, fault in outcome.failed.items()
        ]
        report.seconds = (self.row.finished - self.row.started).total_seconds()
        self.log(
            "end",
            status=report.status,
            done=report.units_done,
            failed=report.units_failed,
            missing=len(gaps),
            seconds=round(report.seconds, 1),
            error=report.error,
        )
        if store_works:
            self.row.write(self.store)
            write_card(self.store)
        return report

    def _verdict(self, report: RunReport, outcome: Outcome) -> None:
        if outcome.fatal is not None:
            report.status, report.exit_code, report.error = "failed", 1, outcome.fatal.message
        elif self.lock.lost:
            report.status, report.exit_code = "interrupted", AtlasLocked.exit_code
            report.error = "another driver took over this atlas's lock"
        elif self.stop.signal is not None and report.missing:
            report.status, report.exit_code = "interrupted", self.stop.exit_code
        elif report.missing:
            report.status, report.exit_code = "failed", WorkFailed.exit_code


def summary(report: RunReport) -> list[str]:
    """The last lines of a run, for people."""
    lines = [
        f"{report.neurons:,} neurons in {report.atlas} after {duration(report.seconds)}: "
        f"{report.units_done} units done, {report.units_reused} reused, {report.units_failed} failed."
    ]
    if report.error:
        lines.append(f"Stopped: {report.error}")
    if report.missing:
        shown = report.missing[:8]
        lines.append(
            f"Missing ({len(report.missing)}): "
            + "; ".join(shown)
            + ("; ..." if len(report.missing) > len(shown) else "")
        )
        lines.append("What is committed stays. Run the same command again to do what is missing.")
    return lines
