"""Keys are opaque bytes: whatever a client names is what it gets, lists, copies and deletes, and never a path."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, quote_from_bytes, quote_plus, unquote

import pytest
from s3fixtures import refused
from s3raw import Sender

_NOT_IN_XML = re.compile("[\x01-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")

KEYS = [
    "a",
    "a//b",
    "a/",
    "/",
    "//",
    "/leading",
    "../x",
    "a/../b",
    "a/./b",
    "./",
    ".",
    "..",
    "...",
    " ",
    " blank at both ends ",
    "+",
    "a+b c",
    "%2F",
    "%",
    "100%",
    "%zz",
    "a%00b",
    "?",
    "a?acl",
    "a&b=c",
    "#fragment",
    "a;b,c:d@e$f!g*h'i(j)k",
    '"<>&\\^`{|}~[]',
    "ünï/cödé",
    "日本語.txt",
    "😀/🎉",
    "e\u0301",  # decomposed, and not the same as the next
    "\u00e9",
    "s3/v1/-/metrics",
    "uploads",
    "a\tb",
    "line\nbreak\rand return",
    "k" * 1024,
    "é" * 512,
    "😀" * 256,
    "/".join("d" for _ in range(512)) + "/",
]


@pytest.fixture(scope="module", params=["/s3", "the root"])
def client(server: Any, request: Any) -> Any:
    """boto3 under ``/s3``, and at the root."""
    return server.boto(endpoint_url=server.s3 if request.param == "/s3" else server.endpoint)


def test_every_key_is_put_read_listed_copied_and_deleted_as_it_is(client: Any, bucket: str) -> None:
    for number, key in enumerate(KEYS):
        client.put_object(Bucket=bucket, Key=key, Body=str(number).encode())
    for number, key in enumerate(KEYS):
        assert client.get_object(Bucket=bucket, Key=key)["Body"].read() == str(number).encode(), key
        assert client.head_object(Bucket=bucket, Key=key)["ContentLength"] == len(str(number))
    in_order = sorted(KEYS, key=str.encode)
    for version in ("list_objects", "list_objects_v2"):
        listed = getattr(client, version)(Bucket=bucket)["Contents"]
        assert [found["Key"] for found in listed] == in_order

    for key in KEYS:
        client.copy_object(Bucket=bucket, Key="copy", CopySource={"Bucket": bucket, "Key": key})
        number = str(KEYS.index(key)).encode()
        assert client.get_object(Bucket=bucket, Key="copy")["Body"].read() == number, key
    client.delete_object(Bucket=bucket, Key="copy")

    half = KEYS[::2]
    for key in half:
        client.delete_object(Bucket=bucket, Key=key)
    left = [found["Key"] for found in client.list_objects_v2(Bucket=bucket)["Contents"]]
    assert left == sorted(set(KEYS) - set(half), key=str.encode)
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in KEYS]})
    assert [found["Key"] for found in answer["Deleted"]] == KEYS  # in the order of the request
    assert "Errors" not in answer
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_the_same_object_is_under_s3_and_at_the_root(server: Any, bucket: str) -> None:
    inside, outside = server.boto(), server.boto(endpoint_url=server.endpoint)
    for key in ("a//b", "../x", "s3/k", "%2F"):
        inside.put_object(Bucket=bucket, Key=key, Body=key.encode())
        assert outside.get_object(Bucket=bucket, Key=key)["Body"].read() == key.encode()


def test_every_key_also_with_signatures(signed_server: Any, signed_bucket: str) -> None:
    """The canonical path of each is the one on the wire, under ``/s3`` and at the root, with both versions."""
    for url in (signed_server.s3, signed_server.endpoint):
        for version in ("s3v4", "s3"):
            client = signed_server.boto(endpoint_url=url, config={"signature_version": version})
            for key in KEYS:
                client.put_object(Bucket=signed_bucket, Key=key, Body=key.encode())
                assert client.get_object(Bucket=signed_bucket, Key=key)["Body"].read() == key.encode()


def test_an_escaped_and_a_plain_spelling_are_the_same_key(raw: Sender, s3: Any, bucket: str) -> None:
    for target, key in (
        ("a%2Fb", "a/b"),
        ("%61%2fb", "a/b"),
        ("..%2F..%2Fetc%2Fpasswd", "../../etc/passwd"),
        ("%2e%2e/%2E/x", ".././x"),
        ("a+b", "a+b"),
        ("a%2Bb", "a+b"),
        ("a%252Fb", "a%2Fb"),
        ("/x//", "/x//"),
    ):
        assert raw.ask("PUT", f"/s3/{bucket}/{target}", body=b"x").status == 200
        assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] == 1
        s3.delete_object(Bucket=bucket, Key=key)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.parametrize(
    ("target", "code"),
    [
        ("k" * 1025, "KeyTooLongError"),
        (quote("é" * 512) + "k", "KeyTooLongError"),
        ("%FF", "InvalidURI"),
        ("%C3%28", "InvalidURI"),
        ("%ED%A0%80", "InvalidURI"),  # a surrogate
        ("%zz", "InvalidURI"),
        ("a%2", "InvalidURI"),
        ("a%", "InvalidURI"),
        ("a%00b", "InvalidArgument"),
        ("%00", "InvalidArgument"),
    ],
)
def test_what_no_key_can_be_is_refused_and_nothing_is_stored(
    raw: Sender, s3: Any, bucket: str, target: str, code: str
) -> None:
    for method in ("PUT", "GET", "DELETE"):
        answer = raw.ask(method, f"/s3/{bucket}/{target}", body=b"x" if method == "PUT" else b"")
        assert (answer.status, answer.code) == (400, code)
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_no_key_leaves_a_name_of_its_own_on_the_disk(server: Any, s3: Any, bucket: str) -> None:
    before = {path.name for path in server.data.rglob("*")}
    for key in ("../../escaped", "/etc/escaped", "escaped\n"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 100_000)
    after = {path.name for path in server.data.rglob("*")}
    assert not [name for name in after - before if "escaped" in name]
    assert not list(server.data.parent.rglob("*escaped*"))


def test_keys_that_xml_cannot_carry_come_back_url_encoded(s3: Any, raw: Sender, bucket: str) -> None:
    keys = ["\x01", "a\x1fb", "\ufffe", "\x7f", "x\x0b"]
    for key in keys:
        s3.put_object(Bucket=bucket, Key=key, Body=b"")
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == sorted(keys, key=str.encode)
    answer = raw.ask("GET", f"/s3/{bucket}?list-type=2&encoding-type=url")
    listed = [unquote(found.text or "") for found in answer.xml.iter() if found.tag.endswith("}Key")]
    assert listed == sorted(keys, key=str.encode)
    # No parser of XML 1.0 takes what some of them hold, so the answer shows something else in its place.
    done = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in keys]})
    shown = [_NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", key) for key in keys]
    assert [found["Key"] for found in done["Deleted"]] == shown
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_an_object_of_parts_may_have_a_key_that_xml_cannot_carry(s3: Any, bucket: str) -> None:
    """boto3 takes a result that does not parse for a broken connection, and asks again."""
    named = {"Bucket": bucket, "Key": "a\x01b\uffff"}
    upload = {**named, "UploadId": s3.create_multipart_upload(**named)["UploadId"]}
    part = s3.upload_part(**upload, PartNumber=1, Body=b"part")
    assert s3.list_parts(**upload)["Key"] == "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}"
    s3.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert s3.get_object(**named)["Body"].read() == b"part"


def test_every_listing_writes_what_xml_cannot_carry_as_aws_does(s3: Any, raw: Sender, bucket: str) -> None:
    """A reference, which few parsers take: any other character would make another key. Those who care ask for URLs."""
    key = "a\x01b"
    s3.put_object(Bucket=bucket, Key=key, Body=b"")
    s3.create_multipart_upload(Bucket=bucket, Key=key)
    for listing in ("list-type=2", "prefix=a", "uploads", "list-type=2&prefix=%01&delimiter=x", "uploads&prefix=a%01"):
        assert b"&#x1;" in raw.ask("GET", f"/s3/{bucket}?{listing}").body, listing
        answer = raw.ask("GET", f"/s3/{bucket}?{listing}&encoding-type=url")
        assert b"%01" in answer.body and answer.xml is not None, listing
    (upload,) = s3.list_multipart_uploads(Bucket=bucket, EncodingType="url")["Uploads"]
    assert unquote(upload["Key"]) == key


def test_a_copy_source_may_be_written_plainly_or_escaped(raw: Sender, s3: Any, bucket: str) -> None:
    key = "dir/ü +%"
    s3.put_object(Bucket=bucket, Key=key, Body=b"source")
    whole = quote_from_bytes(f"{bucket}/{key}".encode(), "")
    as_a_form = f"{bucket}/dir/{quote_plus('ü +%')}"  # s5cmd's way
    for source in (
        f"{bucket}/{quote(key)}",
        f"/{bucket}/{quote(key)}",
        whole,
        f"{bucket}/" + quote(key, ""),
        as_a_form,
    ):
        answer = raw.ask("PUT", f"/s3/{bucket}/copy", [("x-amz-copy-source", source)])
        assert answer.status == 200, (source, answer)
        assert s3.get_object(Bucket=bucket, Key="copy")["Body"].read() == b"source"
        s3.delete_object(Bucket=bucket, Key="copy")


def test_an_error_names_a_strange_key_in_well_formed_xml(raw: Sender, bucket: str) -> None:
    answer = raw.ask("GET", f"/s3/{bucket}/%01%3Cb%3E%26%22")
    assert (answer.status, answer.code) == (404, "NoSuchKey")
    assert answer.element("Resource") == f'/{"s3"}/{bucket}/\N{REPLACEMENT CHARACTER}<b>&"'


def test_refused_is_told_by_boto_too(s3: Any, bucket: str) -> None:
    with refused("KeyTooLongError", 400):
        s3.put_object(Bucket=bucket, Key="k" * 1025, Body=b"")
