"""Tensors and the WebP bytes that the dataset holds."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """Float (height, width, 3) or (3, height, width) in [0, 1] to uint8 (height, width, 3), rounded."""
    if picture.shape[0] == 3 and picture.shape[-1] != 3:
        picture = picture.transpose(1, 2, 0)
    return np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def encode_webp(picture: np.ndarray, quality: int) -> bytes:
    """uint8 (height, width, 3) as a lossy WebP file."""
    buffer = io.BytesIO()
    Image.fromarray(picture, "RGB").save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def decode(data: bytes) -> np.ndarray:
    """An image file as uint8 (height, width, 3)."""
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def stored_pixels(webp: bytes) -> Tensor:
    """A picture's file as float32 (3, height, width) in [0, 1]."""
    return torch.from_numpy(decode(webp).copy()).permute(2, 0, 1).float() / 255
