"""LIST: parameters in, one page out, over anything that can be scanned in byte order.

A page is a sequence of *entries* in byte order: keys, and common prefixes (a key's part up to the first delimiter
after the prefix, one for all keys that share it). One rule decides where a page begins: **an entry is listed if it is
greater than the marker**, whatever the marker came from: ``marker``, ``start-after`` or a continuation token. So a
marker equal to a common prefix, or inside it, passes over the whole group, which is what makes paging by ``NextMarker``
work; Ceph RGW, MinIO and Scality read S3 the same way.

Keys are valid UTF-8, so byte 0xFF is greater than whatever may follow a group in a key: a group is left by seeking to
``group + b"\\xff"``, and a page costs what it returns, not what it rolls up.

Source: AWS API reference, ListObjects, ListObjectsV2, ListMultipartUploads, ListParts.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from aisobj.model import Part, Upload
from aisobj.protocol.listparams import ListParams, PartsParams, UploadsParams

V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)

MAX_KEY = 1024
_PAST = b"\xff"
_ID = 16  #: bytes of an upload id
#: Rows read in one go, which take some 0.3 ms: a whole page; looking for the next group is counted as so many rows.
_SLICE = 1001
_GROUP = 8
#: Rows read and decoded in one go: some 0.4 ms.
_DECODED_SLICE = 500


class Scanner(Protocol[V_co]):
    """What a page is read from; ``storage.interfaces.ISnapshot.scan`` with decoded values."""

    def __call__(self, after: bytes, prefix: bytes, limit: int) -> Sequence[tuple[bytes, V_co]]:
        """At most ``limit`` (key, value) in byte order, keys greater than ``after`` that start with ``prefix``.

        A short page is allowed, an empty one is the end.
        """
        ...


@dataclass(frozen=True, slots=True)
class Page(Generic[V]):
    """One page. ``last`` is its greatest entry (a key or a common prefix), b"" if there is none."""

    items: list[tuple[bytes, V]]
    common_prefixes: list[bytes]
    truncated: bool
    last: bytes

    @property
    def count(self) -> int:
        """``KeyCount``: keys and common prefixes."""
        return len(self.items) + len(self.common_prefixes)


#: Makes a page of the given type in slices: each ``next`` does a bounded amount of work, the page is its return value.
Slices = Generator[None, None, V]


def finish(slices: Slices[V]) -> V:
    """All slices at once."""
    while True:
        try:
            next(slices)
        except StopIteration as done:
            result: V = done.value
            return result


def list_page(
    scan: Scanner[V], *, prefix: bytes = b"", delimiter: bytes = b"", after: bytes = b"", max_keys: int = 1000
) -> Slices[Page[V]]:
    """The first ``max_keys`` entries greater than ``after``. With ``max_keys`` 0 an empty page, not truncated (AWS).

    :param scan: over S3 keys.
    :param delimiter: b"" rolls nothing up.
    """
    cursor = _past_group(after, prefix, delimiter) or after
    # No key is longer, so nothing lies between a longer marker and its beginning; an index has a limit of its own.
    return _collect(scan, prefix, delimiter, cursor[: MAX_KEY + 1], max_keys, 0)


def list_objects(scan: Scanner[V], params: ListParams) -> Slices[Page[V]]:
    """The page of ListObjects or ListObjectsV2; the scanner's keys are S3 keys."""
    return list_page(
        scan, prefix=params.prefix, delimiter=params.delimiter, after=params.after, max_keys=params.max_keys
    )


def list_all_objects(read: Scanner[V], scan: Scanner[object], params: ListParams) -> Slices[Page[V]]:
    """The same, without a delimiter.

    :param read: decodes, which costs less while rows are read than afterwards; what it raises is raised.
    :param scan: looks whether there are more: a row that is not of this page cannot spoil it.
    """
    return _collect_flat(read, scan, params.prefix, params.after[: MAX_KEY + 1], params.max_keys, _DECODED_SLICE)


def _past_group(after: bytes, prefix: bytes, delimiter: bytes) -> bytes:
    """Past the group that ``after`` is, or is in; b"" if it is in none."""
    if not delimiter or not after.startswith(prefix):
        return b""
    end = after.find(delimiter, len(prefix))
    return after[: end + len(delimiter)] + _PAST if end >= 0 else b""


def _collect(
    scan: Scanner[V], prefix: bytes, delimiter: bytes, cursor: bytes, max_keys: int, suffix: int
) -> Slices[Page[V]]:
    """A page from ``cursor`` on. The last ``suffix`` bytes of each scanned key are not of the S3 key: in no group."""
    if not delimiter or b"\0" in delimiter:
        return (yield from _collect_flat(scan, scan, prefix, cursor, max_keys, _SLICE))
    items: list[tuple[bytes, V]] = []
    groups: list[bytes] = []
    last = b""
    if not max_keys or _matches_nothing(prefix):
        return Page(items, groups, False, last)
    batch, work, room = 1, 0, max_keys
    begin, width = len(prefix), len(delimiter)
    while True:
        rows = scan(cursor, prefix, batch if batch <= room else room + 1)
        if not rows:
            return Page(items, groups, False, last)
        for row in rows:
            if not room:
                return Page(items, groups, True, last)
            room -= 1
            key = row[0]
            end = key.find(delimiter, begin, len(key) - suffix)
            if end >= 0:
                last = key[: end + width]
                groups.append(last)
                cursor = last + _PAST
                batch = 1
                break
            items.append(row)
            cursor = last = key
        else:
            # Groups come next to groups and keys next to keys: read ahead more, the longer no group has come.
            batch = min(batch * 4, _SLICE)
        work += len(rows) + _GROUP
        if work >= _SLICE:
            work = 0
            yield


def _matches_nothing(prefix: bytes) -> bool:
    """Keys hold no NUL and are at most MAX_KEY long (nor may a prefix match a suffix)."""
    return len(prefix) > MAX_KEY or b"\0" in prefix


def _collect_flat(
    read: Scanner[V], look: Scanner[object], prefix: bytes, cursor: bytes, max_keys: int, most: int
) -> Slices[Page[V]]:
    """:param most: rows in one go."""
    items: list[tuple[bytes, V]] = []
    if not max_keys or _matches_nothing(prefix):
        return Page(items, [], False, b"")
    while rows := read(cursor, prefix, min(max_keys - len(items), most)):
        items += rows
        cursor = rows[-1][0]
        if len(items) == max_keys:
            break
        yield
    truncated = len(items) == max_keys and bool(look(cursor, prefix, 1))
    return Page(items, [], truncated, items[-1][0] if items else b"")


@dataclass(frozen=True, slots=True)
class UploadsPage:
    """One page of ListMultipartUploads."""

    items: list[tuple[bytes, Upload]]  #: (S3 key, upload), by key and then by upload id, which is by age
    common_prefixes: list[bytes]
    truncated: bool
    next_key_marker: bytes
    next_upload_id_marker: str  #: "" after a common prefix


def list_uploads(scan: Scanner[Upload], params: UploadsParams) -> UploadsPage:
    """The page of ListMultipartUploads. The scanner's keys are ``key + NUL + upload id`` (16 bytes).

    With ``key-marker`` alone the uploads of that key are passed over; with ``upload-id-marker`` too, those of that key
    with a greater id are listed.
    """
    # No key has a NUL, so the keys greater than a marker with one are those greater than its beginning.
    marker, nul, _ = params.key_marker.partition(b"\0")
    cursor = _past_group(marker, params.prefix, params.delimiter)
    if marker and not cursor:
        known_id = b"" if nul else params.upload_id_marker
        cursor = marker[: MAX_KEY + 1] + b"\0" + (known_id or _PAST * (_ID + 1))
    page = finish(_collect(scan, params.prefix, params.delimiter, cursor, params.max_uploads, _ID + 1))
    in_group = bool(page.common_prefixes) and page.last == page.common_prefixes[-1]
    return UploadsPage(
        items=[(row[: -_ID - 1], upload) for row, upload in page.items],
        common_prefixes=page.common_prefixes,
        truncated=page.truncated,
        next_key_marker=page.last if in_group else page.last[: -_ID - 1],
        next_upload_id_marker="" if in_group else page.last[-_ID:].hex(),
    )


@dataclass(frozen=True, slots=True)
class PartsPage:
    """One page of ListParts."""

    parts: list[Part]
    truncated: bool
    next_marker: int  #: the last part's number; 0 if there is none


def list_parts(scan: Scanner[Part], params: PartsParams) -> PartsPage:
    """The page of ListParts. The scanner's keys are part numbers, two bytes each, big-endian."""
    page = finish(_collect(scan, b"", b"", params.part_number_marker.to_bytes(2), params.max_parts, 0))
    return PartsPage([part for _, part in page.items], page.truncated, int.from_bytes(page.last))
