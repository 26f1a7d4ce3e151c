"""demo: an atlas of the zoo models, and its site, which can be looked at from the first minutes on."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any

from cyclopts import Parameter

PORT = 8000
INTERRUPTED = (130, 143)  # exit codes of a run that was told to stop
LOOK_SECONDS = 2.0  # between two looks at whether there is more to show
HEADS = ("3.0", "3.1")  # whose pictures are made: each model of the zoo has them, and adds by them to what it gives
_FOLLOW = "import sys; from jobs.commands.demo import follow; follow(*sys.argv[1:])"


def demo(
    *,
    out: Annotated[Path, Parameter(help="Folder for atlas/ and site/.")] = Path("demo"),
    workers: Annotated[int | None, Parameter(help="Workers (default: one per core).")] = None,
    port: Annotated[
        int | None, Parameter(help=f"Port of the site on 127.0.0.1 (default: {PORT}, or a free one where it is taken).")
    ] = None,
    stay: Annotated[
        bool | None, Parameter(help="Show the site at the end until Enter (default: where this is a terminal).")
    ] = None,
) -> int:
    """Run all stages on the zoo models, and show the site as it fills: no network, no GPU, no account."""
    from jobs.commands.work import command_line, say
    from jobs.config import load_config
    from jobs.driver import run
    from jobs.report import summary
    from site_builder.build import build_site, claim
    from site_builder.serve import serving

    atlas, site = out / "atlas", out / "site"
    claim(site)
    with serving(site, PORT if port is None else port, or_free=port is None) as address:
        say(
            f"The site: {address}\nIt shows the first neurons in a minute or two, and fills while the rest is computed."
        )
        with _built_beside(atlas, site) as builder:
            report = run(load_config(None, _flags(atlas, workers)), command=command_line(), say=say)
            print("\n".join(summary(report)))
            if report.exit_code in INTERRUPTED:
                return report.exit_code
            say("Building the site for the last time")
            builder.communicate()
            if builder.returncode:
                build_site(str(atlas), str(site))  # raises what the other one ended with
        print(
            f"Dataset: {atlas}\nSite:    {site}\n"
            f"Open it: neuron-atlas site serve {shlex.quote(str(site))}\n"
            f"With a map of all neurons: neuron-atlas site build {shlex.quote(str(atlas))} "
            f"--out {shlex.quote(str(site))} --map\n"
            f"With the neurons of images of yours (neuron-atlas[browser] and npm): the same with --in-browser all\n"
            f'Load it: datasets.load_dataset({str(atlas)!r}, "neurons")',
            flush=True,
        )
        if _at_a_terminal() if stay is None else stay:
            _until_enter(address)
    return report.exit_code


def _flags(atlas: Path, workers: int | None) -> dict[str, Any]:
    from pipeline.zoo import ZOO

    return {
        "models": [f"zoo/{name}" for name in ZOO],
        "out": str(atlas),
        "probe": "zoo:1000",
        "match_images": 256,
        "classes": "all",
        "prompts": "zoo",
        "head_pictures": list(HEADS),
        "workers": workers,
        "device": "cpu",
    }


@contextmanager
def _built_beside(atlas: Path, site: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`follow` as a process of its own, which takes no time of the driver's; it ends when its input does."""
    words = [sys.executable, "-c", _FOLLOW, str(atlas), str(site)]
    quiet = subprocess.DEVNULL
    # in a session of its own: Ctrl-C is the run's, which ends in order
    builder = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        yield builder
    finally:
        builder.terminate()
        builder.communicate()


def follow(atlas: str, site: str) -> None:
    """Build the site of an atlas again and again until standard input ends, and then once more."""
    from atlas_schema.store import Store
    from site_builder.build import SiteReport, build_site
    from site_builder.watch import Watch

    ended = Event()

    def listen() -> None:
        sys.stdin.read()
        ended.set()

    Thread(target=listen, daemon=True).start()

    def build(growing: bool, keep: frozenset[str]) -> SiteReport:
        return build_site(atlas, site, workers=1, growing=growing, keep=keep)

    def wait(seconds: float) -> None:
        ended.wait(seconds)

    watch = Watch(Store(atlas), build, lambda: not ended.is_set(), LOOK_SECONDS, print, sleep=wait, begin_seconds=0)
    watch.follow()


def _at_a_terminal() -> bool:
    """Whether somebody is there to look; continuous integration may have a terminal and nobody at it."""
    return sys.stdin.isatty() and sys.stdout.isatty() and not os.environ.get("CI")


def _until_enter(address: str) -> None:
    print(f"The site: {address}  (Enter ends)", flush=True)
    try:
        input()
    except (EOFError, KeyboardInterrupt):
        print()
