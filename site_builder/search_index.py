"""Labels of all neurons -> a search index in small files that a browser reads by prefix, without a server.

Two steps for the reader: a word's shard names the labels that hold it, and a label's pack names its neurons, the
most certain first. So a label of many words, or one that thousands of neurons carry, is written once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from atlas_schema.searching import words_of
from site_builder.outline import Neuron
from site_builder.packs import VERDICTS, dump, rounded

#: Labels of one pack.
TEXT_PACK = 32
#: A shard of words holds about as many at most, as long as longer prefixes can part them.
SHARD_WORDS = 400
#: Neurons of a label that its pack names; of a label that more carry, the most certain.
POSTINGS = 2000


@dataclass(frozen=True)
class Labelled:
    """A neuron with a label, and how certain it is."""

    neuron: Neuron
    text: str
    z: float | None
    auroc: float | None
    verdict: str | None = None  # on the picture


def search_index(labelled: Iterable[Labelled], slugs: list[str]) -> tuple[dict[str, bytes], dict[str, Any]]:
    """Files of the index by their name, and what the page needs to know of it.

    w/{prefix}.json.gz: {word: [[text number, text, neurons], ...]} of the words that begin with the prefix, whose
    code points stand in the name as hexadecimals. t/{pack}.json.gz: of each text of the pack a list of
    [model index in `slugs`, layer, unit, z, auroc, verdict as a place among VERDICTS or -1], the most certain first.
    words.json.gz: all words, for those that somebody mistypes.
    """
    by_text: dict[str, list[Labelled]] = defaultdict(list)
    for one in labelled:
        by_text[one.text].append(one)
    texts = sorted(by_text)
    words: dict[str, list[list[Any]]] = defaultdict(list)
    for number, text in enumerate(texts):
        for word in words_of(text):
            words[word].append([number, text, len(by_text[text])])
    width = _prefix_length(words)
    shards: dict[str, dict[str, Any]] = defaultdict(dict)
    for word in sorted(words):
        shards[word[:width]][word] = words[word]
    place = {slug: index for index, slug in enumerate(slugs)}
    files = {f"w/{_file_name(prefix)}.json.gz": dump(shard) for prefix, shard in shards.items()}
    for start in range(0, len(texts), TEXT_PACK):
        pack = [_postings(by_text[text], place) for text in texts[start : start + TEXT_PACK]]
        files[f"t/{start // TEXT_PACK:05d}.json.gz"] = dump(pack)
    if words:
        files["words.json.gz"] = dump(sorted(words))
    about = {"prefix": width, "prefixes": sorted(shards), "pack": TEXT_PACK, "texts": len(texts)}
    return files, about | {"neurons": sum(map(len, by_text.values()))}


def index_files(texts: Iterable[str]) -> int:
    """Number of files of the index of these labels."""
    distinct = set(texts)
    words = {word for text in distinct for word in words_of(text)}
    width = _prefix_length(words)
    return len({word[:width] for word in words}) + -(-len(distinct) // TEXT_PACK) + bool(words)


def _prefix_length(words: Iterable[str]) -> int:
    """0, 1, 2 or 3 letters: the first that leaves no more than SHARD_WORDS words in a shard."""
    distinct = list(words)
    for length in range(3):
        counts: dict[str, int] = defaultdict(int)
        for word in distinct:
            counts[word[:length]] += 1
        if max(counts.values(), default=0) <= SHARD_WORDS:
            return length
    return 3


def _file_name(prefix: str) -> str:
    return "-".join(f"{ord(letter):x}" for letter in prefix) or "all"


def most_certain(found: Iterable[Labelled]) -> list[Labelled]:
    """The neurons of a label, the most certain first; ties by address."""
    return sorted(found, key=lambda one: (-(one.z if one.z is not None else float("-inf")), one.neuron))


def _postings(found: list[Labelled], place: dict[str, int]) -> list[list[Any]]:
    return [_posting(one, place) for one in most_certain(found)[:POSTINGS]]


def _posting(one: Labelled, place: dict[str, int]) -> list[Any]:
    verdict = -1 if one.verdict is None else VERDICTS.index(one.verdict)
    return [place[one.neuron[0]], one.neuron[1], one.neuron[2], rounded(one.z, 3), rounded(one.auroc, 3), verdict]
