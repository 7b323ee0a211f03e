"""PutObject, GetObject, HeadObject: bytes, ranges, headers, metadata, overrides."""

from __future__ import annotations

import hashlib
import os
import re
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from s3fixtures import fresh_name, refused
from s3raw import Sender

from aisobj.storage.store import INLINE_LIMIT

SIZES = [0, 1, 4096, INLINE_LIMIT, INLINE_LIMIT + 1, 256 * 1024, 1_000_003]


@pytest.mark.parametrize("size", SIZES)
def test_bytes_come_back_as_they_went(s3: Any, bucket: str, size: int) -> None:
    body = os.urandom(size)
    put = s3.put_object(Bucket=bucket, Key="k", Body=body)
    got = s3.get_object(Bucket=bucket, Key="k")
    assert got["Body"].read() == body
    head = s3.head_object(Bucket=bucket, Key="k")
    for answer in (got, head):
        assert answer["ContentLength"] == size
        assert answer["ETag"] == put["ETag"]
        assert answer["AcceptRanges"] == "bytes"
        assert answer["ContentType"] == "binary/octet-stream"
    replaced = s3.put_object(Bucket=bucket, Key="k", Body=b"new")
    assert replaced["ETag"] != put["ETag"]
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


def test_upload_file_and_download_file_of_64_mib(s3: Any, bucket: str, tmp_path: Path) -> None:
    """s3transfer's own way: parts of 8 MiB in ten threads, ranges with If-Match back."""
    source, target = tmp_path / "source", tmp_path / "target"
    block = os.urandom(1 << 20)
    source.write_bytes(b"".join(bytes([number]) + block[1:] for number in range(64)))
    s3.upload_file(str(source), bucket, "big")
    assert s3.head_object(Bucket=bucket, Key="big")["ContentLength"] == 64 << 20
    s3.download_file(bucket, "big", str(target))
    assert hashlib.sha256(target.read_bytes()).digest() == hashlib.sha256(source.read_bytes()).digest()


def test_every_answer_has_a_request_id_a_date_and_a_server(raw: Sender, anonymous: Sender, bucket: str) -> None:
    answers = [
        raw.ask("PUT", f"/s3/{bucket}/k", body=b"x"),
        raw.ask("GET", f"/s3/{bucket}/k"),
        raw.ask("HEAD", f"/s3/{bucket}/k"),
        raw.ask("HEAD", f"/s3/{bucket}/missing"),
        raw.ask("GET", f"/s3/{bucket}/missing"),
        raw.ask("DELETE", f"/s3/{bucket}/k"),
        raw.ask("GET", "/s3"),
        raw.ask("GET", "/no-such-bucket/k"),
        raw.ask("FOO", "/s3"),
        anonymous.ask("GET", "/s3"),
    ]
    ids = [answer.headers["x-amz-request-id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    for answer in answers:
        assert re.fullmatch("[0-9A-F]{16}", answer.headers["x-amz-request-id"])
        assert parsedate_to_datetime(answer.headers["date"])
        assert answer.headers["server"] == "ais-s3"


@pytest.mark.parametrize("size", [1000, 200_000])
def test_ranges(raw: Sender, s3: Any, bucket: str, size: int) -> None:
    body = os.urandom(size)
    s3.put_object(Bucket=bucket, Key="k", Body=body)
    last = size - 1
    cases = {
        "bytes=0-0": (0, 0),
        "bytes=0-99": (0, 99),
        "bytes=100-": (100, last),
        "bytes=-7": (size - 7, last),
        f"bytes=-{size * 2}": (0, last),
        f"bytes={last}-": (last, last),
        f"bytes=10-{size * 9}": (10, last),
        "bytes=10-" + "9" * 300: (10, last),
        "BYTES=1-2": (1, 2),
    }
    for value, (first, end) in cases.items():
        answer = raw.ask("GET", f"/s3/{bucket}/k", [("Range", value)])
        assert (answer.status, answer.headers["content-range"]) == (206, f"bytes {first}-{end}/{size}")
        assert answer.body == body[first : end + 1]
        head = raw.ask("HEAD", f"/s3/{bucket}/k", [("Range", value)])
        assert (head.status, head.headers["content-length"]) == (206, str(end - first + 1))
    for value in (f"bytes={size}-", "bytes=-0", f"bytes={size}-{size + 5}", "bytes=" + "9" * 300 + "-"):
        answer = raw.ask("GET", f"/s3/{bucket}/k", [("Range", value)])
        assert (answer.status, answer.code) == (416, "InvalidRange")
        assert answer.headers["content-range"] == f"bytes */{size}"
        assert answer.element("ActualObjectSize") == str(size)
    for value in (
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=5-1",
        "bytes=1-2,4-5",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "items=0-1",
        "bytes 0-1",
        "bytes=0x1-0x2",
        "bytes=-1-5",
    ):
        answer = raw.ask("GET", f"/s3/{bucket}/k", [("Range", value)])
        assert (answer.status, answer.body == body) == (200, True)
        assert "content-range" not in answer.headers


def test_any_range_of_an_empty_object_is_416_and_no_range_is_200(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    for value in ("bytes=0-", "bytes=0-0", "bytes=-1"):
        answer = raw.ask("GET", f"/s3/{bucket}/k", [("Range", value)])
        assert (answer.status, answer.code) == (416, "InvalidRange")
    assert raw.ask("GET", f"/s3/{bucket}/k").status == 200


def test_part_number_one_of_a_plain_object_is_all_of_it(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"whole")
    answer = raw.ask("GET", f"/s3/{bucket}/k?partNumber=1")
    assert (answer.status, answer.body) == (206, b"whole")
    assert answer.headers["content-range"] == "bytes 0-4/5"
    assert "x-amz-mp-parts-count" not in answer.headers
    with refused("InvalidPartNumber", 416):
        s3.get_object(Bucket=bucket, Key="k", PartNumber=2)
    for number in ("0", "10001", "abc", "", "-1", "1.0"):
        assert raw.ask("GET", f"/s3/{bucket}/k?partNumber={number}").code == "InvalidArgument"
    both = raw.ask("GET", f"/s3/{bucket}/k?partNumber=1", [("Range", "bytes=0-1")])
    assert (both.status, both.code) == (400, "InvalidRequest")


STORED = {
    "ContentType": "text/plain; charset=utf-8",
    "CacheControl": "max-age=60, private",
    "ContentDisposition": 'attachment; filename="a b.txt"',
    "ContentEncoding": "gzip",
    "ContentLanguage": "de, en",
}


def test_headers_that_describe_an_object_are_kept(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", **STORED, Expires="Wed, 21 Oct 2065 07:28:00 GMT")
    for answer in (s3.get_object(Bucket=bucket, Key="k"), s3.head_object(Bucket=bucket, Key="k")):
        assert {name: answer[name] for name in STORED} == STORED
        assert answer["ExpiresString"] == "Wed, 21 Oct 2065 07:28:00 GMT"
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")  # a new object has only its own
    head = s3.head_object(Bucket=bucket, Key="k")
    assert head["ContentType"] == "binary/octet-stream"
    assert not {"CacheControl", "ContentDisposition", "ContentEncoding", "ContentLanguage"} & head.keys()


def test_user_metadata_is_kept(s3: Any, bucket: str) -> None:
    metadata = {"one": "1", "two": "with  blanks, and comma", "empty": "", "long": "x" * 1500}
    s3.put_object(Bucket=bucket, Key="k", Body=b"x", Metadata=metadata)
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"] == metadata
    assert s3.get_object(Bucket=bucket, Key="k")["Metadata"] == metadata


@pytest.mark.parametrize("value", ["grüße".encode(), "日本😀".encode(), b"latin \xe9", b"=?UTF-8?B?w7w=?=", b"a\tb"])
def test_metadata_that_is_not_ascii_comes_back_byte_for_byte(raw: Sender, bucket: str, value: bytes) -> None:
    fields = [("x-amz-meta-name", value), ("content-disposition", value)]
    assert raw.ask("PUT", f"/s3/{bucket}/k", fields, b"x").status == 200
    for method in ("GET", "HEAD"):
        answer = raw.ask(method, f"/s3/{bucket}/k")
        assert answer.headers["x-amz-meta-name"].encode("latin-1") == value
        assert answer.headers["content-disposition"].encode("latin-1") == value


def test_two_metadata_headers_of_one_name_become_one(raw: Sender, bucket: str) -> None:
    raw.ask("PUT", f"/s3/{bucket}/k", [("x-amz-meta-a", "1"), ("X-Amz-Meta-A", "2")], b"x")
    assert raw.ask("HEAD", f"/s3/{bucket}/k").headers["x-amz-meta-a"] == "1,2"


def test_user_metadata_may_have_two_kib_and_no_more(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"", Metadata={"a": "x" * 1023, "b": "x" * 1023})
    assert s3.head_object(Bucket=bucket, Key="k")["Metadata"]["b"] == "x" * 1023
    with refused("MetadataTooLarge", 400):
        s3.put_object(Bucket=bucket, Key="k2", Body=b"", Metadata={"a": "x" * 1023, "b": "x" * 1024})
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k2")


OVERRIDES = {
    "response-content-type": ("content-type", "text/x; charset=utf-8"),
    "response-content-language": ("content-language", "nl"),
    "response-expires": ("expires", "Thu, 01 Jan 2099 00:00:00 GMT"),
    "response-cache-control": ("cache-control", "no-store"),
    "response-content-disposition": ("content-disposition", 'attachment; filename="ü.txt"'),
    "response-content-encoding": ("content-encoding", "br"),
}


@pytest.mark.parametrize("which", ["server", "signed_server"])
def test_response_headers_can_be_overridden_by_who_signs(request: Any, which: str) -> None:
    """At an open server too, though it does not look at the signature."""
    client, bucket = request.getfixturevalue(which).boto(), fresh_name()
    client.create_bucket(Bucket=bucket)
    client.put_object(Bucket=bucket, Key="k", Body=b"x", ContentType="a/b", CacheControl="public")
    parameters = {"".join(w.capitalize() for w in name.split("-")): v for name, (_, v) in OVERRIDES.items()}
    for call in (client.get_object, client.head_object):
        headers = call(Bucket=bucket, Key="k", **parameters)["ResponseMetadata"]["HTTPHeaders"]
        for header, value in OVERRIDES.values():
            assert headers[header] == value  # which boto3 reads as ISO-8859-1
        with refused("InvalidArgument" if call == client.get_object else "400", 400):
            call(Bucket=bucket, Key="k", ResponseContentDisposition='attachment; filename="日本.txt"')
    assert client.head_object(Bucket=bucket, Key="k")["ContentType"] == "a/b"
    for version in ("s3v4", "s3"):
        signer = request.getfixturevalue(which).boto(config={"signature_version": version})
        url = signer.generate_presigned_url("get_object", {"Bucket": bucket, "Key": "k", "ResponseContentType": "c/d"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=30) as answer:
            assert answer.headers["content-type"] == "c/d"


def test_nobody_else_can_override_response_headers(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for name in OVERRIDES:
        answer = raw.ask("GET", f"/s3/{bucket}/k?{name}=x")
        assert (answer.status, answer.code) == (400, "InvalidRequest")


def test_a_name_that_no_header_can_have_is_refused_not_stored(raw: Sender, bucket: str) -> None:
    """It was stored, and every GET after it was a 500."""
    answer = raw.ask("PUT", f"/s3/{bucket}/named?x-amz-meta-a%0D%0Ab=c", body=b"x")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert raw.ask("GET", f"/s3/{bucket}/named").status == 404


def test_an_object_with_a_missing_key_is_no_such_key_and_head_has_no_body(raw: Sender, bucket: str) -> None:
    answer = raw.ask("GET", f"/s3/{bucket}/missing")
    assert (answer.status, answer.code, answer.element("Key")) == (404, "NoSuchKey", "missing")
    with raw.connect() as wire:
        wire.send(raw.request("HEAD", f"/s3/{bucket}/missing") + raw.request("HEAD", f"/s3/{bucket}"))
        missing, there = wire.answer("HEAD"), wire.answer("HEAD")
    assert (missing.status, there.status) == (404, 200)
    assert missing.headers["content-type"] == "application/xml"


def test_last_modified_never_goes_back_and_etag_is_quoted(raw: Sender, bucket: str) -> None:
    seen = []
    for number in range(3):
        raw.ask("PUT", f"/s3/{bucket}/k", body=b"%d" % number)
        head = raw.ask("HEAD", f"/s3/{bucket}/k")
        seen.append(parsedate_to_datetime(head.headers["last-modified"]))
        assert re.fullmatch('"[0-9a-f]+"', head.headers["etag"])
    assert seen == sorted(seen)


def test_a_chunked_body_without_a_length_is_stored(raw: Sender, s3: Any, bucket: str) -> None:
    head = raw.head("PUT", f"/s3/{bucket}/k", [("transfer-encoding", "chunked")])
    for body in (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"0\r\n\r\n"):
        assert raw.send(head + body).status == 200
        want = b"hello world" if body[:1] == b"5" else b""
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == want
