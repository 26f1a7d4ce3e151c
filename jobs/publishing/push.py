"""push: an atlas goes to a dataset repository of the Hub, or to any other folder or URL.

Only what is missing there is sent, by the digest of each file, so that a push that broke off is ended by the same
command. On the Hub a release is a tag, set when everything has been found at one commit; nobody who reads by the tag
sees a publication before it is whole.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from atlas_schema.errors import BadConfig, NothingThere, StoreFailed
from atlas_schema.file_faults import some
from atlas_schema.published import HubUrl, hub_url
from atlas_schema.store import Store, folder_of
from jobs.lock import Holder, locked
from jobs.publishing.hub import LOGIN, Hub, State
from jobs.publishing.limits import Cost, batches, cost_of, require_within
from jobs.publishing.loss import left_behind, require_all, require_no_less
from jobs.publishing.place import push_to_store
from jobs.publishing.selection import Item, Selection, is_made, select
from jobs.records import new_run_id

Say = Callable[[str], None]
_TAG = re.compile(r"(?!main$)[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class Pushed:
    """What a push did, or with --dry-run would do."""

    target: str
    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    removed_files: int = 0
    commits: int = 0
    requests: int | None = None  # expected, at most; of the Hub alone
    most_in_folder: int = 0
    revision: str | None = None
    tag: str | None = None
    dry_run: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def push(
    atlas: str,
    target: str,
    *,
    tag: str | None = None,
    private: bool = False,
    replace: bool = False,
    dry_run: bool = False,
    say: Say = lambda text: None,
) -> Pushed:
    """Publish the atlas at `atlas`. Raises what the parts of this package raise; AtlasLocked while a run is at work."""
    url = hub_url(target)
    if url is None and (tag or private):
        raise BadConfig(f"{target}: {'--tag' if tag else '--private'} is of the Hub: expected hf://datasets/ORG/NAME")
    if tag is not None and not _TAG.fullmatch(tag):
        raise BadConfig(f"--tag {tag}: not the name of a tag; expected letters, digits, dots and hyphens, such as v1")
    if atlas.startswith(("hf://", "http://", "https://")):
        raise BadConfig(
            f"{atlas}: is published already; `neuron-atlas pull {atlas} --out FOLDER` first, then push FOLDER"
        )
    if os.path.realpath(atlas) == os.path.realpath(target):
        raise BadConfig(f"{target}: is the atlas itself; name another place")
    if url is not None and url.revision:
        raise BadConfig(f"{target}: a push goes to the branch main; expected {url.at('')} (--tag names a release)")
    store = Store(atlas)
    if not store.list("models"):
        raise NothingThere(f"{atlas}: no atlas here: expected a folder or URL with models/ and sites/ in it")
    if url is not None and not dry_run:
        Hub(url).require_token()  # before anything is read
    with (
        locked(store, f"push-{new_run_id()}", lambda holder: say(_watching(holder))),
        tempfile.TemporaryDirectory(prefix="neuron-atlas-") as made,
    ):
        say("Checking the atlas, and what of it stands in its tables")
        selection = select(store, url.repository if url else target, str(url or target), Path(made))
        if url is None:
            done = push_to_store(selection, Store(target), replace=replace, dry_run=dry_run, say=say)
            return Pushed(target, len(selection.items), selection.total, *done, dry_run=dry_run)
        return _push_to_hub(selection, Hub(url, say), tag or "", private, replace, dry_run)


def _watching(holder: Holder) -> str:
    return f"{holder.run_id} on {holder.host.split()[0]} left a lock; watching whether it lives."


def _push_to_hub(selection: Selection, hub: Hub, tag: str, private: bool, replace: bool, dry_run: bool) -> Pushed:
    require_within(selection)
    state = hub.state()
    missing = _missing(selection, state)
    cost = cost_of(selection, state, missing, tag)
    if state.head is not None:
        _require_free_tag(hub.url, state, tag, bool(missing))
        if private and not state.private:
            raise BadConfig(
                f"{hub.url}: is public already; --private is for a new repository. Change it in its settings"
            )
    gone = _gone(selection, hub.url, state, replace)
    if not replace and state.head is not None:
        changed = [item.path for item in missing if item.path in state.files]
        remedy = f"Bring it here first (`neuron-atlas pull {hub.url} --out {selection.store.url}`), or give --replace"
        require_no_less(selection.store, Store(str(hub.url.at(state.head))), changed, remedy)
    told = _pushed(selection, hub.url, cost, len(gone))
    if dry_run:
        return Pushed(**{**told, "dry_run": True, "revision": state.head, "tag": tag or None})
    if state.head is None:
        hub.create(private=private)
        state = hub.state()
        if state.head is None:
            raise BadConfig(f"{hub.url}: is there, and your token may not read it. {LOGIN}")
    revision = _send(selection, hub, state, missing, gone)
    if tag:
        hub.tag(tag, revision)
    return Pushed(**{**told, "revision": revision, "tag": tag or None})


def _pushed(selection: Selection, url: HubUrl, cost: Cost, gone: int) -> dict[str, Any]:
    return {
        "target": str(url),
        "files": cost.files,
        "bytes": cost.bytes,
        "sent_files": cost.missing_files,
        "sent_bytes": cost.missing_bytes,
        "removed_files": gone,
        "commits": cost.commits or int(gone > 0),
        "requests": cost.requests,
        "most_in_folder": cost.most_in_folder,
    }


def _missing(selection: Selection, state: State) -> list[Item]:
    """What the repository does not hold, or holds with other bytes."""
    return [
        item
        for item in selection.items.values()
        if item.path not in state.files or not state.files[item.path].is_same(item)
    ]


def _require_free_tag(url: HubUrl, state: State, tag: str, changes: bool) -> None:
    at = state.tags.get(tag)
    if at is not None and (changes or at != state.head):
        raise BadConfig(
            f"{url}: the tag {tag} stands at {at}, which holds something else; a tag that was published is not moved. "
            f"Choose another: there are {', '.join(sorted(state.tags))}"
        )


def _gone(selection: Selection, url: HubUrl, state: State, replace: bool) -> list[str]:
    """Files of an atlas that are to be removed from the repository: none but with --replace."""
    left = left_behind(state.files, selection.items)
    if not replace:
        require_all(str(url), left, selection.store.url)
        return []
    return left + [path for path in state.files if is_made(path) and path not in selection.items]


def _send(selection: Selection, hub: Hub, state: State, missing: Sequence[Item], gone: Sequence[str]) -> str:
    """Commit what is missing, batch by batch; the revision that holds everything. AtlasLocked, StoreFailed."""
    assert state.head is not None
    head, name = state.head, f"atlas {secrets.token_hex(4)}"
    commits = batches(missing) or ([[]] if gone else [])
    for number, batch in enumerate(commits, 1):
        size = sum(item.size for item in batch)
        hub.say(f"Commit {number} of {len(commits)}: {len(batch)} files, {size / 1e6:,.1f} MB")
        with _local(selection, batch) as additions:
            title = f"{name}, {number} of {len(commits)}"
            head = hub.commit(additions, gone if number == len(commits) else (), title, head)
    if commits:
        still = _missing(selection, hub.state(head))
        if still:
            raise StoreFailed(
                f"{hub.url}: at {head} the Hub shows other bytes than were sent of {len(still)} files "
                f"({some([item.path for item in still])}). No tag was set. Push again: these are sent once more"
            )
    return head


@contextmanager
def _local(selection: Selection, batch: Sequence[Item]) -> Iterator[dict[str, str | bytes]]:
    """Files of a batch as the client takes them: bytes of what was made, else paths on this machine."""
    folder = folder_of(selection.store.url)
    with tempfile.TemporaryDirectory(prefix="neuron-atlas-") as fetched:
        additions: dict[str, str | bytes] = {}
        for item in batch:
            if item.data is not None:
                additions[item.path] = item.data
            elif item.file is not None:
                additions[item.path] = str(item.file)
            elif folder is not None:
                additions[item.path] = str(folder / item.path)
            else:
                place = Path(fetched) / item.sha256
                place.write_bytes(selection.read(item))
                additions[item.path] = str(place)
        yield additions
