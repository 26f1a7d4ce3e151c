"""What a head looks like: a planted head whose picture is known, contributions with a gradient, judging, bad input."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from atlas_schema.errors import BadConfig
from pipeline.decompose import Contributing, LiveHeads, random_pictures
from pipeline.invert.ascent import invert
from pipeline.invert.head_judge import judged_heads
from pipeline.invert.heads import HeadOutputs, direct_heads, head_targets
from pipeline.invert.judge import NATURAL
from pipeline.invert.recipes import FAST
from pipeline.invert.targets import Target
from pipeline.models import ModelRequest, load
from pipeline.visualize.recipes import Phase
from tests.pipeline.close import assert_close

QUICK = replace(
    FAST, stages=(replace(FAST.stages[0], ascent=replace(FAST.stages[0].ascent, phases=(Phase(steps=8, copies=1),))),)
)


def directions_of(model, numbers, seed=0):
    """Random directions of some heads, as if probe images reached 0 on the mean and 2 in standard deviation."""
    width = model.description.representation_dim
    found = torch.randn(len(numbers), width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    spread = torch.full((len(numbers),), 2.0, dtype=torch.float64)
    return HeadOutputs(Contributing(model), tuple(numbers), found, torch.zeros_like(found), spread)


# --- known truth ------------------------------------------------------------------------------------------------------


def planted(vit):
    """The zoo's ViT with one head at work, in the last layer: it adds the mean over patches of red less blue.

    Two channels of a patch hold that and its negative, two others a constant that is large beside it, so that the
    norm before the attention hardly changes anything.
    """
    module = copy.deepcopy(vit.module)
    with torch.no_grad():
        for block in module.blocks:
            for linear in (block.attn.proj, block.attn.qkv, block.mlp.fc2):
                linear.weight.zero_()
                linear.bias.zero_()
            for norm in (block.norm1, block.norm2):
                norm.weight.fill_(1)
                norm.bias.zero_()
        module.pos_embed.zero_()
        module.cls_token.zero_()
        module.cls_token[..., 2:6] = torch.tensor([1.0, -1.0, 1.0, -1.0])
        patches = module.patch_embed.proj
        patches.weight.zero_()
        patches.bias.zero_()
        for channel, sign in ((0, 1.0), (1, -1.0)):
            patches.weight[channel, 0] = sign / patches.weight[0, 0].numel()
            patches.weight[channel, 2] = -sign / patches.weight[0, 0].numel()
        patches.bias[6:8] = torch.tensor([30.0, -30.0])
        attention, width = module.blocks[-1].attn, module.embed_dim
        head_dim = width // attention.num_heads
        attention.qkv.weight[2 * width + head_dim, 0] = 1.0  # head 1 takes the channel as its first value
        attention.proj.weight[9, head_dim] = 1.0  # ... and writes it to channel 9
    number = sum(site.heads for site in vit.description.attention_sites[:-1]) + 1
    return replace(vit, module=module), number


def test_the_picture_of_a_planted_head_is_what_it_adds(vit):
    """Pixels reach the best picture, red without blue; `fast`, whose colours hang together, more than half of it."""
    model, number = planted(vit)
    along = torch.zeros(2, model.description.representation_dim, dtype=torch.float64)
    along[:, 9] = torch.tensor([1.0, -1.0])
    contributing = Contributing(model)
    said = contributing(model.normalise(random_pictures(model, 8))).vectors[:, number].double() @ along[0]
    red = torch.tensor([1.0, 0.5, 0.0])[None, :, None, None].expand(1, 3, *model.description.input_size)
    best = float(contributing(model.normalise(red)).vectors[0, number].double() @ along[0])
    outputs = HeadOutputs(
        contributing, (number, number), along, torch.zeros_like(along), said.std(correction=0).repeat(2)
    )
    site = model.description.attention_sites[-1]
    targets = [Target("head", index, f"{site.layer}.1/axis-0-{end}") for index, end in enumerate(("high", "low"))]
    stage = FAST.stages[0]
    plain = replace(stage.ascent, parameterization="pixels", learning_rate=0.05, total_variation=0.0)
    high, low = invert(model, outputs, targets, replace(FAST, stages=(replace(stage, ascent=plain),))).mean((2, 3))
    assert high[0] > 0.95
    assert high[2] < 0.05
    assert low[0] < 0.05
    assert low[2] > 0.95
    assert abs(float(high[1] - 0.5)) < 0.05, "green moves nothing, and stays as it was"
    pictures = invert(model, outputs, targets, FAST)
    reached, deviations, _ = outputs.read([0, 1], pictures)
    assert best / 2 < float(reached.min()) < best
    assert float(deviations.min()) > 10, "no random picture comes near"


# --- contributions with a gradient ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["zoo/vit", "zoo/swin", "zoo/coat", "zoo/clip"])
def test_projections_are_those_of_the_decomposition_in_any_head(name):
    """Of heads with a path and of heads that are pushed alike, one of each picture."""
    model = load(ModelRequest(name))
    x = model.normalise(random_pictures(model, 4))
    numbers = [number for number, direct in enumerate(direct_heads(model)) if direct]
    numbers = [numbers[0], numbers[len(numbers) // 2], numbers[-1], numbers[1]]
    directions = directions_of(model, numbers).directions.float()
    vectors = Contributing(model)(x).vectors[torch.arange(4), numbers]
    assert_close(LiveHeads(model).along(x, numbers, directions), (vectors * directions).sum(1), 1e-5)


def test_the_gradient_is_that_of_the_head_with_norms_held(vit):
    """Told plainly, for a ViT whose class token is read: W_O head, centred, over the last norm's deviation."""
    model, layer, head = vit, 2, 1
    site = model.description.attention_sites[layer]
    u = directions_of(model, [0]).directions.float()
    x = model.normalise(random_pictures(model, 1)).requires_grad_()
    number = sum(one.heads for one in model.description.attention_sites[:layer]) + head
    (own,) = torch.autograd.grad(LiveHeads(model).along(x, [number], u).sum(), x)
    seen = {}
    attention, norm = model.module.blocks[layer].attn, model.module.norm
    hooks = [
        attention.proj.register_forward_hook(lambda module, args, out: seen.update(heads=args[0])),
        norm.register_forward_hook(lambda module, args, out: seen.update(resid=args[0])),
    ]
    model.module(x)
    for hook in hooks:
        hook.remove()
    width = seen["heads"].shape[2] // site.heads
    one = slice(head * width, (head + 1) * width)
    written = seen["heads"][:, 0, one] @ attention.proj.weight[:, one].T
    deviation = (seen["resid"][:, 0].var(1, correction=0, keepdim=True) + norm.eps).sqrt().detach()
    added = (written - written.mean(1, keepdim=True)) / deviation * norm.weight
    (plain,) = torch.autograd.grad((added * u).sum(), x)
    assert_close(own, plain, 1e-4)


def test_a_direction_has_the_same_picture_alone_and_among_others(vit):
    outputs = directions_of(vit, [3, 9, 14])
    targets = [Target("head", index, f"x.{index}/axis-0-high") for index in range(3)]
    together = invert(vit, outputs, targets, QUICK)
    assert_close(invert(vit, outputs, targets[1:2], QUICK), together[1:2], 1e-3)
    assert float((together[0] - together[1]).abs().max()) > 0.1


# --- judging, and bad input -------------------------------------------------------------------------------------------


def test_a_picture_is_judged_as_it_is_stored_and_a_direction_that_is_not_there_has_none(vit):
    outputs = directions_of(vit, [3, 9, 14])
    outputs.directions[1] = 0
    targets = [Target("head", index, f"x.{index}/text-{index}") for index in range(3)]
    found = judged_heads(outputs, targets, invert(vit, outputs, targets, QUICK), QUICK, 0, NATURAL)
    assert [one.webp is None for one in found] == [False, True, False]
    assert found[1].score is found[1].projection is found[1].deviations is None
    for place in (0, 2):
        one = found[place]
        vector = Contributing(vit)(vit.normalise(one.pixels()[None])).vectors[0, outputs.heads[place]].double()
        assert one.projection == pytest.approx(float(vector @ outputs.directions[place]), rel=1e-4)
        assert one.deviations == pytest.approx(one.projection / 2.0)
        assert one.score == pytest.approx(float(F.cosine_similarity(vector, outputs.directions[place], 0)), abs=1e-4)
        assert one.rank is one.natural_right is None
        assert [kind for kind, _, _ in one.natural_kinds] == ["shift", "turn", "colour", "blur", "noise"]
        assert one.natural_score == pytest.approx(sum(score for _, score, _ in one.natural_kinds) / 5)
    assert found[0].address == "zoo-vit/head/x.0/text-0"


def test_heads_are_chosen_by_name_and_those_without_direct_effect_are_refused():
    convit = load(ModelRequest("zoo/convit"))
    direct = direct_heads(convit)
    assert 0 < sum(direct) < len(direct)
    every = head_targets(convit, ["all"], ["axis 0 high", "axis 0 low"])
    assert len(every) == 2 * sum(direct)
    last = convit.description.attention_sites[-1]
    assert every[-1].address("zoo-convit") == f"zoo-convit/head/{last.layer}.{last.heads - 1}/axis-0-low"
    (one,) = head_targets(convit, [f"{last.layer}.0"], ["text 1"])
    assert one == Target("head", 0, f"{last.layer}.0/text-1")
    with pytest.raises(BadConfig, match=r"head 0\.1 of zoo-convit has no direct effect"):
        head_targets(convit, ["0.1"], ["axis 0 high"])
    with pytest.raises(BadConfig, match=r"'0\.99' is no head of zoo-convit; expected LAYER\.HEAD from 0\.0 to"):
        head_targets(convit, ["0.99"], ["axis 0 high"])
    with pytest.raises(BadConfig, match=rf"{last.layer}\.0 comes twice"):
        head_targets(convit, [f"{last.layer}.0", f"{last.layer}.0"], ["axis 0 high"])
