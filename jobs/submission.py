"""A command line for a cluster that is elsewhere: checked here, with the small files that it names beside it.

Pure but for reading those files: `jobs.commands.submit` speaks with the cluster.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from atlas_schema.errors import BadConfig
from atlas_schema.store import folder_of
from jobs.config import CLOSING_SECONDS, PROBE_CLASSES, RunConfig

COMMANDS = ("plan", "run", "status")
MOST_BYTES = 5 << 20  # of one such file: they pass through the head of the cluster
HOME = "submitted"  # the folder, in the job's own, in which they lie there
_OPTIONAL = {"concepts": ("general", "zoo"), "features": ("general", "zoo"), "prompts": ("zoo",)}
_SHIPPED = {**_OPTIONAL, "texts": _OPTIONAL["concepts"], "class_names": (PROBE_CLASSES,)}
"""What an option may say that is no file: a set that ships with the project."""


@dataclass(frozen=True)
class Submission:
    """What the cluster is to do: `words` behind `neuron-atlas`, and files by their path in the job's folder."""

    words: tuple[str, ...]
    atlas: str
    patience: int  # seconds that the job needs to end after SIGTERM
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def entrypoint(self) -> str:
        """The command line that the head carries out."""
        return shlex.join(["neuron-atlas", *self.words])

    @property
    def command(self) -> str:
        """plan, run or status."""
        return self.words[0]


Parse = Callable[[Sequence[str]], Mapping[str, Any]]
"""The real command line: its arguments by their names; `flags` resolve to a `RunConfig`. BadConfig for mistakes."""


def submission_of(words: Sequence[str], parse: Parse, mounted: Sequence[str] = ()) -> Submission:
    """Check a command line, as the cluster will see it. mounted: folders that all nodes mount at the same path.

    BadConfig for another command than plan, run and status, for options that are wrong, for a place that only this
    machine sees, and for a file that is not there or too large to send. All places are named at once.
    """
    if not words or words[0] not in COMMANDS:
        given = f"`{words[0]}`" if words else "nothing"
        raise BadConfig(
            f"submit: expected plan, run or status with its options behind `--`, found {given}. For example: "
            "neuron-atlas submit --address http://HEAD:8265 -- run --model zoo/vit --out s3://bucket/atlas"
        )
    if words[0] == "status":
        return _status(words, parse, mounted)
    if words[0] == "run" and not any(word.partition("=")[0] == "--address" for word in words):
        words = [*words, "--address", "auto"]
    bound = parse(words)
    config: RunConfig = bound["flags"].resolve()
    if config.address not in (None, "auto"):
        raise BadConfig(
            f"--address {config.address} behind `--`: the job runs on the cluster that it is submitted to. Leave that "
            "one out."
        )
    texts = {
        **{name: getattr(config, name) for name in ("concepts", "texts", "features", "prompts")},
        "config": bound["flags"].config,
        "prices": bound.get("prices"),
        "class_names": _one_of_all(entry.class_names for entry in config.models),
    }
    _refuse([*_local_places(config, words[0], mounted)])
    sent = {name: str(value) for name, value in texts.items() if _is_file(name, value, mounted)}
    files = {f"{HOME}/{name}{PurePosixPath(path).suffix}": _sendable(name, path) for name, path in sent.items()}
    remade = list(words)
    for name, path in zip(sent, files, strict=True):
        remade = _with_option(remade, name, path)
    return Submission(tuple(remade), config.out, round(config.drain_seconds + CLOSING_SECONDS), files)


def _status(words: Sequence[str], parse: Parse, mounted: Sequence[str]) -> Submission:
    atlas = str(parse(words).get("atlas", "atlas"))
    _refuse([*_unseen("the atlas", atlas, mounted)])
    return Submission(tuple(words), atlas, round(CLOSING_SECONDS))


def _local_places(config: RunConfig, command: str, mounted: Sequence[str]) -> Iterator[str]:
    """What is wrong with each place of a run that nodes of the cluster have to see."""
    if command == "run":
        yield from _unseen("--out", config.out, mounted)
    for entry in config.models:
        if entry.weights:
            yield from _unseen("--weights", entry.weights, mounted)
        if os.path.isdir(entry.model.removeprefix("open_clip/local-dir:")):
            yield from _unseen("--model", entry.model.removeprefix("open_clip/local-dir:"), mounted)
    probe = (config.probe or "zoo").partition("#")[0]
    if probe != "zoo" and not probe.startswith(("zoo:", "hf:")):
        yield from _unseen("--probe", probe, mounted)


def _unseen(option: str, place: str, mounted: Sequence[str]) -> Iterator[str]:
    """Why nodes of the cluster do not see a place, and what would do; nothing for a URL and below a shared folder."""
    folder = folder_of(place)
    if folder is None:
        if place.startswith("memory://"):
            yield f"{option} {place}: the memory of one process. Give a URL such as s3://bucket/atlas."
        return
    if not folder.is_absolute():
        yield (
            f"{option} {place}: a relative path, which on the cluster is another folder that goes with the job. Give a "
            "URL such as s3://bucket/atlas, or the whole path of a folder that every node mounts, with --mounted."
        )
    elif not _below(folder, mounted):
        yield (
            f"{option} {place}: a path on this machine, as far as is known. Give a URL such as s3://bucket/atlas; "
            f"or, where every node of the cluster mounts it at this very path, say so: --mounted {folder.parent}"
        )


def _below(folder: Path, mounted: Sequence[str]) -> bool:
    return any(folder.is_relative_to(Path(one).expanduser()) for one in mounted)


def _refuse(reasons: Sequence[str]) -> None:
    if reasons:
        raise BadConfig("submit: the cluster does not see what is named here.\n  " + "\n  ".join(reasons))


def _is_file(name: str, value: Any, mounted: Sequence[str]) -> bool:
    """Whether an option names a file that has to be sent: no shipped set, no URL, nothing that all nodes mount."""
    if value is None or str(value) in _SHIPPED.get(name, ()):
        return False
    folder = folder_of(str(value))
    return folder is not None and not (folder.is_absolute() and _below(folder, mounted))


def _sendable(name: str, path: str) -> Path:
    file = folder_of(path)
    assert file is not None
    flag = _flag(name)
    if not file.is_file():
        raise BadConfig(f"{flag} {path}: no such file here. It would be sent along; name a file, or a URL.")
    if file.stat().st_size > MOST_BYTES:
        raise BadConfig(
            f"{flag} {path}: {file.stat().st_size:,} bytes, and at most {MOST_BYTES:,} are sent along. Put it where "
            "the cluster reads it, and give its URL."
        )
    return file


def _one_of_all(names: Iterator[str | None]) -> str | None:
    found = sorted({name for name in names if name})
    if len(found) > 1:
        raise BadConfig(
            f"submit: models name their classes in {len(found)} files ({', '.join(found)}); one can be sent along. Put "
            "them where the cluster reads them, or submit the models one by one."
        )
    return found[0] if found else None


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _with_option(words: Sequence[str], name: str, value: str) -> list[str]:
    """The words with an option set: in its place if it is there (`--x VALUE`, `--x=VALUE`), else at the end."""
    flag, made = _flag(name), list(words)
    for place, word in enumerate(made):
        if word == flag:
            made[place + 1] = value
            return made
        if word.startswith(f"{flag}="):
            made[place] = f"{flag}={value}"
            return made
    return [*made, flag, value]
