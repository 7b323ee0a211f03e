"""Latencies of small requests beside heavy ones."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from benchmarks.large import new_uploads
from benchmarks.load import Sample, beside, exchange, percentile, wrk
from benchmarks.servers import Server
from benchmarks.small import fill_list, fill_small, put, targets
from benchmarks.workload import MIB, OURS, Bench, Round, Target, Workload

#: of the upload that is completed: the most that S3 takes
PARTS = 10_000
#: one takes 0.3 to 0.6 s
_COMPLETES = 5
HUGE_UPLOAD = 5 << 30

Stopped = Callable[[], bool]
Work = Callable[[Bench, Server, Stopped], None]


def _list_loop(bench: Bench, server: Server, stopped: Stopped) -> None:
    """One LIST of 1,000 keys after another."""
    host, port = server.address
    url = server.target("list_objects_v2", "", Prefix="list/")
    request = f"GET {url} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
    with socket.create_connection(server.address) as connection:
        while not stopped():
            connection.sendall(request)
            received = b""
            while not received.endswith(b"</ListBucketResult>") and not received.endswith(b"0\r\n\r\n"):
                received = (received[-64:] if received else b"") + connection.recv(1 << 18)


def _lists_and_gets(bench: Bench, server: Server, stopped: Stopped) -> None:
    with beside(lambda ended: _list_loop(bench, server, ended)):
        wrk(server, targets(server, "get_object"), connections=16, seconds=bench.seconds + 1)


def _upload(bench: Bench, server: Server, stopped: Stopped) -> None:
    """A PUT of 5 GiB as fast as it goes; given up where the measurement ends first."""
    host, port = server.address
    target = server.target("put_object", "huge")
    block = bytes(MIB)
    with socket.create_connection(server.address) as connection:
        head = f"PUT {target} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {HUGE_UPLOAD}\r\n\r\n"
        connection.sendall(head.encode())
        sent = 0
        while sent < HUGE_UPLOAD and not stopped():
            connection.sendall(block)
            sent += MIB


def gets(bench: Bench, server: Server, seconds: float | None = None) -> Sample:
    """GETs of 4 KiB on 4 connections."""
    host, port = server.address
    requests = [f"GET {url} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode() for url in targets(server, "get_object")]
    return exchange(server, requests, connections=4, seconds=seconds or bench.seconds)


def _gets_beside(work: Work) -> Callable[[Bench, Server], Sample]:
    def run(bench: Bench, server: Server) -> Sample:
        with beside(lambda stopped: work(bench, server, stopped)):
            return gets(bench, server)

    return run


def _gets_beside_complete(bench: Bench, server: Server) -> Sample:
    """GETs while one CompleteMultipartUpload of 10,000 parts follows another."""
    completes = new_uploads(server, "many-parts", PARTS, 5 * MIB, _COMPLETES)
    gets(bench, server, 0.5)  # the server has just started
    times: list[float] = []

    def work(stopped: Stopped) -> None:
        for complete in completes:
            if not stopped():
                started = time.monotonic()
                complete()
                times.append(time.monotonic() - started)

    with beside(work):
        sample = gets(bench, server, 1.0)
    sample.more |= {"complete ms": percentile(times, 0.5) * 1e3, "completes": len(times)}
    return sample


def _puts_beside(bench: Bench, server: Server) -> Sample:
    with beside(lambda stopped: _lists_and_gets(bench, server, stopped)):
        return put(16)(bench, server)


def _fill(bench: Bench, server: Server) -> None:
    fill_small(bench, server)
    fill_list(bench, server)


_ALONE, _LIST, _COMPLETE, _UPLOAD = "alone", "beside a LIST loop", "beside a 10,000-part Complete", "beside a 5 GiB PUT"
_BUSY = "beside LIST and GETs at full load"


def _p99(who: str, factor: float) -> Target:
    def figure(of: Round) -> float:
        return of[who].p99 / of[_ALONE].p99

    return Target(f"p99 {who} ≤ {factor:g} × alone", figure, factor)


WORKLOADS = [
    Workload(
        "fair-put",
        "PUT 4 KiB, 16 connections: p99 beside other load",
        {_ALONE: (OURS, put(16)), _BUSY: (OURS, _puts_beside)},
        (_p99(_BUSY, 5),),
        _fill,
        latency=True,
    ),
    Workload(
        "fair-get",
        "GET 4 KiB, 4 connections: p99 beside other load",
        {
            _ALONE: (OURS, gets),
            _LIST: (OURS, _gets_beside(_list_loop)),
            _UPLOAD: (OURS, _gets_beside(_upload)),
            _COMPLETE: (OURS, _gets_beside_complete),
        },
        (_p99(_LIST, 3), _p99(_UPLOAD, 3), _p99(_COMPLETE, 3)),
        _fill,
        latency=True,
        disk=20 << 30,
    ),
]
