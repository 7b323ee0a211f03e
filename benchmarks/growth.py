"""What operations cost in buckets of different sizes, which the bulk loader fills."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Sequence

from benchmarks.bulk_load import key_of
from benchmarks.install import Missing
from benchmarks.load import Sample, bodiless, exchange, percentile, wrk
from benchmarks.servers import BUCKET, Ais, Server
from benchmarks.small import control
from benchmarks.workload import CONTROL, CONTROL_MS, Bench, Round, Target, Workload

PREFIXES = 100
_SAMPLE = 3000

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = (10_000, 100_000)


def name_of(size: int) -> str:
    return f"ais-s3, {size:,} objects"


class Loaded(Ais):
    """A server over so many objects."""

    size = 0

    def create_bucket(self) -> None:
        """The loader has made it."""


def open_sizes(bench: Bench) -> list[int]:
    """Start a server for each size; load first what is not loaded yet. The sizes for which there is room."""
    opened = []
    for size in QUICK_SIZES if bench.quick else SIZES:
        name = name_of(size)
        if name in bench.skipped:
            continue
        if not bench.has(name):
            home = bench.folder / f"objects-{size}"
            try:
                bench.check_room(size * 600)
            except Missing as error:
                bench.skipped[name] = str(error)
                continue
            server = Loaded(home)
            server.name, server.size = name, size
            command = [sys.executable, "-m", "benchmarks.bulk_load", str(server.data), str(size)]
            subprocess.run([*command, f"--prefixes={PREFIXES}", f"--bucket={BUCKET}"], check=True, timeout=1800)
            server.start()
            bench.add(name, server)
        opened.append(size)
    return opened


Run = Callable[[Bench, Server], Sample]


def _on(run: Callable[[Bench, Loaded], Sample]) -> dict[str, tuple[str, Run]]:
    """On each size, with the control beside them."""

    def loaded(bench: Bench, server: Server) -> Sample:
        assert isinstance(server, Loaded)
        return run(bench, server)

    runs = {name_of(size): (name_of(size), loaded) for size in SIZES}
    return {**runs, CONTROL: (CONTROL, control)}


def _keys(server: Loaded, seed: str, count: int = _SAMPLE) -> list[str]:
    """Random ones of those that are there, each once."""
    numbers = random.Random(seed).sample(range(server.size), min(count, server.size // 8))
    return [key_of(number, server.size, PREFIXES) for number in numbers]


def _list(bench: Bench, server: Loaded) -> Sample:
    """Pages of 1,000 keys from many places."""
    starts = _keys(server, f"list {bench.round}", 200)
    urls = [server.target("list_objects_v2", "", StartAfter=key) for key in starts if key < "80/"]
    return wrk(server, urls, connections=4, seconds=bench.seconds)


def _delimiter(bench: Bench, server: Loaded) -> Sample:
    url = server.target("list_objects_v2", "", Delimiter="/")
    return wrk(server, [url], connections=4, seconds=bench.seconds)


def _get(bench: Bench, server: Loaded) -> Sample:
    urls = [server.target("get_object", key) for key in _keys(server, f"get {bench.round}")]
    return wrk(server, urls, connections=16, seconds=bench.seconds)


def _puts(server: Loaded, keys: Sequence[str]) -> list[bytes]:
    host, port = server.address
    tail = f"HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 0\r\n\r\n"
    return [f"PUT {server.target('put_object', key)} {tail}".encode() for key in keys]


def _put(bench: Bench, server: Loaded) -> Sample:
    """New objects between those that are there."""
    keys = [f"{key}.{bench.round}" for key in _keys(server, f"put {bench.round}")]
    return exchange(server, _puts(server, keys), connections=64, seconds=bench.seconds * 3, once=True)


def _delete(bench: Bench, server: Loaded) -> Sample:
    """Objects of the loader's, which come back afterwards."""
    keys = _keys(server, f"delete {bench.round}")
    urls = [server.target("delete_object", key) for key in keys]
    sample = bodiless(server, "DELETE", urls, connections=64, seconds=bench.seconds * 3, once=True)
    exchange(server, _puts(server, keys), connections=64, seconds=60, once=True)
    return sample


def _start(bench: Bench, server: Loaded) -> Sample:
    """Stop it, start it again: seconds until it answers that it is ready."""
    server.stop()
    server.__dict__.pop("client", None)  # it gets another port
    server.start()
    took = server.started_in
    return Sample(1, took, server.cpu(), p50=percentile([took], 0.5), p99=took, memory=server.memory())


def _largest(of: Round) -> str:
    return [name_of(size) for size in SIZES if name_of(size) in of][-1]


def _spread(factor: float) -> Target:
    """The dearest size against the cheapest."""

    def figure(of: Round) -> float:
        costs = [of[name_of(size)].cpu_ms for size in SIZES if name_of(size) in of]
        return max(costs) / min(costs)

    return Target(f"CPU at every size within {factor:g} × of the smallest's", figure, factor)


def _grown(factor: float) -> Target:
    def figure(of: Round) -> float:
        return of[_largest(of)].cpu_ms / of[name_of(SIZES[0])].cpu_ms

    return Target(f"CPU at the largest ≤ {factor:g} × that at 10,000", figure, factor)


def _cpu_at_largest(milliseconds: float) -> Target:
    def figure(of: Round) -> float:
        return of[_largest(of)].cpu_ms * CONTROL_MS / of[CONTROL].cpu_ms

    text = f"CPU ≤ {milliseconds:g} ms at the largest, where the control takes {CONTROL_MS} ms"
    return Target(text, figure, milliseconds)


_READY = Target("ready in ≤ 2 s with the most objects", lambda of: of[_largest(of)].seconds, 2.0)


def _open(bench: Bench, server: Server) -> None:
    open_sizes(bench)


WORKLOADS = [
    Workload("growth-list", "LIST 1,000 keys by bucket size", _on(_list), (_cpu_at_largest(4), _spread(1.15)), _open),
    Workload(
        "growth-delimiter",
        "LIST of 100 prefixes by bucket size",
        _on(_delimiter),
        (_cpu_at_largest(1), _spread(1.15)),
        _open,
    ),
    Workload("growth-get", "GET of an empty object by bucket size", _on(_get), (_grown(1.3),), _open),
    Workload("growth-put", "PUT of an empty object by bucket size", _on(_put), (_grown(1.3),), _open),
    Workload("growth-delete", "DELETE by bucket size", _on(_delete), (_grown(1.3),), _open),
    Workload(
        "start",
        "start by number of objects",
        {name: run for name, run in _on(_start).items() if name != CONTROL},
        (_READY,),
        _open,
    ),
]
