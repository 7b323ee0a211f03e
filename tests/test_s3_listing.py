"""Listings over the wire: every page size, prefixes, delimiters, markers, encodings; uploads and parts too."""

from __future__ import annotations

from typing import Any

import pytest
from s3fixtures import fresh_name, refused
from s3raw import Answer, Sender

KEYS = sorted(
    ["a", "a/", "a/1", "a/2", "a/b/3", "b", "b-1", "b/1", "boo", "c//x", "c//y", "d e", "d+e", "ü/1", "ü/2", "z"],
    key=str.encode,
)


@pytest.fixture(scope="module")
def listed(s3: Any) -> str:
    """A bucket with KEYS, none of which a test changes."""
    name = fresh_name()
    s3.create_bucket(Bucket=name)
    for key in KEYS:
        s3.put_object(Bucket=name, Key=key, Body=key.encode())
    return name


def expected(prefix: str, delimiter: str) -> list[str]:
    """Keys and common prefixes in order, as S3 defines them."""
    found: list[str] = []
    for key in KEYS:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            entry = key if end < 0 else key[: end + len(delimiter)]
            if entry not in found:
                found.append(entry)
    return found


def entries(page: dict[str, Any]) -> list[str]:
    keys = [found["Key"] for found in page.get("Contents", ())]
    prefixes = [found["Prefix"] for found in page.get("CommonPrefixes", ())]
    assert len(keys) + len(prefixes) == page.get("KeyCount", len(keys) + len(prefixes))
    return sorted(keys + prefixes, key=str.encode)


@pytest.mark.parametrize("delimiter", ["", "/", "e", "//", "ü", "no such"])
@pytest.mark.parametrize("prefix", ["", "a", "a/", "b", "c//", "ü", "nothing"])
def test_pages_of_every_size_give_the_same_listing(s3: Any, listed: str, prefix: str, delimiter: str) -> None:
    want = expected(prefix, delimiter)
    parameters = {"Bucket": listed, "Prefix": prefix, **({"Delimiter": delimiter} if delimiter else {})}
    for size in (1, 2, 3, 5, len(KEYS), 1000):
        found: list[str] = []
        token: dict[str, str] = {}
        while True:
            page = s3.list_objects_v2(**parameters, MaxKeys=size, **token)
            assert page["KeyCount"] <= size
            found += entries(page)
            if not page["IsTruncated"]:
                break
            token = {"ContinuationToken": page["NextContinuationToken"]}
        assert found == want

        found, marker = [], ""
        while True:
            page = s3.list_objects(**parameters, MaxKeys=size, Marker=marker)
            found += entries(page)
            if not page["IsTruncated"]:
                break
            assert ("NextMarker" in page) == bool(delimiter)  # as AWS does
            marker = page["NextMarker"] if delimiter else page["Contents"][-1]["Key"]
        assert found == want


def test_an_entry_tells_what_the_object_is(s3: Any, listed: str) -> None:
    head = s3.head_object(Bucket=listed, Key="boo")
    (entry,) = s3.list_objects_v2(Bucket=listed, Prefix="boo")["Contents"]
    assert (entry["ETag"], entry["Size"], entry["StorageClass"]) == (head["ETag"], 3, "STANDARD")
    assert entry["LastModified"].replace(microsecond=0) == head["LastModified"]
    assert "Owner" not in entry
    (entry,) = s3.list_objects_v2(Bucket=listed, Prefix="boo", FetchOwner=True)["Contents"]
    assert entry["Owner"]["ID"]
    (entry,) = s3.list_objects(Bucket=listed, Prefix="boo")["Contents"]
    assert entry["Owner"]["ID"]  # version 1 always


def test_max_keys_zero_is_an_empty_page_that_is_not_truncated(s3: Any, listed: str) -> None:
    page = s3.list_objects_v2(Bucket=listed, MaxKeys=0)
    assert (page["KeyCount"], page["MaxKeys"], page["IsTruncated"]) == (0, 0, False)
    page = s3.list_objects(Bucket=listed, MaxKeys=0)
    assert (page["MaxKeys"], page["IsTruncated"], "Contents" in page) == (0, False, False)


def test_more_than_a_thousand_keys_are_never_on_one_page(raw: Sender, listed: str) -> None:
    assert raw.ask("GET", f"/s3/{listed}?max-keys=5000").element("MaxKeys") == "1000"
    assert raw.ask("GET", f"/s3/{listed}?max-keys=").element("MaxKeys") == "1000"


def test_start_after_and_marker_need_not_exist(s3: Any, listed: str) -> None:
    for after in ("", "a/1", "a/11", "zzz", "b/", "k" * 2000):
        want = [key for key in KEYS if key.encode() > after.encode()]
        assert entries(s3.list_objects_v2(Bucket=listed, StartAfter=after)) == want
        assert entries(s3.list_objects(Bucket=listed, Marker=after)) == want


def test_a_marker_that_is_a_common_prefix_passes_over_its_group(s3: Any, listed: str) -> None:
    for after in ("a/", "a/1"):
        want = [entry for entry in expected("", "/") if entry.encode() > b"a/"]
        assert entries(s3.list_objects_v2(Bucket=listed, Delimiter="/", StartAfter=after)) == want
        assert entries(s3.list_objects(Bucket=listed, Delimiter="/", Marker=after)) == want


def test_a_continuation_token_overrules_start_after(s3: Any, listed: str) -> None:
    first = s3.list_objects_v2(Bucket=listed, MaxKeys=3)
    second = s3.list_objects_v2(
        Bucket=listed, MaxKeys=2, ContinuationToken=first["NextContinuationToken"], StartAfter="a"
    )
    assert entries(second) == KEYS[3:5]
    assert second["ContinuationToken"] == first["NextContinuationToken"]
    assert second["StartAfter"] == "a"


def test_url_encoding_covers_every_text_of_a_client(raw: Sender, listed: str) -> None:
    plain = raw.ask("GET", f"/s3/{listed}?list-type=2&prefix=d&delimiter=+&start-after=d")
    assert (plain.element("Prefix"), plain.element("Delimiter"), plain.element("StartAfter")) == ("d", " ", "d")
    coded = raw.ask("GET", f"/s3/{listed}?list-type=2&prefix=%C3%BC&delimiter=%2F&encoding-type=url&start-after=+")
    assert coded.element("EncodingType") == "url"
    assert coded.element("StartAfter") == "%20"
    assert [e.text for e in coded.xml.iter() if e.tag.endswith("}Prefix")] == ["%C3%BC", "%C3%BC/"]
    keys = raw.ask("GET", f"/s3/{listed}?prefix=d&encoding-type=url&marker=%C3%A4x")
    assert keys.element("Marker") == "%C3%A4x"
    keys = raw.ask("GET", f"/s3/{listed}?prefix=d&encoding-type=url")
    assert [e.text for e in keys.xml.iter() if e.tag.endswith("}Key")] == ["d%2Be", "d%20e"][::-1]


@pytest.mark.parametrize(
    "query",
    [
        "max-keys=-1",
        "max-keys=abc",
        "max-keys=2147483648",
        "max-keys=1e3",
        "max-keys=" + "9" * 5000,
        "max-keys=%D9%A3",  # a digit, but not an ASCII one
        "encoding-type=foo",
        "list-type=2&continuation-token=foo",
        "list-type=2&continuation-token=",
        "list-type=2&continuation-token=AAAA",
        "list-type=3",
        "list-type=",
        "uploads&max-uploads=-1",
        "uploads&encoding-type=xml",
        "uploads&key-marker=a&upload-id-marker=../../etc",
    ],
)
def test_bad_parameters_of_a_listing_are_invalid_arguments(raw: Sender, listed: str, query: str) -> None:
    answer = raw.ask("GET", f"/s3/{listed}?{query}")
    assert (answer.status, answer.code) == (400, "InvalidArgument")
    assert answer.element("ArgumentName") in query


def test_a_listing_shows_a_write_at_once_and_a_delete_too(s3: Any, bucket: str) -> None:
    for number in range(5):
        s3.put_object(Bucket=bucket, Key=f"{number}", Body=b"")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == number + 1
    for number in range(5):
        s3.delete_object(Bucket=bucket, Key=f"{number}")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 4 - number


def test_a_thousand_and_one_keys_take_two_pages(s3: Any, server: Any, bucket: str) -> None:
    for number in range(1001):
        s3.put_object(Bucket=bucket, Key=f"{number:05}/x", Body=b"")
    pages = list(s3.get_paginator("list_objects_v2").paginate(Bucket=bucket))
    assert [page["KeyCount"] for page in pages] == [1000, 1]
    pages = list(s3.get_paginator("list_objects").paginate(Bucket=bucket, Delimiter="/"))
    assert [len(page["CommonPrefixes"]) for page in pages] == [1000, 1]
    whole = [
        found["Key"]
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, PaginationConfig={"PageSize": 333})
        for found in page["Contents"]
    ]
    assert whole == [f"{number:05}/x" for number in range(1001)]


def uploads_of(answer: Answer) -> list[tuple[str, str]]:
    found = []
    for upload in answer.xml.iter():
        if upload.tag.endswith("}Upload"):
            texts = {child.tag.rpartition("}")[2]: child.text or "" for child in upload}
            found.append((texts["Key"], texts["UploadId"]))
    return found


def test_uploads_are_listed_by_key_then_age_in_pages_of_every_size(s3: Any, bucket: str) -> None:
    made = []
    for key in ("b", "a", "b", "dir/x", "dir/y", "b"):
        made.append((key, s3.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]))
    want = sorted(made, key=lambda upload: (upload[0].encode(), upload[1]))
    assert [upload for upload in want if upload[0] == "b"] == [made[0], made[2], made[5]]  # by age
    for size in (1, 2, 4, 6, 1000):
        found = []
        markers: dict[str, str] = {}
        while True:
            page = s3.list_multipart_uploads(Bucket=bucket, MaxUploads=size, **markers)
            found += [(upload["Key"], upload["UploadId"]) for upload in page.get("Uploads", ())]
            if not page["IsTruncated"]:
                break
            markers = {"KeyMarker": page["NextKeyMarker"], "UploadIdMarker": page["NextUploadIdMarker"]}
        assert found == want
    page = s3.list_multipart_uploads(Bucket=bucket, Delimiter="/")
    assert [prefix["Prefix"] for prefix in page["CommonPrefixes"]] == ["dir/"]
    assert [upload["Key"] for upload in page["Uploads"]] == ["a", "b", "b", "b"]
    page = s3.list_multipart_uploads(Bucket=bucket, Prefix="b", KeyMarker="a")
    assert [upload["UploadId"] for upload in page["Uploads"]] == [made[0][1], made[2][1], made[5][1]]
    page = s3.list_multipart_uploads(Bucket=bucket, KeyMarker="b")  # alone it passes over all uploads of that key
    assert [upload["Key"] for upload in page["Uploads"]] == ["dir/x", "dir/y"]
    for key, upload in made:
        s3.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)


def test_parts_are_listed_by_number_in_pages_of_every_size(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    etags = {}
    for number in (7, 1, 10000, 300, 2):
        etags[number] = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x" * number)[
            "ETag"
        ]
    for size in (1, 2, 5, 1000):
        found = []
        marker = 0
        while True:
            page = s3.list_parts(Bucket=bucket, Key="k", UploadId=upload, MaxParts=size, PartNumberMarker=marker)
            found += [(part["PartNumber"], part["Size"], part["ETag"]) for part in page.get("Parts", ())]
            if not page["IsTruncated"]:
                break
            marker = page["NextPartNumberMarker"]
        assert found == [(number, number, etags[number]) for number in sorted(etags)]
    assert page["StorageClass"] == "STANDARD"
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="other", UploadId=upload)
    s3.abort_multipart_upload(Bucket=bucket, Key="k", UploadId=upload)
