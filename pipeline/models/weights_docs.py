"""docs/checkpoints.md, generated from the tables of this package: `python -m pipeline.models.weights_docs FILE`."""

from __future__ import annotations

import sys
from pathlib import Path

from atlas_schema.card import markdown_table
from pipeline.models.hub_ids import HUB_NAMES
from pipeline.models.hub_models import OF_TIMM
from pipeline.models.weights.folders import FOLDERS, SUFFIXES, USUAL
from pipeline.models.weights.foreign import BEGINNINGS
from pipeline.models.weights.forms import FORMS, form_names
from pipeline.models.weights.layouts import LAYOUTS
from pipeline.models.weights.search import AVERAGES, PREFERRED
from pipeline.models.weights.unpickle import TRAINERS

_HEAD = """# Checkpoints

This page is generated from `pipeline/models/weights/`; do not edit it. To write it again:

    python -m pipeline.models.weights_docs docs/checkpoints.md

Weights of your own are given with the architecture that they are of, and a name:

    neuron-atlas run --model timm/vit_small_patch14_dinov2 --weights checkpoint.pth --as my-dino --out atlas

They need not be a clean state dict. Whatever a training script wrote is loaded so that features are exactly those of
the module it was taken from, or it is refused in a few lines that say what it is and what to do. Every change on the
way in is printed by the run and kept in the column `notes` of the table `models`. Nothing in a file is ever executed.

What a file is, which architectures fit it, what would be changed and the run that works are told by

    neuron-atlas check weights checkpoint.pth
    neuron-atlas check weights checkpoint.pth --model timm/vit_small_patch14_dinov2 --json"""

_SEARCH = """## Where in a file the model is

No names of wrappers are known. All dicts in a file are laid out as one list of names; the prefix under which most
names of the architecture stand is where the model is. Marks that torch.compile, FSDP and activation checkpointing put
into names are cut. Tensors outside that prefix are left out and said, and so are heads, decoders, losses and counters
beside the encoder; a tensor inside the encoder that the architecture has no place for is never left out. NaN matters
only in what is used.

Where a file holds several whole models, one is taken by this rule, and it is said; `--which PREFIX` takes another.
Where the rule does not decide, the file is refused and the prefixes are named."""

_ARGUMENTS = """## Arguments and sizes

`--model-args NAME=VALUE` (repeatable; a table `model_args` in TOML) gives arguments to the constructor of the
architecture, which is asked whether it has them: `global_pool`, `reg_tokens`, `class_token`, `qkv_bias`, `init_values`,
`depth`, `patch_size`, `window_size`, ... They are part of every key of the model's results. Where weights do not fit
and one of the usual arguments would make them fit, the error names it. `--input-size HEIGHTxWIDTH` takes rectangles.

The outputs of a classifier are shown by name. Names come from `--class-names FILE` (one a line, in the order of the
outputs; or JSON: a list, index to name, name to index), from `--class-names probe` (the classes of the probe set,
sorted, as torchvision's ImageFolder numbers them), or from the checkpoint: `classes`, `class_names`, `label_names`,
`class_to_idx`, `idx_to_class` or `id2label` anywhere in it, or in the `config.json` beside it. Without names pages say
indices, and the model's notes say why.

Position embeddings are resampled by the library, as a square grid unless the file's own settings (`img_size`,
`input_size`, `image_size`; also in its arguments) say another; where a number of positions may be two grids, the file
is refused until it says which."""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n\n".join([_HEAD, _forms(), _SEARCH, _rule(), _ARGUMENTS, _files(), _layouts(), _hub()]) + "\n"


def _forms() -> str:
    parts = [
        f"## Forms\n\n{len(form_names())} forms, each a test. *Equal*: the largest difference of any feature to the "
        "source module's is 0."
    ]
    for title, forms in FORMS.items():
        rows = [(form.name, form.verdict, form.told) for form in forms]
        parts.append(f"### {title}\n\n" + markdown_table(("form", "verdict", "what is said"), rows))
    return "\n\n".join(parts)


def _rule() -> str:
    averages = ", ".join(f"`{name}`" for name in sorted(AVERAGES))
    rows = [(f"`{taken}`", f"`{left}`") for taken, left in PREFERRED]
    return f"An average over training goes before raw weights: {averages}.\n\n" + markdown_table(
        ("taken", "left"), rows
    )


def _files() -> str:
    known = [(f"begins with `{begins!r}`", what, advice) for begins, what, advice in BEGINNINGS]
    folders = [(f"holds `{name}`", what, f"`{command}`") for name, what, command in FOLDERS]
    return (
        "## Files\n\nFiles are told apart by their content, not by their names: safetensors, torch.save (old and new "
        "format), TorchScript (its program is not read), an index of shards. Locations are paths and fsspec URLs. Of a "
        f"folder {', '.join(f'`{name}`' for name in USUAL)} is taken, or its only {', '.join(SUFFIXES)}.\n\n"
        f"Objects of these packages in a torch file are read past, and never made: {', '.join(sorted(TRAINERS))}.\n\n"
        + markdown_table(("a file or folder that", "is", "what to do"), [*known, *folders])
    )


def _layouts() -> str:
    rows = [
        (
            f"`{kind.rpartition('.')[2]}` ({kind.partition('.')[0]})",
            ", ".join(dict.fromkeys(one.name for one in layouts)),
        )
        for kind, layouts in LAYOUTS.items()
    ]
    return (
        "## Names of other libraries\n\nBeside what timm and open_clip convert themselves, these names are translated "
        "(`pipeline/models/weights/layouts.py`):\n\n"
        + markdown_table(("architecture", "names of"), rows)
        + "\n\nWhat a CLIP of open_clip's architectures reads texts with is taken from the same weights, in the names "
        "of open_clip, OpenAI, Apple's MobileCLIP or transformers. Weights without it give the pictures' side alone, "
        "whose neurons have no effect on texts."
    )


def _hub() -> str:
    rows = [(f"`{name}`".replace("|", "\\|"), f"`{target}`") for name, target in HUB_NAMES]
    kinds = sorted({*(kind.partition(",")[0] for kind in OF_TIMM), "clip", "siglip", "swin"})
    return (
        "## Models of the hub\n\n`--model hf://ORG/NAME`, or a folder with the files of such a repository, is a model: "
        f"its `config.json` says the architecture ({', '.join(kinds)}, or as timm pushes models), the size of its "
        "pictures and the activation function, its `preprocessor_config.json` how pictures are prepared. `plan` "
        "fetches these two small files alone. Nothing of a repository is run.\n\n"
        "## Names of the hub\n\nSuch a name without `hf://` is answered with the id of the same weights; those of "
        "open_clip's own repositories are known too. `open_clip/hf-hub:ORG/NAME`, `open_clip/local-dir:FOLDER` are "
        "read as open_clip reads them.\n\n" + markdown_table(("typed", "works"), rows)
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pipeline.models.weights_docs docs/checkpoints.md")
    Path(sys.argv[1]).write_text(page())
