"""Which licences let a thumbnail of an image be published with its source beside it."""

import re

FREE = ("cc0", "public-domain", "cc-by", "cc-by-sa", "apache", "mit", "bsd", "isc", "unlicense", "odc-by", "pddl")
"""Free licences, whatever their version. Those with NC or ND in them are not: an atlas may be used commercially,
and a thumbnail is a changed image."""

_NOTHING = frozenset(
    ("the", "licence", "license", "version", "clause", "only", "universal", "international", "unported", "generic")
)
_SAME = {
    "attribution": "by",
    "sharealike": "sa",
    "cc-zero": "cc0",
    "pd": "public-domain",
    "pdm": "public-domain",
    "cc-mark": "public-domain",
}


def is_free(licence: str) -> bool:
    """Whether a licence, by name, SPDX identifier or Creative Commons URL, is one of FREE; unknown ones are not."""
    text = re.sub(r"creative[\s-]*commons", "cc", licence.casefold())
    text = re.sub(r"https?://cc\.org/(licenses|publicdomain)/", "cc-", text)
    text = re.sub(r"(\d)-[a-z]{2}$", r"\1", text)  # a country's port: cc-by-3.0-us
    words = [_SAME.get(word, word) for word in re.findall(r"[a-z0-9.]+", text)]
    name = "-".join(word for word in words if word not in _NOTHING and not re.fullmatch(r"v?[\d.]+", word))
    return _SAME.get(name, name) in FREE
