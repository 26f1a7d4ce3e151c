"""Which heads read a neuron: what passes is what changes when the neuron is removed for one head alone."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch

from atlas_schema.errors import BadConfig
from pipeline.decompose import Level, decompose, representation
from pipeline.decompose.contributions import Contributing
from pipeline.decompose.reads import passed_to_heads, reads
from tests.pipeline.test_decompose import Held, noise, small

# members whose values are made by a linear map with heads side by side
MEMBERS = ["vit", "vit, gated FFN", "deit, distilled", "swin", "coat", "coat-lite", "convit", "pit", "twins, svt"]


class Removed(Held):
    """A held network in which a neuron can be taken from what one head receives, and from nothing else."""

    def value_map(self, path: str) -> tuple[torch.nn.Module, int]:
        """The map that makes values, and the first of its outputs that is one."""
        module = self.attention[path]
        for name, (of, parts) in {"qkv": (2, 3), "kv": (1, 2), "v": (0, 1)}.items():
            found = getattr(module, name, None)
            if found is not None:
                return found, found.out_features // parts * of
        raise AssertionError(path)

    def made_without(self, path: str, ffn: str, unit: int) -> list[torch.Tensor]:
        """What the map of an attention gives where a neuron is zero and all else but the residual path is held."""
        site = next(one for one in self.model.description.ffn_sites if one.path == ffn)
        post = self.model.module.get_submodule(site.post)
        made: list[torch.Tensor] = []
        hidden: list[torch.Tensor] = []
        with torch.no_grad(), ExitStack() as hooks:
            hooks.callback(post.register_forward_pre_hook(lambda m, a: hidden.append(a[0])).remove)
            representation(self.model, self.x)
        with torch.no_grad(), ExitStack() as hooks:
            for name, module in self.attention.items():
                hooks.callback(self._replace_heads(module, list(self.heads[name])))
            for name, module in self.ffns.items():
                queue = list(self.outputs[name])
                if name == ffn:
                    column = post.weight[:, unit]
                    queue = [one - h[..., unit, None] * column for one, h in zip(queue, hidden, strict=True)]
                hooks.callback(module.register_forward_hook(lambda m, a, out, queue=queue: queue.pop(0)).remove)
            self._hold_norms(hooks)
            hooks.callback(self.value_map(path)[0].register_forward_hook(lambda m, a, out: made.append(out)).remove)
            representation(self.model, self.x)
        return made

    def heads_from(self, path: str, head: int, changed: list[torch.Tensor]) -> list[torch.Tensor]:
        """The heads of an attention with its queries and keys, and all values but those of one head, as they were."""
        module = self.attention[path]
        linear, first = self.value_map(path)
        queue, heads = list(changed), []
        width = (linear.out_features - first) // module.num_heads
        own = slice(first + head * width, first + (head + 1) * width)

        def swap(part, args, out):
            out = out.clone()
            out[..., own] = queue.pop(0)[..., own]
            return out

        with torch.no_grad(), ExitStack() as hooks:
            hooks.callback(linear.register_forward_hook(swap).remove)
            hooks.callback(self._hook_heads(module, lambda o: heads.append(o.clone())))
            representation(self.model, self.x)
        return heads

    def with_heads(self, path: str, heads: list[torch.Tensor]) -> torch.Tensor:
        """The representation of the held network with other outputs of one attention's heads."""
        before, self.heads[path] = self.heads[path], heads
        try:
            return self.without()
        finally:
            self.heads[path] = before

    def through(self, path: str, heads: list[torch.Tensor] | None) -> torch.Tensor:
        """The same where later attention takes its values from what it then receives, with its weights held."""
        made: dict[str, torch.Tensor] = {}
        with torch.no_grad(), ExitStack() as hooks:
            for name in self.attention:
                keep = self.value_map(name)[0].register_forward_hook(lambda m, a, o, name=name: made.update({name: o}))
                hooks.callback(keep.remove)
            representation(self.model, self.x)
        with torch.no_grad(), ExitStack() as hooks:
            for name in self.attention:
                linear, first = self.value_map(name)

                def hold(part, args, out, name=name, first=first):
                    return torch.cat([made[name][..., :first], out[..., first:]], dim=-1)

                hooks.callback(linear.register_forward_hook(hold).remove)
            if heads is not None:
                hooks.callback(self._replace_heads(self.attention[path], list(heads)))
            for name, module in self.ffns.items():
                queue = list(self.outputs[name])
                hooks.callback(module.register_forward_hook(lambda m, a, out, queue=queue: queue.pop(0)).remove)
            self._hold_norms(hooks)
            return representation(self.model, self.x)

    def _hold_norms(self, hooks: ExitStack) -> None:
        for name, module in self.norms.items():
            queue = list(self.variances[name])
            hook = module.register_forward_hook(lambda m, a, out, queue=queue: self._normed(m, a[0], queue.pop(0)))
            hooks.callback(hook.remove)


def axes_of(model, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(model.description.heads, size, generator=generator, dtype=torch.float64)


def chosen(model):
    """(place among heads, site, head, FFN, unit) for the last head of every site and an earlier and a later FFN."""
    places = {(site.layer, h): 0 for site in model.description.attention_sites for h in range(site.heads)}
    places = {key: place for place, key in enumerate(places)}
    for site in model.description.attention_sites:
        head = site.heads - 1
        for ffn in model.description.ffn_sites:
            yield places[site.layer, head], site, head, ffn, ffn.width // 2


@pytest.mark.parametrize("name", MEMBERS)
def test_what_passes_is_what_changes_when_the_neuron_is_removed_for_this_head(name):
    model = small(name)
    x = noise(model, 2)
    held = Removed(model, x)
    axes = axes_of(model, held.value.shape[1])
    levels = [Level.DIRECT] * model.description.heads
    passed = list(passed_to_heads(Contributing(model), x, axes, levels))
    offsets = np.cumsum([0, *(ffn.width for ffn in model.description.ffn_sites)])
    seen = 0.0
    for place, site, head, ffn, unit in chosen(model):
        changed = held.made_without(site.path, ffn.path, unit)
        after = held.with_heads(site.path, held.heads_from(site.path, head, changed))
        expected = (held.value - after) @ axes[place]
        found = passed[place].neurons[:, offsets[ffn.layer] + unit]
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-11)
        seen = max(seen, float(expected.abs().max()))
    assert seen > 1e-6
    scores = decompose(model, x).vectors(decompose(model, x).components[: len(axes)])
    own = torch.stack([one.own for one in passed], dim=1)
    torch.testing.assert_close(own, torch.einsum("nhd,hd->nh", scores, axes), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("name", ["vit", "swin", "convit"])
def test_a_head_that_writes_through_later_attention(name):
    model = small(name)
    x = noise(model, 2)
    held = Removed(model, x)
    torch.testing.assert_close(held.through("", None), held.value, rtol=1e-9, atol=1e-11)
    axes = axes_of(model, held.value.shape[1])
    passed = list(passed_to_heads(Contributing(model), x, axes, [Level.THROUGH] * len(axes)))
    offsets = np.cumsum([0, *(ffn.width for ffn in model.description.ffn_sites)])
    seen = 0.0
    for place, site, head, ffn, unit in chosen(model):
        changed = held.made_without(site.path, ffn.path, unit)
        after = held.through(site.path, held.heads_from(site.path, head, changed))
        expected = (held.value - after) @ axes[place]
        found = passed[place].neurons[:, offsets[ffn.layer] + unit]
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-11)
        seen = max(seen, float(expected.abs().max()))
    assert seen > 1e-6


def test_no_head_reads_a_neuron_that_comes_later():
    model = small("vit")
    x = noise(model, 2)
    passed = list(passed_to_heads(Contributing(model), x, axes_of(model, 24), [Level.DIRECT] * 9))
    width = model.description.ffn_sites[0].width
    for place, one in enumerate(passed):
        layer = place // 3
        assert not one.neurons[:, layer * width :].any()
        assert layer == 0 or bool(one.neurons[:, : layer * width].any())


def test_sums_do_not_depend_on_how_images_are_split():
    model = small("swin")
    x = noise(model, 7)
    axes = axes_of(model, decompose(model, x).representation.shape[1])
    levels = [Level.DIRECT] * len(axes)
    whole = reads(Contributing(model), [x], axes, levels)
    split = reads(Contributing(model), [x[:2], x[2:3], x[3:]], axes, levels)
    for name in ("images", "mean", "scatter", "own_mean", "own_scatter"):
        torch.testing.assert_close(getattr(split, name), getattr(whole, name), rtol=1e-9, atol=1e-14)
    passed = list(passed_to_heads(Contributing(model), x, axes, levels))
    share = passed[5].neurons.std(0) / passed[5].own.std()
    torch.testing.assert_close(whole.shares()[5], share, rtol=1e-8, atol=1e-12)


def test_readers_are_the_heads_with_the_largest_shares():
    model = small("vit")
    x = noise(model, 4)
    axes = axes_of(model, 24)
    axes[4] = 0  # a head whose contribution along its axis never changes reads nothing
    levels = [Level.DIRECT] * 9
    sums = reads(Contributing(model), [x], axes, levels)
    assert bool(torch.isfinite(sums.shares()).all())
    found = list(sums.readers(model).rows(model.description, levels))
    width = model.description.ffn_sites[0].width
    assert {one.layer for one in found} == {0, 1}  # nothing reads the last FFN
    assert not any((one.reader_layer, one.reader_head) == (1, 1) for one in found)
    shares = sums.shares()
    for unit in (0, width - 1):
        rows = [one for one in found if (one.layer, one.unit) == (0, unit)]
        assert [one.rank for one in rows] == [0, 1, 2]
        best = shares[:, unit].sort(descending=True).values[:3]
        torch.testing.assert_close(torch.tensor([one.share for one in rows], dtype=torch.float64), best)
        for one in rows:
            assert one.share == float(shares[3 * one.reader_layer + one.reader_head, unit])
            assert one.level is Level.DIRECT
            assert one.reader_layer > one.layer


def test_mistakes_are_named():
    model = small("vit")
    x = noise(model, 1)
    with pytest.raises(BadConfig, match=r"9 heads: .* not 8 and 9"):
        list(passed_to_heads(Contributing(model), x, axes_of(model, 24)[:8], [Level.DIRECT] * 9))
    with pytest.raises(BadConfig, match="gated"):
        list(passed_to_heads(Contributing(model), x, axes_of(model, 24), [Level.GATED] * 9))


@pytest.mark.parametrize("name", ["vit", "convit"])
def test_heads_without_a_path_are_followed_on_fewer_images(name):
    model = small(name)
    x = noise(model, 5)
    axes = axes_of(model, decompose(model, x[:1]).representation.shape[1])
    contributing = Contributing(model)
    found = reads(contributing, [x[:2], x[2:]], axes, without_path=3)
    whole, few = reads(contributing, [x], axes), reads(contributing, [x[:3]], axes)
    with_path = torch.tensor([head in contributing.heads_with_path() for head in range(len(axes))])
    assert bool(with_path.all()) == (name == "vit")
    assert found.images.tolist() == [5.0 if path else 3.0 for path in with_path]
    torch.testing.assert_close(found.shares()[with_path], whole.shares()[with_path], rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(found.shares()[~with_path], few.shares()[~with_path], rtol=1e-8, atol=1e-12)
