"""A Ray head as a process of its own: waiting until all of it is up."""

from __future__ import annotations

import subprocess


def until_up(head: subprocess.Popen[str]) -> None:
    """Read what `ray start --head --block` says until it says that all is up; AssertionError with it where it ends."""
    assert head.stdout is not None
    said = []
    for line in head.stdout:
        said.append(line)
        if "--block" in line:  # it says so when all is up
            break
    assert head.poll() is None, said
