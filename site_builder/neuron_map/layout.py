"""Rows of features -> places on a plane, by t-SNE (openTSNE), and how far the plane keeps who is near whom.

The same rows give the same places: seeds are fixed, and one thread works, as the order of sums in several would not be.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

import numpy as np
import numpy.typing as npt

from atlas_schema.errors import BadConfig
from site_builder.neuron_map.features import Floats

#: Raise it when the same features are laid out in another way.
VERSION = 1
#: Neurons that t-SNE lays out at most, drawn at random where there are more; the others are put amid their nearest of
#: these.
MOST_FITTED = 50_000
#: How many neurons of a map one is compared with, about: t-SNE's perplexity.
PERPLEXITY = 30
#: Of how many nearest a neuron that is put amid others takes the median place.
AMID = 10
#: A map has at least so many neurons.
LEAST = 16
#: By how many nearest neurons a map is judged, and of how many neurons, drawn at random.
NEAREST, JUDGED = 15, 2000
#: Places are whole numbers of this many, and what says that a neuron is not on the map.
SIDE, NOWHERE = 65_535, 65_535
SEED = 0

Places = npt.NDArray[np.float32]  # (neurons, 2)


def require_library() -> None:
    """Raises BadConfig, saying what to do, where openTSNE is not installed."""
    if importlib.util.find_spec("openTSNE") is None:
        raise BadConfig(
            "--map lays neurons out with openTSNE, which is not installed: pip install 'neuron-atlas[map]' "
            "(or openTSNE), or build the site without --map"
        )


def settings() -> str:
    """All that decides a layout beside the features."""
    version = importlib.metadata.version("openTSNE")
    return f"{VERSION} {version} {MOST_FITTED} {PERPLEXITY} {AMID} {SEED}"


def lay_out(rows: Floats, most: int = MOST_FITTED) -> Places:
    """A place for each row, in the square from 0 to 1. rows: (neurons, axes), at least LEAST of them."""
    chosen = np.sort(np.random.default_rng(SEED).permutation(len(rows))[:most])
    places = np.empty((len(rows), 2), np.float32)
    places[chosen] = _tsne(rows[chosen])
    others = np.setdiff1d(np.arange(len(rows)), chosen)
    if len(others):
        places[others] = np.median(places[chosen][nearest(rows[chosen], rows[others], AMID)], axis=1)
    return _in_square(places)


def _tsne(rows: Floats) -> Places:
    from openTSNE import TSNE

    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    laid = TSNE(perplexity=perplexity, neighbors="exact", n_jobs=1, random_state=SEED).fit(rows)
    return np.asarray(laid, dtype=np.float32)


def _in_square(places: Places) -> Places:
    """Moved and scaled alike in both directions, so that the longer one fills the square."""
    low, high = places.min(0), places.max(0)
    size = max(float((high - low).max()), 1e-9)
    return (places - (low + high) / 2) / size + 0.5


def principal(rows: Floats) -> Places:
    """The plane of greatest spread: what a map is compared with."""
    centred = rows - rows.mean(0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    return np.asarray(centred @ axes[:, :-3:-1], dtype=np.float32)


def nearest(rows: Floats, asked: Floats, count: int) -> npt.NDArray[np.int64]:
    """int64 (asked, count): the nearest rows of each, the nearest first."""
    from sklearn.neighbors import NearestNeighbors

    found = NearestNeighbors(n_neighbors=count).fit(rows).kneighbors(asked, return_distance=False)
    return np.asarray(found, dtype=np.int64)


def neighbours(rows: Floats, of: npt.NDArray[np.int64], count: int = NEAREST) -> npt.NDArray[np.int64]:
    """int64 (of, count): the nearest other rows of the rows `of`."""
    count = min(count, len(rows) - 1)
    found = nearest(rows, rows[of], count + 1)
    own = found == of[:, None]
    own[~own.any(1), -1] = True  # among equals a row may miss itself: then the furthest goes
    return found[~own].reshape(len(of), count)


def judged(count: int) -> npt.NDArray[np.int64]:
    """Which of `count` neurons a map is judged by."""
    return np.sort(np.random.default_rng(SEED + 1).permutation(count)[:JUDGED])


def kept(rows: Floats, places: Places) -> dict[str, float]:
    """Of the NEAREST nearest by features, the share that is among the nearest on the map; the same on the plane of
    greatest spread, and what places at random reach.
    """
    of = judged(len(rows))
    truth = neighbours(rows, of)
    own = {name: _shared(truth, neighbours(plane, of)) for name, plane in (("map", places), ("pca", principal(rows)))}
    return own | {"chance": truth.shape[1] / (len(rows) - 1)}


def _shared(truth: npt.NDArray[np.int64], found: npt.NDArray[np.int64]) -> float:
    return float((truth[:, :, None] == found[:, None, :]).any(2).mean())


def alike(places: Places, labels: npt.NDArray[np.int64]) -> dict[str, float] | None:
    """Among labelled neurons: the share of the NEAREST nearest that have the same label, and what places at random
    reach. labels: int (neurons,), a number for each text, below 0: none. None where too few are labelled.
    """
    there = labels >= 0
    places, labels = places[there], labels[there]
    if len(labels) < LEAST:
        return None
    of = judged(len(labels))
    same = labels[neighbours(places, of)] == labels[of][:, None]
    shares = np.bincount(labels) / len(labels)
    return {"map": float(same.mean()), "chance": float(np.square(shares).sum())}


def quantized(places: Places, there: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint16]:
    """uint16 (neurons, 2); places: of those that are `there`, in the square from 0 to 1. NOWHERE twice: not placed."""
    whole = np.full((len(there), 2), NOWHERE, np.uint16)
    whole[there] = np.clip(np.round(places * (SIDE - 1)), 0, SIDE - 1).astype(np.uint16)
    return whole
