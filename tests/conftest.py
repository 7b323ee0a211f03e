"""Servers for tests. ``server`` and ``signed_server`` are shared by all tests: use buckets with names of your own."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent.parent))  # for the programs beside the package: benchmarks, reliability

from aisapi import api
from badinputs import world
from fsck import check_directory
from s3fixtures import (
    anonymous,
    bucket,
    presigner,
    raw,
    s3,
    set_checksum_type,
    signed,
    signed_bucket,
    signed_s3,
    slow_connections,
)
from server import CREDENTIALS, ServerProcess, running

__all__ = [
    "anonymous",
    "api",
    "bucket",
    "presigner",
    "raw",
    "s3",
    "set_checksum_type",
    "signed",
    "signed_bucket",
    "signed_s3",
    "slow_connections",
    "world",
]  # fixtures


# A shell's background has SIGINT ignored, and so would have all that the tests start, and send one to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An open server."""
    with running(ServerProcess(tmp_path_factory.mktemp("server"))) as process:
        yield process
    assert check_directory(process.data) == []


@pytest.fixture(scope="session")
def signed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with ``CREDENTIALS``."""
    with running(ServerProcess(tmp_path_factory.mktemp("signed"), credentials=CREDENTIALS)) as process:
        yield process
    assert check_directory(process.data) == []


@pytest.fixture
def make_server(tmp_path: Path) -> Iterator[Callable[..., ServerProcess]]:
    """``make_server(*options, **arguments of ServerProcess)``: a server of the test's own, started (unless
    ``start=False``), ended after the test."""
    made: list[ServerProcess] = []

    def make(*options: str, start: bool = True, home: Path | None = None, **arguments: Any) -> ServerProcess:
        process = ServerProcess(home or tmp_path / f"server{len(made)}", *options, **arguments)
        made.append(process)
        return process.start() if start else process

    yield make
    for process in made:
        process.finish()
