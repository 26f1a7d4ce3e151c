"""A site that follows its atlas: built again whenever new shards stand, and once more when the run has ended.

A build reads what changed and leaves the rest, and is followed by a pause many times as long as it took, so that it
takes little from the run beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atlas_schema.errors import NothingThere, ShardCorrupt, StoreFailed
from atlas_schema.store import Store
from atlas_schema.tables import TABLES
from site_builder.build import SiteReport

PAUSE = 20  # times as long as a build took, before the next: at most a twenty-first of one core
BEGIN_SECONDS = 120.0  # for a run to take the atlas, where there is neither one nor anything to show

Build = Callable[[bool, frozenset[str]], SiteReport]
"""Builds the site. Given whether the atlas still grows, and what of the last build stays."""


@dataclass
class Watch:
    """Follows one atlas until nobody is at work on it.

    at_work: whether a run is at work on the atlas. seconds: between two looks. say: hears what happens. built: hears of
    every build. begin_seconds: how long a run is waited for where there is nothing yet.
    """

    store: Store
    build: Build
    at_work: Callable[[], bool]
    seconds: float
    say: Callable[[str], None]
    built: Callable[[SiteReport], None] = lambda report: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    begin_seconds: float = BEGIN_SECONDS
    told: set[str] = field(default_factory=set)
    builds: int = 0
    building_seconds: float = 0.0

    def follow(self) -> SiteReport:
        """Build until the run has ended; the report of the last build, which is that of a site by itself.

        Raises what `build_site` raises; while a run is at work only what another try would not change.
        """
        began, stamps, kept = self.clock(), None, frozenset[str]()
        while True:
            working = self.at_work()  # asked first: what a run writes at its end is seen by the build after that
            found, took = self._stamps(), 0.0
            if not working and not any(found.values()) and self.clock() - began < self.begin_seconds:
                self._tell(f"{self.store.url}: no run is at work on it yet; waiting for one.")
            elif not working:
                return self._build(False, frozenset())
            elif found != stamps:
                try:
                    before = self.building_seconds
                    report = self._build(True, kept)
                    stamps, kept, took = found, report.paths, self.building_seconds - before
                except NothingThere:
                    self._tell("Nothing to show yet; waiting for the first layer of neurons.")
                except (ShardCorrupt, StoreFailed) as error:  # it may pass: the next look tells
                    self.say(f"Not built: {error}")
            self._pause(PAUSE * took)

    def _pause(self, seconds: float) -> None:
        """At least until the next look; so long only while a run is at work."""
        until = self.clock() + seconds
        self.sleep(self.seconds)
        while self.clock() < until and self.at_work():
            self.sleep(self.seconds)

    def _build(self, growing: bool, kept: frozenset[str]) -> SiteReport:
        started = self.clock()
        report = self.build(growing, kept)
        self.builds += 1
        self.building_seconds += self.clock() - started
        self.built(report)
        return report

    def _stamps(self) -> Mapping[str, Mapping[str, str]]:
        """What changes when any shard of the dataset does; nothing where there is none."""
        return {name: self.store.stamps(name) for name in TABLES}

    def _tell(self, text: str) -> None:
        if text not in self.told:
            self.told.add(text)
            self.say(text)
