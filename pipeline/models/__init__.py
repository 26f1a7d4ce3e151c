"""Models: from a name or a checkpoint to a loaded model whose FFN and attention sites are known.

| module | what it says |
| --- | --- |
| `description` | what is asked for, what a model consists of, and a loaded one; `describe` needs no weights |
| `coverage` | docs/coverage.md: what becomes of each architecture of timm and open_clip |
| `sources`, `catalogue` | timm, open_clip and the zoo: from a model id to an architecture; which ids there are |
| `open_clip_elsewhere`, `hub_models`, `hub_ids` | models in folders and on the hub, and names that people type |
| `arguments` | arguments of an architecture's constructor that a user gives |
| `families` | where each architecture family keeps its FFN and attention modules |
| `sites` | the FFN and attention sites of a model, in order of execution |
| `weights`, `load` | weights from a file, a folder or the hub into the architecture |
| `weights_check`, `ranking` | what a file of weights is, and which architectures fit it |
| `representation` | the vector that the classifier, or the comparison with texts, reads |
| `preprocess`, `device`, `flops`, `network` | pixels in, arithmetic, cost, and a quick answer when offline |
"""

from pipeline.models.catalogue import KnownModel, catalogue, known_models
from pipeline.models.description import LoadedModel, ModelDescription, ModelRequest, describe
from pipeline.models.load import from_module, load
from pipeline.models.sites import AttentionSite, FfnSite

__all__ = [
    "AttentionSite",
    "FfnSite",
    "KnownModel",
    "LoadedModel",
    "ModelDescription",
    "ModelRequest",
    "catalogue",
    "describe",
    "from_module",
    "known_models",
    "load",
]
