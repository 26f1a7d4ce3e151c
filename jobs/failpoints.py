"""Places where a test can make a run fail: inert unless ATLAS_FAILPOINTS is set.

`ATLAS_FAILPOINTS="before_commit@zoo-vit/0/*#1=kill;receipt#5=kill"`: semicolon-separated
`place[@unit][#n]=action`. `unit` is a shell pattern on the unit's name (any, if left out), `n` the attempt
in a worker or the count in the driver. Actions: `kill` (SIGKILL to this process), `raise` (an exception),
`full` (ENOSPC), `memory` (MemoryError), `sleep:SECONDS`. Each failpoint fires once, however many processes pass it,
marked by a file created exclusively in ATLAS_FAILPOINT_MARKS; with the suffix `!` (`kill!`) it fires each time.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import os
import re
import signal
import time
from pathlib import Path

_FORM = re.compile(
    r"(?P<place>[a-z_]+)(@(?P<unit>[^#=]+))?(#(?P<count>\d+))?=(?P<action>[a-z]+)(:(?P<value>[\d.]+))?(?P<always>!)?"
)


def failpoint(place: str, unit: str = "", count: int = 0) -> None:
    """Fail here if the environment says so."""
    wanted = os.environ.get("ATLAS_FAILPOINTS")
    if not wanted:
        return
    for text in wanted.split(";"):
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError(f"ATLAS_FAILPOINTS: {text!r} is not place[@unit][#n]=action")
        if match["place"] != place or not fnmatch.fnmatchcase(unit, match["unit"] or "*"):
            continue
        if match["count"] is not None and int(match["count"]) != count:
            continue
        if match["always"] or _first(text):
            _act(match["action"], float(match["value"] or 0), text)


def _first(text: str) -> bool:
    """True for exactly one process: the one that creates the mark."""
    mark = Path(os.environ["ATLAS_FAILPOINT_MARKS"]) / hashlib.sha256(text.encode()).hexdigest()[:16]
    try:
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def _act(action: str, value: float, text: str) -> None:
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "sleep":
        time.sleep(value)
    elif action == "full":
        raise OSError(errno.ENOSPC, "No space left on device (failpoint)")
    elif action == "memory":
        raise MemoryError(f"failpoint {text}")
    elif action == "raise":
        raise RuntimeError(f"failpoint {text}")
    else:
        raise ValueError(f"ATLAS_FAILPOINTS: unknown action in {text!r}")
