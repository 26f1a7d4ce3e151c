"""Direct effects in few passes: equal to one backward pass an output and image, in all models, in little memory."""

import gc
import subprocess
import sys
import weakref
from contextlib import ExitStack

import numpy as np
import pytest
import timm
import torch
from torch import nn

from atlas_schema.partials import commit_partial, read_partial
from atlas_schema.store import Store
from atlas_schema.units import Images, WorkUnit
from pipeline.effects.direct import SiteEffect, direct_effects
from pipeline.effects.readout import columns, readout_of
from pipeline.effects.rows import written_rows
from pipeline.effects.written import DirectEffects, WriteSettings, written_effects
from pipeline.models import LoadedModel, ModelRequest, from_module, load
from pipeline.zoo import ZOO
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.atlas_schema.made_atlas import PROVENANCE
from tests.pipeline.close import assert_close
from tests.pipeline.test_families import SMALL, small
from tests.pipeline.test_readout import images_for, readout_for

TIMM = ("test_vit", "test_vit2", "test_vit4", "test_vit_relpos", "deit_tiny_distilled_patch16_224", "test_maxvit")
MANY = 60  # outputs, more than the last norm has channels


def plainly(model: LoadedModel, readout, x01: torch.Tensor) -> list[torch.Tensor]:
    """Of each site the direct effects (names, width): image by image, output by output, one backward pass each."""
    sites = model.description.ffn_sites
    gradients = [torch.zeros(len(readout.names), len(columns(model, site)), dtype=torch.float64) for site in sites]
    for image in model.normalise(x01).split(1):
        pushes = [torch.zeros(len(columns(model, site)), dtype=x01.dtype, requires_grad=True) for site in sites]
        with ExitStack() as hooks, torch.enable_grad():
            for part in model.module.modules():
                if isinstance(getattr(part, "normalized_shape", None), tuple | list):
                    hooks.callback(part.register_forward_hook(hold_deviation).remove)
            for site in model.description.attention_sites:
                hooks.callback(model.module.get_submodule(site.path).register_forward_hook(hold).remove)
            for site, push in zip(sites, pushes, strict=True):

                def pushed(module, args, out, site=site, push=push):
                    return out.detach() + (push.view(-1, 1, 1) if site.layout == "NCHW" else push)

                hooks.callback(model.module.get_submodule(site.path).register_forward_hook(pushed).remove)
            out = model.module(image)
            out = out[0] if isinstance(out, tuple) else out
            if readout.texts is not None:
                out = out / out.detach().norm() @ readout.texts.to(out).T
        for number, output in enumerate(out[0]):
            for push in pushes:
                push.grad = None
            output.backward(retain_graph=True)
            for push, sums in zip(pushes, gradients, strict=True):
                if push.grad is not None:
                    sums[number] += push.grad
    return [(sums / len(x01)) @ columns(model, site).double() for site, sums in zip(sites, gradients, strict=True)]


def hold(module, args, out):
    if isinstance(out, tuple):
        return tuple(one if one is None else one.detach() for one in out)
    return out.detach()


def hold_deviation(module, args, out):
    """A norm of today's deviation: what the norm gives, and a linear map's gradient."""
    axis = 1 if type(module).__name__.endswith("2d") else -1
    x = args[0] - args[0].mean(axis, keepdim=True) if isinstance(module, nn.LayerNorm) else args[0]
    eps = torch.finfo(x.dtype).eps if module.eps is None else module.eps
    linear = x / (x.detach().square().mean(axis, keepdim=True) + eps).sqrt()
    if module.weight is not None:
        linear = linear * module.weight.view(-1, *[1] * (2 if axis == 1 else 0))
    return linear + (out - linear).detach()


def assert_equal_to_plain(model: LoadedModel, readout, x01: torch.Tensor) -> list[SiteEffect]:
    """Where there are numbers, to 1e-6 of the largest."""
    found = direct_effects(model, readout, x01.split(2))
    expected = plainly(model, readout, x01)
    assert len(found) == len(expected)
    for one, truth in zip(found, expected, strict=True):
        assert (one.effect is None) == bool(one.reason)
        if one.effect is not None:
            assert_close(one.effect, truth, 1e-6, f"layer {one.layer}")
        elif "do not reach" in one.reason:
            assert not truth.any()
    return found


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """How many sites every pass that is taken channel by channel or output by output was for."""
    from pipeline.effects import direct

    taken: list[int] = []
    pull = direct._Sums._pull

    def counted(self, target, leaves, seeded, into):
        taken.extend([len(leaves)] * len(into[0]))
        pull(self, target, leaves, seeded, into)

    monkeypatch.setattr(direct._Sums, "_pull", counted)
    return taken


@pytest.mark.parametrize("name", SMALL)
def test_small_members_equal_one_pass_an_output(name):
    model = small(name)
    assert_equal_to_plain(model, readout_for(model), images_for(model))


@pytest.mark.parametrize("name", ZOO)
def test_the_zoo_equals_one_pass_an_output(name):
    model, x01 = load(ModelRequest(f"zoo/{name}")), pixels(scenes(HELD_OUT_SEED, range(5)))
    if name == "clip":
        texts = torch.randn(6, model.module(x01[:1]).shape[1], generator=torch.Generator().manual_seed(0))
        readout = readout_of(model, texts=(list("abcdef"), texts))
    else:
        readout = readout_of(model)
    assert any(one.effect is not None for one in assert_equal_to_plain(model, readout, x01))


def of_timm(name: str, **options) -> LoadedModel:
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = timm.create_model(name, **options)
        for parameter in module.parameters():  # some start at zero
            parameter.data += 0.02 * torch.randn_like(parameter)
    return from_module(module, name=name, input_size=module.pretrained_cfg["input_size"][1:])


@pytest.mark.parametrize("name", TIMM)
def test_models_of_timm_equal_one_pass_an_output(name):
    model = of_timm(name, num_classes=9)
    x01 = torch.rand(3, 3, *model.description.input_size, generator=torch.Generator().manual_seed(1))
    assert any(one.effect is not None for one in assert_equal_to_plain(model, readout_of(model), x01))


def with_many_outputs(name: str) -> LoadedModel:
    model = small(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(8)
        model.module.reset_classifier(MANY)
        for parameter in model.module.get_classifier().parameters():
            nn.init.normal_(parameter, std=0.2)
    return from_module(model.module.double(), name=name, input_size=model.description.input_size)


# of each model, the sites that have a closed form
CLOSED = {
    "vit": {0, 1, 2},
    "vit, registers, layer scale": {0, 1, 2},
    "vit, gated FFN": {0, 1, 2},
    "vit, parallel things": {0, 1, 2, 3, 4, 5},
    "vit, post-norm": {0, 1, 2},
    "eva, registers, gated": {0, 1},
    "swin": {0, 1, 2, 3},
    "swin v2": {0, 1, 2, 3},
    "twins, svt": {2, 3},
    "maxvit": {2, 3},
}


@pytest.mark.parametrize("name", CLOSED)
def test_behind_the_last_stage_no_pass_is_taken_an_output(name, passes):
    """Elsewhere as many as the last norm has channels, not as many as there are outputs."""
    model = with_many_outputs(name)
    found = assert_equal_to_plain(model, readout_of(model), images_for(model))
    given = {one.layer for one in found if one.effect is not None}
    assert given >= CLOSED[name]
    left = given - CLOSED[name]
    assert set(passes) == ({len(left)} if left else set())
    channels = max(len(columns(model, site)) for site in model.description.ffn_sites)
    assert channels < MANY
    assert len(passes) == (3 * channels if left else 0)  # three graphs: one image, the rest of its batch, and a batch


@pytest.mark.parametrize("name", CLOSED)
def test_the_form_is_seen_in_float32_as_in_float64(name, passes):
    model = small(name)
    x01, readout = images_for(model), readout_for(model)
    whole = direct_effects(model, readout, [x01])
    in_double = list(passes)
    passes.clear()
    single = from_module(model.module.float(), name=name, input_size=model.description.input_size)
    found = direct_effects(single, readout, [x01.float()])
    assert passes == in_double
    for one, other in zip(found, whole, strict=True):
        assert one.reason == other.reason
        if one.effect is not None:
            assert_close(one.effect, other.effect, 1e-5)


class Unnamed(nn.Module):
    """A linear map of channels into each other, by an operation and not by a module that is known for it."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.mT + self.bias


@pytest.mark.parametrize("mixes", ["no", "by a linear map", "by an operation"])
def test_the_graph_decides_not_the_family(mixes, passes):
    """A ViT with a linear map before its last norm: of channels into each other, or each of its own."""
    model = small("vit")
    width = model.module.embed_dim
    extra = nn.Linear(width, width).double()
    nn.init.normal_(extra.weight)
    if mixes == "no":
        extra.weight.data = extra.weight.diagonal().diag()
    if mixes == "by an operation":
        extra = Unnamed(extra)
    model.module.norm = nn.Sequential(extra.requires_grad_(False), model.module.norm)
    assert_equal_to_plain(model, readout_of(model), images_for(model))
    assert bool(passes) == (mixes == "by an operation")


@pytest.mark.parametrize("kind", ["hidden layer behind the norm", "norm left out"])
def test_readouts_without_factors_are_taken_output_by_output(kind, passes):
    model = small("vit")
    if kind == "norm left out":
        model.module.norm = nn.Identity()
    else:  # linear, but each token is read in its own way
        model.module.pool = lambda x, *args: (
            x[:, 1:] * torch.linspace(-1, 1, 16 * 24, dtype=x.dtype).view(16, 24)
        ).sum(1)
    assert_equal_to_plain(model, readout_of(model), images_for(model))
    assert set(passes) == {3}
    assert len(passes) % 5 == 0


@pytest.mark.parametrize("name", ["swin", "swin v2"])
def test_a_graph_is_let_go_once_it_is_summed_up(name):
    """The hooks at its gates hold no tensor of it."""
    from pipeline.effects import residual_path

    model, known = small(name), []
    passed = residual_path.ResidualPath.passed

    def seen(self, gate):
        known.append(weakref.ref(gate.y))
        return passed(self, gate)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(residual_path.ResidualPath, "passed", seen)
        direct_effects(model, readout_of(model), [images_for(model)])
    gc.collect()
    assert known
    assert not any(one() is not None for one in known)


@pytest.mark.parametrize("kind", ["a patch map that mixes positions", "a gain of its own for each position"])
def test_a_gate_that_takes_something_else_is_not_believed(kind, passes):
    """In front of it the map is then taken channel by channel, and as exact."""
    model = small("swin")
    merge = next(part for part in model.module.modules() if type(part).__name__ == "PatchMerging")
    merge.reduction = nn.Sequential(merge.reduction, Rolled(0.3 if "mixes" in kind else 0.0))
    assert_equal_to_plain(model, readout_of(model), images_for(model))
    assert passes


class Rolled(nn.Module):
    """A linear map of (images, height, width, channels): every row and channel times its own, and some of the next."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x):
        gains = torch.linspace(0.5, 2, x.shape[1] * x.shape[3], dtype=x.dtype).view(1, x.shape[1], 1, x.shape[3])
        return x * gains + self.share * x.roll(1, 2)


def test_equal_whatever_fits_at_once():
    model, x01 = load(ModelRequest("zoo/swin")), pixels(scenes(HELD_OUT_SEED, range(6)))
    readout, steps = readout_of(model), []
    whole = direct_effects(model, readout, [x01])
    single = direct_effects(model, readout, x01.split(4), memory=1, on_step=lambda: steps.append(1))
    for one, other in zip(whole, single, strict=True):
        assert_close(one.effect, other.effect, 1e-6)
    assert len(steps) > len(x01)


def test_a_norm_without_a_mean_and_without_a_gain():
    from timm.layers import RmsNorm

    model = small("vit")
    for norm in (RmsNorm(24).double(), nn.LayerNorm(24, elementwise_affine=False)):
        model.module.norm = norm.requires_grad_(False)
        assert_equal_to_plain(model, readout_of(model), images_for(model))


# ----------------------------------------------------------------------------------------------------- what is kept


def by_sorting(effect: torch.Tensor, names, units, written: int) -> list[list[tuple[str, float]]]:
    """Of each unit the names it raises and lowers most, from a stable sort of all."""
    strength = effect.double().numpy()
    rows = []
    for unit in units:
        order = sorted(range(len(names)), key=lambda output: -strength[output, unit])
        lowered = order[written:][-written:]
        rows.append([(names[output], float(strength[output, unit])) for output in order[:written] + lowered])
    return rows


@pytest.mark.parametrize("outputs", [1, 3, 4, 7, 40])
def test_rows_are_those_of_a_stable_sort_also_among_equals(outputs):
    generator = torch.Generator().manual_seed(outputs)
    effect = torch.randint(-3, 4, (outputs, 30), generator=generator).float() / 3
    effect[:, 7] = 0
    names = [f"class {i}" for i in range(outputs)]
    kept = DirectEffects.of_sites([SiteEffect(5, effect)], 3)
    rows = written_rows(kept, 5, names, [7, 0, 29])
    found = [[(one["name"], one["logit"]) for one in row["writes_to"]] for row in rows]
    assert found == by_sorting(effect, names, [7, 0, 29], 3)
    assert [row["unit"] for row in rows] == [7, 0, 29]


def test_what_is_kept_of_a_model_comes_back_from_its_arrays():
    model = small("convit")
    x01, readout, count = images_for(model), readout_of(small("convit")), WriteSettings().written
    kept = written_effects(model, readout, [x01], count)
    arrays = kept.arrays()
    assert {array.dtype for name, array in arrays.items() if "value" in name} == {np.dtype(np.float32)}
    assert arrays["3/raised"].dtype == arrays["3/lowered"].dtype == np.int32
    assert set(arrays) == {name for layer in kept.layers for name in DirectEffects.names(layer)}
    back = DirectEffects.of(arrays)
    whole = direct_effects(model, readout, [x01])
    for site, effect in zip(model.description.ffn_sites, whole, strict=True):
        units = range(site.width)
        rows = written_rows(back, site.layer, readout.names, units)
        assert rows == written_rows(kept, site.layer, readout.names, units)
        alone = DirectEffects.of({name: arrays[name] for name in DirectEffects.names(site.layer)})
        assert rows == written_rows(alone, site.layer, readout.names, units)
        if effect.effect is None:
            assert [row["effect_note"] for row in rows] == [effect.reason] * site.width
            continue
        found = [[(one["name"], one["logit"]) for one in row["writes_to"]] for row in rows]
        assert found == by_sorting(effect.effect, readout.names, units, count)


def test_arrays_can_be_committed(tmp_path):
    """And read a layer at a time, one without numbers as well."""
    store, unit = Store(tmp_path / "atlas"), WorkUnit("probe", "a-model", Images(0, 3), "a" * 16, "0" * 16)
    kept = DirectEffects.of_sites([SiteEffect(0, None, "no readout"), SiteEffect(1, torch.eye(3))], 1)
    commit_partial(store, unit, kept.arrays(), provenance=PROVENANCE)
    first, second = (DirectEffects.of(read_partial(store, unit, DirectEffects.names(layer))) for layer in (0, 1))
    assert written_rows(first, 0, [], [3]) == [{"unit": 3, "writes_to": None, "effect_note": "no readout"}]
    assert written_rows(second, 1, list("abc"), range(3)) == written_rows(kept, 1, list("abc"), range(3))


PEAK = """
import resource, timm, torch
from pipeline.effects.readout import readout_of
from pipeline.effects.written import written_effects
from pipeline.models import from_module

torch.set_num_threads(1)
model = from_module(timm.create_model("vit_base_patch16_224", num_classes=1000), name="base", input_size=(224, 224))
images, readout = torch.rand(4, 3, 224, 224), readout_of(model)
with open("/proc/self/statm") as file:
    before = int(file.read().split()[1]) * resource.getpagesize()
kept = written_effects(model, readout, [images], 5)
assert kept.layers[11].raised.shape == (3072, 5)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before)
"""


@pytest.mark.slow
def test_a_base_model_of_a_thousand_classes_takes_less_than_a_gigabyte():
    found = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, timeout=250, check=True)
    assert int(found.stdout) < 1e9


def test_tens_of_thousands_of_outputs_take_a_few_hundred_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """21,843 classes: sums over so many outputs round more, and were taken for a readout without factors."""
    torch.manual_seed(0)
    module = timm.create_model("test_vit", num_classes=21_843).eval()
    size = module.pretrained_cfg["input_size"][1:]
    model, images = from_module(module, name="many", input_size=size), torch.rand(2, 3, *size)
    passes = []
    grad = torch.autograd.grad
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: passes.append(1) or grad(*args, **kwargs))
    found = direct_effects(model, readout_of(model), [images])
    assert len(passes) < 1000
    few = [0, 777, 21_842]
    head = nn.Linear(module.head.in_features, len(few))
    head.load_state_dict({name: value[few] for name, value in module.head.state_dict().items()})
    module.head = head
    small = from_module(module, name="few", input_size=size)
    for site, expected in zip(found, plainly(small, readout_of(small), images), strict=True):
        assert_close(site.effect[few], expected, 1e-5)
