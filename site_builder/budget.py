"""What hosts allow, and the size of a site before a byte of it is written."""

from __future__ import annotations

from dataclasses import dataclass

from atlas_schema.errors import AtlasError
from site_builder import app, overview
from site_builder.section import Size, megabytes
from site_builder.survey import Survey


class SiteTooLarge(AtlasError):
    """The site would break a limit of its host. Nothing was written."""


@dataclass(frozen=True)
class Host:
    """A place for static files. Limits of None are none that matter."""

    name: str
    bytes: int | None = None
    files: int | None = None
    per_folder: int | None = None
    serves_ranges: bool = False  # whether pictures may be read from the dataset beside it
    source: str = ""


HOSTS = {
    host.name: host
    for host in (
        Host("local"),
        Host("github-pages", bytes=1_000_000_000, source="GitHub Pages limits a published site to 1 GB"),
        Host(
            "hf-space",
            files=100_000,
            per_folder=10_000,
            serves_ranges=True,
            source="Hugging Face repositories hold up to 100,000 files and 10,000 entries a folder",
        ),
        Host("s3", serves_ranges=True),
    )
}


def estimate(held: Survey, images: str) -> Size:
    """Size of the site of a survey, from above; file counts are exact but where a section says otherwise."""
    parts = (section.size(part, images) for section, part in held.parts)
    return sum(parts, app.size() + overview.size(held.outline))


def check(host: Host, size: Size, mode: str) -> None:
    """SiteTooLarge where `host` cannot hold a site of `size`, saying which limit breaks and what to do."""
    broken = [
        f"{what} would be {found}, allowed are {allowed}"
        for what, found, allowed, over in (
            ("its size", megabytes(size.bytes), megabytes(host.bytes or 0), _over(size.bytes, host.bytes)),
            ("its files", f"{size.files:,}", f"{host.files or 0:,}", _over(size.files, host.files)),
            (
                "files of one folder",
                size.largest_folder,
                host.per_folder,
                _over(size.largest_folder, host.per_folder),
            ),
        )
        if over
    ]
    if broken:
        raise SiteTooLarge(
            f"A site for {host.name} with --images {mode} does not fit: {'; '.join(broken)} ({host.source}). "
            f"{_way_out(host, mode)}"
        )


def fits(host: Host, size: Size) -> bool:
    """Whether `host` can hold a site of `size`."""
    limits = ((size.bytes, host.bytes), (size.files, host.files), (size.largest_folder, host.per_folder))
    return not any(_over(found, allowed) for found, allowed in limits)


def _over(found: int, allowed: int | None) -> bool:
    return allowed is not None and found > allowed


def _way_out(host: Host, mode: str) -> str:
    if mode == "files":
        return "Use --images sprite, which needs about a tenth of the files."
    if mode == "sprite" and host.serves_ranges:
        return "Publish the dataset and use --images range with its URL, so that large pictures stay there."
    return "Build it for another host (--target s3 or hf-space, --images range), or from a smaller atlas."
