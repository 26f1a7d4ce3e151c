"""Which texts a query finds, and in which order."""

from __future__ import annotations

import pyarrow as pa

from atlas_schema.searching import best_first, ranked, words_of

TEXTS = {"red disc": 3, "a red disc": 9, "discs": 50, "disc": 1, "red": 4, "redder disc": 7, "blue disc": 2}


def test_the_query_itself_comes_first_then_whole_words_then_beginnings() -> None:
    assert ranked("disc", TEXTS) == ["disc", "redder disc", "red disc", "blue disc", "a red disc", "discs"]


def test_words_are_found_in_any_order_without_case_and_accents() -> None:
    assert ranked("DISC Réd", TEXTS) == ["red disc", "a red disc", "redder disc"]
    assert ranked("isc", TEXTS) == []
    assert ranked("", TEXTS) == ranked("!?", TEXTS) == []
    assert words_of("Éclair à-la_carte Éclair") == ["eclair", "a", "la", "carte"]


def test_rows_follow_the_rank_of_their_text_and_then_the_figure() -> None:
    rows = pa.table(
        {
            "address": ["a", "b", "c", "d", "e"],
            "label": ["a red disc", "red disc", None, "red disc", "blue"],
            "z": [9.0, 2.0, 8.0, 3.0, 7.0],
        }
    )
    assert best_first(rows, "red disc", "label", "z")["address"].to_pylist() == ["d", "b", "a"]
    assert best_first(rows, " ", "label", "z")["address"].to_pylist() == ["a", "e", "d", "b"]
    assert best_first(rows, "x", "label", "z").column_names == rows.column_names
