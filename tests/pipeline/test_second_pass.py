"""The second pass against plain computation: answers re-summed image by image, tops sorted whole, slices merged."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.decompose.ablation import MeanAblation
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.classifiers import class_outputs, own_classifier, zero_shot_classifier
from pipeline.decompose.contributions import Contributing, Contributions
from pipeline.decompose.features import read_features
from pipeline.decompose.projections import TopProjections
from pipeline.decompose.second_pass import ProjectSettings, SecondPass, SecondPassRunner
from pipeline.effects.readout import readout_of
from pipeline.images.probe_set import ProbeSet, batches, open_probe_set
from pipeline.label.embedder import load_embedder
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.models.representation import representation
from pipeline.probe.model import Membership, ProbeSettings
from tests.pipeline.close import assert_close

CLASSIFIERS = ("vit", "deit", "swin", "coat", "convit", "pit", "twins")
IMAGES = 48


@pytest.fixture(scope="module")
def probe_set() -> ProbeSet:
    return open_probe_set(f"zoo:{IMAGES}")


def pixels_of(probe_set: ProbeSet, model: LoadedModel) -> Tensor:
    return torch.cat([x for _, x in batches(probe_set, range(IMAGES), model.description, 32)])


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_representation_and_classifier_are_the_forward(name: str, probe_set: ProbeSet) -> None:
    model = load(ModelRequest(f"zoo/{name}"))
    x = model.normalise(pixels_of(probe_set, model)[:4])
    with torch.no_grad():
        torch.testing.assert_close(class_outputs(model, representation(model, x)), model.module(x))


def test_a_classifier_answers_the_attributes_of_the_zoo(probe_set: ProbeSet) -> None:
    model = load(ModelRequest("zoo/vit"))
    classifier = own_classifier(model, readout_of(model), probe_set.images)
    assert classifier is not None
    assert classifier.groups == ("shape", "colour", "texture", "size", "position", "background")
    assert (classifier.labels >= 0).all()
    with torch.no_grad():
        z = representation(model, model.normalise(pixels_of(probe_set, model)))
    right = classifier.margins(z, torch.arange(IMAGES)) > 0
    assert right.float().mean() > 0.9
    wrong = classifier.margins(z, torch.arange(IMAGES).roll(1)) > 0
    assert wrong.float().mean() < 0.5, "answers about other images are wrong"


def test_texts_answer_where_the_images_tell(probe_set: ProbeSet) -> None:
    embedder = load_embedder(ModelRequest("zoo/clip"))
    features = read_features("zoo")
    texts = {name: (features.values[name], embedder.texts(prompts)) for name, prompts in features.prompts.items()}
    classifier = zero_shot_classifier(texts, probe_set.images)
    assert classifier is not None
    z = embedder.pictures(pixels_of(probe_set, embedder.vision))
    assert (classifier.margins(z, torch.arange(IMAGES)) > 0).float().mean() > 0.8
    assert zero_shot_classifier({"mood": (("calm", "wild"), torch.eye(2))}, probe_set.images) is None


@pytest.mark.parametrize("name", ["vit", "clip", "coat"])
def test_slices_merge_to_the_pass_over_all_and_ablation_is_a_re_sum(name: str, probe_set: ProbeSet) -> None:
    model, embedder = load(ModelRequest(f"zoo/{name}")), load_embedder(ModelRequest("zoo/clip"))
    features = read_features("zoo")
    texts = {f"feature/{key}": embedder.texts(prompts) for key, prompts in features.prompts.items()}
    contributing = Contributing(model)
    found = contributing(model.normalise(pixels_of(probe_set, model)))
    components, width = found.vectors.shape[1:]
    mean = found.vectors.mean(0).double()
    directions = torch.randn(model.description.heads, 3, width, generator=torch.Generator().manual_seed(0))
    isometry = torch.eye(width)[:, : embedder.vision.description.representation_dim]
    own = Alignment.own(components, width)
    mapped = Alignment.of_maps(isometry.expand(components, -1, -1), torch.zeros(64), 0.5, 0.5, 0.5, 0.1)
    alignment = own if name == "clip" else mapped

    membership = Membership.of(probe_set, ProbeSettings(least_class=3))

    def passing() -> SecondPassRunner:
        given = (model, mean, alignment, contributing.levels, directions, features, texts, probe_set.images)
        return SecondPassRunner.of(*given, membership)

    whole = passing()
    whole.update(found, range(IMAGES))
    parts = []
    for rows in (range(20, 48), range(20)):
        part = passing()
        part.update(Contributions(found.vectors[list(rows)], found.representation[list(rows)]), rows)
        parts.append(SecondPass.of(part.sums.arrays()))
    parts[0].merge(parts[1])
    assert parts[0].answered_by == ("texts" if name == "clip" else "classifier")
    for key, array in whole.sums.arrays().items():
        if key == "top/image":
            np.testing.assert_array_equal(parts[0].arrays()[key], array)
        else:
            assert_close(parts[0].arrays()[key], array, 5e-6, key)

    # answers, one image and component at a time
    classifier, ablation = whole.classifier, whole.sums.ablation
    assert classifier is not None
    apart = found.vectors - mean.float()
    for place in (0, components - 2):
        changed = found.representation - apart[:, place]
        before = torch.stack(
            [classifier.margins(found.representation[i : i + 1], torch.tensor([i]))[0] for i in range(IMAGES)]
        )
        after = torch.stack([classifier.margins(changed[i : i + 1], torch.tensor([i]))[0] for i in range(IMAGES)])
        fall = (before > 0).double() - (after > 0).double()
        assert float(ablation.effect()[0][place]) == pytest.approx(float(fall.mean()), abs=1e-9)
        assert float(ablation.effect()[1][place]) == pytest.approx(float(fall.mean(1).std() / IMAGES**0.5), abs=1e-9)
        assert_close(ablation.group_effect()[place], fall.mean(0), 1e-9)
        deviation = before.double().std(0, unbiased=False)
        np.testing.assert_allclose(
            ablation.margin_effect()[place], (before - after).double().mean(0) / deviation, rtol=1e-4, atol=1e-6
        )
        cosine = torch.nn.functional.cosine_similarity(changed, found.representation).double()
        assert float(ablation.change[place] / IMAGES) == pytest.approx(float((1 - cosine).mean()), abs=1e-6)

    along = torch.einsum("nhd,hpd->nhp", apart[:, : len(directions)], directions)
    means = whole.sums.classes.finalize()
    for place, label in enumerate(membership.classes):
        own = [i for i, image in enumerate(probe_set.images) if image.label == label]
        torch.testing.assert_close(means[place], along[own, :, 0].double().mean(0))
    assert len(membership.classes) > 3
    best = along.sort(dim=0, descending=True, stable=True)
    torch.testing.assert_close(whole.sums.top.value, best.values[: ProjectSettings.top])
    assert torch.equal(whole.sums.top.image, best.indices[: ProjectSettings.top])


def test_of_equal_projections_the_lower_index_is_kept() -> None:
    first, second = TopProjections(2, 1, 1), TopProjections(2, 1, 1)
    first.update(torch.ones(3, 1, 1), torch.tensor([7, 5, 6]))
    second.update(torch.ones(2, 1, 1), torch.tensor([4, 9]))
    first.merge(second)
    assert first.image.flatten().tolist() == [4, 5]


def test_no_answer_is_no_number() -> None:
    ablation = MeanAblation(3, 0)
    ablation.update(torch.randn(4, 5), torch.randn(4, 3, 5))
    effect, error = ablation.effect()
    assert effect.isnan().all()
    assert error.isnan().all()
    assert (ablation.change > 0).all()
