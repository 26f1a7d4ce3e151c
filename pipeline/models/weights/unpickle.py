"""Files of torch.save, read without running code: tensors, and the harmless types that trainers store beside them.

torch's `weights_only` reader calls nothing but what is allowed here. Types that only hold values are allowed as they
are; classes of well-known trainers and of the training script itself become `Inert`, which takes whatever is said of it
and does nothing: the class that is named is never imported.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import importlib
import pathlib
import pickle
import re
from collections.abc import Callable
from typing import IO, Any

import numpy as np
import torch

from atlas_schema.errors import WeightsUnreadable

MOST_NAMES = 64  # of foreign classes in one file

#: Packages whose classes hold settings or records in checkpoints. Named classes become `Inert`.
TRAINERS = (
    *("__main__", "accelerate", "addict", "box", "composer", "deepspeed", "detectron2", "easydict", "fvcore"),
    *("hydra", "lightning", "lightning_fabric", "lightning_utilities", "ml_collections", "mmcv", "mmengine"),
    *("omegaconf", "open_clip", "pytorch_lightning", "timm", "torchmetrics", "torchvision", "transformers"),
    *("types", "wandb", "yacs"),
)

_REFUSED = re.compile(r"GLOBAL (?:was not an allowed global: )?([\w.]+)")


class Inert:
    """What stands in for an object of a class that is not imported: its values, and no behaviour."""

    def __new__(cls, *values: object, **named: object) -> Inert:
        return super().__new__(cls)

    def __init__(self, *values: object, **named: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update({str(name): value for name, value in state.items()})


def _latin(text: str, encoding: str = "latin1") -> bytes:
    """How pickle writes bytes in its old protocols."""
    return text.encode("latin1")


def _mapping(*ignored: object) -> dict[Any, Any]:
    """A defaultdict without its factory."""
    return {}


_MULTIARRAY: Any = importlib.import_module("numpy._core.multiarray")
#: As torch.serialization.safe_globals takes them: what is called in place of the name in a file.
HARMLESS: tuple[Any, ...] = (
    argparse.Namespace,
    *(datetime.datetime, datetime.date, datetime.timedelta, datetime.timezone),
    (pathlib.PurePath, "pathlib.Path"),
    *((pathlib.PurePosixPath, f"pathlib.{name}") for name in ("PosixPath", "PurePosixPath")),
    *((pathlib.PurePosixPath, f"pathlib._local.{name}") for name in ("PosixPath", "PurePosixPath")),
    *((pathlib.PureWindowsPath, f"pathlib.{name}") for name in ("WindowsPath", "PureWindowsPath")),
    *((pathlib.PureWindowsPath, f"pathlib._local.{name}") for name in ("WindowsPath", "PureWindowsPath")),
    (_mapping, "collections.defaultdict"),
    (_latin, "_codecs.encode"),
    *((kind, f"builtins.{kind.__name__}") for kind in (int, float, bool, str, list, tuple, dict, set, complex)),
    *(np.ndarray, np.dtype, *(getattr(np.dtypes, name) for name in np.dtypes.__all__)),
    *((_MULTIARRAY.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_MULTIARRAY._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
)


def read_torch(file: IO[bytes], location: str) -> Any:
    """What torch.save wrote, objects of trainers as `Inert`. WeightsUnreadable where code would have to be run."""
    stand_ins: list[str] = []
    stand_in: Callable[..., Any] = Inert
    while True:
        file.seek(0)
        allowed = [*HARMLESS, *((stand_in, name) for name in stand_ins)]
        try:
            with torch.serialization.safe_globals(allowed):
                return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            name = _refused_name(error)
            if name and name not in stand_ins and _is_trainers(name) and len(stand_ins) < MOST_NAMES:
                stand_ins.append(name)
            elif "SETITEM" in str(error) and stand_in is Inert and stand_ins:
                stand_in = collections.OrderedDict  # a class of a trainer that is a dict
            else:
                raise _unsafe(location, error, name) from error


def _refused_name(error: BaseException) -> str:
    found = _REFUSED.search(str(error))
    return found.group(1) if found else ""


def _is_trainers(name: str) -> bool:
    return name.partition(".")[0] in TRAINERS


def _unsafe(location: str, error: BaseException, name: str) -> WeightsUnreadable:
    if not name and "weights_only" not in str(error):
        line = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        return WeightsUnreadable(f"{location} is truncated or damaged: {line}. Fetch it again and compare its size.")
    what = f" ({name})" if name else ""
    return WeightsUnreadable(
        f"{location} holds Python objects besides tensors{what}, and loading them would run code: refused. Where you "
        f"trust the file, keep its tensors alone:\n  {conversion(location)}"
    )


def conversion(location: str) -> str:
    """The command that keeps the tensors of a file that only its own classes can load."""
    code = (
        "import torch; w = lambda x: {str(k): w(v) for k, v in x.items() if isinstance(v, (dict, torch.Tensor))} "
        "if isinstance(x, dict) else x; "
        f"c = torch.load({location!r}, map_location='cpu', weights_only=False); "
        "torch.save(w(getattr(c, 'state_dict', lambda: c)()), 'tensors.pth')"
    )
    return f'python -c "{code}"'
