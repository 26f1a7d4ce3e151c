"""Scenes of the zoo's procedural world as a probe set: every attribute of every image is known."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from pipeline.images.entry import Entry, Source
from pipeline.zoo.captions import caption
from pipeline.zoo.world import ATTRIBUTES, HELD_OUT_SEED, SIZE, labels_for, scenes

LICENCE = "apache-2.0"
IMAGES = 2000
"""How many scenes `zoo` stands for."""


@dataclass(frozen=True)
class World(Source):
    """The first `count` scenes of the seed that no zoo model was trained on. A locator is a scene's index."""

    count: int = IMAGES
    threads = 1  # drawing holds the GIL: more threads would only wait for each other

    def entries(self) -> Iterator[Entry]:
        for index, labels in enumerate(labels_for(HELD_OUT_SEED, range(self.count))):
            words = tuple((name, ATTRIBUTES[name][int(i)]) for name, i in zip(ATTRIBUTES, labels, strict=True))
            yield Entry(
                id=f"scene-{index:06d}",
                locator=index,
                label=words[0][1],
                caption=caption(labels),
                licence=LICENCE,
                source=f"procedural world of the neuron atlas, seed {HELD_OUT_SEED}, scene {index}",
                attributes=words,
            )

    def read(self, locator: int) -> bytes:
        """What determines the scene: a scene has no file, and its pixels may round differently elsewhere."""
        labels = labels_for(HELD_OUT_SEED, [locator])[0]
        return f"scene {locator} of seed {HELD_OUT_SEED}, {SIZE} px: {caption(labels)}".encode()

    def fetch(self, locator: int) -> tuple[Image.Image, str]:
        picture = Image.fromarray(scenes(HELD_OUT_SEED, [locator]).images[0])
        return picture, hashlib.sha256(self.read(locator)).hexdigest()

    def examine(self, locator: int) -> tuple[int, int, str]:
        return SIZE, SIZE, hashlib.sha256(self.read(locator)).hexdigest()
