"""What a query finds in an atlas, and in which order: the same in Python, on the command line and on its site.

A text is found where each word of the query is a word of it, or begins one, without regard to case and accents. Texts
that have the words whole come first, of these the query itself, then shorter ones; then what more neurons carry. The
browser ranks as `ranked` does (site_builder/static/labels.js).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

#: A text counts as so long at most.
LONGEST = 50
#: A head is found by a text that explains so much of its variance: the last of its texts explain next to nothing.
FOUND_BY = 0.01


def words_of(text: str) -> list[str]:
    """Words of a text, each once, in order: lower case, without accents. The browser does the same."""
    kinds = ((letter, unicodedata.category(letter)[0]) for letter in unicodedata.normalize("NFKD", text.lower()))
    plain = "".join(letter if kind in "LN" else " " for letter, kind in kinds if kind != "M")
    return list(dict.fromkeys(plain.split()))


def ranked(query: str, texts: Mapping[str, int]) -> list[str]:
    """The texts that a query finds, the best first. texts: with how many neurons, heads or clusters carry each."""
    words = words_of(query)

    def place(text: str) -> tuple[int, int, str] | None:
        own = words_of(text)
        if not all(any(one.startswith(word) for one in own) for word in words):
            return None
        exact, size = all(word in own for word in words), min(len(own), LONGEST)
        rank = (0 if exact else 100) + (0 if exact and len(own) == len(words) else size)
        return rank, -texts[text], text

    found = [place(text) for text in texts] if words else []
    return [one[2] for one in sorted(one for one in found if one is not None)]


def best_first(rows: pa.Table, text: str, column: str, figure: str) -> pa.Table:
    """The rows whose `column` a query finds, by the rank of that text, then by the highest `figure`; ties by address.

    An empty query finds every row that has a text, by the figure alone.
    """
    held = rows.filter(pc.is_valid(rows[column]))
    if not text.strip():
        return held.sort_by([(figure, "descending"), ("address", "ascending")])
    counted = {one["values"]: one["counts"] for one in pc.value_counts(held[column]).to_pylist()}
    order: Sequence[str] = ranked(text, counted)
    place = pc.index_in(held[column], pa.array(order, pa.string()))
    found = held.append_column("place", place).filter(pc.is_valid(place))
    keys = [("place", "ascending"), (figure, "descending"), ("address", "ascending")]
    return found.sort_by(keys).drop_columns("place")
