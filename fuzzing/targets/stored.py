"""What a disk gives back: rows, blob footers, and the frames between the index's readers and its writer.

The first byte chooses; capital letters stand for bytes whose checksums are right, so that what is behind them is
reached.
"""

from __future__ import annotations

from typing import Any

import msgspec
from xxhash import xxh3_64_digest

from aisobj.errors import CorruptData, FormatError
from aisobj.model import Body, Bucket, BucketName, Format, Garbage, Headers, ListedObject, ObjectRecord, Part, Upload
from aisobj.storage import blob_format, keys, records
from aisobj.storage.index_protocol import FrameReader, decode_answers, decode_commit, encode_frame
from fuzzing.target import Label, Target, demand, pieces, same, single_bytes, words

_KINDS: tuple[Any, ...] = (Bucket, BucketName, ObjectRecord, ListedObject, Headers, Body, Upload, Part, Garbage, Format)


def check(data: bytes) -> Label:
    choice, rest = data[:1], data[1:]
    if choice == b"r":
        return choice, *_check_row(rest)
    if choice == b"R":
        row = records.VERSION + rest
        return choice, *_check_row(row + xxh3_64_digest(row))
    if choice == b"f":
        return choice, _check_footer(rest)
    if choice == b"F":
        return choice, _check_footer(_sealed(rest))
    if choice in (b"c", b"a"):
        return choice, *_check_frames(rest, decode_commit if choice == b"c" else decode_answers)
    return None


def _check_row(row: bytes) -> tuple[Label, ...]:
    labels: list[Label] = []
    for kind in _KINDS:
        try:
            record = records.decode(kind, row)
        except (CorruptData, FormatError) as error:
            labels.append(type(error))
            record = None
        if record is not None and kind is not ListedObject:
            again = records.decode(kind, records.encode(record))
            same(again, record, "a record, written and read, is the same")
            labels.append(kind)
        try:
            same(records.decode_all(kind, [(b"k", row)]), [(b"k", record)], "one by one is all at once")
        except (CorruptData, FormatError):
            demand(record is None, "one by one is all at once", record)
    try:
        same(records.seal(bytes(records.unseal(row))), row, "a sealed row has one form")
    except (CorruptData, FormatError) as error:
        labels.append(type(error))
    try:
        totals = keys.decode_counters(row)
        same(keys.decode_counters(keys.encode_counters((totals.objects, totals.bytes))), totals, "counters come back")
    except (CorruptData, FormatError) as error:
        labels.append(type(error))
    return tuple(labels)


def _sealed(footer: bytes) -> bytes:
    """A file's end with a trailer that is right for this footer."""
    head = len(footer).to_bytes(8, "big") + xxh3_64_digest(footer) + blob_format.MAGIC
    head += blob_format.VERSION.to_bytes(2, "big")
    return footer + head + xxh3_64_digest(head)


def _check_footer(end: bytes) -> Label:
    trailer = end[-blob_format.TRAILER :]
    for before in (0, 5, 262145):
        size = before + len(end)
        try:
            length = blob_format.footer_length(trailer, size)
            demand(0 <= length <= size - blob_format.TRAILER, "a footer lies in its file", length)
            data = end[-blob_format.TRAILER - length : -blob_format.TRAILER]
            if len(data) != length:
                continue
            footer = blob_format.decode_footer(data, trailer, size)
        except (CorruptData, FormatError):
            continue
        demand(footer.size >= 0 and footer.size + length + blob_format.TRAILER == size, "the data is before it", footer)
        demand(len(footer.sums) == -(-footer.size // footer.block) * blob_format.SUM, "a sum for each block", footer)
        demand(len(footer.id) == 16, "an id", footer)
        again = blob_format.encode_footer(footer.block, footer.size, footer.sums, footer.id, footer.owner)
        length = blob_format.footer_length(again[-blob_format.TRAILER :], footer.size + len(again))
        read = blob_format.decode_footer(again[:length], again[length:], footer.size + len(again))
        encode = msgspec.msgpack.encode  # a NaN, which an owner may hold, is not equal to itself
        same(
            encode(msgspec.structs.replace(read, v=footer.v)), encode(footer), "a footer, written and read, is the same"
        )
        return "footer"
    return "none"


def _check_frames(stream: bytes, decode: object) -> tuple[Label, ...]:
    def read(parts: object) -> object:
        reader = FrameReader(decode)  # type: ignore[arg-type,var-annotated]
        messages = []
        try:
            for part in parts:  # type: ignore[attr-defined]
                messages += reader.feed(part)
        except ValueError:
            return "no such stream"
        return messages

    whole = read([stream])
    same(read(pieces(stream)), whole, "any pieces of the same bytes are the same messages")
    if len(stream) <= 100:
        same(read(single_bytes(stream)), whole, "single bytes are the same messages")
    if isinstance(whole, str):
        return (whole,)
    assert isinstance(whole, list)
    written = b"".join(encode_frame(message) for message in whole)
    same(read([written]), whole, "messages, written and read, are the same")
    return (len(whole),)


TARGETS = [
    Target(
        "stored",
        check,
        "CorruptData or FormatError only, also behind a right checksum; what was read and written is read again",
        words(
            r"""
            R F r \x93 \x9e \xc4\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
            \xc0 \xa1a \xcf\xff\xff\xff\xff\xff\xff\xff\xff \x80 \x81
            \xd3\x80\x80\x80\x80\x80\x80\x80\x80
            \xc7\x0c\xff\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00
            \x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91
            \xa1\xff \xca\x7f\xc0\x00\x00 \xdd\xff\xff\xff\xff
            """
        ),
        4096,
    )
]
