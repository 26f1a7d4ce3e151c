"""Weights of one's own: from whatever a training script wrote into an architecture, or refused with the way out.

| module | what it says |
| --- | --- |
| `files`, `folders`, `foreign` | from a file, a folder or a URL to its content; or what it is instead |
| `unpickle`, `torchscript` | files of torch read without running code |
| `names` | a checkpoint as one list of tensors by name |
| `layouts` | how other libraries name the tensors of an architecture |
| `search` | where in a checkpoint a model is, and which of several is meant |
| `trial` | one such place tried on a module |
| `grids`, `activation`, `shared` | what would load and be another model: other grids, windows, activation functions |
| `fit` | the weights into the module, and every change said |
"""

from pipeline.models.weights.files import listed, read_file
from pipeline.models.weights.fit import NO_FIT, ODD, fit
from pipeline.models.weights.names import Names, names_of
from pipeline.models.weights.search import under_best_prefix

__all__ = ["NO_FIT", "ODD", "Names", "fit", "listed", "names_of", "read_file", "read_weights", "under_best_prefix"]


def read_weights(location: str) -> Names:
    """The tensors in a file, folder or URL by name. WeightsUnreadable, saying what it is, where it holds none."""
    return names_of(read_file(location))
