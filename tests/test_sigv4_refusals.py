"""Signature Version 4: what must be refused, and how. Rows of the table of bad inputs."""

from __future__ import annotations

import hashlib
import time
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth
from botocore.credentials import Credentials as BotoCredentials
from signed_requests import (
    ACCESS_KEY,
    EMPTY,
    ENDPOINT,
    EXAMPLE_HOST,
    HOST,
    MAY_24,
    PRESIGNED,
    SCOPE,
    SECRET,
    WELCOME,
    WRONG,
    accepted,
    by_botocore,
    changed,
    ours,
    presign,
    refusal,
    request,
)

from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import PayloadMode, SignedRequest, parse_amz_date

BOTO = BotoCredentials(ACCESS_KEY, SECRET)

# --- every byte counts ---


def flips(value: bytes) -> list[bytes]:
    return [value[:at] + bytes((value[at] ^ bit,)) + value[at + 1 :] for at in range(len(value)) for bit in (1, 0x20)]


def test_every_byte_of_a_request_signed_in_the_header_counts() -> None:
    signed = ours("PUT", "/s3/bkt/key?partNumber=1&uploadId=xyz", {"x-amz-meta-a": "b c", "content-type": "t/p"})
    accepted(signed, MAY_24)
    for method in flips(signed.method):
        refusal(changed(signed, method=method), MAY_24)
    for path in flips(signed.path):
        refusal(changed(signed, path=path), MAY_24)
    for query in flips(signed.query):
        refusal(changed(signed, query=query), MAY_24)
    for name, value in signed.headers:
        for other in flips(value):
            refusal(changed(signed, headers={name: other}), MAY_24)
        refusal(changed(signed, headers={name: None}), MAY_24)


def test_every_byte_of_a_presigned_request_counts() -> None:
    signed = request("GET", PRESIGNED, host=EXAMPLE_HOST)
    for method in flips(signed.method):
        refusal(changed(signed, method=method), MAY_24)
    for path in flips(signed.path):
        refusal(changed(signed, path=path), MAY_24)
    for host in flips(EXAMPLE_HOST.encode()):
        refusal(changed(signed, headers={b"host": host}), MAY_24)
    for query in flips(signed.query):
        if query.replace(b"%2f", b"%2F") != signed.query:  # the same escape
            refusal(changed(signed, query=query), MAY_24)


@pytest.mark.parametrize(
    "piece", ["acl", "a=1&a=2", "versionId=1", "x=", "X-Amz-Foo=1", "x-amz-acl=public-read", "=", "%"]
)
def test_nothing_can_be_added_to_a_signed_query(piece: str) -> None:
    for signed in (ours(), presign()):
        query = b"&".join(filter(None, (signed.query, piece.encode())))
        assert refusal(changed(signed, query=query), MAY_24).code == "SignatureDoesNotMatch"


# --- headers ---

AMZ_HEADERS = [
    "x-amz-acl",
    "x-amz-copy-source",
    "x-amz-date",
    "x-amz-decoded-content-length",
    "x-amz-meta-a",
    "x-amz-object-lock-mode",
    "x-amz-storage-class",
    "x-amz-tagging",
    "x-amz-trailer",
    "x-amz-website-redirect-location",
    "x-amz-",
]


@pytest.mark.parametrize("header", AMZ_HEADERS)
def test_an_unsigned_x_amz_header_is_refused(header: str) -> None:
    """Swift CVE-2026-71191: a presigned PUT with headers that its signer did not grant."""
    for signed in (presign(), ours("PUT")):
        if header.encode() in dict(signed.headers):
            continue
        error = refusal(changed(signed, headers={header.encode(): b"20130524T000000Z"}), MAY_24)
        assert (error.code, error.message) == (
            "AccessDenied",
            "There were headers present in the request which were not signed",
        )
        assert error.detail == {"HeadersNotSigned": header}


def test_a_presigned_body_is_what_its_signer_said() -> None:
    """``x-amz-content-sha256`` is tolerated unsigned, as by AWS, since it is the last line that is signed."""
    accepted(changed(presign(), headers={b"x-amz-content-sha256": b"UNSIGNED-PAYLOAD"}), MAY_24)
    for word in (EMPTY, PayloadMode.STREAMING_UNSIGNED_TRAILER.value, PayloadMode.STREAMING_SIGNED.value):
        attack = changed(presign(), headers={b"x-amz-content-sha256": word.encode()})
        assert refusal(attack, MAY_24).code == "SignatureDoesNotMatch"
    in_query = presign(parameters={"X-Amz-Content-Sha256": "UNSIGNED-PAYLOAD"})  # the JavaScript SDK
    assert accepted(in_query, MAY_24).mode is PayloadMode.UNSIGNED
    attack = changed(in_query, headers={b"x-amz-content-sha256": EMPTY.encode()})
    assert refusal(attack, MAY_24).code == "AuthorizationQueryParametersError"
    signed = presign(parameters={"X-Amz-Content-Sha256": WELCOME}, payload=WELCOME)
    assert accepted(signed, MAY_24).payload_sha256 == WELCOME


def test_other_headers_may_be_added_but_signed_ones_not_changed() -> None:
    signed = changed(ours("PUT"), headers={b"content-type": b"a/b", b"content-md5": b"x", b"x-amzn-trace-id": b"y"})
    accepted(signed, MAY_24)
    signed = ours("PUT", headers={"content-type": "a/b"})
    assert refusal(changed(signed, headers={b"content-type": b"c/d"}), MAY_24).code == "SignatureDoesNotMatch"
    assert refusal(changed(signed, headers={b"content-type": None}), MAY_24).code == "SignatureDoesNotMatch"


def test_a_presigned_header_must_be_sent() -> None:
    signed = presign(headers={"x-amz-meta-a": "1"})
    accepted(signed, MAY_24)
    assert refusal(changed(signed, headers={b"x-amz-meta-a": None}), MAY_24).code == "SignatureDoesNotMatch"


def test_the_host_must_be_signed() -> None:
    for signed in (
        changed(ours(), headers={b"authorization": dict(ours().headers)[b"authorization"].replace(b"host;", b"")}),
        presign(parameters={"X-Amz-SignedHeaders": "content-type"}),
    ):
        error = refusal(signed, MAY_24)
        assert (error.code, error.detail) == ("AccessDenied", {"HeadersNotSigned": "host"})


def test_header_values_are_trimmed_collapsed_and_joined_as_they_are_in_bytes() -> None:
    signed = ours("PUT", headers={"x-amz-meta-a": "b c,\N{SNOWMAN}"})
    fields = [field for field in signed.headers if field[0] != b"x-amz-meta-a"]
    fields += [(b"x-amz-meta-a", b"  b \t  c "), (b"x-amz-meta-a", "\N{SNOWMAN} ".encode())]
    accepted(SignedRequest(signed.method, signed.path, signed.query, fields), MAY_24)
    latin = changed(signed, headers={b"x-amz-meta-a": b"b c,\xe9"})
    assert refusal(latin, MAY_24).code == "SignatureDoesNotMatch"


# --- malformed, unknown, too late: the codes of the table of bad inputs ---


def test_a_mismatch_shows_what_we_would_have_signed() -> None:
    signed = ours("GET", "/s3/b/k?acl")
    error = refusal(signed, MAY_24, WRONG)
    fields = {name.decode(): value.decode() for name, value in signed.headers}
    canonical = (
        f"GET\n/s3/b/k\nacl=\nhost:{HOST.decode()}\nx-amz-content-sha256:{EMPTY}\nx-amz-date:20130524T000000Z\n\n"
        f"host;x-amz-content-sha256;x-amz-date\n{EMPTY}"
    )
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    assert error.detail == {
        "AWSAccessKeyId": ACCESS_KEY,
        "CanonicalRequest": canonical,
        "StringToSign": f"AWS4-HMAC-SHA256\n20130524T000000Z\n{SCOPE}\n{digest}",
        "SignatureProvided": fields["authorization"].partition("Signature=")[2],
    }


def test_an_unknown_access_key_is_named() -> None:
    nobody = Credentials([("bob", "AKIDNOBODY", SECRET)])
    for signed in (ours(), presign()):
        error = refusal(signed, MAY_24, nobody)
        assert (error.code, error.detail) == ("InvalidAccessKeyId", {"AWSAccessKeyId": ACCESS_KEY})


@pytest.mark.parametrize(("seconds", "fine"), [(-901, False), (-900, True), (900, True), (901, False)])
def test_a_clock_may_be_off_by_fifteen_minutes(seconds: int, fine: bool) -> None:
    if fine:
        accepted(ours(), MAY_24 + seconds)
        return
    error = refusal(ours(), MAY_24 + seconds)
    assert error.code == "RequestTimeTooSkewed"
    assert error.detail["RequestTime"] == "20130524T000000Z"
    assert error.detail["ServerTime"].startswith("2013-05-2")
    assert error.detail["MaxAllowedSkewMilliseconds"] == "900000"


@pytest.mark.parametrize(
    "date",
    [
        None,
        b"",
        b"now",
        b"20130524T000000",
        b"20130524T240000Z",
        b"20130532T000000Z",
        b"20131324T000000Z",
        b"00000524T000000Z",
        b"2013-05-24T00:00:00Z",
        b"+0130524T000000Z",
        b"20130524T000000Z, 20130524T000000Z",
        "2013052\N{SUPERSCRIPT TWO}T000000Z".encode(),
    ],
)
def test_no_date_or_no_readable_one_is_access_denied(date: bytes | None) -> None:
    error = refusal(changed(ours(), headers={b"x-amz-date": date}), MAY_24)
    assert (error.code, error.message) == (
        "AccessDenied",
        "AWS authentication requires a valid Date or x-amz-date header",
    )


@pytest.mark.parametrize("zone", [b"-9223372036854775807", b"-07100000000", b"+2401", b"-9959"])
def test_a_date_in_a_zone_that_there_is_not_is_none(zone: bytes) -> None:
    headers = {b"x-amz-date": None, b"date": b"Fri, 24 May 2013 00:00:00 " + zone}
    assert refusal(changed(ours(), headers=headers), MAY_24).code == "AccessDenied"


def test_times_are_exact() -> None:
    assert parse_amz_date(b"20130524T000000Z") == MAY_24
    assert parse_amz_date(b"20240229T235959Z") == 1709251199
    assert parse_amz_date(b"20230229T000000Z") is None


CREDENTIAL = f"{ACCESS_KEY}/{SCOPE}"
BAD_CREDENTIALS = [
    "",
    "/",
    ACCESS_KEY,
    f"/{SCOPE}",
    f"{ACCESS_KEY}/20130524/us-east-1/s3",
    f"{CREDENTIAL}/more",
    f"{ACCESS_KEY}/20130525/us-east-1/s3/aws4_request",
    f"{ACCESS_KEY}/20130524/us-east-1/ec2/aws4_request",
    f"{ACCESS_KEY}/20130524/us-east-1/s3/aws5_request",
    f"{ACCESS_KEY}/20130524/eu-west-9/s3/aws4_request",
]


@pytest.mark.parametrize("credential", BAD_CREDENTIALS)
def test_a_wrong_credential_is_malformed(credential: str) -> None:
    value = dict(ours().headers)[b"authorization"].replace(CREDENTIAL.encode(), credential.encode())
    error = refusal(changed(ours(), headers={b"authorization": value}), MAY_24, region="us-east-1")
    assert error.code == "AuthorizationHeaderMalformed"
    assert error.message.startswith("The authorization header is malformed; ")
    wanted = {"Region": "us-east-1"} if "eu-west-9" in credential else {}
    assert error.detail == wanted
    signed = request("GET", f"/s3/b/k?{presign().query.decode()}".replace(quote(CREDENTIAL, safe=""), credential))
    error = refusal(signed, MAY_24, region="us-east-1")
    assert (error.code, error.detail) == ("AuthorizationQueryParametersError", wanted)


def test_any_region_will_do_unless_one_is_given() -> None:
    now = time.time()
    for region in ("US", "eu-1", "x"):
        signed = by_botocore(S3SigV4Auth(BOTO, "s3", region), "GET", f"{ENDPOINT}/b")
        accepted(signed, now)
        accepted(signed, now, region=region)
        assert refusal(signed, now, region="us-east-1").detail == {"Region": "us-east-1"}


@pytest.mark.parametrize(
    "value",
    [
        "AWS4-HMAC-SHA256",
        "AWS4-HMAC-SHA256 ",
        "AWS4-HMAC-SHA256 x",
        "AWS4-HMAC-SHA256 ,,,",
        f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}",
        f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host",
        f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=, Signature=x",
        f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, Signature=x",
        f"AWS4-HMAC-SHA256 Credential={CREDENTIAL}, SignedHeaders=host, Signature=x, Signature=x",
    ],
)
def test_half_an_authorization_header_is_malformed(value: str) -> None:
    error = refusal(changed(ours(), headers={b"authorization": value.encode()}), MAY_24)
    assert error.code == "AuthorizationHeaderMalformed"


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_authorization_header_is_none(value: str) -> None:
    """As s3-tests has it of AWS (``test_object_create_bad_authorization_empty``)."""
    assert refusal(changed(ours(), headers={b"authorization": value.encode()}), MAY_24).code == "AccessDenied"


@pytest.mark.parametrize("value", ["Bearer x", "Basic eDp5", "aws x:y", "AWS4-ECDSA-P256-SHA256 Credential=x"])
def test_an_unknown_scheme_is_an_invalid_argument(value: str) -> None:
    error = refusal(changed(ours(), headers={b"authorization": value.encode()}), MAY_24)
    assert (error.code, error.message) == ("InvalidArgument", "Unsupported Authorization Type")


def test_two_authorization_headers_are_refused() -> None:
    signed = ours()
    twice = [*signed.headers, (b"authorization", dict(signed.headers)[b"authorization"])]
    assert refusal(SignedRequest(b"GET", signed.path, b"", twice), MAY_24).code == "AuthorizationHeaderMalformed"


def test_only_one_mechanism() -> None:
    v2 = b"AWSAccessKeyId=x&Signature=y&Expires=9999999999"
    v4 = presign().query
    for signed in (
        changed(ours(), query=v4),
        changed(ours(), query=v2),
        changed(ours(), query=b"X%2DAmz%2DSignature=x"),
        changed(presign(), query=v4 + b"&" + v2),
        changed(presign(), headers={b"authorization": b"Bearer x"}),
        changed(presign(), query=v2, headers={b"authorization": b"AWS x:y"}),
    ):
        error = refusal(signed, MAY_24)
        assert error.code == "InvalidArgument"
        assert error.message.startswith("Only one auth mechanism allowed")


@pytest.mark.parametrize(
    ("expires", "fine"),
    [
        ("1", True),
        ("604800", True),
        ("0", False),
        ("-1", False),
        ("abc", False),
        ("1.5", False),
        ("+1", False),
        ("1_0", False),
        ("604801", False),
        ("9" * 5000, False),
        ("-", False),
    ],
)
def test_a_presigned_request_lives_at_most_a_week(expires: str, fine: bool) -> None:
    signed = presign(parameters={"X-Amz-Expires": expires})
    if fine:
        accepted(signed, MAY_24)
    else:
        assert refusal(signed, MAY_24).code == "AuthorizationQueryParametersError"


PRESIGNED_PARAMETERS = [
    "X-Amz-Algorithm",
    "X-Amz-Credential",
    "X-Amz-Date",
    "X-Amz-Expires",
    "X-Amz-SignedHeaders",
    "X-Amz-Signature",
]


@pytest.mark.parametrize("name", PRESIGNED_PARAMETERS)
def test_each_presigned_parameter_must_be_there_once(name: str) -> None:
    signed = presign()
    pieces = signed.query.split(b"&")
    mine = [piece for piece in pieces if piece.startswith(name.encode() + b"=")]
    assert len(mine) == 1
    for query in (
        [piece for piece in pieces if piece not in mine],
        [piece if piece not in mine else name.encode() + b"=" for piece in pieces],
        [*pieces, *mine],
        [*pieces, name.encode() + b"="],
    ):
        error = refusal(changed(signed, query=b"&".join(query)), MAY_24)
        assert error.code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Amz-Algorithm", "AWS4-HMAC-SHA1"),
        ("X-Amz-Date", "2013-05-24T00:00:00Z"),
        ("X-Amz-Date", "20130525T000000Z"),
        ("X-Amz-Date", "20139924T000000Z"),
    ],
)
def test_a_wrong_presigned_parameter_is_named(name: str, value: str) -> None:
    assert refusal(presign(parameters={name: value}), MAY_24).code == "AuthorizationQueryParametersError"


def test_a_session_token_is_refused() -> None:
    for signed in (ours(headers={"x-amz-security-token": "t"}), presign(parameters={"X-Amz-Security-Token": "t"})):
        error = refusal(signed, MAY_24)
        assert (error.code, error.status) == ("InvalidToken", 400)
