"""Metrics in Prometheus's format, and who may see what operators see."""

from __future__ import annotations

from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from aisobj.errors import S3Error
from aisobj.metrics import LATENCY_BOUNDS, Gauges, Metrics
from aisobj.protocol.credentials import Credentials
from aisobj.web.auth import Authenticator
from aisobj.web.health import check_operator


def scrape(metrics: Metrics) -> dict[tuple[str, str, str, str], float]:
    """(name, operation, status, le) -> value, as Prometheus's own parser reads it."""
    return {
        (sample.name, *(sample.labels.get(label, "") for label in ("operation", "status", "le"))): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_requests_bytes_and_seconds_are_kept_for_each_operation_and_status() -> None:
    metrics = Metrics(Gauges)
    metrics.observe("PutObject", 200, 0.25, 1000, 0)
    metrics.observe("PutObject", 200, 0.5, 24, 0)
    metrics.observe("PutObject", 403, 0.001, 0, 300)
    found = scrape(metrics)
    assert found["ais_s3_requests_total", "PutObject", "200", ""] == 2
    assert found["ais_s3_received_bytes_total", "PutObject", "200", ""] == 1024
    assert found["ais_s3_request_seconds_sum", "PutObject", "200", ""] == 0.75
    assert found["ais_s3_request_seconds_count", "PutObject", "200", ""] == 2
    assert found["ais_s3_requests_total", "PutObject", "403", ""] == 1
    assert found["ais_s3_sent_bytes_total", "PutObject", "403", ""] == 300


def test_buckets_are_cumulative_and_a_bound_belongs_to_its_bucket() -> None:
    metrics = Metrics(Gauges)
    for seconds in (*LATENCY_BOUNDS, 0.0, 1000.0):
        metrics.observe("GetObject", 200, seconds, 0, 0)
    found = scrape(metrics)
    counts = [found["ais_s3_request_seconds_bucket", "GetObject", "200", str(bound)] for bound in LATENCY_BOUNDS]
    assert counts == list(range(2, len(LATENCY_BOUNDS) + 2))
    assert found["ais_s3_request_seconds_bucket", "GetObject", "200", "+Inf"] == len(LATENCY_BOUNDS) + 2


def test_a_request_without_an_operation_is_counted_as_none() -> None:
    metrics = Metrics(Gauges)
    metrics.observe(None, 400, 0.001, 0, 0)
    assert scrape(metrics)["ais_s3_requests_total", "none", "400", ""] == 1


def test_gauges_are_read_at_the_scrape() -> None:
    now = Gauges()
    metrics = Metrics(lambda: now)
    assert scrape(metrics)["ais_s3_read_only", "", "", ""] == 0
    now = Gauges(connections=3, objects=5, stored_bytes=7, read_only="a sync failed")
    found = scrape(metrics)
    names = ("connections", "objects", "stored_bytes", "read_only")
    assert [found[f"ais_s3_{name}", "", "", ""] for name in names] == [3, 5, 7, 1]


def test_closed_connections_are_counted_by_reason() -> None:
    metrics = Metrics(Gauges)
    metrics.closed = {"head": 2, "displaced": 1}
    families = text_string_to_metric_families(metrics.render().decode())
    (family,) = [family for family in families if family.name == "ais_s3_closed_connections"]
    assert {sample.labels["reason"]: sample.value for sample in family.samples} == {"head": 2, "displaced": 1}


class Asking:
    """A request, as far as its admission looks at it."""

    method = b"GET"
    path = b"/metrics"
    query = b""
    raw_headers = [(b"host", b"localhost")]

    def __init__(self, client: IAddress | None) -> None:
        self._client = client

    def getClientAddress(self) -> IAddress | None:
        return self._client

    def header(self, name: bytes) -> bytes | None:
        return dict(self.raw_headers).get(name)


def refusal(client: IAddress | None, credentials: Credentials | None) -> str:
    """The code of the refusal, or ""."""
    try:
        check_operator(cast(Any, Asking(client)), Authenticator(credentials, "", lambda: 0.0))
    except S3Error as error:
        return error.code
    return ""


USERS = Credentials([("alice", "AKIAALICE", "secret")])


@pytest.mark.parametrize("credentials", [None, USERS], ids=["open", "signed"])
@pytest.mark.parametrize(
    ("client", "code"),
    [
        (IPv4Address("TCP", "127.0.0.1", 1), ""),
        (IPv4Address("TCP", "127.8.8.8", 1), ""),
        (IPv6Address("TCP", "::1", 1), ""),
        (IPv6Address("TCP", "::ffff:127.0.0.1", 1), ""),
        (UNIXAddress(None), ""),
        (IPv4Address("TCP", "10.0.0.7", 1), "AccessDenied"),
        (IPv6Address("TCP", "fe80::1%eth0", 1), "AccessDenied"),
        (IPv6Address("TCP", "::ffff:10.0.0.7", 1), "AccessDenied"),
        (None, "AccessDenied"),
    ],
)
def test_only_the_machine_itself_need_not_sign(
    client: IAddress | None, code: str, credentials: Credentials | None
) -> None:
    assert refusal(client, credentials) == code
