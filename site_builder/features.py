"""Features across models: which heads and FFNs carry `colour`, as files of the site.

    f/features-HASH/00000.json.gz   a feature: of each model its leading components, all scores, agreement with ablation

Scores of different files of features are never mixed: the same name may stand for other texts there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from site_builder.heads import DIGITS, FEATURE_FIGURES, Columns, HeadRows
from site_builder.packs import columnar, dump, rounded

#: Components of a model that a feature's page lists: those with the highest scores.
CARRIERS = 50
#: Texts of a head beside its score.
TEXTS = 3
#: Carriers of a feature that the list of features names.
LEADING = 3


def feature_files(models: Sequence[tuple[int, HeadRows]]) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Files by name, and what the list of features says of each, in the order of the files.

    models: (index in the manifest, its rows) of all models.
    """
    names = sorted({name for _, rows in models for name in rows.features["feature"]})
    made = [_feature(name, models) for name in names]
    files = {f"{number:05d}.json.gz": dump(rounded(feature, DIGITS)) for number, feature in enumerate(made)}
    return files, [rounded(_said(name, feature), DIGITS) for name, feature in zip(names, made, strict=True)]


def _feature(name: str, models: Sequence[tuple[int, HeadRows]]) -> dict[str, Any]:
    """Of each set of features that has it: its models, and their leading components, the highest score first."""
    by_set: dict[str, dict[str, Any]] = {}
    for index, rows in models:
        features = rows.features
        for own_set in sorted({one for one, own in _pairs(features, "feature_set") if own == name}):
            own = [at for at, feature in enumerate(features["feature"]) if feature == name]
            own = [at for at in own if features["feature_set"][at] == own_set]
            told = by_set.setdefault(own_set, {"models": [], "rows": []})
            told["models"].append(_model(index, features, own))
            told["rows"] += _carriers(index, rows, own)
    sets = [
        {"name": own_set, "models": told["models"], **columnar(_by_score(told["rows"]))}
        for own_set, told in by_set.items()
    ]
    return {"sets": sorted(sets, key=lambda told: (-len(told["models"]), told["name"]))}


def _pairs(features: Columns, name: str) -> set[tuple[Any, Any]]:
    return set(zip(features[name], features["feature"], strict=True))


def _model(index: int, features: Columns, own: Sequence[int]) -> dict[str, Any]:
    """All scores of a model's components, the highest first, and how far they agree with what ablation does."""
    of = {kind: [features["score"][at] for at in own if features["kind"][at] == kind] for kind in ("head", "ffn")}
    scores = [features["score"][at] for at in own]
    return {
        "model": index,
        **{kind: [round(value, 3) for value in sorted(values, reverse=True)] for kind, values in of.items()},
        **{
            name: spearman(scores, [features[name][at] for at in own]) for name in ("ablation_margin", "ablation_flips")
        },
    }


def _carriers(index: int, rows: HeadRows, own: Sequence[int]) -> list[dict[str, Any]]:
    features = rows.features
    texts = _texts(rows)
    leading = sorted(own, key=lambda at: features["rank"][at])[:CARRIERS]
    names = ("kind", "layer", "head", "level", "score", "rank", *FEATURE_FIGURES)
    return [
        {
            "unit": index,
            **{name: features[name][at] for name in names},
            "texts": texts.get((features["layer"][at], features["head"][at]), [])
            if features["kind"][at] == "head"
            else [],
        }
        for at in leading
    ]


def _texts(rows: HeadRows) -> dict[tuple[int, int], list[str]]:
    """(layer, head) -> its first texts, in their order."""
    found: dict[tuple[int, int], list[str]] = {}
    texts = rows.texts
    for at in sorted(range(len(texts["rank"])), key=lambda at: texts["rank"][at]):
        if texts["rank"][at] < TEXTS:
            found.setdefault((texts["layer"][at], texts["head"][at]), []).append(texts["text"][at])
    return found


def _by_score(rows: Sequence[Mapping[str, Any]]) -> Columns:
    ordered = sorted(rows, key=lambda row: (-row["score"], row["unit"], row["rank"]))
    return {name: [row[name] for row in ordered] for name in ordered[0]}


def _said(name: str, feature: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the list of features: from the set that most models were scored with."""
    told = feature["sets"][0]
    count = len(told["columns"]["unit"])
    columns = {**{column: [value] * count for column, value in told["shared"].items()}, **told["columns"]}
    leading = zip(*(columns[column] for column in ("unit", "kind", "layer", "head", "score")), strict=True)
    return {
        "name": name,
        "models": len(told["models"]),
        "heads": sum(len(model["head"]) for model in told["models"]),
        "ffns": sum(len(model["ffn"]) for model in told["models"]),
        "best": [list(row) for row, _ in zip(leading, range(LEADING), strict=False)],
    }


def spearman(first: Sequence[float | None], second: Sequence[float | None]) -> float | None:
    """Rank correlation over the places where both have a value; None for fewer than four, or where one is constant."""
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if len(both) < 4:
        return None
    ranks = [_ranks(np.asarray(column, dtype=np.float64)) for column in zip(*both, strict=True)]
    spreads = [float(rank.std()) for rank in ranks]
    if min(spreads) == 0:
        return None
    return float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / (spreads[0] * spreads[1]))


def _ranks(values: np.ndarray) -> np.ndarray:
    """(n,) -> (n,): ranks from 0; equal values share the mean of theirs."""
    _, group, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    means: np.ndarray = (last - (counts + 1) / 2)[group]
    return means
