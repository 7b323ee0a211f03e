"""Clients that the ``test`` extra does not bring: each test skips where its client is not installed.

Not collected unless it is asked for: ``pytest tests/optional``. Libraries are imported by the Python that runs the
tests, programs are looked for beside it and in PATH, packages of npm in ``NODE_PATH``. docs/getting-started.md has each
client's settings, and these tests use them as they stand there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest
from certificates import self_signed
from server import CREDENTIALS, ServerProcess, running
from targets import Target


@pytest.fixture(scope="session")
def both_ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Target]]:
    """An open server and one with credentials; the latter over TLS too."""
    key, certificate = self_signed(tmp_path_factory.mktemp("certificate"))
    os.environ["TENSORSTORE_CA_BUNDLE"] = str(certificate)  # which tensorstore reads once
    listen = ("tcp:0:interface=127.0.0.1", f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}")
    with (
        running(ServerProcess(tmp_path_factory.mktemp("open"))) as free,
        running(ServerProcess(tmp_path_factory.mktemp("signed"), credentials=CREDENTIALS, listen=listen)) as signed,
    ):
        yield {
            "open": Target(free, free.endpoint, None),
            "credentials": Target(signed, signed.endpoint, None),
            "tls": Target(signed, signed.urls[1], certificate),
        }


@pytest.fixture(params=["open", "credentials", "tls"])
def target(request: pytest.FixtureRequest, both_ways: Mapping[str, Target], monkeypatch: pytest.MonkeyPatch) -> Target:
    """Each server in turn, with its variables set for libraries that read them."""
    for name in list(os.environ):
        if name.startswith(("AWS_", "AIS_", "S3_")):
            monkeypatch.delenv(name)
    chosen = both_ways[request.param]
    for name, value in chosen.env().items():
        monkeypatch.setenv(name, value)
    return chosen
