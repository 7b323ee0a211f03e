"""LIST pages: the algorithm against an oracle that sorts everything, and the parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.model import Part, Upload
from aisobj.protocol.listing import Page, finish, list_objects, list_parts, list_uploads
from aisobj.protocol.listing import list_page as list_page_in_slices
from aisobj.protocol.listparams import (
    BucketsParams,
    ListParams,
    PartsParams,
    UploadsParams,
    decode_token,
    encode_token,
)
from aisobj.protocol.query import parse_query

Rows = dict[bytes, int]


class Scan:
    """A scanner over a dict; ``longest`` makes pages short, ``looked_at`` counts the rows that were read."""

    def __init__(self, rows: Rows, longest: int = 10**6) -> None:
        self.rows = sorted(rows.items())
        self.longest = longest
        self.looked_at = 0
        self.calls = 0

    def __call__(self, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, int]]:
        assert limit > 0
        self.calls += 1
        matching = [row for row in self.rows if row[0] > after and row[0].startswith(prefix)]
        found = matching[: min(limit, self.longest)]
        self.looked_at += len(found)
        return found


def list_page(scan: Any, **wanted: Any) -> Page[int]:
    return finish(list_page_in_slices(scan, **wanted))


def rows(*keys: str) -> Rows:
    return {key.encode(): number for number, key in enumerate(keys)}


def keys(page: Page[int]) -> list[bytes]:
    return [key for key, _ in page.items]


def oracle(rows: Rows, prefix: bytes, delimiter: bytes, after: bytes, max_keys: int) -> tuple[list[bytes], bool]:
    """All entries in order, those greater than ``after``, the first ``max_keys``: what S3 documents, naively."""
    entries = set()
    for key in rows:
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            at = rest.find(delimiter) if delimiter else -1
            entries.add(key if at < 0 else prefix + rest[: at + len(delimiter)])
    left = sorted(entry for entry in entries if entry > after)
    return left[:max_keys], bool(max_keys) and len(left) > max_keys


TEXT = st.text(alphabet="ab/\U0010ffff\x01", min_size=1, max_size=6).map(str.encode)
MAYBE = st.one_of(st.just(b""), TEXT)


@settings(max_examples=300, deadline=None)
@given(
    names=st.sets(TEXT, max_size=25),
    prefix=MAYBE,
    delimiter=st.one_of(st.sampled_from([b"", b"/", b"/", b"a", b"ab", b"//"]), TEXT),
    after=MAYBE,
    max_keys=st.integers(0, 6),
    longest=st.integers(1, 30),
)
def test_a_page_is_what_the_oracle_says_wherever_it_begins(
    names: set[bytes], prefix: bytes, delimiter: bytes, after: bytes, max_keys: int, longest: int
) -> None:
    table = {name: number for number, name in enumerate(names)}
    page = list_page(Scan(table, longest), prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys)
    expected, truncated = oracle(table, prefix, delimiter, after, max_keys)
    assert sorted([*keys(page), *page.common_prefixes]) == expected
    assert page.truncated == truncated
    assert page.last == (expected[-1] if expected else b"")
    assert page.count == len(expected)
    assert all(table[key] == number for key, number in page.items)
    assert keys(page) == sorted(keys(page))
    assert page.common_prefixes == sorted(page.common_prefixes)


@settings(max_examples=150, deadline=None)
@given(
    names=st.sets(TEXT, max_size=25),
    prefix=MAYBE,
    delimiter=st.sampled_from([b"", b"/", b"a", b"//"]),
    max_keys=st.integers(1, 5),
)
def test_paging_to_the_end_returns_every_entry_once(
    names: set[bytes], prefix: bytes, delimiter: bytes, max_keys: int
) -> None:
    table = dict.fromkeys(names, 0)
    found: list[bytes] = []
    after = b""
    for _ in range(len(names) + 1):
        page = list_page(Scan(table), prefix=prefix, delimiter=delimiter, after=after, max_keys=max_keys)
        found += sorted([*keys(page), *page.common_prefixes])
        if not page.truncated:
            break
        after = decode_token(encode_token(page.last))
    assert found == oracle(table, prefix, delimiter, b"", 10**6)[0]


def test_max_keys_0_is_empty_and_not_truncated() -> None:
    page = list_page(Scan(rows("a")), max_keys=0)
    assert (page.items, page.truncated, page.last) == ([], False, b"")


@pytest.mark.parametrize("after", ["a/", "a/1", "a/9"])
def test_a_marker_that_is_or_is_in_a_common_prefix_passes_over_the_group(after: str) -> None:
    table = rows("a/1", "a/2", "b", "c/1")
    page = list_page(Scan(table), delimiter=b"/", after=after.encode())
    assert (keys(page), page.common_prefixes) == ([b"b"], [b"c/"])


def test_a_marker_in_a_group_of_the_prefix_itself_passes_over_nothing() -> None:
    page = list_page(Scan(rows("a/", "a/1", "a/2")), prefix=b"a/", delimiter=b"/", after=b"a/1")
    assert keys(page) == [b"a/2"]


def test_a_delimiter_listing_reads_as_much_as_it_returns_not_what_it_rolls_up() -> None:
    scan = Scan({f"{group}/{number:04}".encode(): 0 for group in "abcde" for number in range(400)})
    page = list_page(scan, delimiter=b"/", max_keys=1000)
    assert page.common_prefixes == [b"a/", b"b/", b"c/", b"d/", b"e/"]
    assert scan.looked_at <= 8


def test_keys_before_and_after_groups_are_read_in_few_scans() -> None:
    scan = Scan({f"{number:04}".encode(): 0 for number in range(900)} | rows("x/1", "y/1"))
    page = list_page(scan, delimiter=b"/", max_keys=1000)
    assert page.count == 902
    assert scan.calls <= 12


def test_a_group_whose_keys_go_on_with_the_highest_character_is_left_too() -> None:
    page = list_page(Scan(rows("a/\U0010ffff\U0010ffff", "a0")), delimiter=b"/")
    assert (keys(page), page.common_prefixes) == ([b"a0"], [b"a/"])


def test_an_overlong_marker_is_cut_without_changing_what_is_listed() -> None:
    longest = b"k" * 1024
    seen: list[bytes] = []

    def scan(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, int]]:
        seen.append(after)
        return [row for row in [(b"k" * 1023, 0), (longest, 0), (b"l", 0)] if row[0] > after]

    assert keys(list_page(scan, after=longest + b"a" * 9000)) == [b"l"]
    assert keys(list_page(scan, after=longest[:-1])) == [longest, b"l"]
    assert max(map(len, seen)) <= 1025


@pytest.mark.parametrize("prefix", [b"k" * 1025, b"a\0"])
def test_a_prefix_that_no_key_can_have_matches_nothing_without_a_scan(prefix: bytes) -> None:
    scan = Scan(rows("a"))
    assert list_page(scan, prefix=prefix).count == 0
    assert scan.calls == 0


def test_a_delimiter_with_a_nul_rolls_nothing_up() -> None:
    assert keys(list_page(Scan(rows("a", "b")), delimiter=b"\0")) == [b"a", b"b"]


# --- parameters


def v1(query: str) -> ListParams:
    return ListParams.parse(parse_query(query.encode()), 1)


def v2(query: str) -> ListParams:
    return ListParams.parse(parse_query(f"list-type=2&{query}".encode()), 2)


def test_parameters_of_version_1() -> None:
    params = v1("prefix=a%20b&delimiter=%2F&marker=a%C3%A9&max-keys=7&encoding-type=url")
    assert params == ListParams(1, b"a b", b"/", 7, True, "aé".encode(), marker="aé".encode())


def test_defaults_and_empty_parameters() -> None:
    assert (
        v1("") == v1("prefix=&delimiter=&marker=&max-keys=&encoding-type=") == ListParams(1, b"", b"", 1000, False, b"")
    )
    assert v2("start-after=&fetch-owner=") == ListParams(2, b"", b"", 1000, False, b"")


def test_version_2_goes_on_from_the_token_rather_than_from_start_after() -> None:
    token = encode_token(b"m")
    params = v2(f"start-after=b&continuation-token={token}&fetch-owner=true")
    assert (params.after, params.start_after, params.continuation_token, params.fetch_owner) == (
        b"m",
        b"b",
        token,
        True,
    )
    assert v2("start-after=b").after == b"b"


def test_more_than_1000_keys_are_asked_for_but_1000_given() -> None:
    assert v1("max-keys=2147483647").max_keys == 1000


Parse = Callable[[str], object]


@pytest.mark.parametrize(
    ("parse", "query"),
    [
        *(
            (parse, f"max-keys={value}")
            for parse in (v1, v2)
            for value in ("-1", "abc", "2147483648", "%2B5", "1.0", "٣")
        ),
        (v1, "max-keys=" + "9" * 5000),
        (v1, "encoding-type=foo"),
        (v2, "encoding-type=URL"),
        (lambda query: ListParams.parse(parse_query(query.encode()), 2), "list-type=3"),
        (lambda query: UploadsParams.parse(parse_query(query.encode())), "max-uploads=-1"),
        (lambda query: UploadsParams.parse(parse_query(query.encode())), "key-marker=a&upload-id-marker=..%2Fx"),
        (lambda query: UploadsParams.parse(parse_query(query.encode())), "key-marker=a&upload-id-marker=" + "AB" * 16),
        (lambda query: PartsParams.parse(parse_query(query.encode())), "max-parts=x"),
        (lambda query: PartsParams.parse(parse_query(query.encode())), "part-number-marker=-1"),
        (lambda query: BucketsParams.parse(parse_query(query.encode())), "max-buckets=0"),
        (lambda query: BucketsParams.parse(parse_query(query.encode())), "max-buckets=10001"),
        (lambda query: BucketsParams.parse(parse_query(query.encode())), "continuation-token=x"),
    ],
)
def test_a_bad_parameter_is_invalid_argument_and_named(parse: Parse, query: str) -> None:
    with pytest.raises(S3Error) as caught:
        parse(query)
    assert caught.value.code == "InvalidArgument"
    assert caught.value.detail["ArgumentName"] in query


@pytest.mark.parametrize(
    "token",
    ["", "x", "é", "AAAA", "a=b", encode_token(b"k")[:-1], encode_token(b"k") + "A", "=====", encode_token(b"\xff")],
)
def test_a_token_that_we_did_not_make_is_refused(token: str) -> None:
    with pytest.raises(S3Error, match="continuation token provided is incorrect") as caught:
        v2(f"continuation-token={token}")
    assert caught.value.code == "InvalidArgument"


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.data())
def test_a_token_survives_the_trip_and_a_changed_one_does_not(after: str, data: st.DataObject) -> None:
    token = encode_token(after.encode())
    assert decode_token(token) == after.encode()
    position = data.draw(st.integers(0, len(token) - 1))
    changed = token[:position] + ("B" if token[position] == "A" else "A") + token[position + 1 :]
    with pytest.raises(S3Error):
        decode_token(changed)


# --- uploads and parts


def upload(number: int) -> Upload:
    # Ids hold every byte, the delimiter among them.
    return Upload(id=bytes([number]) * 16, initiated=number, owner="o", checksum_type="md5")


UPLOADS = {
    key.encode() + b"\0" + upload(number).id: upload(number)
    for key, number in [("a", 0x2F), ("a", 0x30), ("a", 0xFF), ("a\x01", 1), ("b/1", 3), ("b/2", 4), ("c", 0)]
}


def scan_uploads(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, Upload]]:
    return [row for row in sorted(UPLOADS.items()) if row[0] > after and row[0].startswith(prefix)][:limit]


def uploads(query: str) -> list[tuple[str, int]]:
    page = list_uploads(scan_uploads, UploadsParams.parse(parse_query(query.encode())))
    return [(key.decode(), upload.id[0]) for key, upload in page.items] + [
        (prefix.decode(), -1) for prefix in page.common_prefixes
    ]


def test_uploads_are_listed_by_key_and_then_by_id() -> None:
    assert uploads("") == [("a", 0x2F), ("a", 0x30), ("a", 0xFF), ("a\x01", 1), ("b/1", 3), ("b/2", 4), ("c", 0)]
    assert uploads("prefix=b/") == [("b/1", 3), ("b/2", 4)]


def test_uploads_roll_up_by_the_key_and_never_by_the_id() -> None:
    assert uploads("delimiter=/") == [("a", 0x2F), ("a", 0x30), ("a", 0xFF), ("a\x01", 1), ("c", 0), ("b/", -1)]


def test_a_key_marker_passes_over_the_keys_uploads_an_upload_id_marker_over_the_earlier_ones() -> None:
    assert uploads("key-marker=a")[0] == ("a\x01", 1)
    assert uploads(f"key-marker=a&upload-id-marker={upload(0x2F).id.hex()}")[0] == ("a", 0x30)
    assert uploads("upload-id-marker=nonsense-without-a-key-marker")[0] == ("a", 0x2F)
    assert uploads("key-marker=b/1&delimiter=/") == [("c", 0)]
    assert uploads("key-marker=a%00zz")[0] == ("a\x01", 1)
    assert uploads("key-marker=" + "b" * 3000) == [("c", 0)]


@pytest.mark.parametrize("delimiter", ["", "/"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_paging_through_uploads_with_the_next_markers_returns_each_once(delimiter: str, size: int) -> None:
    found: list[tuple[bytes, str]] = []
    params = UploadsParams(b"", delimiter.encode(), size, False)
    for _ in range(10):
        page = list_uploads(scan_uploads, params)
        entries = [(key, upload.id.hex()) for key, upload in page.items]
        found += sorted([*entries, *((prefix, "") for prefix in page.common_prefixes)])
        if not page.truncated:
            break
        params = UploadsParams.parse(
            parse_query(
                f"delimiter={delimiter}&max-uploads={size}&key-marker={page.next_key_marker.decode()}"
                f"&upload-id-marker={page.next_upload_id_marker}".encode()
            )
        )
    everything = list_uploads(scan_uploads, UploadsParams(b"", delimiter.encode(), 1000, False))
    assert len(found) == len(everything.items) + len(everything.common_prefixes) == (6 if delimiter else 7)
    assert found == sorted(set(found))


def test_parts_page_by_number() -> None:
    parts = {number: Part(number, 5, 0, "e", b"", []) for number in (1, 2, 300, 10_000)}

    def scan(after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, Part]]:
        every = [(number.to_bytes(2), part) for number, part in parts.items()]
        return [row for row in every if row[0] > after][:limit]

    def page(query: bytes) -> tuple[list[int], bool, int]:
        found = list_parts(scan, PartsParams.parse(parse_query(query)))
        return [part.number for part in found.parts], found.truncated, found.next_marker

    assert page(b"") == ([1, 2, 300, 10_000], False, 10_000)
    assert page(b"max-parts=2") == ([1, 2], True, 2)
    assert page(b"max-parts=2&part-number-marker=2") == ([300, 10_000], False, 10_000)
    assert page(b"part-number-marker=2147483647") == ([], False, 0)
    assert page(b"max-parts=0") == ([], False, 0)


def test_buckets_parameters() -> None:
    params = BucketsParams.parse(
        parse_query(b"prefix=b&max-buckets=2&continuation-token=" + encode_token(b"bb").encode())
    )
    assert params == BucketsParams(b"b", 2, b"bb", True)
    assert BucketsParams.parse(parse_query(b"")) == BucketsParams(b"", 10_000, b"", False)
    assert BucketsParams.parse(parse_query(b"bucket-region=eu")) == BucketsParams(b"", 10_000, b"", True, "eu")


def test_list_objects_takes_everything_from_the_parameters() -> None:
    page = finish(
        list_objects(Scan(rows("a/1", "b/1", "b/2/3", "b/4", "c")), v1("prefix=b/&delimiter=/&marker=b/1&max-keys=1"))
    )
    assert (keys(page), page.common_prefixes, page.truncated, page.last) == ([], [b"b/2/"], True, b"b/2/")
