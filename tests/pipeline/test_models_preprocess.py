"""Real images as a model wants them."""

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.models import ModelRequest, describe
from pipeline.models.preprocess import pixels_of


@pytest.mark.parametrize("size", [(64, 64), (100, 50), (50, 100), (64, 65), (333, 77), (1, 300)])
def test_short_side_fills_the_input_and_the_centre_is_kept(size):
    description = describe(ModelRequest("zoo/vit"))
    width, height = size
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    pixels = pixels_of(Image.fromarray(ramp.round().astype(np.uint8)), description)
    assert pixels.shape == (3, 64, 64)
    assert pixels.dtype == torch.float32
    assert 0 <= pixels.min() <= pixels.max() <= 1
    if width > 1:
        left, right = pixels[0, 32, 0], pixels[0, 32, -1]
        assert left < right
        assert abs(float(left + right) - 1) < 0.05  # symmetric: nothing more cut off on one side


def test_an_image_of_the_input_size_is_untouched():
    description = describe(ModelRequest("zoo/vit"))
    array = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    pixels = pixels_of(Image.fromarray(array), description)
    assert torch.equal(pixels, torch.from_numpy(array).permute(2, 0, 1).float() / 255)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_every_kind_of_image_becomes_three_channels(mode):
    pixels = pixels_of(Image.new("RGB", (70, 80), "red").convert(mode), describe(ModelRequest("zoo/vit")))
    assert pixels.shape == (3, 64, 64)
