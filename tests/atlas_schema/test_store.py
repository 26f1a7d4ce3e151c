"""The store keeps its promises on a folder, in memory and on S3, and when disks fill and servers fail."""

from __future__ import annotations

import errno
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from atlas_schema.errors import BadConfig, StoreFailed, StoreFull
from atlas_schema.store import PatientStore, Store, folder_of
from tests.atlas_schema.conftest import FaultyS3, answer, break_off, lose_answer


def test_a_file_is_created_once_and_replaced_at_will(store: Store) -> None:
    assert store.create("a/b.bin", b"first")
    assert not store.create("a/b.bin", b"second")
    assert store.read("a/b.bin") == b"first"
    store.replace("a/b.bin", b"third")
    assert store.read("a/b.bin") == b"third"
    assert store.size("a/b.bin") == 5
    assert store.read_range("a/b.bin", 1, 3) == b"hir"
    assert store.read_range("a/b.bin", 3, 100) == b"rd"
    assert store.read_range("a/b.bin", 0, 0) == b""
    with store.open("a/b.bin") as file:
        file.seek(2)
        assert file.read(2) == b"ir"


def test_what_is_not_there(store: Store) -> None:
    assert store.list() == []
    assert store.list("nowhere") == []
    assert not store.exists("a")
    store.delete("a")
    for read in (store.read, store.size, lambda path: store.read_range(path, 0, 1)):
        with pytest.raises(FileNotFoundError):
            read("a")


def test_a_folder_is_no_file(store: Store) -> None:
    store.create("a/b", b"x")
    assert not store.exists("a")
    assert store.exists("a/b")


def test_lists_are_recursive_sorted_and_fresh(store: Store) -> None:
    other = Store(store.url)
    for path in ("b/2", "b/1", ".atlas/parts/x", "ba/1", "README.md"):
        other.list()  # a cached listing would miss what comes next
        store.replace(path, b"")
        assert path in other.list()
    assert other.list() == [".atlas/parts/x", "README.md", "b/1", "b/2", "ba/1"]
    assert other.list("b") == other.list("b/") == ["b/1", "b/2"]
    store.delete("b/1")
    assert other.list("b") == ["b/2"]


@pytest.mark.parametrize("path", ["", "/a", "../a", "a/../b", "a//b", "./a", "a/"])
def test_paths_cannot_leave_the_store(folder: Store, path: str) -> None:
    with pytest.raises(ValueError, match="relative"):
        folder.create(path, b"x")


def test_of_many_creators_at_one_moment_one_wins(store: Store) -> None:
    with ThreadPoolExecutor(6) as pool:
        won = list(pool.map(lambda n: store.create("x", str(n).encode() * 1000), range(6)))
    assert won.count(True) == 1
    assert store.read("x") == str(won.index(True)).encode() * 1000


def test_a_store_travels_between_processes(folder: Store) -> None:
    folder.create("x", b"1")
    assert pickle.loads(pickle.dumps(folder)).read("x") == b"1"


def test_the_hub_is_no_place_to_run_into(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    with pytest.raises(StoreFailed, match=r"run into a folder.*then push"):
        Store("hf://datasets/somebody/atlas").create("x", b"1")


@pytest.mark.parametrize("url", ["nosuch://atlas", "gdrive://atlas"])
def test_a_store_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(BadConfig, match=rf"{url}: .*Expected a folder, or a URL") as told:
        Store(url)
    assert "pip install" in str(told.value)


# --- a folder under fire


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("action", ["create", "replace"])
@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_full_disk_leaves_what_was_there(
    folder: Store, monkeypatch: pytest.MonkeyPatch, code: int, action: str, call: str
) -> None:
    folder.create("old", b"old")

    def full(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        if call == "fsync":
            patched.setattr(os, "fsync", full)
        else:
            import atlas_schema.store as module

            real = open

            def opened(path: Any, mode: str) -> Any:
                file = real(path, mode)
                if mode == "xb":
                    file.write(b"half")  # some of it reaches the disk
                    file.flush()
                    return _FullAfter(file, full)
                return file

            patched.setattr(module, "open", opened, raising=False)
        with pytest.raises(StoreFull, match=r"no space left.*old2|no space left.*old") as told:
            getattr(folder, action)("old2" if action == "create" else "old", b"new" * 100)
    assert "run the same command again" in str(told.value)
    assert told.value.exit_code == 1
    assert folder.read("old") == b"old"
    assert _everything(folder) == ["old"]


class _FullAfter:
    def __init__(self, file: Any, full: Any) -> None:
        self.file, self.write = file, full

    def __enter__(self) -> _FullAfter:
        return self

    def __exit__(self, *_: Any) -> None:
        self.file.close()


def test_a_real_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        from atlas_schema.errors import StoreFull
        from atlas_schema.store import Store, folder_of
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        store = Store(sys.argv[1])
        store.create("small", b"x" * 1000)
        try:
            store.create("large", b"x" * 1001)
        except StoreFull:
            sys.exit(0 if store.list() == ["small"] else 3)
        sys.exit(4)
    """
    assert resource.RLIM_INFINITY  # the platform has limits at all
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    assert done.returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


def test_a_killed_writer_leaves_nothing_a_reader_takes(tmp_path: Path) -> None:
    code = """
        import os, sys
        from atlas_schema.store import Store, folder_of
        os.fsync = lambda handle: os.kill(os.getpid(), 9)
        Store(sys.argv[1]).create("a/part", b"x" * 1000)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=False)
    assert done.returncode == -9
    assert len(_everything(Store(tmp_path))) == 1  # the hidden temporary file
    store = Store(tmp_path)
    assert store.list() == []
    assert store.create("a/part", b"y")
    assert store.list() == ["a/part"]
    (left,) = set(_everything(store)) - {"a/part"}
    assert store.sweep() == []  # it may belong to a writer at work
    yesterday = os.stat(tmp_path / left).st_mtime - 90_000
    os.utime(tmp_path / left, (yesterday, yesterday))
    assert store.sweep() == [left]
    assert _everything(store) == ["a/part"]


def test_a_folder_without_links_still_creates_once(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_links)
    assert folder.create("x", b"1")
    assert not folder.create("x", b"2")
    assert folder.read("x") == b"1"
    assert _everything(folder) == ["x"]


def test_a_link_whose_answer_was_lost_counts(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.link

    def lost(source: Any, target: Any) -> None:
        real(source, target)
        raise FileExistsError(errno.EEXIST, "NFS sent it twice")

    monkeypatch.setattr(os, "link", lost)
    assert folder.create("x", b"1")
    assert folder.read("x") == b"1"


def test_a_folder_that_may_not_be_written(folder: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(*_: Any, **__: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", denied)
    with pytest.raises(StoreFailed, match=r"cannot write .*/x: permission denied.*credentials or the folder's owner"):
        folder.create("x", b"1")


def _everything(store: Store) -> list[str]:
    """All files, temporary ones too."""
    root = Path(store.url)
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


# --- S3 under fire


def test_a_lost_acknowledgement_counts_as_success(s3: FaultyS3) -> None:
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    s3.faults.append(lose_answer)
    assert store.create("part", b"ours")
    assert store.read("part") == b"ours"


def test_a_lost_race_is_told_from_a_lost_acknowledgement(s3: FaultyS3) -> None:
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    assert store.create("part", b"theirs")
    s3.faults.append(answer("503 Service Unavailable", "ServiceUnavailable"))
    assert not store.create("part", b"ours")
    assert store.read("part") == b"theirs"


def test_a_short_outage_is_waited_for(s3: FaultyS3) -> None:
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    s3.faults += [answer("500 Internal Server Error", "InternalError")] * 2
    assert store.create("part", b"ours")


def test_a_refusal_says_what_to_check(s3: FaultyS3) -> None:
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    s3.faults.append(answer("400 Bad Request", "ExpiredToken"))
    with pytest.raises(StoreFailed, match=r"cannot write s3://.*/part: the credentials have expired.*renew"):
        store.create("part", b"1")
    s3.faults.append(answer("403 Forbidden", "RequestTimeTooSkewed"))
    with pytest.raises(StoreFailed, match=r"this machine's clock is wrong"):
        store.create("part", b"1")
    s3.faults.append(answer("403 Forbidden", "AccessDenied"))
    with pytest.raises(StoreFailed, match=r"cannot write s3://.*/part: permission denied.*credentials"):
        store.create("part", b"ours")
    assert store.list() == []


def test_a_missing_bucket_is_named(s3: FaultyS3) -> None:
    store = Store("s3://no-such-bucket-here/atlas")
    for attempt in (lambda: store.create("part", b"x"), lambda: store.replace("part", b"x")):
        with pytest.raises(StoreFailed, match="no-such-bucket-here"):
            attempt()


def test_an_upload_that_breaks_off_leaves_nothing(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas_schema.objects.CALL_TIMEOUT", 2.0)
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    s3.faults += [break_off] * 100
    with pytest.raises(StoreFailed, match=r"cannot write s3://.*/part"):
        store.create("part", b"x" * 10_000)
    s3.faults.clear()
    assert store.list() == []
    assert Store(store.url).create("part", b"x" * 10_000)


def test_a_silent_store_is_given_up(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas_schema.objects.CALL_TIMEOUT", 1.0)
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    release = threading.Event()

    def silent(environ: dict[str, Any], start_response: Any, moto: Any) -> list[bytes]:
        release.wait(20)
        return break_off(environ, start_response, moto)

    s3.faults.append(silent)
    with pytest.raises(StoreFailed, match="no answer within 1 s"):
        store.replace("part", b"x")
    release.set()


def test_a_write_that_landed_before_the_deadline_counts(s3: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atlas_schema.objects.CALL_TIMEOUT", 1.0)
    store = Store(f"s3://{s3.new_bucket()}/atlas")
    release = threading.Event()

    def keep_and_say_nothing(environ: dict[str, Any], start_response: Any, moto: Any) -> list[bytes]:
        list(moto(environ, lambda *_: None))
        release.wait(20)
        return []

    s3.faults.append(keep_and_say_nothing)
    assert store.create("part", b"ours")
    release.set()


def test_what_another_machine_writes_is_listed(s3: FaultyS3) -> None:
    import boto3

    bucket = s3.new_bucket()
    store = Store(f"s3://{bucket}/atlas")
    store.create("a", b"")
    assert store.list() == ["a"]
    boto3.client("s3", endpoint_url=s3.url).put_object(Bucket=bucket, Key="atlas/b", Body=b"")
    assert store.list() == ["a", "b"]


# --- any sequence of operations


class StoreMachine(RuleBasedStateMachine):
    """Two handles on one store against a dictionary."""

    paths = Bundle("paths")
    stores = count()

    def __init__(self) -> None:
        super().__init__()
        url = f"memory://machine-{next(self.stores)}"
        self.handles = [Store(url), Store(url)]
        self.model: dict[str, bytes] = {}

    @rule(target=paths, folder=st.sampled_from(["", "a/", "a/b/", ".atlas/parts/"]), name=st.sampled_from("xyz"))
    def path(self, folder: str, name: str) -> str:
        return folder + name

    @rule(path=paths, data=st.binary(max_size=20), handle=st.integers(0, 1))
    def create(self, path: str, data: bytes, handle: int) -> None:
        assert self.handles[handle].create(path, data) == (path not in self.model)
        self.model.setdefault(path, data)

    @rule(path=paths, data=st.binary(max_size=20), handle=st.integers(0, 1))
    def replace(self, path: str, data: bytes, handle: int) -> None:
        self.handles[handle].replace(path, data)
        self.model[path] = data

    @rule(path=paths, handle=st.integers(0, 1))
    def delete(self, path: str, handle: int) -> None:
        self.handles[handle].delete(path)
        self.model.pop(path, None)

    @rule(path=paths, offset=st.integers(0, 25), length=st.integers(0, 25), handle=st.integers(0, 1))
    def read_range(self, path: str, offset: int, length: int, handle: int) -> None:
        if path in self.model:
            found = self.handles[handle].read_range(path, offset, length)
            assert found == self.model[path][offset : offset + length]

    @invariant()
    def agrees(self) -> None:
        for handle in self.handles:
            assert handle.list() == sorted(self.model)
            for path, data in self.model.items():
                assert (handle.read(path), handle.size(path)) == (data, len(data))


class FolderMachine(StoreMachine):
    """The same on a folder."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.handles = [Store(self.folder.name), Store(self.folder.name)]

    def teardown(self) -> None:
        self.folder.cleanup()


TestMemoryMachine = StoreMachine.TestCase
TestMemoryMachine.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestFolderMachine = FolderMachine.TestCase
TestFolderMachine.settings = settings(max_examples=20, stateful_step_count=20, deadline=None)


def _patient(s3: FaultyS3, seconds: float) -> tuple[PatientStore, list[str], list[float]]:
    """A patient store in virtual time: what it said while it waited, and how long."""
    said: list[str] = []
    slept: list[float] = []
    url = f"s3://{s3.new_bucket()}/atlas"
    return PatientStore(url, seconds, said.append, clock=lambda: sum(slept), sleep=slept.append), said, slept


def test_a_patient_store_waits_for_refusals_that_pass(s3: FaultyS3) -> None:
    store, said, slept = _patient(s3, 60)
    for operation in (lambda: store.create("part", b"ours"), lambda: store.replace("part", b"ours")):
        s3.faults.append(answer("403 Forbidden", "AccessDenied"))
        operation()
    assert len(said) == len(slept) == 2
    assert all("permission denied" in reason for reason in said)


@pytest.mark.parametrize(
    ("call", "of_files"),
    [
        (lambda store: store.read("part"), "read"),
        (lambda store: store.read_range("part", 0, 2), "read"),
        (lambda store: store.open("part").read(), "open"),
        (lambda store: store.exists("part"), "size"),
        (lambda store: store.size("part"), "size"),
        (lambda store: store.list(), "walk"),
        (lambda store: store.sizes(), "sizes"),
        (lambda store: store.stamps(), "stamps"),
        (lambda store: store.modified("part"), "modified"),
        (lambda store: store.delete("part"), "delete"),
    ],
)
def test_a_patient_store_waits_whatever_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Callable[[Store], object], of_files: str
) -> None:
    Store(str(tmp_path)).replace("part", b"ours")
    expected = call(Store(str(tmp_path))) if of_files != "delete" else None
    store = PatientStore(str(tmp_path), sleep=lambda seconds: None)
    real, refusals = getattr(store._files, of_files), iter([OSError(errno.ECONNRESET, "reset")] * 2)

    def once_more(*args: object) -> object:
        refusal = next(refusals, None)
        if refusal is not None:
            raise refusal
        return real(*args)

    monkeypatch.setattr(store._files, of_files, once_more)
    assert call(store) == expected
    assert next(refusals, None) is None


def test_a_patient_store_tells_in_the_end_what_the_store_says(s3: FaultyS3) -> None:
    store, _, slept = _patient(s3, 60)
    s3.faults += [answer("403 Forbidden", "AccessDenied")] * 30
    with pytest.raises(StoreFailed, match="permission denied"):
        store.create("part", b"ours")
    assert slept == [1, 2, 4, 8, 16]
    s3.faults.clear()
    with pytest.raises(FileNotFoundError):
        store.read("part")
    assert type(pickle.loads(pickle.dumps(store))) is Store


@pytest.mark.parametrize("form", ["file:{}", "file://{}", "local://{}"])
@pytest.mark.parametrize("relative", [True, False])
def test_file_urls_are_folders(form: str, relative: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store(form.format("deep/atlas" if relative else tmp_path / "deep/atlas"))
    assert store.is_local
    store.create("a", b"1")
    assert (tmp_path / "deep/atlas/a").read_bytes() == b"1"
    assert [path.name for path in tmp_path.iterdir()] == ["deep"], "no folder is called file:"


def test_a_file_url_may_name_this_host(tmp_path: Path) -> None:
    assert folder_of(f"file://localhost{tmp_path}") == tmp_path
    assert folder_of("s3://bucket/file:x") is None
    assert folder_of("~/atlas") == Path.home() / "atlas"


def test_a_file_moves_whole_and_over_another(store: Store) -> None:
    store.create("a/b", b"old place")
    store.create("c/d", b"to be replaced")
    store.move("a/b", "c/d")
    assert store.list() == ["c/d"]
    assert store.read("c/d") == b"old place"
    with pytest.raises(FileNotFoundError):
        store.move("a/b", "c/d")


def test_the_clock_is_the_stores(store: Store) -> None:
    before = store.now()
    store.create("a", b"x")
    assert before - 2 <= store.modified("a") <= store.now() + 2
    assert store.list() == ["a"]
    with pytest.raises(FileNotFoundError):
        store.modified("b")


def test_a_folder_whose_clock_is_days_behind_keeps_what_is_new_there(folder: Store, monkeypatch) -> None:
    """By this host's clock the file of a writer at work would be days old."""
    new = Path(folder.url) / ".b.1-aa.tmp"
    new.parent.mkdir(parents=True)
    new.write_bytes(b"half")
    then = new.stat().st_mtime - 3 * 86_400
    os.utime(new, (then, then))
    monkeypatch.setattr(Store, "now", lambda self: then + 60)
    assert folder.leftovers() == []
    monkeypatch.setattr(Store, "now", lambda self: then + 86_401)
    assert folder.leftovers() == [".b.1-aa.tmp"]
    assert new.exists(), "looking removes nothing"
    assert folder.sweep() == [".b.1-aa.tmp"]


def test_sizes_and_stamps(store: Store) -> None:
    store.replace("a/one.bin", b"0123456789")
    store.replace("a/two.bin", b"01")
    assert store.sizes("a") == {"a/one.bin": 10, "a/two.bin": 2}
    before = store.stamps("a")
    assert list(before) == ["a/one.bin", "a/two.bin"]
    assert all(before.values())
    assert store.stamps("a/one.bin") == {"a/one.bin": before["a/one.bin"]}
    store.replace("a/one.bin", b"012345678")
    assert store.stamps("a")["a/one.bin"] != before["a/one.bin"]
    assert store.stamps("a")["a/two.bin"] == before["a/two.bin"]
