"""checksum.type of a bucket decides the ETag, for objects, parts, multipart objects and copies."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any

import pytest
import xxhash
from awscrt import checksums as crt
from s3fixtures import fresh_name

TYPES: dict[str, Callable[[bytes], bytes]] = {
    "xxhash": lambda data: bytes(xxhash.xxh64_digest(data)),
    "xxhash2": lambda data: bytes(xxhash.xxh64_digest(data)),
    "md5": lambda data: hashlib.md5(data).digest(),
    "crc32c": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "sha256": lambda data: hashlib.sha256(data).digest(),
    "sha512": lambda data: hashlib.sha512(data).digest(),
}
SIZES = [0, 10, 100_000]
BODIES = [os.urandom(size) for size in SIZES]


@pytest.fixture(params=[*TYPES, "none"])
def typed(request: Any, bucket: str, set_checksum_type: Any) -> tuple[str, str]:
    """A bucket, and its type."""
    if request.param != "xxhash":  # which is the default
        set_checksum_type(bucket, request.param)
    return bucket, request.param


def test_etag_of_an_object(s3: Any, typed: tuple[str, str]) -> None:
    bucket, kind = typed
    seen = set()
    for body in (*BODIES, *BODIES):
        etag = s3.put_object(Bucket=bucket, Key="k", Body=body)["ETag"]
        assert etag == s3.head_object(Bucket=bucket, Key="k")["ETag"]
        assert etag == s3.list_objects_v2(Bucket=bucket)["Contents"][0]["ETag"]
        seen.add(etag)
        if kind != "none":
            assert etag == f'"{TYPES[kind](body).hex()}"'
        else:  # the version stands in: 32 hex digits, and what makes clients not take it for an md5
            assert (len(etag), etag[-3:]) == (36, '-0"')
            int(etag[1:33], 16)
    assert len(seen) == (len(BODIES) if kind != "none" else 2 * len(BODIES))


def multipart(s3: Any, bucket: str, key: str, bodies: list[bytes]) -> str:
    names = {"Bucket": bucket, "Key": key}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**names, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    return str(s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})["ETag"])


def test_etag_of_a_multipart_object(s3: Any, typed: tuple[str, str]) -> None:
    bucket, kind = typed
    bodies = [b"x" * (5 << 20), b"end"]
    etag = multipart(s3, bucket, "k", bodies)
    assert etag == s3.head_object(Bucket=bucket, Key="k")["ETag"]
    if kind == "none":
        assert (len(etag), etag[-3:]) == (36, '-0"')
    else:
        digest = TYPES[kind]
        assert etag == f'"{digest(b"".join(map(digest, bodies))).hex()}-2"'
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"".join(bodies)


@pytest.fixture(scope="module")
def targets(s3: Any, set_checksum_type: Any) -> dict[str, str]:
    """Type -> a bucket of that type."""
    made = {}
    for kind in ("md5", "xxhash"):
        made[kind] = fresh_name()
        s3.create_bucket(Bucket=made[kind])
        set_checksum_type(made[kind], kind)
    return made


def test_a_copy_has_the_etag_of_its_bucket(s3: Any, typed: tuple[str, str], targets: dict[str, str]) -> None:
    """Also where that means to read the data; and conditions know the new one."""
    bucket, _ = typed
    for body in BODIES[1:]:
        s3.put_object(Bucket=bucket, Key="source", Body=body)
        for other, target in targets.items():
            done = s3.copy_object(Bucket=target, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
            assert done["CopyObjectResult"]["ETag"] == f'"{TYPES[other](body).hex()}"'
            got = s3.get_object(Bucket=target, Key="copy", IfMatch=done["CopyObjectResult"]["ETag"])
            assert got["Body"].read() == body


def test_changing_the_type_leaves_objects_and_uploads_as_they_are(s3: Any, bucket: str, set_checksum_type: Any) -> None:
    body = b"body"
    before = s3.put_object(Bucket=bucket, Key="old", Body=body)["ETag"]
    names = {"Bucket": bucket, "Key": "upload"}
    names["UploadId"] = s3.create_multipart_upload(**names)["UploadId"]
    set_checksum_type(bucket, "md5")
    assert s3.head_object(Bucket=bucket, Key="old")["ETag"] == before
    assert s3.put_object(Bucket=bucket, Key="new", Body=body)["ETag"] == f'"{hashlib.md5(body).hexdigest()}"'
    part = s3.upload_part(**names, PartNumber=1, Body=body)["ETag"]
    assert part == f'"{TYPES["xxhash"](body).hex()}"'
    s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part}]})
    s3.get_object(Bucket=bucket, Key="old", IfMatch=before)


@pytest.mark.parametrize("kind", ["md5", "none", "sha512"])
def test_the_type_of_new_buckets_is_an_option(make_server: Any, kind: str) -> None:
    client = make_server("--checksum", kind).boto()
    client.create_bucket(Bucket="b-1")
    etag = client.put_object(Bucket="b-1", Key="k", Body=b"x")["ETag"]
    assert etag.endswith('-0"') if kind == "none" else etag == f'"{TYPES[kind](b"x").hex()}"'


def test_a_stored_checksum_of_the_client_does_not_change_the_etag(s3: Any, bucket: str) -> None:
    plain = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    assert s3.put_object(Bucket=bucket, Key="k", Body=b"x", ChecksumAlgorithm="SHA256")["ETag"] == plain
