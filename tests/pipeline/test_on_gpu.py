"""What a GPU computes is what the CPU does, part by part. Needs neither Ray nor a hub; without a CUDA device nothing of
it is checked, which each test says as it is skipped:

    python -m pytest -m gpu tests/pipeline/test_on_gpu.py
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from pipeline.decompose.contributions import Contributing
from pipeline.hooks import tf32
from pipeline.hooks.device_check import deviation, require_sound
from pipeline.images.probe_set import batches, open_probe_set
from pipeline.models import LoadedModel, ModelRequest, load
from pipeline.probe.model import Membership, ModelProbe, ProbeSettings, probe
from pipeline.visualize.ascent import visualize
from pipeline.visualize.natural import NaturalSettings, Picture, natural_rows
from pipeline.visualize.recipes import FAST
from pipeline.zoo import READS_TEXT, ZOO

DEVICE = "cuda"
IMAGES = 48

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is here: nothing was checked on one"),
]


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """As in a worker."""
    with tf32.products(exact=True):
        yield


@pytest.fixture(scope="module", params=[name for name in ZOO if name not in READS_TEXT])
def pair(request: pytest.FixtureRequest) -> tuple[LoadedModel, LoadedModel]:
    """A model of each family on the CPU, and on the device."""
    asked = ModelRequest(f"zoo/{request.param}")
    return load(asked, "cpu"), load(asked, DEVICE)


def test_activations(pair: tuple[LoadedModel, LoadedModel]) -> None:
    on_cpu, on_device = pair
    require_sound(on_device)
    assert deviation(on_device, on_cpu)[0] < 1e-4


def test_contributions(pair: tuple[LoadedModel, LoadedModel]) -> None:
    images = open_probe_set("zoo:4")
    _, pixels = next(iter(batches(images, range(4), pair[0].description, 4)))
    expected, found = (Contributing(model)(model.normalise(pixels.to(model.device))).vectors.cpu() for model in pair)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_sums_of_the_probe(pair: tuple[LoadedModel, LoadedModel]) -> None:
    images, settings = open_probe_set(f"zoo:{IMAGES}"), ProbeSettings(panel=32)
    powers = []
    for model in pair:
        members = Membership.of(images, settings)
        into = ModelProbe.empty(model.description, settings, members, range(IMAGES), model.device)
        arrays = probe(model, batches(images, range(IMAGES), model.description, 16), into).arrays()
        powers.append({name: array for name, array in arrays.items() if name.endswith("moments/powers")})
    assert len(powers[0]) == len(pair[0].description.ffn_sites)
    for name, expected in powers[0].items():
        np.testing.assert_allclose(powers[1][name], expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["vit", "swin"])
def test_pictures_in_float64(name: str) -> None:
    """By the same random numbers the same pictures: at most one of 255 levels apart."""
    models = [load(ModelRequest(f"zoo/{name}"), device, torch.float64) for device in ("cpu", DEVICE)]
    for layer in (0, len(models[0].description.ffn_sites) - 1):
        expected, found = (visualize(model, model.description.ffn_sites[layer], [0, 1], FAST) for model in models)
        for one, other in zip(found, expected, strict=True):
            assert np.abs(one.image.astype(int) - other.image.astype(int)).max() <= 1
            assert one.activation == pytest.approx(other.activation, rel=1e-6)


def test_pictures_are_judged_as_on_the_cpu(pair: tuple[LoadedModel, LoadedModel]) -> None:
    """By TF32 units where there are any and they agree: no verdict changes, figures by a few per cent at most."""
    on_cpu, on_device = pair
    site = on_cpu.description.ffn_sites[1]
    made = visualize(on_cpu, site, range(4), FAST)
    pictures = {one.address.unit: Picture(one.webp, one.activation_start) for one in made}
    expected, found = (natural_rows(model, site, pictures, NaturalSettings()) for model in (on_cpu, on_device))
    assert [row["verdict"] for row in found] == [row["verdict"] for row in expected]
    for name in ("natural_mean", "natural_peak"):
        right = np.array([row[name] for row in expected], float)
        np.testing.assert_allclose([row[name] for row in found], right, rtol=0.03, atol=0.01 * np.abs(right).max())
    if tf32.has_units(on_device.device):
        assert tf32.agrees(on_device)
        assert 1e-5 < deviation(on_device, on_device, around=tf32.by_units)[0] <= tf32.MOST, "units were at work"


def test_the_quickest_precision_of_an_ascent_loses_no_picture() -> None:
    """A model wide enough for bfloat16, random weights, on the device alone: the neuron fires as in float32."""
    model = load(ModelRequest("timm/vit_small_patch16_224", random_weights=True), DEVICE)
    site = model.description.ffn_sites[4]
    exactly, quickly = (
        visualize(model, site, range(8), FAST, precision=precision) for precision in ("float32", "bfloat16")
    )
    means = [np.mean([one.activation for one in some]) for some in (exactly, quickly)]
    assert means[1] > 0.9 * means[0] > 0
