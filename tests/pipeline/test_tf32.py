"""TF32 units judge pictures where they agree with exact products, and nowhere else. There is no GPU here: a mode that
cuts the factors of every product to ten bits of mantissa stands for the units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch

from benchmarks.tf32 import Tf32Products, cut, in_tf32
from pipeline.hooks import tf32
from pipeline.hooks.device_check import deviation
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.visualize.objective import respond


@pytest.fixture(scope="module")
def model() -> LoadedModel:
    return load(ModelRequest("zoo/swin"))


@pytest.fixture
def flags() -> Iterator[Callable[[], tuple[str, bool]]]:
    """What torch multiplies float32 numbers with; afterwards as before."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield lambda: (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32)
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


def answers(model: LoadedModel) -> torch.Tensor:
    pictures = torch.rand(3, 3, *model.description.input_size, generator=torch.manual_seed(0))
    return torch.cat(respond(model, model.description.ffn_sites[2], [0, 5, 9], pictures))


def test_the_stand_in_reads_ten_bits_of_both_factors() -> None:
    values = torch.tensor([1 + 2.0**-10, 1 + 2.0**-11, -1 - 2.0**-10 - 2.0**-12, 0.0, 3e-39])
    assert cut(values)[:4].tolist() == [1 + 2.0**-10, 1.0, -1 - 2.0**-10, 0.0]
    a, b = (torch.randn(8, 8, generator=torch.manual_seed(seed)) for seed in (0, 1))
    with Tf32Products() as mode:
        found = a @ b
    assert mode.products == 1
    assert torch.equal(found, cut(a) @ cut(b))
    exact = a @ b
    assert 0 < (found - exact).norm() / exact.norm() < 2**-9
    with pytest.raises(NotImplementedError, match="no rule"), Tf32Products():
        torch.mv(a, b[0])


def test_a_picture_is_judged_by_units_that_agree(model: LoadedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = answers(model)
    monkeypatch.setattr(tf32, "by_units", in_tf32)
    assert torch.equal(answers(model), exact), "a CPU has no such units"
    monkeypatch.setattr(tf32, "has_units", lambda device: True)
    found = answers(model)
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0.01, atol=1e-3)
    double = replace(model, module=copy.deepcopy(model.module).double())
    assert torch.equal(answers(double), answers(double))
    torch.testing.assert_close(answers(double), exact.double(), rtol=1e-4, atol=1e-5)


def test_units_that_do_not_agree_judge_nothing_and_are_asked_once(
    model: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = replace(model, module=copy.deepcopy(model.module))
    exact, asked = answers(model), []

    @contextmanager
    def broken() -> Iterator[None]:
        """Units that get a weight wrong."""
        asked.append(1)
        weight = model.module.get_parameter("layers.0.blocks.0.mlp.fc1.weight")
        with torch.no_grad():
            kept = weight.clone()
            weight.mul_(1.02)
            yield
            weight.copy_(kept)

    monkeypatch.setattr(tf32, "by_units", broken)
    monkeypatch.setattr(tf32, "has_units", lambda device: True)
    assert torch.equal(answers(model), exact)
    assert torch.equal(answers(model), exact)
    assert asked == [1]


def test_torch_is_told_and_told_back_whatever_happens(flags: Callable[[], tuple[str, bool]]) -> None:
    tf32.exactly()
    assert flags() == ("highest", False)
    seen = []

    def fails() -> None:
        seen.append(flags())
        raise KeyError

    with pytest.raises(KeyError), tf32.by_units():
        fails()
    assert seen == [("high", True)]
    assert flags() == ("highest", False)
    with tf32.by_units(), tf32.products(exact=True):
        assert flags() == ("highest", False)


def test_all_families_agree_within_what_is_asked_of_a_gpu() -> None:
    for name in ("vit", "coat", "convit", "twins", "clip"):
        one = load(ModelRequest(f"zoo/{name}"))
        assert 0 < deviation(one, one, around=in_tf32)[0] < tf32.MOST, name
