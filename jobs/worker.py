"""What one worker process does: keep a model loaded, compute a unit, commit its part, answer with a receipt.

A plain class without Ray: `ray_run` makes it an actor, a notebook or a test may call it as it stands.
"""

from __future__ import annotations

import errno
import platform
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from atlas_schema.errors import AtlasError, StoreFailed, StoreFull, WeightsMismatch
from atlas_schema.parts import PartReceipt, WorkUnit, commit_part
from atlas_schema.store import Store
from jobs.failpoints import failpoint
from jobs.lock import read_holder
from jobs.loop import Fault
from jobs.version import code_version


@dataclass(frozen=True)
class WorkerSettings:
    """Everything a worker needs to know; small, and sent once."""

    store_url: str
    requests: Mapping[str, Any]  # slug -> pipeline.models.ModelRequest
    fingerprints: Mapping[str, str]  # by slug: of the weights that the driver loaded
    recipe: Any  # pipeline.visualize.recipes.Recipe
    device: str
    threads: int
    precision: str | None
    nonce: str  # of the driver's lock: a worker that does not see it writes to another folder
    measuring: Any = None  # jobs.measuring.Measuring, where there are stages behind visualize


@dataclass(frozen=True)
class Answer:
    """Receipt or fault of one attempt: never both, and never an image."""

    receipt: PartReceipt | None
    fault: Fault | None
    seconds: float


class Worker:
    """One process, one device; two models at most, of which one is at work."""

    def __init__(self, settings: WorkerSettings):
        self.settings = settings
        self.store = Store(settings.store_url)
        self.steps = 0
        self.models: dict[str, Any] = {}  # by slug, the one used last at the end; two at most
        self.embedder: Any = None
        self.causes: dict[str, Any] = {}  # of the model used last

    def ready(self) -> str:
        """Host name, once torch is there and the atlas is seen to be the driver's own folder."""
        import torch

        torch.set_num_threads(self.settings.threads)
        holder = read_holder(self.store)
        if self.settings.nonce and (holder is None or holder.nonce != self.settings.nonce):
            raise StoreFailed(
                f"{self.store.url}: a worker on {platform.node()} does not see what the driver wrote there. "
                "On a cluster the atlas must be a folder that all nodes share, or a URL such as s3://bucket/atlas."
            )
        return platform.node()

    def beat(self) -> int:
        """Steps made so far; answered from a thread of its own while a unit is computed."""
        return self.steps

    def run(self, unit: WorkUnit, attempt: int) -> Answer:
        """Compute and commit one unit. Never raises what the computation raises: it comes back as a Fault."""
        began = time.monotonic()
        try:
            receipt = self._run(unit, attempt)
        except Exception as error:
            return Answer(None, fault_of(error), time.monotonic() - began)
        return Answer(receipt, None, time.monotonic() - began)

    def _run(self, unit: WorkUnit, attempt: int) -> PartReceipt:
        failpoint("start", str(unit), attempt)
        if self.store.exists(unit.path):  # a late commit of a worker thought lost, or another driver's
            return PartReceipt(unit, unit.path, unit.stop - unit.start, self.store.size(unit.path), created=False)
        if unit.stage == "visualize":
            rows = self._rows(self._model(unit.slug), unit, attempt)
            failpoint("before_commit", str(unit), attempt)
            receipt = commit_part(self.store, unit, rows, provenance=self._provenance(rows))
        else:
            receipt = self._measure(unit, attempt)
        failpoint("after_commit", str(unit), attempt)
        return receipt

    def _measure(self, unit: WorkUnit, attempt: int) -> PartReceipt:
        """A unit of a stage behind visualize."""
        import torch

        from jobs.heads import HEAD_TASKS
        from jobs.pairs import compare
        from jobs.tasks import TASKS, Surroundings

        def step() -> None:
            self.steps += 1
            failpoint("step", str(unit), attempt)

        torch.set_num_threads(self.settings.threads)
        step()
        at = Surroundings(
            store=self.store,
            measuring=self.settings.measuring,
            model=self._model,
            embedder=self._embedder,
            causes=lambda slug: self._causes(slug, step),
            step=step,
            provenance={"code_version": code_version()},
            device=self.settings.device,
            before_commit=lambda: failpoint("before_commit", str(unit), attempt),
        )
        return {**TASKS, **HEAD_TASKS, "pairs": compare}[unit.stage](at, unit)

    def _causes(self, slug: str, step: Callable[[], None]) -> Any:
        if slug not in self.causes:
            from jobs.tasks import causes_of

            settings = self.settings
            made = causes_of(self._model(slug), settings.measuring, settings.requests[slug], settings.device, step)
            self.causes = {slug: made}
        return self.causes[slug]

    def _embedder(self) -> Any:
        """The model that compares images with texts, loaded once."""
        if self.embedder is None:
            from pipeline.label.embedder import load_embedder

            choice = self.settings.measuring.embedder
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

        from pipeline.models import load

        for other in list(self.models)[:-1]:  # free the memory before the next one comes
            del self.models[other]
        dtype = torch.float64 if self.settings.precision == "float64" else torch.float32
        model = load(self.settings.requests[slug], device=self.settings.device, dtype=dtype)
        self._require(slug, model.fingerprint, self.settings.fingerprints[slug])
        self.models[slug] = model
        self.steps += 1
        return model

    @staticmethod
    def _require(slug: str, found: str, expected: str) -> None:
        if found != expected:
            raise WeightsMismatch(
                f"{slug}: the worker on {platform.node()} loaded weights with fingerprint "
                f"{found[:16]}, the driver has {expected[:16]}. The file changed or "
                "differs between machines; run the same command again."
            )

    def _rows(self, model: Any, unit: WorkUnit, attempt: int) -> list[dict[str, Any]]:
        import torch

        from pipeline.visualize.ascent import visualize

        def on_step(*_: object, **__: object) -> None:
            self.steps += 1
            failpoint("step", str(unit), attempt)

        torch.set_num_threads(self.settings.threads)  # per thread: Ray runs methods off the main thread
        site = model.description.ffn_sites[unit.layer]
        pictures = visualize(
            model,
            site,
            range(unit.start, unit.stop),
            self.settings.recipe,
            seed=unit.seed,
            precision=self.settings.precision,
            on_step=on_step,
        )
        return [picture.row() for picture in pictures]

    def _provenance(self, rows: list[dict[str, Any]]) -> dict[str, str]:
        return {
            "code_version": code_version(),
            "precision": str(rows[0]["precision"]),
            "recipe": self.settings.recipe.name,
        }


def fault_of(error: Exception) -> Fault:
    """The exception as a record; fatal where no other unit could succeed either."""
    hopeless = isinstance(error, StoreFull | StoreFailed)
    misuse = isinstance(error, AtlasError) and error.exit_code == AtlasError.exit_code
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    fatal = hopeless or misuse or full
    return Fault(type(error).__name__, str(error), traceback.format_exc(), fatal)
