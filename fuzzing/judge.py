"""Runs a target on one input after another, and keeps what it found."""

from __future__ import annotations

import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fuzzing.target import Broken, Label, Target

#: One input may take so much CPU time. What is slow for other reasons (a collection of garbage) is not slow twice.
SECONDS = 1.0
ALARM = 10.0  #: seconds, and whoever takes so long is stopped
_ROUND = 256  #: inputs between two looks at the alarm
_HOME = str(Path(__file__).parent.parent)


class Hang(BaseException):
    """An input takes for ever. (Not an Exception: nobody on the way catches it.)"""


class Crash:
    """The first input that broke a promise in one place."""

    def __init__(self, data: bytes, error: BaseException) -> None:
        self.data = data
        self.text = "".join(traceback.format_exception(error))
        self.where = _where(error)
        self.times = 1


class Judge:
    """
    :ivar executions: inputs so far. ``crashes``: what broke, by the place where it did.
    :ivar slowest: seconds of CPU of the slowest input.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self.executions = 0
        self.crashes: dict[str, Crash] = {}
        self.slowest = 0.0
        self._began = 0.0

    def run(self, data: bytes) -> Label | None:
        """The target's label, None where something broke."""
        self.executions += 1
        began = self._began = time.process_time()
        if self.executions % _ROUND == 1:
            signal.setitimer(signal.ITIMER_PROF, ALARM, 1.0)
        try:
            label = self.target.check(data)
            took = time.process_time() - began
            if took > self.slowest:
                self._time(data, took)
        except (Exception, Hang) as error:
            self._crashed(data, error)
            return None
        return label

    def _time(self, data: bytes, took: float) -> None:
        """Whether it is the input that is slow."""
        took = min(took, self._once(data), self._once(data))
        self.slowest = max(self.slowest, took)
        if took > SECONDS:
            raise Broken(f"an input takes {took:.1f} s of CPU")

    def _once(self, data: bytes) -> float:
        began = self._began = time.process_time()
        self.target.check(data)
        return time.process_time() - began

    def _crashed(self, data: bytes, error: BaseException) -> None:
        crash = Crash(data, error)
        known = self.crashes.setdefault(crash.where, crash)
        if known is not crash:
            known.times += 1
            if len(data) < len(known.data):
                known.data, known.text = data, crash.text

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While inputs are run: what takes for ever is stopped, in Python and in regular expressions."""

        def stop(*_: object) -> None:
            if time.process_time() - self._began > ALARM / 2:
                raise Hang(f"an input takes more than {ALARM / 2} s")

        before = signal.signal(signal.SIGPROF, stop)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.signal(signal.SIGPROF, before)


def _where(error: BaseException) -> str:
    """The kind of error, and the innermost lines of ours that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_HOME)]
    ours = [f"{Path(frame.filename).name}:{frame.lineno}" for frame in frames if "/venv/" not in frame.filename]
    # The last line outside of the helpers of fuzzing itself is where a promise is checked.
    places = [place for place in ours if not place.startswith(("target.py", "judge.py"))]
    return f"{type(error).__name__} at {(places or ours or ['?'])[-1]}"
