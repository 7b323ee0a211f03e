"""Memory at rest, under load and over many requests; and several workers beside one."""

from __future__ import annotations

import time
from collections.abc import Callable

from benchmarks.large import fill_large
from benchmarks.load import Sample, bodiless, exchange, wrk
from benchmarks.servers import Ais, Server
from benchmarks.small import SIZE, fill_list, fill_small, put, targets
from benchmarks.workload import OURS, Bench, Round, Target, Workload, same_cost

#: A worker is what serves; the index writer beside it is one for all.
MEGABYTE = 1e6
REQUESTS, QUICK_REQUESTS = 200_000, 20_000
#: requests a second of the paced load: far below what one worker can
PACE = 800


def peak(sample: Sample) -> float:
    """MB of the largest process, of what a sample says of memory: one worker."""
    return max(sample.memory.values(), default=0) / MEGABYTE


def _at_rest(bench: Bench, server: Server) -> Sample:
    """A server that has just started and has answered one request."""
    name = f"{OURS} at rest"
    fresh = Ais(bench.folder / "at-rest")
    bench.add(name, fresh)
    fresh.start()
    fresh.client.list_buckets()
    time.sleep(0.5)
    sample = Sample(1, 1.0, memory=fresh.memory())
    bench.drop(name)
    return sample


def _loads() -> dict[str, Callable[[Bench, Server], Sample]]:
    def get(bench: Bench, server: Server) -> Sample:
        return wrk(server, targets(server, "get_object"), connections=64, seconds=bench.seconds, size=SIZE)

    def large_get(bench: Bench, server: Server) -> Sample:
        return wrk(server, [server.target("get_object", "large")], connections=64, seconds=bench.seconds)

    def large_put(bench: Bench, server: Server) -> Sample:
        urls = [server.target("put_object", f"memory/{number}") for number in range(64)]
        return wrk(server, urls, method="PUT", body=bytes(8 << 20), connections=64, seconds=bench.seconds)

    def lists(bench: Bench, server: Server) -> Sample:
        url = server.target("list_objects_v2", "", Prefix="list/")
        return wrk(server, [url], connections=64, seconds=bench.seconds)

    return {
        "GET 4 KiB": get,
        "PUT 4 KiB": put(64),
        "LIST 1,000": lists,
        "GET 64 MiB": large_get,
        "PUT 8 MiB": large_put,
    }


def _fill(bench: Bench, server: Server) -> None:
    if server.name == OURS:
        for fill in (fill_small, fill_list, fill_large):
            fill(bench, server)


def _many(bench: Bench, server: Server) -> Sample:
    """GETs, 200,000 of them, after a tenth as many that do not count."""
    most = QUICK_REQUESTS if bench.quick else REQUESTS

    def run(count: int) -> Sample:
        done = wrk(server, targets(server, "get_object"), connections=64, seconds=2)
        while done.operations < count:
            more = wrk(server, targets(server, "get_object"), connections=64, seconds=5)
            more.operations += done.operations
            more.seconds += done.seconds
            more.cpu += done.cpu
            done = more
        return done

    before = peak(run(most // 10))
    sample = run(most)
    sample.more = {"MB before": before, "MB after": peak(sample)}
    return sample


def _memory(text: str, megabytes: float, *who: str) -> Target:
    return Target(text, lambda of: max(peak(of[name]) for name in who), megabytes)


_REST, _FLAT = "at rest", "200,000 GETs"
_ONE, _TWO = "1 worker", "2 workers"


# Workers --------------------------------------------------------------------------------------------------------------


def _paced(operation: str, method: str) -> Callable[[Bench, Server], Sample]:
    """The same load on both: so many requests a second, on 16 connections."""

    def run(bench: Bench, server: Server) -> Sample:
        urls = targets(server, operation)
        if method == "HEAD":
            return bodiless(server, method, urls, connections=16, seconds=bench.seconds, pace=PACE)
        host, port = server.address
        body = bytes(SIZE) if method == "PUT" else b""
        tail = f"HTTP/1.1\r\nHost: {host}:{port}\r\n" + (f"Content-Length: {SIZE}\r\n" if body else "") + "\r\n"
        requests = [f"{method} {url} {tail}".encode() + body for url in urls]
        return exchange(server, requests, connections=16, seconds=bench.seconds, pace=PACE)

    return run


def _full(bench: Bench, server: Server) -> Sample:
    return wrk(server, targets(server, "get_object"), connections=64, seconds=bench.seconds, size=SIZE)


def _both(run: Callable[[Bench, Server], Sample]) -> dict[str, tuple[str, Callable[[Bench, Server], Sample]]]:
    return {_ONE: (f"{OURS} --workers 1", run), _TWO: (f"{OURS} --workers 2", run)}


def _flat(of: Round) -> float:
    more = of[_FLAT].more
    return more["MB after"] / more["MB before"]


WORKLOADS = [
    Workload(
        "memory",
        "memory of a worker (the most RssAnon + RssShmem)",
        {_REST: (OURS, _at_rest), **{name: (OURS, run) for name, run in _loads().items()}},
        (
            _memory("≤ 60 MB at rest", 60, _REST),
            _memory("≤ 120 MB under 64 connections of each load", 120, *_loads()),
        ),
        _fill,
        rounds=1,
    ),
    Workload(
        "flat",
        "memory over 200,000 requests",
        {_FLAT: (OURS, _many)},
        (Target("the same afterwards (≤ 1.05 ×)", _flat, 1.05),),
        fill_small,
        rounds=1,
    ),
    *(
        Workload(
            f"workers-{method.lower()}",
            f"{method} 4 KiB, {PACE} a second on 16 connections",
            _both(_paced(operation, method)),
            (same_cost(1.1, _TWO, _ONE),),
            fill_small,
        )
        for method, operation in (("GET", "get_object"), ("HEAD", "head_object"), ("PUT", "put_object"))
    ),
    Workload("workers-full", "GET 4 KiB, 64 connections, as fast as it goes", _both(_full), (), fill_small),
]
