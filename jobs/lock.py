"""One driver a folder: a lock file with a heartbeat.

The lock is a courtesy, not what keeps the data right: parts are created once and two drivers may do the same
unit without harm. It spares the work of doing everything twice, and tells the second driver why it stops.
A lock whose owner ran on this host and is dead is taken over at once; any other is watched, on this host's
monotonic clock: where its sequence does not move for `watch_seconds`, the owner is taken for dead.

Drivers that deal the models of an atlas out among them (`--shard I/N`) hold a lock each, and exclude everybody else.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from atlas_schema.errors import AtlasLocked, StoreFailed
from atlas_schema.store import Store

LOCK_PATH = ".atlas/lock.json"
SHARES = ".atlas/locks"  # of drivers that deal the models out among them, one file each
HEARTBEAT_SECONDS = 10.0
WATCH_SECONDS = 45.0
_SETTLE_SECONDS = 0.3  # after a take-over: time for a rival to show


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as lock.json says it."""

    nonce: str
    host: str
    pid: int
    born: str  # start time of the process, so that a reused pid is not taken for the owner
    run_id: str
    sequence: int = 0

    def to_bytes(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Holder | None:
        """None for a file that is damaged or of another form: it belongs to nobody we can watch."""
        try:
            return cls(**json.loads(data))
        except (ValueError, TypeError):
            return None


def this_host() -> str:
    """This host, its boot and its process-number space: others may share a host name, but none of its pids."""
    boot = space = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return " ".join([socket.gethostname(), boot, space]).strip()


def birth(pid: int) -> str | None:
    """Start time of a process in the kernel's own count, "" where it is not told, None if it is dead."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return None if after_name[0] in "ZX" else after_name[19]  # field 22 of proc(5): starttime


def lock_path(shard: str | None = None) -> str:
    """Where a driver's lock lies; shard: "I/N" of one that does its share of the models."""
    return f"{SHARES}/{shard.replace('/', '-of-')}.json" if shard else LOCK_PATH


def living(store: Store, but: str = "") -> list[Holder]:
    """Who holds a lock of the atlas and is not known to be dead, but for the lock at one path."""
    paths = [path for path in (LOCK_PATH, *store.list(SHARES)) if path != but]
    holders = (read_holder(store, path) for path in paths)
    return [holder for holder in holders if holder is not None and not surely_dead(holder)]


def read_holder(store: Store, path: str = LOCK_PATH) -> Holder | None:
    try:
        return Holder.from_bytes(store.read(path))
    except FileNotFoundError:
        return None


def surely_dead(holder: Holder) -> bool:
    """True only for an owner on this host whose process is gone (or whose pid is another process now)."""
    return holder.host == this_host() and birth(holder.pid) != holder.born


class AtWork:
    """Asked again and again: whether any driver is at work on an atlas.

    As for a driver that comes to a lock, one whose sequence does not move for `watch_seconds` is that of a dead one.
    """

    def __init__(
        self, store: Store, *, watch_seconds: float = WATCH_SECONDS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.store, self.watch_seconds, self.clock = store, watch_seconds, clock
        self._moved: dict[Holder, float] = {}  # when each was first seen as it is

    def __call__(self) -> bool:
        now = self.clock()
        self._moved = {holder: self._moved.get(holder, now) for holder in living(self.store)}
        return any(now - moved < self.watch_seconds for moved in self._moved.values())


class Lock:
    """Held from `acquire` to `release`; a thread moves the sequence meanwhile."""

    def __init__(
        self,
        store: Store,
        run_id: str,
        *,
        shard: str | None = None,
        watch_seconds: float = WATCH_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ):
        self.store, self.clock, self.sleep = store, clock, sleep
        self.path, self.shard = lock_path(shard), shard
        self.watch_seconds, self.heartbeat_seconds = watch_seconds, heartbeat_seconds
        self.me = Holder(secrets.token_hex(8), this_host(), os.getpid(), birth(os.getpid()) or "", run_id)
        self.lost = False  # somebody took the lock over: stop handing out work
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="lock heartbeat", daemon=True)

    def acquire(self, waiting: Callable[[Holder], None] = lambda holder: None) -> None:
        """Take the lock or raise AtlasLocked; `waiting` hears once that a silent owner is being watched."""
        while not self.store.create(self.path, self.me.to_bytes()):
            if self._take_over(waiting):
                break
        self._thread.start()
        try:
            self._require_alone(waiting)
        except BaseException:
            self.release()
            raise

    def _require_alone(self, waiting: Callable[[Holder], None]) -> None:
        """No other lock holds, but those of drivers that deal the models out among as many as this one does.

        Each looks after it has put its own lock there: of two at one moment at least one sees the other.
        """
        alike = f"-of-{self.shard.partition('/')[2]}.json" if self.shard else ""
        for path in (LOCK_PATH, *self.store.list(SHARES)):
            if path == self.path or (alike and path.endswith(alike)):
                continue
            try:
                data = self.store.read(path)
            except FileNotFoundError:
                continue
            holder = Holder.from_bytes(data)
            if holder is None or not surely_dead(holder):
                if holder is not None and holder.host == this_host():
                    raise AtlasLocked(self._message(holder))
                if holder is not None:
                    waiting(holder)
                self._watch(data, holder, path)
            self.store.delete(path)

    def _take_over(self, waiting: Callable[[Holder], None]) -> bool:
        """True: it is ours; False: it vanished, try again; AtlasLocked: somebody else is at work."""
        try:
            data = self.store.read(self.path)
        except FileNotFoundError:
            return False
        holder = Holder.from_bytes(data)
        if holder is not None and not surely_dead(holder):
            if holder.host == this_host():
                raise AtlasLocked(self._message(holder))
            waiting(holder)
        if holder is None or not surely_dead(holder):
            self._watch(data, holder)
        self.store.replace(self.path, self.me.to_bytes())
        self.sleep(_SETTLE_SECONDS)
        now = read_holder(self.store, self.path)
        if now is None or now.nonce != self.me.nonce:
            raise AtlasLocked(self._message(now))
        return True

    def _watch(self, data: bytes, holder: Holder | None, path: str | None = None) -> None:
        """Return when the lock file did not change for `watch_seconds`."""
        started = self.clock()
        while self.clock() - started < self.watch_seconds:
            self.sleep(1.0)
            try:
                moved = self.store.read(path or self.path) != data
            except FileNotFoundError:
                return
            if moved:
                raise AtlasLocked(self._message(holder))

    def _message(self, holder: Holder | None) -> str:
        who = (
            "another driver"
            if holder is None
            else (f"run {holder.run_id} (process {holder.pid} on {holder.host.split()[0]})")
        )
        return (
            f"{self.store.url}: {who} is writing to this atlas. Nothing was changed. Wait for it to end "
            "(`neuron-atlas status` shows how far it is), stop it, or give another folder with --out."
        )

    def _keep(self) -> None:
        while not self._ended.wait(self.heartbeat_seconds):
            with contextlib.suppress(Exception):  # a store that fails now fails the work too, and is told there
                self.beat()

    def beat(self) -> None:
        """Move the sequence; notice if the lock became someone else's."""
        holder = read_holder(self.store, self.path)
        if holder is not None and holder.nonce != self.me.nonce:
            self.lost = True
            return
        self.me = replace(self.me, sequence=self.me.sequence + 1)
        self.store.replace(self.path, self.me.to_bytes())

    def release(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with contextlib.suppress(StoreFailed):  # the lock is watched and taken over; how the run ended is to be told
            holder = read_holder(self.store, self.path)
            if holder is not None and holder.nonce == self.me.nonce:
                self.store.delete(self.path)


@contextlib.contextmanager
def locked(
    store: Store, run_id: str, waiting: Callable[[Holder], None] = lambda holder: None, shard: str | None = None
) -> Iterator[Lock]:
    """The lock around a block; released on the way out, whatever happens."""
    lock = Lock(store, run_id, shard=shard)
    lock.acquire(waiting)
    try:
        yield lock
    finally:
        lock.release()
