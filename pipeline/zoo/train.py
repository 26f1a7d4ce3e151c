"""Train a model of the zoo on the procedural set: `python -m pipeline.zoo.train NAME --out DIR`.

Classifiers predict every attribute at once, one softmax group each. CLIP learns from captions that mention a
random part of the attributes. Minutes on one CPU core; no picture is seen twice, but where `scenes` bounds them.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atlas_schema.errors import BadConfig, NotFinite
from pipeline.zoo import MEAN, STD, ZOO, build
from pipeline.zoo.captions import WordTokenizer, caption, prompts
from pipeline.zoo.weights import read_weights, write_weights
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, TRAIN_SEED, Scenes, scenes

WIDTHS = tuple(len(values) for values in ATTRIBUTES.values())
"""Number of values of each attribute: the groups of a classifier's outputs."""


@dataclass(frozen=True)
class TrainingRecipe:
    """The settings of one training; the same for every model but for steps."""

    steps: int = 2400
    batch: int = 64
    matrix_rate: float = 0.02  # Muon's
    learning_rate: float = 2e-3  # AdamW's
    warmup: int = 150
    weight_decay: float = 0.05
    label_smoothing: float = 0.05
    noise: float = 0.08  # greatest standard deviation of pixel noise, of pixels in [0, 1]


STEPS = {
    "vit": 1800, "deit": 1600, "swin": 1000, "coat": 800, "convit": 800, "pit": 800, "twins": 800, "clip": 2400,
}  # fmt: skip
"""A few CPU minutes a model: families with locality built in learn in fewer steps, and each costs more."""

RECIPES = {name: TrainingRecipe(steps=STEPS[name]) for name in ZOO}

BATCH_WEIGHT = 0.2
"""Weight of CLIP's loss over the batch, whose targets are noisy, beside the loss over the prompts."""


@dataclass(frozen=True)
class TrainingReport:
    """What a training gave; `accuracies` are of the written float16 weights, on held-out scenes."""

    name: str
    path: Path
    steps: int
    seed: int
    accuracies: dict[str, float]
    losses: tuple[float, ...]  # one a step
    seconds: float  # by the clock


def train(
    name: str,
    *,
    steps: int | None = None,
    scenes: int | None = None,
    seed: int = 0,
    out: str | Path,
    on_progress: Callable[[int, int, float], None] | None = None,
) -> TrainingReport:
    """Train `zoo/{name}` and write `{out}/{name}.safetensors`.

    scenes: distinct scenes it is trained on, seen again in a new order each time all were seen (None: each scene once).
    on_progress: called after each step with (steps done, steps in all, loss). Raises UnknownModel,
    BadConfig, and NotFinite if the loss is not a number (then nothing is written).
    """
    started, cpu_started = time.monotonic(), time.process_time()
    if steps is not None and steps < 1:
        raise BadConfig(f"steps = {steps}: expected at least 1")
    if scenes is not None and scenes < 1:
        raise BadConfig(f"scenes = {scenes}: expected at least 1, or none for scenes without end")
    with torch.random.fork_rng(devices=[]):  # timm's constructors draw from the global generator
        torch.manual_seed(seed)
        model = build(name)
        _prepare(model)
    recipe = RECIPES[name] if steps is None else replace(RECIPES[name], steps=steps)
    losses = []
    for step, loss in enumerate(_optimise(name, model, recipe, seed, scenes), start=1):
        if not math.isfinite(loss):
            raise NotFinite(f"zoo/{name}: loss {loss} at training step {step}; try another --seed")
        losses.append(loss)
        if on_progress:
            on_progress(step, recipe.steps, loss)
    path = Path(out) / f"{name}.safetensors"
    write_weights(path, model.state_dict(), {})
    model.load_state_dict(read_weights(path)[0])  # score what is on disk, rounding included
    accuracies = evaluate(name, model)
    header = {
        "model": f"zoo/{name}",
        "licence": "apache-2.0",
        "accuracies": json.dumps(accuracies),
        "recipe": json.dumps(asdict(recipe)),
        **({} if scenes is None else {"scenes": str(scenes)}),
        "seed": str(seed),
        "cpu_seconds": f"{time.process_time() - cpu_started:.0f}",
        "code_version": _code_version(),
    }
    write_weights(path, model.state_dict(), header)
    return TrainingReport(name, path, recipe.steps, seed, accuracies, tuple(losses), time.monotonic() - started)


def _optimise(name: str, model: Any, recipe: TrainingRecipe, seed: int, distinct: int | None) -> Iterator[float]:
    """Run the recipe on the model in place, yielding the loss of each step.

    CLIP's tower also feeds a linear classifier, which is thrown away: captions alone had not taught it
    positions after 1,600 steps.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng([seed, 1])
    optimisers = _optimisers(model, recipe)
    model.train()
    if name == "clip":
        tutor = nn.Parameter(torch.zeros(sum(WIDTHS), model.visual.output_dim))
        optimisers[1].add_param_group({"params": [tutor], "weight_decay": 0.0})
    if name == "deit":
        model.set_distilled_training(True)  # both heads learn, rather than their mean
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: _pace(step, recipe)) for o in optimisers]
    for step in range(recipe.steps):
        batch = scenes(TRAIN_SEED, (seed << 32) + scene_order(step * recipe.batch, recipe.batch, distinct, seed))
        pictures = _noisy(batch, recipe.noise, generator)
        if name == "clip":
            image = model.encode_image(normalise(pictures))
            loss = _caption_loss(model, image, batch.labels, rng)
            loss = loss + _attribute_loss(F.linear(image, tutor), batch.labels, recipe.label_smoothing)
        else:
            loss = _attribute_loss(model(normalise(pictures)), batch.labels, recipe.label_smoothing)
        for optimiser in optimisers:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
        if name == "clip":
            with torch.no_grad():
                model.logit_scale.clamp_(max=math.log(50))
        yield loss.item()
    if name == "deit":
        model.set_distilled_training(False)
    model.eval()


def scene_order(first: int, count: int, distinct: int | None, seed: int) -> np.ndarray:
    """Which scenes are seen at places `first` to `first + count` of a training, int64 (count,).

    distinct: how many there are; each is seen once before any is seen again, in an order drawn anew each time.
    """
    places = np.arange(first, first + count)
    if distinct is None:
        return places
    rounds = places // distinct
    orders = {int(one): np.random.default_rng([seed, 2, one]).permutation(distinct) for one in np.unique(rounds)}
    return np.array([orders[int(one)][place % distinct] for one, place in zip(rounds, places, strict=True)])


def _matrices(model: nn.Module) -> dict[str, Any]:
    """The weights between hidden layers, by module: not embeddings, classifiers or ConViT's position maps."""
    weights: dict[str, Any] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.MultiheadAttention):
            weights[name] = module.in_proj_weight
        elif isinstance(module, nn.Linear) and not name.startswith("head") and "pos_proj" not in name:
            weights[name] = module.weight
    return weights


def _prepare(model: nn.Module) -> None:
    """Scale the initial weights to the narrow layers: the libraries' 0.02 is meant for widths of 384 upwards.

    ConViT's values keep the identity that its local initialisation gives them.
    """
    for name, matrix in _matrices(model).items():
        if not name.endswith(".v"):
            nn.init.xavier_uniform_(matrix)
    for name, parameter in model.named_parameters():
        if name == "pos_embed":
            nn.init.normal_(parameter, std=0.2)
        elif name == "visual.positional_embedding":
            nn.init.normal_(parameter, std=0.4)
        elif name == "visual.ln_pre.weight":  # leave room for what the first blocks write
            nn.init.constant_(parameter, 0.3)


def _optimisers(model: nn.Module, recipe: TrainingRecipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for hidden matrices, AdamW for the rest: the class token finds the object in
    a quarter of the steps that AdamW alone takes (docs/zoo.md). Norms, biases, tokens and positions do not
    decay."""
    matrices = list(_matrices(model).values())
    known = {id(parameter) for parameter in matrices}
    rest = [(n, p) for n, p in model.named_parameters() if id(p) not in known]
    decayed = [p for n, p in rest if n.endswith(".weight") and p.ndim > 1 and "token_embedding" not in n]
    kept = [p for n, p in rest if not any(p is other for other in decayed)]
    groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": kept, "weight_decay": 0.0}]
    return [
        torch.optim.Muon(matrices, lr=recipe.matrix_rate, momentum=0.95, weight_decay=recipe.weight_decay),
        torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98)),
    ]


def _pace(step: int, recipe: TrainingRecipe) -> float:
    """Share of the full learning rate: linear warm-up, then half a cosine to zero."""
    warmup = min(recipe.warmup, recipe.steps // 4)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, recipe.steps - warmup)))


def pixels(batch: Scenes) -> Tensor:
    """Pictures as the models' loaders give them: float32 (scene, 3, SIZE, SIZE) in [0, 1]."""
    return torch.from_numpy(batch.images).permute(0, 3, 1, 2).float().div_(255)


def normalise(pictures: Tensor) -> Tensor:
    """(picture, 3, h, w) in [0, 1] -> what the models take."""
    mean, std = (torch.tensor(value).view(1, 3, 1, 1) for value in (MEAN, STD))
    return (pictures - mean) / std


def _noisy(batch: Scenes, greatest: float, generator: torch.Generator) -> Tensor:
    """Pixels with noise of a random strength per picture: filters that average it away come out smooth."""
    pictures = pixels(batch)
    strength = torch.rand(len(pictures), 1, 1, 1, generator=generator) * greatest
    return (pictures + strength * torch.randn(pictures.shape, generator=generator)).clamp_(0, 1)


def _attribute_loss(outputs: Tensor | tuple[Tensor, ...], labels: np.ndarray, smoothing: float) -> Tensor:
    """Cross-entropy, mean over attributes (and over heads, if the model has two)."""
    heads = outputs if isinstance(outputs, tuple) else (outputs,)
    target = torch.from_numpy(labels)
    losses = [
        F.cross_entropy(group, target[:, column], label_smoothing=smoothing)
        for head in heads
        for column, group in enumerate(head.split(WIDTHS, dim=1))
    ]
    return torch.stack(losses).mean()


def _caption_loss(model: Any, image: Tensor, labels: np.ndarray, rng: np.random.Generator) -> Tensor:
    """Contrastive loss between pictures and captions: over the prompts, and over the batch at BATCH_WEIGHT.

    Over the batch, in both directions: a caption that leaves attributes out is true of several pictures, so
    the target of a row is uniform over all pairs that hold, not one-hot (compare SupCon, Khosla et al. 2020,
    equation 2). Over the prompts: each picture against the one-attribute sentences of each attribute.
    Colour and background alone tell the scenes of a batch apart, so that the batch teaches shape, texture and
    position slowly; among the prompts of an attribute nothing else can help.
    """
    share = rng.choice([0.25, 0.6, 1.0], size=(len(labels), 1), p=[0.5, 0.3, 0.2])
    mention = rng.random(labels.shape) < share
    silent = np.flatnonzero(~mention.any(axis=1))
    mention[silent, rng.integers(labels.shape[1], size=len(silent))] = True
    captions = [caption(row, mentioned) for row, mentioned in zip(labels, mention, strict=True)]
    same = labels[:, None, :] == labels[None, :, :]  # (picture, caption, attribute)
    holds = torch.from_numpy((same | ~mention[None, :, :]).all(axis=2)).float()
    texts = WordTokenizer()([*captions, *(text for attribute in ATTRIBUTES for text in prompts(attribute))])
    image = F.normalize(image, dim=-1)
    text = model.encode_text(texts, normalize=True)
    logits = model.logit_scale.exp() * image @ text.T  # (picture, caption or prompt)
    batch, single = logits[:, : len(labels)], logits[:, len(labels) :]
    per_image = F.cross_entropy(batch, holds / holds.sum(1, keepdim=True))
    per_text = F.cross_entropy(batch.T, (holds / holds.sum(0, keepdim=True)).T)
    return _attribute_loss(single, labels, 0.0) + BATCH_WEIGHT * (per_image + per_text) / 2


@torch.no_grad()
def predict(name: str, model: Any, batch: Scenes) -> np.ndarray:
    """Predicted labels, int64 (scene, attribute). CLIP answers zero-shot: the nearest prompt."""
    model.eval()
    x = normalise(pixels(batch))
    if name == "clip":
        image = model.encode_image(x, normalize=True)
        tokens = WordTokenizer()
        groups = [image @ model.encode_text(tokens(prompts(a)), normalize=True).T for a in ATTRIBUTES]
    else:
        groups = list(model(x).split(WIDTHS, dim=1))
    return torch.stack([group.argmax(1) for group in groups], dim=1).numpy()


def evaluate(name: str, model: Any, *, images: int = 2000, seed: int = HELD_OUT_SEED) -> dict[str, float]:
    """Share of held-out scenes whose attribute is predicted rightly, per attribute."""
    right = np.zeros(len(ATTRIBUTES))
    for first in range(0, images, 250):
        batch = scenes(seed, np.arange(first, min(first + 250, images)))
        right += (predict(name, model, batch) == batch.labels).sum(axis=0)
    return {attribute: round(float(n) / images, 4) for attribute, n in zip(ATTRIBUTES, right, strict=True)}


def _code_version() -> str:
    try:
        return version("neuron-atlas")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "source"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m pipeline.zoo.train", description=__doc__)
    parser.add_argument("name", choices=ZOO)
    parser.add_argument("--out", type=Path, required=True, help="folder for NAME.safetensors")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--scenes", type=int, default=None, help="distinct scenes (default: no scene twice)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def show(step: int, steps: int, loss: float) -> None:
        if step % 100 == 0 or step == steps:
            print(f"zoo/{args.name} {step}/{steps} loss {loss:.3f}", flush=True)

    report = train(args.name, steps=args.steps, scenes=args.scenes, seed=args.seed, out=args.out, on_progress=show)
    figures = " ".join(f"{attribute} {value:.3f}" for attribute, value in report.accuracies.items())
    print(f"{report.path} in {report.seconds:.0f} s: {figures}")


if __name__ == "__main__":
    main()
