"""The command `run`: prepare, lock, claim, compute, assemble. Done again, it goes on where it ended.

Order of things: describe, load, open what stages read, compare with what the folder holds, all before anything is
written; then lock, claim, compute on Ray, assemble each shard as its stages complete, and close the run's record. No
stage is known by name here: what there is to do follows from `jobs.stages`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from atlas_schema.card import write_card
from atlas_schema.errors import AtlasError, AtlasLocked, NothingThere, StoreFailed, StoreFull, WorkFailed
from atlas_schema.parts import part_path
from atlas_schema.shards import shard_path
from atlas_schema.store import PatientStore
from atlas_schema.tables import MODELS, TABLES
from atlas_schema.units import Neurons, WorkUnit
from jobs.announce import claim
from jobs.assembly import MOST_REPAIRS, Shards, Target
from jobs.config import RunConfig
from jobs.damage import is_sound, put_part_aside, release, replaced_in
from jobs.events import Fault, Listener, Outcome, Policy, Stop
from jobs.failpoints import failpoint
from jobs.graph import Graph
from jobs.held import Held
from jobs.lock import Holder, Lock, living, locked
from jobs.loop import Loop
from jobs.machine import Needs, local_machine, machine_json
from jobs.memory import BASE, Peak, in_gigabytes
from jobs.metrics import Meters, by_ray
from jobs.node_labels import selector
from jobs.plan import Machine, Plan
from jobs.plan_told import memory_lines
from jobs.prepare import Prepared, Say, prepare
from jobs.progress import Progress
from jobs.ranges import Range, length, union
from jobs.records import (
    RunRow,
    close_dead_runs,
    forget_failures,
    new_run_id,
    now,
    record_failure,
)
from jobs.report import RunReport, missing_text
from jobs.run_log import Overheard, RunLog
from jobs.signals import StopRequest, end_at_once, sigterm_kept
from jobs.task import Assembly, Receipt, ShardReceipt, Task

LOOK_SECONDS = 15.0  # between two looks at whether the atlas is still there
MOST_CARDS = 5  # written at the end of a run beside others; the last driver to end finds all of them ended
REST_SECONDS = 8.0  # ... and then for shards that no worker wrote any more


def run(config: RunConfig, *, command: str, say: Say) -> RunReport:
    """Carry out `config`; every error of the user's raises before the folder is touched.

    Raises BadConfig, UnknownModel, ForeignAtlas, AtlasLocked, ... (AtlasError); work that fails is reported.
    KeyboardInterrupt where it was stopped before there were units to wait for, or a second time; nothing is lost then
    but the units in flight.
    """
    with sigterm_kept(end_at_once):  # so that locks and workers are let go
        try:
            return _run(config, command, say)
        except KeyboardInterrupt:
            say("Stopped at once. What is committed stays. Run the same command again to do what is missing.")
            raise


def _run(config: RunConfig, command: str, say: Say) -> RunReport:
    prepared = prepare(config, say)
    store, run_id = prepared.store, new_run_id()
    # a refusal that passes costs a worker its unit; here it would end the run
    patience = 10.0 if store.is_local else 120.0
    prepared = replace(prepared, store=PatientStore(store.url, patience, lambda reason: say(f"Waiting: {reason}")))

    def watching(holder: Holder) -> None:
        say(f"{holder.run_id} on {holder.host.split()[0]} left a lock; watching whether it lives.")

    with ExitStack() as stack:
        lock = stack.enter_context(locked(store, run_id, watching, config.shard))
        store = prepared.store
        alive = {holder.run_id for holder in living(store, lock.path)}  # drivers of other shares
        for path in close_dead_runs(store, alive):
            say(f"{path} was damaged and was put aside (.atlas/quarantine); the log of that run stays in .atlas/logs.")
        store.sweep()  # hidden files of writers that were killed a day or more ago
        # of any machine: what units take does not depend on how they are cut
        machine = _machine(stack, config, prepared.plan(Machine()).at_ease)
        plan = prepared.plan(machine)
        for line in memory_lines(plan):
            say(line)
        log = RunLog(store, run_id)
        stack.callback(log.close)
        held = Held(prepared)
        earlier = held.earlier()
        graph = Graph(held.jobs(plan), earlier)
        planned = claim(prepared, plan, graph, earlier)  # refuses once more, now that nobody else writes
        depths = {one.description.slug: len(one.description.ffn_sites) for one in prepared.models}
        shards = Shards(store, graph, earlier, depths, planned)
        row = RunRow(run_id, command, config.to_json(), machine_json(machine, config.address))
        row.write(store)
        ray_is_up = config.address is not None
        return Run(prepared, plan, graph, shards, lock, log, row, say, ray_is_up=ray_is_up).carry_out()


def _machine(stack: ExitStack, config: RunConfig, needs: Needs) -> Machine:
    """This machine, without starting Ray yet: there may be nothing to do. Or the cluster, joined to be asked."""
    if config.address is None:
        return local_machine(config, needs)
    from jobs.ray_run import machine_of_cluster, ray_session

    stack.enter_context(ray_session(config.address, None))
    return machine_of_cluster(config, needs)


class Run(Listener):
    """The computing part of a run, under lock: what is missing, the loop over it, and the end."""

    def __init__(
        self,
        prepared: Prepared,
        plan: Plan,
        graph: Graph,
        shards: Shards,
        lock: Lock,
        log: RunLog,
        row: RunRow,
        say: Say,
        *,
        ray_is_up: bool,
    ):
        self.prepared, self.plan, self.graph, self.shards = prepared, plan, graph, shards
        self.lock, self.log, self.row = lock, log, row
        self.say, self.store, self.stop = say, prepared.store, StopRequest()
        self.ray_is_up = ray_is_up
        self.receipts = 0
        self.seen = time.monotonic()  # when the atlas was last known to be there
        self.progress: Progress
        self.meters = Meters()  # of a cluster that this process has joined: its own

    def carry_out(self) -> RunReport:
        """Compute, assemble, report. However it ends, the run's row says so, unless the process is killed."""
        try:
            try:
                return self._carry_out()
            except NothingThere:  # of what this run itself wrote or saw
                self._require_there()
                raise
        except (AtlasError, KeyboardInterrupt) as error:
            self.row.status = "failed" if isinstance(error, AtlasError) else "interrupted"
            self.row.finished = now()
            self.log("end", status=self.row.status, error=str(error))
            if not isinstance(error, StoreFull | StoreFailed):
                self.row.write(self.store)
            raise

    def _carry_out(self) -> RunReport:
        for job in self.graph.jobs.values():
            if job.stage.cut == "images" and job.done() and job.within(job.whole):
                self._finish_merge(job.whole)  # where a run was killed between a merge and this
        self.row.units_reused = sum(len(job.held) for job in self.graph.jobs.values())
        self.progress = Progress(self.plan, self.graph)
        units, shards = self.graph.ready(), self.shards.begin()
        self.log("start", units=len(units), shards=len(shards), reused=self.row.units_reused, machine=self.row.machine)
        missing = len(self.graph.missing())
        self.say(
            f"{missing} work units to do, {self.row.units_reused} already committed"
            + (f"; {sum(len(task.layers) for task in shards)} shards to assemble from these" if shards else "")
        )
        with self.progress:
            return self._close(self._compute([*units, *shards]) if units or shards else Outcome())

    def _compute(self, units: Sequence[Task]) -> Outcome:
        from jobs.ray_run import RayExecutor, on_every_node, ray_session
        from jobs.worker import remove_cache, settings_for

        config, machine = self.prepared.config, self.plan.machine
        settings = settings_for(self.prepared, self.plan, self._identities(), self.lock.me.nonce)
        policy = Policy(
            workers=machine.workers,
            retries=config.retries,
            hang_seconds=config.hang_seconds,
            grace_seconds=config.drain_seconds,
            idle_seconds=config.idle_patience,
        )
        self.progress.say(machine.text)
        with ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(Overheard(self.log)))
            if self.ray_is_up:
                self.meters = Meters(by_ray)
            else:
                stack.enter_context(ray_session(None, machine))
            stack.enter_context(self.stop)
            beat, labels = min(5.0, config.hang_seconds / 4), selector(config.node_label)
            executor = RayExecutor(settings, machine, self.plan.peak, beat, labels)
            try:
                return Loop(units, executor, policy, self, self._stop).run()
            finally:
                self.meters.tell(self.progress)
                on_every_node(remove_cache, self.lock.me.nonce)

    def _identities(self) -> dict[tuple[str, str], Any]:
        """Of every stage that this run computes or reads, by stage and slug."""
        held = {(name, one.description.slug): own for one in self.prepared.models for name, own in one.earlier.items()}
        return held | {(job.stage.name, job.slug): job.identity for job in self.graph.jobs.values()}

    def _stop(self) -> Stop:
        return Stop.DRAIN if self.lock.lost or self.stop.signal is not None else Stop.NO

    # What the loop tells.

    def started(self, worker: int, unit: Task, attempt: int) -> None:
        self.log("started", unit=str(unit), worker=worker, attempt=attempt)
        if isinstance(unit, WorkUnit):
            self.progress.started(unit)

    def stopping(self, flying: int, seconds: float) -> None:
        self.log("stopping", signal=self.stop.signal, in_flight=flying)
        self.progress.say(
            f"Stopping: no new units; {flying} at work have {seconds:g} s to end "
            "(--drain-seconds). Again to leave at once."
        )

    def let_go(self, workers: Sequence[int], seconds: float) -> None:
        self.log("workers let go", workers=list(workers), seconds=seconds)

    def committed(self, worker: int, unit: Task, receipt: Receipt, seconds: float, peak: Peak) -> Iterable[Task]:
        if isinstance(receipt, ShardReceipt):
            return self._assembled(worker, receipt, seconds, peak)
        unit = receipt.unit
        self.receipts += 1
        failpoint("receipt", str(unit), self.receipts)
        self.log(
            "committed",
            unit=str(unit),
            worker=worker,
            seconds=round(seconds, 3),
            bytes=receipt.bytes,
            adopted=not receipt.created,
            peak_bytes=peak.process,
            device_peak_bytes=peak.device,
            batch=peak.batch,
            cpu_seconds=round(peak.cpu_seconds, 3),
        )
        self.row.units_done += 1
        self.graph.add(unit)
        counts = self.progress.committed(unit, seconds)
        self.meters.committed(unit, seconds, counts=counts)
        self._remove_merged(unit)
        return [*self.graph.ready(), *self.shards.after(unit)]

    def _assembled(self, worker: int, receipt: ShardReceipt, seconds: float, peak: Peak) -> Iterable[Task]:
        self.log(
            "assembled",
            unit=str(receipt.unit),
            worker=worker,
            shards=receipt.shards,
            bytes=receipt.bytes,
            seconds=round(seconds, 3),
            peak_bytes=peak.process,
        )
        self.progress.assembled(receipt.shards)
        return self.shards.settled(receipt.unit)

    def last(self) -> Iterable[Task]:
        return self.shards.last()

    def _finish_merge(self, unit: WorkUnit) -> None:
        """Remove the slices of a merge that an earlier run made, once it is seen to be sound."""
        if is_sound(self.store, unit):
            self._remove_merged(unit)
        else:
            put_part_aside(self.store, unit)
            self.graph.lost(unit)
            self._say_damaged([unit])

    def _remove_merged(self, unit: WorkUnit) -> None:
        """Remove the slices that a committed merge holds."""
        for merged in self.graph.superseded(unit):
            self.store.delete(part_path(merged))

    def _ended(self, unit: Task | None) -> None:
        """Nobody is at a unit any more, though it is not done."""
        if isinstance(unit, WorkUnit):
            self.progress.ended(unit)

    def part_lost(self, reader: Task, lost: WorkUnit, fault: Fault) -> Iterable[Task] | None:
        """A unit found what it reads damaged or gone: that is made again first, unless it was too often.

        Not of a stage that this run leaves alone: nobody would make it.
        """
        self._ended(reader)
        if isinstance(reader, Assembly):
            return self._part_of_shard_lost(reader, lost)
        if (lost.stage, lost.slug) not in self.graph.jobs:
            return None
        if self.graph.holds(lost):  # else it is being made again already, and one more reader waits for it
            self.shards.repaired[lost] += 1
            if self.shards.repaired[lost] > MOST_REPAIRS:
                return None
            put_part_aside(self.store, lost)
            self._say_damaged([lost])
        self.graph.lost(lost, reader)
        return self.graph.ready()

    def resting(self, worker: int, unit: Task, fault: Fault) -> None:
        self._ended(unit)
        self.log("store did not answer", unit=str(unit), worker=worker, error=str(fault), trace=fault.trace)
        self.progress.say(f"The store did not answer worker {worker}; {unit} is queued again: {fault}")

    def not_starting(self, count: int, seconds: float, shortage: str) -> None:
        self.log("workers do not start", count=count, seconds=round(seconds), shortage=shortage)
        self.progress.say(f"{count} worker(s) asked for {seconds:.0f} s ago did not start yet. {shortage}")

    def stage_ended(self, unit: WorkUnit, others: Sequence[Task], fault: Fault) -> None:
        self.log("stage ended", stage=unit.stage, slug=unit.slug, units=len(others), error=str(fault))
        self.progress.say(f"{len(others)} more units of {unit.stage} of {unit.slug} were given up with it")
        for one in others:
            if isinstance(one, WorkUnit):
                self.progress.gave_up(one)
                self.meters.gave_up(one)

    def _part_of_shard_lost(self, reader: Assembly, lost: WorkUnit) -> Iterable[Task] | None:
        """Shards wait for a part of theirs that is made again; where nobody does, they are written without it."""
        if not self.shards.take_back(lost, reader.table):
            return None
        self._say_damaged([lost])
        waiting = self.shards.settled(reader, written=False)
        target = Target.of(reader)
        again = self.shards.due(target) if self.shards.ready(target) and not waiting else []
        return [*self.graph.ready(), *waiting, *again]

    def retrying(self, unit: Task, attempt: int, fault: Fault) -> None:
        self.log("retrying", unit=str(unit), attempt=attempt, error=str(fault), trace=fault.trace)
        if isinstance(unit, WorkUnit):
            self.meters.retrying(unit)
        self._ended(unit)

    def put_aside(self, unit: Task, reason: str) -> None:
        self._ended(unit)
        self.log("put aside", unit=str(unit), reason=reason)
        self.progress.say(f"Memory ran out at {unit}: it is done alone, when nothing else is left to do.")

    def starved(self, unit: Task, reason: str) -> str:
        if isinstance(unit, Assembly):
            return super().starved(unit, reason)
        machine = self.plan.machine
        job = self.plan.job(unit.stage, unit.slug)
        need = job.needs.get(1, 0.0) if job else 0.0
        if machine.device == "cuda":
            return f"needs about {in_gigabytes(need)} on a GPU, with one image at a time: {reason}"
        needed, has = BASE[machine.device] + need, machine.workers * machine.memory
        estimate = "needs about" if needed > has else "needs, unlike the estimate, more than about"
        amounts = f"{estimate} {in_gigabytes(needed)}, has {in_gigabytes(has)}"
        return f"{amounts}, alone and with one image at a time: {reason}"

    def gave_up(self, unit: Task, fault: Fault) -> None:
        self.log("gave up", unit=str(unit), error=str(fault), trace=fault.trace)
        if isinstance(unit, Assembly):
            self.shards.give_up(unit)
        else:
            record_failure(self.store, unit, fault, self.row.run_id)
            self.progress.gave_up(unit)
            self.meters.gave_up(unit)
        self.progress.say(f"Gave up {unit}: {fault}")

    def lost(self, worker: int, unit: Task | None, reason: str) -> None:
        self._ended(unit)
        self.meters.lost()
        self.log("worker lost", unit=str(unit) if unit else None, worker=worker, reason=reason)
        if unit:
            self.progress.say(f"Worker {worker} was lost while doing {unit}, which is queued again: {reason}")
        else:
            self.progress.say(f"Worker {worker} was lost: {reason}")

    def tick(self, todo: int, flying: int, workers: int) -> None:
        self.progress.tick(workers, flying)
        self.meters.tick(self.progress)
        if time.monotonic() - self.seen >= LOOK_SECONDS:
            self._require_there()

    def _require_there(self) -> None:
        """StoreFailed where the atlas was deleted under the run: what workers commit now would be a ruin of it."""
        self.seen = time.monotonic()
        if not self.store.exists(shard_path(MODELS, self.prepared.models[0].description.slug)):
            raise StoreFailed(
                f"{self.store.url}: the atlas was deleted or moved while this run wrote to it; what was written since "
                "is no whole atlas. Put it back, or delete what is there now, and run the same command again."
            )

    def _say_damaged(self, units: Iterable[WorkUnit]) -> None:
        for unit in units:
            self.log("damaged part put aside", unit=str(unit), path=part_path(unit))
            again = "is done again" if (unit.stage, unit.slug) in self.graph.jobs else "is none of this run's"
            self.say(f"The part of {unit} was damaged and was put aside (.atlas/quarantine); that unit {again}.")

    # The end.

    def _close(self, outcome: Outcome) -> RunReport:
        """Assemble what can be read, close the run's record, and say how it stands."""
        report = RunReport(
            self.row.run_id,
            self.store.url,
            units_done=self.row.units_done,
            units_reused=self.row.units_reused,
            units_failed=sum(not isinstance(task, Assembly) for task in outcome.failed),
            workers_lost=outcome.workers_lost,
        )
        missing = self.graph.missing()
        unassembled = [task for task in outcome.failed if isinstance(task, Assembly)]
        lacking: list[Task] = [*missing, *unassembled]
        report.missing = [missing_text(task) for task in lacking]
        report.neurons = self._held_neurons(missing)
        self._verdict(report, outcome)
        try:
            left = self.shards.assemble_rest(REST_SECONDS)  # `validate` names the gaps
            if left:
                self.log("not assembled", shards=[f"{one.table}/{one.slug}" for one in left])
                self.progress.say(f"Shards of {len(left)} tables were not assembled any more; the next run does that.")
            forget_failures(self.store, self.graph.covers)
            release(self.store, replaced_in(self.graph))
            self._write_card()
        except WorkFailed as error:  # the store fails, or some other model's shard is damaged
            report.status, report.exit_code, report.error = "failed", 1, report.error or str(error)
        self._write_row(report, outcome)  # last: a run is done when everything is written
        return report

    def _write_card(self) -> None:
        """The card of all that stands: written once more where another driver's shards came while it was made."""
        for _ in range(MOST_CARDS):
            before = self._stamps() if self.prepared.config.shard else {}
            write_card(self.store)
            if not before or self._stamps() == before:
                return

    def _stamps(self) -> dict[str, str]:
        return {path: stamp for name in TABLES for path, stamp in self.store.stamps(name).items()}

    def _held_neurons(self, missing: Sequence[WorkUnit]) -> int:
        """Neurons of this run's selection that all its stages describe."""
        if not any(stage.cut == "neurons" for stage in self.prepared.stages):
            return 0
        gaps: dict[tuple[str, int], list[Range]] = {}
        for unit in missing:
            if isinstance(unit.cut, Neurons):
                gaps.setdefault((unit.slug, unit.cut.layer), []).append((unit.start, unit.stop))
        unseen = sum(length(union(ranges)) for ranges in gaps.values())
        return sum(model.neurons for model in self.plan.models) - unseen

    def _write_row(self, report: RunReport, outcome: Outcome) -> None:
        self.row.status, self.row.finished = report.status, now()
        self.row.units_failed = report.units_failed
        self.row.failures = [{"unit": str(unit), "error": str(fault)} for unit, fault in outcome.failed.items()]
        report.seconds = (self.row.finished - self.row.started).total_seconds()
        self.log(
            "end",
            status=report.status,
            done=report.units_done,
            failed=report.units_failed,
            missing=len(report.missing),
            seconds=round(report.seconds, 1),
            error=report.error,
        )
        try:
            self.row.write(self.store)
        except WorkFailed as error:
            report.status, report.exit_code, report.error = "failed", 1, report.error or str(error)

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
