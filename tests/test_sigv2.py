"""Signature Version 2: AWS's published examples, botocore's signers, and what must be refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from urllib.parse import quote

import pytest
from botocore.auth import HmacV1Auth, HmacV1QueryAuth
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_requests import (
    ACCESS_KEY,
    HOST,
    SECRET,
    USERS,
    WRONG,
    Wire,
    accepted,
    by_botocore,
    changed,
    refusal,
    request,
)

from aisobj.errors import S3Error
from aisobj.protocol import operations, sigv2
from aisobj.protocol.authentication import verify
from aisobj.protocol.signing import PayloadMode, SignedRequest, parse_date_header

BOTO = BotoCredentials(ACCESS_KEY, SECRET)
ENDPOINT = f"http://{HOST.decode()}/s3"

# "Signing and authenticating REST requests", its examples; path-style where AWS has the bucket in the host, which
# this server does not take: CanonicalizedResource is the same.
TUESDAY = 1175029200  # 21:00
EXAMPLES = {
    "object GET": (
        "GET",
        "/johnsmith/photos/puppy.jpg",
        "Tue, 27 Mar 2007 19:36:42 +0000",
        "bWq2s1WEIj+Ydj0vQ697zp+IXMU=",
    ),
    "list": (
        "GET",
        "/johnsmith/?prefix=photos&max-keys=50&marker=puppy",
        "Tue, 27 Mar 2007 19:42:41 +0000",
        "htDYFYduRNen8P9ZfE/s9SuKy0U=",
    ),
    "fetch": ("GET", "/johnsmith/?acl", "Tue, 27 Mar 2007 19:44:46 +0000", "c2WLPFtWHVgbEmeEG93a4cG37dM="),
    "delete": (
        "DELETE",
        "/johnsmith/photos/puppy.jpg",
        "Tue, 27 Mar 2007 21:20:26 +0000",
        "lx3byBScXR6KzyMaifNkardMwNk=",
    ),
    "list all my buckets": ("GET", "/", "Wed, 28 Mar 2007 01:29:59 +0000", "qGdzdERIC03wnaRNKh6OqZehG9s="),
    "unicode keys": (
        "GET",
        "/dictionary/fran%C3%A7ais/pr%c3%a9f%c3%a8re",
        "Wed, 28 Mar 2007 01:49:49 +0000",
        "DNEZGsoieTZ92F3bUfSPQcbGmlM=",
    ),
}


@pytest.mark.parametrize("prefix", ["", "/s3"])
@pytest.mark.parametrize("name", EXAMPLES)
def test_aws_examples_at_the_root_and_under_s3(name: str, prefix: str) -> None:
    method, target, date, signature = EXAMPLES[name]
    now = parse_date_header(date.encode())
    assert now is not None
    signed = request(method, prefix + target, [("Date", date), ("Authorization", f"AWS {ACCESS_KEY}:{signature}")])
    found = accepted(signed, now)
    assert (found.signature_version, found.presigned, found.mode) == (2, False, PayloadMode.MISSING)
    assert found.payload_sha256 is None and found.chunk_signer is None
    assert refusal(signed, now, WRONG).code == "SignatureDoesNotMatch"


def test_aws_example_object_put() -> None:
    date = "Tue, 27 Mar 2007 21:15:45 +0000"
    headers = [
        ("Content-Type", "image/jpeg"),
        ("Content-Length", "94328"),
        ("Date", date),
        ("Authorization", f"AWS {ACCESS_KEY}:MyyxeRY7whkBe+bq8fHCL/2kKUg="),
    ]
    accepted(request("PUT", "/johnsmith/photos/puppy.jpg", headers), TUESDAY + 900)


def test_aws_example_upload_joins_headers_that_come_twice() -> None:
    headers = [
        ("User-Agent", "curl/7.15.5"),
        ("Date", "Tue, 27 Mar 2007 21:06:08 +0000"),
        ("x-amz-acl", "public-read"),
        ("content-type", "application/x-download"),
        ("Content-MD5", "4gJE4saaMU4BqNR0kLY+lw=="),
        ("X-Amz-Meta-ReviewedBy", "joe@johnsmith.net"),
        ("X-Amz-Meta-ReviewedBy", " jane@johnsmith.net "),
        ("X-Amz-Meta-FileChecksum", "0x02661779"),
        ("X-Amz-Meta-ChecksumAlgorithm", "crc32"),
        ("Content-Disposition", "attachment; filename=database.dat"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", "5913339"),
        ("Authorization", f"AWS {ACCESS_KEY}:ilyl83RwaSoYIEdixDQcA4OnAnc="),
    ]
    accepted(request("PUT", "/static.johnsmith.net/db-backup.dat.gz", headers), TUESDAY)


PUPPY = (
    f"/johnsmith/photos/puppy.jpg?AWSAccessKeyId={ACCESS_KEY}"
    "&Signature=NpgCjnDzrM%2BWFzoENXmpNDUsSn8%3D&Expires=1175139620"
)


@pytest.mark.parametrize("prefix", ["", "/s3"])
def test_aws_example_presigned_until_it_expires(prefix: str) -> None:
    signed = request("GET", prefix + PUPPY)
    found = accepted(signed, 1175139620)
    assert (found.signature_version, found.presigned, found.mode) == (2, True, PayloadMode.MISSING)
    error = refusal(signed, 1175139621)
    assert (error.code, error.message) == ("AccessDenied", "Request has expired")
    assert error.detail == {"Expires": "2007-03-29T03:40:20.000Z", "ServerTime": "2007-03-29T03:40:21.000Z"}
    assert refusal(signed, 1175139620, WRONG).code == "SignatureDoesNotMatch"


def test_an_unescaped_plus_in_a_presigned_signature_is_forgiven() -> None:
    accepted(request("GET", PUPPY.replace("%2B", "+")), 1175139620)


KEYS = st.text(min_size=1, max_size=40).filter(lambda key: "\n" not in key) | st.sampled_from(
    [
        "a b",
        "a+b",
        "a//b",
        "/a",
        "a/",
        "%2F",
        "a%2Fb",
        "../x",
        "./x",
        "ü/ñ",
        "\N{GRINNING FACE}",
        "a?b&c=d",
        "~-_.",
        "*'()",
    ]
)


def path_of(key: str) -> str:
    return "/bucket/" + quote(key, safe="/~")


@given(key=KEYS)
@settings(max_examples=60, deadline=None)
def test_any_key_signed_by_botocore_in_the_header(key: str) -> None:
    now = time.time()
    signed = by_botocore(HmacV1Auth(BOTO), "PUT", ENDPOINT + path_of(key), {"x-amz-meta-a": " b  c "}, path_of(key))
    accepted(signed, now)
    assert refusal(signed, now, WRONG).code == "SignatureDoesNotMatch"


@given(key=KEYS)
@settings(max_examples=60, deadline=None)
def test_any_key_presigned_by_botocore(key: str) -> None:
    now = time.time()
    url = ENDPOINT + path_of(key) + "?versionId=7&response-content-type=text%2Fplain%3B%20a%3D%22b%26c%22"
    signed = by_botocore(HmacV1QueryAuth(BOTO, 60), "GET", url, auth_path=path_of(key))
    assert accepted(signed, now).presigned
    assert refusal(signed, now, WRONG).code == "SignatureDoesNotMatch"
    assert refusal(changed(signed, method=b"DELETE"), now).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("endpoint", [ENDPOINT, f"http://{HOST.decode()}"])
def test_requests_of_a_whole_botocore_client(endpoint: str) -> None:
    """Its bucket-level requests sign a slash at the end that they do not send."""
    wire = Wire(endpoint, "s3")
    s3 = wire.client
    s3.list_buckets()
    s3.create_bucket(Bucket="bucket")
    s3.list_objects_v2(Bucket="bucket", Prefix="a b")
    s3.get_bucket_versioning(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="a b+ü", Body=b"x", ContentType="text/plain", Metadata={"m": "1"})
    s3.get_object(Bucket="bucket", Key="k", ResponseContentDisposition='attachment; filename="a&b c.txt"')
    s3.upload_part(Bucket="bucket", Key="k", PartNumber=1, UploadId="abc", Body=b"x")
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "k"}]})
    assert len(wire.sent) == 8
    for signed in wire.sent:
        assert accepted(signed, time.time()).signature_version == 2
        assert refusal(signed, time.time(), WRONG).code == "SignatureDoesNotMatch"


def test_botos_default_presigned_url_with_headers_moved_into_the_query() -> None:
    url = Wire(ENDPOINT, "s3").client.generate_presigned_url(
        "put_object", {"Bucket": "bucket", "Key": "k", "ContentType": "text/plain", "Metadata": {"m": "a b"}}
    )
    target = url.removeprefix(f"http://{HOST.decode()}")
    assert "content-type=" in target and "x-amz-meta-m=" in target
    now = time.time()
    accepted(request("PUT", target), now)
    # The client may send them as headers all the same, but no other values.
    accepted(request("PUT", target, [("Content-Type", "text/plain"), ("x-amz-meta-m", "a b")]), now)
    for header in ("content-type", "x-amz-meta-m"):
        assert refusal(request("PUT", target, [(header, "other")]), now).code == "SignatureDoesNotMatch"


def sign(to_sign: str) -> str:
    return base64.b64encode(hmac.digest(SECRET.encode(), to_sign.encode(), "sha1")).decode()


DATE = "Tue, 27 Mar 2007 21:00:00 GMT"


def test_x_amz_date_replaces_date() -> None:
    signature = sign(f"GET\n\n\n\nx-amz-date:{DATE}\n/b/k")
    headers = [("Date", "nonsense"), ("x-amz-date", DATE), ("Authorization", f"AWS {ACCESS_KEY}:{signature}")]
    accepted(request("GET", "/b/k", headers), TUESDAY)


def v2(
    method: str = "GET", target: str = "/b/k", to_sign: str | None = None, *extra: tuple[str, str], date: str = DATE
) -> SignedRequest:
    signature = sign(to_sign or f"{method}\n\n\n{date}\n{target}")
    return request(method, target, [("Date", date), ("Authorization", f"AWS {ACCESS_KEY}:{signature}"), *extra])


@pytest.mark.parametrize(("seconds", "fine"), [(-901, False), (-900, True), (900, True), (901, False)])
def test_a_clock_may_be_off_by_fifteen_minutes(seconds: int, fine: bool) -> None:
    if fine:
        accepted(v2(), TUESDAY + seconds)
        return
    error = refusal(v2(), TUESDAY + seconds)
    assert error.code == "RequestTimeTooSkewed"
    assert error.detail["RequestTime"] == DATE
    assert error.detail["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize("date", ["", "yesterday", "Tue, 99 Mar 2007 21:00:00 GMT", "x" * 5000, "1174942800"])
def test_no_date_or_no_readable_one_is_access_denied(date: str) -> None:
    error = refusal(v2(date=date), TUESDAY)
    assert (error.code, error.message) == (
        "AccessDenied",
        "AWS authentication requires a valid Date or x-amz-date header",
    )
    assert refusal(changed(v2(), headers={b"date": None}), TUESDAY).code == "AccessDenied"


@given(st.binary(max_size=70) | st.text("0123456789 ,:+-JanGMTuesd", max_size=64).map(str.encode))
@settings(max_examples=200, deadline=None)
def test_any_date_header_is_a_time_or_none(value: bytes) -> None:
    assert isinstance(parse_date_header(value), int | None)


@pytest.mark.parametrize("value", ["AWS", "AWS ", "AWS x", "AWS :x", f"AWS {ACCESS_KEY}:"])
def test_a_malformed_authorization_header_is_an_invalid_argument(value: str) -> None:
    signed = changed(v2(), headers={b"authorization": value.encode()})
    assert refusal(signed, TUESDAY).code == "InvalidArgument"


def test_an_unknown_access_key_is_named() -> None:
    error = refusal(changed(v2(), headers={b"authorization": b"AWS AKIDNOBODY:x"}), TUESDAY)
    assert (error.code, error.detail) == ("InvalidAccessKeyId", {"AWSAccessKeyId": "AKIDNOBODY"})


def test_a_mismatch_shows_what_we_would_have_signed() -> None:
    error = refusal(v2(), TUESDAY, WRONG)
    assert error.detail["StringToSign"] == f"GET\n\n\n{DATE}\n/b/k"
    assert error.detail["AWSAccessKeyId"] == ACCESS_KEY
    assert error.detail["SignatureProvided"] == sign(f"GET\n\n\n{DATE}\n/b/k")


def test_a_session_token_is_refused() -> None:
    signed = v2("GET", "/b/k", f"GET\n\n\n{DATE}\nx-amz-security-token:t\n/b/k", ("x-amz-security-token", "t"))
    assert refusal(signed, TUESDAY).code == "InvalidToken"


@pytest.mark.parametrize(
    "target",
    [
        "/b/k?acl",
        "/b/k?tagging",
        "/b/k?uploads",
        "/b/k?attributes",
        "/b/k?versionId=1",
        "/b/k?partNumber=1&uploadId=x",
        "/b/k?response-content-type=text/html",
        "/b/k?x-amz-acl=public-read",
        "/b/k?X-Amz-Copy-Source=/b/secret",
        "/b/k?x-amz-content-sha256=UNSIGNED-PAYLOAD",
        "/b/k/",
        "/b//k",
        "/b/./k",
        "/b/K",
        "/b/%6b",
        "/s3/b/k/",
        "/s3/s3/b/k",
        "/v1/b/k",
    ],
)
@pytest.mark.parametrize("presigned", [False, True])
def test_a_signature_for_a_key_is_good_for_nothing_else(target: str, presigned: bool) -> None:
    path, _, query = target.partition("?")
    signed = v2()
    if presigned:
        signed = request(
            "GET",
            f"/b/k?AWSAccessKeyId={ACCESS_KEY}&Expires={TUESDAY}&Signature="
            + quote(sign(f"GET\n\n\n{TUESDAY}\n/b/k"), safe=""),
        )
        accepted(signed, TUESDAY)
    attack = changed(signed, path=path.encode(), query=b"&".join(filter(None, (signed.query, query.encode()))))
    assert refusal(attack, TUESDAY).code == "SignatureDoesNotMatch"


def test_whatever_chooses_an_operation_is_signed() -> None:
    """But for the two that only choose how a list is written, which AWS does not have signed either."""
    signed = {name.decode() for name in sigv2.SUB_RESOURCES}
    assert operations._SUB_RESOURCES - signed == {"list-type", "max-directory-buckets"}


def test_every_byte_of_a_presigned_request_counts() -> None:
    signed = request("GET", PUPPY)
    for at in range(len(signed.path)):
        path = flipped(signed.path, at)
        assert refusal(changed(signed, path=path), 1175139620).status in (400, 403)
    for at in range(len(signed.query)):
        assert refusal(changed(signed, query=flipped(signed.query, at)), 1175139620).status in (400, 403)


def flipped(value: bytes, at: int) -> bytes:
    return value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]


def test_parameters_cannot_be_moved_into_each_other() -> None:
    """What is signed is decoded, so that an escaped ``&`` or line feed could stand for a real one."""
    signed = v2("PUT", "/b/k?partNumber=1&uploadId=U")
    accepted(signed, TUESDAY)
    assert refusal(changed(signed, query=b"partNumber=1%26uploadId%3DU"), TUESDAY).code == "SignatureDoesNotMatch"
    two = v2("PUT", "/b/k", f"PUT\n\n\n{DATE}\nx-amz-meta-a:1\nx-amz-meta-b:2\n/b/k")
    accepted(changed(two, headers={b"x-amz-meta-a": b"1", b"x-amz-meta-b": b"2"}), TUESDAY)
    attack = changed(two, query=b"x-amz-meta-a=1%0Ax-amz-meta-b:2")
    assert refusal(attack, TUESDAY).code == "InvalidArgument"


def test_v2_says_nothing_about_the_host() -> None:
    accepted(changed(v2(), headers={b"host": b"elsewhere"}), TUESDAY)


def test_a_signed_content_hash_is_to_be_verified() -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    to_sign = f"PUT\n\n\n{DATE}\nx-amz-content-sha256:{digest}\n/b/k"
    found = accepted(v2("PUT", "/b/k", to_sign, ("x-amz-content-sha256", digest)), TUESDAY)
    assert (found.mode, found.payload_sha256) == (PayloadMode.SIGNED, digest)


@pytest.mark.parametrize("expires", ["", "abc", "-1", "1e9", "1" * 5000, "1175139620.5"])
def test_expires_must_be_seconds(expires: str) -> None:
    target = PUPPY.replace("Expires=1175139620", f"Expires={expires}")
    assert refusal(request("GET", target), TUESDAY).code == "AccessDenied"


@pytest.mark.parametrize("name", ["AWSAccessKeyId", "Signature", "Expires"])
def test_each_presigned_parameter_must_be_there_once(name: str) -> None:
    path, _, query = PUPPY.partition("?")
    pieces = query.split("&")
    without = "&".join(piece for piece in pieces if not piece.startswith(name))
    twice = "&".join([*pieces, *(piece for piece in pieces if piece.startswith(name))])
    assert refusal(request("GET", f"{path}?{without}"), TUESDAY).code == "AccessDenied"
    assert refusal(request("GET", f"{path}?{twice}"), TUESDAY).code == "AccessDenied"


@given(authorization=st.binary(max_size=80), query=st.binary(max_size=80))
@settings(max_examples=200, deadline=None)
def test_nothing_but_an_s3_error_comes_of_garbage(authorization: bytes, query: bytes) -> None:
    for signed in (
        changed(v2(), headers={b"authorization": b"AWS " + authorization}, query=query),
        changed(request("GET", PUPPY), query=query + b"&AWSAccessKeyId=x&Signature=" + authorization),
    ):
        with pytest.raises(S3Error):
            verify(signed, USERS, TUESDAY)
