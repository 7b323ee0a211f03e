"""Multipart uploads: AWS's rules for order, sizes and ETags, parts re-sent and left out, copies as parts, checksums."""

from __future__ import annotations

import hashlib
import os
from typing import Any

import pytest
from s3fixtures import refused
from s3raw import Sender

MIB = 1 << 20
FIVE = os.urandom(5 * MIB)
KEY = "dir/big"


class Upload:
    """One upload by boto."""

    def __init__(self, s3: Any, bucket: str, key: str = KEY, **options: Any) -> None:
        self.s3 = s3
        self.names = {"Bucket": bucket, "Key": key}
        self.created = s3.create_multipart_upload(**self.names, **options)
        self.id = self.created["UploadId"]
        self.names["UploadId"] = self.id
        self.parts: dict[int, dict[str, Any]] = {}

    def put(self, number: int, body: bytes, **options: Any) -> dict[str, Any]:
        answer = self.s3.upload_part(**self.names, PartNumber=number, Body=body, **options)
        self.parts[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        return dict(answer)

    def complete(self, *numbers: int, **options: Any) -> dict[str, Any]:
        """With these parts, or all that were put."""
        return self.complete_with([self.parts[number] for number in numbers or sorted(self.parts)], **options)

    def complete_with(self, parts: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        return dict(self.s3.complete_multipart_upload(**self.names, MultipartUpload={"Parts": parts}, **options))


def read(s3: Any, bucket: str, key: str = KEY) -> bytes:
    return bytes(s3.get_object(Bucket=bucket, Key=key)["Body"].read())


def test_parts_become_an_object_in_order_of_their_numbers(s3: Any, server: Any, bucket: str) -> None:
    upload = Upload(s3, bucket, ContentType="a/b", Metadata={"m": "1"}, CacheControl="no-store")
    upload.put(10000, b"last")
    upload.put(7, FIVE[::-1])
    upload.put(2, FIVE)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key=KEY)
    done = upload.complete()
    assert (done["Bucket"], done["Key"], done["Location"]) == (bucket, KEY, f"{server.s3}/{bucket}/{KEY}")
    assert done["ETag"].endswith('-3"')
    assert read(s3, bucket) == FIVE + FIVE[::-1] + b"last"
    head = s3.head_object(Bucket=bucket, Key=KEY)
    assert (head["ETag"], head["ContentLength"]) == (done["ETag"], 10 * MIB + 4)
    assert (head["ContentType"], head["Metadata"], head["CacheControl"]) == ("a/b", {"m": "1"}, "no-store")
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with refused("NoSuchUpload", 404):
        upload.put(1, b"too late")


def test_parts_may_be_sent_again_and_left_out(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"x" * len(FIVE))
    first = dict(upload.parts[1])
    upload.put(1, FIVE)
    upload.put(2, b"left out")
    upload.put(3, b"end")
    with refused("InvalidPart", 400):
        upload.complete_with([first, upload.parts[3]])
    upload.complete(1, 3)
    assert read(s3, bucket) == FIVE + b"end"


def test_a_single_small_part_and_an_empty_one_are_objects(s3: Any, bucket: str) -> None:
    for body in (b"small", b""):
        upload = Upload(s3, bucket)
        upload.put(5, body)
        assert upload.complete()["ETag"].endswith('-1"')
        assert read(s3, bucket) == body


def test_completing_again_gives_the_same_answer_until_the_object_changes(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"x")
    assert upload.complete()["ETag"] == upload.complete()["ETag"]
    s3.put_object(Bucket=bucket, Key=KEY, Body=b"other")
    with refused("NoSuchUpload", 404):
        upload.complete()
    assert read(s3, bucket) == b"other"


@pytest.mark.parametrize("checksum_type", ["md5", "none"])
def test_only_the_same_complete_may_be_asked_again(
    s3: Any, bucket: str, set_checksum_type: Any, checksum_type: str
) -> None:
    set_checksum_type(bucket, checksum_type)
    upload = Upload(s3, bucket, ChecksumAlgorithm="CRC32", ChecksumType="FULL_OBJECT")
    upload.put(1, FIVE)
    upload.put(2, b"end")
    done = upload.complete(MpuObjectSize=5 * MIB + 3, IfNoneMatch="*")
    one, two = upload.parts[1], upload.parts[2]
    for parts in ([one], [two], [one, two, {"PartNumber": 3, "ETag": two["ETag"]}], [one, {**two, "PartNumber": 3}]):
        with refused("InvalidPart", 400):
            upload.complete_with(parts)
    if checksum_type == "md5":
        with refused("InvalidPart", 400):
            upload.complete_with([one, {**two, "ETag": one["ETag"]}])
    for options, code, status in (
        ({"MpuObjectSize": 1}, "InvalidRequest", 400),
        ({"ChecksumType": "COMPOSITE"}, "InvalidRequest", 400),
        ({"ChecksumSHA1": "A" * 27 + "="}, "InvalidRequest", 400),
        ({"ChecksumCRC32": "AAAAAA=="}, "BadDigest", 400),
        ({"IfMatch": done["ETag"]}, "PreconditionFailed", 412),  # there was nothing when it was completed
    ):
        with refused(code, status):
            upload.complete(**options)
    whole = {"ChecksumCRC32": done["ChecksumCRC32"], "ChecksumType": "FULL_OBJECT"}
    again = upload.complete(MpuObjectSize=5 * MIB + 3, IfNoneMatch="*", **whole)
    assert (again["ETag"], again["ChecksumCRC32"]) == (done["ETag"], done["ChecksumCRC32"])


def test_conditions_of_a_complete_that_is_asked_again_are_those_of_the_first(s3: Any, bucket: str) -> None:
    """The answer got lost, and what If-Match named is replaced: that is no failure."""
    before = s3.put_object(Bucket=bucket, Key=KEY, Body=b"before")["ETag"]
    upload = Upload(s3, bucket)
    upload.put(1, b"x")
    first = upload.complete(IfMatch=before)
    assert upload.complete(IfMatch=before)["ETag"] == first["ETag"]
    with refused("PreconditionFailed", 412):
        upload.complete(IfNoneMatch="*")
    assert read(s3, bucket) == b"x"


def test_a_refused_complete_changes_nothing_and_can_be_corrected(s3: Any, raw: Sender, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"small")
    upload.put(2, b"end")
    one, two = upload.parts[1], upload.parts[2]
    with refused("EntityTooSmall", 400) as answer:
        upload.complete(1, 2)
    assert answer["Error"]["PartNumber"] == "1"
    for parts, code in (
        ([two, one], "InvalidPartOrder"),
        ([one, one], "InvalidPartOrder"),
        ([{"PartNumber": 3, "ETag": one["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 1, "ETag": two["ETag"]}], "InvalidPart"),
        ([{"PartNumber": 0, "ETag": one["ETag"]}], "InvalidArgument"),
        ([{"PartNumber": -1, "ETag": one["ETag"]}, two], "InvalidArgument"),
        ([one, {"PartNumber": 10_001, "ETag": two["ETag"]}], "InvalidPart"),
        ([], "MalformedXML"),
    ):
        with refused(code, 400):
            upload.complete_with(parts)
    target = f"/s3/{bucket}/{KEY}?uploadId={upload.id}"
    for document in (b"", b"<", b"<CompleteMultipartUpload><Part/></CompleteMultipartUpload>", b"<Other/>"):
        assert raw.ask("POST", target, body=document).code == "MalformedXML"
    assert len(s3.list_parts(**upload.names)["Parts"]) == 2
    upload.complete(2)  # ETags also without quotes
    assert read(s3, bucket) == b"end"


def test_etags_in_the_document_need_no_quotes(raw: Sender, s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"x")
    etag = upload.parts[1]["ETag"].strip('"')
    document = (
        f"<CompleteMultipartUpload><Part><ETag>{etag}</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"
    )
    assert raw.ask("POST", f"/s3/{bucket}/{KEY}?uploadId={upload.id}", body=document.encode()).status == 200


def test_an_aborted_upload_is_gone(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"x" * 100_000)
    s3.abort_multipart_upload(**upload.names)
    for call in (
        lambda: s3.abort_multipart_upload(**upload.names),
        lambda: upload.put(1, b"x"),
        lambda: upload.complete(1),
        lambda: s3.list_parts(**upload.names),
    ):
        with refused("NoSuchUpload", 404):
            call()


@pytest.mark.parametrize("upload_id", ["", "x", "..%2F..%2Fetc", "0" * 32, "0" * 31, "%00", "A" * 5000])
def test_an_unknown_upload_is_no_such_upload(raw: Sender, bucket: str, upload_id: str) -> None:
    target = f"/s3/{bucket}/{KEY}?uploadId={upload_id}"
    document = (
        b"<CompleteMultipartUpload><Part><ETag>x</ETag><PartNumber>1</PartNumber></Part></CompleteMultipartUpload>"
    )
    for method, query, body in (
        ("PUT", "&partNumber=1", b"x"),
        ("POST", "", document),
        ("DELETE", "", b""),
        ("GET", "", b""),
    ):
        answer = raw.ask(method, target + query, body=body)
        assert (answer.status, answer.code) == (404, "NoSuchUpload")


def test_an_upload_belongs_to_its_key(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    with refused("NoSuchUpload", 404):
        s3.upload_part(Bucket=bucket, Key="other", UploadId=upload.id, PartNumber=1, Body=b"x")


@pytest.mark.parametrize("number", ["0", "10001", "abc", "-1", "", "1.5", "99999999999999999999"])
def test_part_numbers_go_from_1_to_10000(raw: Sender, s3: Any, bucket: str, number: str) -> None:
    upload = Upload(s3, bucket)
    answer = raw.ask("PUT", f"/s3/{bucket}/{KEY}?partNumber={number}&uploadId={upload.id}", body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")


def test_parts_can_be_read_one_by_one(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(3, FIVE)
    upload.put(9, b"end")
    upload.complete()
    second = s3.get_object(Bucket=bucket, Key=KEY, PartNumber=2)  # the parts of an object are 1..N
    assert (second["Body"].read(), second["PartsCount"]) == (b"end", 2)
    assert second["ContentRange"] == f"bytes {5 * MIB}-{5 * MIB + 2}/{5 * MIB + 3}"
    head = s3.head_object(Bucket=bucket, Key=KEY, PartNumber=1)
    assert (head["ContentLength"], head["PartsCount"]) == (5 * MIB, 2)
    with refused("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key=KEY, PartNumber=3)


def test_a_range_across_parts(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, FIVE)
    upload.put(2, b"0123456789")
    upload.complete()
    found = s3.get_object(Bucket=bucket, Key=KEY, Range=f"bytes={5 * MIB - 3}-{5 * MIB + 4}")
    assert found["Body"].read() == FIVE[-3:] + b"01234"


def test_complete_with_preconditions(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"new")
    with refused("NoSuchKey", 404):
        upload.complete(IfMatch='"x"')
    etag = s3.put_object(Bucket=bucket, Key=KEY, Body=b"old")["ETag"]
    with refused("PreconditionFailed", 412):
        upload.complete(IfNoneMatch="*")
    with refused("PreconditionFailed", 412):
        upload.complete(IfMatch='"x"')
    assert read(s3, bucket) == b"old"
    upload.complete(IfMatch=etag)
    assert read(s3, bucket) == b"new"


def test_complete_may_say_how_long_the_object_is(s3: Any, bucket: str) -> None:
    upload = Upload(s3, bucket)
    upload.put(1, b"12345")
    with refused("InvalidRequest", 400):
        upload.complete(MpuObjectSize=4)
    upload.complete(MpuObjectSize=5)


def test_parts_copied_from_objects(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="source", Body=FIVE + b"tail")
    s3.put_object(Bucket=bucket, Key="small", Body=b"0123456789")
    upload = Upload(s3, bucket)

    def copy(number: int, key: str, **options: Any) -> dict[str, Any]:
        source = {"Bucket": bucket, "Key": key}
        answer = s3.upload_part_copy(**upload.names, PartNumber=number, CopySource=source, **options)
        upload.parts[number] = {"PartNumber": number, "ETag": answer["CopyPartResult"]["ETag"]}
        return dict(answer)

    copy(1, "source")
    copy(2, "source", CopySourceRange=f"bytes=0-{5 * MIB - 1}")
    assert copy(3, "small", CopySourceRange="bytes=3-6")["CopyPartResult"]["LastModified"]
    for value in ("bytes=0-10", "bytes=5-3", "bytes=5-", "bytes=-3", "0-3", "bytes=0-1,2-3", ""):
        with refused("InvalidArgument", 400):
            copy(4, "small", CopySourceRange=value)
    etag = s3.head_object(Bucket=bucket, Key="small")["ETag"]
    with refused("PreconditionFailed", 412):
        copy(4, "small", CopySourceIfMatch='"x"')
    with refused("PreconditionFailed", 412):
        copy(4, "small", CopySourceIfNoneMatch=etag)
    with refused("NoSuchKey", 404):
        copy(4, "missing")
    upload.complete()
    assert read(s3, bucket) == FIVE + b"tail" + FIVE + b"3456"


def test_the_version_of_a_completed_object(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    upload = Upload(s3, bucket)
    upload.put(1, b"x")
    version = upload.complete()["VersionId"]
    assert s3.head_object(Bucket=bucket, Key=KEY)["VersionId"] == version


def test_many_uploads_of_one_key_do_not_mix(s3: Any, bucket: str) -> None:
    uploads = [Upload(s3, bucket) for _ in range(3)]
    for number, upload in enumerate(uploads):
        upload.put(1, b"%d" % number)
    for number, upload in enumerate(uploads):
        upload.complete()
        assert read(s3, bucket) == b"%d" % number


def test_md5_etags_of_parts_are_aws_own(s3: Any, bucket: str, set_checksum_type: Any) -> None:
    set_checksum_type(bucket, "md5")
    upload = Upload(s3, bucket)
    upload.put(1, FIVE)
    upload.put(2, b"end")
    whole = hashlib.md5(hashlib.md5(FIVE).digest() + hashlib.md5(b"end").digest()).hexdigest()
    assert upload.parts[2]["ETag"] == f'"{hashlib.md5(b"end").hexdigest()}"'
    assert upload.complete()["ETag"] == f'"{whole}-2"'
