"""Which licences let a thumbnail of an image be published with its source beside it."""

import re

FREE = ("cc0", "public-domain", "cc-by", "cc-by-sa", "apache", "mit", "bsd", "isc", "unlicense", "odc-by", "pddl")
"""Families of free licences, whatever their version. Those with NC or ND in them are not: an atlas may be used
commercially, and a thumbnail is a changed image."""

_CC_URL = re.compile(r"creativecommons\.org/(licenses|publicdomain)/([a-z-]+)/?([\d.]*)")
_VERSION = re.compile(r"-?v?\d+(\.\d+)*(-clause|-only|-or-later|-[a-z]{2,12})?$")
_SAME = {"cc-zero": "cc0", "zero": "cc0", "pd": "public-domain", "pdm": "public-domain", "mark": "public-domain"}


def is_free(licence: str) -> bool:
    """Whether the licence, by name, SPDX identifier or Creative Commons URL, is one of FREE; unknown ones are not."""
    return family(licence) in FREE


def family(licence: str) -> str:
    """The licence without its version, in lower case with hyphens: 'CC BY-SA 4.0' -> 'cc-by-sa'."""
    text = licence.strip().casefold()
    if found := _CC_URL.search(text):
        text = f"cc-{found[2]}" if found[1] == "licenses" else found[2]
    text = re.sub(r"creative[\s-]*commons", "cc", text)
    text = re.sub(r"\battribution\b", "by", text)
    text = re.sub(r"\bshare[\s-]*alike\b", "sa", text)
    text = re.sub(r"[\s_-]+", "-", re.sub(r"\blicen[cs]e\b|\bthe\b", "", text)).strip("-")
    if text != "cc0":
        text = _VERSION.sub("", text).rstrip("-") if not text.startswith("cc0") else "cc0"
    return _SAME.get(text, text)
