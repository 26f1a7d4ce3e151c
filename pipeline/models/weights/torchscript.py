"""TorchScript archives (torch.jit.save, OpenAI's CLIP files): their tensors by name, without compiling or running them.

An archive pickles its module as objects of classes `__torch__...` whose attributes are tensors, numbers and further
modules. Reading these needs two functions of torch and stand-ins for the classes; the program in `code/` is never read.
"""

from __future__ import annotations

import collections
import io
import pickle
from typing import IO, Any
from zipfile import ZipFile

import torch

from pipeline.models.weights.unpickle import Inert

_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(names: list[str]) -> bool:
    """Whether a zip archive with entries of these names is TorchScript: plain checkpoints have no constants."""
    return any(name.endswith("/constants.pkl") for name in names)


def read_torchscript(file: IO[bytes]) -> dict[str, Any]:
    """The archive's module as nested dicts of its attributes. pickle.UnpicklingError where it holds anything else."""
    file.seek(0)
    with ZipFile(file) as archive:
        (pickled,) = [name for name in archive.namelist() if name.count("/") == 1 and name.endswith("/data.pkl")]
        module = _Modules(archive, pickled).load()
    if not isinstance(module, Inert):
        raise pickle.UnpicklingError(f"expected a module, found {type(module).__name__}")
    return _attributes(module)


def _attributes(module: Inert) -> dict[str, Any]:
    return {name: _attributes(value) if isinstance(value, Inert) else value for name, value in vars(module).items()}


class _Modules(pickle.Unpickler):
    """Makes tensors, containers and stand-ins, and nothing else."""

    def __init__(self, archive: ZipFile, name: str) -> None:
        super().__init__(io.BytesIO(archive.read(name)))
        self._archive = archive
        self._root = name.partition("/")[0]
        self._storages: dict[str, torch.Tensor] = {}  # several tensors may be views of one

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("__torch__"):
            return Inert
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle":  # build_intlist and its like
            return list
        raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")

    def persistent_load(self, pid: Any) -> torch.Tensor:
        _, dtype, key, _, count = pid
        if key not in self._storages:
            data = bytearray(self._archive.read(f"{self._root}/data/{key}"))
            read = torch.frombuffer(data, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)
            self._storages[key] = read
        return self._storages[key]


def _tensor(flat: torch.Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Any:
    return flat.as_strided(size, stride, offset)
