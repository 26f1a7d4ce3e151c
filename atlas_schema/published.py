"""Dataset repositories of the Hub: their URLs, the commit that a name stands for, and what was read of one.

A commit never changes, so what is read of it is kept on this machine, in `~/.cache/neuron-atlas/published` (or below
XDG_CACHE_HOME).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from atlas_schema.errors import BadConfig, NothingThere, StoreFailed
from atlas_schema.store import Store

MOST_KEPT = 1 << 30  # bytes of the cache: the longest unused go
LARGEST_KEPT = 16 << 20  # one read
LOGIN = "Log in with `hf auth login`, or set HF_TOKEN (huggingface.co/settings/tokens)"
_URL = re.compile(r"hf://datasets/([A-Za-z0-9][\w.-]*)/([A-Za-z0-9][\w.-]*?)(?:@([^@]+?))?/?")
_COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class HubUrl:
    """A dataset repository, and a revision of it: a branch, a tag or a commit; "" where none is named."""

    repository: str
    revision: str = ""

    def __str__(self) -> str:
        return f"hf://datasets/{self.repository}" + (f"@{self.revision}" if self.revision else "")

    def at(self, revision: str) -> HubUrl:
        return HubUrl(self.repository, revision)

    def commit(self) -> str:
        """The commit that the revision (main, where none is named) is now; one request.

        NothingThere where there is no such repository or revision, StoreFailed where the Hub does not answer.
        """
        if _COMMIT.fullmatch(self.revision):
            return self.revision
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        api = HfApi(library_name="neuron-atlas")
        try:
            return str(api.dataset_info(self.repository, revision=self.revision or None).sha)
        except RevisionNotFoundError:
            tags = ", ".join(tag.name for tag in api.list_repo_refs(self.repository, repo_type="dataset").tags)
            raise NothingThere(f"{self}: no such revision; tags there: {tags or 'none'}") from None
        except RepositoryNotFoundError:
            raise NothingThere(
                f"{self}: no such dataset repository, or a private one that your token may not read. {LOGIN}"
            ) from None
        except Exception as error:  # the client's transport has exceptions of its own
            raise StoreFailed(f"cannot look up {self}: {' '.join(str(error).split())}. Try again later") from error


def hub_url(url: str) -> HubUrl | None:
    """The repository that a URL names; None for the URL of another kind of store. BadConfig for another hf:// form."""
    if not url.startswith("hf://"):
        return None
    match = _URL.fullmatch(url)
    if match is None:
        raise BadConfig(
            f"{url}: not a dataset repository of the Hub. Expected hf://datasets/ORGANISATION/NAME, and to read a "
            "certain version hf://datasets/ORGANISATION/NAME@REVISION"
        )
    return HubUrl(f"{match[1]}/{match[2]}", match[3] or "")


def with_revision(url: str, revision: str | None) -> HubUrl | None:
    """As `hub_url`, with a revision that is named beside the URL. BadConfig where both name one, or none can be."""
    found = hub_url(url)
    if not revision:
        return found
    if found is None:
        raise BadConfig(f"{url}: revision {revision}: only repositories of the Hub have any: hf://datasets/ORG/NAME")
    if found.revision not in ("", revision):
        raise BadConfig(f"{url}: names the revision {found.revision}, and {revision} is asked for; give one of them")
    return found.at(revision)


def opened(url: str, revision: str | None = None, cache: str | os.PathLike[str] | None = None) -> Store:
    """The store at a URL, to be read; of a repository of the Hub the commit that its revision is now.

    cache: folder for what is read of a commit. Raises what `with_revision` and `HubUrl.commit` do.
    """
    repository = with_revision(url, revision)
    if repository is None:
        return Store(url)
    return PinnedStore(str(repository.at(repository.commit())), Path(cache) if cache is not None else cache_folder())


def cache_folder(name: str = "published") -> Path:
    """Where this project keeps things of one kind on this machine: below the user's cache."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(root).expanduser() / "neuron-atlas" / name


class PinnedStore(Store):
    """A store of which nothing changes: short reads and listings are kept in a folder, and asked for once."""

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url)
        self.folder = folder / hashlib.sha256(url.encode()).hexdigest()[:16]
        with suppress(OSError):
            _prune(folder)

    def __reduce__(self) -> tuple[type[Store], tuple[str, Path]]:  # type: ignore[override]
        return PinnedStore, (self.url, self.folder.parent)

    def read(self, path: str) -> bytes:
        return self._kept(f"read {path}", lambda: super(PinnedStore, self).read(path))

    def read_range(self, path: str, offset: int, length: int) -> bytes:
        return self._kept(
            f"read {path} {offset} {length}", lambda: super(PinnedStore, self).read_range(path, offset, length)
        )

    def list(self, prefix: str = "") -> list[str]:
        return sorted(self.sizes(prefix))

    def sizes(self, prefix: str = "") -> dict[str, int]:
        told = self._kept(
            f"sizes {prefix}", lambda: json.dumps(super(PinnedStore, self).sizes(prefix), indent=0).encode()
        )
        found: dict[str, int] = json.loads(told)
        return found

    def _kept(self, question: str, ask: Callable[[], bytes]) -> bytes:
        """What was answered before, else now. A cache that cannot be read or written is no error."""
        place = self.folder / hashlib.sha256(question.encode()).hexdigest()
        with suppress(OSError):
            kept = place.read_bytes()
            digest, answer = kept[:32], kept[32:]
            if hashlib.sha256(answer).digest() == digest:
                os.utime(place)
                return answer
        answer = ask()
        if len(answer) <= LARGEST_KEPT:
            with suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                temporary = place.with_name(f".{place.name}.{secrets.token_hex(4)}")
                temporary.write_bytes(hashlib.sha256(answer).digest() + answer)
                os.replace(temporary, place)
        return answer


def _prune(folder: Path) -> None:
    """Remove what was not used longest, until MOST_KEPT is left."""
    files = sorted((told.st_mtime, told.st_size, path) for path in folder.glob("*/*") if (told := path.stat()))
    total = sum(size for _, size, _ in files)
    for _, size, path in files:
        if total <= MOST_KEPT:
            return
        path.unlink(missing_ok=True)
        total -= size
