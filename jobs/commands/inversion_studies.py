"""The commands `study inversion-ablations` and `study inversion-scale`: what makes inversions readable."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from jobs.commands.own_checkpoint import NONE, OwnCheckpoint

if TYPE_CHECKING:
    from pipeline.invert.prompts import Prompts
    from pipeline.invert.targets import Target
    from pipeline.models import ModelRequest
    from pipeline.uses.inversion_trials import Subject, Trial

PICTURES = (".webp", ".png", ".jpg")
SHORTER = {"steps": "steps a stage", "copies": "copies a step"}
COLUMNS = {
    "own_score": "own score",
    "own_right": "own right",
    "natural_right": "natural",
    "transfer_score": "transfer score",
    "transfer_right": "transfer",
}
NOTE = (
    "± is one standard error over targets. own score: the model's probability of the class among its rivals, or the "
    "cosine with the text; own right: it comes first; natural: ... under natural changes, share of copies; transfer: "
    "mean over readers, probability (or cosine), and share that has the target first; less the first: that share, less "
    "the first row's, target by target."
)


@Parameter(name="*")
@dataclass(frozen=True)
class Asked:
    """What both studies are asked for: which targets, who reads them, how long, and where the result goes."""

    classes: Annotated[
        tuple[str, ...], Parameter(help="Names, indices or ranges (12, 0-9) of classes; repeatable.", negative="")
    ] = ()
    readers: Annotated[str | None, Parameter(help="Models that read the pictures, with commas between.")] = None
    steps: Annotated[
        int | None, Parameter(help="Steps of a stage, at most; said in the result (default: the recipe's).")
    ] = None
    copies: Annotated[int | None, Parameter(help="Copies of a picture in a step, at most (default: the recipe's).")] = (
        None
    )
    seed: Annotated[int, Parameter(help="Of the pictures' random numbers.")] = 0
    device: Annotated[str, Parameter(help="cpu or cuda.")] = "cpu"
    out: Annotated[Path | None, Parameter(help="Write all figures, of each target too, as a JSON file.")] = None
    sheet: Annotated[Path | None, Parameter(help="Draw the pictures: .webp, .png or .jpg.")] = None
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False

    @property
    def shortened(self) -> dict[str, int]:
        """What the recipe is cut to, as the result says it."""
        given = {"steps": self.steps, "copies": self.copies}
        return {name: value for name, value in given.items() if value is not None}

    def check_files(self) -> None:
        """Before anything is computed: hours of work are not lost for a name. BadConfig."""
        from atlas_schema.errors import BadConfig

        for option, path in (("--out", self.out), ("--sheet", self.sheet)):
            if path is not None and not path.absolute().parent.is_dir():
                raise BadConfig(f"{option} {path}: there is no folder {path.parent}. Make it first, or name another.")
        if self.sheet is not None and self.sheet.suffix.lower() not in PICTURES:
            raise BadConfig(f"--sheet {self.sheet}: expected a file name that ends in {', '.join(PICTURES)}.")

    def give(self, found: dict[str, Any], made: Sequence[tuple[str, Trial]]) -> None:
        """Print the result, and write the files that are asked for."""
        out = self.out
        if out is not None:
            _write(out, "--out", lambda: out.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n"))
        if self.sheet is not None:
            _draw(self.sheet, made)
        print(json.dumps(found, indent=1, ensure_ascii=False) if self.as_json else text_of(found))


AS_IT_IS = Asked()


def inversion_ablations(
    *,
    model: Annotated[str, Parameter(help="A classifier: timm/NAME, zoo/NAME, hf://ORG/NAME, a folder.")],
    checkpoint: OwnCheckpoint = NONE,
    asked: Asked = AS_IT_IS,
) -> int:
    """Invert classes by Plug-In Inversion, whole and without each of its parts, and say what that changes."""
    from pipeline.invert.ablations import ablations
    from pipeline.invert.targets import targets_of
    from pipeline.uses.inversion_trials import by_chance, check_readers, differences, told, trial

    asked.check_files()
    trials = ablations(asked.steps, asked.copies)
    subject = _classifier(checkpoint.request(model), asked.device)
    targets = targets_of(subject.outputs, asked.classes)
    panel = [_classifier(_request(name), asked.device) for name in _names(asked.readers)]
    check_readers(subject, targets, panel)
    made: list[tuple[str, Trial]] = []
    rows: list[dict[str, Any]] = []
    for number, one in enumerate(trials, start=1):
        _say(
            f"{one.name}: {number} of {len(trials)}, {one.recipe.image_steps} passes a picture, {len(targets)} targets"
        )
        made.append((one.name, trial(subject, targets, one.recipe, panel, asked.seed)))
        less = {} if number == 1 else {"less_the_first": differences(made[-1][1], made[0][1])}
        rows.append({"name": one.name, "means": one.means, **told(made[-1][1]), **less})
    found = {
        "study": "inversion-ablations",
        "model": subject.model.description.id,
        "readers": [one.name for one in panel],
        "seed": asked.seed,
        "steps_of_a_stage": trials[0].recipe.stages[0].ascent.steps,
        "copies": trials[0].recipe.copies,
        "shortened": asked.shortened,
        "chance": round(by_chance(subject.outputs, targets), 4),
        "trials": rows,
    }
    asked.give(found, made)
    return 0


def inversion_scale(
    *,
    model: Annotated[list[str] | None, Parameter(help="A model as it is; repeat for several.", negative="")] = None,
    weights: Annotated[
        list[str] | None,
        Parameter(help="NAME=FILE, weights of --architecture under a name; repeat for several.", negative=""),
    ] = None,
    architecture: Annotated[str | None, Parameter(help="The model that --weights are of.")] = None,
    class_names: Annotated[
        str | None, Parameter(help="Of --weights: names of the outputs, a file, one a line.")
    ] = None,
    prompts: Annotated[str | None, Parameter(help="Of CLIPs: a file of texts, one a line, or zoo.")] = None,
    recipe: Annotated[str, Parameter(help="The recipe of inversion: fast, pii, clip-inversion.")] = "fast",
    asked: Asked = AS_IT_IS,
) -> int:
    """Invert the same targets of models of other sizes, or trained on other amounts, and compare the pictures."""
    from pipeline.invert.ablations import shortened
    from pipeline.invert.recipes import inversion_recipe
    from pipeline.uses.inversion_trials import by_chance, check_readers, differences, told, trial

    asked.check_files()
    cut = shortened(inversion_recipe(recipe), asked.steps, asked.copies)
    texts = _prompts(prompts, asked.classes)
    requests = [*_weighed(weights, architecture, class_names), *((name, _request(name)) for name in model or [])]
    _check_models([name for name, _ in requests])
    subjects = [_subject(name, request, asked.device, texts) for name, request in requests]
    panel = [_subject(name, _request(name), asked.device, texts) for name in _names(asked.readers)]
    wanted = _same_targets(subjects, asked.classes)
    reading = [panel if asked.readers else [other for other in subjects if other is not one] for one in subjects]
    for one, targets, others in zip(subjects, wanted, reading, strict=True):
        check_readers(one, targets, others)
    made: list[tuple[str, Trial]] = []
    rows: list[dict[str, Any]] = []
    for number, (one, targets, others) in enumerate(zip(subjects, wanted, reading, strict=True), start=1):
        _say(f"{one.name}: {number} of {len(subjects)}, {cut.image_steps} passes a picture, {len(targets)} targets")
        made.append((one.name, trial(one, targets, cut, others, asked.seed)))
        about = one.model.description
        rows.append(
            {
                "name": one.name,
                "parameters": about.parameters,
                "forward_flops": about.forward_flops,
                "readers": [other.name for other in others],
                **told(made[-1][1]),
                **({} if number == 1 else {"less_the_first": differences(made[-1][1], made[0][1])}),
            }
        )
    found = {
        "study": "inversion-scale",
        "recipe": cut.name,
        "seed": asked.seed,
        "shortened": asked.shortened,
        "readers": "the same for all" if asked.readers else "of each model the others",
        "chance": round(by_chance(subjects[0].outputs, wanted[0]), 4),
        "trials": rows,
    }
    asked.give(found, made)
    return 0


def text_of(found: Mapping[str, Any]) -> str:
    """As people read it: a row a trial, what chance gives, and what the columns are."""
    about = found.get("model") or f"recipe {found['recipe']}"
    lines = [f"{found['study']}, {about}, {len(found['trials'][0]['targets'])} targets, seed {found['seed']}"]
    if found["shortened"]:
        told = ", ".join(f"{value} {SHORTER[name]}" for name, value in found["shortened"].items())
        lines.append(f"Shortened: at most {told}. The recipe itself is longer.")
    width = max(len(row["name"]) for row in found["trials"])
    titles = [*COLUMNS.values(), "less the first"]
    lines.append("  " + " ".join([" " * width, *(f"{title:>15}" for title in titles)]))
    for row in found["trials"]:
        less = row.get("less_the_first", {}).get("transfer_right")
        cells = [*(_cell(row[name]) for name in COLUMNS), _cell(less, "+")]
        lines.append("  " + " ".join([f"{row['name']:{width}}", *(f"{cell:>15}" for cell in cells)]))
    lines.append(f"By chance the target comes first in {found['chance']:.3f}. {NOTE}")
    return "\n".join(lines)


def _cell(value: Mapping[str, float] | None, sign: str = "") -> str:
    if value is None:
        return "-"
    return f"{value['mean']:{sign}.3f}" + (f" ± {value['error']:.3f}" if "error" in value else "")


def _draw(path: Path, made: Sequence[tuple[str, Trial]]) -> None:
    """A row a trial, a column a target; below each picture the share of readers that have the target first."""
    from PIL import Image

    from pipeline.draw.contact_sheet import Row, contact_sheet

    rows = []
    for name, one in made:
        pictures, lines = [], []
        for at, picture in enumerate(one.made):
            file = picture.webp
            pictures.append(Image.new("RGB", (8, 8)) if file is None else Image.open(io.BytesIO(file)))
            told = f"{one.values['transfer_right'][at]:.2f}" if one.readers else ""
            lines.append(f"{'no picture' if file is None else told} {picture.target.text}".strip())
        rows.append(Row(name, pictures, lines))
    _write(path, "--sheet", lambda: contact_sheet(rows).save(path, quality=90))


def _write(path: Path, option: str, write: Callable[[], object]) -> None:
    from atlas_schema.errors import BadConfig

    try:
        write()
    except (OSError, ValueError) as error:
        raise BadConfig(
            f"{option} {path}: cannot be written ({error}). Give a file in a folder that exists."
        ) from error


def _check_models(names: Sequence[str]) -> None:
    from atlas_schema.errors import BadConfig

    if len(names) < 2:
        raise BadConfig(
            f"inversion-scale compares models, and {len(names)} is named: expected two or more, by --model SPEC or by "
            "--architecture SPEC --weights NAME=FILE."
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise BadConfig(f"{twice} is named twice: expected models of different names.")


def _names(text: str | None) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()] if text else []


def _request(model: str, **more: Any) -> ModelRequest:
    return OwnCheckpoint().request(model, **more)


def _weighed(
    weights: Sequence[str] | None, architecture: str | None, class_names: str | None
) -> list[tuple[str, ModelRequest]]:
    from atlas_schema.errors import BadConfig

    if (architecture is None) != (not weights):
        raise BadConfig("--architecture and --weights go together: the model, and NAME=FILE for each of its weights.")
    found, names = [], {} if class_names is None else {"class_names": class_names}
    for one in weights or ():
        name, equals, file = one.partition("=")
        if not (name and equals and file):
            raise BadConfig(f"--weights {one}: expected NAME=FILE, such as --weights 500=weights/500/vit.safetensors.")
        found.append((name, _request(str(architecture), weights=file, name=name, **names)))
    return found


def _prompts(prompts: str | None, classes: Sequence[str]) -> Prompts | None:
    """The texts that CLIPs are inverted for; None: classes of classifiers."""
    from atlas_schema.errors import BadConfig
    from jobs.config import config_from_mapping
    from jobs.targets import prompts_of

    if prompts is None:
        return None
    if classes:
        raise BadConfig("--classes are of classifiers and --prompts of CLIPs: expected one of the two.")
    return prompts_of(config_from_mapping({"models": ["zoo/clip"], "out": "unused", "prompts": prompts}))


def _classifier(request: ModelRequest, device: str, name: str = "") -> Subject:
    from pipeline.invert.targets import class_outputs
    from pipeline.models import load
    from pipeline.uses.inversion_trials import Subject

    model = load(request, device)
    return Subject(name or model.description.id, model, class_outputs(model))


def _subject(name: str, request: ModelRequest, device: str, texts: Prompts | None) -> Subject:
    from pipeline.invert.targets import text_outputs
    from pipeline.label.embedder import load_embedder
    from pipeline.uses.inversion_trials import Subject

    if texts is None:
        return _classifier(request, device, name)
    clip = load_embedder(request, device)
    return Subject(name, clip.vision, text_outputs(clip.vision, clip, texts.texts, texts.pictures))


def _same_targets(subjects: Sequence[Subject], classes: Sequence[str]) -> list[list[Target]]:
    """The targets of the first model, and the same of each other by name. BadConfig where a model lacks one."""
    from dataclasses import replace

    from pipeline.invert.targets import targets_of
    from pipeline.invert.transfer import counterpart_classes

    first = targets_of(subjects[0].outputs, classes)
    found = [first]
    for one in subjects[1:]:
        places = counterpart_classes(first, one.outputs.names, (subjects[0].name, one.name))
        found.append([replace(target, index=place) for target, place in zip(first, places, strict=True)])
    return found


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
