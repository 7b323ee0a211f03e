"""The parameters of listings, continuation tokens, and pages. The first byte chooses: ``q``, ``t``, ``p`` or ``u``."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import takewhile

from aisobj.model import Upload
from aisobj.protocol.listing import finish, list_objects, list_uploads
from aisobj.protocol.listparams import BucketsParams, ListParams, PartsParams, UploadsParams, decode_token, encode_token
from aisobj.protocol.query import Query, parse_query
from fuzzing.target import Label, Target, attempt, demand, kind, same, words


def check(data: bytes) -> Label:
    choice, rest = data[:1], data[1:]
    if choice == b"t":
        return choice, _check_token(rest)
    if choice == b"q":
        return choice, _check_parameters(rest)
    if choice == b"p":
        return choice, *_check_pages(rest)
    if choice == b"u":
        return choice, *_check_uploads(rest)
    return None


def _check_token(data: bytes) -> Label:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None  # a query has only UTF-8
    same(decode_token(encode_token(data)), data, "a token is what it was made of")
    after, error = attempt(lambda: decode_token(text))
    if after is None:
        assert error is not None
        demand(error.code == "InvalidArgument", "what is no token is an invalid argument", error)
        return kind(error)
    same(encode_token(after), text, "there is one token for each entry")
    return "token"


def _check_parameters(raw: bytes) -> Label:
    query, _ = attempt(lambda: parse_query(raw))
    if query is None:
        return None
    labels: list[Label] = []
    for version in (1, 2):
        params, error = attempt(lambda version=version: ListParams.parse(query, version))  # type: ignore[misc]
        if params is not None:
            demand(0 <= params.max_keys <= 1000, "a page has at most 1,000 entries", params)
            params.after.decode()
        labels.append(error and kind(error))
    uploads, error = attempt(lambda: UploadsParams.parse(query))
    if uploads is not None:
        demand(0 <= uploads.max_uploads <= 1000 and len(uploads.upload_id_marker) in (0, 16), "in its bounds", uploads)
    labels.append(error and kind(error))
    parts, error = attempt(lambda: PartsParams.parse(query))
    if parts is not None:
        demand(0 <= parts.max_parts <= 1000 and 0 <= parts.part_number_marker <= 10_000, "in its bounds", parts)
    labels.append(error and kind(error))
    buckets, error = attempt(lambda: BucketsParams.parse(query))
    if buckets is not None:
        demand(1 <= buckets.max_buckets <= 10_000, "in its bounds", buckets)
    labels.append(error and kind(error))
    return tuple(labels)


# Pages: "page size, prefix, delimiter, marker, then keys", one a line


class _Rows:
    """Rows in byte order, given out a few at a time, as an index may."""

    def __init__(self, keys: Sequence[bytes], most: int) -> None:
        self._rows = sorted(keys)
        self._most = most
        self.scans = 0

    def __call__(self, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        self.scans += 1
        demand(limit > 0, "somebody asks for rows")
        return [(row, row) for row in _scan(self._rows, after, prefix, min(limit, self._most))]


def _scan(rows: list[bytes], after: bytes, prefix: bytes, limit: int) -> list[bytes]:
    """The first rows after ``after`` that begin with ``prefix``; those are next to each other."""
    begin = max(bisect_right(rows, after), bisect_left(rows, prefix))
    return list(takewhile(lambda row: row.startswith(prefix), rows[begin : begin + limit]))


def _are_text(*values: bytes) -> bool:
    try:
        for value in values:
            value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_keys(lines: list[bytes]) -> list[bytes] | None:
    keys = {line for line in lines if 0 < len(line) <= 1024 and b"\0" not in line}
    return sorted(keys) if _are_text(*keys) else None


def _check_pages(data: bytes) -> tuple[Label, ...]:
    size, prefix, delimiter, marker, *lines = (data + b"\n" * 4).split(b"\n")
    if not _are_text(prefix, delimiter, marker):
        return ()  # Query refuses these before anybody lists
    keys = _read_keys(lines)
    max_keys = size[0] % 8 + 1 if size else 3
    if keys is None or len(keys) > 200:
        return ()
    entries = _entries(keys, prefix, delimiter, marker)
    listed: list[bytes] = []
    pages = 0
    after = marker
    rows = _Rows(keys, len(size) + 1)
    while True:
        query = Query(
            (("list-type", b"2"), ("prefix", prefix), ("delimiter", delimiter), ("max-keys", b"%d" % max_keys))
        )
        params = ListParams.parse(query, 2)
        params = ListParams(2, params.prefix, params.delimiter, params.max_keys, False, after)
        page = finish(list_objects(rows, params))
        found = sorted([*(key for key, _ in page.items), *page.common_prefixes])
        demand(len(found) == page.count <= max_keys, "a page is as long as was asked for", page)
        listed += found
        pages += 1
        if not page.truncated:
            break
        demand(len(found) == max_keys and page.last == found[-1], "a page that goes on is full", page)
        after = decode_token(encode_token(page.last))
    same(listed, entries, "the pages together are all there is, once and in order")
    demand(pages <= len(entries) // max_keys + 1, "no empty page", pages)
    # A page costs what it shows: each entry a few scans, however many rows are behind it.
    demand(
        rows.scans <= (len(keys) if not delimiter else len(entries) + len(keys)) + pages * 2 + 2,
        "few scans",
        rows.scans,
    )
    return pages > 1, len(entries), bool(delimiter), len(entries) == len(keys)


def _entries(keys: list[bytes], prefix: bytes, delimiter: bytes, marker: bytes) -> list[bytes]:
    """AWS's rule, in the plainest way."""
    entries = set()
    for key in keys:
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        entries.add(key if end < 0 else key[: end + len(delimiter)])
    # A marker within a group passes over the group.
    return sorted(
        entry
        for entry in entries
        if entry > marker and not (_is_group(entry, prefix, delimiter) and marker.startswith(entry))
    )


def _is_group(entry: bytes, prefix: bytes, delimiter: bytes) -> bool:
    return bool(delimiter) and entry.find(delimiter, len(prefix)) >= 0


def _check_uploads(data: bytes) -> tuple[Label, ...]:
    size, prefix, delimiter, *lines = (data + b"\n" * 3).split(b"\n")
    keys = _read_keys(lines)
    max_uploads = size[0] % 8 + 1 if size else 3
    if keys is None or len(keys) > 100:
        return ()
    rows = sorted(key + b"\0" + (at * 7919).to_bytes(16, "big") for at, key in enumerate([*keys, *keys[::2]]))
    upload = Upload(bytes(16), 0, "me", "md5")

    def scan(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, Upload]]:
        return [(row, upload) for row in _scan(rows, after, prefix, min(limit, 3))]

    listed: list[bytes] = []
    key_marker, id_marker = b"", b""
    for _ in range(len(rows) + 2):
        page = list_uploads(scan, UploadsParams(prefix, delimiter, max_uploads, False, key_marker, id_marker))
        listed += sorted([*(key for key, _ in page.items), *page.common_prefixes])
        if not page.truncated:
            break
        key_marker, id_marker = page.next_key_marker, bytes.fromhex(page.next_upload_id_marker)
    else:
        demand(False, "the pages come to an end", page)
    wanted: list[bytes] = []
    for row in sorted(rows):
        for entry in _entries([row[:-17]], prefix, delimiter, b""):
            if not (wanted[-1:] == [entry] and _is_group(entry, prefix, delimiter)):
                wanted.append(entry)
    same(listed, wanted, "the pages together are all uploads, once and in order")
    return len(listed) > max_uploads, len(listed), bool(delimiter)


TARGETS = [
    Target(
        "listing",
        check,
        "S3 errors only; numbers in bounds; one token for each entry; all pages together are what a plain loop lists",
        words(
            r"""
            max-keys= &prefix= &delimiter=%2F &continuation-token= list-type=2 &start-after=
            encoding-type=url max-uploads= &key-marker= &upload-id-marker= part-number-marker=
            max-parts= max-buckets= marker= \n / a/b \na/\na/b\na/c/d\n \xc3\xa9 \xf4\x8f\xbf\xbf 0
            fetch-owner=true - //
            """
        ),
        2048,
    )
]
