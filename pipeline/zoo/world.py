"""The procedural image set: one object on a background, every attribute known.

A scene is a pure function of (seed, index): every random choice is a hash of seed, index and a lane
number, so a scene is the same whatever batch it is drawn in and however many were drawn before it.
Shapes are signed distance functions, so edges are smooth without supersampling.

Coordinates are pixels from the top left of the picture, x to the right, y downwards; pixel centres lie
at half-integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from atlas_schema.errors import BadConfig, nearest

SIZE = 64
"""Height and width of a scene in pixels."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "shape": ("disk", "square", "triangle", "ring", "cross", "star", "heart", "crescent"),
    "colour": ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink"),
    "texture": ("plain", "horizontal", "vertical", "diagonal", "checked", "dotted"),
    "size": ("small", "medium", "large"),
    "position": (
        "top left", "top", "top right",
        "left", "centre", "right",
        "bottom left", "bottom", "bottom right",
    ),
    "background": ("dark", "light", "gradient", "speckled", "gridded", "wavy"),
}  # fmt: skip
"""Every attribute of a scene with its values; a label is an index into them. Order is part of the format."""

RGB = np.array(
    [
        (0.90, 0.12, 0.14), (1.00, 0.52, 0.05), (0.98, 0.86, 0.10), (0.16, 0.66, 0.22),
        (0.10, 0.80, 0.85), (0.12, 0.28, 0.92), (0.55, 0.16, 0.78), (1.00, 0.48, 0.74),
    ],
    dtype=np.float32,
)  # fmt: skip
"""(colour, 3): the object colours in [0, 1], in the order of ATTRIBUTES["colour"]."""

RADIUS = ((8.0, 9.0), (11.5, 12.5), (16.0, 17.5))
"""Least and greatest radius in pixels of a small, a medium and a large object: the gaps keep sizes apart."""

CENTRES = (18.5, 32.0, 45.5)
"""Pixel coordinate of the columns (and rows) of the 3 x 3 position grid; objects are up to 2 px off."""

TRAIN_SEED, HELD_OUT_SEED = 0, 1
"""Scenes of the two seeds are independent draws: train on the first, report on the second."""

Array = NDArray[Any]  # float32 unless said otherwise
Labels = NDArray[np.int64]
Indices = Sequence[int] | NDArray[Any]


@dataclass(frozen=True)
class Scenes:
    """A batch of scenes.

    images: uint8 (scene, SIZE, SIZE, 3)
    masks: bool (scene, SIZE, SIZE), True where the object covers at least half of the pixel
    labels: int64 (scene, attribute), columns in the order of ATTRIBUTES
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    def words(self, scene: int) -> dict[str, str]:
        """The attributes of one scene by name, such as {"shape": "star", "colour": "red", ...}."""
        return {name: ATTRIBUTES[name][i] for name, i in zip(ATTRIBUTES, self.labels[scene], strict=True)}


def labels_for(seed: int, indices: Indices, fixed: Mapping[str, str] | None = None) -> Labels:
    """Attribute labels, int64 (scene, attribute), without drawing anything.

    `fixed` sets attributes by name and value ({"colour": "red"}) and leaves all other choices of the scene
    as they were, so that pairs differing in one attribute can be drawn. Raises BadConfig on unknown names.
    """
    index = np.asarray(indices, dtype=np.uint64)
    labels = np.empty((len(index), len(ATTRIBUTES)), dtype=np.int64)
    for column, values in enumerate(ATTRIBUTES.values()):
        labels[:, column] = (_uniform(seed, index, column) * len(values)).astype(np.int64)
    for name, value in (fixed or {}).items():
        column = list(ATTRIBUTES).index(_known(name, ATTRIBUTES, "attribute"))
        labels[:, column] = ATTRIBUTES[name].index(_known(value, ATTRIBUTES[name], name))
    return labels


def scenes(seed: int, indices: Indices, fixed: Mapping[str, str] | None = None) -> Scenes:
    """Draw the scenes of these indices; `fixed` as in `labels_for`. Raises BadConfig on unknown names."""
    index = np.asarray(indices, dtype=np.uint64)
    labels = labels_for(seed, index, fixed)
    shape, colour, texture, size, position, background = labels.T

    def between(low: Array | float, high: Array | float, lane: int) -> Array:
        return (low + (high - low) * _uniform(seed, index, lane)).astype(np.float32)

    low, high = np.array(RADIUS, dtype=np.float32)[size].T
    radius = between(low, high, 10)
    grid = np.array(CENTRES, dtype=np.float32)
    cx = grid[position % 3] + between(-2, 2, 11)
    cy = grid[position // 3] + between(-2, 2, 12)
    angle = between(-0.12, 0.12, 13)
    axis = np.arange(SIZE, dtype=np.float32) + 0.5
    x = axis[None, None, :] - cx[:, None, None]  # (scene, 1, SIZE), pixels from the object's centre
    y = axis[None, :, None] - cy[:, None, None]

    distance = _distance(shape, x, y, radius, angle)
    cover = np.clip(0.5 - distance, 0, 1)  # share of the pixel that the object covers
    rgb = np.clip(RGB[colour] + np.stack([between(-0.04, 0.04, lane) for lane in (14, 15, 16)], 1), 0, 1)
    object_ = _fill(texture, rgb, x, y, between(5.2, 6.2, 17), between(0, 1, 18), between(0, 1, 19))
    object_ *= (1 - 0.55 * np.clip(1.5 + distance, 0, 1))[..., None]  # a dark rim of about 1.5 px
    picture = _backdrop(seed, index, background, axis)
    picture += cover[..., None] * (object_ - picture)
    return Scenes(np.rint(picture * 255).astype(np.uint8), cover >= 0.5, labels)


def _distance(shape: NDArray[Any], x: Array, y: Array, radius: Array, angle: Array) -> Array:
    """Signed distance in pixels to the object's outline, negative inside: (scene, SIZE, SIZE)."""
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    scale = 1 / radius[:, None, None]
    distance = np.empty((len(shape), SIZE, SIZE), dtype=np.float32)
    for value, outline in enumerate(OUTLINES):
        rows = np.flatnonzero(shape == value)
        if len(rows):
            u = (cos[rows] * x[rows] + sin[rows] * y[rows]) * scale[rows]
            v = (cos[rows] * y[rows] - sin[rows] * x[rows]) * scale[rows]
            distance[rows] = outline(u, v)
    return distance * radius[:, None, None]


def _disk(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v) - 0.93


def _square(u: Array, v: Array) -> Array:
    return np.maximum(np.abs(u), np.abs(v)) - 0.82


def _triangle(u: Array, v: Array) -> Array:
    v = v - 0.22  # the centre of mass lies below the middle of the height
    return np.maximum(v, 0.8660254 * np.abs(u) - 0.5 * v) - 0.6


def _ring(u: Array, v: Array) -> Array:
    return np.abs(np.sqrt(u * u + v * v) - 0.7) - 0.27


def _cross(u: Array, v: Array) -> Array:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - 0.97, np.minimum(u, v) - 0.34)


def _star(u: Array, v: Array) -> Array:
    """Five points: fold the plane into one tenth, where the outline is one straight line."""
    tip, notch, fold = 1.1, 0.5, np.float32(2 * np.pi / 5)
    bearing = np.arctan2(u, -v)
    bearing = np.abs(bearing - fold * np.rint(bearing / fold))
    rho = np.sqrt(u * u + v * v)
    nx, ny = notch * np.sin(fold / 2), tip - notch * np.cos(fold / 2)  # normal of tip -> notch
    norm = np.hypot(nx, ny)
    return rho * (np.cos(bearing) * (nx / norm) + np.sin(bearing) * (ny / norm)) - tip * nx / norm


def _heart(u: Array, v: Array) -> Array:
    """A square standing on its corner, with a half disk on each upper side."""
    half = 0.84
    u, v = np.abs(u), v + 0.08
    lobe = np.sqrt((u - half / 2) ** 2 + (v + half / 2) ** 2) - half / np.sqrt(2)
    return np.minimum(lobe, (u + np.abs(v) - half) / np.sqrt(2)).astype(np.float32)


def _crescent(u: Array, v: Array) -> Array:
    u = u - 0.12
    bite = np.sqrt((u - 0.48) ** 2 + (v + 0.12) ** 2) - 0.76
    return np.maximum(np.sqrt(u * u + v * v) - 1.0, -bite)


OUTLINES = (_disk, _square, _triangle, _ring, _cross, _star, _heart, _crescent)
"""Outline of each shape for radius 1, in the order of ATTRIBUTES["shape"]: (u, v) -> signed distance."""


def _fill(texture: NDArray[Any], rgb: Array, x: Array, y: Array, period: Array, px: Array, py: Array) -> Array:
    """Colour of the object at each pixel, (scene, SIZE, SIZE, 3), before its outline is cut.

    rgb: (scene, 3); period in pixels, phases px and py in periods: (scene,). The second colour of a pattern
    is near white on a dark colour and a dark shade on a bright one, so that patterns never hide the colour.
    """
    turn = (2 * np.pi / period).astype(np.float32)[:, None, None]
    a = x * turn + (2 * np.pi * px).astype(np.float32)[:, None, None]  # (scene, 1, SIZE) phase in radians
    b = y * turn + (2 * np.pi * py).astype(np.float32)[:, None, None]
    pattern = np.zeros((len(texture), SIZE, SIZE), dtype=np.float32)
    formulas = (
        None,
        lambda a, b: np.sin(b) + 0 * a,
        lambda a, b: np.sin(a) + 0 * b,
        lambda a, b: np.sin(0.85 * (a + b)),
        lambda a, b: 3 * np.sin(0.55 * a) * np.sin(0.55 * b),
        lambda a, b: np.cos(a) + np.cos(b) - 0.55,
    )
    for value, formula in enumerate(formulas):
        rows = np.flatnonzero(texture == value)
        if formula is not None and len(rows):
            pattern[rows] = np.clip(0.5 + 1.1 * formula(a[rows], b[rows]), 0, 1)
    bright = (rgb @ np.array((0.30, 0.59, 0.11), dtype=np.float32) > 0.5)[:, None]
    second = np.where(bright, 0.38 * rgb, 0.15 * rgb + 0.85)
    return rgb[:, None, None, :] + pattern[..., None] * (second - rgb)[:, None, None, :]


def _backdrop(seed: int, index: NDArray[Any], background: NDArray[Any], axis: Array) -> Array:
    """The background alone, (scene, SIZE, SIZE, 3) in [0, 1]; nearly grey: colour belongs to the object."""
    u = [_uniform(seed, index, lane) for lane in range(20, 28)]
    grey = np.empty((len(index), SIZE, SIZE), dtype=np.float32)
    for value in range(len(ATTRIBUTES["background"])):
        rows = np.flatnonzero(background == value)
        if len(rows):
            chosen = [lane[rows].astype(np.float32)[:, None, None] for lane in u]
            grey[rows] = _grey(ATTRIBUTES["background"][value], seed, index[rows], chosen, axis)
    tint = 1 + 0.07 * (np.stack(u[5:8], 1) - 0.5)
    return np.clip(grey[..., None] * tint[:, None, None, :].astype(np.float32), 0, 1)


def _grey(background: str, seed: int, index: NDArray[Any], u: Sequence[Array], axis: Array) -> Array:
    """Brightness of one kind of background, broadcasts to (scene, SIZE, SIZE); u: uniforms (scene, 1, 1)."""
    x, y = axis[None, None, :] - SIZE / 2, axis[None, :, None] - SIZE / 2
    direction = 2 * np.pi * u[0]
    along = x * np.cos(direction) + y * np.sin(direction)  # pixels from the middle, in a random direction
    if background == "dark":
        return 0.07 + 0.13 * u[1]
    if background == "light":
        return 0.84 + 0.12 * u[1]
    if background == "gradient":
        corner = SIZE / 2 * (np.abs(np.cos(direction)) + np.abs(np.sin(direction)))  # greatest `along`
        return 0.5 + (0.36 + 0.08 * u[1]) * along / corner
    if background == "speckled":
        lanes = 100 + np.arange(SIZE * SIZE, dtype=np.uint64)
        noise = _uniform(seed, index[:, None], lanes[None, :]).reshape(-1, SIZE, SIZE)
        return (0.3 + 0.15 * u[1] + 0.4 * noise).astype(np.float32)
    if background == "gridded":
        spacing = 8 + 2 * u[1]
        fx = np.abs((x / spacing + u[2]) % 1 - 0.5) * spacing  # pixels from the middle of a cell
        fy = np.abs((y / spacing + u[3]) % 1 - 0.5) * spacing
        line = np.clip(np.maximum(fx, fy) - (spacing / 2 - 1.2), 0, 1)
        return 0.38 + 0.12 * u[4] + 0.32 * line
    swell = np.sin(along * 2 * np.pi / (11 + 4 * u[1]) + 2 * np.pi * u[2])  # wavy
    return 0.5 + (0.16 + 0.06 * u[3]) * swell


def _uniform(seed: int, index: NDArray[Any], lane: NDArray[np.uint64] | int) -> NDArray[np.float64]:
    """Uniform numbers in [0, 1): a hash of (seed, index, lane), mixed as SplitMix64 (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        start = np.uint64((seed + 1) * 0xD1342543DE82EF95 % 2**64)
        z = np.asarray(index, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = _mix(z + start) + np.asarray(lane, dtype=np.uint64) * np.uint64(0xBF58476D1CE4E5B9)
        return (_mix(z) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _mix(z: NDArray[Any]) -> NDArray[Any]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: NDArray[Any] = z ^ (z >> np.uint64(31))
    return mixed


def _known(name: str, names: Sequence[str] | Mapping[str, object], kind: str) -> str:
    if name not in names:
        close = ", ".join(nearest(name, names)) or ", ".join(names)
        raise BadConfig(f"{name!r}: unknown {kind} of the procedural image set; nearest: {close}")
    return name
