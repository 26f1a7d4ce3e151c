"""The lock: one driver a folder; a dead owner is found out at once on this host, by watching elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from atlas_schema.errors import AtlasLocked, StoreFailed
from atlas_schema.store import Store
from jobs.lock import LOCK_PATH, WATCH_SECONDS, AtWork, Holder, Lock, birth, locked, read_holder, surely_dead, this_host


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(str(tmp_path))


class Clock:
    """A clock that moves when somebody sleeps, and calls `at` with the time."""

    def __init__(self, at=lambda now: None):
        self.now, self.at = 0.0, at

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.at(self.now)


def other(store: Store, **facts) -> Holder:
    holder = replace(Holder("n" * 16, "elsewhere pid:[1]", 77, "1", "run-1"), **facts)
    store.create(LOCK_PATH, holder.to_bytes())
    return holder


def test_held_inside_gone_after(store):
    with locked(store, "run-2") as lock:
        assert read_holder(store).nonce == lock.me.nonce
    assert not store.exists(LOCK_PATH)


def test_released_when_the_block_raises(store):
    with pytest.raises(ZeroDivisionError), locked(store, "run-2"):
        _ = 1 / 0
    assert not store.exists(LOCK_PATH)


def test_a_living_process_of_this_host_is_named_at_once(store):
    with locked(store, "run-1"):
        clock = Clock()
        with pytest.raises(AtlasLocked) as caught:
            Lock(store, "run-2", clock=clock, sleep=clock.sleep).acquire()
        assert clock.now == 0
    assert f"run run-1 (process {os.getpid()} on" in str(caught.value)
    assert "Nothing was changed" in str(caught.value)


def test_hosts_of_equal_names_are_told_apart(store):
    """Two machines called localhost: that a process number is free on ours says nothing of the other's owner."""
    name, boot, *space = this_host().split(" ", 2)
    elsewhere = " ".join([name, boot[::-1], *space])
    assert surely_dead(other(store, host=this_host(), pid=os.getpid(), born="12"))
    assert not surely_dead(other(store, host=elsewhere, pid=os.getpid(), born="12"))


def test_a_dead_process_of_this_host_is_replaced_at_once(store):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = other(store, host=this_host(), pid=process.pid, born=birth(process.pid))
    assert not surely_dead(holder)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet reaped
    assert birth(process.pid) is None, "a zombie is dead"
    process.wait()
    assert surely_dead(holder)
    clock = Clock()
    lock = Lock(store, "run-2", clock=clock, sleep=clock.sleep)
    lock.acquire()
    assert clock.now < 1
    assert read_holder(store).run_id == "run-2"
    lock.release()


def test_a_reused_pid_is_not_the_owner(store):
    assert surely_dead(other(store, host=this_host(), pid=os.getpid(), born="12"))


def test_a_silent_owner_elsewhere_is_watched_then_replaced(store):
    other(store)
    clock, watched = Clock(), []
    lock = Lock(store, "run-2", clock=clock, sleep=clock.sleep, watch_seconds=45)
    lock.acquire(watched.append)
    assert 45 <= clock.now < 47
    assert [holder.run_id for holder in watched] == ["run-1"]
    lock.release()


def test_a_beating_owner_elsewhere_is_left_alone(store):
    holder = other(store)

    def beat(now: float) -> None:
        if now > 20:
            store.replace(LOCK_PATH, replace(holder, sequence=1).to_bytes())

    clock = Clock(beat)
    with pytest.raises(AtlasLocked, match="process 77 on elsewhere"):
        Lock(store, "run-2", clock=clock, sleep=clock.sleep).acquire()
    assert read_holder(store).run_id == "run-1"


def test_a_damaged_lock_file_is_watched_then_replaced(store):
    store.create(LOCK_PATH, b"{not json")
    clock = Clock()
    lock = Lock(store, "run-2", clock=clock, sleep=clock.sleep)
    lock.acquire()
    assert clock.now >= 45
    lock.release()


def test_of_two_rivals_for_a_dead_lock_one_wins(store):
    other(store, host=this_host(), pid=os.getpid(), born="12")
    outcomes = []

    def rival(name: str) -> None:
        try:
            locks.append(lock := Lock(store, name))
            lock.acquire()
            outcomes.append(name)
        except AtlasLocked:
            outcomes.append(None)

    locks: list[Lock] = []
    threads = [threading.Thread(target=rival, args=(f"run-{i}",)) for i in (2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    winners = [name for name in outcomes if name]
    assert len(winners) == 1
    assert read_holder(store).run_id == winners[0]
    for lock in locks:
        lock.release()
    assert not store.exists(LOCK_PATH)


def test_an_owner_notices_that_its_lock_was_taken(store):
    lock = Lock(store, "run-1")
    lock.acquire()
    lock.beat()
    assert read_holder(store).sequence == 1
    assert not lock.lost
    store.replace(LOCK_PATH, Holder("m" * 16, "x", 1, "1", "run-2").to_bytes())
    lock.beat()
    assert lock.lost
    lock.release()
    assert read_holder(store).run_id == "run-2", "another's lock is not removed"


def test_a_store_that_fails_on_the_way_out_does_not_hide_what_happened(store, monkeypatch):
    """How the run ended is to be told; the lock that stays is found dead by the next run."""

    def refused(path: str) -> bytes:
        raise StoreFailed("the credentials have expired")

    def work() -> None:
        with locked(store, "run-1"):
            monkeypatch.setattr(store, "read", refused)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    monkeypatch.undo()
    assert read_holder(store) is not None


@pytest.mark.parametrize("days", [-1, 1])
def test_a_wrong_clock_steals_no_lock_and_deletes_nothing(store, tmp_path, monkeypatch, days):
    """Only what moves between two looks counts, and files are dated by the store's own clock."""
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 86_400 * days)
    sequence = [0]

    def alive(now: float) -> None:
        sequence[0] += 1
        store.replace(LOCK_PATH, replace(beating, sequence=sequence[0] // 5).to_bytes())

    beating = other(store)
    clock = Clock(alive)
    with pytest.raises(AtlasLocked):
        Lock(store, "run-2", clock=clock, sleep=clock.sleep).acquire()
    writing = tmp_path / ".part.parquet.1-ab.tmp"
    writing.write_bytes(b"half")
    assert store.sweep() == []
    assert writing.exists()


def test_whether_anybody_is_at_work_is_told_by_the_beat_of_the_locks(store):
    """Of another host nothing but the file is seen: it counts as long as it moves, as for a driver that comes to it."""
    clock = Clock()
    at_work = AtWork(store, clock=clock)
    assert not at_work()
    holder = other(store)
    assert at_work()
    for beat in range(4):
        clock.sleep(WATCH_SECONDS - 1)
        store.replace(LOCK_PATH, replace(holder, sequence=beat + 1).to_bytes())
        assert at_work()
    clock.sleep(WATCH_SECONDS + 1)
    assert not at_work(), "it stands still: its owner is dead"
    store.delete(LOCK_PATH)
    with locked(store, "run-2"):
        assert at_work()
    assert not at_work()
