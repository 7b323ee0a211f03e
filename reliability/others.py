"""Clients that get a small object, one request after the other, and keep the time: while others do something bad to the
server. A process of its own, so that it is not held up by what else a program does.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time

from reliability.server import environment
from reliability.wire import Wire

ADDRESS = "127.0.0.2"  #: where they come from
_CLIENTS = 2
_PAUSE = 0.005


class Others:
    """A context while which they ask.

    :ivar seconds: of each request, once they have ended. :ivar faults: what went wrong.
    """

    def __init__(self, port: int, target: str) -> None:
        self.seconds: list[float] = []
        self.faults: list[str] = []
        self._command = [sys.executable, "-m", "reliability.others", str(port), target]

    def __enter__(self) -> Others:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment()
        )
        return self

    def __exit__(self, *_: object) -> None:
        output, _error = self._process.communicate(b"", 120)
        self.seconds, self.faults = json.loads(output)

    def percentile(self, share: float) -> float:
        times = sorted(self.seconds)
        return times[min(int(share * len(times)), len(times) - 1)] if times else float("inf")


class _Client(threading.Thread):
    """:param keeps: its connection; else it has a new one for each request, which is what a limit would refuse."""

    def __init__(self, port: int, target: str, keeps: bool, end: threading.Event) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self.faults: list[str] = []
        self._port = port
        self._target = target
        self._keeps = keeps
        self._end = end

    def run(self) -> None:
        wire: Wire | None = None
        while not self._end.wait(_PAUSE):
            began = time.monotonic()
            try:
                wire = wire or Wire(self._port, ADDRESS)
                status, _ = wire.ask("GET", self._target)
            except OSError as error:
                self.faults.append(f"a GET of the others failed: {error!r}")
                wire = None
                continue
            self.seconds.append(time.monotonic() - began)
            if status != 200:
                self.faults.append(f"a GET of the others was answered {status}")
            if not self._keeps or status != 200:
                wire.close()
                wire = None


def main() -> None:
    end = threading.Event()
    clients = [_Client(int(sys.argv[1]), sys.argv[2], number % 2 == 0, end) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    sys.stdin.read()
    end.set()
    for client in clients:
        client.join()
    print(json.dumps([[s for client in clients for s in client.seconds], [f for c in clients for f in c.faults]]))


if __name__ == "__main__":
    main()
