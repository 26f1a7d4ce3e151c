"""docs/coverage.md, what the atlas makes of each architecture: `python -m pipeline.models.coverage docs/coverage.md`.

Every architecture of timm and open_clip is built on the meta device and described; of those that no family covers it
is tried whether one literal (docs/families.md) would do.
"""

import re
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from atlas_schema.card import markdown_table
from atlas_schema.errors import AtlasError
from pipeline.models.description import described, representation_dim
from pipeline.models.families import Family, qualified_class
from pipeline.models.sites import attention_like, ffn_like, find_sites
from pipeline.models.sources import Blueprint, blueprint

NO_FFN, NO_ATTENTION, ONE_LITERAL, OTHER_FORM = "no FFN", "no attention", "one literal", "another form"

MEANING = {
    NO_FFN: "No module of it is an FFN of a form in `pipeline/models/sites.py`: there are no FFN neurons to show.",
    NO_ATTENTION: "It has FFNs, and no multi-head attention beside them: convolutional networks and mixers.",
    ONE_LITERAL: "FFNs and attention are read, once a family names their paths; what such a literal finds is shown. "
    "Three things have to be seen before one is added: that tokens come row by row from the top left (Hiera's and "
    "NesT's do not), that attention is across tokens (EdgeNeXt's, XCiT's and half of DaViT's is across channels), and "
    "what `neuron-atlas check decomposition` says of the heads.",
    OTHER_FORM: "It has FFNs and attention, and a literal that names their paths is not enough.",
}


@dataclass(frozen=True)
class Verdict:
    """What the atlas makes of an architecture."""

    model: str
    kind: str  # "" where it is accepted
    class_name: str
    family: str = ""
    neurons: int = 0
    heads: int = 0
    why: str = ""


def architectures() -> list[str]:
    """Every architecture of timm and open_clip, as a model id."""
    import open_clip
    import timm

    names = [f"timm/{name}" for name in timm.list_models()]
    return names + [f"open_clip/{name}" for name in sorted(open_clip.list_models()) if ":" not in name]


def verdict_on(model: str) -> Verdict:
    """Describe an architecture; where no family takes it, say of what kind it is."""
    plan = blueprint(model)
    with torch.device("meta"):
        module = plan.build().eval()
    name = qualified_class(module)
    if not ffn_like(module):
        return Verdict(model, NO_FFN, name)
    if not attention_like(module):
        return Verdict(model, NO_ATTENTION, name)
    try:
        found = described(module, plan, slug="tried")
    except AtlasError:
        return _refused(model, module, plan)
    return Verdict(model, "", name, found.family, found.neurons, found.heads)


def _refused(model: str, module: nn.Module, plan: Blueprint) -> Verdict:
    name = qualified_class(module)
    first = ""
    for literal in _literals(module, name):
        try:
            ffns, attentions, _ = find_sites(literal, module, plan.input_size)
            representation_dim(module, plan.input_size)
        except Exception as error:  # foreign code, on a form that nobody looked at: whatever it raises is the reason
            first = first or _line(error)
            continue
        neurons, heads = sum(site.width for site in ffns), sum(site.heads for site in attentions)
        return Verdict(model, ONE_LITERAL, name, neurons=neurons, heads=heads, why=_without(literal))
    return Verdict(model, OTHER_FORM, name, why=first)


def _literals(module: nn.Module, name: str) -> Iterator[Family]:
    """Literals that might do: all that looks like FFNs and attention; the same without one part of the model."""
    ffns, attentions = ffn_like(module), attention_like(module)
    parts = sorted({path.partition(".")[0] for path in (*ffns, *attentions)})
    for left_out in ("", *(parts if len(parts) > 1 else ())):
        own = [[path for path in paths if path.partition(".")[0] != left_out] for paths in (ffns, attentions)]
        if all(own):
            yield Family(
                name="tried",
                classes=(name,),
                ffn="|".join(map(re.escape, own[0])),
                attention="|".join(map(re.escape, own[1])),
                outside=rf"{re.escape(left_out)}(\..*)?" if left_out else r"(?!)",
                prefix=_prefix,
            )


def _without(literal: Family) -> str:
    part = literal.outside.partition("(")[0].replace("\\", "")
    return f"without `{part}`" if part else ""


def _prefix(module: nn.Module) -> tuple[str, ...]:
    """The tokens before the patches, by what timm's models usually say."""
    has_class = getattr(module, "cls_token", None) is not None
    count = getattr(module, "num_prefix_tokens", int(has_class))
    return ("class",) * has_class + ("register",) * (int(count) - has_class)


def _line(error: Exception) -> str:
    """The first sentence of what was said, without the grids and names that fill it."""
    text = str(error).partition("\n")[0].partition(". ")[0] or type(error).__name__
    return re.sub(r" \(\[?\(?.*|: how many channels.*", "", text)


# ------------------------------------------------------------------------------------------------------ the page


_HEAD = """# Coverage of architectures

This page is generated; do not edit it. To write it again (some minutes; nothing is downloaded, no weights are made):

    python -m pipeline.models.coverage docs/coverage.md

Each architecture of timm {timm} and open_clip {open_clip} was built on torch's meta device and described, as
`neuron-atlas plan` does. A family is one literal: [families](families.md) says how to add one."""


def line_of(verdict: Verdict) -> str:
    """The line of an architecture in the table of its kind; "" for the kinds whose names are only listed."""
    if not verdict.kind:
        cells = [verdict.family, f"{verdict.neurons:,}", f"{verdict.heads:,}"]
    elif verdict.kind == ONE_LITERAL:
        cells = [f"`{_short(verdict)}`", f"{verdict.neurons:,}", f"{verdict.heads:,}", verdict.why]
    elif verdict.kind == OTHER_FORM:
        cells = [f"`{_short(verdict)}`", verdict.why.replace("|", "\\|")]
    else:
        return ""
    return "| " + " | ".join([f"`{verdict.model}`", *cells]) + " |"


def page(verdicts: Iterable[Verdict]) -> str:
    """The whole page, as Markdown."""
    import open_clip
    import timm

    by_kind: dict[str, list[Verdict]] = {kind: [] for kind in ("", *MEANING)}
    for verdict in verdicts:
        by_kind[verdict.kind].append(verdict)
    counts = [("accepted", len(by_kind[""])), *((kind, len(by_kind[kind])) for kind in MEANING)]
    parts = [_HEAD.format(timm=timm.__version__, open_clip=open_clip.__version__)]
    parts.append(markdown_table(("what becomes of it", "architectures"), [(kind, f"{n:,}") for kind, n in counts]))
    parts += ["## Accepted", _lines(("architecture", "family", "neurons", "heads"), by_kind[""])]
    parts += [_title(ONE_LITERAL), MEANING[ONE_LITERAL]]
    parts.append(_lines(("architecture", "class", "neurons", "heads", "mind"), by_kind[ONE_LITERAL]))
    parts += [_title(OTHER_FORM), MEANING[OTHER_FORM]]
    parts.append(_lines(("architecture", "class", "what stands in the way"), by_kind[OTHER_FORM]))
    for kind in (NO_ATTENTION, NO_FFN):
        parts += [_title(kind), MEANING[kind], "\n".join(_listed(by_kind[kind]))]
    return "\n\n".join(parts) + "\n"


def _title(kind: str) -> str:
    return f"## Refused: {kind}"


def _lines(header: tuple[str, ...], verdicts: Iterable[Verdict]) -> str:
    return "\n".join([markdown_table(header, ()), *(line_of(verdict) for verdict in verdicts)])


def _listed(verdicts: Iterable[Verdict]) -> Iterator[str]:
    """One line a class, with all its architectures."""
    by_class: dict[str, list[str]] = {}
    for verdict in verdicts:
        by_class.setdefault(_short(verdict), []).append(f"`{verdict.model}`")
    for name, models in sorted(by_class.items()):
        yield f"- {name}: {', '.join(models)}"


def _short(verdict: Verdict) -> str:
    return verdict.class_name.removeprefix("timm.models.").removeprefix("open_clip.")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m pipeline.models.coverage docs/coverage.md")
    Path(sys.argv[1]).write_text(page(map(verdict_on, architectures())))
