"""What the server's own code costs per request, without the network: for work on the hot path.

A whole server (signatures, resource tree, store on disk, access log, metrics) in this process answers requests that are
handed to its channels directly; what it sends goes nowhere. So the figures hold neither system calls of a socket nor
the reactor's own work per event: ``benchmarks/s3.py`` measures those too, but with more noise.

A line tells the microseconds of CPU per request (the best of several rounds, since other programs only ever add) and
how many calls of functions, Python's and C's, one request makes. The calls do not move with noise: compare those first.
For a PUT, which is not durable here, the index writer's own process is not counted. ::

    python -m benchmarks.request_cost                   # every workload
    python -m benchmarks.request_cost get --profile 40  # one, with the 40 functions that take longest
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from twisted.internet.tcp import Connection

from aisobj.model import BucketProps
from aisobj.protocol.credentials import Credentials
from aisobj.storage.embedded import lock_data_directory, open_store
from aisobj.tap import IServerReactor, make_root
from aisobj.web.accesslog import AccessLog
from aisobj.web.auth import Authenticator
from aisobj.web.channel import Channel
from aisobj.web.health import State
from aisobj.web.site import Site

HOST = "127.0.0.1:8080"
ACCESS_KEY, SECRET = "BENCHMARK", "benchmark-secret"
KEYS = 200
ROUNDS = 7


class Nowhere(Connection):
    """A TCP connection, and its socket, that takes everything at once. ``answered`` is called for each answer."""

    def __init__(self) -> None:  # not Connection's: there is no socket
        self.head = b""
        self.answered: Callable[[], None] = lambda: None
        self.socket = cast(Any, self)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        self.head = bytes(data[:16])
        self.answered()
        return len(data)

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass


class Bench:
    """A server, and the workloads on it."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._connections = [self._connect() for _ in range(16)]
        self._client = boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}/s3",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def _connect(self) -> tuple[Channel, Nowhere]:
        channel, transport = self._site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 5)), Nowhere()
        channel.makeConnection(transport)  # type: ignore[no-untyped-call]
        return channel, transport

    def presigned(self, method: str, operation: str, parameters: dict[str, object], body: bytes = b"") -> bytes:
        url: str = self._client.generate_presigned_url(operation, Params={"Bucket": "bench", **parameters})
        length = f"Content-Length: {len(body)}\r\n" if method == "PUT" else ""
        return f"{method} {url.removeprefix(f'http://{HOST}')} HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n".encode() + body

    def signed(self, key: str) -> bytes:
        """A GET as boto3 sends it."""
        request = AWSRequest("GET", f"http://{HOST}/s3/bench/{key}", headers={"User-Agent": "Boto3/1.40 md/Botocore"})
        S3SigV4Auth(BotoCredentials(ACCESS_KEY, SECRET), "s3", "us-east-1").add_auth(request)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        return f"GET /s3/bench/{key} HTTP/1.1\r\nHost: {HOST}\r\n{lines}Accept-Encoding: identity\r\n\r\n".encode()

    async def fill(self) -> None:
        await self.run([self.presigned("PUT", "create_bucket", {})], 1)
        body = os.urandom(4096)
        await self.run([self.presigned("PUT", "put_object", {"Key": _key(n)}, body) for n in range(KEYS)], KEYS)
        await self.run([self.presigned("PUT", "put_object", {"Key": f"list/{n:06}"}) for n in range(1000)], 1000)

    async def run(self, requests: Sequence[bytes], count: int) -> None:
        """Answer ``count`` requests, taken in turn, on all connections at once."""
        turn = iter(range(count))
        left = count
        done: Deferred[None] = Deferred()

        def send(channel: Channel) -> None:
            number = next(turn, None)
            if number is not None:
                channel.dataReceived(requests[number % len(requests)])

        def answered(channel: Channel, transport: Nowhere) -> None:
            nonlocal left
            left -= 1
            if not transport.head.startswith(b"HTTP/1.1 200"):
                if not done.called:
                    done.errback(RuntimeError(f"the answer was {transport.head!r}"))
            elif not left:
                done.callback(None)
            else:  # the answer is out, but the channel is still at it
                reactor.callLater(0, send, channel)

        from twisted.internet import reactor  # noqa: PLC0415

        for channel, transport in self._connections:
            transport.answered = partial(answered, channel, transport)
        for channel, _ in self._connections:
            send(channel)
        await done

    def loop(self, requests: Sequence[bytes], count: int) -> None:
        """As :meth:`run` on one connection, for requests that are answered at once."""
        channel, transport = self._connections[0]
        transport.answered = lambda: None
        for number in range(count):
            transport.head = b""
            channel.dataReceived(requests[number % len(requests)])
            self._site.outbox.flush()
            if not transport.head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"the answer was {transport.head!r}")


def _key(number: int) -> str:
    return f"small/{number:06}"


async def measure(name: str, count: int, run: Callable[[int], Awaitable[None]], rows: int) -> None:
    """Print a line; and the profile, if ``rows`` of it are wanted."""
    await run(count)
    best = float("inf")
    for _ in range(ROUNDS):
        started = time.process_time()
        await run(count)
        best = min(best, (time.process_time() - started) / count)
    profile = cProfile.Profile()
    profile.enable()
    await run(count)
    profile.disable()
    stats = cast("dict[tuple[str, int, str], tuple[int, int, float, float, object]]", pstats.Stats(profile).stats)  # type: ignore[attr-defined]
    calls = sum(entry[1] for entry in stats.values()) / count
    print(f"{name:<28}{best * 1e6:>9.1f} us{calls:>9.1f} calls", flush=True)
    for where, entry in sorted(stats.items(), key=lambda item: -item[1][2])[:rows]:
        own, total, times = entry[2] / count * 1e6, entry[3] / count * 1e6, entry[1] / count
        print(f"  {own:7.2f} us {times:6.1f} times {total:8.2f} us in all  {Path(where[0]).name}:{where[1]} {where[2]}")


async def measure_all(bench: Bench, wanted: Sequence[str], rows: int) -> None:
    await bench.fill()
    body = os.urandom(4096)
    keys = [_key(number) for number in range(KEYS)]

    def at_once(requests: Sequence[bytes]) -> Callable[[int], Awaitable[None]]:
        async def run(count: int) -> None:
            bench.loop(requests, count)

        return run

    def in_turn(requests: Sequence[bytes]) -> Callable[[int], Awaitable[None]]:
        return lambda count: bench.run(requests, count)

    presigned = bench.presigned
    head = [presigned("HEAD", "head_object", {"Key": key}) for key in keys]
    put = [presigned("PUT", "put_object", {"Key": f"new/{number:06}"}, body) for number in range(1000)]
    workloads = {
        "get": (
            "GET 4 KiB, presigned",
            5000,
            at_once([presigned("GET", "get_object", {"Key": key}) for key in keys]),
        ),
        "get-header": ("GET 4 KiB, Authorization", 5000, at_once([bench.signed(key) for key in keys])),
        "head": ("HEAD, presigned", 5000, at_once(head)),
        "list-100": (
            "LIST 100 keys",
            200,
            at_once([presigned("GET", "list_objects_v2", {"Prefix": "list/", "MaxKeys": 100})]),
        ),
        "list-1000": ("LIST 1,000 keys", 30, at_once([presigned("GET", "list_objects_v2", {"Prefix": "list/"})])),
        "put": ("PUT 4 KiB, presigned", 2000, in_turn(put)),
    }
    for name, (title, count, run) in workloads.items():
        if not wanted or name in wanted:
            await measure(title, count, run, rows)


async def main(reactor: IServerReactor, wanted: Sequence[str], rows: int) -> None:
    with tempfile.TemporaryDirectory(prefix="ais-s3-bench-") as name:
        data = Path(name, "data")
        lock = lock_data_directory(data)
        store = await open_store(data, reactor=reactor, sync=False, lock=lock)
        await store.start()
        credentials = Credentials([("bench", ACCESS_KEY, SECRET)])
        authenticator = Authenticator(credentials, "", reactor.seconds)
        site = Site(cast("object", None), reactor, access_log=AccessLog(str(Path(name, "access.log"))))  # type: ignore[arg-type]
        site.root = make_root(reactor, site, State(), authenticator, BucketProps(), "", store)
        try:
            await measure_all(Bench(site), wanted, rows)
        finally:
            await store.close()
            lock.release()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wanted", nargs="*", help="get, get-header, head, list-100, list-1000, put (default: all)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="also print the N functions that cost most")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    react(
        lambda reactor: Deferred.fromCoroutine(main(cast(IServerReactor, reactor), arguments.wanted, arguments.profile))
    )
