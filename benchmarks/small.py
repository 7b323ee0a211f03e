"""Small objects: GET, HEAD, PUT, DELETE of 4 KiB, and LIST."""

from __future__ import annotations

import os
from collections.abc import Callable

from benchmarks.disk import append_loop, fio_synced_writes
from benchmarks.load import Sample, bodiless, exchange, wrk
from benchmarks.servers import Server
from benchmarks.workload import CONTROL, DISK, NGINX, OURS, PEERS, SEAWEED, Bench, Target, Workload, cpu, rate, same

SIZE = 4096
KEYS = 500
LISTED = 1000
S3_PEERS = tuple(name for name in PEERS if name != NGINX)

Run = Callable[[Bench, Server], Sample]


def small_keys() -> list[str]:
    return [f"small/{number:06}" for number in range(KEYS)]


def fill_small(bench: Bench, server: Server) -> None:
    """The objects that GET and HEAD read."""

    def fill(bench: Bench, server: Server) -> None:
        for key in small_keys():
            server.put(key, os.urandom(SIZE))

    bench.once("small", server, fill)


def fill_list(bench: Bench, server: Server) -> None:
    def fill(bench: Bench, server: Server) -> None:
        for number in range(LISTED):
            server.put(f"list/{number:06}", b"")

    bench.once("list", server, fill)


def put_all(server: Server, keys: list[str], body: bytes) -> Sample:
    """Store them by presigned PUTs, 32 at a time."""
    host, port = server.address
    head = f"HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n"
    requests = [f"PUT {server.target('put_object', key)} {head}".encode() + body for key in keys]
    return exchange(server, requests, connections=32, seconds=300, once=True)


def targets(server: Server, operation: str) -> list[str]:
    return ["/"] if server.name == CONTROL else [server.target(operation, key) for key in small_keys()]


def get(connections: int) -> Run:
    def run(bench: Bench, server: Server) -> Sample:
        urls = targets(server, "get_object")
        return wrk(server, urls, connections=connections, seconds=bench.seconds, size=SIZE)

    return run


def control(bench: Bench, server: Server) -> Sample:
    """What scales the CPU figures of the round."""
    return wrk(server, ["/"], connections=16, seconds=bench.seconds, size=SIZE)


def head(connections: int) -> Run:
    def run(bench: Bench, server: Server) -> Sample:
        urls = targets(server, "head_object")
        return bodiless(server, "HEAD", urls, connections=connections, seconds=bench.seconds)

    return run


def put(connections: int) -> Run:
    def run(bench: Bench, server: Server) -> Sample:
        count = min(5000, round(bench.seconds * 2000))
        keys = [f"put/{connections}/{bench.round}/{number:06}" for number in range(count)]
        urls = [server.target("put_object", key) for key in keys]
        body = os.urandom(SIZE)
        return wrk(server, urls, method="PUT", body=body, connections=connections, seconds=bench.seconds, size=SIZE)

    return run


def delete(connections: int) -> Run:
    def run(bench: Bench, server: Server) -> Sample:
        count = min(6000, round(bench.seconds * 2000))
        keys = [f"delete/{connections}/{bench.round}/{number:06}" for number in range(count)]
        put_all(server, keys, os.urandom(SIZE))
        urls = [server.target("delete_object", key) for key in keys]
        return bodiless(server, "DELETE", urls, connections=connections, seconds=bench.seconds, once=True)

    return run


def list_keys(bench: Bench, server: Server) -> Sample:
    url = server.target("list_objects_v2", "", Prefix="list/")
    return wrk(server, [url], connections=4, seconds=bench.seconds)


def _fio(bench: Bench, server: Server) -> Sample:
    return fio_synced_writes(server.home, bench.seconds)


def _append(bench: Bench, server: Server) -> Sample:
    return append_loop(server.home, bench.seconds)


def _scaled(runs: Run, *servers: str) -> dict[str, tuple[str, Run]]:
    """With the control beside them."""
    return same(runs, *servers) | {CONTROL: (CONTROL, control)}


_FIO, _APPEND = "fio 4k, fsync each", "append + fdatasync"
_PUT_P99 = Target("p99 below 100 ms", lambda of: of[OURS].p99 * 1e3, 100.0)

WORKLOADS = [
    *(
        Workload(
            f"get-4k-{connections}",
            f"GET 4 KiB, {connections} connections",
            same(get(connections), OURS, CONTROL, SEAWEED, *others),
            (cpu(0.08), rate(8, SEAWEED), rate(2, CONTROL)),
            fill_small,
            latency=True,
        )
        for connections, others in ((16, (NGINX, "moto", "s3rver")), (64, ()))
    ),
    *(
        Workload(
            f"head-4k-{connections}",
            f"HEAD, {connections} connections",
            _scaled(head(connections), OURS, SEAWEED),
            (cpu(0.07),),
            fill_small,
        )
        for connections in (16, 64)
    ),
    *(
        Workload(
            f"delete-4k-{connections}",
            f"DELETE of 4 KiB, {connections} connections",
            _scaled(delete(connections), OURS, SEAWEED),
            (cpu(0.15),),
        )
        for connections in (16, 64)
    ),
    Workload(
        "put-4k-64",
        "PUT 4 KiB durable, 64 connections",
        _scaled(put(64), OURS, SEAWEED) | {_FIO: (DISK, _fio)},
        (cpu(0.20), rate(5, _FIO), rate(3, SEAWEED), _PUT_P99),
        latency=True,
    ),
    Workload(
        "put-4k-16",
        "PUT 4 KiB durable, 16 connections",
        _scaled(put(16), OURS, *S3_PEERS),
        (cpu(0.20), rate(3, SEAWEED)),
        latency=True,
    ),
    Workload(
        "put-4k-1",
        "PUT 4 KiB durable, 1 connection",
        _scaled(put(1), OURS, SEAWEED) | {_FIO: (DISK, _fio), _APPEND: (DISK, _append)},
        (rate(0.4, _APPEND),),
        latency=True,
    ),
    Workload(
        "list-1000",
        "LIST 1,000 keys",
        _scaled(list_keys, OURS, *S3_PEERS),
        (cpu(4),),
        fill_list,
    ),
]
