"""Yardsticks of the machine: its disk as fio and a bare loop see it, and what hashes cost."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import xxhash

from benchmarks.install import program
from benchmarks.load import Sample, percentile


def fio_synced_writes(folder: Path, seconds: float) -> Sample:
    """4 KiB, random, an fsync after each."""
    job = _fio(folder, "--rw=randwrite", "--bs=4k", "--size=64m", "--fsync=1", f"--runtime={max(1, round(seconds))}s")
    write = job["write"]
    return Sample(write["total_ios"], write["runtime"] / 1e3, size=4096)


def fio_sequential(folder: Path, size: int, times: int) -> Sample:
    """Blocks of 1 MiB one after another, and one fsync at the end, which counts."""
    seconds = 0.0
    for _ in range(times):
        started = time.monotonic()
        job = _fio(folder, "--rw=write", "--bs=1m", f"--size={size}", "--end_fsync=1")
        took = job["job_runtime"] / 1e3
        seconds += min(took, time.monotonic() - started)  # without fio's own start
    return Sample(times, seconds, size=size)


def _fio(folder: Path, *options: str) -> Any:
    file = folder / "fio.file"
    timed = ["--time_based"] if any("runtime" in option for option in options) else []
    command = [program("fio"), "--name=disk", f"--filename={file}", "--ioengine=psync", "--output-format=json"]
    try:
        ended = subprocess.run([*command, *options, *timed], capture_output=True, text=True, check=True, timeout=300)
    finally:
        file.unlink(missing_ok=True)
    return json.loads(ended.stdout)["jobs"][0]


def append_loop(folder: Path, seconds: float) -> Sample:
    """4 KiB appended to a file and ``fdatasync``, again and again."""
    path, block, latencies = folder / "append.file", os.urandom(4096), []
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    started = time.monotonic()
    while (before := time.monotonic()) < started + seconds:
        os.write(descriptor, block)
        os.fdatasync(descriptor)
        latencies.append(time.monotonic() - before)
    taken = time.monotonic() - started
    os.close(descriptor)
    path.unlink()
    return Sample(len(latencies), taken, size=4096, p50=percentile(latencies, 0.5), p99=percentile(latencies, 0.99))


def hash_ms(size: int) -> dict[str, float]:
    """Milliseconds of CPU for each hash of so many bytes, the best of three."""
    data, found = os.urandom(size), {}
    hashes: dict[str, Callable[[bytes], object]] = {
        "md5": hashlib.md5,
        "sha256": hashlib.sha256,
        "xxhash": xxhash.xxh64,
        "crc32": zlib.crc32,
    }
    for name, function in hashes.items():
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            function(data)
            best = min(best, time.process_time() - started)
        found[name] = best * 1e3
    return found
