"""What whole client programs do: boto3's transfers of 256 MiB, and ``s5cmd cp`` of a folder both ways."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from benchmarks.install import program
from benchmarks.load import Sample, calls, random_file
from benchmarks.servers import BUCKET, Server
from benchmarks.small import S3_PEERS
from benchmarks.workload import MIB, OURS, Bench, Workload, best_peer, same

SIZE = 256 * MIB
SMALL, MEDIUM = (2000, 4096), (50, MIB)


def _file(bench: Bench) -> Path:
    path = bench.folder / "transfer"
    return path if path.exists() else random_file(path, SIZE)


def upload_file(bench: Bench, server: Server) -> Sample:
    path = str(_file(bench))
    return calls(server, [lambda: server.client.upload_file(path, BUCKET, "transfer")], SIZE)


def download_file(bench: Bench, server: Server) -> Sample:
    bench.once("transfer", server, upload_file)
    path = str(bench.folder / "downloaded")
    sample = calls(server, [lambda: server.client.download_file(BUCKET, "transfer", path)], SIZE)
    Path(path).unlink()
    return sample


def _folder(bench: Bench) -> Path:
    folder = bench.folder / "many"
    if not folder.exists():
        for count, size in (SMALL, MEDIUM):
            (folder / str(size)).mkdir(parents=True)
            for number in range(count):
                (folder / str(size) / f"{number:06}").write_bytes(os.urandom(size))
    return folder


def _s5cmd(server: Server, *arguments: str) -> Callable[[], object]:
    # From the root: the AWS SDK for Go drops the path of an endpoint from what it signs in some releases.
    host, port = server.address
    command = [program("s5cmd"), "--endpoint-url", f"http://{host}:{port}", "cp", *arguments]
    environment = os.environ | {
        "AWS_ACCESS_KEY_ID": server.access_key,
        "AWS_SECRET_ACCESS_KEY": server.secret,
        "AWS_REGION": "us-east-1",
    }

    def run() -> None:
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        if ended.returncode:
            raise RuntimeError(f"s5cmd: {ended.stderr.strip()[-300:]}")

    return run


_BYTES = sum(count * size for count, size in (SMALL, MEDIUM))


def s5cmd_up(bench: Bench, server: Server) -> Sample:
    return calls(server, [_s5cmd(server, f"{_folder(bench)}/", f"s3://{BUCKET}/many/")], _BYTES)


def s5cmd_down(bench: Bench, server: Server) -> Sample:
    bench.once("many", server, s5cmd_up)
    target = bench.folder / "copied"
    sample = calls(server, [_s5cmd(server, f"s3://{BUCKET}/many/*", f"{target}/")], _BYTES)
    files = sum(path.is_file() for path in target.rglob("*"))
    sample.errors = SMALL[0] + MEDIUM[0] - files
    shutil.rmtree(target)
    return sample


WORKLOADS = [
    Workload(name, title, same(run, OURS, *S3_PEERS), (best_peer(1.5),), disk=5 << 30)
    for name, title, run in (
        ("boto3-upload", "boto3 upload_file of 256 MiB", upload_file),
        ("boto3-download", "boto3 download_file of 256 MiB", download_file),
        ("s5cmd-up", "s5cmd cp of 2,000 × 4 KiB + 50 × 1 MiB, up", s5cmd_up),
        ("s5cmd-down", "s5cmd cp of 2,000 × 4 KiB + 50 × 1 MiB, down", s5cmd_down),
    )
]
