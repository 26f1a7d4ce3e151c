"""What the Hub allows, and what a push would take: files, bytes, commits, requests."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from atlas_schema.errors import BadConfig
from atlas_schema.tables import LAYER_TABLES, TABLES
from jobs.publishing.hub import State
from jobs.publishing.selection import Item, Selection, is_record

#: What the Hub's documentation recommends at most or its answers enforce (2026):
#: https://huggingface.co/docs/hub/repositories-recommendations, https://huggingface.co/docs/hub/rate-limits
FILES = 100_000  # in a repository
FOLDER = 10_000  # entries of a folder
COMMITS = 128  # an hour, of one repository
REQUESTS = 1_000  # to the API in five minutes, with a free account
LISTED = 1_000  # entries of a listing in one answer
ASKED = 256  # files that the client asks about in one request

LARGE_A_COMMIT = 100  # files that the Hub recommends at most in one commit
SMALL = 0.1  # what a small file weighs against a large one: it travels inside the commit
BYTES_A_COMMIT = 5 << 30


def is_small(item: Item) -> bool:
    """Whether the Hub keeps a file in Git itself, not in the store of large files."""
    return not item.path.endswith((".parquet", ".rows"))


def batches(items: Iterable[Item]) -> list[list[Item]]:
    """Files by commit: tables of layers, then the others, records, and last the card and the listing."""
    made: list[list[Item]] = []
    weight = size = math.inf
    for item in sorted(items, key=_place):
        own = SMALL if is_small(item) else 1.0
        if weight + own > LARGE_A_COMMIT or size + item.size > BYTES_A_COMMIT:
            made.append([])
            weight, size = 0.0, 0
        made[-1].append(item)
        weight, size = weight + own, size + item.size
    return made


def _place(item: Item) -> tuple[int, str]:
    table = item.path.partition("/")[0]
    if table in LAYER_TABLES:
        return 0, item.path
    return (1 if table in TABLES else 2 if is_record(item.path) else 3), item.path


@dataclass(frozen=True)
class Cost:
    """What a push to the Hub would take; requests: at most, by the protocol that every server of the Hub speaks."""

    files: int
    bytes: int
    missing_files: int
    missing_bytes: int
    commits: int
    requests: int
    most_in_folder: int


def cost_of(selection: Selection, state: State, missing: Sequence[Item], tag: str) -> Cost:
    """state: of the repository; missing: the files to be sent."""
    commits = batches(missing)
    requests = 2 + _pages(state.files)  # what there is: the head, its tags, its listing
    if state.head is None:
        requests += 2  # it was not there; it is made
    changed = sum(item.is_shard and item.path in state.files for item in missing)
    requests += changed and 1 + 4 * changed  # their ends, by which it is seen that nothing is lost
    for commit in commits:
        large = sum(not is_small(item) for item in commit)
        requests += math.ceil(len(commit) / ASKED) + (large and math.ceil(large / ASKED) + large) + 1
    if commits:
        requests += 3 + _pages([*selection.items, *state.files])  # the card's check, and all of it looked at again
    return Cost(
        files=len(selection.items),
        bytes=selection.total,
        missing_files=len(missing),
        missing_bytes=sum(item.size for item in missing),
        commits=len(commits),
        requests=requests + 2 * bool(tag),
        most_in_folder=max(entries_of(selection.items).values()),
    )


def _pages(paths: Iterable[str]) -> int:
    """Answers that a listing of these files, and the folders they lie in, takes."""
    return math.ceil(max(1, sum(entries_of(paths).values())) / LISTED)


def entries_of(paths: Iterable[str]) -> Counter[str]:
    """How many files and folders each folder holds, "" being the top."""
    entries: dict[str, set[str]] = {}
    for path in paths:
        while path:
            folder, _, name = path.rpartition("/")
            entries.setdefault(folder, set()).add(name)
            path = folder
    return Counter({folder: len(names) for folder, names in entries.items()})


def require_within(selection: Selection) -> None:
    """BadConfig where the Hub would not take, or not serve well, as many files."""
    count = len(selection.items)
    if count > FILES:
        raise BadConfig(
            f"{selection.store.url}: {count:,} files to publish; the Hub takes {FILES:,} in a repository. Publish "
            "models in several repositories: `neuron-atlas pull ATLAS --model SLUG --out PART` makes a part"
        )
    folder, most = entries_of(selection.items).most_common(1)[0]
    if most > FOLDER:
        raise BadConfig(
            f"{selection.store.url}: {most:,} entries in the folder {folder or 'at the top'}; the Hub takes "
            f"{FOLDER:,}. Longer work units (--unit-seconds) leave fewer records"
        )
