"""The metrics of several workers as one: prometheus-client's multiprocess mode.

Each worker counts as :class:`~aisobj.metrics.Metrics` does, and now and then adds what is new to memory-mapped files in
a directory that all of them share. Whichever worker is scraped adds up the files.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from stat import S_ISDIR
from typing import Any

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from aisobj.metrics import (
    BOUND_LABELS,
    CLOSED,
    CLOSED_LABELS,
    LABELS,
    LATENCY,
    NO_OPERATION,
    RECEIVED,
    REQUESTS,
    SENT,
    Gauges,
    Metrics,
    Series,
)

#: prometheus-client's own name; it must be set before that is imported.
DIRECTORY_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"

_CONNECTIONS = ("ais_s3_connections", "Open connections.")
_LIVE = re.compile(r"gauge_livesum_(\d+)\.db")


class _Written:
    """What the files hold of one series.

    :param value_class: prometheus-client's, of the files of this worker.
    """

    def __init__(self, labels: tuple[str, str], value_class: Any) -> None:
        def value(kind: str, metric: tuple[str, str], suffix: str, names: tuple[str, ...], *more: str) -> Any:
            name, text = metric
            return value_class(kind, name, name + suffix, names, (*labels, *more), text)

        self._counters = [value("counter", metric, "_total", LABELS) for metric in (REQUESTS, RECEIVED, SENT)]
        self._seconds = value("histogram", LATENCY, "_sum", LABELS)
        bound_labels = (*LABELS, "le")
        self._buckets = [value("histogram", LATENCY, "_bucket", bound_labels, bound) for bound in BOUND_LABELS]
        self._known = Series()

    def add(self, series: Series) -> None:
        known = self._known
        new = sum(series.buckets) - sum(known.buckets)
        if not new:
            return
        counts = (new, series.bytes_in - known.bytes_in, series.bytes_out - known.bytes_out)
        for counter, more in zip(self._counters, counts, strict=True):
            counter.inc(more)
        self._seconds.inc(series.seconds - known.seconds)
        for bucket, now, then in zip(self._buckets, series.buckets, known.buckets, strict=True):
            if now != then:
                bucket.inc(now - then)
        self._known = series.copy()


class SharedMetrics(Metrics):
    """The metrics of one worker, and at a scrape those of all.

    The directory is in ``DIRECTORY_VARIABLE``. Call :meth:`flush` each second and at the end.

    :param number: of the worker. Its files are named after that and not after the process, so one that takes the place
        of a dead one counts on where that left off, and no files are left over.
    """

    def __init__(self, gauges: Callable[[], Gauges], number: int) -> None:
        self._directory = os.environ[DIRECTORY_VARIABLE]
        self._value_class = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
        self._written: dict[tuple[str | None, int], _Written] = {}
        self._closed_written: dict[str, tuple[Any, int]] = {}
        name, text = _CONNECTIONS
        self._connections: Any = values.ValueClass("gauge", name, name, (), (), text, multiprocess_mode="livesum")
        super().__init__(gauges)

    def flush(self, connections: int) -> None:
        """Let the other workers see what was counted here.

        :param connections: open ones of this worker.
        """
        for key, series in self._series.items():
            written = self._written.get(key)
            if written is None:
                operation, status = key
                written = self._written[key] = _Written((operation or NO_OPERATION, str(status)), self._value_class)
            written.add(series)
        for reason, count in self.closed.items():
            counter, known = self._closed_written.get(reason) or (_closed_counter(reason), 0)
            counter.inc(count - known)
            self._closed_written[reason] = counter, count
        self._connections.set(connections)

    def collect(self) -> Iterator[Metric]:
        self.flush(self._gauges().connections)
        yield from MultiProcessCollector(None, self._directory).collect()  # type: ignore[no-untyped-call]
        # What is stored, and whether it can be written, is the same in every worker.
        yield from self._collect_stored()
        yield from self._collect_processes()

    def _register(self, registry: CollectorRegistry) -> None:
        registry.register(self)
        PlatformCollector(registry=registry)

    def _collect_processes(self) -> Iterator[Metric]:
        """CPU, memory and files of the master and of each worker, by the label ``pid``."""
        found: dict[str, Metric] = {}
        live = [match[1] for match in map(_LIVE.fullmatch, os.listdir(self._directory)) if match]
        for pid in (str(os.getppid()), *sorted(live, key=int)):
            for metric in ProcessCollector(pid=lambda pid=pid: pid, registry=None).collect():  # type: ignore[misc]
                family = found.setdefault(metric.name, Metric(metric.name, metric.documentation, metric.type))
                for sample in metric.samples:
                    family.add_sample(sample.name, {"pid": pid}, sample.value)
        yield from found.values()


def _closed_counter(reason: str) -> Any:
    name, text = CLOSED
    return values.ValueClass("counter", name, name + "_total", CLOSED_LABELS, (reason,), text)


def make_directory(lock: int) -> str:
    """A private, empty directory for the files; the caller removes it.

    In shared memory where there is such a file system: on a full disk a write to a mapped file kills the process. A
    server that was killed leaves its directory to the next one on the same data, since the name is made of the inode of
    ``lock``, the open lock file. Raises OSError.
    """
    parent = "/dev/shm" if os.access("/dev/shm", os.W_OK | os.X_OK) else tempfile.gettempdir()
    stat = os.fstat(lock)
    path = os.path.join(parent, f"ais-s3-{os.geteuid()}-{stat.st_dev:x}-{stat.st_ino:x}")
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        found = os.lstat(path)
        if not S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            return tempfile.mkdtemp(prefix="ais-s3-")  # somebody else's
        for name in os.listdir(path):
            os.unlink(os.path.join(path, name))
    return path
