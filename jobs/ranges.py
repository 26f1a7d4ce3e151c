"""Half-open ranges of integers: union, difference, intersection. All results ascend and do not overlap."""

from __future__ import annotations

from collections.abc import Iterable

Range = tuple[int, int]  # [start, stop)


def as_ranges(units: Iterable[int]) -> tuple[Range, ...]:
    """Ascending distinct integers -> the fewest half-open ranges that hold exactly them."""
    ranges: list[Range] = []
    for unit in units:
        if ranges and ranges[-1][1] == unit:
            ranges[-1] = (ranges[-1][0], unit + 1)
        else:
            ranges.append((unit, unit + 1))
    return tuple(ranges)


def union(*many: Iterable[Range]) -> tuple[Range, ...]:
    """The fewest ranges that cover the same integers as all given ones together."""
    merged: list[Range] = []
    for start, stop in sorted(one for ranges in many for one in ranges):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        elif start < stop:
            merged.append((start, stop))
    return tuple(merged)


def subtract(wanted: Range, covered: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` no range of `covered` holds."""
    start, stop = wanted
    left: list[Range] = []
    for low, high in union(covered):
        if high <= start or low >= stop:
            continue
        if low > start:
            left.append((start, low))
        start = max(start, high)
    if start < stop:
        left.append((start, stop))
    return tuple(left)


def intersect(wanted: Range, covered: Iterable[Range]) -> tuple[Range, ...]:
    """What of `wanted` some range of `covered` holds."""
    start, stop = wanted
    inside = [(max(start, low), min(stop, high)) for low, high in union(covered)]
    return tuple((low, high) for low, high in inside if low < high)


def length(ranges: Iterable[Range]) -> int:
    """How many integers the ranges hold, each counted as often as it is held."""
    return sum(stop - start for start, stop in ranges)
