"""The forms in which people have weights, and what becomes of each: the table of docs/checkpoints.md.

Every name is that of a test (tests/pipeline/test_checkpoint_*.py) on files that the test writes; one test says that
none is missing on either side.
"""

from __future__ import annotations

from dataclasses import dataclass

EQUAL = "equal"  # features of the source module, with a maximal difference of 0
ROUNDED = "equal to rounding"  # another library computes the same sums in another order
NAMED = "the argument is named"  # refused, with the argument under which it is equal
REFUSED = "refused"  # with what it is, and what to do


@dataclass(frozen=True)
class Form:
    """A form of a checkpoint, what becomes of it, and what is said or to be done."""

    name: str
    verdict: str
    told: str = ""


def _all(verdict: str, told: str, *names: str) -> tuple[Form, ...]:
    return tuple(Form(name, verdict, told) for name in names)


_PREFIX = "`taken from under PREFIX`"
_BESIDE = "`tensors of other modules left out: N (...)`"

FORMS: dict[str, tuple[Form, ...]] = {
    "Wrappers, and what stands beside": (
        *_all(EQUAL, _PREFIX + ", and what was left out", "timm's train.py, arguments and all"),
        *_all(
            EQUAL, _PREFIX, "NumPy's arrays", "numpy's numbers beside", "paths beside", "a defaultdict of lists beside"
        ),
        *_all(EQUAL, "", "an OrderedDict"),
        *_all(EQUAL, _PREFIX, "DDP", "FSDP", "Sequential", "vit", "image_encoder", "visual_encoder", "clip"),
        *_all(EQUAL, "", "torch.compile", "torch.compile of each block", "activation checkpointing"),
        *_all(EQUAL, _PREFIX, "Lightning", "Lightning, net", "Lightning, compiled", "transformers' wrapper of timm"),
        *_all(EQUAL, _PREFIX, "an unheard-of wrapper", "AveragedModel"),
        *_all(EQUAL, "", "total_ops of thop"),
        *_all(EQUAL, _BESIDE, "an infinite metric", "an infinite metric without prefix"),
        *_all(EQUAL, _BESIDE, "projection head", "loss, prototypes", "MAE's decoder"),
    ),
    "Two models in one file": (
        *_all(
            EQUAL,
            "`A taken, not B: --which chooses`",
            *("DINO", "iBOT", "Lightning, student and teacher", "I-JEPA", "MoCo v3", "BYOL"),
            *("timm's EMA", "DeiT's EMA", "EMA under a longer name"),
        ),
        *_all(EQUAL, "", "one model under two names"),
        *_all(EQUAL, "to the raw weights: `not read: ..., a list of N tensors without names`", "averages in a list"),
        *_all(REFUSED, "both are named: `--which` chooses", "two models of equal rank"),
    ),
    "Precisions, heads, arguments": (
        *_all(EQUAL, "`float16 widened to float32`; float64 is narrowed", "fp16, bf16, float8, float64"),
        *_all(EQUAL, "`classifier head has N classes instead of M`", "heads of 10, 2 and 1 classes"),
        *_all(EQUAL, "up to the head: `classifier head missing: set to zero`", "no head"),
        *_all(EQUAL, "`head.bias missing: set to zero`", "a head without bias"),
        *_all(EQUAL, "up to the head, which is left out", "a head of several layers"),
        *_all(
            NAMED,
            "`--model-args NAME=VALUE`",
            *("average pooling", "no class token", "registers", "LayerScale", "no bias of queries", "norms of queries"),
            *("more blocks", "smaller patches"),
        ),
        *_all(EQUAL, "`one table of relative positions was copied into N blocks`", "BEiT's shared table"),
        *_all(REFUSED, "what is missing, unexpected, of another shape", "distilled weights, plain architecture"),
        *_all(REFUSED, "the same; nothing inside a block is ever left out", "an unknown layer within a block"),
        *_all(REFUSED, "merge them first", "adapters (LoRA)"),
        *_all(REFUSED, "", "integers for weights", "NaN in a weight that is used"),
    ),
    "What would load, and be another model": (
        *_all(EQUAL, "with `--input-size HEIGHTxWIDTH`, which the error names", "a rectangle"),
        *_all(REFUSED, "until the file says its `img_size`", "a rectangle of a square number of patches"),
        *_all(EQUAL, "`resampled from ... to ...: pos_embed`", "another resolution"),
        *_all(REFUSED, "the window is named", "Swin's window of 12 into 7"),
        *_all(REFUSED, "the -quickgelu variant is named", "OpenAI's weights under GELU"),
        *_all(EQUAL, "", "Swin's official files", "DINOv2's own names with registers", "open_clip's epoch_1.pt"),
        *_all(REFUSED, "where the file keeps its windows' coordinates", "Swin v2's window of 16 into 8"),
    ),
    "Files and folders": (
        *_all(EQUAL, "", "torch.save before 1.6", "TorchScript", "fp16 TorchScript", "shards with an index"),
        *_all(EQUAL, "", "a Hugging Face folder", "a folder with one file", "a folder in a store"),
        *_all(EQUAL, "the objects are never made", "objects of trainers (omegaconf, Lightning, ...)"),
        *_all(REFUSED, "the command that keeps its tensors", "objects of one's own classes", "a whole pickled module"),
        *_all(REFUSED, "the command that converts it", "a plain pickle", "a distributed checkpoint (DCP, FSDP)"),
        *_all(REFUSED, "nothing of it is run", "code in a pickle", "code in a TorchScript archive"),
        *_all(REFUSED, "timm's converter is named", "JAX's .npz"),
        *_all(REFUSED, "the command that keeps its tensors", "a program of torch.export"),
        *_all(REFUSED, "what it is", "folders of DeepSpeed, TensorFlow and Flax"),
        *_all(
            REFUSED, "what it is", "git-lfs pointers, web pages, HDF5, GGUF, ONNX, pictures, archives, text, nothing"
        ),
        *_all(REFUSED, "`truncated or damaged`", "a truncated file", "a byte that changed in a zip"),
        *_all(REFUSED, "the store's own word, in one line", "a store that refuses"),
    ),
    "Names of other libraries": (
        *_all(ROUNDED, "`names translated from transformers' ...`", "ViT", "DeiT, distilled", "DINOv2"),
        *_all(ROUNDED, "the same", "DINOv2, registers", "DINOv3", "Swin of transformers", "SigLIP"),
        *_all(ROUNDED, "the same; `hidden_act` of config.json must be the architecture's", "CLIP"),
        *_all(ROUNDED, "`names translated from OpenAI's CLIP`", "OpenAI's names in timm's architecture"),
        *_all(ROUNDED, "`names translated from torchvision's ViT`", "torchvision's ViT"),
    ),
}


def form_names() -> list[str]:
    """Names of all forms; each stands once."""
    return [form.name for forms in FORMS.values() for form in forms]
