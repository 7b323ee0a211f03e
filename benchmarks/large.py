"""Large objects: GET, ranges, PUT, and what moves no bytes: copies and completed uploads."""

from __future__ import annotations

import base64
import hashlib
import socket
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from benchmarks.disk import fio_sequential
from benchmarks.load import Sample, calls, downloads, random_file, uploads
from benchmarks.servers import BUCKET, Ais, Server
from benchmarks.workload import DISK, MIB, NGINX, OURS, SEAWEED, Bench, Round, Target, Workload, cpu_of, rate, same

LARGE = 64 * MIB
CONNECTIONS = 4

#: parts that a small and a huge object both have: 64 MiB in parts of 5 MiB
PARTS = 13
_PART = 5 * MIB
_COPIES, _COMPLETES = 40, 5
#: uploads on each connection in a round: what they replace stays on the disk for ten minutes
_UPLOADS = 8


def body_file(bench: Bench) -> Path:
    path = bench.folder / "body"
    return path if path.exists() else random_file(path, LARGE)


def fill_large(bench: Bench, server: Server) -> None:
    bench.once("large", server, lambda bench, server: server.put("large", body_file(bench).read_bytes()))


def get(tls: bool = False) -> Callable[[Bench, Server], Sample]:
    def run(bench: Bench, server: Server) -> Sample:
        url = server.target("get_object", "large", tls=tls)
        return downloads(server, [url] * CONNECTIONS, size=LARGE, seconds=bench.seconds, tls=tls)

    return run


def get_range(bench: Bench, server: Server) -> Sample:
    """Another MiB in each round."""
    urls = [server.target("get_object", "large")] * CONNECTIONS
    first = 7 * MIB * (bench.round + 1)
    headers = f"Range: bytes={first}-{first + MIB - 1}\r\n"
    return downloads(server, urls, size=MIB, seconds=bench.seconds, headers=headers)


def put(bench: Bench, server: Server) -> Sample:
    """PUT on 4 connections, over the same 4 keys: replaced objects go, so a disk of any size will do."""
    host, port = server.address

    def head(number: int) -> Callable[[], bytes]:
        target = server.target("put_object", f"put/{number}")
        lines = f"PUT {target} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {LARGE}\r\n\r\n"
        return lines.encode

    return uploads(
        server, [head(number) for number in range(CONNECTIONS)], body_file(bench), seconds=bench.seconds, most=_UPLOADS
    )


def put_on(checksum: str) -> Callable[[Bench, Server], Sample]:
    def run(bench: Bench, server: Server) -> Sample:
        assert isinstance(server, Ais)
        server.set_checksum(checksum)
        try:
            return put(bench, server)
        finally:
            server.set_checksum("xxhash")

    return run


class _Precomputed(S3SigV4Auth):
    """Signs a payload whose SHA-256 is known."""

    digest = ""

    def payload(self, request: object) -> str:
        return self.digest


def put_as_boto3(bench: Bench, server: Server) -> Sample:
    """The head that boto3 sends over plain HTTP: SHA-256 of the payload signed, CRC32 beside it."""
    host, port = server.address
    data = body_file(bench).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    crc32 = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    signer = _Precomputed(Credentials(server.access_key, server.secret), "s3", "us-east-1")
    signer.digest = digest

    def head(number: int) -> Callable[[], bytes]:
        headers = {"x-amz-checksum-crc32": crc32, "x-amz-sdk-checksum-algorithm": "CRC32", "Content-Length": str(LARGE)}
        request = AWSRequest("PUT", f"{server.url}/{BUCKET}/put/{number}", headers=headers)
        signer.add_auth(request)
        lines = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        path = "/" + str(request.url).split("/", 3)[3]
        return f"PUT {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{lines}\r\n".encode

    heads = [head(number) for number in range(CONNECTIONS)]
    return uploads(server, heads, body_file(bench), seconds=bench.seconds, most=_UPLOADS)


def _fio(bench: Bench, server: Server) -> Sample:
    return fio_sequential(server.home, 4 * LARGE, 2)


def _plus_hash(name: str, factor: float, over: float, *hashes: str) -> Target:
    """CPU at most that of nginx (times ``over``) and of the hashes (times ``factor``): the ratio to that sum."""

    def figure(of: Round) -> float:
        time = sum(of[OURS].more[f"{each} ms"] for each in hashes)
        return of[OURS].cpu_ms / (over * of[NGINX].cpu_ms + factor * time)

    return Target(name, figure, 1.0)


def _with_hashes(run: Callable[[Bench, Server], Sample]) -> Callable[[Bench, Server], Sample]:
    def measured(bench: Bench, server: Server) -> Sample:
        sample = run(bench, server)
        sample.more = {f"{name} ms": value for name, value in bench.hashes(LARGE).items()}
        return sample

    return measured


# Copies and completed uploads -----------------------------------------------------------------------------------------


def new_uploads(server: Server, key: str, parts: int, size: int, count: int = 1) -> list[Callable[[], object]]:
    """Uploads whose parts, of ``size`` bytes each, are there; calling a result completes one.

    The parts are links (``bulk_upload``), so they may be huge and many. The server stops for it.
    """
    assert isinstance(server, Ais)
    server.stop()
    command = [sys.executable, "-m", "benchmarks.bulk_upload", str(server.data), key, str(parts), str(size)]
    command += [f"--bucket={BUCKET}", f"--uploads={count}"]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)
    server.__dict__.pop("client", None)  # it gets another port
    server.start()
    return [_completion(server, *line.split()) for line in made.stdout.splitlines()]


def _completion(server: Server, key: str, upload: str) -> Callable[[], object]:
    """Its document is written beforehand: boto3 takes longer for 10,000 parts than a server."""
    pages = server.client.get_paginator("list_parts").paginate(Bucket=BUCKET, Key=key, UploadId=upload)
    parts = "".join(
        f"<Part><PartNumber>{part['PartNumber']}</PartNumber><ETag>{part['ETag']}</ETag></Part>"
        for page in pages
        for part in page["Parts"]
    )
    body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
    (host, port), target = server.address, server.target("complete_multipart_upload", key, UploadId=upload)
    head = f"POST {target} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n\r\n".encode()

    def complete_it() -> None:
        with socket.create_connection((host, port), 60) as connection:
            connection.sendall(head + body)
            answer = b""
            while not answer.endswith(b"</CompleteMultipartUploadResult>"):
                received = connection.recv(65536)
                answer += received
                if not received or b"</Error>" in answer:
                    raise RuntimeError(f"not completed: {answer[-300:]!r}")

    return complete_it


def fill_parts(bench: Bench, server: Server) -> None:
    """Two objects of 13 parts each: of 64 MiB, and of 5 GiB, the most that CopyObject takes."""

    def fill(bench: Bench, server: Server) -> None:
        for name, size in (("small", _PART), ("huge", (5 << 30) // PARTS)):
            [complete_it] = new_uploads(server, f"parts/{name}", PARTS, size)
            complete_it()

    bench.once("parts", server, fill)


def copy(name: str) -> Callable[[Bench, Server], Sample]:
    def run(bench: Bench, server: Server) -> Sample:
        source = {"Bucket": BUCKET, "Key": f"parts/{name}"}

        def copy_once() -> None:
            server.client.copy_object(Bucket=BUCKET, Key=f"copy/{name}", CopySource=source)

        copy_once()  # the server may just have started
        return calls(server, [copy_once] * _COPIES)

    return run


def complete(size: int) -> Callable[[Bench, Server], Sample]:
    """Uploads of 13 parts."""

    def run(bench: Bench, server: Server) -> Sample:
        first, *others = new_uploads(server, "completed", PARTS, size, 1 + _COMPLETES)
        first()  # the server has just started
        return calls(server, others)

    return run


_SMALL, _HUGE, _LARGER, _FIO = "64 MiB", "5 GiB", "10 GiB", "fio sequential, synced"


def _alike(large: str) -> tuple[Target, Target]:
    return (
        Target(f"CPU for {large} ≤ 1.15 × that for 64 MiB", lambda of: of[large].cpu_ms / of[_SMALL].cpu_ms, 1.15),
        Target(f"median time for {large} ≤ 1.15 × that for 64 MiB", lambda of: of[large].p50 / of[_SMALL].p50, 1.15),
    )


_PUT_DISK = 5 * 2 * _UPLOADS * CONNECTIONS * LARGE

WORKLOADS = [
    Workload(
        "get-64m",
        "GET 64 MiB, 4 connections",
        same(get(), OURS, NGINX, SEAWEED),
        (rate(0.9, NGINX), cpu_of(1.7, NGINX)),
        fill_large,
    ),
    Workload("get-64m-tls", "GET 64 MiB over TLS", same(get(tls=True), OURS, NGINX), (rate(0.7, NGINX),), fill_large),
    Workload("range-1m", "GET 1 MiB range of 64 MiB", same(get_range, OURS, NGINX), (rate(0.8, NGINX),), fill_large),
    Workload(
        "put-64m",
        "PUT 64 MiB durable, xxhash bucket",
        same(put, OURS, NGINX, SEAWEED) | {_FIO: (DISK, _fio)},
        (
            Target("≥ 0.8 × fio's MB/s", lambda of: of[OURS].megabytes / of[_FIO].megabytes, 0.8, at_most=False),
            cpu_of(1.3, NGINX),
        ),
        disk=_PUT_DISK,
    ),
    Workload(
        "put-64m-md5",
        "PUT 64 MiB durable, md5 bucket",
        {OURS: (OURS, _with_hashes(put_on("md5"))), NGINX: (NGINX, put), _FIO: (DISK, _fio)},
        (
            Target("≥ 0.8 × fio's MB/s", lambda of: of[OURS].megabytes / of[_FIO].megabytes, 0.8, at_most=False),
            _plus_hash("CPU ≤ nginx + 1.15 × md5 (share of that)", 1.15, 1.0, "md5"),
        ),
        disk=_PUT_DISK,
    ),
    Workload(
        "put-64m-boto3",
        "PUT 64 MiB as boto3 sends it",
        {OURS: (OURS, _with_hashes(put_as_boto3)), NGINX: (NGINX, put), SEAWEED: (SEAWEED, put_as_boto3)},
        (
            _plus_hash(
                "CPU ≤ sha256 + crc32 + xxhash + 1.3 × nginx (share of that)", 1.0, 1.3, "sha256", "crc32", "xxhash"
            ),
        ),
        disk=_PUT_DISK,
    ),
    Workload(
        "copy",
        f"CopyObject, {PARTS} parts",
        {_SMALL: (OURS, copy("small")), _HUGE: (OURS, copy("huge"))},
        _alike(_HUGE),
        fill_parts,
        latency=True,
        disk=1 << 30,
    ),
    Workload(
        "complete",
        f"CompleteMultipartUpload, {PARTS} parts",
        {_SMALL: (OURS, complete(_PART)), _LARGER: (OURS, complete((10 << 30) // PARTS))},
        _alike(_LARGER),
        latency=True,
        rounds=3,
        disk=4 * (1 + _COMPLETES) << 30,
    ),
]
