"""How a tool ends that is told to: by Ctrl-C, or by a SIGTERM."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ended(BaseException):
    """A signal said so. ``status``: what a shell makes of a command that one has ended."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}")
        self.status = 128 + number


def end_by_exception() -> None:
    """From now on the first such signal raises :class:`Ended` in the main thread, wherever that is; another one kills.

    A signal that whoever started us has it ignored stays so.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _end)


def _end(number: int, _: FrameType | None) -> None:
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_DFL)
    raise Ended(number)


@contextlib.contextmanager
def undisturbed() -> Iterator[None]:
    """Whoever tells us to end waits for the end of the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
