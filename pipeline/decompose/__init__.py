"""A representation as an exact sum over heads, FFNs, image and constants (docs/decomposition.md).

What users of a decomposition need, by what they want:

- the parts: `decompose` (some images, at a `Level`), `Contributing` (many images, batch by batch), `Component`;
- the parts in words: `Alignment` and `fit_alignment` (to a CLIP's space), `FeatureSet`, `read_features`, `Lens`;
- one head as a function of a picture, with a gradient: `LiveHeads`;
- where in an image: `heatmap`, `example_maps`, `spread`;
- what the model answers: `representation`, `class_outputs`;
- how exact it is: `check_decomposition`.

The stages of a run (moments, spans, second pass, rows) are modules of their own.
"""

from pipeline.decompose.align import fit_alignment
from pipeline.decompose.alignment import Alignment
from pipeline.decompose.check import check_decomposition, perturb, random_pictures
from pipeline.decompose.classifiers import class_outputs
from pipeline.decompose.components import Component, Decomposition, Level, components_of, decompose
from pipeline.decompose.contributions import Contributing, direct_components
from pipeline.decompose.features import FeatureSet, FeatureSums, Lens, read_features
from pipeline.decompose.live import LiveHeads
from pipeline.decompose.maps import example_maps, heatmap, spread
from pipeline.decompose.stock import Batch, Held
from pipeline.models.representation import representation

__all__ = [
    "Alignment",
    "Batch",
    "Component",
    "Contributing",
    "Decomposition",
    "FeatureSet",
    "FeatureSums",
    "Held",
    "Lens",
    "Level",
    "LiveHeads",
    "check_decomposition",
    "class_outputs",
    "components_of",
    "decompose",
    "direct_components",
    "example_maps",
    "fit_alignment",
    "heatmap",
    "perturb",
    "random_pictures",
    "read_features",
    "representation",
    "spread",
]
