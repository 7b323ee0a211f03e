"""What the server's own code costs per request, without the network: for work on the hot path.

A whole server (signatures, resource tree, store on disk, access log, metrics) in this process answers requests that are
handed to its channels directly; what it sends goes nowhere. So the figures hold neither system calls of a socket nor
the reactor's own work per event: ``python -m benchmarks`` measures those too, but with more noise.

A line tells the microseconds of CPU per request (the best of several rounds, since other programs only ever add) and
how many calls of functions, Python's and C's, one request makes. The calls do not move with noise: compare those first.
For a PUT, which is not durable here, the index writer's own process is not counted. ::

    python -m benchmarks.request_cost                     # every workload
    python -m benchmarks.request_cost get --profile 40    # one, with the 40 functions that take longest
    python -m benchmarks.request_cost get --bytecodes 40  # ... and with the 40 that run most bytecodes
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials as BotoCredentials
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from aisobj.tap import IServerReactor
from benchmarks.bytecodes import print_bytecodes
from benchmarks.inprocess import ACCESS_KEY, HOST, SECRET, Channels, serving

KEYS = 200
LISTED = 1000
ROUNDS = 7
_BODY = bytes(range(256)) * 16  # the same each time: instructions are counted


@cache
def _client() -> Any:
    return boto3.client(
        "s3",
        endpoint_url=f"http://{HOST}/s3",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET,
        region_name="us-east-1",
        config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
    )


def presigned(method: str, operation: str, parameters: dict[str, object], body: bytes = b"") -> bytes:
    url: str = _client().generate_presigned_url(operation, Params={"Bucket": "bench", **parameters})
    length = f"Content-Length: {len(body)}\r\n" if method == "PUT" else ""
    return f"{method} {url.removeprefix(f'http://{HOST}')} HTTP/1.1\r\nHost: {HOST}\r\n{length}\r\n".encode() + body


def signed(key: str) -> bytes:
    """A GET as boto3 sends it."""
    request = AWSRequest("GET", f"http://{HOST}/s3/bench/{key}", headers={"User-Agent": "Boto3/1.40 md/Botocore"})
    S3SigV4Auth(BotoCredentials(ACCESS_KEY, SECRET), "s3", "us-east-1").add_auth(request)
    lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return f"GET /s3/bench/{key} HTTP/1.1\r\nHost: {HOST}\r\n{lines}Accept-Encoding: identity\r\n\r\n".encode()


def fill() -> list[bytes]:
    """What makes the bucket and the objects that the others read, in this order."""
    made = [presigned("PUT", "create_bucket", {})]
    made += [presigned("PUT", "put_object", {"Key": key}, _BODY) for key in _keys()]
    return made


def _keys() -> list[str]:
    return [f"small/{number:06}" for number in range(KEYS)]


def gets() -> list[bytes]:
    return [presigned("GET", "get_object", {"Key": key}) for key in _keys()]


def heads() -> list[bytes]:
    return [presigned("HEAD", "head_object", {"Key": key}) for key in _keys()]


def puts() -> list[bytes]:
    return [presigned("PUT", "put_object", {"Key": f"new/{number:06}"}, _BODY) for number in range(1000)]


async def measure(name: str, count: int, run: Callable[[int], Awaitable[None]], wanted: argparse.Namespace) -> None:
    """Print a line; and the profiles, if rows of them are wanted."""
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
    for where, entry in sorted(stats.items(), key=lambda item: -item[1][2])[: wanted.profile]:
        own, total, times = entry[2] / count * 1e6, entry[3] / count * 1e6, entry[1] / count
        print(f"  {own:7.2f} us {times:6.1f} times {total:8.2f} us in all  {Path(where[0]).name}:{where[1]} {where[2]}")
    if wanted.bytecodes:
        await print_bytecodes(run, wanted.bytecodes)


async def measure_all(channels: Channels, wanted: argparse.Namespace) -> None:
    for request in fill():
        await channels.run([request], 1)
    listed = [presigned("PUT", "put_object", {"Key": f"list/{number:06}"}) for number in range(LISTED)]
    await channels.run(listed, LISTED)

    def at_once(requests: Sequence[bytes]) -> Callable[[int], Awaitable[None]]:
        async def run(count: int) -> None:
            channels.loop(requests, count)

        return run

    def in_turn(requests: Sequence[bytes]) -> Callable[[int], Awaitable[None]]:
        return lambda count: channels.run(requests, count)

    page = {"Prefix": "list/"}
    workloads = {
        "get": ("GET 4 KiB, presigned", 5000, at_once(gets())),
        "get-header": ("GET 4 KiB, Authorization", 5000, at_once([signed(key) for key in _keys()])),
        "head": ("HEAD, presigned", 5000, at_once(heads())),
        "list-100": ("LIST 100 keys", 200, in_turn([presigned("GET", "list_objects_v2", {**page, "MaxKeys": 100})])),
        "list-1000": ("LIST 1,000 keys", 30, in_turn([presigned("GET", "list_objects_v2", {**page})])),
        "put": ("PUT 4 KiB, presigned", 2000, in_turn(puts())),
    }
    for name, (title, count, run) in workloads.items():
        if not wanted.workloads or name in wanted.workloads:
            await measure(title, count, run, wanted)


async def main(reactor: IServerReactor, wanted: argparse.Namespace) -> None:
    async with serving(reactor) as channels:
        await measure_all(channels, wanted)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", help="get, get-header, head, list-100, list-1000, put (default: all)")
    parser.add_argument("--profile", type=int, default=0, metavar="N", help="also print the N functions that cost most")
    parser.add_argument("--bytecodes", type=int, default=0, metavar="N", help="and the N that run most bytecodes")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = parse()
    react(lambda reactor: Deferred.fromCoroutine(main(cast(IServerReactor, reactor), arguments)))
