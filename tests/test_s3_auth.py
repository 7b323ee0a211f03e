"""Who may come in, over the wire: every mechanism with a wrong secret, presigned URLs, strangers, the open server."""

from __future__ import annotations

import base64
import hashlib
import time
import urllib.request
import zlib
from functools import cache
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
from botocore.auth import HmacV1Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from s3raw import STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, Answer, Sender, User, user_of

HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """What a program without any SDK does with a URL."""
    request = urllib.request.Request(url, body, headers or {}, method=method)
    try:
        with HTTP.open(request, timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def keys(s3: Any, bucket: str) -> list[str]:
    return [found["Key"] for found in s3.list_objects_v2(Bucket=bucket).get("Contents", ())]


# Every mechanism x every payload mode, signed with a wrong secret: nothing is written.

PAYLOADS = {
    "signed": hashlib.sha256(b"x").hexdigest(),
    "unsigned": "UNSIGNED-PAYLOAD",
    "streaming": STREAMING,
    "streaming trailer": STREAMING_TRAILER,
    "unsigned trailer": UNSIGNED_TRAILER,
    "missing": "",
    "nonsense": "nonsense",
}
MECHANISMS = ["v4 header", "v4 query", "v2 header", "v2 query", "none"]


def attempt(mechanism: str, payload: str, server: Any, target: str, user: User) -> Answer:
    """A PUT of ``x``, signed by ``user`` in this way."""
    fields = [] if not payload else [("x-amz-content-sha256", payload)]
    body = b"x"
    if payload in (STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER):
        fields.append(("x-amz-decoded-content-length", "1"))
        body = b"1\r\nx\r\n0\r\n\r\n"
    plain = Sender(server.endpoint)
    if mechanism == "v4 header":
        signer = Sender(server.endpoint, user)
        if not payload:
            head = signer.head("PUT", target, fields, length=1).replace(b"x-amz-content-sha256", b"x-content-sha256")
            return signer.send(head + body)
        if payload in (STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER):
            crc32 = base64.b64encode(zlib.crc32(b"x").to_bytes(4, "big")).decode()
            trailers = [] if payload == STREAMING else [("x-amz-checksum-crc32", crc32)]
            return signer.put_chunked(target, [b"x"], mode=payload, trailers=trailers)
        return signer.send(signer.head("PUT", target, fields[1:], payload=payload, length=1) + body)
    if mechanism == "v4 query":
        url = presigned(server, user, "put_object", target, "s3v4")
    elif mechanism == "v2 query":
        url = presigned(server, user, "put_object", target, "s3")
    elif mechanism == "v2 header":
        request = AWSRequest("PUT", server.endpoint + target, headers=dict(fields))
        HmacV1Auth(Credentials(*user)).add_auth(request)
        fields = [(name, str(value)) for name, value in request.headers.items()]
        url = target
    else:
        url = target
    return plain.send(plain.head("PUT", url, fields, length=len(body)) + body)


@cache
def signer(server: Any, user: User, version: str) -> Any:
    """A boto client; making one takes a tenth of a second."""
    return server.boto(
        aws_access_key_id=user.access_key, aws_secret_access_key=user.secret, config={"signature_version": version}
    )


def presigned(server: Any, user: User, operation: str, target: str, version: str, **parameters: Any) -> str:
    """Path and query of a URL by boto."""
    _, _, bucket, key = target.split("/", 3)
    url = signer(server, user, version).generate_presigned_url(operation, {"Bucket": bucket, "Key": key, **parameters})
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_nobody_writes_with_a_wrong_secret(
    signed_server: Any, signed_s3: Any, signed_bucket: str, mechanism: str, payload: str
) -> None:
    wrong = User(user_of(signed_server).access_key, "not the secret")  # type: ignore[union-attr]
    unknown = User("AKIAUNKNOWN", "not the secret")
    for user, code in ((wrong, "SignatureDoesNotMatch"), (unknown, "InvalidAccessKeyId")):
        answer = attempt(mechanism, PAYLOADS[payload], signed_server, f"/s3/{signed_bucket}/k", user)
        assert answer.status in (400, 403)
        if mechanism == "none":
            assert answer.code == "AccessDenied"
        elif answer.status == 403:  # headers that no presigned URL covers are refused before the secret matters
            assert answer.code in ((code, "AccessDenied") if mechanism == "v4 query" else (code,))
        else:  # what is said of the body is none of the words, or is missing where it must not
            assert answer.code in ("InvalidArgument", "InvalidRequest")
        assert keys(signed_s3, signed_bucket) == []


def test_the_same_requests_with_the_right_secret_write_where_they_may(
    signed_server: Any, signed_s3: Any, signed_bucket: str
) -> None:
    """So that the test above fails for the secret, and not for a mistake in how it asks."""
    user = user_of(signed_server)
    assert user is not None
    written = set()
    for mechanism in MECHANISMS:
        for payload, words in PAYLOADS.items():
            answer = attempt(mechanism, words, signed_server, f"/s3/{signed_bucket}/k", user)
            if answer.status == 200:
                written.add((mechanism, payload))
    assert written == {
        *(("v4 header", payload) for payload in PAYLOADS if payload not in ("missing", "nonsense")),
        *(("v2 header", payload) for payload in ("signed", "unsigned", "missing")),
        ("v4 query", "unsigned"),  # which is what the URL says
        ("v4 query", "missing"),
        ("v2 query", "missing"),  # any x-amz-* header would have to be signed
    }


# Presigned URLs


@pytest.mark.parametrize("version", ["s3v4", "s3"])
@pytest.mark.parametrize("at_root", [False, True])
def test_presigned_put_get_and_delete(signed_server: Any, signed_bucket: str, version: str, at_root: bool) -> None:
    url = signed_server.endpoint if at_root else signed_server.s3
    client = signed_server.boto(endpoint_url=url, config={"signature_version": version})
    for key in ("k", "dir/ü +%2F//x", "../x"):
        names = {"Bucket": signed_bucket, "Key": key}
        put = client.generate_presigned_url("put_object", {**names, "ContentType": "a/b", "Metadata": {"m": "1"}})
        status, _ = fetch("PUT", put, b"body", {"Content-Type": "a/b", "x-amz-meta-m": "1"})
        assert status == 200
        head = client.head_object(**names)
        assert (head["ContentType"], head["Metadata"]) == ("a/b", {"m": "1"})
        get = client.generate_presigned_url("get_object", {**names, "ResponseContentType": "c/d"})
        assert fetch("GET", get) == (200, b"body")
        assert fetch("PUT", get, b"other")[0] == 403
        assert fetch("GET", get.replace(signed_bucket, signed_bucket + "x"))[0] == 403
        assert fetch("GET", get.replace("c%2Fd", "e%2Ff"))[0] == 403
        assert fetch("DELETE", client.generate_presigned_url("delete_object", names))[0] == 204
        assert fetch("GET", get)[0] == 404


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_presigned_for_a_bucket(signed_server: Any, signed_bucket: str, version: str) -> None:
    client = signed_server.boto(config={"signature_version": version})
    client.put_object(Bucket=signed_bucket, Key="k", Body=b"x")
    status, body = fetch("GET", client.generate_presigned_url("list_objects_v2", {"Bucket": signed_bucket}))
    assert (status, b"<Key>k</Key>" in body) == (200, True)
    assert fetch("HEAD", client.generate_presigned_url("head_bucket", {"Bucket": signed_bucket}))[0] == 200


ADDED = {
    "x-amz-acl": "public-read",
    "x-amz-meta-a": "b",
    "x-amz-copy-source": "other/secret",
    "x-amz-storage-class": "GLACIER",
    "x-amz-tagging": "a=b",
    "x-amz-server-side-encryption": "AES256",
    "x-amz-website-redirect-location": "/x",
    "x-amz-metadata-directive": "REPLACE",
    "x-amz-checksum-crc32": "AAAAAA==",
    "x-amz-security-token": "token",
    "x-amz-date": "20300101T000000Z",
    "x-amz-content-sha256": STREAMING,
    "x-amz-anything": "x",
}


@pytest.mark.parametrize("version", ["s3v4", "s3"])
def test_headers_added_to_a_presigned_put_are_refused(
    signed_server: Any, signed_s3: Any, signed_bucket: str, version: str
) -> None:
    signed_s3.put_object(Bucket=signed_bucket, Key="secret", Body=b"secret")
    user = user_of(signed_server)
    assert user is not None
    plain = Sender(signed_server.endpoint)
    target = presigned(signed_server, user, "put_object", f"/s3/{signed_bucket}/k", version)
    for name, value in ADDED.items():
        given = f"{signed_bucket}/secret" if name == "x-amz-copy-source" else value
        answer = plain.send(plain.head("PUT", target, [(name, given)], length=1) + b"x")
        if name == "x-amz-security-token":
            assert (answer.status, answer.code) == (400, "InvalidToken")
        else:
            assert answer.status == 403, (name, answer)
            assert answer.code in ("AccessDenied", "SignatureDoesNotMatch")
        assert keys(signed_s3, signed_bucket) == ["secret"]
    assert plain.send(plain.head("PUT", target, length=1) + b"x").status == 200


def test_sub_resources_added_to_a_presigned_url_are_refused(signed_server: Any, signed_bucket: str) -> None:
    user = user_of(signed_server)
    assert user is not None
    for version in ("s3v4", "s3"):
        for operation in ("put_object", "get_object", "delete_object"):
            target = presigned(signed_server, user, operation, f"/s3/{signed_bucket}/k", version)
            method = {"p": "PUT", "g": "GET", "d": "DELETE"}[operation[0]]
            for more in ("uploadId=x&partNumber=1", "acl", "tagging", "versionId=null", "uploads"):
                answer = Sender(signed_server.endpoint).ask(method, f"{target}&{more}")
                assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch"), (version, operation, more)


def test_a_presigned_url_expires(signed_server: Any, signed_bucket: str) -> None:
    client = signed_server.boto(config={"signature_version": "s3v4"})
    # Its time counts from the second that has begun, so one second is over at once where that one is.
    url = client.generate_presigned_url("get_object", {"Bucket": signed_bucket, "Key": "k"}, ExpiresIn=5)
    assert fetch("GET", url)[0] == 404
    deadline = time.monotonic() + 30
    while (found := fetch("GET", url))[0] != 403 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert found[0] == 403
    assert b"Request has expired" in found[1]


# Strangers


def without_ids(answer: Answer) -> Answer:
    headers = {k: v for k, v in answer.headers.items() if k not in ("x-amz-request-id", "date")}
    body = answer.body.replace(answer.headers["x-amz-request-id"].encode(), b"ID")
    return Answer(answer.status, headers, body)


def test_a_stranger_learns_nothing(anonymous: Sender, signed_s3: Any, signed_bucket: str) -> None:
    """Whether a bucket or key exists, byte for byte, on every method and with conditions."""
    etag = signed_s3.put_object(Bucket=signed_bucket, Key="there", Body=b"x" * 50_000)["ETag"]
    cases: list[tuple[str, str, list[tuple[str, str]]]] = [
        *((method, "", []) for method in ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH")),
        ("GET", "", [("If-None-Match", etag)]),
        ("GET", "", [("If-Match", '"x"')]),
        ("GET", "", [("Range", "bytes=99999999-")]),
        ("GET", "?acl", []),
        ("GET", "?partNumber=1", []),
        ("PUT", "?partNumber=1&uploadId=x", []),
        ("GET", "?response-content-type=a", []),
        ("PUT", "", [("If-None-Match", "*")]),
        ("PUT", "", [("x-amz-copy-source", f"{signed_bucket}/there")]),
    ]
    for method, query, fields in cases:
        there, missing, nowhere = (
            anonymous.ask(method, f"/s3/{path}{query}", fields)
            for path in (f"{signed_bucket}/there", f"{signed_bucket}/other", "no-such-bucket/other")
        )
        assert without_ids(there)._replace(body=b"") == without_ids(missing)._replace(
            body=b"", headers=without_ids(there).headers | {"content-length": missing.headers["content-length"]}
        )
        assert there.status == missing.status == nowhere.status == 403
        if method != "HEAD":
            assert without_ids(there).body.replace(b"/there<", b"/other<") == without_ids(missing).body
            assert nowhere.code == "AccessDenied"
    assert keys(signed_s3, signed_bucket) == ["there"]


def test_a_stranger_is_refused_at_every_level(anonymous: Sender, signed_bucket: str) -> None:
    for target in ("/s3", "/", f"/s3/{signed_bucket}", f"/{signed_bucket}/k", "/s3/INVALID", "/v1/daemon?what=smap"):
        answer = anonymous.ask("GET", target)
        assert answer.status in (401, 403), target
    assert anonymous.ask("PUT", "/s3/by-a-stranger").status == 403


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_authorization_is_none(anonymous: Sender, signed_bucket: str, value: str) -> None:
    for method in ("GET", "PUT"):
        answer = anonymous.ask(method, f"/s3/{signed_bucket}/k", [("authorization", value)])
        assert (answer.status, answer.code) == (403, "AccessDenied")


@pytest.mark.parametrize("date", ["Tue, 07 Jul 1950 21:53:04 GMT", "Bad Date", ""])
def test_a_date_before_1970_is_none(anonymous: Sender, signed_bucket: str, date: str) -> None:
    """As s3-tests has it of AWS (``test_object_create_bad_date_before_epoch_aws2``)."""
    fields = [("authorization", "AWS AKIAALICE:c2lnbmF0dXJl"), ("x-amz-date", date)]
    answer = anonymous.ask("GET", f"/s3/{signed_bucket}", fields)
    assert (answer.status, answer.code) == (403, "AccessDenied")


def test_expect_100_is_answered_only_after_the_signature(
    signed: Sender, signed_server: Any, signed_bucket: str
) -> None:
    expect = [("Expect", "100-continue")]
    target = f"/s3/{signed_bucket}/k"
    wrong = Sender(signed_server.endpoint, User(user_of(signed_server).access_key, "wrong"))  # type: ignore[union-attr]
    for sender, code in ((wrong, "SignatureDoesNotMatch"), (Sender(signed_server.endpoint), "AccessDenied")):
        with sender.connect() as wire:
            wire.send(sender.head("PUT", target, expect, payload="UNSIGNED-PAYLOAD", length=1 << 20))
            answer = wire.answer()  # and no 100 before it, though no byte of the body was sent
            assert (answer.status, answer.code) == (403, code)
            assert answer.headers["connection"] == "close"
            assert wire.closed()
    with signed.connect() as wire:
        wire.send(signed.head("PUT", target, expect, payload="UNSIGNED-PAYLOAD", length=4))
        assert wire.answer().status == 100
        wire.send(b"body")
        assert wire.answer().status == 200
    for code, fields in (
        ("EntityTooLarge", [("content-length", str(6 << 30))]),
        ("InvalidDigest", [("content-md5", "x"), ("content-length", "4")]),
        ("NotImplemented", [("x-amz-tagging", "a=b"), ("content-length", "4")]),
        ("MetadataTooLarge", [("x-amz-meta-a", "x" * 2048), ("content-length", "4")]),
    ):
        with signed.connect() as wire:
            wire.send(signed.head("PUT", target, [*expect, *fields], payload="UNSIGNED-PAYLOAD"))
            assert wire.answer().code == code


# The open server: DNS rebinding, forms and scripts of other sites


def test_an_open_server_answers_only_to_names_that_it_knows(raw: Sender, s3: Any, bucket: str) -> None:
    port = raw.host.rpartition(":")[2]
    for host in ("evil.com", f"evil.com:{port}", "localhost.evil.com", "127.0.0.1.evil.com", "a.localhost", "127.1x"):
        for method, body in (("GET", b""), ("PUT", b"x"), ("DELETE", b"")):
            answer = raw.ask(method, f"/s3/{bucket}/k", [("host", host)], body)
            assert (answer.status, answer.code) == (403, "AccessDenied"), host
    assert keys(s3, bucket) == []
    for host in (f"localhost:{port}", "localhost", "LOCALHOST.", "127.0.0.1", f"[::1]:{port}", "10.0.0.1"):
        assert raw.ask("GET", f"/s3/{bucket}", [("host", host)]).status == 200, host


def test_an_open_server_takes_no_writes_from_other_sites(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="kept", Body=b"x")
    foreign = ("https://evil", "http://evil.com", "null", "", f"http://{raw.host}.evil.com", f"ftp://{raw.host}")
    for origin in foreign:
        for method, target, body in (
            ("PUT", "k", b"x"),
            ("POST", "k?uploads", b""),
            ("POST", "?delete", b"<Delete><Object><Key>kept</Key></Object></Delete>"),
            ("DELETE", "kept", b""),
        ):
            answer = raw.ask(method, f"/s3/{bucket}/{target}", [("Origin", origin)], body)
            assert (answer.status, answer.code) == (403, "AccessDenied"), origin
    assert keys(s3, bucket) == ["kept"]
    assert raw.ask("GET", f"/s3/{bucket}/kept", [("Origin", "https://evil")]).status == 200
    assert raw.ask("PUT", f"/s3/{bucket}/k", [("Origin", f"http://{raw.host}")], b"x").status == 200


def test_a_signed_request_may_come_from_any_site_and_name(signed: Sender, signed_bucket: str) -> None:
    fields = [("Origin", "https://somewhere"), ("host", "s3.example.com")]
    assert signed.ask("PUT", f"/s3/{signed_bucket}/k", fields, b"x").status == 200


def test_a_region_if_there_is_one_must_be_right(make_server: Any) -> None:
    credentials = {"alice": ("AKIAALICE", "secret")}
    server = make_server("--region", "eu-north-9", credentials=credentials)
    user = User(*credentials["alice"])
    assert Sender(server.endpoint, user, "eu-north-9").ask("GET", "/s3").status == 200
    wrong = Sender(server.endpoint, user, "us-east-1").ask("GET", "/s3")
    assert (wrong.status, wrong.code) == (400, "AuthorizationHeaderMalformed")
    assert wrong.element("Region") == "eu-north-9"
    target = presigned(server, user, "get_object", "/s3/b-1/k", "s3v4")
    wrong = Sender(server.endpoint).ask("GET", target)
    assert (wrong.status, wrong.code) == (400, "AuthorizationQueryParametersError")
    assert wrong.element("Region") == "eu-north-9"
    server.boto(region_name="eu-north-9").create_bucket(Bucket="b-1")
    # With another region boto corrects itself by what it is told.
    client = server.boto(region_name="us-east-1", config={"retries": {"total_max_attempts": 2}})
    assert client.list_objects_v2(Bucket="b-1")["KeyCount"] == 0


def test_any_region_is_right_if_there_is_none(signed_server: Any) -> None:
    for region in ("US", "us-east-1", "mars-1"):
        assert Sender(signed_server.endpoint, user_of(signed_server), region).ask("GET", "/s3").status == 200
