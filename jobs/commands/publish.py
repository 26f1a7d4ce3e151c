"""push, pull, merge: the commands by which an atlas goes out, comes in, and is joined with another."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from jobs.commands.data import AtlasArgument, Json

if TYPE_CHECKING:
    from jobs.publishing.merge import Merged
    from jobs.publishing.pull import Pulled
    from jobs.publishing.push import Pushed


def push(
    atlas: AtlasArgument,
    target: Annotated[str, Parameter(help="hf://datasets/ORG/NAME, or a folder or URL (s3://, gs://, az://).")],
    *,
    tag: Annotated[str | None, Parameter(help="Name this release: a tag, set when all of it is there.")] = None,
    private: Annotated[bool, Parameter(help="Make a new repository a private one.", negative="")] = False,
    replace: Annotated[
        bool, Parameter(help="Also where tables there hold more, or others, than this atlas.", negative="")
    ] = False,
    dry_run: Annotated[bool, Parameter(help="Say what would be sent; send nothing.", negative="")] = False,
    as_json: Json = False,
) -> int:
    """Publish the tables and the card of a valid atlas; run the same command again to send what is missing."""
    _quiet()
    from jobs.publishing.push import push as carry_out

    done = carry_out(atlas, target, tag=tag, private=private, replace=replace, dry_run=dry_run, say=_say)
    print(json.dumps(done.as_dict(), indent=1) if as_json else pushed_text(done))
    return 0


def pull(
    source: Annotated[str, Parameter(help="hf://datasets/ORG/NAME[@REVISION], or a folder or URL of an atlas.")],
    *,
    out: Annotated[str, Parameter(help="Folder or URL for it; an atlas that is there is completed.")] = "atlas",
    revision: Annotated[str | None, Parameter(help="Tag, branch or commit of a repository of the Hub.")] = None,
    model: Annotated[
        list[str] | None, Parameter(help="Slug of a model; repeat for several (default: all).", negative="")
    ] = None,
    layers: Annotated[str | None, Parameter(help="FFN layers, as for run: 0,5,-1 or 0:4 (default: all).")] = None,
    tables: Annotated[
        str | None, Parameter(help="Tables, for example neurons,heads (default: all); models and sites always come.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Fetch an atlas, or part of one, each file checked by its digest; run the same command again to resume."""
    _quiet()
    from jobs.publishing.pull import pull as carry_out
    from jobs.publishing.pull import wanted_of

    wanted = wanted_of(model, layers, tables)
    done = carry_out(source, out, revision=revision, wanted=wanted, say=_say)
    print(json.dumps(done.as_dict(), indent=1) if as_json else pulled_text(done))
    return 1 if done.violations else 0


def merge(
    first: Annotated[str, Parameter(help="Folder or URL of an atlas; what both hold stays as it has it.")],
    second: Annotated[str, Parameter(help="Folder or URL of the other.")],
    *,
    out: Annotated[
        str | None, Parameter(help="Folder or URL for the atlas of both (default: the first is completed).")
    ] = None,
    as_json: Json = False,
) -> int:
    """Make one atlas of two that were made with the same probe images; run the same command again to resume."""
    from jobs.publishing.merge import merge as carry_out

    done = carry_out(first, second, out, say=_say)
    print(json.dumps(done.as_dict(), indent=1) if as_json else merged_text(done))
    return 1 if done.violations else 0


def pushed_text(done: Pushed) -> str:
    """What was, or would be, published, for people."""
    from jobs.publishing.limits import COMMITS, FILES, FOLDER, REQUESTS

    verb = "would be sent" if done.dry_run else "sent"
    lines = [
        f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB in all",
        f"{done.sent_files:,} files, {done.sent_bytes / 1e6:,.1f} MB {verb}; the others are there",
    ]
    if done.removed_files:
        lines.append(f"{done.removed_files:,} files {'would be ' if done.dry_run else ''}removed there")
    if done.requests is not None:
        if done.dry_run:
            lines += [
                f"{done.commits:,} commits, at most {done.requests:,} requests",
                f"Limits of the host: {FILES:,} files in a repository (here {done.files:,}), {FOLDER:,} in a folder "
                f"(here {done.most_in_folder:,}), {COMMITS} commits an hour, {REQUESTS:,} requests in five minutes",
            ]
        else:
            lines.append(f"{done.commits:,} commits")
    if done.dry_run:
        return "\n".join([*lines, f"{done.target}: nothing was sent"])
    at = "" if done.revision is None else f" at revision {done.revision}"
    return "\n".join([*lines, f"{done.target}: published{at}" + (f", tag {done.tag}" if done.tag else "")])


def pulled_text(done: Pulled) -> str:
    """What was fetched, for people."""
    lines = [
        f"{done.files:,} files, {done.bytes / 1e6:,.1f} MB in all",
        f"{done.fetched_files:,} files, {done.fetched_bytes / 1e6:,.1f} MB fetched; the others were there",
        *(f"Not valid: {violation}" for violation in done.violations),
    ]
    at = f" of revision {done.revision}" if done.revision else ""
    return "\n".join([*lines, f"{done.out}: {', '.join(done.models)}{at}"])


def merged_text(done: Merged) -> str:
    """What came, for people."""
    lines = [
        f"{done.copied_files:,} files, {done.copied_bytes / 1e6:,.1f} MB copied",
        f"{done.units:,} units of models that were there already, {done.assembled:,} shards of both",
        *(f"Left out: {rows}" for rows in done.left),
        *(f"Not valid: {violation}" for violation in done.violations),
    ]
    return "\n".join([*lines, f"{done.out}: {', '.join(done.models)}"])


def _quiet() -> None:
    """The Hub's client draws bars of its own otherwise."""
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
