"""Counters and histograms of requests, in the form that Prometheus scrapes.

A request costs a few list updates; everything else (label sets, cumulative buckets, text) happens when somebody
scrapes. prometheus-client's own counters would take a lock and a lookup each, several times per request.
Updates come from the reactor's thread only.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

#: Upper bounds in seconds: from a small object out of the page cache to the transfer of a large one.
LATENCY_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
BOUND_LABELS = (*map(floatToGoString, LATENCY_BOUNDS), "+Inf")

#: Of :meth:`Metrics.render`.
CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4.encode("ascii")

#: The label of a request that named no operation.
NO_OPERATION = "none"

#: Names and texts of what is kept for each operation and status.
LABELS = ("operation", "status")
REQUESTS = ("ais_s3_requests", "Requests that have ended.")
RECEIVED = ("ais_s3_received_bytes", "Bytes of request bodies.")
SENT = ("ais_s3_sent_bytes", "Bytes of response bodies.")
LATENCY = ("ais_s3_request_seconds", "From the head of a request to the end of its response.")

#: By ``reason``: ``connections`` and ``address`` were refused, since there were too many in all, or from their address;
#: ``displaced`` was idle and made room for another one; of ``head`` and ``body`` too little came, of ``response`` too
#: little was read.
CLOSED = ("ais_s3_closed_connections", "Connections closed for a limit's sake.")
CLOSED_LABELS = ("reason",)


class Series:
    """What is kept for one operation and status."""

    __slots__ = ("buckets", "bytes_in", "bytes_out", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(LATENCY_BOUNDS) + 1)
        self.seconds = 0.0
        self.bytes_in = 0
        self.bytes_out = 0

    def copy(self) -> Series:
        """As it is now."""
        other = Series()
        other.buckets = self.buckets.copy()
        other.seconds, other.bytes_in, other.bytes_out = self.seconds, self.bytes_in, self.bytes_out
        return other


@dataclass(frozen=True, slots=True)
class Gauges:
    """What is true at the moment of a scrape."""

    connections: int = 0  #: open ones
    objects: int = 0  #: stored, of all buckets
    stored_bytes: int = 0  #: their sizes
    corrupt: int = 0  #: rows and blobs that are known not to match their checksum
    read_only: str = ""  #: why nothing is written any more, or ""


class Metrics(Collector):
    """The registry of one server process.

    :param gauges: called at each scrape.
    :ivar closed: how many connections were closed, by the reason; somebody else counts.
    """

    def __init__(self, gauges: Callable[[], Gauges]) -> None:
        self.closed: Mapping[str, int] = {}
        self._gauges = gauges
        self._series: dict[tuple[str | None, int], Series] = {}
        self._registry = CollectorRegistry(auto_describe=False)
        self._register(self._registry)

    def observe(self, operation: str | None, status: int, seconds: float, bytes_in: int, bytes_out: int) -> None:
        """One request has ended.

        :param operation: S3's name of it, or None if the request named none.
        :param bytes_in: of its body; ``bytes_out`` of the response's.
        """
        series = self._series.get((operation, status))
        if series is None:
            series = self._series[operation, status] = Series()
        series.buckets[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        series.seconds += seconds
        series.bytes_in += bytes_in
        series.bytes_out += bytes_out

    def render(self) -> bytes:
        """Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """For prometheus-client."""
        requests = CounterMetricFamily(*REQUESTS, labels=LABELS)
        received = CounterMetricFamily(*RECEIVED, labels=LABELS)
        sent = CounterMetricFamily(*SENT, labels=LABELS)
        latency = HistogramMetricFamily(*LATENCY, labels=LABELS)
        for (operation, status), series in self._series.items():
            values = [operation or NO_OPERATION, str(status)]
            totals = list(accumulate(series.buckets))
            requests.add_metric(values, totals[-1])
            received.add_metric(values, series.bytes_in)
            sent.add_metric(values, series.bytes_out)
            latency.add_metric(values, list(zip(BOUND_LABELS, totals, strict=True)), series.seconds)
        yield from (requests, received, sent, latency)
        closed = CounterMetricFamily(*CLOSED, labels=CLOSED_LABELS)
        for reason, count in self.closed.items():
            closed.add_metric([reason], count)
        yield closed
        yield GaugeMetricFamily("ais_s3_connections", "Open connections.", self._gauges().connections)
        yield from self._collect_stored()

    def _register(self, registry: CollectorRegistry) -> None:
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def _collect_stored(self) -> Iterator[Metric]:
        now = self._gauges()
        yield GaugeMetricFamily("ais_s3_objects", "Objects stored.", now.objects)
        yield GaugeMetricFamily("ais_s3_stored_bytes", "Bytes of the objects stored.", now.stored_bytes)
        yield GaugeMetricFamily(
            "ais_s3_corrupt_objects", "Blobs and rows in quarantine: what did not match its checksum.", now.corrupt
        )
        yield GaugeMetricFamily("ais_s3_read_only", "1 while nothing can be written.", 1 if now.read_only else 0)
