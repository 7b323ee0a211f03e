"""Request bodies are cut off the stream at exactly their end, however the stream is cut into reads."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.web.framing import ChunkedFraming, LengthFraming
from aisobj.web.limits import Limits

LIMITS = Limits(chunk_line_bytes=64, trailer_bytes=64)


def feed_all(framing: LengthFraming | ChunkedFraming, data: bytes, cuts: list[int]) -> tuple[bytes, bytes]:
    """Body and rest of ``data`` fed in the pieces that ``cuts`` make of it."""
    body = b""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    for begin, end in itertools.pairwise(edges):
        if framing.done:
            return body, data[begin:]
        piece, rest = framing.feed(data[begin:end])
        body += piece
        if framing.done:
            return body, rest + data[end:]
        assert rest == b""
    return body, b""


CUTS = st.lists(st.integers(0, 500), max_size=20)


@given(st.binary(max_size=50), st.binary(max_size=50), CUTS)
def test_a_body_by_length_ends_at_its_length(body: bytes, after: bytes, cuts: list[int]) -> None:
    assert feed_all(LengthFraming(len(body)), body + after, cuts) == (body, after)


EXTENSION = st.sampled_from([b"", b";a", b';a="b c"', b";\xff"])
TRAILER = st.sampled_from([b"A: b\r\n", b"x-amz-checksum-crc32:AAAA\r\n", b"B:\r\n"])


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=40), EXTENSION, st.booleans()), max_size=6),
    st.lists(TRAILER, max_size=2),
    st.binary(max_size=30),
    CUTS,
)
def test_chunks_come_out_whole_and_nothing_of_what_follows(
    chunks: list[tuple[bytes, bytes, bool]], trailers: list[bytes], after: bytes, cuts: list[int]
) -> None:
    wire = b"".join(
        (b"%X" if upper else b"00%x") % len(data) + extension + b"\r\n" + data + b"\r\n"
        for data, extension, upper in chunks
    )
    wire += b"0\r\n" + b"".join(trailers) + b"\r\n"
    framing = ChunkedFraming(LIMITS)
    assert feed_all(framing, wire + after, cuts) == (b"".join(data for data, _, _ in chunks), after)
    assert framing.done


@given(st.binary(max_size=200), CUTS)
def test_garbage_is_refused_or_waited_for_but_never_anything_else(data: bytes, cuts: list[int]) -> None:
    try:
        feed_all(ChunkedFraming(LIMITS), data, cuts)
    except S3Error as error:
        assert (error.code, error.close) == ("BadRequest", True)


@pytest.mark.parametrize("line", [b"5;" + b"x" * 100, b"0\r\n" + b"A: b\r\n" * 20, b"0\r\nA: " + b"x" * 100])
def test_lines_and_trailers_are_counted_also_byte_by_byte(line: bytes) -> None:
    framing = ChunkedFraming(LIMITS)
    with pytest.raises(S3Error, match="too long"):
        for at in range(len(line)):
            framing.feed(line[at : at + 1])


def test_a_read_within_a_body_is_passed_on_without_a_copy() -> None:
    data = b"x" * 1000
    body, _ = LengthFraming(5000).feed(data)
    assert body is data
