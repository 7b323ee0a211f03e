"""Fixtures of the end-to-end S3 tests: clients of a real server, and buckets that nobody else uses."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import pytest
from botocore.exceptions import ClientError
from plainkit import Presigner
from s3raw import Sender, Wire, user_of

_names = (f"bucket-{number}" for number in itertools.count(1))


def fresh_name() -> str:
    """A bucket name that no other test of this run has."""
    return next(_names)


@contextmanager
def refused(code: str, status: int) -> Iterator[dict[str, Any]]:
    """What a boto client is told; yields the response, which is filled in at the end. A HEAD has only its status."""
    answer: dict[str, Any] = {}
    with pytest.raises(ClientError) as caught:
        yield answer
    answer.update(caught.value.response)
    found = (answer["Error"]["Code"], answer["ResponseMetadata"]["HTTPStatusCode"])
    assert found == (code, status), answer


@pytest.fixture(scope="session")
def s3(server: Any) -> Any:
    """A boto3 client of the open server."""
    return server.boto()


@pytest.fixture
def bucket(s3: Any) -> str:
    name = fresh_name()
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture(scope="session")
def raw(server: Any) -> Sender:
    """Hand-made requests to the open server; targets begin with ``/s3``."""
    return Sender(server.endpoint)


@pytest.fixture(scope="session")
def signed_s3(signed_server: Any) -> Any:
    """A boto3 client of the server with credentials."""
    return signed_server.boto()


@pytest.fixture
def signed_bucket(signed_s3: Any) -> str:
    name = fresh_name()
    signed_s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def presigner(signed_server: Any) -> Presigner:
    """Its URLs have no parameters of checksums."""
    config = {"signature_version": "s3v4", "request_checksum_calculation": "when_required"}
    return Presigner(signed_server, signed_server.boto(config=config))


@pytest.fixture(scope="session")
def signed(signed_server: Any) -> Sender:
    """Hand-made requests to the server with credentials, each rightly signed."""
    return Sender(signed_server.endpoint, user_of(signed_server))


@pytest.fixture(scope="session")
def anonymous(signed_server: Any) -> Sender:
    """Hand-made requests to the server with credentials, none signed."""
    return Sender(signed_server.endpoint)


@pytest.fixture(scope="session")
def set_checksum_type(server: Any) -> Callable[[str, str], None]:
    """``set_checksum_type(bucket, type)``: as ``ais bucket props set`` does."""
    sender = Sender(server.endpoint)

    def set_type(name: str, checksum_type: str) -> None:
        message = {"action": "set-bprops", "value": {"checksum": {"type": checksum_type}}}
        headers = [("content-type", "application/json")]
        answer = sender.ask("PATCH", f"/v1/buckets/{name}?provider=ais", headers, json.dumps(message).encode())
        assert answer.status == 200, answer

    return set_type


class SlowConnections(NamedTuple):
    """Clients that stopped in the middle of something, and when."""

    head: Wire
    body: Wire
    since: float
    others: tuple[Wire, Wire]  #: as these


@pytest.fixture(scope="session")
def slow_connections(server: Any, raw: Sender) -> Iterator[SlowConnections]:
    """Opened by the first test module that may, so that the last one has not long to wait for their time-outs."""
    with raw.connect() as head, raw.connect() as body, raw.connect() as head2, raw.connect() as body2:
        for wire in (head, head2):
            wire.send(b"GET /s3 HTTP/1.1\r\nHost: loc")
        for wire in (body, body2):
            wire.send(raw.head("PUT", "/slow-bucket", length=100) + b"<")
        yield SlowConnections(head, body, time.monotonic(), (head2, body2))
