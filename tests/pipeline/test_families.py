"""Families: where their sites are, which tokens come first, and that a hook reads exactly what a forward computes.

Small members of every class that a family covers, with random weights in float64; full-size architectures only on
the meta device.
"""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from atlas_schema.errors import SiteMissing, UnknownFamily
from pipeline.hooks.activations import all_ffn_activations, ffn_activations, ffn_pre_and_post
from pipeline.models import LoadedModel, ModelRequest, describe, from_module, load
from pipeline.models.families import FAMILIES

CLS, DIST, REG = "class", "distillation", "register"

# model: family, neurons, FFN sites, heads, grids of the first and the last site, prefix tokens there
DESCRIBED = {
    "timm/deit_tiny_distilled_patch16_224": ("deit", 9216, 12, 36, (14,), (14,), (CLS, DIST), (CLS, DIST)),
    "timm/deit3_small_patch16_224": ("deit", 18432, 12, 72, (14,), (14,), (CLS,), (CLS,)),
    "timm/vit_small_patch16_224.dino": ("vit", 18432, 12, 72, (14,), (14,), (CLS,), (CLS,)),
    "timm/vit_small_patch14_reg4_dinov2": ("vit", 18432, 12, 72, (37,), (37,), (CLS, *[REG] * 4), (CLS, *[REG] * 4)),
    "timm/vit_base_patch16_clip_224.openai": ("clip", 36864, 12, 144, (14,), (14,), (CLS,), (CLS,)),
    "timm/vit_base_patch16_siglip_224.webli": ("clip", 36864, 12, 144, (14,), (14,), (), ()),
    "open_clip/ViT-B-16-SigLIP/webli": ("clip", 36864, 12, 144, (14,), (14,), (), ()),
    "open_clip/EVA02-B-16": ("clip", 24576, 12, 144, (14,), (14,), (CLS,), (CLS,)),
    "open_clip/coca_ViT-B-32": ("clip", 36864, 12, 144, (7,), (7,), (CLS,), (CLS,)),
    "timm/swinv2_tiny_window8_256": ("swin", 17664, 12, 138, (64,), (8,), (), ()),
    "timm/coat_tiny": ("coat", 8512, 14, 208, (56,), (28, 14, 7), (CLS,), (CLS,)),
    "timm/coat_lite_tiny": ("coat", 7680, 8, 64, (56,), (7,), (CLS,), (CLS,)),
    "timm/convit_tiny": ("convit", 9216, 12, 48, (14,), (14,), (), (CLS,)),
    "timm/pit_b_224": ("pit", 31744, 13, 124, (31,), (8,), (CLS,), (CLS,)),
    "timm/pit_ti_distilled_224": ("pit", 7680, 12, 60, (27,), (7,), (CLS, DIST), (CLS, DIST)),
    "timm/twins_pcpvt_small": ("twins", 19456, 16, 65, (56,), (7,), (), ()),
    "timm/twins_svt_small": ("twins", 19968, 18, 156, (56,), (7,), (), ()),
    "timm/maxvit_tiny_tf_224": ("maxvit", 21504, 22, 168, (56,), (7,), (), ()),
    "timm/vit_small_patch16_dinov3": ("eva", 18432, 12, 72, (16,), (16,), (CLS, *[REG] * 4), (CLS, *[REG] * 4)),
    "timm/pvt_v2_b1": ("pvt", 9728, 8, 32, (56,), (7,), (), ()),
    "timm/samvit_base_patch16": ("sam", 36864, 12, 144, (64,), (64,), (), ()),
    "timm/cait_xxs24_224": ("cait", 18432, 24, 96, (14,), (14,), (), ()),
    "timm/beit_base_patch16_224": ("beit", 36864, 12, 144, (14,), (14,), (CLS,), (CLS,)),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_sites_grids_and_prefix_tokens(name):
    found = describe(ModelRequest(name))
    first, last = found.ffn_sites[0], found.ffn_sites[-1]
    sides = [tuple(height for height, width in site.grids if height == width) for site in (first, last)]
    counts = (found.family, found.neurons, len(found.ffn_sites), found.heads)
    assert (*counts, *sides, first.prefix_tokens, last.prefix_tokens) == DESCRIBED[name]
    depths = [site.depth for site in found.ffn_sites]
    assert depths == sorted(depths)
    assert 0 < depths[0] < depths[-1] < 1


def test_class_token_of_convit_joins_at_local_up_to_layer():
    found = describe(ModelRequest("timm/convit_tiny"))
    assert [site.prefix_tokens for site in found.ffn_sites] == [()] * 10 + [(CLS,)] * 2
    assert [site.kind for site in found.attention_sites] == ["positional"] * 10 + ["global"] * 2
    assert {site.grids for site in found.ffn_sites} == {((14, 14),)}


def test_kinds_of_attention():
    def kinds(name):
        return [site.kind for site in describe(ModelRequest(name)).attention_sites]

    assert set(kinds("timm/swin_tiny_patch4_window7_224")) == {"window"}
    assert set(kinds("timm/swinv2_cr_tiny_ns_224")) == {"window"}
    assert set(kinds("timm/coat_lite_tiny")) == {"factorised"}
    assert kinds("timm/twins_svt_small")[:4] == ["window", "pooled"] * 2
    assert kinds("timm/twins_svt_small")[-1] == "global"  # the last stage's keys are not pooled
    assert kinds("timm/maxvit_tiny_tf_224")[:2] == ["window", "grid"]
    assert kinds("timm/samvit_base_patch16_224") == ["window", "window", "global"] * 4
    assert kinds("timm/pvt_v2_b1") == ["pooled"] * 6 + ["global"] * 2


def test_attention_in_windows_has_the_grid_of_its_block():
    found = describe(ModelRequest("timm/swin_tiny_patch4_window7_224"))
    assert [a.grids for a in found.attention_sites] == [f.grids for f in found.ffn_sites]
    assert {(a.head_dim, a.heads) for a in found.attention_sites} == {(32, 3), (32, 6), (32, 12), (32, 24)}


# --------------------------------------------------------------------------- what a hook reads, on small members


def _vit(**options) -> nn.Module:
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        **({"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 3, "num_classes": 5} | options)
    )


def _distilled() -> nn.Module:
    from timm.models.deit import VisionTransformerDistilled

    return VisionTransformerDistilled(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5)


def _gated() -> nn.Module:
    from timm.layers import SwiGLUPacked

    return _vit(mlp_layer=SwiGLUPacked, act_layer=nn.SiLU)


def _parallel_things() -> nn.Module:
    from timm.models.vision_transformer import ParallelThingsBlock

    return _vit(block_fn=ParallelThingsBlock)


def _post_norm() -> nn.Module:
    from timm.models.vision_transformer import ResPostBlock

    return _vit(block_fn=ResPostBlock)


def _eva() -> nn.Module:
    from timm.models.eva import Eva

    return Eva(
        img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3, num_classes=5, num_reg_tokens=2,
        swiglu_mlp=True, scale_mlp=True, use_rot_pos_emb=True,
    )  # fmt: skip


def _swin() -> nn.Module:
    from timm.models.swin_transformer import SwinTransformer

    return SwinTransformer(
        img_size=64, patch_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4, num_classes=5
    )


def _swin_v2() -> nn.Module:
    from timm.models.swin_transformer_v2 import SwinTransformerV2

    return SwinTransformerV2(
        img_size=64, patch_size=4, embed_dim=12, depths=(2, 2), num_heads=(2, 3), window_size=4, num_classes=5
    )


def _coat(parallel: int) -> nn.Module:
    from timm.models.coat import CoaT

    return CoaT(
        img_size=64, patch_size=4, embed_dims=(16,) * 4, serial_depths=(1, 1, 2, 1), parallel_depth=parallel,
        num_heads=4, mlp_ratios=(2,) * 4, num_classes=5, crpe_window={3: 2, 5: 2},
    )  # fmt: skip


def _convit() -> nn.Module:
    from timm.models.convit import ConVit

    return ConVit(img_size=32, patch_size=8, embed_dim=6, depth=4, num_heads=4, local_up_to_layer=2, num_classes=5)


def _pit(distilled: bool) -> nn.Module:
    from timm.models.pit import PoolingVisionTransformer

    return PoolingVisionTransformer(
        img_size=32, patch_size=8, stride=4, base_dims=(6, 6), depth=(1, 2), heads=(2, 4), mlp_ratio=2,
        num_classes=5, distilled=distilled,
    )  # fmt: skip


def _twins(windows) -> nn.Module:
    from timm.models.twins import Twins

    return Twins(
        img_size=64, patch_size=4, embed_dims=(16, 24), num_heads=(2, 3), mlp_ratios=(2, 2), depths=(2, 2),
        sr_ratios=(4, 2), wss=windows, num_classes=5,
    )  # fmt: skip


def _maxxvit(kind: str, **options) -> nn.Module:
    from timm.models.maxxvit import MaxxVit, MaxxVitCfg, MaxxVitConvCfg, MaxxVitTransformerCfg

    attention = MaxxVitTransformerCfg(dim_head=8, window_size=(4, 4), grid_size=(4, 4), rel_pos_type="bias")
    blocks = (kind, kind)
    return MaxxVit(
        MaxxVitCfg(
            embed_dim=(8, 16), depths=(1, 1), block_type=blocks, stem_width=8, conv_cfg=MaxxVitConvCfg(),
            transformer_cfg=attention, **options,
        ),
        img_size=64, num_classes=5,
    )  # fmt: skip


def _pvt(**options) -> nn.Module:
    from timm.models.pvt_v2 import PyramidVisionTransformerV2

    return PyramidVisionTransformerV2(
        depths=(1, 2, 1, 1), embed_dims=(8, 12, 16, 24), num_heads=(1, 2, 2, 4), mlp_ratios=(2, 2, 2, 2), num_classes=5,
        **options,
    )  # fmt: skip


def _sam(neck: int | None) -> nn.Module:
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    return VisionTransformerSAM(
        img_size=40, patch_size=8, embed_dim=24, depth=3, num_heads=3, num_classes=5, window_size=3, use_rel_pos=True,
        global_attn_indexes=(1,), neck_chans=neck,
    )  # fmt: skip


def _cait() -> nn.Module:
    from timm.models.cait import Cait

    return Cait(img_size=32, patch_size=8, embed_dim=24, depth=3, num_heads=3, mlp_ratio=2, num_classes=5)


def _open_clip(**options) -> nn.Module:
    from open_clip.transformer import VisionTransformer

    return VisionTransformer(
        **(
            {"image_size": 32, "patch_size": 8, "width": 24, "layers": 3, "heads": 3, "mlp_ratio": 2, "output_dim": 7}
            | options
        )
    )


def _length_first() -> nn.Module:
    """open_clip's older order of axes, (tokens, batch, channels), that its Transformer still offers."""
    from open_clip.transformer import Transformer

    tower = _open_clip()
    tower.transformer = Transformer(24, 3, 3, mlp_ratio=2, batch_first=False)
    return tower


def _wrapped_siglip() -> nn.Module:
    from open_clip.timm_model import TimmModel
    from timm.layers import Mlp

    tower = TimmModel("test_vit", embed_dim=6, image_size=160, pool="", proj="mlp")
    tower.trunk = _vit(class_token=False, global_pool="map", num_classes=0)
    tower.head.mlp = Mlp(24, 12, 6)  # an FFN that no patch enters
    return tower


SMALL = {
    "vit": (_vit, 32),
    "vit, registers, layer scale": (partial(_vit, reg_tokens=3, init_values=0.1, no_embed_class=True), 32),
    "vit, no class token, map pooling": (partial(_vit, class_token=False, global_pool="map"), 32),
    "vit, norm inside the FFN": (partial(_vit, scale_mlp_norm=True), 32),
    "vit, gated FFN": (_gated, 32),
    "vit, parallel things": (_parallel_things, 32),
    "vit, post-norm": (_post_norm, 32),
    "deit, distilled": (_distilled, 32),
    "eva, registers, gated": (_eva, 32),
    "swin": (_swin, 64),
    "swin v2": (_swin_v2, 64),
    "coat": (partial(_coat, 2), 64),
    "coat-lite": (partial(_coat, 0), 64),
    "convit": (_convit, 32),
    "pit": (partial(_pit, False), 32),
    "pit, distilled": (partial(_pit, True), 32),
    "twins, svt": (partial(_twins, (4, 4)), 64),
    "twins, pcpvt": (partial(_twins, None), 64),
    "maxvit": (partial(_maxxvit, "M"), 64),
    "maxvit, hidden layer in the head": (partial(_maxxvit, "M", head_hidden_size=16), 64),  # as published
    "coatnet": (partial(_maxxvit, "T"), 64),
    "pvt": (_pvt, 64),
    "sam": (partial(_sam, 12), 40),  # windows of 3 on a grid of 5: padded
    "sam, no neck": (partial(_sam, None), 40),
    "cait": (_cait, 32),
    "open_clip": (_open_clip, 32),
    "open_clip, custom block, norm inside the FFN": (partial(_open_clip, block_type="custom", scale_fc=True), 32),
    "open_clip, tokens first": (_length_first, 32),
    "open_clip around timm": (_wrapped_siglip, 32),
}


def small(name: str) -> LoadedModel:
    """A small member with weights that leave nothing at zero, in float64."""
    build, size = SMALL[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        module = build().double()
        for parameter in module.parameters():
            nn.init.normal_(parameter, std=0.2)
    return from_module(module, name=name, input_size=(size, size))


def pictures(model: LoadedModel, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    x01 = torch.rand(batch, 3, *model.description.input_size, generator=generator, dtype=torch.float64)
    return model.normalise(x01)


@pytest.fixture(params=SMALL, scope="module")
def member(request) -> LoadedModel:
    return small(request.param)


def test_stopped_forward_equals_whole_forward_and_unit_rows_equal_columns(member):
    x = pictures(member)
    with torch.no_grad():
        whole = all_ffn_activations(member, x)
        for site in member.description.ffn_sites:
            units = torch.tensor([0, site.width // 2, site.width - 1])
            stopped = ffn_activations(member, site, x)
            own = ffn_activations(member, site, x, units)
            assert len(stopped) == len(own) == len(whole[site.layer]) == len(site.grids)
            for hidden, mine, reference, (height, width) in zip(
                stopped, own, whole[site.layer], site.grids, strict=True
            ):
                assert hidden.shape == (3, height * width, site.width)
                assert torch.equal(hidden, reference)
                assert reference.std() > 1e-4
                column = torch.stack([hidden[image, :, unit] for image, unit in enumerate(units)])
                assert torch.allclose(mine, column, rtol=1e-12, atol=1e-12)


def test_value_before_the_activation_function_gives_the_value_after_it(member):
    x = pictures(member)
    site = member.description.ffn_sites[1]
    units = torch.tensor([1, 0, 2])
    if not site.pre:
        with pytest.raises(SiteMissing, match="gated product"):
            ffn_pre_and_post(member, site, x)
        return
    act = member.module.get_submodule(site.act)
    with torch.no_grad():
        pairs = ffn_pre_and_post(member, site, x)
        for (z, h), (z_own, h_own) in zip(pairs, ffn_pre_and_post(member, site, x, units), strict=True):
            normed = "norm inside" in member.description.id  # then the norm stands between act(z) and h
            assert torch.allclose(act(z), h) is not normed
            column = torch.stack([z[image, :, unit] for image, unit in enumerate(units)])
            assert torch.allclose(z_own, column, rtol=1e-12, atol=1e-12)
            assert z_own.shape == h_own.shape


def test_gradient_reaches_the_picture_and_no_weight(member):
    x = pictures(member).requires_grad_()
    site = member.description.ffn_sites[-1]
    values = ffn_activations(member, site, x, torch.tensor([0, 1, 2]))
    sum(value.mean() for value in values).backward()
    assert x.grad is not None
    assert bool((x.grad.flatten(1).abs().amax(1) > 0).all())  # every picture of the batch
    assert all(p.grad is None and not p.requires_grad for p in member.module.parameters())


def test_nothing_behind_the_site_runs_and_hooks_are_gone(member):
    sites = member.description.ffn_sites
    ran: list[str] = []
    watched = [s.post for s in sites] + [s.path for s in member.description.attention_sites]
    handles = [
        member.module.get_submodule(path).register_forward_hook(lambda m, a, o, path=path: ran.append(path))
        for path in watched
    ]
    with torch.no_grad():
        ffn_activations(member, sites[1], pictures(member), torch.tensor([0, 0, 0]))
    for handle in handles:
        handle.remove()
    assert [path for path in ran if path in {s.post for s in sites}].count(sites[0].post) == len(sites[0].grids)
    assert sites[1].post not in ran[len(sites[1].grids) - 1 :] or len(sites[1].grids) > 1
    later = {s.post for s in sites[2:]} | {
        a.path for a in member.description.attention_sites if a.depth > sites[1].depth
    }
    assert not later & set(ran)
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in member.module.modules())


def test_hooks_are_gone_when_the_forward_fails():
    model = small("vit")
    with pytest.raises((RuntimeError, AssertionError)):
        ffn_activations(model, model.description.ffn_sites[0], torch.zeros(1, 3, 7, 7, dtype=torch.float64))
    assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.module.modules())


def test_site_of_another_model_is_refused():
    coat = small("coat")
    site = coat.description.ffn_sites[-1]
    twice = type(site)(**{**vars(site), "grids": site.grids * 2})
    with pytest.raises(SiteMissing, match="fired 3 times in a forward, not 6"):
        ffn_activations(coat, twice, pictures(coat))


def test_shared_ffn_of_coat_is_one_site_with_three_scales():
    coat = small("coat")
    shared = [site for site in coat.description.ffn_sites if site.path.startswith("parallel")]
    assert [site.path for site in shared] == ["parallel_blocks.0.mlp2", "parallel_blocks.1.mlp2"]
    assert {site.grids for site in shared} == {((8, 8), (4, 4), (2, 2))}
    scales = [h.shape[1] for h in ffn_activations(coat, shared[0], pictures(coat))]
    assert scales == [64, 16, 4]


def test_plain_vit_equals_its_blocks_walked_by_hand():
    """An oracle that hooks nothing: the model's own steps up to the middle of block 1."""
    model = small("vit, registers, layer scale")
    vit, x = model.module, pictures(model)
    with torch.no_grad():
        tokens = vit._pos_embed(vit.patch_embed(x))
        tokens = vit.blocks[0](tokens)
        block = vit.blocks[1]
        tokens = tokens + block.ls1(block.attn(block.norm1(tokens)))
        z = block.norm2(tokens) @ block.mlp.fc1.weight.T + block.mlp.fc1.bias
        patches = nn.functional.gelu(z)[:, 1 + 3 :]
        (hidden,) = ffn_activations(model, model.description.ffn_sites[1], x)
    assert torch.allclose(hidden, patches, rtol=1e-12, atol=1e-12)


def test_tokens_are_rows_of_the_grid_from_the_top_left():
    """Without attention a token sees its own patch only: a change at one place moves the token of that place."""
    for name in ("swin", "twins, svt", "vit, registers, layer scale", "open_clip, tokens first"):
        model = small(name)
        for path in {site.path for site in model.description.attention_sites}:
            attention = model.module.get_submodule(path)
            attention.forward = lambda *args, **kwargs: (
                (args[0] * 0, None) if kwargs.get("need_weights") is False else args[0] * 0
            )
        site = model.description.ffn_sites[0]
        ((height, width),) = site.grids
        x = pictures(model, 1)
        changed = x.clone()
        rows, columns = x.shape[2] // height, x.shape[3] // width
        row, column = 1, height - 1  # far from the diagonal: swapped axes would show
        changed[:, :, row * rows : (row + 1) * rows, column * columns : (column + 1) * columns] += 1
        with torch.no_grad():
            (before,), (after,) = ffn_activations(model, site, x), ffn_activations(model, site, changed)
        moved = (after - before).abs().sum(2)[0]
        assert int(moved.argmax()) == row * width + column, name


@pytest.mark.parametrize(("name", "layout"), [("maxvit", "NHWC"), ("coatnet", "NCHW")])
def test_maps_are_read_row_by_row(name, layout):
    model = small(name)
    site = model.description.ffn_sites[0]
    maps: list[torch.Tensor] = []
    handle = model.module.get_submodule(site.post).register_forward_pre_hook(lambda m, args: maps.append(args[0]))
    with torch.no_grad():
        model.module(pictures(model))
    handle.remove()
    with torch.no_grad():
        (hidden,) = ffn_activations(model, site, pictures(model))
    ((height, width),) = site.grids
    assert site.layout == layout
    for row, column in ((0, 0), (1, width - 1), (height - 1, 2)):
        there = maps[0][:, row, column] if layout == "NHWC" else maps[0][:, :, row, column]
        assert torch.equal(hidden[:, row * width + column], there)


@pytest.mark.parametrize("name", ["vit", "swin", "coat", "open_clip"])
def test_autocast_computes_the_same_in_half_precision(name):
    model = small(name)
    model.module.float()
    x, site = pictures(model).float(), model.description.ffn_sites[1]
    units = torch.tensor([0, 1, 2])
    with torch.no_grad():
        exact = ffn_activations(model, site, x, units)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rounded = ffn_activations(model, site, x, units)
    for want, got in zip(exact, rounded, strict=True):
        assert not torch.equal(want, got)
        assert (want - got).norm() / want.norm() < 0.05  # bfloat16 has 8 bits


def test_convit_positions_do_not_come_from_an_inference_forward():
    model = load(ModelRequest("zoo/convit", random_weights=True))
    x = model.normalise(torch.rand(1, 3, 64, 64))
    with torch.inference_mode():
        all_ffn_activations(model, x)
    x = x.clone().requires_grad_()
    ffn_activations(model, model.description.ffn_sites[-1], x)[0].mean().backward()
    assert x.grad.abs().sum() > 0


def test_the_page_on_families_describes_each_of_them():
    page = (Path(__file__).parents[2] / "docs/families.md").read_text()
    for family in FAMILIES:
        row = next((line for line in page.splitlines() if line.startswith(f"| {family.name} |")), "")
        assert row, f"docs/families.md has no row for {family.name}"
        for name in family.classes:
            assert f"`{name.rpartition('.')[2]}`" in row


def test_an_ffn_outside_the_description_is_refused():
    module = _vit()
    from timm.layers import Mlp

    module.extra = Mlp(24, 48)
    with pytest.raises(UnknownFamily, match="FFN-like modules elsewhere: extra"):
        from_module(module, name="odd", input_size=(32, 32))


def test_a_block_without_ffn_parts_is_refused():
    module = _vit()
    module.blocks[1].mlp = nn.Linear(24, 24)
    with pytest.raises(UnknownFamily, match=r"without the parts of FFN: blocks\.1\.mlp"):
        from_module(module, name="odd", input_size=(32, 32))


def test_unknown_prefix_tokens_are_refused():
    class TwoMore(type(_vit())):
        def _pos_embed(self, x):
            x = super()._pos_embed(x)
            return torch.cat([x[:, :1], x[:, :2], x[:, 1:]], dim=1)

    TwoMore.__module__, TwoMore.__qualname__ = "timm.models.vision_transformer", "VisionTransformer"
    module = TwoMore(img_size=32, patch_size=8, embed_dim=24, depth=2, num_heads=3)
    with pytest.raises(UnknownFamily, match="received 19 tokens"):
        from_module(module, name="odd", input_size=(32, 32))
