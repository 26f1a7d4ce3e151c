"""Maps of source tokens: they add up to the heads' contributions, and lie where the tokens are, in every family."""

from functools import partial

import pytest
import torch

from atlas_schema.errors import BadConfig, UnknownFamily
from pipeline.decompose import Level, decompose
from pipeline.decompose.activation_cache import cache_activations
from pipeline.decompose.maps import example_maps, heatmap, source_maps, spread
from pipeline.decompose.token_positions import token_positions_of
from pipeline.models import LoadedModel, ModelRequest, from_module, load
from pipeline.zoo import ZOO
from pipeline.zoo.train import pixels
from pipeline.zoo.world import HELD_OUT_SEED, scenes
from tests.pipeline.test_decompose import EXACT, noise, small


def directions(count: int, size: int) -> torch.Tensor:
    return torch.randn(count, size, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


@pytest.mark.parametrize("name", EXACT)
def test_source_tokens_add_up_to_the_contribution_of_their_head(name):
    model = small(name)
    x = noise(model, 3)
    for level in Level:
        whole = decompose(model, x, level)
        direction = directions(3, whole.representation.shape[1])
        scores = whole.scores(direction)[:, : model.description.heads]
        found = source_maps(model, x, direction, level)
        assert [site.layer for site in found.sites] == list(range(len(model.description.attention_sites)))
        total = torch.cat([site.total for site in found.sites], dim=1)
        torch.testing.assert_close(total, scores, rtol=1e-9, atol=1e-12)
        constant = torch.cat([site.constant for site in found.sites], dim=1).abs().max()
        if not name.startswith("coat") or name == "coatnet":  # only CoaT adds what passes no value
            assert constant < 1e-12 * scores.abs().max()
        assert max(float(site.patches[0].abs().max()) for site in found.sites) > 1e-6


def test_of_coat_the_bias_of_the_position_convolution_passes_no_value():
    model = small("coat-lite")
    for part in model.module.modules():
        if type(part).__name__ == "ConvRelPosEnc":
            for conv in part.conv_list:
                conv.bias.zero_()
    x = noise(model, 2)
    with_bias = source_maps(small("coat-lite"), x, directions(2, 16), Level.THROUGH)
    without = source_maps(model, x, directions(2, 16), Level.THROUGH)
    assert max(float(site.constant.abs().max()) for site in with_bias.sites) > 1e-3
    assert max(float(site.constant.abs().max()) for site in without.sites) < 1e-12


def test_of_eva_02_what_the_inner_norm_mixes_passes_no_value():
    """A norm between heads and projection: sums stay exact, but a head is no longer its own values alone."""
    from timm.models.eva import Eva

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = Eva(
            img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5, scale_attn_inner=True,
            use_rot_pos_emb=True,
        ).double()  # fmt: skip
        for parameter in module.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    model = from_module(module, name="eva-02", input_size=(32, 32))
    x = noise(model, 2)
    for level in (Level.DIRECT, Level.THROUGH):
        scores = decompose(model, x, level).scores(directions(2, 24))[:, :6]
        sites = source_maps(model, x, directions(2, 24), level).sites
        torch.testing.assert_close(torch.cat([site.total for site in sites], 1), scores, rtol=1e-9, atol=1e-12)
        assert max(float(site.constant.abs().max()) for site in sites) > 1e-3


# ------------------------------------------------------------------------------------------------------ places


def _padded_swin() -> LoadedModel:
    """Grids of 7 x 9 and 4 x 5 tokens in windows of 4, every other block shifted: padding and roll."""
    from timm.models.swin_transformer import SwinTransformer

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = SwinTransformer(
            img_size=(28, 36), patch_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4,
            num_classes=5, strict_img_size=False,
        )  # fmt: skip
    return from_module(module.double(), name="padded swin", input_size=(28, 36))


def _padded_twins() -> LoadedModel:
    """Groups of 4 x 4 and keys pooled by 4 and 2 on grids of 9 x 11 and 4 x 5 tokens."""
    from timm.models.twins import Twins

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = Twins(
            img_size=64, patch_size=4, embed_dims=(16, 24), num_heads=(2, 3), mlp_ratios=(2, 2), depths=(2, 2),
            sr_ratios=(4, 2), wss=(4, 4), num_classes=5,
        )  # fmt: skip
    return from_module(module.double(), name="padded twins", input_size=(36, 44))


MEMBERS = {name: partial(small, name) for name in EXACT} | {"padded swin": _padded_swin, "padded twins": _padded_twins}


def _held(model: LoadedModel, x: torch.Tensor) -> dict[str, list[torch.Tensor]]:
    """Queries and keys of a forward, by the path of their attention: tokens are in the order of values."""
    found = {}
    for path, calls in cache_activations(model, x, attention=True, gates=False).queries_and_keys.items():
        name = path.rpartition(".")[2]
        if name not in ("q", "q_proj", "v", "v_proj"):
            found[path.rpartition(".")[0]] = calls
    return found


@pytest.mark.parametrize("name", MEMBERS)
def test_a_value_is_where_a_change_of_its_token_moves_it(name):
    """One token of what an attention (or its block, in windows) receives is changed, and the keys that change with it
    are those of the patch that the token is said to be.
    """
    model = MEMBERS[name]()
    x = noise(model, 2)
    places = token_positions_of(model)
    before = _held(model, x)
    for site in model.description.attention_sites:
        in_windows = site.kind in ("window", "grid")
        module = model.module.get_submodule(site.path.rpartition(".")[0] if in_windows else site.path)
        length_first = getattr(module, "batch_first", True) is False
        (rows, columns), prefix = site.grids[0], len(site.prefix_tokens)
        (place,) = places[site.path]
        assert sorted(place.patch[place.patch >= 0].tolist()) == list(range(place.grid[0] * place.grid[1]))
        for row, column in ((0, 0), (rows - 2, 1), (rows // 2, columns - 1)):
            token = prefix + row * columns + column

            def change(part, args, token=token, length_first=length_first, channels_first=name == "coatnet"):
                moved = args[0].clone()
                if length_first:
                    moved[token, 1] *= -1.5
                elif channels_first:
                    moved.flatten(2)[1, :, token] *= -1.5
                else:
                    moved.view(2, -1, moved.shape[-1])[1, token] *= -1.5
                return tuple(moved if one is args[0] else one for one in args)

            hook = module.register_forward_pre_hook(change)
            after = _held(model, x)[site.path][0]
            hook.remove()
            moved = (after - before[site.path][0]).abs()  # channels in two axes
            moved = moved.flatten(1, 2).movedim(1, -1) if name == "coatnet" else moved.flatten(-2)
            by_image = place.by_image(moved, 2).sum(2)
            assert not by_image[0].any()
            touched = set(place.patch[by_image[1] > 1e-9].tolist())
            pooling = getattr(module, "sr", None)  # of Twins and PVT, which leaves out a last part of a window
            ratio = pooling.stride[0] if isinstance(pooling, torch.nn.Conv2d) else 1
            at = row // ratio, column // ratio
            inside = at[0] < place.grid[0] and at[1] < place.grid[1]
            assert touched == ({at[0] * place.grid[1] + at[1]} if inside else set())


def test_tokens_that_are_mixed_before_values_are_made_are_refused():
    model = small("vit")
    attention = model.module.blocks[1].attn
    real = attention.forward
    attention.forward = lambda x, attn_mask=None, is_causal=False: real(x + x.roll(1, dims=1))
    with pytest.raises(UnknownFamily, match=r"blocks\.1\.attn: the tokens of which its values are made"):
        token_positions_of(model)


# ------------------------------------------------------------------------------------------------------ pictures


def test_one_head_an_image_along_its_own_direction():
    model = small("swin")
    x = noise(model, 4)
    directed = directions(4, decompose(model, x).representation.shape[1])
    layers, heads = torch.tensor([0, 1, 2, 3]), torch.tensor([1, 0, 2, 1])
    maps, elsewhere = example_maps(model, x, layers, heads, directed)
    for image, (layer, head) in enumerate(zip(layers.tolist(), heads.tolist(), strict=True)):
        alone = source_maps(model, x[image : image + 1], directed[image]).sites[layer]
        torch.testing.assert_close(maps[image], alone.patches[0][0, head])
        torch.testing.assert_close(elsewhere[image], alone.elsewhere[0, head])
    assert [tuple(one.shape) for one in maps] == [(16, 16), (16, 16), (8, 8), (8, 8)]


@pytest.mark.parametrize("name", ["swin", "twins, svt", "coat", "vit"])
def test_a_heatmap_adds_up_to_what_patches_pass(name):
    model = small(name)
    x = noise(model, 2)
    direction = directions(2, decompose(model, x).representation.shape[1])
    found = source_maps(model, x, direction)
    patches = sum(one.sum((1, 2, 3)) for site in found.sites for one in site.patches)
    pixels_ = heatmap(model, x, direction)
    assert pixels_.shape == (2, *model.description.input_size)
    torch.testing.assert_close(pixels_.sum((1, 2)), patches, rtol=1e-9, atol=1e-12)


def test_spreading_keeps_sums_and_places():
    maps = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    maps[0, 0, 1, 2], maps[0, 1] = 3.0, 1.0
    wide = spread(maps, (16, 16))
    torch.testing.assert_close(wide.sum((2, 3)), maps.sum((2, 3)), rtol=1e-12, atol=1e-12)
    top = divmod(int(wide[0, 0].argmax()), 16)
    assert (top[0] // 4, top[1] // 4) == (1, 2)
    torch.testing.assert_close(wide[0, 1], torch.full((16, 16), 1 / 16, dtype=torch.float64))
    assert spread(maps, (4, 4)) is maps


def test_the_model_runs_as_before_afterwards():
    for name in ("swin v2", "coat", "twins, svt", "open_clip, tokens first"):
        model = small(name)
        x = noise(model, 2)
        with torch.inference_mode():
            before = model.module(x)
            source_maps(model, x, directions(2, decompose(model, x).representation.shape[1]), Level.THROUGH)
            assert torch.equal(model.module(x), before)
        for module in model.module.modules():
            assert not module._forward_hooks
            assert not module._forward_pre_hooks
            assert "forward" not in module.__dict__


def test_a_direction_of_another_size_is_named():
    model = small("vit")
    with pytest.raises(BadConfig, match=r"shape \(7,\).* \(2, 24\)"):
        source_maps(model, noise(model, 2), torch.ones(7))


@pytest.mark.parametrize("name", ZOO)
def test_trained_zoo_models_in_float32(name):
    model = load(ModelRequest(f"zoo/{name}"))
    x = model.normalise(pixels(scenes(HELD_OUT_SEED, range(4))))
    whole = decompose(model, x)
    scores = whole.scores(whole.representation)[:, : model.description.heads]
    total = torch.cat([site.total for site in source_maps(model, x, whole.representation).sites], dim=1)
    torch.testing.assert_close(total, scores, rtol=1e-4, atol=1e-5 * float(scores.abs().max()))
