"""What a component alone pushes forward: derivatives of derivatives, without the detours that torch's own take."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.decompose import Contributing, Level, decompose
from pipeline.decompose.convolutions import linear_convolutions
from tests.pipeline.test_decompose import noise
from tests.pipeline.test_families import small


class Called(TorchDispatchMode):
    """Counts the operations that run in it, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.times: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.times[name] = self.times.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def twice_derived(conv: nn.Conv2d, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor, Called]:
    """A convolution's output, what `source` becomes behind it, and what ran for that."""
    x = x.clone().requires_grad_()
    out = conv(x)
    direction = torch.zeros_like(out, requires_grad=True)
    (pulled,) = torch.autograd.grad(out, x, direction, create_graph=True)
    with Called() as called:
        (pushed,) = torch.autograd.grad(pulled, direction, source)
    return out, pushed, called


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, padding=1, groups=6),
        nn.Conv2d(6, 12, 3, stride=2, padding=1, groups=6, bias=False),
        nn.Conv2d(6, 4, 2, stride=2),
        nn.Conv2d(6, 6, 3, padding=2, dilation=2, groups=2),
    ],
    ids=["positional", "pooling", "merge", "dilated"],
)
def test_a_source_pushed_through_a_convolution_is_the_convolution_of_it_at_one_call(conv: nn.Conv2d) -> None:
    conv = conv.double()
    x, source = torch.randn(2, 2, 6, 8, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    out, pushed, _ = twice_derived(conv, x, source)
    model = nn.Sequential(conv)
    with ExitStack() as stack:
        linear_convolutions(stack, model, but=())
        ours, our_pushed, called = twice_derived(conv, x, source)
    torch.testing.assert_close(ours, out)
    torch.testing.assert_close(our_pushed, pushed)
    assert called.times.get("convolution") == 1, "torch's own derivative calls one a group"
    assert "forward" not in conv.__dict__, "the module is as it was"


@pytest.mark.parametrize("name", ["convit", "coat-lite", "swin", "twins, svt"])
def test_nothing_passes_queries_and_keys_that_are_held(name: str) -> None:
    """They need no gradient: only maps of values, and attention weights as constants, lie behind a head."""
    model = small(name)
    x = noise(model, 2)
    decomposition = decompose(model, x, Level.THROUGH, certify=False)
    with Called() as called:
        decomposition.vectors(decomposition.components[:1])
    assert not [operation for operation in called.times if "softmax" in operation]


def test_levels_are_the_same_where_convolutions_stop_having_a_gradient() -> None:
    """CoaT's last patches never meet the class token: their convolutions get no gradient once that is known."""
    model = small("coat")
    x = noise(model, 2)
    contributing = Contributing(model)
    contributing.look_at(x)
    reached = decompose(model, x).reach()
    levels = iter(contributing.levels)
    for site in model.description.attention_sites:
        assert [next(levels) == Level.DIRECT for _ in range(site.heads)] == list(reached[site.layer])
    assert Level.DIRECT in contributing.levels[: model.description.heads]


def test_direct_contributions_do_not_need_those_through_later_attention() -> None:
    model = small("convit")
    x = noise(model, 2)
    contributing = Contributing(model)
    all_of_them, direct = contributing(x), contributing(x, through=False)
    at = torch.tensor([level == Level.DIRECT for level in contributing.levels])
    assert not at.all()
    assert torch.equal(direct.vectors[:, at], all_of_them.vectors[:, at])
    assert not direct.vectors[:, ~at].any()
    assert all_of_them.vectors[:, ~at].any()
    assert torch.equal(direct.representation, all_of_them.representation)
