"""The command `heatmap`: where in an image a model sees a text, a class, or what another image shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

if TYPE_CHECKING:
    from torch import Tensor

    from pipeline.decompose import Level
    from pipeline.models import LoadedModel, ModelRequest

LEVELS = {"direct": "direct", "through": "through attention", "gated": "gated"}


def heatmap(
    *,
    model: Annotated[str, Parameter(help="timm/NAME, open_clip/NAME/TAG or zoo/NAME.")],
    image: Annotated[Path, Parameter(help="The image file to look at.")],
    text: Annotated[str | None, Parameter(help="Where is what this text says?")] = None,
    against: Annotated[
        list[str] | None, Parameter(help="Texts that it is not about: their mean is taken off; repeat for several.")
    ] = None,
    class_name: Annotated[str | None, Parameter(name="--class", help="Where is what speaks for this class?")] = None,
    like: Annotated[Path | None, Parameter(help="Where is what this other image shows too?")] = None,
    out: Annotated[Path, Parameter(help="Where the picture is written: .png, .webp or .jpg.")] = Path("heatmap.png"),
    level: Annotated[
        str,
        Parameter(help="direct, through (heads also write through later attention) or gated (and through FFNs)."),
    ] = "direct",
    atlas: Annotated[str | None, Parameter(help="For --text: the atlas that holds the model's alignment.")] = None,
    embedder: Annotated[str | None, Parameter(help="For --text: the CLIP of that alignment.")] = None,
    checkpoint: OwnCheckpoint = NONE,
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu",
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Show which places of an image speak for a text, a class or another image, through a model's attention heads."""
    from pipeline.decompose import Level
    from pipeline.models import load

    _check(text, class_name, like, against, level)
    request = checkpoint.request(model)
    loaded = load(request, device)
    x01 = _pixels(image, "--image", loaded)
    asked = _Asked(request, loaded, x01, Level(LEVELS[level]))
    if text is not None:
        found = asked.by_text(text, against or [], atlas, embedder)
    elif class_name is not None:
        found = asked.by_class(class_name)
    else:
        assert like is not None
        found = asked.by_likeness(like)
    _draw(out, x01, found, f"{loaded.description.id}: {found.what}")
    told = _told(loaded, found, image, out)
    print(json.dumps(told, indent=1) if as_json else _text(told))
    return 0


@dataclass(frozen=True)
class _Found:
    """heat: (height, width). what: in words. heads: those whose maps were summed, None where all were."""

    heat: Tensor
    what: str
    level: str
    heads: list[tuple[str, float]] | None = None


class _Asked:
    """A model and an image of which something is asked. x01: (3, height, width) in [0, 1]."""

    def __init__(self, request: ModelRequest, model: LoadedModel, x01: Tensor, level: Level) -> None:
        self.request, self.model, self.level = request, model, level
        self.x = model.normalise(x01.to(model.device))[None]

    def by_text(self, text: str, against: list[str], atlas: str | None, embedder: str | None) -> _Found:
        from pipeline.label.embedder import load_embedder
        from pipeline.models import ModelRequest
        from pipeline.models.representation import is_clip

        own = is_clip(self.model) and embedder is None
        clip = load_embedder(self.request if own else ModelRequest(embedder or "zoo/clip"), self.model.device)
        vectors = clip.texts([text, *against])
        direction = vectors[0] - vectors[1:].mean(0) if against else vectors[0]
        what = f"“{text}”" + (f" against {', '.join(f'“{one}”' for one in against)}" if against else "")
        if own:
            return self._along(direction, what)
        return self._aligned(direction, what, atlas)

    def _aligned(self, direction: Tensor, what: str, atlas: str | None) -> _Found:
        from atlas_schema.errors import BadConfig
        from atlas_schema.store import Store
        from jobs.commands.comparing import alignment_of
        from pipeline.uses.text_heat import text_heat

        slug = self.model.description.slug
        if atlas is None:
            raise BadConfig(
                f"{slug} reads no texts. Give --atlas, an atlas that aligned it with a CLIP, or ask by --class or "
                "--like."
            )
        found = text_heat(self.model, self.x, direction, alignment_of(Store(atlas), slug))
        heads = [(one.name, round(value, 5)) for one, value in found.heads]
        return _Found(found.heat, what, "each head's own", heads)

    def by_class(self, name: str) -> _Found:
        import torch

        from pipeline.decompose import representation
        from pipeline.uses.segmentation import class_directions

        place, among = _competitors(self.model, name)
        with torch.no_grad():
            z = representation(self.model, self.x)
        direction = class_directions(self.model, z, torch.tensor([among.index(place)]), among)[0]
        return self._along(direction, f"class “{_outputs(self.model)[place]}”")

    def by_likeness(self, like: Path) -> _Found:
        import torch

        from pipeline.decompose import representation

        with torch.no_grad():
            other01 = _pixels(like, "--like", self.model).to(self.model.device)
            other = representation(self.model, self.model.normalise(other01)[None])
        return self._along(other[0] / other[0].norm(), f"what is like {like.name}")

    def _along(self, direction: Tensor, what: str) -> _Found:
        from pipeline.decompose import heatmap as heat_of

        return _Found(heat_of(self.model, self.x, direction, self.level)[0], what, self.level.value)


def _outputs(model: LoadedModel) -> tuple[str, ...]:
    from atlas_schema.errors import BadConfig
    from pipeline.effects.readout import readout_of

    readout = readout_of(model)
    if readout.reason:
        raise BadConfig(
            f"--class: {model.description.slug} has no classes ({readout.reason}). Ask by --text or --like."
        )
    return readout.names


def _competitors(model: LoadedModel, name: str) -> tuple[int, list[int]]:
    """The output that a name means, and all outputs that answer the same question, its own among them."""
    from atlas_schema.errors import BadConfig, nearest

    names = _outputs(model)
    wanted = name.strip().casefold()
    same = [i for i, one in enumerate(names) if one.casefold() == wanted]
    part = [i for i, one in enumerate(names) if wanted in (word.strip() for word in one.casefold().split(","))]
    value = [i for i, one in enumerate(names) if one.casefold().partition(": ")[2] == wanted]
    found = same or part or value
    if len(found) != 1:
        meant = [names[i] for i in found] or nearest(name, [*names, *(one.partition(": ")[2] for one in names)])
        hint = f" Did you mean {', '.join(repr(one) for one in meant)}?" if meant else ""
        raise BadConfig(f"--class {name!r}: {model.description.slug} has {len(names)} classes, not this one.{hint}")
    question, colon, _ = names[found[0]].partition(": ")
    grouped = bool(colon) and all(": " in one for one in names)
    return found[0], [i for i, one in enumerate(names) if not grouped or one.startswith(f"{question}: ")]


def _check(text: str | None, name: str | None, like: Path | None, against: list[str] | None, level: str) -> None:
    from atlas_schema.errors import BadConfig

    if sum(one is not None for one in (text, name, like)) != 1:
        raise BadConfig("heatmap needs exactly one of --text, --class and --like: what to look for.")
    if against and text is None:
        raise BadConfig("--against goes with --text: a class stands against the other classes already.")
    if (text is not None and not text.strip()) or any(not one.strip() for one in against or []):
        raise BadConfig("--text or --against is empty: give a word or phrase.")
    if level not in LEVELS:
        raise BadConfig(f"--level {level!r}: expected one of {', '.join(LEVELS)}.")


def _pixels(path: Path, option: str, model: LoadedModel) -> Tensor:
    """float32 (3, height, width) in [0, 1], of the model's input size."""
    from jobs.commands.comparing import opened
    from pipeline.models.preprocess import pixels_of

    return pixels_of(opened(path, option), model.description)


def _draw(path: Path, x01: Tensor, found: _Found, title: str) -> None:
    from atlas_schema.errors import BadConfig
    from pipeline.draw.overlay import panels

    picture, heat = x01.permute(1, 2, 0).cpu().numpy(), found.heat.float().cpu().numpy()
    try:
        panels(picture, heat, title).save(path)
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"--out {path}: the picture cannot be written there ({error}). Give a file name that ends in .png, .webp "
            "or .jpg in a folder that exists."
        ) from error


def _told(model: LoadedModel, found: _Found, image: Path, out: Path) -> dict[str, Any]:
    """Where the positive heat is, in shares of the image from its top left corner, and how much there is."""
    heat = found.heat.double().cpu()
    positive = heat.clamp_min(0)
    total = float(positive.sum())
    rows, columns = heat.shape
    strongest = divmod(int(heat.argmax()), columns)
    told: dict[str, Any] = {
        "model": model.description.id,
        "image": str(image),
        "sought": found.what,
        "level": found.level,
        "positive": total,
        "negative": float(heat.clamp_max(0).sum()),
        "strongest": [round((strongest[1] + 0.5) / columns, 4), round((strongest[0] + 0.5) / rows, 4)],
        "picture": str(out),
    }
    return told if found.heads is None else told | {"heads": [{"head": name, "value": v} for name, v in found.heads]}


def _text(told: dict[str, Any]) -> str:
    x, y = told["strongest"]
    lines = [
        f"{told['model']}: {told['sought']} in {told['image']}, level {told['level']}",
        f"  patches add {told['positive']:.3g} and take away {-told['negative']:.3g}; "
        f"strongest {x:.0%} from the left, {y:.0%} from the top",
        f"  picture: {told['picture']}",
    ]
    if "heads" in told:
        named = ", ".join(f"{one['head']} ({one['value']:+.3f})" for one in told["heads"])
        lines.insert(2, f"  heads: {named}")
    return "\n".join(lines)
