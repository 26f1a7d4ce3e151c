"""Ctrl-C and SIGTERM: while units are at work the first asks the loop to end, the second ends it; else the first."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Terminated(KeyboardInterrupt):
    """SIGTERM that ends the process, by way of everything that has to be closed."""

    exit_code = 128 + signal.SIGTERM


def end_at_once(number: int, frame: FrameType | None) -> None:
    """A handler: the exception that a signal stands for."""
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


@contextlib.contextmanager
def sigterm_kept(handler: Any) -> Iterator[None]:
    """SIGTERM has this handler inside a `with`, or what is set there (`ray.init` sets its own); then that of before.

    In another thread than the main one, which alone may set handlers, nothing changes.
    """
    before = signal.getsignal(signal.SIGTERM)
    if _in_main_thread():
        signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        if _in_main_thread():
            signal.signal(signal.SIGTERM, before)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


class StopRequest:
    """Handlers for SIGINT and SIGTERM inside a `with`."""

    def __init__(self) -> None:
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
            end_at_once(number, frame)
        self.signal = number

    @property
    def exit_code(self) -> int:
        """130 after Ctrl-C, 143 after SIGTERM."""
        return 128 + (self.signal or signal.SIGINT)
