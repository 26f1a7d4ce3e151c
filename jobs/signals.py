"""Ctrl-C and SIGTERM: the first asks the loop to end, the second ends it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from jobs.loop import Stop


class StopRequest:
    """Handlers for SIGINT and SIGTERM inside a `with`; enter it after `ray.init`, which sets its own."""

    def __init__(self, announce: Callable[[str], None]):
        self.announce = announce
        self.signal: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = number
        self.announce("Stopping: no new units; those at work may end (again to leave at once).")

    def state(self) -> Stop:
        return Stop.NO if self.signal is None else Stop.DRAIN

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)
