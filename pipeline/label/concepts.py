"""Concept sets: plain text files of the words and phrases that labels are chosen from.

    # name: birds
    # source: field notes of the project
    # licence: CC0-1.0
    # template: a photo of a {}
    ## garden birds
    robin
    wren

One text a line. `# key: value` is the header (all keys optional), a line that begins with `##` is a remark, blank
lines do not count. The template, where there is one, is what each text is put into before it is embedded; shown is
the text alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atlas_schema.errors import BadConfig, nearest
from pipeline.zoo import READS_TEXT, zoo_name

SHIPPED = Path(__file__).parent / "concept_sets"
HEADER = ("name", "source", "licence", "template")
LONGEST = 200
"""Characters of a text, at most: CLIP reads 77 tokens, and a label has to fit on a page."""


@dataclass(frozen=True)
class ConceptSet:
    """Texts in the order of their file; `template` is "" or holds one `{}`."""

    name: str
    texts: tuple[str, ...]
    source: str = ""
    licence: str = ""
    template: str = ""

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The texts as they are embedded."""
        return tuple(self.template.replace("{}", text) for text in self.texts) if self.template else self.texts

    @property
    def identity(self) -> str:
        """16 hex digits of SHA-256 over what decides a label: the prompts, in order. The name is not part of it."""
        return hashlib.sha256("\n".join(self.prompts).encode()).hexdigest()[:16]

    @property
    def title(self) -> str:
        """Name and identity, as the column `concept_set` has it."""
        return f"{self.name}-{self.identity}"


def shipped_concepts() -> tuple[str, ...]:
    """Names of the sets that come with the package."""
    return tuple(sorted(path.stem for path in SHIPPED.glob("*.txt")))


def read_concepts(location: str) -> ConceptSet:
    """A shipped set by its name, or a file by its path or fsspec URL.

    BadConfig where there is none, it is not UTF-8 text, holds fewer than two texts, a text twice or one longer
    than 200 characters, or its header has an unknown key.
    """
    if location in shipped_concepts():
        path = SHIPPED / f"{location}.txt"
        return parse_concepts(path.read_bytes(), str(path.name), location)
    return parse_concepts(
        fetched(location, "concept set", shipped_concepts()), location, Path(location.rstrip("/")).stem
    )


@dataclass(frozen=True)
class ClassPromptSettings:
    """How the names of a probe set's classes are put into texts."""

    template: str = "a photo of a {}"  # holds one {}


def class_prompts(names: Sequence[str], settings: ClassPromptSettings = ClassPromptSettings()) -> tuple[str, ...]:
    """The names of classes as they are embedded, in their order."""
    return tuple(settings.template.replace("{}", name) for name in names)


def knows_few_words(embedder_id: str) -> bool:
    """Whether a CLIP's text tower reads only the words that the zoo's captions use."""
    return zoo_name(embedder_id) in READS_TEXT


def suited_set(embedder_id: str) -> str:
    """The name of the shipped texts (concepts, features) whose words an embedder knows."""
    return "zoo" if knows_few_words(embedder_id) else "general"


def parse_concepts(content: bytes, origin: str, name: str = "") -> ConceptSet:
    """The set in the bytes of a file; `origin` is what errors call it, `name` what it is called without a header."""
    try:
        lines = content.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise BadConfig(
            f"{origin}: not UTF-8 text (byte {error.start} is {content[error.start]:#04x}). "
            "A concept set is a plain text file, one text a line: save it as UTF-8."
        ) from error
    header: dict[str, str] = {}
    texts: dict[str, tuple[int, str]] = {}  # folded text -> line number, text
    for number, line in enumerate((line.strip() for line in lines), start=1):
        if line.startswith("#"):
            header |= _header(line, f"{origin}, line {number}")
        elif line:
            _add(texts, line, number, origin)
    if len(texts) < 2:
        raise BadConfig(
            f"{origin}: {len(texts)} texts. A concept set needs at least two to choose from, one text a line; "
            "lines that begin with # are not texts."
        )
    template = header.get("template", "")
    if template and template.count("{}") != 1:
        raise BadConfig(f"{origin}: the template {template!r} needs {{}} once, where the text goes.")
    return ConceptSet(
        name=header.get("name") or name or "concepts",
        texts=tuple(text for _, text in texts.values()),
        source=header.get("source", ""),
        licence=header.get("licence", ""),
        template=template,
    )


def _header(line: str, place: str) -> dict[str, str]:
    """{key: value} of a header line, {} of a remark."""
    if line.startswith("##"):
        return {}
    key, colon, value = line[1:].partition(":")
    key = key.strip()
    if not colon or key not in HEADER:
        close = ", ".join(nearest(key, HEADER)) or ", ".join(HEADER)
        raise BadConfig(
            f"{place}: {line!r} is no header line; expected '# key: value' with one of {close}. "
            "A remark begins with ##."
        )
    return {key: value.strip()}


def _add(texts: dict[str, tuple[int, str]], line: str, number: int, origin: str) -> None:
    if len(line) > LONGEST:
        raise BadConfig(
            f"{origin}, line {number}: {len(line)} characters ({line[:40]!r} ...), at most {LONGEST}. "
            "Shorten it: it becomes a label."
        )
    if not line.isprintable():
        raise BadConfig(f"{origin}, line {number}: {line[:40]!r} holds a control character; one plain text a line.")
    folded = " ".join(line.casefold().split())
    if folded in texts:
        raise BadConfig(
            f"{origin}: {line!r} stands twice, in lines {texts[folded][0]} and {number} (upper and lower case are "
            "alike to a CLIP). Two equal texts share one score and neither can win: remove one."
        )
    texts[folded] = (number, line)


def fetched(location: str, what: str, known: Sequence[str]) -> bytes:
    """The bytes of a file or fsspec URL; BadConfig where there is none, naming the nearest of the `known` names."""
    import fsspec

    try:
        with fsspec.open(location, "rb") as file:
            content: bytes = file.read()
            return content
    except (OSError, ImportError, ValueError) as error:
        close = ", ".join(nearest(location, known) or known)
        raise BadConfig(
            f"{location}: no such {what} ({error}). Give such a file, or the name of one that is shipped: {close}."
        ) from error
