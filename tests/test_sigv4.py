"""Signature Version 4: AWS's published examples, botocore's signers, and clients' own canonical forms."""

from __future__ import annotations

import hashlib
import time
from urllib.parse import quote

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st
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
    Wire,
    accepted,
    by_botocore,
    ours,
    refusal,
    request,
)

from aisobj import signing
from aisobj.errors import S3Error
from aisobj.protocol.signing import ChunkSigner, PayloadMode, SignedRequest

BOTO = BotoCredentials(ACCESS_KEY, SECRET)

# --- AWS's examples: "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk",
# "... in Multiple Chunks", "... Including Trailing Headers", "Authenticating Requests: Using Query Parameters" ---


EXAMPLES = {
    "GET Object": (
        "GET",
        "/test.txt",
        [("Range", "bytes=0-9"), ("x-amz-content-sha256", EMPTY)],
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
    ),
    "PUT Object": (
        "PUT",
        "/test%24file.text",
        [
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", WELCOME),
        ],
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "PUT Object, the dollar unescaped": (
        "PUT",
        "/test$file.text",
        [
            ("Date", "Fri, 24 May 2013 00:00:00 GMT"),
            ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
            ("x-amz-content-sha256", WELCOME),
        ],
        "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
    ),
    "GET Bucket Lifecycle": (
        "GET",
        "/?lifecycle",
        [("x-amz-content-sha256", EMPTY)],
        "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
    ),
    "GET Bucket (List Objects)": (
        "GET",
        "/?max-keys=2&prefix=J",
        [("x-amz-content-sha256", EMPTY)],
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
    "GET Bucket, parameters in another order": (
        "GET",
        "/?prefix=J&max-keys=2",
        [("x-amz-content-sha256", EMPTY)],
        "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
    ),
}


def example(name: str) -> SignedRequest:
    method, target, headers, signature = EXAMPLES[name]
    return with_authorization(method, target, [*headers, ("x-amz-date", "20130524T000000Z")], EXAMPLE_HOST, signature)


def with_authorization(
    method: str, target: str, headers: list[tuple[str, str]], host: str, signature: str
) -> SignedRequest:
    names = ";".join(sorted(["host", *(name.lower() for name, _ in headers)]))
    value = f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE},SignedHeaders={names},Signature={signature}"
    return request(method, target, [("Authorization", value), *headers], host)


@pytest.mark.parametrize("name", EXAMPLES)
def test_aws_examples_in_the_header(name: str) -> None:
    signed = example(name)
    found = accepted(signed, MAY_24, region="us-east-1")
    assert (found.signature_version, found.presigned, found.mode) == (4, False, PayloadMode.SIGNED)
    assert found.payload_sha256 == (WELCOME if signed.method == b"PUT" else EMPTY)
    assert found.chunk_signer is None
    assert refusal(signed, MAY_24, WRONG).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_client_side_makes_aws_examples(name: str) -> None:
    signed = example(name)
    fields = dict(signed.headers)
    added = signing.sign_headers(
        signed.method,
        signed.path,
        signed.query,
        [item for item in signed.headers if item[0] not in (b"authorization", b"x-amz-date", b"x-amz-content-sha256")],
        fields[b"x-amz-content-sha256"].decode(),
        access_key=ACCESS_KEY,
        secret=SECRET,
        region="us-east-1",
        now=MAY_24 + 0.9,
    )
    assert dict(added)[b"authorization"].replace(b", ", b",") == fields[b"authorization"]
    assert dict(added)[b"x-amz-date"] == b"20130524T000000Z"


def test_aws_example_presigned_from_a_quarter_of_an_hour_before_until_it_expires() -> None:
    signed = request("GET", PRESIGNED, host=EXAMPLE_HOST)
    for now in (MAY_24 - 900, MAY_24, MAY_24 + 86400):
        found = accepted(signed, now, region="us-east-1")
        assert (found.signature_version, found.presigned, found.mode) == (4, True, PayloadMode.UNSIGNED)
        assert found.payload_sha256 is None and found.chunk_signer is None
    assert refusal(signed, MAY_24, WRONG).code == "SignatureDoesNotMatch"
    expired = refusal(signed, MAY_24 + 86401)
    assert (expired.code, expired.message) == ("AccessDenied", "Request has expired")
    assert expired.detail["Expires"] == "2013-05-25T00:00:00.000Z"
    early = refusal(signed, MAY_24 - 901)
    assert (early.code, early.message) == ("AccessDenied", "Request is not valid yet")


def chunked_example(trailer: bool) -> SignedRequest:
    headers = [
        ("content-encoding", "aws-chunked"),
        ("x-amz-content-sha256", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" + ("-TRAILER" if trailer else "")),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-decoded-content-length", "66560"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
    ]
    headers += [("x-amz-trailer", "x-amz-checksum-crc32c")] if trailer else [("content-length", "66824")]
    seed = (
        "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
        if trailer
        else "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    )
    return with_authorization("PUT", "/examplebucket/chunkObject.txt", headers, "s3.amazonaws.com", seed)


CHUNKS = [hashlib.sha256(b"a" * size).hexdigest() for size in (65536, 1024, 0)]
CHUNK_SIGNATURES = {
    False: [
        b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ],
    True: [
        b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ],
}
TRAILER = b"x-amz-checksum-crc32c:sOO8/Q==\n"
TRAILER_SIGNATURE = b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"


def chunk_signer(trailer: bool) -> ChunkSigner:
    found = accepted(chunked_example(trailer), MAY_24)
    assert found.mode is (PayloadMode.STREAMING_SIGNED_TRAILER if trailer else PayloadMode.STREAMING_SIGNED)
    assert found.payload_sha256 is None and found.chunk_signer is not None
    return found.chunk_signer


@pytest.mark.parametrize("trailer", [False, True])
def test_aws_examples_of_chunk_signatures(trailer: bool) -> None:
    signer = chunk_signer(trailer)
    for chunk, signature in zip(CHUNKS, CHUNK_SIGNATURES[trailer], strict=True):
        signer.verify_chunk(chunk, signature)
    if trailer:
        signer.verify_trailer(TRAILER, TRAILER_SIGNATURE)
    assert refusal(chunked_example(trailer), MAY_24, WRONG).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize("bad", [b"", b"\xff" * 64, CHUNK_SIGNATURES[True][0].upper(), CHUNK_SIGNATURES[True][1]])
def test_a_wrong_chunk_signature_is_refused(bad: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        chunk_signer(True).verify_chunk(CHUNKS[0], bad)
    assert caught.value.code == "SignatureDoesNotMatch"


def test_chunks_in_another_order_other_data_and_other_trailers_are_refused() -> None:
    first, second, last = CHUNK_SIGNATURES[True]
    signer = chunk_signer(True)
    with pytest.raises(S3Error):
        signer.verify_chunk(CHUNKS[1], second)
    signer.verify_chunk(CHUNKS[0], first)
    with pytest.raises(S3Error):
        signer.verify_chunk(CHUNKS[0], first)
    with pytest.raises(S3Error):
        signer.verify_chunk(CHUNKS[2], second)
    signer.verify_chunk(CHUNKS[1], second)
    with pytest.raises(S3Error):
        signer.verify_trailer(TRAILER, TRAILER_SIGNATURE)
    signer.verify_chunk(CHUNKS[2], last)
    for trailer, signature in ((TRAILER.replace(b"Q", b"A"), TRAILER_SIGNATURE), (TRAILER, last)):
        with pytest.raises(S3Error) as caught:
            signer.verify_trailer(trailer, signature)
        assert caught.value.code == "SignatureDoesNotMatch"


# --- botocore as the signer ---

KEYS = st.text(min_size=1, max_size=40) | st.sampled_from(
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
VALUES = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20)


@given(key=KEYS, value=VALUES, prefix=KEYS, root=st.booleans())
@settings(max_examples=100, deadline=None)
def test_any_request_signed_by_botocore_in_the_header(key: str, value: str, prefix: str, root: bool) -> None:
    now = time.time()
    endpoint = ENDPOINT.removesuffix("/s3") if root else ENDPOINT
    url = f"{endpoint}/bucket/{quote(key, safe='/~')}?prefix={quote(prefix, safe='-_.~')}&acl&a=2&a=1"
    signed = by_botocore(S3SigV4Auth(BOTO, "s3", "US"), "PUT", url, {"x-amz-meta-a": value}, data=b"body")
    found = accepted(signed, now)
    assert found.payload_sha256 == hashlib.sha256(b"body").hexdigest()
    assert refusal(signed, now, WRONG).code == "SignatureDoesNotMatch"


@given(key=KEYS, value=KEYS)
@settings(max_examples=100, deadline=None)
def test_any_request_presigned_by_botocore(key: str, value: str) -> None:
    now = time.time()
    url = f"{ENDPOINT}/bucket/{quote(key, safe='/~')}?response-content-type={quote(value, safe='-_.~')}"
    signed = by_botocore(S3SigV4QueryAuth(BOTO, "s3", "eu-1", 60), "GET", url)
    assert accepted(signed, now, region="eu-1").presigned
    assert refusal(signed, now, WRONG).code == "SignatureDoesNotMatch"


def test_requests_of_a_whole_botocore_client() -> None:
    wire = Wire(ENDPOINT, "s3v4")
    s3 = wire.client
    s3.list_buckets()
    s3.create_bucket(Bucket="bucket")
    s3.list_objects_v2(Bucket="bucket", Prefix="a b+ü", Delimiter="/")
    s3.put_object(Bucket="bucket", Key="a b+ü", Body=b"x", Metadata={"m": "a  b"})
    s3.get_object(Bucket="bucket", Key="../x//", Range="bytes=0-1", IfMatch='"x"')
    s3.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "k"}]})
    assert len(wire.sent) == 6
    for signed in wire.sent:
        found = accepted(signed, time.time())
        assert (found.signature_version, found.mode) == (4, PayloadMode.SIGNED)
    over_tls = Wire(ENDPOINT.replace("http:", "https:"), "s3v4")
    over_tls.client.put_object(Bucket="bucket", Key="k", Body=b"x")
    (signed,) = over_tls.sent
    assert accepted(signed, time.time()).mode is PayloadMode.STREAMING_UNSIGNED_TRAILER
    assert refusal(signed, time.time(), WRONG).code == "SignatureDoesNotMatch"


def test_date_instead_of_x_amz_date() -> None:
    now = time.time()
    signed = by_botocore(S3SigV4Auth(BOTO, "s3", "us"), "GET", f"{ENDPOINT}/b/k", {"Date": "to be replaced"})
    assert b"x-amz-date" not in dict(signed.headers)
    accepted(signed, now)
    assert refusal(signed, now + 1000).code == "RequestTimeTooSkewed"


def test_without_the_hash_header_only_where_that_is_asked_for_and_then_the_body_is_empty() -> None:
    now = time.time()
    signed = by_botocore(SigV4Auth(BOTO, "s3", "us"), "GET", f"{ENDPOINT}/b/k")
    assert b"x-amz-content-sha256" not in dict(signed.headers)
    error = refusal(signed, now)
    assert (error.code, error.message) == (
        "InvalidRequest",
        "Missing required header for this request: x-amz-content-sha256",
    )
    found = accepted(signed, now, require_sha_header=False)
    assert (found.mode, found.payload_sha256) == (PayloadMode.SIGNED, EMPTY)
    assert refusal(signed, now, WRONG, require_sha_header=False).code == "SignatureDoesNotMatch"


# --- what clients sign under /s3 (facts: seen on the wire) ---


@pytest.mark.parametrize(
    ("client", "wire", "host", "uri"),
    [
        ("boto3", "/s3/bkt/a/k", "", "/s3/bkt/a/k"),
        ("s3fs-fuse", "/s3/bkt/a/k", "", "/bkt/a/k"),
        ("s3fs-fuse bucket", "/s3/bkt/?prefix=x", "", "/bkt/?prefix=x"),
        ("s3cmd host_base", "/s3/bkt/a/k", "/s3", "/bkt/a/k"),
        ("s3cmd host_base bucket", "/s3/bkt/?location", "/s3", "/bkt/?location"),
        ("s3cmd ls", "/s3/", "/s3", "/"),
        ("s3cmd ls without a slash", "/s3", "/s3", "/"),
        ("s3cmd host_bucket", "/s3/bkt/a/k%20%2Bx", "/s3/bkt", "/a/k%20%2Bx"),
        ("s3cmd host_bucket bucket", "/s3/bkt/", "/s3/bkt", "/"),
        ("escaped slash, as AWS signs it", "/s3/bkt/a%2Fk", "", "/s3/bkt/a/k"),
        ("escaped slash, as it is sent", "/s3/bkt/a%2fk", "", "/s3/bkt/a%2Fk"),
        ("escapes that were not needed", "/s3/bkt/%41%7E%c3%bc!", "", "/s3/bkt/A~%C3%BC%21"),
    ],
)
def test_forms_that_clients_sign_under_s3(client: str, wire: str, host: str, uri: str) -> None:
    signed = ours("PUT", wire, host=HOST.decode() + host, signed_target=uri)
    accepted(signed, MAY_24)
    assert refusal(signed, MAY_24, WRONG).code == "SignatureDoesNotMatch"


@pytest.mark.parametrize(
    ("wire", "host", "uri"),
    [
        ("/s3x/bkt/k", "", "x/bkt/k"),
        ("/v1/bkt/k", "/v1", "/bkt/k"),
        ("/v1/bkt/k", "", "/bkt/k"),
        ("/v1/bkt/k", "", "/s3/v1/bkt/k"),
        ("/bkt/k", "", "/s3/bkt/k"),
        ("/bkt/k", "/bkt", "/k"),
        ("/s3/bkt/k", "/s3/bkt", "/bkt/k"),
        ("/s3/bkt/k", "/s3/other", "/k"),
        ("/s3/bkt/k", "/bkt", "/k"),
        ("/s3/bkt/k", "", "/k"),
        ("/s3/s3/bkt/k", "", "/bkt/k"),
    ],
)
def test_no_other_forms(wire: str, host: str, uri: str) -> None:
    signed = ours("PUT", wire, host=HOST.decode() + host, signed_target=uri)
    assert refusal(signed, MAY_24).code == "SignatureDoesNotMatch"


def test_v1_is_signed_over_the_wire_path() -> None:
    accepted(ours("POST", "/v1/buckets/b?provider=ais", {"content-type": "application/json"}, WELCOME), MAY_24)


@pytest.mark.parametrize(
    ("signed", "sent"),
    [
        ("/s3/b/a//b", "/s3/b/a/b"),
        ("/s3/b/x", "/s3/b/./x"),
        ("/s3/b/x", "/s3/b/%2e%2e/x"),
        ("/s3/b/x", "/s3/b/y/../x"),
        ("/s3/b/x", "/s3/b/x/"),
        ("/s3/b/x", "/s3//b/x"),
        ("/s3/b/a+b", "/s3/b/a%20b"),
        ("/s3/b/a%252Fb", "/s3/b/a%2Fb"),
        ("/s3/b/x?a=1&b=2", "/s3/b/x?a=1%26b=2"),
        ("/s3/b/x?a", "/s3/b/x"),
        ("/s3/b/x?a=1", "/s3/b/x?a=1&a=1"),
    ],
)
def test_a_path_is_never_normalised_nor_a_query(signed: str, sent: str) -> None:
    assert refusal(ours("GET", sent, signed_target=signed), MAY_24).code == "SignatureDoesNotMatch"
