"""x-amz-checksum-*, Content-MD5, x-amz-content-sha256 and aws-chunked over the wire."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from awscrt import checksums as crt
from s3fixtures import refused
from s3raw import STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, Answer, Sender, User

BODY = os.urandom(200_000)

#: AWS's algorithms, computed by what is not under test.
DIGESTS: dict[str, Callable[[bytes], bytes]] = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": lambda data: crt.crc32c(data).to_bytes(4, "big"),
    "CRC64NVME": lambda data: crt.crc64nvme(data).to_bytes(8, "big"),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
each_algorithm = pytest.mark.parametrize("algorithm", DIGESTS)


def value(algorithm: str, data: bytes) -> str:
    return base64.b64encode(DIGESTS[algorithm](data)).decode()


def header(algorithm: str) -> str:
    return f"x-amz-checksum-{algorithm.lower()}"


def missing(raw: Sender, target: str) -> bool:
    return raw.ask("HEAD", target).status == 404


@each_algorithm
@pytest.mark.parametrize("size", [0, 10, len(BODY)])
def test_a_checksum_is_verified_kept_and_returned_when_asked_for(
    s3: Any, bucket: str, algorithm: str, size: int
) -> None:
    want = value(algorithm, BODY[:size])
    put = s3.put_object(Bucket=bucket, Key="k", Body=BODY[:size], ChecksumAlgorithm=algorithm)
    assert (put[f"Checksum{algorithm}"], put["ChecksumType"]) == (want, "FULL_OBJECT")
    for call in (s3.get_object, s3.head_object):
        found = call(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert (found[f"Checksum{algorithm}"], found["ChecksumType"]) == (want, "FULL_OBJECT")
    (entry,) = s3.list_objects_v2(Bucket=bucket)["Contents"]
    assert (entry["ChecksumAlgorithm"], entry["ChecksumType"]) == ([algorithm], "FULL_OBJECT")
    if size:
        part = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", Range="bytes=0-5")
        assert f"Checksum{algorithm}" not in part  # it is that of the whole


def test_without_checksum_mode_none_is_returned(raw: Sender, bucket: str) -> None:
    fields = [(header("SHA256"), value("SHA256", b"x"))]
    assert raw.ask("PUT", f"/s3/{bucket}/k", fields, b"x").headers[header("SHA256")] == value("SHA256", b"x")
    answer = raw.ask("GET", f"/s3/{bucket}/k")
    assert not [name for name in answer.headers if name.startswith("x-amz-checksum")]


@each_algorithm
def test_a_wrong_checksum_stores_nothing(raw: Sender, bucket: str, algorithm: str) -> None:
    target = f"/s3/{bucket}/k"
    for size in (10, len(BODY)):
        answer = raw.ask("PUT", target, [(header(algorithm), value(algorithm, b"other"))], BODY[:size])
        assert (answer.status, answer.code) == (400, "BadDigest")
        assert missing(raw, target)


def test_checksum_headers_that_make_no_sense(raw: Sender, bucket: str) -> None:
    target = f"/s3/{bucket}/k"
    two = [(header(a), value(a, b"x")) for a in ("CRC32", "SHA1")]
    for fields in (
        two,
        [("x-amz-checksum-md4", "AAAA")],
        [(header("CRC32"), "?")],
        [(header("CRC32"), "")],
        [(header("CRC32"), value("SHA1", b"x"))],
        [(header("CRC32"), value("CRC32", b"x").rstrip("="))],
        [("x-amz-sdk-checksum-algorithm", "MD4")],
    ):
        answer = raw.ask("PUT", target, fields, b"x")
        assert (answer.status, answer.code) == (400, "InvalidRequest"), fields
        assert missing(raw, target)


def test_content_md5(raw: Sender, bucket: str) -> None:
    target = f"/s3/{bucket}/k"
    right = base64.b64encode(hashlib.md5(b"x").digest()).decode()
    wrong = base64.b64encode(hashlib.md5(b"y").digest()).decode()
    for given, code in (
        (wrong, "BadDigest"),
        ("not base64!", "InvalidDigest"),
        (right[:8], "InvalidDigest"),
        ("", "InvalidDigest"),
        (base64.b64encode(b"x" * 15).decode(), "InvalidDigest"),
        (hashlib.md5(b"x").hexdigest(), "InvalidDigest"),
    ):
        answer = raw.ask("PUT", target, [("Content-MD5", given)], b"x")
        assert (answer.status, answer.code) == (400, code), given
        assert missing(raw, target)
    assert raw.ask("PUT", target, [("Content-MD5", right)], b"x").status == 200


def test_the_payload_hash_is_verified_even_of_who_does_not_sign(raw: Sender, bucket: str) -> None:
    target = f"/s3/{bucket}/k"
    for size in (10, len(BODY)):
        answer = raw.ask("PUT", target, body=BODY[:size], payload=hashlib.sha256(b"other").hexdigest())
        assert (answer.status, answer.code) == (400, "XAmzContentSHA256Mismatch")
        assert answer.element("S3ComputedContentSHA256") == hashlib.sha256(BODY[:size]).hexdigest()
        assert missing(raw, target)
    assert raw.ask("PUT", target, body=b"x", payload="nonsense").code == "InvalidArgument"


# aws-chunked


@each_algorithm
def test_unsigned_chunks_with_a_trailer(raw: Sender, s3: Any, bucket: str, algorithm: str) -> None:
    chunks = [BODY[:1], BODY[1:65_537], BODY[65_537:]]
    trailers = [(header(algorithm), value(algorithm, BODY))]
    answer = raw.put_chunked(f"/s3/{bucket}/k", chunks, trailers=trailers)
    assert (answer.status, answer.headers[header(algorithm)]) == (200, value(algorithm, BODY))
    found = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
    assert (found["Body"].read(), found[f"Checksum{algorithm}"]) == (BODY, value(algorithm, BODY))
    assert "ContentEncoding" not in found


def test_the_other_content_encodings_stay(raw: Sender, bucket: str) -> None:
    fields = [("x-amz-decoded-content-length", "1"), ("content-encoding", "aws-chunked,gzip")]
    head = raw.head("PUT", f"/s3/{bucket}/k", fields, payload=UNSIGNED_TRAILER, length=11)
    assert raw.send(head + b"1\r\nx\r\n0\r\n\r\n").status == 200
    assert raw.ask("HEAD", f"/s3/{bucket}/k").headers["content-encoding"] == "gzip"


def test_chunks_inside_http_chunks(raw: Sender, s3: Any, bucket: str) -> None:
    """As boto sends over https: no Content-Length at all."""
    fields = [
        ("transfer-encoding", "chunked"),
        ("content-encoding", "aws-chunked"),
        ("x-amz-trailer", header("CRC32")),
        ("x-amz-decoded-content-length", str(len(BODY))),
    ]
    inner = f"{len(BODY):x}\r\n".encode() + BODY + f"\r\n0\r\n{header('CRC32')}:{value('CRC32', BODY)}\r\n\r\n".encode()
    pieces = [inner[start : start + 7001] for start in range(0, len(inner), 7001)]
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
    answer = raw.send(raw.head("PUT", f"/s3/{bucket}/k", fields, payload=UNSIGNED_TRAILER) + body)
    assert answer.status == 200
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY


@pytest.mark.parametrize("sizes", [[], [5], [8192, 8192, 1], [65536, 65536, 65536, 3392]])
@pytest.mark.parametrize("mode", [STREAMING, STREAMING_TRAILER])
def test_signed_chunks(signed: Sender, signed_bucket: str, mode: str, sizes: list[int]) -> None:
    chunks = [BODY[sum(sizes[:n]) : sum(sizes[: n + 1])] for n in range(len(sizes))]
    body = b"".join(chunks)
    trailers = [(header("CRC64NVME"), value("CRC64NVME", body))] if mode == STREAMING_TRAILER else []
    answer = signed.put_chunked(f"/s3/{signed_bucket}/k", chunks, mode=mode, trailers=trailers)
    assert answer.status == 200, answer
    assert signed.ask("GET", f"/s3/{signed_bucket}/k").body == body


def test_an_open_server_takes_signed_chunks_of_anybody(server: Any, s3: Any, bucket: str) -> None:
    """Nobody can check the signatures, but the framing, the length and the trailer are."""
    anybody = Sender(server.endpoint, User("anyone", "anything"))
    trailers = [(header("SHA256"), value("SHA256", BODY))]
    for mode in (STREAMING, STREAMING_TRAILER):
        answer = anybody.put_chunked(
            f"/s3/{bucket}/k", [BODY[:100_000], BODY[100_000:]], mode=mode, trailers=trailers if "TRAIL" in mode else []
        )
        assert answer.status == 200
        assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
        s3.delete_object(Bucket=bucket, Key="k")
    answer = anybody.put_chunked(
        f"/s3/{bucket}/k", [BODY], mode=STREAMING_TRAILER, trailers=[(header("SHA256"), value("SHA256", b"other"))]
    )
    assert (answer.status, answer.code) == (400, "BadDigest")
    assert missing(anybody, f"/s3/{bucket}/k")


def flip(position: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:position] + bytes([body[position] ^ 1]) + body[position + 1 :]


@pytest.mark.parametrize("mode", [STREAMING, STREAMING_TRAILER])
def test_no_flipped_byte_of_signed_chunks_is_stored(signed: Sender, signed_bucket: str, mode: str) -> None:
    target = f"/s3/{signed_bucket}/k"
    chunks = [b"a" * 8192, b"b" * 100]
    trailers = [(header("CRC32"), value("CRC32", b"".join(chunks)))] if mode == STREAMING_TRAILER else []
    lengths: list[int] = []

    def put(change: Callable[[bytes], bytes]) -> Answer:
        return signed.put_chunked(target, chunks, mode=mode, trailers=trailers, change=change)

    put(lambda body: lengths.append(len(body)) or body[:-2])  # what is measured also misses its end: harmless
    signed.ask("DELETE", target)
    length = lengths[0]
    for position in [*range(0, 90, 3), 4000, 8270, *range(8280, length - 2, 3)]:
        answer = put(flip(position))
        assert answer.status in (400, 403), position
        assert answer.code in (
            "SignatureDoesNotMatch",
            "IncompleteBody",
            "InvalidChunkSizeError",
            "MalformedTrailerError",
        )
        assert missing(signed, target)


def test_a_signed_body_that_is_cut_anywhere_is_not_stored(signed: Sender, signed_bucket: str) -> None:
    target = f"/s3/{signed_bucket}/k"

    def put(cut: int) -> Answer:
        return signed.put_chunked(target, [b"a" * 8192, b"b" * 100], mode=STREAMING, change=lambda body: body[:cut])

    assert put(-2).status == 200  # only the empty line after the last chunk is missing
    signed.ask("DELETE", target)
    for cut in (-90, -95, -100, -200, 8192, 100, 50, 0):
        answer = put(cut)
        assert (answer.status, answer.code) == (400, "IncompleteBody"), cut
        assert missing(signed, target)


def test_small_signed_chunks_are_refused(signed: Sender, signed_bucket: str) -> None:
    target = f"/s3/{signed_bucket}/k"
    answer = signed.put_chunked(target, [b"a" * 8191, b"b" * 100], mode=STREAMING)
    assert (answer.status, answer.code) == (403, "InvalidChunkSizeError")
    assert missing(signed, target)


def test_chunks_signed_by_another_secret_are_refused(signed: Sender, signed_bucket: str) -> None:
    target = f"/s3/{signed_bucket}/k"

    def resign(body: bytes) -> bytes:
        head, _, rest = body.partition(b"chunk-signature=")
        return head + b"chunk-signature=" + b"0" * 64 + rest[64:]

    answer = signed.put_chunked(target, [b"a" * 9000], mode=STREAMING, change=resign)
    assert (answer.status, answer.code) == (403, "SignatureDoesNotMatch")
    assert missing(signed, target)


def test_trailers_must_be_what_was_announced(raw: Sender, bucket: str) -> None:
    target = f"/s3/{bucket}/k"
    right = value("CRC32", b"x")
    announced = [("x-amz-trailer", header("CRC32"))]
    for headers, trailers, code in (
        (announced, [], "MalformedTrailerError"),
        (announced, [(header("SHA1"), value("SHA1", b"x"))], "MalformedTrailerError"),
        (announced, [(header("CRC32"), right), ("x-amz-meta-a", "b")], "MalformedTrailerError"),
        (announced, [("bad name", "x")], "MalformedTrailerError"),
        ([], [(header("CRC32"), value("CRC32", b"y"))], "BadDigest"),
        ([], [(header("CRC32"), "?")], "InvalidRequest"),
        ([(header("CRC32"), right)], [(header("CRC32"), right)], "InvalidRequest"),
        ([("x-amz-trailer", "x-amz-meta-a")], [("x-amz-meta-a", "b")], "InvalidRequest"),
    ):
        answer = raw.put_chunked(target, [b"x"], headers=headers, trailers=trailers)
        assert (answer.status, answer.code) == (400, code), (headers, trailers)
        assert missing(raw, target)


# Multipart


@each_algorithm
def test_multipart_checksums(s3: Any, bucket: str, algorithm: str) -> None:
    """Composite where AWS has it, full object where the algorithm can be combined: both verified and returned."""
    bodies = [os.urandom(5 << 20), b"end"]
    values = [value(algorithm, body) for body in bodies]
    digests = b"".join(DIGESTS[algorithm](body) for body in bodies)
    composite = base64.b64encode(DIGESTS[algorithm](digests)).decode() + "-2"
    for kind, want in (("COMPOSITE", composite), ("FULL_OBJECT", value(algorithm, b"".join(bodies)))):
        options = {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
        if (algorithm, kind) in (("CRC64NVME", "COMPOSITE"), ("SHA1", "FULL_OBJECT"), ("SHA256", "FULL_OBJECT")):
            with refused("InvalidRequest", 400):
                s3.create_multipart_upload(Bucket=bucket, Key="k", **options)
            continue
        made = s3.create_multipart_upload(Bucket=bucket, Key="k", **options)
        assert (made["ChecksumAlgorithm"], made["ChecksumType"]) == (algorithm, kind)
        names = {"Bucket": bucket, "Key": "k", "UploadId": made["UploadId"]}
        parts = []
        for number, body in enumerate(bodies, 1):
            part = s3.upload_part(**names, PartNumber=number, Body=body, ChecksumAlgorithm=algorithm)
            assert part[f"Checksum{algorithm}"] == values[number - 1]
            parts.append({"PartNumber": number, "ETag": part["ETag"], f"Checksum{algorithm}": values[number - 1]})
        listed = s3.list_parts(**names)
        assert (listed["ChecksumAlgorithm"], listed["ChecksumType"]) == (algorithm, kind)
        assert [part[f"Checksum{algorithm}"] for part in listed["Parts"]] == values
        with refused("InvalidPart", 400):
            wrong = [{**parts[0], f"Checksum{algorithm}": values[1]}, parts[1]]
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": wrong})
        with refused("BadDigest", 400):
            given = {f"Checksum{algorithm}": value(algorithm, b"other")}
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, **given)
        given = {f"Checksum{algorithm}": want, "ChecksumType": kind}
        done = s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts}, **given)
        assert (done[f"Checksum{algorithm}"], done["ChecksumType"]) == (want, kind)
        found = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED")
        assert (found[f"Checksum{algorithm}"], found["ChecksumType"]) == (want, kind)
        assert found["Body"].read() == b"".join(bodies)


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("SHA256", "COMPOSITE"), ("CRC32", "COMPOSITE"), ("CRC32", "FULL_OBJECT")]
)
def test_a_single_part_is_read_with_its_own_checksum(s3: Any, bucket: str, algorithm: str, kind: str) -> None:
    """By its number, or by the range of bytes that it is. boto3 verifies what a GET says."""
    bodies = [os.urandom(5 << 20), b"end"]
    names = {"Bucket": bucket, "Key": "k"}
    made = s3.create_multipart_upload(**names, ChecksumAlgorithm=algorithm, ChecksumType=kind)
    parts = []
    for number, body in enumerate(bodies, 1):
        put = s3.upload_part(
            **names, UploadId=made["UploadId"], PartNumber=number, Body=body, ChecksumAlgorithm=algorithm
        )
        parts.append({"PartNumber": number, "ETag": put["ETag"], f"Checksum{algorithm}": value(algorithm, body)})
    s3.complete_multipart_upload(**names, UploadId=made["UploadId"], MultipartUpload={"Parts": parts})
    names["ChecksumMode"] = "ENABLED"
    ranges = {1: f"bytes=0-{(5 << 20) - 1}", 2: "bytes=-3"}
    for call in (s3.get_object, s3.head_object):
        for number, body in enumerate(bodies, 1):
            for which in ({"PartNumber": number}, {"Range": ranges[number]}):
                found = call(**names, **which)
                assert (found[f"Checksum{algorithm}"], found["ChecksumType"]) == (value(algorithm, body), kind), which
                assert "Body" not in found or found["Body"].read() == body
        for other in (f"bytes=0-{5 << 20}", "bytes=1-5", "bytes=-2", "bytes=0-0", f"bytes={(5 << 20) - 1}-"):
            assert "ChecksumType" not in call(**names, Range=other), other


def test_an_object_of_one_request_is_its_only_part(s3: Any, raw: Sender, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"whole", ChecksumAlgorithm="SHA1")
    for which in ({"PartNumber": 1}, {"Range": "bytes=0-4"}):
        found = s3.get_object(Bucket=bucket, Key="k", ChecksumMode="ENABLED", **which)
        assert (found["ChecksumSHA1"], found["ChecksumType"]) == (value("SHA1", b"whole"), "FULL_OBJECT")
    answer = raw.ask("GET", f"/s3/{bucket}/k?partNumber=1")
    assert not [name for name in answer.headers if name.startswith("x-amz-checksum")]


def test_a_part_in_another_algorithm_than_its_upload_is_refused(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k", ChecksumAlgorithm="SHA256")["UploadId"]
    names = {"Bucket": bucket, "Key": "k", "UploadId": upload}
    with refused("InvalidRequest", 400):
        s3.upload_part(**names, PartNumber=1, Body=b"x" * 100_000, ChecksumAlgorithm="CRC32")
    assert "Parts" not in s3.list_parts(**names)


@pytest.mark.parametrize(
    ("algorithm", "kind", "statements"),
    [
        (
            "SHA256",
            "COMPOSITE",
            [
                ({"ChecksumType": "FULL_OBJECT"}, "InvalidRequest", "using the COMPOSITE checksum mode"),
                (
                    {"ChecksumCRC32": "AAAAAA=="},
                    "InvalidRequest",
                    "expected checksum Type: sha256, actual checksum Type",
                ),
                ({"ChecksumSHA256": "{whole}-7"}, "BadDigest", "SHA256"),
                ({"ChecksumSHA256": "{whole}-0"}, "InvalidRequest", "x-amz-checksum-sha256"),
                ({"ChecksumSHA256": "{whole}-x"}, "InvalidRequest", "x-amz-checksum-sha256"),
                ({"ChecksumSHA256": "{part}-1"}, "BadDigest", "SHA256"),
            ],
        ),
        (
            "CRC32",
            "FULL_OBJECT",
            [
                ({"ChecksumType": "COMPOSITE"}, "InvalidRequest", "using the FULL_OBJECT checksum mode"),
                ({"ChecksumCRC32": "{part}-1"}, "BadDigest", "CRC32"),
                ({"ChecksumCRC32C": "AAAAAA=="}, "InvalidRequest", "actual checksum Type: crc32c"),
            ],
        ),
        (
            None,
            None,
            [
                ({"ChecksumType": "COMPOSITE"}, "InvalidRequest", "using the FULL_OBJECT checksum mode"),
                ({"ChecksumCRC32": "AAAAAA=="}, "InvalidRequest", "expected checksum Type: null"),
            ],
        ),
    ],
)
def test_what_a_complete_says_of_checksums_must_be_true_of_the_upload(
    s3: Any, bucket: str, algorithm: str | None, kind: str | None, statements: list[tuple[dict[str, str], str, str]]
) -> None:
    names, options = {"Bucket": bucket, "Key": "k"}, {"ChecksumAlgorithm": algorithm, "ChecksumType": kind}
    made = s3.create_multipart_upload(**names, **{name: given for name, given in options.items() if given})
    names["UploadId"] = made["UploadId"]
    sent = algorithm or "CRC32"
    put = s3.upload_part(**names, PartNumber=1, Body=b"abc", ChecksumAlgorithm=sent)
    part = {"PartNumber": 1, "ETag": put["ETag"], f"Checksum{sent}": value(sent, b"abc")}
    values = {"part": value(sent, b"abc"), "whole": value(sent, DIGESTS[sent](b"abc"))}
    for given, code, words in statements:
        with refused(code, 400) as answer:
            filled = {name: text.format(**values) for name, text in given.items()}
            s3.complete_multipart_upload(**names, MultipartUpload={"Parts": [part]}, **filled)
        assert words in answer["Error"]["Message"]
    right = {} if kind is None else {f"Checksum{sent}": values["whole" if kind == "COMPOSITE" else "part"]}
    s3.complete_multipart_upload(
        **names, MultipartUpload={"Parts": [part]}, ChecksumType=kind or "FULL_OBJECT", **right
    )


def test_what_a_presigned_url_says_of_checksums_counts(raw: Sender, s3: Any, bucket: str) -> None:
    """SDKs move headers into the query when they presign; but no value, which is that of a body that nobody had yet."""
    target = f"/s3/{bucket}/k"
    unknown = "x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32"
    assert raw.ask("PUT", f"{target}?{unknown}", [(header("SHA1"), value("SHA1", b"x"))], b"x").status == 200
    for method in ("GET", "HEAD"):
        assert raw.ask(method, f"{target}?x-amz-checksum-mode=ENABLED").headers[header("SHA1")] == value("SHA1", b"x")
    copy = [("x-amz-copy-source", f"{bucket}/k")]
    assert raw.ask("PUT", f"{target}?x-amz-checksum-algorithm=SHA256", copy).element("ChecksumSHA256")
    made = raw.ask("POST", f"{target}?uploads&x-amz-checksum-algorithm=CRC32C&x-amz-checksum-type=FULL_OBJECT")
    assert made.headers["x-amz-checksum-algorithm"] == "CRC32C"
    assert made.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    bad = raw.ask("POST", f"{target}?uploads&X-Amz-Checksum-Algorithm=MD4")
    assert (bad.status, bad.code) == (400, "InvalidRequest")
    names = {"Bucket": bucket, "Key": "k", "UploadId": made.element("UploadId")}
    etag = s3.upload_part(**names, PartNumber=1, Body=b"abc", ChecksumAlgorithm="CRC32C")["ETag"]
    part = f"<Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>".encode()
    target += f"?uploadId={names['UploadId']}&x-amz-checksum-type="
    assert raw.ask("POST", f"{target}COMPOSITE", body=document).code == "InvalidRequest"
    assert raw.ask("POST", f"{target}FULL_OBJECT", body=document).status == 200


def test_a_url_that_boto_presigned_asks_for_the_checksum(
    signed_server: Any, signed_s3: Any, signed_bucket: str
) -> None:
    """With SigV2 it moves the header into the query."""
    signed_s3.put_object(Bucket=signed_bucket, Key="k", Body=b"x", ChecksumAlgorithm="SHA1")
    client = signed_server.boto(config={"signature_version": "s3"})
    url = client.generate_presigned_url("get_object", {"Bucket": signed_bucket, "Key": "k", "ChecksumMode": "ENABLED"})
    answer = Sender(signed_server.endpoint).ask("GET", url.removeprefix(signed_server.endpoint))
    assert (answer.status, answer.headers[header("SHA1")]) == (200, value("SHA1", b"x"))


def test_a_composite_checksum_takes_that_of_each_part(s3: Any, bucket: str) -> None:
    """A full-object one does not; nor does AWS ask for them there."""
    for kind in ("COMPOSITE", "FULL_OBJECT"):
        names = {"Bucket": bucket, "Key": "k"}
        made = s3.create_multipart_upload(**names, ChecksumAlgorithm="CRC32C", ChecksumType=kind)
        names["UploadId"] = made["UploadId"]
        put = s3.upload_part(**names, PartNumber=1, Body=b"abc", ChecksumAlgorithm="CRC32C")
        parts = [{"PartNumber": 1, "ETag": put["ETag"]}]
        if kind == "COMPOSITE":
            with refused("InvalidRequest", 400) as answer:
                s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})
            assert "crc32c checksum" in answer["Error"]["Message"]
            assert "missing for part 1" in answer["Error"]["Message"]
            parts[0]["ChecksumCRC32C"] = put["ChecksumCRC32C"]
        s3.complete_multipart_upload(**names, MultipartUpload={"Parts": parts})


def test_checksum_types_that_are_none(raw: Sender, bucket: str) -> None:
    for fields in (
        [("x-amz-checksum-algorithm", "MD4")],
        [("x-amz-checksum-type", "COMPOSITE")],
        [("x-amz-checksum-algorithm", "CRC32"), ("x-amz-checksum-type", "HALF")],
    ):
        answer = raw.ask("POST", f"/s3/{bucket}/k?uploads", fields)
        assert (answer.status, answer.code) == (400, "InvalidRequest")


@pytest.mark.parametrize("setting", ["when_supported", "when_required"])
def test_both_settings_of_the_sdks(server: Any, bucket: str, setting: str) -> None:
    client = server.boto(config={"request_checksum_calculation": setting, "response_checksum_validation": setting})
    put = client.put_object(Bucket=bucket, Key="k", Body=BODY)
    assert ("ChecksumCRC32" in put) == (setting == "when_supported")
    assert client.get_object(Bucket=bucket, Key="k")["Body"].read() == BODY
