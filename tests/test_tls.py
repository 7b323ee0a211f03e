"""S3 over TLS. Here boto3 and the AWS CLI send bodies in the aws-chunked form with their checksum as a trailer."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3.s3.transfer
import pytest
from certificates import self_signed
from clients import Tool, aws
from s3fixtures import fresh_name
from server import CREDENTIALS, ServerProcess, running

MIB = 1 << 20


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return self_signed(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=["open", "credentials"])
def tls_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, certificate: tuple[Path, Path]
) -> Iterator[ServerProcess]:
    key, cert = certificate
    endpoint = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={cert}"
    credentials = CREDENTIALS if request.param == "credentials" else None
    with running(ServerProcess(tmp_path_factory.mktemp("tls"), credentials=credentials, listen=(endpoint,))) as server:
        assert server.endpoint.startswith("https://")
        yield server


@pytest.fixture(scope="module")
def s3(tls_server: ServerProcess, certificate: tuple[Path, Path]) -> Any:
    return tls_server.boto(verify=str(certificate[1]))


@pytest.fixture
def run(tls_server: ServerProcess, certificate: tuple[Path, Path], tmp_path: Path) -> Tool:
    return aws(tls_server, tmp_path, AWS_CA_BUNDLE=str(certificate[1]))


def test_boto3_in_one_request_each_way(s3: Any) -> None:
    bucket, content = fresh_name(), os.urandom(32 * MIB)
    s3.create_bucket(Bucket=bucket)
    sent: list[Any] = []
    s3.meta.events.register("before-send.s3.PutObject", lambda request, **_: sent.append(request))
    s3.put_object(Bucket=bucket, Key="k", Body=io.BytesIO(content))
    assert sent[0].headers["x-amz-content-sha256"] in (
        "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        b"STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    )
    answer = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert answer["ChecksumCRC32"]
    assert _same(answer["Body"].read(), content)


def test_boto3_in_parts(s3: Any, tmp_path: Path) -> None:
    bucket, content = fresh_name(), os.urandom(32 * MIB)
    (tmp_path / "f").write_bytes(content)
    s3.create_bucket(Bucket=bucket)
    parts = boto3.s3.transfer.TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=8 * MIB)
    s3.upload_file(str(tmp_path / "f"), bucket, "k", Config=parts)
    s3.download_file(bucket, "k", str(tmp_path / "back"), Config=parts)
    assert _same((tmp_path / "back").read_bytes(), content)


def test_the_aws_cli(run: Tool, tmp_path: Path) -> None:
    bucket, content = f"s3://{fresh_name()}", os.urandom(32 * MIB)
    (tmp_path / "f").write_bytes(content)
    run("s3", "mb", bucket)
    run("s3", "cp", "--no-progress", "f", f"{bucket}/k")
    run("s3", "cp", "--no-progress", f"{bucket}/k", "back")
    assert _same((tmp_path / "back").read_bytes(), content)


def test_a_client_that_does_not_trust_the_certificate_goes_away(tls_server: ServerProcess, tmp_path: Path) -> None:
    assert "SSL validation failed" in aws(tls_server, tmp_path)("s3", "ls", status=None).err


def _same(one: bytes, other: bytes) -> bool:
    """Without pytest's comparison of 32 MiB, line by line."""
    return hashlib.sha256(one).digest() == hashlib.sha256(other).digest()
