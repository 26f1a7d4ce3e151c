"""A dataset repository of the Hugging Face Hub: what it holds, and commits to it that nobody else's can cross.

Every commit names its parent, so that one made meanwhile by somebody else is noticed. A commit whose answer was lost is
looked for before it is sent again: its title says which push and which batch it is.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from atlas_schema.errors import AtlasLocked, BadConfig, NothingThere, StoreFailed
from atlas_schema.published import HubUrl

if TYPE_CHECKING:
    from jobs.publishing.selection import Item

Answer = TypeVar("Answer")
TIMEOUT = 60.0  # seconds without an answer after which a look-up has failed
PAUSES = (1.0, 4.0, 15.0, 60.0)  # seconds before a commit is tried again
_PASSING = {408, 425, 429, 500, 502, 503, 504}
LOGIN = "Log in with `hf auth login`, or set HF_TOKEN to a token that may write (huggingface.co/settings/tokens)"


@dataclass(frozen=True)
class Held:
    """A file of a repository: its size and what names its bytes, SHA-256 of a large one, Git's name of a small one."""

    size: int
    digest: str
    large: bool

    def is_same(self, item: Item) -> bool:
        return self.size == item.size and self.digest == (item.sha256 if self.large else item.blob)


@dataclass(frozen=True)
class State:
    """A repository at one revision. head: None where there is no repository yet."""

    head: str | None
    private: bool
    tags: Mapping[str, str]
    files: Mapping[str, Held]


class Hub:
    """One dataset repository, by the Hub's own client."""

    def __init__(
        self, url: HubUrl, say: Callable[[str], None] = lambda text: None, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        from huggingface_hub import HfApi

        self.url, self.say, self.sleep = url, say, sleep
        self.api = HfApi(library_name="neuron-atlas")
        self._facts: dict[str, Any] = {"repo_id": url.repository, "repo_type": "dataset"}

    def state(self, revision: str | None = None) -> State:
        """What the repository holds, now or at a commit."""
        return self._patiently("look up", lambda: self._state(revision))

    def _state(self, revision: str | None) -> State:
        from huggingface_hub import RepoFile
        from huggingface_hub.errors import RepositoryNotFoundError

        try:
            info = self.api.repo_info(**self._facts, revision=revision, timeout=TIMEOUT)
        except RepositoryNotFoundError:
            return State(None, False, {}, {})
        files = {
            entry.path: Held(entry.size, entry.lfs.sha256 if entry.lfs else entry.blob_id, bool(entry.lfs))
            for entry in self.api.list_repo_tree(**self._facts, revision=info.sha, recursive=True)
            if isinstance(entry, RepoFile)
        }
        return State(info.sha, bool(info.private), self._tags(), files)

    def _tags(self) -> dict[str, str]:
        return {tag.name: str(tag.target_commit) for tag in self.api.list_repo_refs(**self._facts).tags}

    def require_token(self) -> None:
        """BadConfig where no token is at hand."""
        from huggingface_hub import get_token

        if not get_token():
            raise BadConfig(f"{self.url}: no token to publish with. {LOGIN}")

    def create(self, *, private: bool) -> None:
        """Make the repository."""
        self._patiently("make", lambda: self.api.create_repo(**self._facts, private=private, exist_ok=True))

    def commit(self, additions: Mapping[str, str | bytes], deletions: Sequence[str], title: str, parent: str) -> str:
        """One commit of files (path in the repository -> bytes or a local file) upon `parent`; its id.

        Tried again where the Hub refuses in passing or the answer is lost. AtlasLocked where somebody else made a
        commit since, BadConfig where the token may not write, StoreFailed where the Hub does not take it.
        """
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        operations = [CommitOperationAdd(path, data) for path, data in additions.items()]
        gone = [CommitOperationDelete(path) for path in deletions]

        def once() -> str:
            made = self.api.create_commit(
                **self._facts, operations=[*operations, *gone], commit_message=title, parent_commit=parent
            )
            return str(made.oid)

        return self._patiently("write", once, lambda: self._landed(title, parent))

    def _patiently(
        self, action: str, ask: Callable[[], Answer], look: Callable[[], Answer | None] = lambda: None
    ) -> Answer:
        """What the Hub answers; asked again where it refused in passing, unless `look` finds that it was done."""
        for pause in (*PAUSES, None):
            try:
                with self._told(action):
                    return ask()
            except _Passing as error:
                found = look()
                if found is not None:
                    return found
                if pause is None:
                    raise StoreFailed(str(error)) from error
                wait = max(pause, error.wait)
                self.say(f"{error.cause}; trying again in {wait:.0f} s")
                self.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def _landed(self, title: str, parent: str) -> str | None:
        """The commit of this title, where it stands upon `parent`; None where nothing came upon it."""
        try:
            head, *earlier = self.api.list_repo_commits(**self._facts)[:2]
        except Exception:  # the Hub is still away: nothing is known yet, and the next attempt asks again
            return None
        if head.commit_id == parent:
            return None
        if head.title == title and earlier and earlier[0].commit_id == parent:
            return head.commit_id
        raise self._overtaken()

    def _overtaken(self) -> AtlasLocked:
        return AtlasLocked(
            f"{self.url}: somebody else made a commit to it meanwhile. What this push had committed before stands, and "
            "no tag was set. Push again: it compares anew, and sends what is missing"
        )

    def tag(self, name: str, revision: str) -> None:
        """Give a commit a name that stays."""
        self._patiently("tag", lambda: self.api.create_tag(**self._facts, tag=name, revision=revision, exist_ok=True))
        at = self._patiently("look up", self._tags).get(name)
        if at != revision:
            raise AtlasLocked(f"{self.url}: somebody else set the tag {name} meanwhile, at {at}. Choose another")

    @contextmanager
    def _told(self, action: str) -> Iterator[None]:
        """Turn what the client raises into this project's errors; _Passing where trying again may help."""
        from huggingface_hub.errors import HfHubHTTPError

        try:
            yield
        except (BadConfig, NothingThere, AtlasLocked):
            raise
        except Exception as error:  # its transport has exceptions of its own, and it wraps them
            answer = next((one for one in _causes(error) if isinstance(one, HfHubHTTPError)), None)
            status = answer.response.status_code if answer is not None and answer.response is not None else None
            said = " ".join(str(answer or error).split())
            if status == 412:
                raise self._overtaken() from error
            if status in (401, 403):
                raise BadConfig(
                    f"{self.url}: the Hub does not let this token {action} it ({status}). Expected a token with write "
                    f"access to {self.url.repository.partition('/')[0]}. {LOGIN}"
                ) from error
            if status in _PASSING or (status is None and _is_of_the_way(error)):
                headers = answer.response.headers if answer is not None and answer.response is not None else {}
                raise _Passing(self.url, action, said, headers) from error
            raise StoreFailed(
                f"cannot {action} {self.url}: {said}. What is committed stands; run the same command again"
            ) from error


class _Passing(StoreFailed):
    """The Hub refused, or was not heard, and may be in a better mood later. wait: seconds that it asks for."""

    def __init__(self, url: HubUrl, action: str, cause: str, headers: Mapping[str, str]) -> None:
        super().__init__(f"cannot {action} {url}: {cause}. What is committed stands; run the same command again later")
        told = headers.get("retry-after", "")
        self.cause, self.wait = cause, float(told) if told.isdigit() else 0.0


def _is_of_the_way(error: Exception) -> bool:
    """Whether the connection failed, or the transfer: not what was sent, nor this program."""
    return any(
        isinstance(one, OSError | RuntimeError) or type(one).__module__.startswith(("httpx", "httpcore"))
        for one in _causes(error)
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
