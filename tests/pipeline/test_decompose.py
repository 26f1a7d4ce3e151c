"""Decomposition: components add up, and a head's part is what changes when this head alone is removed, in every
family.
"""

import re
from contextlib import ExitStack

import pytest
import torch
from torch import nn

from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.decompose import Component, Level, components_of, decompose, representation
from pipeline.decompose.attention import frozen_maps
from pipeline.decompose.check import check_decomposition, euler_error, perturb, random_pictures, sum_error
from pipeline.models import LoadedModel, ModelRequest, from_module, load
from pipeline.zoo import ZOO
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.test_families import SMALL, _vit, small

# members whose way to the representation is not linear, and a word of the reason
REFUSED = {
    "vit, no class token, map pooling": "ScaledDotProduct",
    "open_clip around timm": "ScaledDotProduct",
    "cait": "ScaledDotProduct",  # the class token gathers patches by attention
}
EXACT = [name for name in SMALL if name not in REFUSED]

# timm models per family: input size, heads with direct effect, heads
FULL = {
    "timm/convit_tiny": (32, 8, 48),
    "timm/coat_tiny": (64, 192, 208),
    "timm/coat_lite_tiny": (64, 16, 64),
}


def noise(model: LoadedModel, count: int = 4) -> torch.Tensor:
    weight = next(model.module.parameters())
    return model.normalise(random_pictures(model, count).to(weight.dtype))


class Held:
    """A network in which hooks hold every norm's statistics, every head and every FFN at the values of one forward.

    Written without the package under test: the real attention runs, and the input of its output projection is replaced;
    for torch's own attention, its output by that of the projection.
    """

    def __init__(self, model: LoadedModel, x: torch.Tensor) -> None:
        self.model, self.x = model, x
        modules = dict(model.module.named_modules())
        self.attention = {site.path: modules[site.path] for site in model.description.attention_sites}
        self.ffns = {site.path: modules[site.path] for site in model.description.ffn_sites}
        written = re.compile(r"stem\.conv2|.*\.conv\.conv3_1x1")  # MaxViT: what its convolution blocks add
        self.ffns |= {path: module for path, module in modules.items() if written.fullmatch(path)}
        self.norms = {
            path: m for path, m in modules.items() if hasattr(m, "normalized_shape") and "Batch" not in type(m).__name__
        }
        self.heads: dict[str, list] = {path: [] for path in self.attention}
        self.outputs: dict[str, list] = {path: [] for path in self.ffns}
        self.variances: dict[str, list] = {path: [] for path in self.norms}
        with torch.no_grad(), ExitStack() as hooks:
            for path, module in self.attention.items():
                hooks.callback(self._hook_heads(module, self.heads[path].append))
            for path, module in self.ffns.items():
                keep = self.outputs[path].append
                hooks.callback(module.register_forward_hook(lambda m, a, out, keep=keep: keep(out)).remove)
            for path, module in self.norms.items():
                keep = self.variances[path].append
                hooks.callback(
                    module.register_forward_pre_hook(lambda m, a, keep=keep: keep(self._variance(m, a[0]))).remove
                )
            self.value = representation(model, x)

    def without(self, path: str = "", head: int = 0) -> torch.Tensor:
        """The representation with one head's slice at the input of the output projection set to zero."""
        with torch.no_grad(), ExitStack() as hooks:
            for name, module in self.attention.items():
                queue = [one.clone() for one in self.heads[name]]
                if name == path:
                    for one in queue:
                        self._slice(module, one, head).zero_()
                hooks.callback(self._replace_heads(module, queue))
            for name, module in self.ffns.items():
                queue = list(self.outputs[name])
                hooks.callback(module.register_forward_hook(lambda m, a, out, queue=queue: queue.pop(0)).remove)
            for name, module in self.norms.items():
                queue = list(self.variances[name])
                hook = module.register_forward_hook(lambda m, a, out, queue=queue: self._normed(m, a[0], queue.pop(0)))
                hooks.callback(hook.remove)
            return representation(self.model, self.x)

    def _hook_heads(self, module, keep):
        if not isinstance(module, nn.MultiheadAttention):
            projection = getattr(module, "proj", None) or module.out_proj
            return projection.register_forward_pre_hook(lambda m, a: keep(a[0])).remove

        def by_hand(m, args, kwargs, out):  # one softmax, in the shapes of the formula
            x = args[0] if args else kwargs["query"]
            x = x if m.batch_first else x.transpose(0, 1)
            q, k, v = (x @ m.in_proj_weight.T + m.in_proj_bias).chunk(3, dim=-1)
            q, k, v = (one.unflatten(-1, (m.num_heads, m.head_dim)) for one in (q, k, v))
            weights = torch.einsum("bqhd,bkhd->bhqk", q, k).div(m.head_dim**0.5).softmax(-1)
            heads = torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2)
            keep(heads if m.batch_first else heads.transpose(0, 1))

        return module.register_forward_hook(by_hand, with_kwargs=True).remove

    def _replace_heads(self, module, queue):
        if isinstance(module, nn.MultiheadAttention):
            return module.register_forward_hook(lambda m, a, out: (m.out_proj(queue.pop(0)), *out[1:])).remove
        projection = getattr(module, "proj", None) or module.out_proj
        return projection.register_forward_pre_hook(lambda m, a: (queue.pop(0),)).remove

    def _slice(self, module, heads, head):
        projection = getattr(module, "proj", None) or module.out_proj
        axis = 1 if isinstance(projection, nn.Conv2d) else heads.ndim - 1
        width = heads.shape[axis] // module.num_heads
        return heads.narrow(axis, head * width, width)

    def _axis(self, norm):
        return 1 if type(norm).__name__.endswith("2d") else -1

    def _variance(self, norm, x):
        axis = self._axis(norm)
        return (
            x.var(axis, keepdim=True, correction=0)
            if isinstance(norm, nn.LayerNorm)
            else x.square().mean(axis, keepdim=True)
        )

    def _normed(self, norm, x, variance):
        axis = self._axis(norm)
        x = x - x.mean(axis, keepdim=True) if isinstance(norm, nn.LayerNorm) else x
        shape = (-1, 1, 1) if axis == 1 else (-1,)
        y = x / (variance + norm.eps).sqrt() * norm.weight.view(shape)
        return y + norm.bias.view(shape) if getattr(norm, "bias", None) is not None else y


@pytest.mark.parametrize("name", EXACT)
def test_a_head_is_what_changes_when_it_alone_is_removed(name):
    model = small(name)
    x = noise(model, 3)
    found = decompose(model, x)
    held = Held(model, x)
    torch.testing.assert_close(held.without(), held.value, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.representation, held.value, rtol=1e-10, atol=1e-12)
    reach = found.reach()
    heads = [one for one in found.components if one.kind == "head"]
    vectors = found.vectors(heads)
    for index, component in enumerate(heads):
        site = model.description.attention_sites[component.layer]
        change = held.value - held.without(site.path, component.head)
        torch.testing.assert_close(vectors[:, index], change, rtol=1e-8, atol=1e-12)
        assert bool(change.abs().max() > 1e-12) == reach[component.layer][component.head]


@pytest.mark.parametrize("name", EXACT)
def test_components_add_up_at_every_level(name):
    model = small(name)
    x = noise(model)
    for dtype, tolerance in ((torch.float64, 1e-13), (torch.float32, 1e-5)):
        model.module.to(dtype)
        for level in Level:
            found = decompose(model, x.to(dtype), level)
            assert found.level == level
            assert sum_error(found) < tolerance
            assert euler_error(found) < tolerance


@pytest.mark.parametrize("name", EXACT)
def test_contributions_to_a_direction_are_the_vectors_along_it(name):
    model = small(name)
    x = noise(model, 2)
    generator = torch.Generator().manual_seed(2)
    for level in Level:
        found = decompose(model, x, level)
        direction = torch.randn(found.representation.shape[1], generator=generator, dtype=torch.float64)
        known = [one for one in found.components if one.kind != "ffn" or level != Level.GATED]
        scores = found.scores(direction)
        assert scores.shape == (2, len(found.components))
        chosen = scores[:, [found.components.index(one) for one in known]]
        torch.testing.assert_close(found.vectors(known) @ direction, chosen, rtol=1e-9, atol=1e-12)
        assert chosen.abs().max() > 1e-3


@pytest.mark.parametrize("name", ZOO)
def test_trained_zoo_models(name):
    model = load(ModelRequest(f"zoo/{name}"))
    found = check_decomposition(model, pixels(scenes(HELD_OUT_SEED, range(4))))
    errors = (found.relative_error, found.euler_error_through_attention, found.euler_error_gated)
    assert max(errors) < 1e-5
    assert 0 < found.heads_with_direct_effect <= found.heads == model.description.heads


@pytest.mark.parametrize("name", FULL)
def test_heads_with_direct_effect(name):
    size, direct, heads = FULL[name]
    model = load(ModelRequest(name, random_weights=True, input_size=size))
    perturb(model)
    found = decompose(model, noise(model, 1))
    assert (sum(map(sum, found.reach().values())), model.description.heads) == (direct, heads)


def test_heads_without_direct_effect_have_one_through_attention():
    model = small("convit")
    x = noise(model, 2)
    direct, through = decompose(model, x), decompose(model, x, Level.THROUGH)
    assert direct.reach() == {0: (False,) * 4, 1: (False,) * 4, 2: (True,) * 4, 3: (True,) * 4}
    assert through.reach() == dict.fromkeys(range(4), (True,) * 4)
    first = [Component("head", 0, 1)]
    assert not direct.vectors(first).any()
    assert through.vectors(first).abs().max() > 1e-6


def test_through_attention_by_a_network_with_its_weights_held():
    """Of a vit: by hand, with all attention weights and norms held, FFNs zero, and one head's output left out."""
    model = small("vit")
    x = noise(model, 2)
    path, head = model.description.attention_sites[0].path, 1
    found = decompose(model, x, Level.THROUGH).vectors([Component("head", 0, head)])[:, 0]
    held = Held(model, x)

    def run(removed: bool) -> torch.Tensor:
        with torch.no_grad(), ExitStack() as hooks:
            for site in model.description.attention_sites:
                module = model.module.get_submodule(site.path)

                def forward(given, attn_mask=None, is_causal=False, module=module, path_=site.path):
                    q, k, _ = weights[path_].chunk(3, dim=-1)
                    v = module.qkv(given).chunk(3, dim=-1)[2]
                    q, k, v = (one.unflatten(-1, (module.num_heads, -1)).transpose(1, 2) for one in (q, k, v))
                    out = ((q @ k.transpose(-1, -2) * module.scale).softmax(-1) @ v).transpose(1, 2)
                    if removed and path_ == path:
                        out[:, :, head] = 0
                    return module.proj(out.flatten(2))

                module.forward = forward
                hooks.callback(module.__dict__.pop, "forward")
            for name, module in held.ffns.items():
                hook = module.register_forward_hook(lambda m, a, out, name=name: held.outputs[name][0])
                hooks.callback(hook.remove)
            for name, module in held.norms.items():
                hook = module.register_forward_hook(
                    lambda m, a, out, name=name: held._normed(m, a[0], held.variances[name][0])
                )
                hooks.callback(hook.remove)
            return representation(model, x)

    weights: dict[str, torch.Tensor] = {}
    with torch.no_grad(), ExitStack() as hooks:
        for site in model.description.attention_sites:
            qkv = model.module.get_submodule(site.path).qkv
            hook = qkv.register_forward_hook(lambda m, a, out, path_=site.path: weights.__setitem__(path_, out))
            hooks.callback(hook.remove)
        representation(model, x)
    torch.testing.assert_close(run(False), held.value, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found, run(False) - run(True), rtol=1e-8, atol=1e-12)


def test_representation_is_what_the_classifiers_read():
    model = small("deit, distilled")
    x = noise(model, 2)
    with torch.no_grad():
        read = representation(model, x)
        logits = model.module.head(read[:, :24]) + model.module.head_dist(read[:, 24:])
        torch.testing.assert_close(model.module(x), logits / 2)
        clip = small("open_clip")
        seen = noise(clip, 2)
        torch.testing.assert_close(representation(clip, seen), clip.module(seen))
    for name in EXACT:
        other = small(name)
        if other.description.family != "clip":
            with torch.no_grad():
                assert representation(other, noise(other, 1)).shape == (1, other.description.representation_dim)


def test_convolution_blocks_of_maxvit_are_components_and_its_tanh_is_the_classifiers():
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg

    attention = MaxxVitTransformerCfg(dim_head=8, window_size=(4, 4), grid_size=(4, 4), rel_pos_type="bias")
    config = MaxxVitCfg(
        embed_dim=(8, 16), depths=(1, 1), block_type=("M", "M"), stem_width=8, conv_cfg=MaxxVitConvCfg(),
        transformer_cfg=attention, head_hidden_size=12,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        module = MaxxVit(config, img_size=64, num_classes=5).double()
    model = from_module(module, name="maxvit, tanh", input_size=(64, 64))
    perturb(model)
    x = noise(model, 2)
    found = decompose(model, x)
    with torch.no_grad():
        torch.testing.assert_close(module(x), module.head.fc(torch.tanh(found.representation)))
    blocks = [Component("convolution", place) for place in range(3)]  # the stem and two inverted bottlenecks
    assert [one for one in found.components if one.kind == "convolution"] == blocks
    assert found.vectors(blocks).flatten(2).abs().amax((0, 2)).min() > 1e-6
    assert not found.vectors([Component("image")]).any()  # all of it passes the stem
    assert sum_error(found) < 1e-13


def test_components_have_names():
    names = [one.name for one in components_of(small("vit"))]
    assert names[:4] == ["head/0/0", "head/0/1", "head/0/2", "head/1/0"]
    assert names[9:] == ["ffn/0", "ffn/1", "ffn/2", "image", "constant"]


def test_the_model_runs_as_before_afterwards():
    for name in ("swin v2", "coat", "open_clip"):
        model = small(name)
        x = noise(model, 2)
        with torch.inference_mode():
            before = model.module(x)
            for level in Level:
                decompose(model, x, level).vectors()
            assert torch.equal(model.module(x), before)
        for module in model.module.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert "forward" not in module.__dict__
        assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())


def test_images_do_not_mix():
    model = small("swin")
    x = noise(model, 3)
    together, alone = decompose(model, x).vectors(), decompose(model, x[1:2]).vectors()
    torch.testing.assert_close(together[1:2], alone, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_linear_is_refused(name):
    model = small(name)
    with pytest.raises(UnknownFamily, match=REFUSED[name]):
        decompose(model, noise(model, 1))


@pytest.mark.parametrize("pool", ["max", "avgmax"])
def test_max_pooling_is_refused(pool):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = from_module(_vit(global_pool=pool).double(), name=pool, input_size=(32, 32))
    with pytest.raises(UnknownFamily, match="not linear: it passes Amax"):
        decompose(model, noise(model, 1))


def test_an_attention_whose_output_is_not_its_projection_is_refused():
    module = _vit().double()
    model = from_module(module, name="odd", input_size=(32, 32))
    attn = module.blocks[1].attn
    attn.forward = lambda x, attn_mask=None, is_causal=False: type(attn).forward(attn, x).roll(1, dims=-1)
    with pytest.raises(UnknownFamily, match=r"blocks\.1\.attn .* not what its output projection makes"):
        decompose(model, noise(model, 1))


def test_queries_that_cannot_be_held_are_refused():
    attention = small("vit").module.blocks[0].attn
    assert len(frozen_maps("blocks.0.attn", attention)) == 1
    attention.mixed, attention.qkv = attention.qkv, nn.Identity()
    with pytest.raises(UnknownFamily, match=r"blocks\.0\.attn \(Attention\) makes its queries and keys by none of qkv"):
        frozen_maps("blocks.0.attn", attention)


def test_mistakes_are_named():
    model = small("vit")
    x = noise(model, 1)
    with pytest.raises(BadConfig, match="ffn/0 at the level 'gated'"):
        decompose(model, x, Level.GATED).vectors([Component("ffn", 0)])
    with pytest.raises(BadConfig, match="head/7/0 at the level 'direct'"):
        decompose(model, x).vectors([Component("head", 7, 0)])
    model.module.bfloat16()
    with pytest.raises(BadConfig, match="float32"):
        decompose(model, x.bfloat16())
    with pytest.raises(ValueError, match="sideways"):
        decompose(model, x, "sideways")
