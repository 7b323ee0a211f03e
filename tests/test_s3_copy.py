"""CopyObject: within a bucket and across, directives, conditions, checksums."""

from __future__ import annotations

import os
from email.utils import formatdate
from typing import Any

import pytest
from s3fixtures import fresh_name, refused
from s3raw import Sender

from aisobj.storage.store import INLINE_LIMIT

SOURCE = {"ContentType": "a/b", "CacheControl": "max-age=1", "Metadata": {"m": "1"}}


@pytest.fixture
def source(s3: Any, bucket: str) -> dict[str, str]:
    s3.put_object(Bucket=bucket, Key="source", Body=b"body", **SOURCE)
    return {"Bucket": bucket, "Key": "source"}


@pytest.mark.parametrize("size", [0, 100, INLINE_LIMIT + 1, 3_000_000])
def test_a_copy_is_the_same_bytes_and_outlives_its_source(s3: Any, bucket: str, size: int) -> None:
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="source", Body=body, **SOURCE)
    other = fresh_name()
    s3.create_bucket(Bucket=other)
    for target in (bucket, other):
        done = s3.copy_object(Bucket=target, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
        assert done["CopyObjectResult"]["ETag"] == put["ETag"]
        assert done["CopyObjectResult"]["LastModified"]
    s3.delete_object(Bucket=bucket, Key="source")
    for target in (bucket, other):
        got = s3.get_object(Bucket=target, Key="copy")
        assert got["Body"].read() == body
        assert {name: got[name] for name in SOURCE} == SOURCE


def test_the_metadata_directive(s3: Any, source: dict[str, str]) -> None:
    bucket = source["Bucket"]
    new = {"ContentType": "c/d", "Metadata": {"n": "2"}}
    s3.copy_object(Bucket=bucket, Key="copied", CopySource=source, MetadataDirective="COPY", **new)
    assert s3.head_object(Bucket=bucket, Key="copied")["Metadata"] == SOURCE["Metadata"]
    s3.copy_object(Bucket=bucket, Key="replaced", CopySource=source, MetadataDirective="REPLACE", **new)
    head = s3.head_object(Bucket=bucket, Key="replaced")
    assert (head["ContentType"], head["Metadata"], head.get("CacheControl")) == ("c/d", {"n": "2"}, None)
    s3.copy_object(Bucket=bucket, Key="plain", CopySource=source, MetadataDirective="REPLACE")
    assert s3.head_object(Bucket=bucket, Key="plain")["ContentType"] == "binary/octet-stream"


def test_a_directive_is_copy_or_replace(raw: Sender, source: dict[str, str]) -> None:
    for name in ("x-amz-metadata-directive", "x-amz-tagging-directive"):
        fields = [("x-amz-copy-source", f"{source['Bucket']}/source"), (name, "MERGE")]
        answer = raw.ask("PUT", f"/s3/{source['Bucket']}/copy", fields)
        assert (answer.status, answer.code) == (400, "InvalidArgument")
        for value in ("COPY", "REPLACE"):
            fields = [("x-amz-copy-source", f"{source['Bucket']}/source"), (name, value)]
            assert raw.ask("PUT", f"/s3/{source['Bucket']}/copy", fields).status == 200


def test_a_copy_onto_itself_must_change_something(s3: Any, source: dict[str, str]) -> None:
    with refused("InvalidRequest", 400):
        s3.copy_object(**source, CopySource=source)
    s3.copy_object(**source, CopySource=source, MetadataDirective="REPLACE", Metadata={"n": "2"})
    got = s3.get_object(**source)
    assert (got["Body"].read(), got["Metadata"]) == (b"body", {"n": "2"})
    s3.copy_object(**source, CopySource=source, ChecksumAlgorithm="SHA256")
    assert s3.head_object(**source, ChecksumMode="ENABLED")["ChecksumSHA256"]
    assert s3.head_object(**source)["Metadata"] == {"n": "2"}


def test_a_copy_onto_itself_may_name_the_storage_class_that_it_has(s3: Any, source: dict[str, str]) -> None:
    before = s3.head_object(**source, ChecksumMode="ENABLED")
    done = s3.copy_object(**source, CopySource=source, StorageClass="STANDARD")
    after = s3.head_object(**source, ChecksumMode="ENABLED")
    assert done["CopyObjectResult"]["ETag"] == before["ETag"] == after["ETag"]
    assert (after["Metadata"], after["ChecksumCRC32"]) == (before["Metadata"], before["ChecksumCRC32"])
    assert s3.get_object(**source)["Body"].read() == b"body"


def test_conditions_on_the_source(raw: Sender, s3: Any, source: dict[str, str]) -> None:
    bucket = source["Bucket"]
    head = raw.ask("HEAD", f"/s3/{bucket}/source").headers
    etag, modified, past = head["etag"], head["last-modified"], formatdate(0, usegmt=True)
    for conditions, status in (
        ({"match": etag}, 200),
        ({"match": '"x"'}, 412),
        ({"none-match": '"x"'}, 200),
        ({"none-match": etag}, 412),
        ({"modified-since": past}, 200),
        ({"modified-since": modified}, 412),
        ({"unmodified-since": modified}, 200),
        ({"unmodified-since": past}, 412),
        ({"match": etag, "unmodified-since": past}, 200),
        ({"none-match": etag, "modified-since": past}, 412),
    ):
        fields = [("x-amz-copy-source", f"/{bucket}/source")]
        fields += [(f"x-amz-copy-source-if-{name}", value) for name, value in conditions.items()]
        answer = raw.ask("PUT", f"/s3/{bucket}/copy", fields)
        assert (answer.status, answer.code) == (status, "PreconditionFailed" if status == 412 else ""), conditions
        gone = raw.ask("DELETE", f"/s3/{bucket}/copy")
        assert gone.status == 204


def test_conditions_on_the_target(s3: Any, source: dict[str, str]) -> None:
    bucket = source["Bucket"]
    etag = s3.put_object(Bucket=bucket, Key="copy", Body=b"old")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, IfMatch='"x"')
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"old"
    s3.copy_object(Bucket=bucket, Key="copy", CopySource=source, IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"body"


def test_what_no_copy_source_can_be(raw: Sender, source: dict[str, str]) -> None:
    bucket = source["Bucket"]
    for value, code in (
        ("", "InvalidArgument"),
        ("/", "InvalidArgument"),
        ("source", "InvalidArgument"),
        (f"{bucket}/", "InvalidArgument"),
        ("..", "InvalidArgument"),
        ("../../etc/passwd", "InvalidArgument"),
        (f"{bucket}/%00", "InvalidArgument"),
        (f"{bucket}/a%zz", "InvalidArgument"),
        (f"{bucket}/%FF", "InvalidArgument"),
        (f"{bucket}/source?versionId=", "InvalidArgument"),
        (f"{bucket}/source?versionId=nonsense", "InvalidArgument"),
        (f"{bucket}/source?versionId={'0' * 32}", "NoSuchVersion"),
        (f"{bucket}/missing", "NoSuchKey"),
        ("no-such-bucket/source", "NoSuchBucket"),
    ):
        answer = raw.ask("PUT", f"/s3/{bucket}/copy", [("x-amz-copy-source", value)])
        assert answer.code == code, value
        assert answer.status == (400 if code == "InvalidArgument" else 404)
        assert raw.ask("HEAD", f"/s3/{bucket}/copy").status == 404


def test_a_copy_has_no_body_of_its_own(raw: Sender, source: dict[str, str]) -> None:
    fields = [("x-amz-copy-source", f"{source['Bucket']}/source")]
    target = f"/s3/{source['Bucket']}/copy"
    upload_id = raw.ask("POST", f"{target}?uploads").element("UploadId")
    for query in ("", f"?partNumber=1&uploadId={upload_id}"):
        answer = raw.ask("PUT", f"{target}{query}", fields, b"bytes that nobody asked for")
        assert (answer.status, answer.code) == (400, "InvalidRequest")
        chunked = [*fields, ("transfer-encoding", "chunked")]
        answer = raw.send(raw.head("PUT", f"{target}{query}", chunked) + b"1\r\nx\r\n0\r\n\r\n")
        assert (answer.status, answer.code) == (400, "InvalidRequest")
    assert raw.ask("HEAD", target).status == 404
    assert "<Part>" not in raw.ask("GET", f"{target}?uploadId={upload_id}").body.decode()


def test_versions_of_both_sides_are_named(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="source", Body=b"x")["VersionId"]
    done = s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source", "VersionId": old})
    assert done["CopySourceVersionId"] == old
    assert done["VersionId"] == s3.head_object(Bucket=bucket, Key="copy")["VersionId"] != old


def test_a_copied_multipart_object_keeps_its_parts(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="source")["UploadId"]
    names = {"Bucket": bucket, "Key": "source", "UploadId": upload}
    bodies = [os.urandom(5 << 20), b"end"]
    parts = [
        {"PartNumber": n, "ETag": s3.upload_part(**names, PartNumber=n, Body=body)["ETag"]}
        for n, body in enumerate(bodies, 1)
    ]
    done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
    s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
    s3.delete_object(Bucket=bucket, Key="source")
    got = s3.get_object(Bucket=bucket, Key="copy")
    assert (got["Body"].read(), got["ETag"]) == (b"".join(bodies), done["ETag"])
    assert s3.get_object(Bucket=bucket, Key="copy", PartNumber=2)["Body"].read() == b"end"


def test_a_copy_takes_the_checksum_of_its_source_with_it(s3: Any, bucket: str) -> None:
    for algorithm in ("CRC32", "CRC64NVME", "SHA1"):
        put = s3.put_object(Bucket=bucket, Key="source", Body=b"x" * 100_000, ChecksumAlgorithm=algorithm)
        s3.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source"})
        head = s3.head_object(Bucket=bucket, Key="copy", ChecksumMode="ENABLED")
        assert head[f"Checksum{algorithm}"] == put[f"Checksum{algorithm}"]


def test_a_copy_can_be_given_another_checksum(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=b"x" * 100_000)
    done = s3.copy_object(
        Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source"}, ChecksumAlgorithm="SHA256"
    )
    want = s3.put_object(Bucket=bucket, Key="k", Body=b"x" * 100_000, ChecksumAlgorithm="SHA256")["ChecksumSHA256"]
    assert done["CopyObjectResult"]["ChecksumSHA256"] == want
    with refused("InvalidRequest", 400):
        s3.copy_object(
            Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": "source"}, ChecksumAlgorithm="MD4"
        )
