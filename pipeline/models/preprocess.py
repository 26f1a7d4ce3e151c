"""Real images as a model wants them: resized and cropped to its input, as float tensors in [0, 1]."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.models.description import ModelDescription

RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "nearest": Image.Resampling.NEAREST,
}


def pixels_of(image: Image.Image, description: ModelDescription) -> Tensor:
    """float32 (3, height, width) in [0, 1]: the short side resized to the input size, the centre cropped.

    Resampled as the library's own record says ("random" and unknown: bicubic). Not normalised: that is
    `LoadedModel.normalise`. The libraries crop a little tighter (crop_pct, for accuracy's sake); here all of the
    square is kept, because what a neuron sees at the border counts too.
    """
    return as_pixels(square_of(image, description))


def square_of(image: Image.Image, description: ModelDescription) -> np.ndarray:
    """The same before it becomes numbers: uint8 (height, width, 3)."""
    resampling = RESAMPLING.get(description.interpolation, Image.Resampling.BICUBIC)
    return np.asarray(centre_of(image.convert("RGB"), description.input_size, resampling))


def as_pixels(square: np.ndarray) -> Tensor:
    """uint8 (height, width, 3) -> float32 (3, height, width) in [0, 1]."""
    array = square.astype(np.float32) / 255
    return torch.from_numpy(array).permute(2, 0, 1).contiguous()


def centre_of(image: Image.Image, size: tuple[int, int], resampling: Image.Resampling) -> Image.Image:
    """The centre of an image at exactly this (height, width), as much of it as has that shape."""
    height, width = size
    scale = max(height / image.height, width / image.width)
    # never below the input: a side may round down to one pixel less
    resized = (max(width, round(image.width * scale)), max(height, round(image.height * scale)))
    image = image.resize(resized, resampling)
    left, top = (resized[0] - width) // 2, (resized[1] - height) // 2
    return image.crop((left, top, left + width, top + height))
