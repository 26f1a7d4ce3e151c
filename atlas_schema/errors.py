"""Every exception of the project. The message is the whole of what a user is told.

A message names the input, says what was expected and what to do next; the command line prints it without a
traceback and leaves with `exit_code`: 2 where the request cannot be met as given, 1 where work was begun and
did not succeed. Messages are the only constructor argument that matters, so that an exception travels between
processes (pickle) unchanged. This module imports nothing heavy: `--help` loads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher


class AtlasError(Exception):
    """Something the user can put right. `str(error)` is complete."""

    exit_code = 2


class WorkFailed(AtlasError):
    """Work was begun and did not succeed; what is committed stands."""

    exit_code = 1


class BadAddress(AtlasError):
    """A text that is no address, no slug, or no name a slug can be made of."""


class BadConfig(AtlasError):
    """A setting that does not exist or has a value it cannot have."""


class UnknownModel(AtlasError):
    """No library knows a model of this name."""


class UnknownFamily(AtlasError):
    """A model whose form no family describes."""


class UnknownRecipe(AtlasError):
    """No visualization recipe has this name."""


class SiteMissing(AtlasError):
    """A family promises a module that this model does not have."""


class WeightsMismatch(AtlasError):
    """Weights that do not fit the architecture: keys or shapes differ."""


class DeviceWrong(AtlasError):
    """A device that computes other numbers than the CPU does."""


class WeightsUnreadable(AtlasError):
    """A weights file that is truncated, of a foreign format, or unsafe to load."""


class NoNetwork(AtlasError):
    """Something must be fetched and the network does not answer."""


class SlugClash(AtlasError):
    """Two models claim one slug."""


class ForeignAtlas(AtlasError):
    """A folder, part or shard that belongs to another model, recipe, seed or schema. It is left as it is."""


class AtlasLocked(AtlasError):
    """Another driver is writing to this atlas."""


class NothingThere(AtlasError):
    """A model, layer, neuron or file that the atlas does not hold."""


class NotValid(WorkFailed):
    """An atlas that `validate` finds fault with: it is not published."""


class StoreFull(WorkFailed):
    """No space left where the atlas is written."""


class StoreFailed(WorkFailed):
    """The store refuses or does not answer; whether the last write landed may be unknown."""


class NotFinite(WorkFailed):
    """NaN or infinity where a number was measured."""


class BadRow(WorkFailed):
    """A row that its table does not allow: a bug in the stage that made it."""


class BadImage(WorkFailed):
    """An image of a probe set that cannot be decoded, or is no longer the one the set was opened with."""


class ShardCorrupt(WorkFailed):
    """A part or shard that is damaged, or is not what its name says. `path` is its place in the store."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class PartLost(WorkFailed):
    """A committed part that another stage reads is damaged or gone; `unit` is the work unit that made it."""

    def __init__(self, message: str, unit: object = None) -> None:
        super().__init__(message, unit)  # all arguments, so that it travels between processes whole
        self.message, self.unit = message, unit

    def __str__(self) -> str:
        return self.message


def nearest(name: str, candidates: Iterable[str], n: int = 3) -> list[str]:
    """Up to `n` candidates a user may have meant by `name`, most alike first; none where none is alike.

    Likeness is difflib's ratio without regard to case; a candidate that contains the name counts as alike
    (`deit_tiny` finds `deit_tiny_patch16_224`). Equally alike candidates come in alphabetical order.
    """
    wanted = name.casefold()
    matcher = SequenceMatcher(b=wanted)
    scored: list[tuple[float, str]] = []
    for candidate in set(candidates):
        other = candidate.casefold()
        matcher.set_seq1(other)
        contains = 1.0 if wanted and wanted in other else 0.0
        # The two quick bounds are cheap and let a registry of thousands of names be searched at once.
        if not contains and (matcher.real_quick_ratio() < 0.6 or matcher.quick_ratio() < 0.6):
            continue
        likeness = matcher.ratio()
        if contains or likeness >= 0.6:
            scored.append((-likeness - contains, candidate))
    return [candidate for _, candidate in sorted(scored)[:n]]
