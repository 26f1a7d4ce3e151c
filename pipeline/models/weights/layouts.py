"""How other libraries name the tensors of an architecture: tables from our name to theirs, and how a tensor is made.

In a name `{i}` and `{s}` stand for the index of a block and of a stage, `{p}` for weight or bias. Several sources are
joined along the first axis. A source that begins with `^` stands outside the encoder, beside its prefix.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from pipeline.models.families import qualified_class
from pipeline.models.families.clip import WRAPPER


@dataclass(frozen=True)
class Rule:
    """One of our names, those that it is made of, and how (a key of MAKE)."""

    own: str
    sources: tuple[str, ...]
    how: str = "join"


@dataclass(frozen=True)
class Layout:
    """The names of one library. Without rules they are the architecture's own."""

    name: str
    rules: tuple[Rule, ...] = ()

    def sources(self, own: str) -> tuple[tuple[str, ...], str] | None:
        """What a tensor of ours is made of, and how; None where the layout does not have it."""
        if not self.rules:
            return (own,), "join"
        for rule in self.rules:
            found = _pattern(rule.own).fullmatch(own)
            if found:
                return tuple(_filled(source, found.groupdict()) for source in rule.sources), rule.how
        return None


@lru_cache(maxsize=4096)
def _pattern(template: str) -> re.Pattern[str]:
    text = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)").replace(r"\{s\}", r"(?P<s>\d+)")
    return re.compile(text.replace(r"\{p\}", "(?P<p>weight|bias)"))


def _filled(template: str, groups: Mapping[str, str]) -> str:
    before = {"s-1": str(int(groups["s"]) - 1)} if "s" in groups else {}
    for name, value in {**groups, **before}.items():
        template = template.replace(f"{{{name}}}", value)
    return template


def _third(tensors: Sequence[Tensor], first: bool) -> Tensor:
    width = tensors[0].shape[0] // 3
    return tensors[0][:width] if first else tensors[0][width:]


#: How a tensor of ours is made of its sources.
MAKE: dict[str, Callable[[Sequence[Tensor]], Tensor]] = {
    "join": lambda given: given[0] if len(given) == 1 else torch.cat(list(given)),
    "transposed": lambda given: given[0].t(),
    "first third": lambda given: _third(given, True),
    "last two thirds": lambda given: _third(given, False),
    # DINOv2 with registers: timm adds positions to patches alone, so the class token carries its own
    "class with its position": lambda given: given[0].float() + given[1][:, :1].float(),
    "positions of patches": lambda given: given[0][:, 1:],
}


def made(how: str, given: Sequence[Tensor], like: Tensor) -> Tensor:
    """A tensor of ours from its sources, with leading axes of one element as the architecture has them."""
    value = MAKE[how](given)
    while value.ndim < like.ndim and (value.shape == like.shape[-value.ndim :] or value.ndim == 2):
        value = value[None]
    return value


NATIVE = Layout("its own")

_BLOCK = "encoder.layer.{i}."
_QKV = tuple(f"{_BLOCK}attention.attention.{one}.{{p}}" for one in ("query", "key", "value"))

TRANSFORMERS_VIT = Layout(
    "transformers' ViT or DeiT",
    (
        Rule("cls_token", ("embeddings.cls_token",)),
        Rule("dist_token", ("embeddings.distillation_token",)),
        Rule("pos_embed", ("embeddings.position_embeddings",)),
        Rule("patch_embed.proj.{p}", ("embeddings.patch_embeddings.projection.{p}",)),
        Rule("blocks.{i}.norm1.{p}", (f"{_BLOCK}layernorm_before.{{p}}",)),
        Rule("blocks.{i}.attn.qkv.{p}", _QKV),
        Rule("blocks.{i}.attn.proj.{p}", (f"{_BLOCK}attention.output.dense.{{p}}",)),
        Rule("blocks.{i}.norm2.{p}", (f"{_BLOCK}layernorm_after.{{p}}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", (f"{_BLOCK}intermediate.dense.{{p}}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", (f"{_BLOCK}output.dense.{{p}}",)),
        Rule("norm.{p}", ("layernorm.{p}",)),
        Rule("head.{p}", ("^classifier.{p}",)),
    ),
)

TRANSFORMERS_DISTILLED = replace(
    TRANSFORMERS_VIT,
    name="transformers' distilled DeiT",
    rules=(
        *TRANSFORMERS_VIT.rules[:-1],
        Rule("head.{p}", ("^cls_classifier.{p}",)),
        Rule("head_dist.{p}", ("^distillation_classifier.{p}",)),
    ),
)

TRANSFORMERS_DINOV2 = Layout(
    "transformers' DINOv2",
    (
        *TRANSFORMERS_VIT.rules[:1],
        *TRANSFORMERS_VIT.rules[2:4],
        Rule("blocks.{i}.norm1.{p}", (f"{_BLOCK}norm1.{{p}}",)),
        Rule("blocks.{i}.attn.qkv.{p}", _QKV),
        Rule("blocks.{i}.attn.proj.{p}", (f"{_BLOCK}attention.output.dense.{{p}}",)),
        Rule("blocks.{i}.ls1.gamma", (f"{_BLOCK}layer_scale1.lambda1",)),
        Rule("blocks.{i}.norm2.{p}", (f"{_BLOCK}norm2.{{p}}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", (f"{_BLOCK}mlp.fc1.{{p}}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", (f"{_BLOCK}mlp.fc2.{{p}}",)),
        Rule("blocks.{i}.ls2.gamma", (f"{_BLOCK}layer_scale2.lambda1",)),
        Rule("norm.{p}", ("layernorm.{p}",)),
    ),
)

TRANSFORMERS_DINOV2_GATED = replace(
    TRANSFORMERS_DINOV2,
    name="transformers' DINOv2 with SwiGLU",
    rules=tuple(
        {
            "blocks.{i}.mlp.fc1.{p}": Rule("blocks.{i}.mlp.fc1.{p}", (f"{_BLOCK}mlp.weights_in.{{p}}",)),
            "blocks.{i}.mlp.fc2.{p}": Rule("blocks.{i}.mlp.fc2.{p}", (f"{_BLOCK}mlp.weights_out.{{p}}",)),
        }.get(rule.own, rule)
        for rule in TRANSFORMERS_DINOV2.rules
    ),
)


def _with_registers(layout: Layout) -> Layout:
    position = "embeddings.position_embeddings"
    first = (
        Rule("cls_token", ("embeddings.cls_token", position), "class with its position"),
        Rule("reg_token", ("embeddings.register_tokens",)),
        Rule("pos_embed", (position,), "positions of patches"),
    )
    return Layout(f"{layout.name}, registers", (*first, *layout.rules[2:]))


TRANSFORMERS_DINOV3 = Layout(
    "transformers' DINOv3",
    (
        Rule("cls_token", ("embeddings.cls_token",)),
        Rule("reg_token", ("embeddings.register_tokens",)),
        Rule("patch_embed.proj.{p}", ("embeddings.patch_embeddings.{p}",)),
        Rule("blocks.{i}.norm1.{p}", ("layer.{i}.norm1.{p}",)),
        Rule("blocks.{i}.attn.qkv.{p}", tuple(f"layer.{{i}}.attention.{one}_proj.{{p}}" for one in "qkv")),
        Rule("blocks.{i}.attn.q_bias", ("layer.{i}.attention.q_proj.bias",)),
        Rule("blocks.{i}.attn.v_bias", ("layer.{i}.attention.v_proj.bias",)),
        Rule("blocks.{i}.attn.proj.{p}", ("layer.{i}.attention.o_proj.{p}",)),
        Rule("blocks.{i}.gamma_1", ("layer.{i}.layer_scale1.lambda1",)),
        Rule("blocks.{i}.norm2.{p}", ("layer.{i}.norm2.{p}",)),
        Rule("blocks.{i}.mlp.fc1_g.{p}", ("layer.{i}.mlp.gate_proj.{p}",)),
        Rule("blocks.{i}.mlp.fc1_x.{p}", ("layer.{i}.mlp.up_proj.{p}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", ("layer.{i}.mlp.up_proj.{p}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", ("layer.{i}.mlp.down_proj.{p}",)),
        Rule("blocks.{i}.gamma_2", ("layer.{i}.layer_scale2.lambda1",)),
        Rule("norm.{p}", ("norm.{p}",)),
    ),
)

_STAGE = "encoder.layers.{s}.blocks.{i}."
TRANSFORMERS_SWIN = Layout(
    "transformers' Swin",
    (
        Rule("patch_embed.proj.{p}", ("embeddings.patch_embeddings.projection.{p}",)),
        Rule("patch_embed.norm.{p}", ("embeddings.norm.{p}",)),
        Rule("layers.{s}.blocks.{i}.norm1.{p}", (f"{_STAGE}layernorm_before.{{p}}",)),
        Rule(
            "layers.{s}.blocks.{i}.attn.qkv.{p}",
            tuple(f"{_STAGE}attention.self.{one}.{{p}}" for one in ("query", "key", "value")),
        ),
        Rule(
            "layers.{s}.blocks.{i}.attn.relative_position_bias_table",
            (f"{_STAGE}attention.self.relative_position_bias_table",),
        ),
        Rule("layers.{s}.blocks.{i}.attn.proj.{p}", (f"{_STAGE}attention.output.dense.{{p}}",)),
        Rule("layers.{s}.blocks.{i}.norm2.{p}", (f"{_STAGE}layernorm_after.{{p}}",)),
        Rule("layers.{s}.blocks.{i}.mlp.fc1.{p}", (f"{_STAGE}intermediate.dense.{{p}}",)),
        Rule("layers.{s}.blocks.{i}.mlp.fc2.{p}", (f"{_STAGE}output.dense.{{p}}",)),
        # the end of a stage there is the beginning of the next one in timm
        Rule("layers.{s}.downsample.norm.{p}", ("encoder.layers.{s-1}.downsample.norm.{p}",)),
        Rule("layers.{s}.downsample.reduction.weight", ("encoder.layers.{s-1}.downsample.reduction.weight",)),
        Rule("norm.{p}", ("layernorm.{p}",)),
        Rule("head.fc.{p}", ("^classifier.{p}",)),
    ),
)

_LAYER = "encoder.layers.{i}."
_CLIP_BLOCK = tuple(f"{_LAYER}self_attn.{one}_proj." for one in "qkv")
TRANSFORMERS_CLIP = Layout(
    "transformers' CLIP",
    (
        Rule("cls_token", ("embeddings.class_embedding",)),
        Rule("pos_embed", ("embeddings.position_embedding.weight",)),
        Rule("patch_embed.proj.{p}", ("embeddings.patch_embedding.{p}",)),
        Rule("norm_pre.{p}", ("pre_layrnorm.{p}",)),
        Rule("blocks.{i}.norm1.{p}", (f"{_LAYER}layer_norm1.{{p}}",)),
        Rule("blocks.{i}.attn.qkv.{p}", tuple(f"{one}{{p}}" for one in _CLIP_BLOCK)),
        Rule("blocks.{i}.attn.proj.{p}", (f"{_LAYER}self_attn.out_proj.{{p}}",)),
        Rule("blocks.{i}.norm2.{p}", (f"{_LAYER}layer_norm2.{{p}}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", (f"{_LAYER}mlp.fc1.{{p}}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", (f"{_LAYER}mlp.fc2.{{p}}",)),
        Rule("norm.{p}", ("post_layernorm.{p}",)),
        Rule("head.{p}", ("^visual_projection.{p}",)),
    ),
)

TRANSFORMERS_SIGLIP = Layout(
    "transformers' SigLIP",
    (
        *(rule for rule in TRANSFORMERS_CLIP.rules if rule.own not in ("cls_token", "norm_pre.{p}", "head.{p}")),
        Rule("attn_pool.latent", ("head.probe",)),
        Rule("attn_pool.q.{p}", ("head.attention.in_proj_{p}",), "first third"),
        Rule("attn_pool.kv.{p}", ("head.attention.in_proj_{p}",), "last two thirds"),
        Rule("attn_pool.proj.{p}", ("head.attention.out_proj.{p}",)),
        Rule("attn_pool.norm.{p}", ("head.layernorm.{p}",)),
        Rule("attn_pool.mlp.fc1.{p}", ("head.mlp.fc1.{p}",)),
        Rule("attn_pool.mlp.fc2.{p}", ("head.mlp.fc2.{p}",)),
    ),
)

_RES = "transformer.resblocks.{i}."


def _resblocks(layer: str) -> tuple[Rule, ...]:
    """A block of either tower of open_clip's, out of transformers' layer of that name."""
    return (
        Rule(f"{_RES}ln_1.{{p}}", (f"{layer}layer_norm1.{{p}}",)),
        Rule(f"{_RES}attn.in_proj_{{p}}", tuple(f"{layer}self_attn.{one}_proj.{{p}}" for one in "qkv")),
        Rule(f"{_RES}attn.out_proj.{{p}}", (f"{layer}self_attn.out_proj.{{p}}",)),
        Rule(f"{_RES}ln_2.{{p}}", (f"{layer}layer_norm2.{{p}}",)),
        Rule(f"{_RES}mlp.c_fc.{{p}}", (f"{layer}mlp.fc1.{{p}}",)),
        Rule(f"{_RES}mlp.c_proj.{{p}}", (f"{layer}mlp.fc2.{{p}}",)),
    )


TRANSFORMERS_CLIP_FOR_OPEN_CLIP = Layout(
    "transformers' CLIP",
    (
        Rule("class_embedding", ("embeddings.class_embedding",)),
        Rule("positional_embedding", ("embeddings.position_embedding.weight",)),
        Rule("conv1.weight", ("embeddings.patch_embedding.weight",)),
        Rule("ln_pre.{p}", ("pre_layrnorm.{p}",)),
        *_resblocks(_LAYER),
        Rule("ln_post.{p}", ("post_layernorm.{p}",)),
        Rule("proj", ("^visual_projection.weight",), "transposed"),
    ),
)

TRANSFORMERS_CLIP_TEXT = Layout(
    "transformers' CLIP, its text side",
    (
        Rule("token_embedding.weight", ("text_model.embeddings.token_embedding.weight",)),
        Rule("positional_embedding", ("text_model.embeddings.position_embedding.weight",)),
        *_resblocks(f"text_model.{_LAYER}"),
        Rule("ln_final.{p}", ("text_model.final_layer_norm.{p}",)),
        Rule("text_projection", ("text_projection.weight",), "transposed"),
        Rule("logit_scale", ("logit_scale",)),
    ),
)

OPEN_CLIP = Layout(
    "OpenAI's CLIP",
    (
        Rule("cls_token", ("class_embedding",)),
        Rule("pos_embed", ("positional_embedding",)),
        Rule("patch_embed.proj.weight", ("conv1.weight",)),
        Rule("norm_pre.{p}", ("ln_pre.{p}",)),
        Rule("blocks.{i}.norm1.{p}", (f"{_RES}ln_1.{{p}}",)),
        Rule("blocks.{i}.attn.qkv.{p}", (f"{_RES}attn.in_proj_{{p}}",)),
        Rule("blocks.{i}.attn.proj.{p}", (f"{_RES}attn.out_proj.{{p}}",)),
        Rule("blocks.{i}.norm2.{p}", (f"{_RES}ln_2.{{p}}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", (f"{_RES}mlp.c_fc.{{p}}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", (f"{_RES}mlp.c_proj.{{p}}",)),
        Rule("norm.{p}", ("ln_post.{p}",)),
        Rule("head.weight", ("proj",), "transposed"),
    ),
)

_LAYERS = "encoder.layers.encoder_layer_{i}."
TORCHVISION_VIT = Layout(
    "torchvision's ViT",
    (
        Rule("cls_token", ("class_token",)),
        Rule("pos_embed", ("encoder.pos_embedding",)),
        Rule("patch_embed.proj.{p}", ("conv_proj.{p}",)),
        Rule("blocks.{i}.norm1.{p}", (f"{_LAYERS}ln_1.{{p}}",)),
        Rule("blocks.{i}.attn.qkv.{p}", (f"{_LAYERS}self_attention.in_proj_{{p}}",)),
        Rule("blocks.{i}.attn.proj.{p}", (f"{_LAYERS}self_attention.out_proj.{{p}}",)),
        Rule("blocks.{i}.norm2.{p}", (f"{_LAYERS}ln_2.{{p}}",)),
        Rule("blocks.{i}.mlp.fc1.{p}", (f"{_LAYERS}mlp.0.{{p}}",)),
        Rule("blocks.{i}.mlp.fc2.{p}", (f"{_LAYERS}mlp.3.{{p}}",)),
        Rule("norm.{p}", ("encoder.ln.{p}",)),
        Rule("head.{p}", ("heads.head.{p}",)),
    ),
)

#: What transformers 5 calls in memory what its files, and those of all releases before, call otherwise.
_SINCE_5 = (
    ("encoder.layer.{i}.attention.attention.query", "layers.{i}.attention.q_proj"),
    ("encoder.layer.{i}.attention.attention.key", "layers.{i}.attention.k_proj"),
    ("encoder.layer.{i}.attention.attention.value", "layers.{i}.attention.v_proj"),
    ("attention.self.query", "attention.q_proj"),
    ("attention.self.key", "attention.k_proj"),
    ("attention.self.value", "attention.v_proj"),
    ("attention.self.relative", "attention.relative_position_bias.relative"),
    ("attention.output.dense", "attention.o_proj"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("encoder.layer.{i}.", "layers.{i}."),
)


def _since_5(layout: Layout, swaps: Sequence[tuple[str, str]] = _SINCE_5) -> Layout:
    def renamed(source: str) -> str:
        for before, now in swaps:
            source = source.replace(before, now)
        return source

    rules = tuple(replace(rule, sources=tuple(map(renamed, rule.sources))) for rule in layout.rules)
    return Layout(f"{layout.name} (since transformers 5)", rules)


#: Published files of torchvision have the names of its first release.
_AT_FIRST = (("mlp.0.", "mlp.linear_1."), ("mlp.3.", "mlp.linear_2."))


def _at_first(layout: Layout) -> Layout:
    return replace(_since_5(layout, _AT_FIRST), name=layout.name)


_VIT = (TRANSFORMERS_VIT, TRANSFORMERS_DISTILLED)
_DINOV2 = (TRANSFORMERS_DINOV2, TRANSFORMERS_DINOV2_GATED)
_IN_ENCODER = tuple((before, now.replace("layers.{i}", "encoder.layer.{i}")) for before, now in _SINCE_5)

#: By the class that is loaded, the layouts that its files come in beside its own.
OF_VIT = (
    *(
        OPEN_CLIP,
        TORCHVISION_VIT,
        _at_first(TORCHVISION_VIT),
        *_VIT,
        *map(_since_5, _VIT),
        TRANSFORMERS_CLIP,
        TRANSFORMERS_SIGLIP,
    ),
    *(*_DINOV2, *(_since_5(one, _IN_ENCODER) for one in _DINOV2)),
    *(*map(_with_registers, _DINOV2), *(_since_5(_with_registers(one), _IN_ENCODER) for one in _DINOV2)),
)
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "timm.models.vision_transformer.VisionTransformer": OF_VIT,
    "timm.models.deit.VisionTransformerDistilled": (*_VIT, *map(_since_5, _VIT)),
    "timm.models.eva.Eva": (
        TRANSFORMERS_DINOV3,
        _since_5(TRANSFORMERS_DINOV3, (("layer.{i}", "model.layer.{i}"),)),
    ),
    "timm.models.swin_transformer.SwinTransformer": (TRANSFORMERS_SWIN, _since_5(TRANSFORMERS_SWIN)),
    "open_clip.transformer.VisionTransformer": (TRANSFORMERS_CLIP_FOR_OPEN_CLIP,),
}


def layouts_of(module: nn.Module) -> tuple[Layout, ...]:
    """The layouts that weights of a module may come in, its own first."""
    if qualified_class(module) == WRAPPER:
        inner = layouts_of(module.get_submodule("trunk"))[1:]
        return (NATIVE, *(_of_trunk(one) for one in inner))
    return (NATIVE, *LAYOUTS.get(qualified_class(module), ()))


def _of_trunk(layout: Layout) -> Layout:
    """As open_clip's wrapper of a timm model has it."""
    rules = tuple(
        Rule("head.proj.weight", tuple(source.replace("{p}", "weight") for source in rule.sources), rule.how)
        if rule.own in ("head.{p}", "head.weight")
        else replace(rule, own=f"trunk.{rule.own}")
        for rule in layout.rules
    )
    return replace(layout, rules=rules)
