"""Direct effects: in every family equal to a frozen network that is run twice, or a reason why there are none."""

from contextlib import ExitStack
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from atlas_schema.errors import BadConfig
from pipeline.effects.direct import direct_effects
from pipeline.effects.readout import columns, readout_of
from pipeline.models import LoadedModel, ModelRequest, describe, from_module, load
from pipeline.models.class_names import class_names
from pipeline.models.description import classifiers
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.test_families import SMALL, small

IMAGES = 3

# members whose sites do not all have numbers: of each site, a word of the reason, or "" for a number
UNREACHED = {
    "vit, no class token, map pooling": ["ScaledDotProduct"] * 3,
    "coat": ["do not reach", "", "", "", "", "", ""],
    "coat-lite": ["do not reach"] * 4 + [""],
    "convit": ["do not reach"] * 2 + [""] * 2,
    "maxvit": ["Silu"] * 2 + [""] * 2,
    "maxvit, hidden layer in the head": ["Tanh"] * 4,
    "open_clip around timm": ["ScaledDotProduct"] * 3,
    "cait": ["ScaledDotProduct"] * 3,
}


def images_for(model: LoadedModel, count: int = IMAGES) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.rand(count, 3, *model.description.input_size, generator=generator, dtype=torch.float64)


def readout_for(model: LoadedModel):
    if model.description.family != "clip":
        return readout_of(model)
    out = model.module(torch.zeros(1, 3, *model.description.input_size, dtype=torch.float64))
    generator = torch.Generator().manual_seed(6)
    return readout_of(model, texts=(list("abcd"), torch.randn(4, out.shape[1], generator=generator).double()))


class Frozen:
    """A network whose attention, FFNs and norm statistics answer from a record of one forward: run, not derived."""

    def __init__(self, model: LoadedModel, readout, x: torch.Tensor) -> None:
        self.model, self.readout, self.x = model, readout, x
        self.parts = {s.path for s in (*model.description.attention_sites, *model.description.ffn_sites)}
        self.norms = {
            p for p, m in model.module.named_modules() if "Norm" in type(m).__name__ and "Batch" not in str(m)
        }
        self.norms = {p for p in self.norms if hasattr(model.module.get_submodule(p), "normalized_shape")}
        self.record: dict[str, list] = {}
        with ExitStack() as hooks:
            for path in self.parts | self.norms:
                self.record[path] = []
                keep = self._statistics(path) if path in self.norms else self._output(path)
                hooks.callback(model.module.get_submodule(path).register_forward_hook(keep).remove)
            self.embedding = self._run()

    def _output(self, path):
        return lambda module, args, out: self.record[path].append(out)

    def _axis(self, module):
        return 1 if type(module).__name__.endswith("2d") else -1

    def _statistics(self, path):
        def keep(module, args, out):
            centred = isinstance(module, nn.LayerNorm)
            axis = self._axis(module)
            self.record[path].append((args[0].var(axis, keepdim=True, correction=0) if centred else
                                      args[0].square().mean(axis, keepdim=True)) + module.eps)  # fmt: skip

        return keep

    def _run(self) -> torch.Tensor:
        out = self.model.module(self.x)
        return out[0] if isinstance(out, tuple) else out

    def outputs(self, site=None, unit=0) -> torch.Tensor:
        """Mean over images of the outputs, with one unit of a site raised by 1 on all tokens."""
        with ExitStack() as stubs:
            for path, answers in self.record.items():
                module = self.model.module.get_submodule(path)
                queue = list(answers)
                if path in self.norms:
                    module.forward = self._norm(module, queue)
                else:
                    raised = site is not None and path == site.path
                    module.forward = self._answer(queue, columns(self.model, site)[:, unit] if raised else None, site)
                stubs.callback(module.__dict__.pop, "forward")
            out = self._run()
        if self.readout.texts is not None:
            out = out / self.embedding.norm(dim=1, keepdim=True) @ self.readout.texts.T
        return out.mean(0)

    def _answer(self, queue, column, site):
        def forward(*args, **kwargs):
            out = queue.pop(0)
            if column is None:
                return out
            return out + (column[:, None, None] if site.layout == "NCHW" else column)

        return forward

    def _norm(self, module, queue):
        def forward(x):
            axis = self._axis(module)
            x = (x - x.mean(axis, keepdim=True)) if isinstance(module, nn.LayerNorm) else x
            y = x / queue.pop(0).sqrt()
            shape = (-1, 1, 1) if axis == 1 else (-1,)
            y = y * module.weight.view(shape)
            return y + module.bias.view(shape) if getattr(module, "bias", None) is not None else y

        return forward


@pytest.mark.parametrize("name", SMALL)
def test_direct_effects_are_those_of_a_frozen_network_or_have_a_reason(name):
    model = small(name)
    x01, readout = images_for(model), readout_for(model)
    assert not readout.reason
    found = direct_effects(model, readout, x01.split(2))
    sites = model.description.ffn_sites
    reasons = UNREACHED.get(name, [""] * len(sites))
    assert len(found) == len(sites) == len(reasons)
    with torch.no_grad():
        frozen = Frozen(model, readout, model.normalise(x01))
        base = frozen.outputs()
        for site, effect, reason in zip(sites, found, reasons, strict=True):
            assert effect.layer == site.layer
            assert (effect.effect is None) == bool(reason), (site.path, effect.reason)
            assert reason in effect.reason
            if effect.effect is None:
                if reason == "do not reach":  # true of the frozen network as well
                    assert torch.equal(frozen.outputs(site, 1), base)
                continue
            assert effect.effect.shape == (len(readout.names), site.width)
            for unit in (0, site.width - 1):
                change = (frozen.outputs(site, unit) - base).float()
                assert change.abs().max() > 1e-6
                torch.testing.assert_close(effect.effect[:, unit], change, rtol=1e-4, atol=1e-6)


def test_last_block_of_a_vit_by_hand():
    """head @ gamma * (c - mean c) * mean of 1 / std, with the statistics of the class token before the last norm."""
    model = load(ModelRequest("zoo/vit"))
    x01 = pixels(scenes(HELD_OUT_SEED, range(20)))
    vit, last = model.module, model.description.ffn_sites[-1]
    seen = []
    hook = vit.norm.register_forward_pre_hook(lambda module, args: seen.append(args[0][:, 0]))
    with torch.no_grad():
        vit(model.normalise(x01))
    hook.remove()
    deviation = (seen[0].var(1, correction=0) + vit.norm.eps).sqrt()
    column = columns(model, last)
    by_hand = vit.head.weight @ (vit.norm.weight[:, None] * (column - column.mean(0)) * (1 / deviation).mean())
    effect = direct_effects(model, readout_of(model), x01.split(7))[-1].effect
    torch.testing.assert_close(effect, by_hand, rtol=1e-4, atol=1e-6)


def test_the_model_runs_as_before_afterwards():
    model = small("swin")
    x01, readout = images_for(model), readout_for(model)
    with torch.no_grad():
        before = model.module(model.normalise(x01))
        direct_effects(model, readout, [x01])
        assert torch.equal(model.module(model.normalise(x01)), before)
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())
    assert not any(m._forward_hooks for m in model.module.modules())


def test_zoo_classes_have_names_and_the_neurons_write_to_them():
    model = load(ModelRequest("zoo/deit"))
    names = class_names(model)
    assert (len(names), names[0], names[-1]) == (40, "shape: disk", "background: wavy")
    readout = readout_of(model)
    assert readout.names == names
    assert len(classifiers(model.module)) == 2
    assert readout_of(small("vit")).names == tuple(f"class {i}" for i in range(5))
    assert readout_of(small("vit"), names=list("abcde")).names == tuple("abcde")


def test_imagenet_names_only_where_the_weights_say_so():
    import timm

    request = ModelRequest("timm/deit_tiny_patch16_224.fb_in1k")
    model = LoadedModel(describe(request), timm.create_model("deit_tiny_patch16_224"), "", torch.device("cpu"))
    names = class_names(model)
    assert len(names) == 1000
    assert names[0].startswith("tench")
    own = replace(model.description, id="timm/deit_tiny_patch16_224")
    assert class_names(replace(model, description=own)) == ()


def test_without_a_readout_there_is_a_reason():
    vit = small("vit").module
    vit.reset_classifier(0)
    bare = from_module(vit, name="bare", input_size=(32, 32))
    assert "no classifier" in readout_of(bare).reason
    found = direct_effects(bare, readout_of(bare), [])
    assert all(one.effect is None and "no classifier" in one.reason for one in found)
    zero = small("vit")
    zero.module.head.weight.data.zero_()
    zero.module.head.bias.data.zero_()
    assert "all zero" in readout_of(zero).reason
    assert "texts" in readout_of(load(ModelRequest("zoo/clip"))).reason


def test_texts_are_compared_by_direction():
    model = small("open_clip")
    texts = torch.randn(4, 7, generator=torch.Generator().manual_seed(1)).double()
    readout = readout_of(model, texts=(list("abcd"), 3 * texts))
    x = model.normalise(images_for(model))
    with torch.no_grad():
        cosines = functional.cosine_similarity(model.module(x)[:, None], texts[None], dim=2)
        torch.testing.assert_close(readout.outputs(model, x), cosines)


def test_mistakes_are_named():
    model = small("vit")
    with pytest.raises(BadConfig, match="3 names of classes, 5 outputs"):
        readout_of(model, names=list("abc"))
    with pytest.raises(BadConfig, match="no images"):
        direct_effects(model, readout_of(model), [])
    with pytest.raises(BadConfig, match="6 numbers in an embedding"):
        readout_of(small("open_clip"), texts=(["a"], torch.ones(1, 6)))
