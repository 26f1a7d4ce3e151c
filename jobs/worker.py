"""What one worker process does: keep a model loaded, compute a unit, commit its part, answer with a receipt.

A plain class without Ray: `ray_run` makes it an actor, a notebook or a test may call it as it stands. It knows no
stage by name: what a unit computes, and how slices merge, its stage says.
"""

from __future__ import annotations

import errno
import platform
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from atlas_schema.errors import AtlasError, DeviceWrong, NoNetwork, PartLost, StoreFailed, StoreFull, WeightsMismatch
from atlas_schema.partials import commit_partial
from atlas_schema.parts import PartReceipt, adopted, commit_part
from atlas_schema.store import Store
from atlas_schema.tables import tables_filled_by
from atlas_schema.units import Identity, Images, Pair, Readings, Whole, WorkUnit
from jobs.events import Fault, Scope
from jobs.failpoints import failpoint
from jobs.inputs import Inputs
from jobs.lock import LOCK_PATH, lock_path, read_holder
from jobs.memory import BASE, Gauge, Peak, enough, fitting_batch, give_back
from jobs.slices import merged
from jobs.stages import Sizes, Stage
from jobs.task import Assembly, Receipt, ShardReceipt, Task
from jobs.version import code_version
from jobs.work import Work

if TYPE_CHECKING:
    from jobs.plan import Plan
    from jobs.prepare import Prepared

SAFE_SHARE = 0.9  # of what is free on a GPU: the rest is lost between blocks


@dataclass(frozen=True)
class WorkerSettings:
    """Everything a worker needs to know; small, and sent once."""

    store_url: str
    requests: Mapping[str, Any]  # slug -> pipeline.models.ModelRequest
    fingerprints: Mapping[str, str]  # by slug: of the weights that the driver loaded
    stages: tuple[Stage, ...]
    identities: Mapping[tuple[str, str], Identity]  # by stage and slug
    inputs: Inputs
    device: str
    threads: int  # at most
    threads_fixed: bool  # the user said how many: no fewer either
    precision: str | None
    memory: int  # bytes that the worker's process may take
    sizes: Mapping[str, Sizes]  # by slug: what the needs of units follow from
    nonce: str  # of the driver's lock: a worker that does not see it writes to another folder
    lock: str = LOCK_PATH  # where it lies


def settings_for(
    prepared: Prepared, plan: Plan, identities: Mapping[tuple[str, str], Identity], nonce: str = ""
) -> WorkerSettings:
    """What the workers of a run are told. nonce: of the driver's lock; without one nobody is asked whether it holds."""
    config, machine = prepared.config, plan.machine
    return WorkerSettings(
        store_url=prepared.store.url,
        requests={description.slug: request for request, description in prepared.described},
        fingerprints={one.description.slug: one.fingerprint for one in prepared.models},
        stages=prepared.stages,
        identities=identities,
        inputs=prepared.inputs,
        device=machine.device,
        threads=machine.threads,
        threads_fixed=config.threads is not None,
        precision=config.precision,
        memory=machine.memory,
        sizes=plan.sizes,
        nonce=nonce,
        lock=lock_path(config.shard),
    )


@dataclass(frozen=True)
class Answer:
    """Receipt or fault of one attempt: never both, and never an image."""

    receipt: Receipt | None
    fault: Fault | None
    seconds: float
    peak: Peak = field(default_factory=Peak)


class Worker:
    """One process, one device; two models at most, of which one is at work."""

    def __init__(self, settings: WorkerSettings):
        self.settings = settings
        self.store = Store(settings.store_url)
        self.inputs = _with_cache(settings.inputs, settings.nonce)
        self.stages = {stage.name: stage for stage in settings.stages}
        self.steps = 0
        self.models: dict[str, Any] = {}  # by slug, the one used last at the end; two at most
        self.embedder: Any = None
        self.threads: dict[str, int] = {}  # by slug, with how many a model is quickest
        self.held: dict[Any, Any] = {}  # see Work.shared
        self.batch = 0  # of the unit at work
        self.at_stage = ""

    def ready(self) -> str:
        """Host name, once torch is there and the atlas is seen to be the driver's own folder."""
        import torch

        from pipeline.hooks.tf32 import exactly

        torch.set_num_threads(self.settings.threads)
        exactly()
        holder = read_holder(self.store, self.settings.lock)
        if self.settings.nonce and (holder is None or holder.nonce != self.settings.nonce):
            raise StoreFailed(
                f"{self.store.url}: a worker on {platform.node()} does not see what the driver wrote there. "
                "On a cluster the atlas must be a folder that all nodes share, or a URL such as s3://bucket/atlas."
            )
        return platform.node()

    def load(self, slug: str) -> None:
        """Load a model before its first unit, which else takes longer for it."""
        self._model(slug)

    def begin(self) -> None:
        """Answered when the worker comes to a unit; a loss after `run` was asked for may be the fault of the unit."""

    def beat(self) -> int:
        """Steps made so far; answered from a thread of its own while a unit is computed."""
        return self.steps

    def run(self, unit: Task, attempt: int, alone: bool = False) -> Answer:
        """Compute and commit one unit, or write shards from parts.

        Never raises what the computation raises: it comes back as a Fault.

        alone: no other worker is at work, as memory ran out before: everything is done in the least memory.
        """
        give_back()  # what the unit before needed
        began, gauge, self.batch = time.monotonic(), Gauge(self.settings.device), 0
        worked = time.process_time()
        receipt: Receipt | None = None
        fault = None
        try:
            if isinstance(unit, Assembly):
                receipt = self._assemble(unit, attempt, alone)
            else:
                receipt = self._run(unit, attempt, alone)
        except Exception as error:
            fault = fault_of(error)
        took = replace(gauge.peak, batch=self.batch, cpu_seconds=time.process_time() - worked)
        return Answer(receipt, fault, time.monotonic() - began, took)

    def _run(self, unit: WorkUnit, attempt: int, alone: bool) -> PartReceipt:
        failpoint("start", str(unit), attempt)
        if there := adopted(self.store, unit):  # a late commit of a worker thought lost, or another driver's
            return there
        result = self._computed(unit, attempt, alone)
        failpoint("before_commit", str(unit), attempt)
        receipt = self._commit(unit, result)
        failpoint("after_commit", str(unit), attempt)
        return receipt

    def _assemble(self, task: Assembly, attempt: int, alone: bool) -> ShardReceipt:
        """Write shards; models stay loaded beside them, unless memory ran out before."""
        failpoint("start", str(task), attempt)
        if alone:
            self.models.clear()
            self.held.clear()
            self.embedder = None

        def step() -> None:
            self.steps += 1
            failpoint("step", str(task), attempt)

        receipt = task.write(self.store, step)
        failpoint("after_commit", str(task), attempt)
        return receipt

    def _computed(self, unit: WorkUnit, attempt: int, alone: bool) -> Any:
        """The unit's result, with the largest batch that fits; where memory runs out all the same, with half of it."""
        from pipeline.models.device import forget_casts, is_out_of_memory

        stage = self.stages[unit.stage]
        sizes, room = self._sizes(unit), self._room()
        need = partial(stage.memory, sizes)
        self.batch = 1 if alone else fitting_batch(need, room, self.settings.device)
        if unit.stage != self.at_stage:
            forget_casts()  # half a model, made within a second
            self.at_stage = unit.stage
        self._let_go_of_others(unit, 0 if alone else enough(room, self.settings.device) - need(self.batch))
        while True:
            work = self._work(unit, attempt, room, sizes)
            try:
                work.step()
                result = merged(work, stage, unit) if isinstance(unit.cut, Images) else None
                return stage.compute(work, unit) if result is None else result
            except Exception as error:
                if not is_out_of_memory(error) or self.batch == 1:
                    raise
            # out of `except`: the exception held what the computation had made
            self.batch //= 2
            self._let_go_of_others(unit, 0)

    def _sizes(self, unit: WorkUnit) -> Sizes:
        partner = self.settings.sizes[unit.cut.partner].description if isinstance(unit.cut, Pair | Readings) else None
        return self.settings.sizes[unit.slug].at(unit.cut, partner)

    def _room(self) -> float:
        """Bytes for a unit and its weights: of the worker's share, or what is free on its GPU."""
        if not self.settings.device.startswith("cuda"):
            return self.settings.memory - BASE["cpu"]
        import torch

        free, _ = torch.cuda.mem_get_info()
        return SAFE_SHARE * (free + torch.cuda.memory_reserved())

    def _let_go_of_others(self, unit: WorkUnit, spare: float) -> None:
        """Drop what other units loaded where it takes more than the `spare` bytes."""
        own = {unit.slug} | ({unit.cut.partner} if isinstance(unit.cut, Pair | Readings) else set())
        sizes = self.settings.sizes
        others = [slug for slug in self.models if slug not in own]
        embedder = None if self.embedder is None or self.embedder.slug in own else self.embedder.slug
        if sum(sizes[slug].weights for slug in (*others, embedder) if slug) <= spare:
            return
        for slug in others:
            del self.models[slug]
        if embedder:
            self.embedder = None
        if not any(slug == unit.slug for slug, _ in self.held):
            self.held.clear()
        if self.settings.device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()

    def _commit(self, unit: WorkUnit, result: Any) -> PartReceipt:
        provenance = {"code_version": code_version()}
        if tables_filled_by(unit.stage):
            return commit_part(self.store, unit, result, provenance=provenance)
        return commit_partial(self.store, unit, result, provenance=provenance)

    def _work(self, unit: WorkUnit, attempt: int, room: float, sizes: Sizes) -> Work:
        import torch

        def step() -> None:
            self.steps += 1
            failpoint("step", str(unit), attempt)

        # per thread: Ray runs methods off the main thread
        torch.set_num_threads(self.threads.get(unit.slug, self.settings.threads))
        return Work(
            store=self.store,
            inputs=self.inputs,
            identities=self.settings.identities,
            whole=self._whole,
            device=self.settings.device,
            precision=self.settings.precision,
            model=self._model,
            request=self.settings.requests.__getitem__,
            embedder=self._embedder,
            batch=self.batch,
            room=room,
            sizes=sizes,
            step=step,
            held=self.held,
        )

    def _whole(self, name: str, slug: str) -> WorkUnit:
        """The unit that stands for all of a stage of a model; the embedder's own stages have its slug."""
        stage, inputs = self.stages[name], self.settings.inputs
        slug = inputs.embedder.slug if stage.owner == "embedder" else slug
        over = stage.passes_over(self.settings.sizes[slug].description)
        cut = Images(0, inputs.count(over)) if stage.cut == "images" else Whole()
        return self.settings.identities[name, slug].unit(name, slug, cut)

    def _embedder(self) -> Any:
        """The model that compares images with texts, loaded once."""
        if self.embedder is None:
            from pipeline.label.embedder import load_embedder

            choice = self.settings.inputs.embedder
            embedder = load_embedder(choice.request, self.settings.device)
            self._require(choice.slug, embedder.vision.fingerprint, choice.fingerprint)
            self.embedder = embedder
        return self.embedder

    def _model(self, slug: str) -> Any:
        """The model, loaded unless it is held, and made sure to be the driver's."""
        if slug in self.models:
            self.models[slug] = self.models.pop(slug)
            return self.models[slug]
        import torch

        from pipeline.hooks.device_check import require_sound
        from pipeline.models import load

        for other in list(self.models)[:-1]:  # free the memory before the next one comes
            del self.models[other]
        dtype = torch.float64 if self.settings.precision == "float64" else torch.float32
        model = load(self.settings.requests[slug], device=self.settings.device, dtype=dtype)
        self._require(slug, model.fingerprint, self.settings.fingerprints[slug])
        require_sound(model)
        self.models[slug] = model
        self._choose_threads(slug, model)
        self.steps += 1
        return model

    def _choose_threads(self, slug: str, model: Any) -> None:
        """Work with as many threads as the model is quickest with, measured once."""
        if self.settings.threads_fixed or self.settings.threads == 1 or self.settings.device != "cpu":
            return
        import torch

        from pipeline.models.device import quickest_threads

        if slug not in self.threads:
            self.threads[slug] = quickest_threads(model, self.settings.threads)
        torch.set_num_threads(self.threads[slug])

    @staticmethod
    def _require(slug: str, found: str, expected: str) -> None:
        if found != expected:
            raise WeightsMismatch(
                f"{slug}: the worker on {platform.node()} loaded weights with fingerprint "
                f"{found[:16]}, the driver has {expected[:16]}. The file changed or "
                "differs between machines; run the same command again."
            )


def _with_cache(inputs: Inputs, name: str) -> Inputs:
    """The inputs, with a cache of decoded images that the workers of this node share; none without a name."""
    if inputs.probe_set is None or not name:
        return inputs
    from pipeline.images.pixel_cache import PixelCache, sweep

    sweep(keep=name)  # of runs that were killed
    return replace(inputs, probe_set=replace(inputs.probe_set, cache=PixelCache(name)))


def remove_cache(name: str) -> None:
    """Delete what the workers of this node kept of decoded images."""
    from pipeline.images.pixel_cache import PixelCache

    PixelCache(name).remove()


def fault_of(error: Exception) -> Fault:
    """The exception as a record, with what it speaks against."""
    from pipeline.models.device import is_out_of_memory

    lost = error.unit if isinstance(error, PartLost) and isinstance(error.unit, WorkUnit) else None
    starved = is_out_of_memory(error)
    return Fault(type(error).__name__, str(error), traceback.format_exc(), _scope(error), lost, starved)


def _scope(error: Exception) -> Scope:
    if isinstance(error, StoreFull) or (isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)):
        return Scope.RUN
    if isinstance(error, StoreFailed | NoNetwork):
        return Scope.STORE
    if isinstance(error, WeightsMismatch | DeviceWrong):
        return Scope.WORKER
    asked_too_much = isinstance(error, AtlasError) and error.exit_code == AtlasError.exit_code
    return Scope.STAGE if asked_too_much else Scope.UNIT
