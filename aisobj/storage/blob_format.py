"""The form of a blob file, and where it lies. ``docs/format.md`` says the same for people without this code.

A file (integers big-endian)::

    0             size                      the data, in blocks of ``block`` bytes; the last may be shorter
    size          footer length             the footer: a msgpack map
        v         int                       1
        block     int                       bytes in a block
        size      int                       bytes of data
        sums      bin                       8 bytes of XXH3-64 for each block, in order
        id        bin                       the id the blob was written under (a clone keeps its source's)
        owner     map                       bucket, key, upload, part, content-type, metadata, checksum, ...
    -32           8                         footer length
    -24           8                         XXH3-64 of the footer
    -16           8                         "AISBLB" and the format version as u16
    -8            8                         XXH3-64 of the 24 bytes before: in this place and form in every version

Its path is ``<first 5 hex digits>/<next 2>/<32 hex digits of the id>``. An id begins with the time, so a leaf directory
covers 2^36 ns (69 s) and its parent 2^44 ns (4.9 h): what is newer than an id lies in few directories.
"""

from __future__ import annotations

import os
import re
import struct
from typing import Any

import msgspec
from xxhash import xxh3_64_digest

from aisobj.errors import CorruptData, FormatError
from aisobj.storage.interfaces import Owner
from aisobj.storage.records import UNREADABLE

VERSION = 1
MAGIC = b"AISBLB"
BLOCK = 256 * 1024
MAX_BLOCK = 1024 * 1024
SUM = 8
ID = 16
TRAILER = 32

#: Of a blob's file: its id in hex.
BLOB_NAME = re.compile(r"[0-9a-f]{32}")
#: Directory names: characters of the id in hex.
TOP = slice(0, 5)
LEAF = slice(5, 7)
LEAF_NS = 1 << 36

_TRAILER = struct.Struct(">Q8s6sH8s")
_SEALED = TRAILER - SUM


class Footer(msgspec.Struct, frozen=True):
    """What follows the data. ``sums`` is the packed checksums of the blocks."""

    v: int
    block: int
    size: int
    sums: bytes
    id: bytes
    owner: dict[str, Any]  # as interfaces.Owner


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Footer)


def blob_path(root: str, blob_id: bytes) -> str:
    name = blob_id.hex()
    return os.path.join(root, name[TOP], name[LEAF], name)


def encode_footer(block: int, size: int, sums: bytes, blob_id: bytes, owner: Owner) -> bytes:
    """Footer and trailer, to be appended to the data."""
    footer = _encoder.encode(Footer(VERSION, block, size, sums, blob_id, dict(owner)))
    sealed = _TRAILER.pack(len(footer), xxh3_64_digest(footer), MAGIC, VERSION, b"")[:_SEALED]
    return b"".join((footer, sealed, xxh3_64_digest(sealed)))


def footer_length(trailer: bytes, file_size: int) -> int:
    """The length of the footer before a trailer.

    :raises CorruptData: no trailer, or not one of a file of that size.
    :raises FormatError: a newer release wrote it.
    """
    if len(trailer) != TRAILER or xxh3_64_digest(trailer[:_SEALED]) != trailer[_SEALED:]:
        raise CorruptData("no blob trailer at the end of the file")
    length: int
    length, _, magic, version, _ = _TRAILER.unpack(trailer)
    if magic != MAGIC:
        raise CorruptData("not a blob file")
    if version != VERSION:
        raise FormatError(f"a blob of format {version}; this release reads {VERSION}")
    if length > file_size - TRAILER:
        raise CorruptData("a footer longer than its file")
    return length


def decode_footer(data: bytes, trailer: bytes, file_size: int) -> Footer:
    """The footer in ``data``, checked against its trailer and the size of the file.

    :raises CorruptData: it contradicts itself, or them.
    """
    if xxh3_64_digest(data) != trailer[8:16]:
        raise CorruptData("a footer does not match its checksum")
    try:
        footer = _decoder.decode(data)
    except UNREADABLE as error:
        raise CorruptData(f"not a footer: {error}") from None
    if len(footer.id) != ID:
        raise CorruptData("a footer without an id")
    if not 0 < footer.block <= MAX_BLOCK or len(footer.sums) != -(-footer.size // footer.block) * SUM:
        raise CorruptData("a footer whose checksums do not cover its data")
    if footer.size + len(data) + TRAILER != file_size:
        raise CorruptData("a footer that is not where the data ends")
    return footer


def verify(view: memoryview, first_block: int, footer: Footer) -> None:
    """Compare whole blocks with their checksums.

    :param view: the bytes of one or more whole blocks (the blob's last may be short).
    :raises CorruptData: one differs.
    """
    block, sums = footer.block, footer.sums
    at = first_block * SUM
    for start in range(0, len(view), block):
        if xxh3_64_digest(view[start : start + block]) != sums[at : at + SUM]:
            raise CorruptData(f"block {at // SUM} does not match its checksum")
        at += SUM
