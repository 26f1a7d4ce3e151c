"""What the end of a set's name chooses: `#image=left,label=fine`."""

import os
import re
from dataclasses import dataclass

from atlas_schema.errors import BadConfig, nearest

_ENDING = re.compile(r"(?P<name>.*?)#(?P<words>\w+=[^/#]*)", re.DOTALL)
_WORDS = ("image", "label")


@dataclass(frozen=True)
class Choice:
    """Which column, or which members of WebDataset samples, are meant, where a set has several."""

    image: str = ""  # "" where nothing is said
    label: str | None = None  # None where nothing is said, "" for no labels


def split_choice(spec: str) -> tuple[str, Choice]:
    """(the set's name without its ending, what the ending chooses). BadConfig for an ending that chooses nothing."""
    match = _ENDING.fullmatch(spec)
    if match is None or os.path.exists(os.path.expanduser(spec)):
        return spec, Choice()
    words = dict(word.partition("=")[::2] for word in match["words"].split(","))
    for word in words:
        if word not in _WORDS:
            close = "".join(nearest(word, _WORDS)[:1]) or " or ".join(_WORDS)
            raise BadConfig(f"{spec}: expected #image=NAME,label=NAME, and {word!r} is neither; nearest: {close}.")
    return match["name"], Choice(words.get("image", ""), words.get("label"))


def refuse_choice(choice: Choice, spec: str, what: str) -> None:
    """BadConfig where something is chosen of a source that has nothing to choose from; `what` it is."""
    if choice != Choice():
        raise BadConfig(f"{spec}: columns are chosen of tables and samples, and this is {what}; leave out the # part.")
