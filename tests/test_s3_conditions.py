"""Conditions: on reads (304, 412), on writes (412, 404, 409), and that writes decide them atomically."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import pytest
from botocore.exceptions import ClientError
from s3fixtures import refused
from s3raw import Sender


@pytest.fixture
def etag(s3: Any, bucket: str) -> str:
    """Of the object ``k``."""
    found: str = s3.put_object(Bucket=bucket, Key="k", Body=b"body", Metadata={"a": "b"})["ETag"]
    return found


PAST, FUTURE = formatdate(0, usegmt=True), formatdate(time.time() + 86400, usegmt=True)


def conditions(etag: str, modified: str) -> list[tuple[dict[str, str], int]]:
    """Headers, and what AWS's table of conditional reads says of them."""
    return [
        ({"If-Match": etag}, 200),
        ({"If-Match": etag.strip('"')}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": f'"other", {etag}'}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": f"W/{etag}"}, 412),
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": f"W/{etag}"}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": f'"other", {etag}'}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": modified}, 304),
        ({"If-Modified-Since": PAST}, 200),
        ({"If-Modified-Since": FUTURE}, 200),  # a date after now is no condition
        ({"If-Modified-Since": "yesterday"}, 200),
        ({"If-Unmodified-Since": modified}, 200),
        ({"If-Unmodified-Since": FUTURE}, 200),
        ({"If-Unmodified-Since": PAST}, 412),
        ({"If-Match": etag, "If-Unmodified-Since": PAST}, 200),
        ({"If-None-Match": etag, "If-Modified-Since": PAST}, 304),
        ({"If-None-Match": '"other"', "If-Modified-Since": modified}, 200),
        ({"If-Match": '"other"', "If-None-Match": etag}, 412),
    ]


def test_a_list_of_tags_may_come_in_several_lines(raw: Sender, bucket: str, etag: str) -> None:
    for name, status in (("If-Match", 200), ("If-None-Match", 304)):
        for tags in ((etag, '"other"'), ('"other"', etag)):
            assert raw.ask("GET", f"/s3/{bucket}/k", [(name, tag) for tag in tags]).status == status
    neither = [("If-Match", '"other"'), ("If-Match", '"another"')]
    assert raw.ask("GET", f"/s3/{bucket}/k", neither).status == 412


def test_conditional_reads(raw: Sender, bucket: str, etag: str) -> None:
    modified = raw.ask("HEAD", f"/s3/{bucket}/k").headers["last-modified"]
    for headers, status in conditions(etag, modified):
        for method in ("GET", "HEAD"):
            answer = raw.ask(method, f"/s3/{bucket}/k", list(headers.items()))
            assert answer.status == status, headers
            if status == 412 and method == "GET":
                assert answer.code == "PreconditionFailed"


def test_304_has_no_body_and_says_which_version_is_current(raw: Sender, bucket: str, etag: str) -> None:
    with raw.connect() as wire:
        for method in ("GET", "HEAD"):
            wire.send(raw.request(method, f"/s3/{bucket}/k", [("If-None-Match", etag)]))
            answer = wire.answer(method)
            assert (answer.status, answer.headers["etag"]) == (304, etag)
            assert "last-modified" in answer.headers
            assert "content-length" not in answer.headers
        wire.send(raw.request("GET", f"/s3/{bucket}/k"))  # the connection goes on, so nothing followed the heads
        assert wire.answer().body == b"body"


def test_304_says_how_long_it_may_be_kept(s3: Any, raw: Sender, bucket: str, etag: str) -> None:
    """Without that a cache goes by what it was told first, also when that has been changed since."""
    s3.copy_object(
        Bucket=bucket,
        Key="k",
        CopySource=f"{bucket}/k",
        MetadataDirective="REPLACE",
        CacheControl="max-age=60",
        Expires="Thu, 01 Dec 2044 16:00:00 GMT",
        ContentLanguage="de",
        Metadata={"a": "b"},
    )
    for method in ("GET", "HEAD"):
        answer = raw.ask(method, f"/s3/{bucket}/k", [("If-None-Match", etag)])
        assert (answer.status, answer.headers["cache-control"]) == (304, "max-age=60")
        assert answer.headers["expires"] == "Thu, 01 Dec 2044 16:00:00 GMT"
        assert not {"content-language", "content-type", "x-amz-meta-a"} & set(answer.headers)


def test_304_is_as_the_overrides_want_it(s3: Any, bucket: str, etag: str) -> None:
    with refused("304", 304) as answer:
        s3.get_object(Bucket=bucket, Key="k", IfNoneMatch=etag, ResponseCacheControl="no-store")
    assert answer["ResponseMetadata"]["HTTPHeaders"]["cache-control"] == "no-store"


def test_a_condition_comes_before_a_range(raw: Sender, bucket: str, etag: str) -> None:
    fields = [("Range", "bytes=0-1"), ("If-Match", '"other"')]
    assert raw.ask("GET", f"/s3/{bucket}/k", fields).status == 412
    fields = [("Range", "bytes=99-"), ("If-None-Match", etag)]
    assert raw.ask("GET", f"/s3/{bucket}/k", fields).status == 304
    fields = [("Range", "bytes=0-1"), ("If-Match", etag)]
    assert raw.ask("GET", f"/s3/{bucket}/k", fields).body == b"bo"


def test_if_range_gives_the_rest_only_of_what_it_names(raw: Sender, bucket: str, etag: str) -> None:
    modified = raw.ask("HEAD", f"/s3/{bucket}/k").headers["last-modified"]
    for value, body in (
        (etag, b"dy"),
        (modified, b"dy"),
        ('"other"', b"body"),
        (f"W/{etag}", b"body"),
        (PAST, b"body"),
        (FUTURE, b"body"),
        ("nonsense", b"body"),
    ):
        answer = raw.ask("GET", f"/s3/{bucket}/k", [("Range", "bytes=2-"), ("If-Range", value)])
        assert (answer.status, answer.body) == (206 if body == b"dy" else 200, body), value


def test_put_if_none_match_creates_only(s3: Any, bucket: str, etag: str) -> None:
    with refused("PreconditionFailed", 412) as answer:
        s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfNoneMatch="*")
    assert answer["Error"]["Condition"] == "If-None-Match"
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"body"
    s3.put_object(Bucket=bucket, Key="k2", Body=b"new", IfNoneMatch="*")
    s3.delete_object(Bucket=bucket, Key="k2")
    s3.put_object(Bucket=bucket, Key="k2", Body=b"again", IfNoneMatch="*")


def test_put_if_match_replaces_only_what_was_seen(s3: Any, bucket: str, etag: str) -> None:
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfMatch='"other"')
    with refused("NoSuchKey", 404):
        s3.put_object(Bucket=bucket, Key="missing", Body=b"new", IfMatch=etag)
    s3.put_object(Bucket=bucket, Key="k", Body=b"new", IfMatch=etag)
    with refused("PreconditionFailed", 412):
        s3.put_object(Bucket=bucket, Key="k", Body=b"newer", IfMatch=etag)
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"new"


@pytest.mark.parametrize(
    "headers",
    [
        [("If-None-Match", '"etag"')],
        [("If-Match", "*"), ("If-None-Match", "*")],
        [("If-Match", '"a", "b"')],
        [("If-Match", 'W/"a"')],
    ],
)
def test_other_preconditions_on_writes_are_not_implemented(
    raw: Sender, bucket: str, etag: str, headers: list[tuple[str, str]]
) -> None:
    answer = raw.ask("PUT", f"/s3/{bucket}/k", headers, b"new")
    assert (answer.status, answer.code) == (501, "NotImplemented")
    assert raw.ask("GET", f"/s3/{bucket}/k").body == b"body"


def test_a_precondition_that_cannot_hold_is_refused_before_the_body(raw: Sender, bucket: str, etag: str) -> None:
    fields = [("If-None-Match", "*"), ("Expect", "100-continue")]
    answer = raw.send(raw.head("PUT", f"/s3/{bucket}/k", fields, length=1 << 30))
    assert (answer.status, answer.code) == (412, "PreconditionFailed")


def slow_put(raw: Sender, target: str, headers: list[tuple[str, str]], body: bytes, meanwhile: Any) -> Any:
    """A PUT during whose body ``meanwhile`` happens."""
    with raw.connect() as wire:
        wire.send(raw.head("PUT", target, [*headers, ("Expect", "100-continue")], length=len(body)))
        assert wire.answer().status == 100  # by now the precondition has been looked at
        meanwhile()
        wire.send(body)
        return wire.answer()


@pytest.mark.parametrize("size", [10, 100_000])
def test_preconditions_are_decided_when_the_write_happens(raw: Sender, s3: Any, bucket: str, size: int) -> None:
    body = b"x" * size
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"old")["ETag"]
    target = f"/s3/{bucket}/k"

    answer = slow_put(raw, target, [("If-Match", etag)], body, lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"2"))
    assert (answer.status, answer.code) == (412, "PreconditionFailed")

    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"old")["ETag"]
    answer = slow_put(
        raw, target, [("If-Match", etag)], body, lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"old")
    )
    assert (answer.status, answer.code) == (409, "ConditionalRequestConflict")

    answer = slow_put(raw, target, [("If-Match", etag)], body, lambda: s3.delete_object(Bucket=bucket, Key="k"))
    assert (answer.status, answer.code) == (404, "NoSuchKey")

    answer = slow_put(
        raw, target, [("If-None-Match", "*")], body, lambda: s3.put_object(Bucket=bucket, Key="k", Body=b"first")
    )
    assert (answer.status, answer.code) == (412, "PreconditionFailed")
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"first"


def test_of_many_creators_exactly_one_wins(s3: Any, bucket: str) -> None:
    def create(number: int) -> int:
        try:
            s3.put_object(Bucket=bucket, Key="lock", Body=b"%d" % number, IfNoneMatch="*")
        except ClientError as error:
            return int(error.response["ResponseMetadata"]["HTTPStatusCode"])
        return 200

    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(create, range(16)))
    assert sorted(set(outcomes)) == [200, 412]
    assert outcomes.count(200) == 1
    assert s3.get_object(Bucket=bucket, Key="lock")["Body"].read() == b"%d" % outcomes.index(200)


def test_compare_and_swap_loses_no_increment(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="n", Body=b"0")

    def increment(_: int) -> None:
        while True:
            found = s3.get_object(Bucket=bucket, Key="n")
            value = int(found["Body"].read()) + 1
            try:
                s3.put_object(Bucket=bucket, Key="n", Body=str(value).encode(), IfMatch=found["ETag"])
            except ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412)
            else:
                return

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(increment, range(20)))
    assert s3.get_object(Bucket=bucket, Key="n")["Body"].read() == b"20"
