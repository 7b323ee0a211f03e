"""The aws-chunked decoder, against AWS's published examples and what Swift's tests say that AWS answers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import io
import time
from collections.abc import Callable, Iterable
from itertools import pairwise

import pytest
from awscrt import checksums as crt
from botocore.httpchecksum import AwsChunkedWrapper, CrtCrc32Checksum
from hypothesis import given
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.protocol.awschunked import MAX_HEAD, MAX_TRAILER, Decoder, Mode, announced_trailers

CRC = (b"x-amz-checksum-crc32",)
CRC_LINE = b"x-amz-checksum-crc32:AAAAAA=="
UNSIGNED = Mode.UNSIGNED_TRAILER


class Signer:
    """SigV4's chunk signatures as AWS describes them, for AWS's example key and time; seeded with a request's."""

    def __init__(self, seed: bytes) -> None:
        self._previous = seed
        key = b"AWS4wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
        for part in (b"20130524", b"us-east-1", b"s3", b"aws4_request"):
            key = hmac.digest(key, part, "sha256")
        self._key = key

    def sign(self, kind: bytes, *hashes: str) -> bytes:
        head = b"AWS4-HMAC-SHA256-" + kind + b"\n20130524T000000Z\n20130524/us-east-1/s3/aws4_request"
        text = b"\n".join([head, self._previous, *(digest.encode() for digest in hashes)])
        self._previous = hmac.digest(self._key, text, "sha256").hex().encode()
        return self._previous

    def chunk(self, sha256_hex: str) -> bytes:
        return self.sign(b"PAYLOAD", hashlib.sha256().hexdigest(), sha256_hex)

    def trailer(self, canonical: bytes) -> bytes:
        return self.sign(b"TRAILER", hashlib.sha256(canonical).hexdigest())

    def verify_chunk(self, sha256_hex: str, signature: bytes, /) -> None:
        if self.chunk(sha256_hex) != signature:
            raise S3Error("SignatureDoesNotMatch")

    def verify_trailer(self, canonical_trailer: bytes, signature: bytes, /) -> None:
        if self.trailer(canonical_trailer) != signature:
            raise S3Error("SignatureDoesNotMatch")


SEED = b"0" * 64


def signed(chunks: Iterable[bytes], head: bytes = b"%x;chunk-signature=%s\r\n") -> tuple[bytes, Signer]:
    """The chunks with the last, empty one, up to and including its head; and the signer, ready for the trailer."""
    signer = Signer(SEED)
    body = b""
    for chunk in chunks:
        body += head % (len(chunk), signer.chunk(hashlib.sha256(chunk).hexdigest())) + chunk + b"\r\n"
    return body + head % (0, signer.chunk(hashlib.sha256().hexdigest())), signer


def signed_with_trailer(chunks: Iterable[bytes], line: bytes = CRC_LINE, end: bytes = b"\r\n") -> bytes:
    body, signer = signed(chunks)
    return body + line + end + b"x-amz-trailer-signature:" + signer.trailer(line + b"\n") + b"\r\n\r\n"


def unsigned(chunks: Iterable[bytes], after: bytes = b"\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + after


def decode(
    body: bytes,
    length: int,
    mode: Mode = UNSIGNED,
    trailers: tuple[bytes, ...] = (),
    *,
    seed: bytes = SEED,
    cuts: Iterable[int] = (),
) -> tuple[bytes, dict[str, str]]:
    decoder = Decoder(mode, length, None if mode is UNSIGNED else Signer(seed), trailers)
    edges = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    decoded = b""
    for start, end in pairwise(edges):
        decoded += b"".join(decoder.feed(memoryview(body)[start:end]))
    return decoded, decoder.finish()


def refused(code: str, function: Callable[[], object]) -> S3Error:
    with pytest.raises(S3Error) as caught:
        function()
    assert caught.value.code == code
    return caught.value


# What is taken


def test_the_published_signed_example() -> None:
    """``sigv4-streaming.html``: 66,560 times "a" in chunks of 64 KiB and 1 KiB, with the page's own signatures."""
    signatures = [
        b"ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
        b"0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
        b"b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
    ]
    body = b"".join(
        b"%x;chunk-signature=%s\r\n%s\r\n" % (size, signature, b"a" * size)
        for size, signature in zip((65536, 1024, 0), signatures, strict=True)
    )
    seed = b"4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    assert decode(body, 66560, Mode.SIGNED, seed=seed) == (b"a" * 66560, {})


def test_the_published_example_with_trailer() -> None:
    """``sigv4-streaming-trailers.html``: the same object with a CRC32C trailer."""
    signatures = [
        b"b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
        b"1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
        b"2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
    ]
    body = b"".join(
        b"%x;chunk-signature=%s\r\n%s" % (size, signature, b"a" * size + b"\r\n" if size else b"")
        for size, signature in zip((65536, 1024, 0), signatures, strict=True)
    )
    body += b"x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:"
    body += b"d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n"
    seed = b"106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e"
    data, trailers = decode(body, 66560, Mode.SIGNED_TRAILER, (b"x-amz-checksum-crc32c",), seed=seed)
    assert data == b"a" * 66560
    assert base64.b64decode(trailers["x-amz-checksum-crc32c"]) == crt.crc32c(data).to_bytes(4, "big")


def test_what_botocore_sends() -> None:
    data = bytes(range(256)) * 20
    wrapper = AwsChunkedWrapper(
        io.BytesIO(data), checksum_cls=CrtCrc32Checksum, checksum_name="x-amz-checksum-crc32", chunk_size=1000
    )
    decoded, trailers = decode(wrapper.read(), len(data), trailers=CRC)
    assert decoded == data
    assert base64.b64decode(trailers["x-amz-checksum-crc32"]) == crt.crc32(data).to_bytes(4, "big")


def test_the_trailer_of_minio_go() -> None:
    body = signed_with_trailer([b"data"], end=b"\n\r\n")
    assert decode(body, 4, Mode.SIGNED_TRAILER, CRC) == (b"data", {"x-amz-checksum-crc32": "AAAAAA=="})
    assert decode(unsigned([b"data"], CRC_LINE + b"\n\r\n\r\n"), 4, trailers=CRC)[0] == b"data"


@pytest.mark.parametrize("after", [b"\r\n", b"", b"\r\n\r\n\r\n"])
def test_an_empty_body_and_the_ends_aws_takes(after: bytes) -> None:
    assert decode(b"0\r\n" + after, 0) == (b"", {})
    assert decode(signed([])[0] + after, 0, Mode.SIGNED) == (b"", {})


@pytest.mark.parametrize(
    "after",
    [
        b"x-amz-checksum-crc32: AAAAAA==\r\n",
        b"X-Amz-Checksum-CRC32:AAAAAA==  \r\n\r\n",
        b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n\r\n",
        b"x-amz-checksum-crc32:BBBBBA==\r\nx-amz-checksum-crc32:AAAAAA==\r\n",
    ],
)
def test_trailers_aws_takes(after: bytes) -> None:
    assert decode(unsigned([b"x"], after), 1, trailers=CRC)[1] == {"x-amz-checksum-crc32": "AAAAAA=="}


@pytest.mark.parametrize(
    "head",
    [b"%x ; chunk-signature=%s\r\n", b"%X;chunk-signature = %s \r\n", b"000%x;chunk-signature=%s\r\n"],
)
def test_chunk_heads_aws_takes(head: bytes) -> None:
    assert decode(signed([b"x" * 10], head=head)[0] + b"\r\n", 10, Mode.SIGNED)[0] == b"x" * 10


def test_the_last_signed_chunk_may_be_short() -> None:
    chunks = [b"x" * 8192, b"y" * 9000, b"z"]
    assert decode(signed(chunks)[0], 17193, Mode.SIGNED)[0] == b"".join(chunks)


def test_without_credentials_signatures_are_not_looked_at() -> None:
    decoder = Decoder(Mode.SIGNED, 3, None)
    assert b"".join(decoder.feed(b"3;chunk-signature=bad\r\nabc\r\n0;chunk-signature=bad\r\n\r\n")) == b"abc"
    assert decoder.finish() == {}


def test_data_is_not_copied() -> None:
    body = bytearray(b"4\r\nabcd\r\n0\r\n\r\n")
    (piece,) = Decoder(UNSIGNED, 4, None).feed(memoryview(body))
    body[3:7] = b"wxyz"
    assert piece == b"wxyz"


BODIES = [
    (unsigned([b"abc", b"\r\n0\r\n\r\n", b"0"]), 11, UNSIGNED, ()),
    (unsigned([b"abc"], CRC_LINE + b"\r\n\r\n"), 3, UNSIGNED, CRC),
    (signed([b"a" * 8192, b"\r\n"])[0] + b"\r\n", 8194, Mode.SIGNED, ()),
    (signed_with_trailer([b"a" * 8192, b"tail"]), 8196, Mode.SIGNED_TRAILER, CRC),
]


@given(st.sampled_from(BODIES), st.lists(st.integers(0, 20_000), max_size=30))
def test_any_cut_gives_the_same(body: tuple[bytes, int, Mode, tuple[bytes, ...]], cuts: list[int]) -> None:
    assert decode(*body, cuts=cuts) == decode(*body)


@pytest.mark.parametrize("body", BODIES, ids=["unsigned", "trailer", "signed", "signed trailer"])
def test_byte_by_byte(body: tuple[bytes, int, Mode, tuple[bytes, ...]]) -> None:
    assert decode(*body, cuts=range(len(body[0]))) == decode(*body)


@given(st.binary(max_size=60), st.integers(0, 20), st.lists(st.integers(0, 60), max_size=5))
def test_garbage_gets_an_s3_error_or_a_body_of_the_right_length(body: bytes, length: int, cuts: list[int]) -> None:
    try:
        data, _ = decode(body, length, cuts=cuts)
    except S3Error as error:
        assert error.code in ("IncompleteBody", "MalformedTrailerError")
    else:
        assert len(data) == length


# What is refused


@pytest.mark.parametrize(
    "body",
    [
        b"", b"4", b"4\r", b"4\r\n", b"4\r\nabc", b"4\r\nabcd", b"4\r\nabcd\r", b"4\r\nabcd\r\n", b"4\r\nabcd\r\n0",
        b"4\r\nabcd\r\n0\r\n\r",  # Swift: test_strm_unsgnd_pyld_trl_no_trailing_lf
        b"4\nabcd\n0\n\n", b"4\rabcd\r0\r\r", b"4\r\nabcd0\r\n\r\n", b"4\r\nabcdX\n0\r\n\r\n", b"4\r\nabcde\r\n0\r\n",
        b"-4\r\nabcd\r\n0\r\n\r\n", b"0x4\r\nabcd\r\n0\r\n\r\n", b"+4\r\nabcd\r\n0\r\n\r\n", b" 4\r\nabcd\r\n0\r\n\r\n",
        b"4_0\r\nabcd\r\n", b"\r\n4\r\nabcd\r\n0\r\n\r\n", b"not chunked at all", b"00000000000000004\r\nabcd\r\n0\r\n",
    ],
)  # fmt: skip
def test_broken_framing_is_an_incomplete_body(body: bytes) -> None:
    for cuts in ((), range(len(body))):
        error = refused("IncompleteBody", lambda cuts=cuts: decode(body, 4, cuts=cuts))
        assert error.message == "The request body terminated unexpectedly"


@pytest.mark.parametrize("step", [1, 7, 100_000])
@pytest.mark.parametrize("first", [b"0", b" ", b"4;" + b"x" * 100])
def test_an_endless_chunk_head_is_given_up(first: bytes, step: int) -> None:
    decoder = Decoder(UNSIGNED, 10, None)
    body = first + b"0" * (4 * MAX_HEAD)
    fed = 0

    def feed() -> None:
        nonlocal fed
        for start in range(0, len(body), step):
            decoder.feed(body[start : start + step])
            fed = start + step

    refused("IncompleteBody", feed)
    assert fed < MAX_HEAD


@pytest.mark.parametrize("step", [7, 100_000])
def test_an_endless_trailer_is_given_up(step: int) -> None:
    decoder = Decoder(UNSIGNED, 0, None, CRC)
    decoder.feed(b"0\r\n")
    tail = b"\r\n" * MAX_TRAILER
    refused("MalformedTrailerError", lambda: [decoder.feed(tail[i : i + step]) for i in range(0, len(tail), step)])


def test_a_trailer_of_blanks_takes_no_time() -> None:
    started = time.perf_counter()
    body = unsigned([b"x"], b"x:" + b" " * (MAX_TRAILER - 10) + b"\x00\r\n")
    refused("MalformedTrailerError", lambda: decode(body, 1, trailers=CRC))
    assert time.perf_counter() - started < 0.1


@pytest.mark.parametrize("size", [b"11", b"ffffffffffffffff", b"7fffffffffffffff"])
def test_a_chunk_beyond_the_decoded_length_is_refused_at_its_head(size: bytes) -> None:
    error = refused("IncompleteBody", lambda: Decoder(UNSIGNED, 16, None).feed(size + b"\r\n"))
    assert error.detail == {"NumberBytesExpected": "16", "NumberBytesProvided": str(int(size, 16))}


def test_another_decoded_length_than_announced_is_an_incomplete_body() -> None:
    error = refused("IncompleteBody", lambda: decode(unsigned([b"abc", b"abc"]), 3))
    assert error.detail == {"NumberBytesExpected": "3", "NumberBytesProvided": "6"}
    error = refused("IncompleteBody", lambda: decode(unsigned([b"abc"]), 4))
    assert error.detail == {"NumberBytesExpected": "4", "NumberBytesProvided": "3"}
    # Swift: test_strm_unsgnd_pyld_trl_zero_chunk_mid_stream
    error = refused("IncompleteBody", lambda: decode(unsigned([b"abcd", b"", b"efgh"]), 8))
    assert error.detail == {"NumberBytesExpected": "8", "NumberBytesProvided": "4"}


@pytest.mark.parametrize("mode", [Mode.SIGNED, Mode.SIGNED_TRAILER])
@pytest.mark.parametrize(
    ("head", "code"),
    [
        (b"%x\r\n", "IncompleteBody"),
        (b"%x;\r\n", "IncompleteBody"),
        (b"%x;chunk-signature\r\n", "IncompleteBody"),
        (b"%x;chunk-signature=\r\n", "IncompleteBody"),
        (b"%x;chunk-signature=invalid\r\n", "SignatureDoesNotMatch"),
        (b"%x;extra=param\r\n", "SignatureDoesNotMatch"),
    ],
)
def test_a_signed_chunk_needs_its_signature(mode: Mode, head: bytes, code: str) -> None:
    body = head % 4 + b"data\r\n" + head % 0 + b"\r\n"
    refused(code, lambda: decode(body, 4, mode))


def test_other_chunk_extensions_get_what_aws_answers() -> None:
    before = signed([b"data"], head=b"%x;extra=param;chunk-signature=%s\r\n")[0]
    refused("SignatureDoesNotMatch", lambda: decode(before, 4, Mode.SIGNED))
    after = signed([b"data"], head=b"%x;chunk-signature=%s;extra=param\r\n")[0]
    refused("IncompleteBody", lambda: decode(after, 4, Mode.SIGNED))


def test_any_changed_byte_of_a_signed_body_is_noticed() -> None:
    body = signed_with_trailer([b"a" * 8192, b"tail"])
    checksum_and_framing = [*range(90), *range(8270, len(body))]
    for position in checksum_and_framing:
        changed = bytearray(body)
        changed[position] ^= 1
        try:
            data, trailers = decode(bytes(changed), 8196, Mode.SIGNED_TRAILER, CRC)
        except S3Error:
            continue
        # What may differ without being noticed is how the same thing was written: never the data or a trailer.
        assert (data, trailers) == (b"a" * 8192 + b"tail", {"x-amz-checksum-crc32": "AAAAAA=="}), position


def test_a_chunks_data_is_not_handed_out_after_a_wrong_signature() -> None:
    chunks = [b"a" * 8192, b"b" * 8192]
    body = bytearray(signed(chunks)[0])
    body[100] ^= 1  # in the first chunk's data
    decoder = Decoder(Mode.SIGNED, 16384, Signer(SEED))
    end_of_first = body.index(b"b" * 100)
    refused("SignatureDoesNotMatch", lambda: decoder.feed(bytes(body[: end_of_first + 1])))


def test_the_last_chunk_is_verified_too() -> None:
    body, _ = signed([b"data"])
    wrong = body[:-4] + (b"00" if body[-4:-2] != b"00" else b"11") + b"\r\n"
    refused("SignatureDoesNotMatch", lambda: decode(wrong, 4, Mode.SIGNED))


def test_a_short_signed_chunk_that_is_not_the_last_is_refused() -> None:
    body, _ = signed([b"x" * 1024, b"y" * 4096, b"z" * 3072])
    error = refused("InvalidChunkSizeError", lambda: decode(body, 8192, Mode.SIGNED))
    assert error.status == 403
    assert error.detail == {"Chunk": "2", "BadChunkSize": "1024"}  # AWS's numbers: Swift's too_small_chunks
    assert decode(unsigned([b"x", b"y"]), 2)[0] == b"xy"  # no such rule where nothing is signed


@pytest.mark.parametrize(
    "after",
    [
        b"", b"\r\n",  # announced, not sent
        b"\r\n" + CRC_LINE + b"\r\n",  # an empty line ends the trailers
        b"x-amz-checksum-crc32c:AAAAAA==\r\n", b"x-amz-checksum-bad:AAAAAA==\r\n",  # another
        CRC_LINE + b"\r\nbonus:trailer\r\n",  # one more
        CRC_LINE + b"\r\nx-amz-trailer-signature:00\r\n",
        b"x-amz-checksum-crc32\r\n", b":AAAAAA==\r\n", b"x-amz-checksum-crc32 :AAAAAA==\r\n",  # unparsable
        b"x-amz-checksum-crc32:\xff\r\n", b"x-amz-checksum-crc32:A\x00\r\n", b"x-amz-checksum-crc32:A\rB\r\n",
        CRC_LINE + b"\r\n\r\nmore", CRC_LINE + b"\r\n\r\nbonus:trailer\r\n",  # bytes after the end
    ],
)  # fmt: skip
def test_other_trailers_than_announced_are_malformed(after: bytes) -> None:
    refused("MalformedTrailerError", lambda: decode(unsigned([b"x"], after), 1, trailers=CRC))


@pytest.mark.parametrize("after", [CRC_LINE, CRC_LINE + b"\n", CRC_LINE + b"\r", b"x-amz-che"])
def test_a_trailer_line_cut_short_is_an_incomplete_body(after: bytes) -> None:
    refused("IncompleteBody", lambda: decode(unsigned([b"x"], after), 1, trailers=CRC))


def test_a_trailer_that_was_not_announced_is_malformed() -> None:
    refused("MalformedTrailerError", lambda: decode(unsigned([b"x"], CRC_LINE + b"\r\n"), 1))
    refused("MalformedTrailerError", lambda: decode(signed([b"x"])[0] + CRC_LINE + b"\r\n", 1, Mode.SIGNED))


def test_bytes_after_the_end_are_refused() -> None:
    refused("MalformedTrailerError", lambda: decode(unsigned([b"x"]) + b"GET / HTTP/1.1\r\n", 1))
    refused("MalformedTrailerError", lambda: decode(signed([b"x"])[0] + b"\r\n1\r\n", 1, Mode.SIGNED))


def test_a_signed_trailer_needs_its_signature_at_the_end() -> None:
    body, signer = signed([b"data"])
    signature = b"x-amz-trailer-signature:" + signer.trailer(CRC_LINE + b"\n") + b"\r\n"
    for tail in (b"", b"\r\n", CRC_LINE + b"\r\n\r\n", signature + CRC_LINE + b"\r\n"):
        refused("IncompleteBody", lambda tail=tail: decode(body + tail, 4, Mode.SIGNED_TRAILER, CRC))
    # Swift: test_strm_sgnd_pyld_trl_no_trailer
    refused("IncompleteBody", lambda: decode(body + signature, 4, Mode.SIGNED_TRAILER))
    refused("MalformedTrailerError", lambda: decode(body + signature + signature, 4, Mode.SIGNED))


def test_a_wrong_trailer_signature_is_refused() -> None:
    body = signed_with_trailer([b"data"]).replace(b"AAAAAA==", b"AAAAAQ==")
    refused("SignatureDoesNotMatch", lambda: decode(body, 4, Mode.SIGNED_TRAILER, CRC))


# x-amz-trailer


@pytest.mark.parametrize(
    "value",
    ["x-amz-checksum-crc32", "X-Amz-Checksum-Crc32", "x-amz-checksum-crc32,", "x-amz-checksum-crc32,,",
     "x-amz-checksum-crc32, "],
)  # fmt: skip
def test_announced_trailer(value: str) -> None:
    assert announced_trailers(value, checksum_in_headers=False) == CRC


@pytest.mark.parametrize(
    "value",
    [
        "", ",", ", x-amz-checksum-crc32", ", x-amz-checksum-crc32, ,", "x-amz-checksum-crc32, ,", "foo", "content-md5",
        "x-amz-content-sha256", "x-amz-checksum-bad", "x-amz-checksum-crc32, x-amz-foo", "x-amz-trailer-signature",
    ],
)  # fmt: skip
def test_an_unknown_trailer_is_an_invalid_request(value: str) -> None:
    error = refused("InvalidRequest", lambda: announced_trailers(value, checksum_in_headers=False))
    assert error.message == "The value specified in the x-amz-trailer header is not supported"


def test_a_second_checksum_is_an_invalid_request() -> None:
    both = "x-amz-checksum-crc32, x-amz-checksum-sha256"
    first = refused("InvalidRequest", lambda: announced_trailers(both, checksum_in_headers=False))
    second = refused("InvalidRequest", lambda: announced_trailers("x-amz-checksum-crc32", checksum_in_headers=True))
    assert first.message == second.message
    assert first.message == "Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed."
