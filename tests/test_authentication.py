"""The table of signature mechanisms and payload modes: total, and closed to wrong secrets."""

from __future__ import annotations

import base64
import hmac
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from signed_requests import (
    ACCESS_KEY,
    EMPTY,
    MAY_24,
    SCOPE,
    SECRET,
    USERS,
    WRONG,
    accepted,
    changed,
    ours,
    presign,
    refusal,
    request,
)

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.authentication import verify
from aisobj.protocol.credentials import Credentials
from aisobj.protocol.signing import ALLOWED, Mechanism, PayloadMode, SignedRequest

# --- the table: mechanism x payload mode, with a right and with a wrong secret ---

WORDS = {
    PayloadMode.SIGNED: EMPTY,
    PayloadMode.UNSIGNED: "UNSIGNED-PAYLOAD",
    PayloadMode.STREAMING_SIGNED: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    PayloadMode.STREAMING_SIGNED_TRAILER: "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    PayloadMode.STREAMING_UNSIGNED_TRAILER: "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
}

#: What comes of it: the mode, or a refusal's code.
MATRIX: dict[tuple[Mechanism, PayloadMode], PayloadMode | str] = {
    (Mechanism.V4_HEADER, PayloadMode.SIGNED): PayloadMode.SIGNED,
    (Mechanism.V4_HEADER, PayloadMode.UNSIGNED): PayloadMode.UNSIGNED,
    (Mechanism.V4_HEADER, PayloadMode.STREAMING_SIGNED): PayloadMode.STREAMING_SIGNED,
    (Mechanism.V4_HEADER, PayloadMode.STREAMING_SIGNED_TRAILER): PayloadMode.STREAMING_SIGNED_TRAILER,
    (Mechanism.V4_HEADER, PayloadMode.STREAMING_UNSIGNED_TRAILER): PayloadMode.STREAMING_UNSIGNED_TRAILER,
    (Mechanism.V4_HEADER, PayloadMode.MISSING): "InvalidRequest",
    (Mechanism.V4_QUERY, PayloadMode.SIGNED): PayloadMode.SIGNED,
    (Mechanism.V4_QUERY, PayloadMode.UNSIGNED): PayloadMode.UNSIGNED,
    (Mechanism.V4_QUERY, PayloadMode.STREAMING_SIGNED): "AccessDenied",
    (Mechanism.V4_QUERY, PayloadMode.STREAMING_SIGNED_TRAILER): "AccessDenied",
    (Mechanism.V4_QUERY, PayloadMode.STREAMING_UNSIGNED_TRAILER): "AccessDenied",
    (Mechanism.V4_QUERY, PayloadMode.MISSING): PayloadMode.UNSIGNED,
    (Mechanism.V2_HEADER, PayloadMode.SIGNED): PayloadMode.SIGNED,
    (Mechanism.V2_HEADER, PayloadMode.UNSIGNED): PayloadMode.UNSIGNED,
    (Mechanism.V2_HEADER, PayloadMode.STREAMING_SIGNED): "AccessDenied",
    (Mechanism.V2_HEADER, PayloadMode.STREAMING_SIGNED_TRAILER): "AccessDenied",
    (Mechanism.V2_HEADER, PayloadMode.STREAMING_UNSIGNED_TRAILER): "AccessDenied",
    (Mechanism.V2_HEADER, PayloadMode.MISSING): PayloadMode.MISSING,
    (Mechanism.V2_QUERY, PayloadMode.SIGNED): PayloadMode.SIGNED,
    (Mechanism.V2_QUERY, PayloadMode.UNSIGNED): PayloadMode.UNSIGNED,
    (Mechanism.V2_QUERY, PayloadMode.STREAMING_SIGNED): "AccessDenied",
    (Mechanism.V2_QUERY, PayloadMode.STREAMING_SIGNED_TRAILER): "AccessDenied",
    (Mechanism.V2_QUERY, PayloadMode.STREAMING_UNSIGNED_TRAILER): "AccessDenied",
    (Mechanism.V2_QUERY, PayloadMode.MISSING): PayloadMode.MISSING,
}


def in_mode(mechanism: Mechanism, mode: PayloadMode) -> SignedRequest:
    word = WORDS.get(mode)
    if mechanism is Mechanism.V4_HEADER:
        signed = ours("PUT", payload=word or EMPTY)
        return signed if word else changed(signed, headers={b"x-amz-content-sha256": None})
    if mechanism is Mechanism.V4_QUERY:
        if word is None:
            return presign()
        return presign(headers={"x-amz-content-sha256": word}, payload=word)
    date = "Fri, 24 May 2013 00:00:00 GMT" if mechanism is Mechanism.V2_HEADER else str(MAY_24)
    line = f"x-amz-content-sha256:{word}\n" if word else ""
    signature = base64.b64encode(
        hmac.digest(SECRET.encode(), f"PUT\n\n\n{date}\n{line}/s3/b/k".encode(), "sha1")
    ).decode()
    headers = [("x-amz-content-sha256", word)] if word else []
    if mechanism is Mechanism.V2_HEADER:
        return request("PUT", "/s3/b/k", [("Date", date), ("Authorization", f"AWS {ACCESS_KEY}:{signature}"), *headers])
    query = f"AWSAccessKeyId={ACCESS_KEY}&Expires={date}&Signature={quote(signature, safe='')}"
    return request("PUT", f"/s3/b/k?{query}", headers)


def test_the_table_is_total() -> None:
    every = {(mechanism, mode) for mechanism in Mechanism for mode in PayloadMode}
    assert set(ALLOWED) == set(MATRIX) == every


@pytest.mark.parametrize(("mechanism", "mode"), MATRIX)
def test_every_mechanism_with_every_mode(mechanism: Mechanism, mode: PayloadMode) -> None:
    signed = in_mode(mechanism, mode)
    expected = MATRIX[mechanism, mode]
    if not isinstance(expected, PayloadMode):
        assert refusal(signed, MAY_24).code == expected
    else:
        found = accepted(signed, MAY_24)
        assert found.mode is expected
        assert (found.payload_sha256 == EMPTY) == (expected is PayloadMode.SIGNED)
        assert (found.chunk_signer is not None) == (
            expected in (PayloadMode.STREAMING_SIGNED, PayloadMode.STREAMING_SIGNED_TRAILER)
        )
        assert found.presigned == (mechanism in (Mechanism.V4_QUERY, Mechanism.V2_QUERY))
    # A wrong secret is told as such wherever the signature can be looked at, and never gets in.
    wrong = refusal(signed, MAY_24, WRONG)
    assert wrong.code == ("InvalidRequest" if expected == "InvalidRequest" else "SignatureDoesNotMatch")


@pytest.mark.parametrize("mode", PayloadMode)
def test_without_a_signature_no_mode_gets_in(mode: PayloadMode) -> None:
    headers = [("x-amz-content-sha256", WORDS[mode])] if mode in WORDS else []
    assert refusal(request("PUT", "/s3/b/k", headers), MAY_24).code == "AccessDenied"


@pytest.mark.parametrize("mode", PayloadMode)
@pytest.mark.parametrize("name", ["X-Amz-Credential", "X-Amz-Signature", "X-Amz-Algorithm"])
def test_half_a_presigned_request_gets_in_with_no_mode(name: str, mode: PayloadMode) -> None:
    """MinIO CVE-2026-41145: credentials in the query, and no signature that anyone looked at."""
    headers = [("x-amz-content-sha256", WORDS[mode])] if mode in WORDS else []
    query = f"{name}={quote(f'{ACCESS_KEY}/{SCOPE}', safe='')}"
    signed = request("PUT", f"/s3/b/k?{query}", headers)
    assert refusal(signed, MAY_24).code == "AuthorizationQueryParametersError"


@pytest.mark.parametrize("word", ["", "abc", EMPTY[:-1], EMPTY + "0", "STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD"])
def test_an_unknown_mode_is_an_invalid_argument(word: str) -> None:
    error = refusal(ours(payload=word), MAY_24)
    assert (error.code, error.detail["ArgumentName"]) == ("InvalidArgument", "x-amz-content-sha256")


def test_an_upper_case_hash_is_a_hash() -> None:
    assert accepted(ours(payload=EMPTY.upper()), MAY_24).payload_sha256 == EMPTY


@given(authorization=st.binary(max_size=100), query=st.binary(max_size=100), payload=st.binary(max_size=70))
@settings(max_examples=300, deadline=None)
def test_nothing_but_an_s3_error_comes_of_garbage(authorization: bytes, query: bytes, payload: bytes) -> None:
    value = dict(ours().headers)[b"authorization"]
    for signed in (
        changed(ours(), headers={b"authorization": b"AWS4-HMAC-SHA256 " + authorization}),
        changed(
            ours(), headers={b"authorization": value + authorization, b"x-amz-content-sha256": payload}, query=query
        ),
        changed(presign(), query=presign().query[:-64] + query),
        request("GET", "/s3/b/k", [], None),
    ):
        with pytest.raises(S3Error):
            verify(signed, USERS, MAY_24)


def test_signing_keys_are_kept_within_bounds_and_results_never() -> None:
    signed = ours()
    accepted(signed, MAY_24)
    kept = signing.signing_key.cache_info()
    accepted(signed, MAY_24)
    assert signing.signing_key.cache_info().hits == kept.hits + 1
    assert kept.maxsize == signing.MAX_SIGNING_KEYS
    # The same request once the user has another secret, or is gone.
    assert refusal(signed, MAY_24, WRONG).code == "SignatureDoesNotMatch"
    assert refusal(signed, MAY_24, Credentials([("bob", "OTHER", SECRET)])).code == "InvalidAccessKeyId"
