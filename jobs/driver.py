"""`run`: from a config to a complete atlas, or as far as it goes; what is committed is never done again.

Order of things: describe, load, compare with what the folder holds, all before anything is written; then
lock, claim, plan, compute on Ray, assemble each layer as it completes, and close the run's record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from atlas_schema.card import write_card
from atlas_schema.errors import AtlasError, AtlasLocked, StoreFailed, StoreFull, WorkFailed
from atlas_schema.parts import PartReceipt, WorkUnit
from atlas_schema.shards import shard_path, write_rows
from atlas_schema.tables import MODELS, PROBE_IMAGES, SITES
from jobs.claim import planned_with, refuse_foreign, site_rows
from jobs.config import RunConfig
from jobs.failpoints import failpoint
from jobs.graph import Graph, Tree
from jobs.head_rows import write_heads
from jobs.layers import Identity, Layers, Site, neurons_in
from jobs.lock import Holder, Lock, locked
from jobs.loop import Fault, Listener, Loop, Outcome, Policy, Stop
from jobs.machine import local_machine, machine_json
from jobs.measuring import SEED
from jobs.pairing import pair_units
from jobs.pairs import write_matches
from jobs.plan import Machine, Plan, Range, make_plan, probe_images
from jobs.prepare import Prepared, Say, prepare
from jobs.progress import StageProgress, duration
from jobs.records import (
    Overheard,
    RunLog,
    RunRow,
    close_dead_runs,
    forget_failures,
    new_run_id,
    now,
    record_failure,
)
from jobs.signals import StopRequest
from jobs.version import code_version

DECOMPOSITION = 6.0  # plain forwards that contributions cost, about (docs/decomposition.md)
GRACE_SECONDS = 20.0  # for units in flight after Ctrl-C or SIGTERM: shorter than a pod's 30


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


def run(config: RunConfig, *, command: str, say: Say) -> RunReport:
    """Carry out `config`; every error of the user's raises before the folder is touched.

    Raises BadConfig, UnknownModel, ForeignAtlas, AtlasLocked, ... (AtlasError); work that fails is reported.
    """
    prepared = prepare(config, say)
    store, run_id = prepared.store, new_run_id()

    def watching(holder: Holder) -> None:
        say(f"{holder.run_id} on {holder.host.split()[0]} left a lock; watching whether it lives.")

    with ExitStack() as stack:
        lock = stack.enter_context(locked(store, run_id, watching))
        refuse_foreign(store, prepared.rows)  # again, now that nobody else writes
        close_dead_runs(store)
        store.sweep()  # hidden files of writers that were killed a day or more ago
        machine = _machine(stack, config)
        plan = make_plan(config, prepared.described, prepared.recipe, machine)
        log = RunLog(store, run_id)
        stack.callback(log.close)
        layers = Layers.of(store, plan, prepared.identities, prepared.stages)
        claim(prepared, plan, layers)
        row = RunRow(run_id, command, config.to_json(), machine_json(machine, config.address))
        row.write(store)
        return Run(prepared, plan, layers, lock, log, row, say, ray_is_up=config.address is not None).carry_out()


def _machine(stack: ExitStack, config: RunConfig) -> Machine:
    """This machine, without starting Ray yet: there may be nothing to do. Or the cluster, joined to be asked."""
    if config.address is None:
        return local_machine(config)
    from jobs.ray_run import machine_of_cluster, ray_session

    stack.enter_context(ray_session(config.address, None))
    return machine_of_cluster(config)


def claim(prepared: Prepared, plan: Plan, layers: Layers) -> None:
    """Write the rows that say whose atlas this is and what it sets out to describe."""
    provenance = {"code_version": code_version()}
    if prepared.measuring is not None:
        write_probe_images(prepared)
    for model, row in zip(plan.models, prepared.rows, strict=True):
        committed: dict[int, list[Range]] = {}
        for (_, slug, layer), ranges in layers.covered().items():
            if slug == model.slug:
                committed.setdefault(layer, []).extend(ranges)
        wanted = model.ranges if prepared.stages else {}  # heads alone describe no neuron
        planned = planned_with(prepared.store, model.slug, wanted, committed)
        write_rows(prepared.store, MODELS, model.slug, [row], provenance=provenance)
        write_rows(prepared.store, SITES, model.slug, site_rows(model.description, planned), provenance=provenance)


def write_probe_images(prepared: Prepared) -> None:
    """The table of the probe images, once: it is a function of the set and of what may be shown of it."""
    from pipeline.images.probe_set import default_mode, rows

    assert prepared.measuring is not None
    probe_set = prepared.measuring.probe_set
    if prepared.store.exists(shard_path(PROBE_IMAGES, probe_set.identity)):
        return
    mode = prepared.config.probe_images
    told = rows(probe_set, default_mode(probe_set) if mode == "auto" else mode)
    write_rows(prepared.store, PROBE_IMAGES, probe_set.identity, told, provenance={"code_version": code_version()})


def trees_of(prepared: Prepared, plan: Plan) -> list[Tree]:
    """The passes over the probe set that this run needs."""
    measuring, store = prepared.measuring, prepared.store
    if measuring is None:
        return []
    seconds, machine = prepared.config.unit_seconds, plan.machine
    probed = not {"probe", "label", "effect"}.isdisjoint(prepared.config.stages)
    trees = []
    for model, row in zip(plan.models, prepared.rows, strict=True) if probed else ():
        own = Identity(row["fingerprint"], measuring.settings("probe"), 0)
        images = probe_images(model.description, seconds, machine)
        trees.append(Tree(store, "probe", model.slug, own, len(measuring.probe_set), images))
    choice = measuring.embedder
    if choice is not None and measuring.concepts is not None:
        own = Identity(choice.fingerprint, measuring.settings("embed"), 0)
        trees.append(Tree(store, "embed", choice.slug, own, measuring.panel_size, 256))
        if "label" in prepared.config.stages:
            own = Identity(choice.fingerprint, measuring.settings("texts"), 0)
            count = len(measuring.concepts)
            trees.append(Tree(store, "texts", choice.slug, own, count, count))
    return [*trees, *head_trees(prepared, plan)]


def head_trees(prepared: Prepared, plan: Plan) -> list[Tree]:
    """The stages behind the tables of heads, each with what it reads (`jobs.heads`)."""
    measuring, store = prepared.measuring, prepared.store
    if measuring is None or not prepared.decomposed:
        return []
    embedder = measuring.embedder_or_fail
    images, seconds = len(measuring.probe_set), prepared.config.unit_seconds
    own = Identity(embedder.fingerprint, measuring.settings("pool"), SEED)
    trees = [Tree(store, "pool", embedder.slug, own, 1, 1)]
    for model, row in zip(plan.models, prepared.rows, strict=True):
        slug = model.slug
        if slug not in prepared.decomposed:
            continue
        slices = probe_images(model.description, seconds / DECOMPOSITION, plan.machine)
        reads = {
            "decompose": (images, slices, []),
            "align": (1, 1, [("decompose", slug), ("embed", embedder.slug), ("pool", embedder.slug)]),
            "spans": (1, 1, [("align", slug)]),
            "project": (images, slices, [("spans", slug)]),
            "heads": (1, 1, [("project", slug)]),
        }
        for stage, (count, slice_images, before) in reads.items():
            own = Identity(row["fingerprint"], measuring.settings(stage), SEED)
            trees.append(Tree(store, stage, slug, own, count, slice_images, before))
    return trees


class Run(Listener):
    """The computing part of a run, under lock: what is missing, the loop over it, and the end."""

    def __init__(
        self,
        prepared: Prepared,
        plan: Plan,
        layers: Layers,
        lock: Lock,
        log: RunLog,
        row: RunRow,
        say: Say,
        *,
        ray_is_up: bool,
    ):
        self.prepared, self.plan, self.lock, self.log, self.row = prepared, plan, lock, log, row
        self.say, self.store, self.stop = say, prepared.store, StopRequest()
        self.ray_is_up = ray_is_up
        self.layers = layers
        self.receipts = 0
        self.progress: StageProgress
        self.graph: Graph

    def carry_out(self) -> RunReport:
        """Compute, assemble, report. However it ends, the run's row says so, unless the process is killed."""
        try:
            return self._carry_out()
        except (AtlasError, KeyboardInterrupt) as error:
            self.row.status = "failed" if isinstance(error, AtlasError) else "interrupted"
            self.row.finished = now()
            self.log("end", status=self.row.status, error=str(error))
            if not isinstance(error, StoreFull | StoreFailed):
                self.row.write(self.store)
            raise

    def _carry_out(self) -> RunReport:
        self._tell_damaged(self.layers.assemble_ready())
        trees = trees_of(self.prepared, self.plan)
        self.graph = Graph(self.plan, self.layers, self.prepared.identities, trees, self._pair_units())
        units, flops = self.graph.ready(), self.graph.flops
        self.row.units_reused = self.layers.reused()
        total = neurons_in((one.start, one.stop) for one in self.plan.slices)
        reused = total - neurons_in((unit.start, unit.stop) for unit in flops)
        self.log("start", units=len(units), reused=self.row.units_reused, neurons=total, machine=self.row.machine)
        self.say(f"{len(units)} work units to do, {self.row.units_reused} already committed")
        with StageProgress("visualize", total, reused, flops) as self.progress:
            return self._close(self._compute(units) if units else Outcome())

    def _pair_units(self) -> list[WorkUnit]:
        measuring = self.prepared.measuring
        return pair_units(measuring.pairs, self.prepared.rows, len(measuring.match_panel)) if measuring else []

    def _write_matches(self) -> None:
        """The table of counterparts from all committed pairs, its models of this run."""
        measuring = self.prepared.measuring
        if measuring is not None and measuring.pairs:
            slugs = [model.slug for model in self.plan.models]
            write_matches(self.store, measuring.probe_set.identity, slugs, {"code_version": code_version()})

    def _write_heads(self) -> None:
        """The tables of heads, of the models whose last stage is committed."""
        for unit in self._head_units():
            if self.store.exists(unit.path):
                write_heads(self.store, unit, {"code_version": code_version()})

    def _head_units(self) -> list[WorkUnit]:
        """The unit of each model that holds the rows of its heads."""
        measuring, prepared = self.prepared.measuring, self.prepared
        rows = [row for row in prepared.rows if row["slug"] in prepared.decomposed]
        return [measuring.root("heads", row["slug"], row["fingerprint"]) for row in rows] if measuring else []

    def _compute(self, units: Sequence[WorkUnit]) -> Outcome:
        from jobs.ray_run import RayExecutor, ray_session
        from jobs.worker import WorkerSettings

        config, machine = self.prepared.config, self.plan.machine
        settings = WorkerSettings(
            store_url=self.store.url,
            requests={model.slug: model.request for model in self.plan.models},
            fingerprints={row["slug"]: row["fingerprint"] for row in self.prepared.rows},
            recipe=self.prepared.recipe,
            device=machine.device,
            threads=machine.threads,
            precision=config.precision,
            nonce=self.lock.me.nonce,
            measuring=self.prepared.measuring,
        )
        policy = Policy(
            workers=machine.workers,
            retries=config.retries,
            hang_seconds=config.hang_seconds,
            grace_seconds=GRACE_SECONDS,
        )
        self.progress.say(machine.text)
        with ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(Overheard(self.log)))
            if not self.ray_is_up:
                stack.enter_context(ray_session(None, machine))
            stack.enter_context(self.stop)  # after Ray is up: it sets handlers of its own
            executor = RayExecutor(settings, machine, beat_seconds=min(5.0, config.hang_seconds / 4))
            return Loop(units, executor, policy, self, self._stop).run()

    def _stop(self) -> Stop:
        return Stop.DRAIN if self.lock.lost or self.stop.signal is not None else Stop.NO

    # What the loop tells.

    def started(self, worker: int, unit: WorkUnit, attempt: int) -> None:
        self.log("started", unit=str(unit), worker=worker, attempt=attempt)

    def stopping(self, flying: int) -> None:
        self.log("stopping", signal=self.stop.signal, in_flight=flying)
        self.progress.say(
            f"Stopping: no new units; {flying} at work have {GRACE_SECONDS:.0f} s to end. Again to leave at once."
        )

    def committed(self, worker: int, unit: WorkUnit, receipt: PartReceipt, seconds: float) -> Iterable[WorkUnit]:
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
        self.graph.add(unit)
        self.progress.committed(unit)
        again: list[WorkUnit] = []
        if not unit.is_partial and self.layers.ready(self.layers.shard_of(unit)):
            again = self.layers.assemble(self.layers.shard_of(unit))
            self._tell_damaged(again)
            for one in again:
                self.progress.again(one)
        return [*again, *self.graph.ready()]

    def retrying(self, unit: WorkUnit, attempt: int, fault: Fault) -> None:
        self.log("retrying", unit=str(unit), attempt=attempt, error=str(fault), trace=fault.trace)

    def gave_up(self, unit: WorkUnit, fault: Fault) -> None:
        self.log("gave up", unit=str(unit), error=str(fault), trace=fault.trace)
        record_failure(self.store, unit, fault, self.row.run_id)
        self.progress.gave_up(unit)
        self.progress.say(f"Gave up {unit}: {fault}")

    def lost(self, worker: int, unit: WorkUnit | None, reason: str) -> None:
        self.log("worker lost", unit=str(unit) if unit else None, worker=worker, reason=reason)
        if unit:
            self.progress.say(f"Worker {worker} was lost while doing {unit}, which is queued again: {reason}")
        else:
            self.progress.say(f"Worker {worker} was lost: {reason}")

    def tick(self, todo: int, flying: int, workers: int) -> None:
        self.progress.tick(workers, flying)

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
        for shard in self.layers.shards():  # a layer with gaps is still worth reading; `validate` names the gaps
            if not self.layers.ready(shard):
                self.layers.assemble(shard)
        forget_failures(self.store, self.layers.covers)
        gaps = self.layers.missing()
        undone = [unit for unit in [*self._pair_units(), *self._head_units()] if not self.store.exists(unit.path)]
        report.missing = [missing_text(site, gap) for site, gap in gaps] + [str(unit) for unit in undone]
        unseen = {(slug, layer, unit) for (_, slug, layer), gap in gaps for unit in range(*gap)}
        neurons = sum(model.neurons for model in self.plan.models) if self.prepared.stages else 0
        report.neurons = neurons - len(unseen)
        self._verdict(report, outcome)
        self.row.status, self.row.finished = report.status, now()
        self.row.units_failed = report.units_failed
        self.row.failures = [{"unit": str(unit), "error": str(fault)} for unit, fault in outcome.failed.items()]
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
        try:
            self.row.write(self.store)
            self._write_matches()
            self._write_heads()
            write_card(self.store)
        except WorkFailed as error:  # the store fails, or some other model's shard is damaged
            report.status, report.exit_code, report.error = "failed", 1, report.error or str(error)
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


def missing_text(site: Site, gap: Range) -> str:
    stage, slug, layer = site
    of_stage = "" if stage == "visualize" else f" ({stage})"
    return f"{slug}/mlp/{layer} units {gap[0]} to {gap[1] - 1}{of_stage}"


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
