"""Objects in a pickle beside tensors: trainers' are read past, nothing is run, and a command converts the rest."""

import dataclasses
import enum
import os
import pickle
import sys
import zipfile

import pytest
import torch

from tests.pipeline.checkpoints import assert_equal, loaded, made, refused, run_told_command


@pytest.fixture(scope="module")
def source() -> torch.nn.Module:
    return made()


@pytest.fixture(scope="module")
def state(source) -> dict[str, torch.Tensor]:
    return source.state_dict()


@dataclasses.dataclass
class Settings:
    lr: float = 0.1
    sizes: tuple[int, ...] = (1, 2)


class Mode(enum.Enum):
    TRAIN = "train"


class Attributes(dict):
    """As Lightning stores hyper-parameters."""


class Armed:
    def __reduce__(self):
        return os.system, ("touch bomb-went-off",)


class ArmedState:
    def __setstate__(self, state):
        os.system("touch bomb-went-off")


def as_of(module: str, *classes):
    """Classes as if a trainer's package had defined them: it need not be installed to read its files."""
    for one in classes:
        one.__module__ = module


@pytest.fixture
def in_trainers():
    package = type(sys)("omegaconf")
    package.Settings, package.Mode, package.Attributes, package.ArmedState = Settings, Mode, Attributes, ArmedState
    sys.modules["omegaconf"] = package
    was = Settings.__module__
    as_of("omegaconf", Settings, Mode, Attributes, ArmedState)
    yield
    as_of(was, Settings, Mode, Attributes, ArmedState)
    del sys.modules["omegaconf"]


@pytest.mark.parametrize("legacy", [True, False], ids=["before torch 1.6", "now"])
def test_objects_of_trainers_are_read_past_and_never_made(legacy, source, state, in_trainers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, thing in enumerate(
        [Settings(), Mode.TRAIN, Attributes(lr=0.1), ArmedState(), [Settings(), Mode.TRAIN]]
    ):
        armed = ArmedState()
        armed.x = 1
        torch.save(
            {"state_dict": state, "hyper_parameters": thing, "more": armed},
            f"{number}.pth",
            _use_new_zipfile_serialization=not legacy,
        )
        assert_equal(loaded(tmp_path / f"{number}.pth"), source)
    assert not (tmp_path / "bomb-went-off").exists()


def test_code_is_never_run_whatever_it_is_called(state, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": state, "hook": Armed()}, "system.pth")
    torch.save({"state_dict": state, "hook": eval}, "eval.pth")
    torch.save({"state_dict": state, "hook": getattr}, "getattr.pth")
    torch.save({"state_dict": state, "hook": ArmedState()}, "class.pth")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Armed(), protocol=2))
    for name in ("system.pth", "eval.pth", "getattr.pth", "class.pth", "plain.pkl"):
        refused(tmp_path / name, "would run code: refused")
    assert not (tmp_path / "bomb-went-off").exists()


def test_torchscript_that_would_run_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile("script.pt", "w") as archive:
        archive.writestr("script/data.pkl", pickle.dumps(Armed(), protocol=2))
        archive.writestr("script/constants.pkl", b"")
    refused(tmp_path / "script.pt", "GLOBAL (posix|nt).system")
    assert not (tmp_path / "bomb-went-off").exists()


def test_the_command_that_keeps_the_tensors_works(source, state, tmp_path, monkeypatch):
    torch.save({"state_dict": state, "settings": Settings()}, tmp_path / "own.pth")
    told = refused(tmp_path / "own.pth", r"\(tests\.pipeline\.test_checkpoint_pickles\.Settings\)")
    run_told_command(told.split("\n")[1], tmp_path, monkeypatch)
    assert_equal(loaded(tmp_path / "tensors.pth"), source)


def test_the_command_that_converts_a_plain_pickle_works(source, state, tmp_path, monkeypatch):
    arrays = {"model": {name: value.numpy() for name, value in state.items()}, "lr": 0.1}
    (tmp_path / "detectron.pkl").write_bytes(pickle.dumps(arrays))
    told = refused(tmp_path / "detectron.pkl", "a pickle that torch.save did not write")
    run_told_command(told.split("\n")[1], tmp_path, monkeypatch)
    assert_equal(loaded(tmp_path / "tensors.pth"), source)


def test_a_whole_pickled_module_is_refused_with_a_command_that_works(source, tmp_path, monkeypatch):
    torch.save(source, tmp_path / "module.pth")
    told = refused(tmp_path / "module.pth", "would run code: refused")
    run_told_command(told.split("\n")[1], tmp_path, monkeypatch)
    assert_equal(loaded(tmp_path / "tensors.pth"), source)
