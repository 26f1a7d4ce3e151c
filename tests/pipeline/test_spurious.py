"""Leaving out a spurious feature: the probe is at its minimum, the arithmetic is exact, the worst group gains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch.nn import functional

from atlas_schema.errors import AtlasError, BadConfig
from jobs.commands.spurious import spurious
from pipeline.decompose.components import Component
from pipeline.uses.spurious import fit_probe, group_accuracies, spurious_components, without
from pipeline.zoo.world import scenes
from tests.pipeline.close import assert_close

COMPONENTS = (
    *(Component("head", 0, head) for head in range(8)),
    Component("ffn", 0),
    Component("image"),
    Component("constant"),
)
DIRECT = torch.ones(len(COMPONENTS), dtype=torch.bool)


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_the_probe_is_at_the_minimum_of_its_loss(classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(80, 6, generator=generator) * torch.tensor([1, 100, 0.01, 1, 1, 1]) + 5
    labels = torch.randint(classes, (80,), generator=generator)
    probe = fit_probe(z, labels, penalty=0.3)

    def loss(weights: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        standard = (z.double() - z.double().mean(0)) / z.double().std(0, correction=0)
        return functional.cross_entropy(standard @ weights.T + bias, labels) + 0.15 * weights.square().sum()

    weights, bias = probe.weights.clone().requires_grad_(), probe.bias.clone().requires_grad_()
    gradients = torch.autograd.grad(loss(weights, bias), [weights, bias])
    assert max(float(one.abs().max()) for one in gradients) < 1e-5
    assert float(functional.cross_entropy(probe(z), labels)) == pytest.approx(
        float(loss(probe.weights, probe.bias) - 0.15 * probe.weights.square().sum()), abs=1e-9
    )


def test_a_probe_needs_two_classes_and_survives_a_constant() -> None:
    with pytest.raises(BadConfig, match="at least two"):
        fit_probe(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64))
    with pytest.raises(BadConfig, match="1 classes"):
        fit_probe(torch.randn(5, 3), torch.ones(5, dtype=torch.int64))
    with pytest.raises(BadConfig, match="0 classes"):
        fit_probe(torch.randn(0, 3), torch.zeros(0, dtype=torch.int64))
    z = torch.stack([torch.tensor([-1.0, -1, 1, 1]), torch.full((4,), 7.0)], dim=1)
    assert fit_probe(z, torch.tensor([0, 0, 1, 1]))(z).argmax(1).tolist() == [0, 0, 1, 1]


def test_a_class_without_images_is_never_the_answer() -> None:
    z = torch.randn(60, 4, generator=torch.Generator().manual_seed(2))
    labels = 2 * (z[:, 0] > 0).long()
    probe, two = fit_probe(z, labels), fit_probe(z, labels // 2)
    assert torch.equal(probe(z).argmax(1), 2 * two(z).argmax(1))
    torch.testing.assert_close(probe.weights[[0, 2]], two.weights)


def test_left_out_is_replaced_by_its_mean() -> None:
    generator = torch.Generator().manual_seed(1)
    vectors, means = torch.randn(5, 4, 3, generator=generator), torch.randn(4, 3, generator=generator)
    direct = torch.tensor([True, True, False, True])
    replaced = vectors.clone()
    replaced[:, [0, 3]] = means[[0, 3]]
    assert_close(without(vectors, direct, [3, 0], means), replaced[:, direct].sum(1), 1e-6)
    assert torch.equal(without(vectors, direct, [], means), vectors[:, direct].sum(1))


def test_accuracies_of_groups() -> None:
    logits = functional.one_hot(torch.tensor([0, 0, 1, 1, 1, 0]), 2).float()
    labels, attribute = torch.tensor([0, 0, 0, 1, 1, 1]), torch.tensor([0, 1, 1, 0, 1, 1])
    assert group_accuracies(logits, labels, attribute).tolist() == [1.0, 0.5, 1.0, 0.5]


def test_which_components_are_left_out() -> None:
    merit = torch.zeros(len(COMPONENTS), 2)
    merit[:, 1] = torch.tensor([0.1, 0.9, 0.2, 0.5, 0, 0, 0, 0, 0.3, 5, 5])  # the spurious feature
    merit[1, 0] = 0.8  # head 1 matters for the core feature as much
    chosen = spurious_components(merit, 1, 0, COMPONENTS, DIRECT, share=0.4)
    assert [COMPONENTS[place].name for place in chosen] == ["head/0/3", "ffn/0", "head/0/2", "head/0/0"]
    assert len(spurious_components(merit, 1, 0, COMPONENTS, DIRECT, share=0.01)) == 1
    silent = DIRECT.clone()
    silent[3] = False
    assert COMPONENTS[spurious_components(merit, 1, 0, COMPONENTS, silent)[0]].name == "ffn/0"


def test_the_worst_group_gains_where_the_background_has_its_components() -> None:
    """On the zoo's CLIP, three scenes in 60 against the rule: shape is told by what is left."""
    from benchmarks.align import contributions, seen
    from benchmarks.spurious import choices, trial
    from pipeline.decompose.alignment import Alignment
    from pipeline.decompose.features import Lens
    from pipeline.models import ModelRequest, load

    scenes = seen(200)
    model = load(ModelRequest("zoo/clip"))
    stored = contributions(model, scenes.probe)
    alignment = Alignment.own(len(stored.components), scenes.targets.shape[1])
    found = trial(model, stored, choices(stored, Lens.of(scenes.texts, alignment, stored.levels)), seed=0)
    assert found["merit"][0] > found["nothing"][0]
    assert found["merit"][1] > found["nothing"][1]
    assert found["random"][0] < found["merit"][0]


# -------------------------------------------------------------------------------------------------- the command


def drawn(folder: Path, seed: int, counts: dict[tuple[str, str], int]) -> str:
    """A folder with one folder a class (the shape)."""
    for number, ((shape, background), count) in enumerate(counts.items()):
        (folder / shape).mkdir(parents=True, exist_ok=True)
        fixed = {"shape": shape, "background": background}
        for index, picture in enumerate(scenes(seed, range(1000 * number, 1000 * number + count), fixed).images):
            Image.fromarray(picture).save(folder / shape / f"{background}-{index}.png")
    return str(folder)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """Stars on light, crescents on wavy backgrounds, but for three of each."""
    root = tmp_path_factory.mktemp("task")
    train = {("star", "light"): 40, ("star", "wavy"): 3, ("crescent", "wavy"): 40, ("crescent", "light"): 3}
    tests = {
        background: drawn(root / background, 21, {("star", background): 25, ("crescent", background): 25})
        for background in ("light", "wavy")
    }
    return {
        "model": "zoo/clip",
        "probe": "zoo:150",
        "train": drawn(root / "train", 20, train),
        "test": [f"{name}={place}" for name, place in tests.items()],
        "core": "shape",
        "feature": "background",
    }


def test_the_command(task: dict, capsys: pytest.CaptureFixture[str]) -> None:
    assert spurious(**task, as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["condition"], row["class"], row["images"]) for row in found["groups"]] == [
        (background, shape, 25) for background in ("light", "wavy") for shape in ("crescent", "star")
    ]
    before = {(row["condition"], row["class"]): row["before"] for row in found["groups"]}
    assert before["light", "star"] > before["light", "crescent"]  # it relies on the background
    assert found["before"]["worst"] == min(before.values())
    assert found["after"]["worst"] > found["before"]["worst"]
    assert len(found["left_out"]) == 3


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"share": 0.0}, "--share 0.0"),
        ({"feature": "scenery"}, "'scenery': no feature of zoo"),
        ({"test": ["somewhere"]}, "expected NAME=SET"),
        ({"train": "zoo:20", "test": ["a=zoo:10"], "model": "zoo/none"}, "zoo/none"),
        ({"test": ["a=zoo:10"]}, "which --train does not have"),
    ],
)
def test_refused(task: dict, change: dict, told: str) -> None:
    with pytest.raises(AtlasError) as caught:
        spurious(**task | change)
    assert told in str(caught.value)
