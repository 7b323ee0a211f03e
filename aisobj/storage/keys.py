"""The layout of index keys, in one table.

Root partition (``ROOT``)::

    F                          format version, minimum reader, feature flags, instance id
    k                          checkpoint, sealed: every blob with a smaller id is owned by the index or gone
    b<name>                    model.BucketName
    d<bucket id>               a destroyed bucket whose rows and blobs are being purged

A bucket's partition (its 16-byte id)::

    A                          model.Bucket: state and properties; every write expects it unchanged
    C                          counters (objects, bytes), sealed: add only
    O<key>                     model.ObjectRecord, the current version
    V<key>00<inv version id>   older versions and delete markers, newest first (a key holds no NUL)
    X<version id>              model.Headers: user metadata too long for the record
    D<body id>                 the bytes of a small object
    M<body id>                 model.Body: the extents of a large one
    U<key>00<upload id>        model.Upload
    P<upload id><part u16>     model.Part
    P<upload id>               how often parts were put, sealed: add only (see ``multipart``)
    B<blob id>                 sealed: who owns it, a body id or an upload id; what a restart compares files with
    G<time u64><body id>       model.Garbage: blobs to unlink once no reader can hold them

Every row but ``d``, which is empty, ends in a checksum (``records``): a model's name stands for ``records.encode`` of
one, *sealed* for plain bytes in the form of ``records.seal``.

The longest key is U or V: 1 + 1,024 + 1 + 16 bytes behind a 16-byte partition. LMDB 1.0 takes 1,978.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from aisobj.errors import CorruptData, StorageError
from aisobj.model import Counters
from aisobj.storage import records

ROOT = b""

FORMAT = b"F"
CHECKPOINT = b"k"
BUCKET_NAME = b"b"
PURGE = b"d"

BUCKET = b"A"
COUNTERS = b"C"
OBJECT = b"O"
OLD_VERSION = b"V"
HEADERS = b"X"
INLINE = b"D"
BODY = b"M"
UPLOAD = b"U"
PART = b"P"
BLOB = b"B"
GARBAGE = b"G"

_U16 = struct.Struct(">H")
_U64 = struct.Struct(">Q")
_COUNTERS = struct.Struct(">qq")


def bucket_name(name: str) -> bytes:
    return BUCKET_NAME + name.encode()


def upload(key: bytes, upload_id: bytes) -> bytes:
    return UPLOAD + key + b"\0" + upload_id


def split_upload(row_key: bytes) -> tuple[bytes, bytes]:
    """``U<key>00<upload id>`` -> (key, upload id). An id may hold NULs, so it is cut by its length."""
    return row_key[1:-17], row_key[-16:]


def part(upload_id: bytes, number: int) -> bytes:
    return PART + upload_id + _U16.pack(number)


def part_number(row_key: bytes) -> int:
    number: int = _U16.unpack_from(row_key, 17)[0]
    return number


def garbage(time_ns: int, body_id: bytes) -> bytes:
    return GARBAGE + _U64.pack(time_ns) + body_id


def garbage_time(row_key: bytes) -> int:
    time_ns: int = _U64.unpack_from(row_key, 1)[0]
    return time_ns


def encode_counters(values: Sequence[int]) -> bytes:
    """The form of a counters row: signed 64-bit, big-endian, one after another, sealed."""
    return records.seal(struct.pack(f">{len(values)}q", *values))


def add_counters(row: bytes | None, amounts: Sequence[int]) -> bytes:
    """A counters row with ``amounts`` added; an absent row counts as zeros.

    Raises ValueError or struct.error where the row is none, or not as wide: what is not known must not be added to.
    """
    return encode_counters(amounts if row is None else sum_counters(counters_in(row), amounts))


def counters_in(row: bytes) -> tuple[int, ...]:
    """The values in a counters row. Raises ValueError or struct.error where it is none."""
    try:
        packed = records.unseal(row)
    except StorageError as error:
        raise ValueError(str(error)) from None
    return struct.unpack(f">{len(packed) // 8}q", packed)


def sum_counters(old: Sequence[int], amounts: Sequence[int]) -> tuple[int, ...]:
    """Raises ValueError where one is not as wide as the other."""
    return tuple([a + b for a, b in zip(old, amounts, strict=True)])


def decode_counters(row: bytes | None) -> Counters:
    """The totals in a ``C`` row; an absent one is zeros. Raises CorruptData."""
    if row is None:
        return Counters()
    try:
        return Counters(*_COUNTERS.unpack(records.unseal(row)))
    except struct.error as error:
        raise CorruptData(f"not counters: {error}") from None
