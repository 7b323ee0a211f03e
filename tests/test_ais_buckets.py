"""AIStore's native API: buckets, their properties and listings, in the words that its clients look for."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
import xxhash
from aisapi import Api, error
from s3fixtures import fresh_name

ALL_OFF = {"mirror": {"enabled": False}, "ec": {"enabled": False}, "lru": {"enabled": False}}


def test_a_bucket_is_created_listed_and_destroyed(api: Api) -> None:
    name = api.create()
    answer = api.act("GET", "/v1/buckets?provider=ais", "list")
    assert answer.headers["content-type"] == "application/json"
    assert {"name": name, "provider": "ais"} in json.loads(answer.body)
    assert api.act("DELETE", f"/v1/buckets/{name}", "destroy-bck").status == 200
    assert {"name": name, "provider": "ais"} not in json.loads(api.act("GET", "/v1/buckets/", "list").body)


def test_destroying_takes_the_objects_too(api: Api) -> None:
    name = api.create()
    api.put(name, "a", "b/c")
    assert api.act("DELETE", f"/v1/buckets/{name}", "destroy-bck").status == 200
    assert error(api.ask("GET", f"/v1/objects/{name}/a"))[1] == "ErrBckNotFound"


def test_buckets_of_s3_are_buckets_here_and_the_other_way_round(api: Api, s3: Any, bucket: str) -> None:
    assert api.props(bucket)["provider"] == "ais"
    name = api.create({"checksum": {"type": "md5"}})
    s3.put_object(Bucket=name, Key="k", Body=b"data", Metadata={"color": "blue"})
    answer = api.ask("GET", f"/v1/objects/{name}/k")
    assert (answer.body, answer.headers["ais-custom-md"]) == (b"data", "color=blue")
    assert answer.headers["ais-checksum-type"] == "md5"
    assert answer.headers["etag"] == f'"{answer.headers["ais-checksum-value"]}"'


def test_a_bucket_that_exists_is_a_conflict(api: Api) -> None:
    name = api.create()
    answer = api.act("POST", f"/v1/buckets/{name}", "create-bck")
    assert error(answer) == (409, "ErrBckAlreadyExists", f'bucket "ais://{name}" already exists')


@pytest.mark.parametrize(
    ("method", "action"), [("GET", "list"), ("DELETE", "destroy-bck"), ("PATCH", "set-bprops"), ("HEAD", "")]
)
def test_a_missing_bucket_is_named_as_the_sdk_expects(api: Api, method: str, action: str) -> None:
    answer = (
        api.act(method, "/v1/buckets/not-there", action, {}) if action else api.ask(method, "/v1/buckets/not-there")
    )
    assert error(answer) == (404, "ErrBckNotFound", 'bucket "ais://not-there" does not exist')


@pytest.mark.parametrize("name", ["ab", "Upper", "under_score", "192.168.1.1", "a..b"])
def test_bucket_names_follow_s3(api: Api, name: str) -> None:
    status, tcode, message = error(api.act("POST", f"/v1/buckets/{name}", "create-bck"))
    assert (status, tcode) == (400, "ErrInvalidBucketName")
    assert message.startswith(f'bucket name "{name}" is invalid: may only contain')


@pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "DELETE"])
def test_a_bucket_name_may_not_be_missing(api: Api, method: str) -> None:
    answer = api.ask(method, "/v1/buckets/", b"" if method == "HEAD" else b'{"action": "create-bck"}')
    assert error(answer)[::2] == (400, "bucket name is missing")


# properties -----------------------------------------------------------------------------------------------------


def test_a_new_bucket_has_the_default_properties(api: Api) -> None:
    props = api.props(api.create())
    assert props["checksum"] == {
        "type": "xxhash",
        "validate_cold_get": True,
        "validate_warm_get": False,
        "validate_obj_move": False,
        "enable_read_range": False,
    }
    assert props["versioning"] == {"enabled": True, "validate_warm_get": False, "synchronize": False}
    assert int(props["created"]) > 1e18
    assert int(props["bid"]) > 0


def test_properties_are_set_and_reset(api: Api) -> None:
    name = api.create({"checksum": {"type": "md5"}, "versioning": {"enabled": False}})
    wanted = {"checksum": {"type": "sha256", "validate_warm_get": True}, **ALL_OFF}
    assert api.act("PATCH", f"/v1/buckets/{name}", "set-bprops", wanted).status == 200
    props = api.props(name)
    assert (props["checksum"]["type"], props["checksum"]["validate_warm_get"]) == ("sha256", True)
    assert props["versioning"]["enabled"] is False
    assert api.act("PATCH", f"/v1/buckets/{name}", "reset-bprops").status == 200
    props = api.props(name)
    assert (props["checksum"]["type"], props["versioning"]["enabled"]) == ("xxhash", True)


def test_a_reset_leaves_the_versioning_status_of_s3(api: Api, s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert api.props(bucket)["versioning"]["enabled"] is False
    api.act("PATCH", f"/v1/buckets/{bucket}", "reset-bprops")
    assert api.props(bucket)["versioning"]["enabled"] is True
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"


@pytest.mark.parametrize(
    ("wanted", "status", "message"),
    [
        ({"unknown": {"field": 1}}, 400, 'unknown property "unknown.field"'),
        ({"provider": "aws"}, 400, 'property "provider" is readonly'),
        (
            {"checksum": {"type": "foo"}},
            400,
            'invalid checksum type "foo" (expecting [crc32c md5 sha256 sha512 xxhash xxhash2 none])',
        ),
        (
            {"versioning": {"enabled": "yes"}},
            400,
            'invalid value "yes" for property "versioning.enabled": expecting a boolean',
        ),
        ({"mirror": {"enabled": True}}, 501, 'setting the property "mirror.enabled" is not supported'),
        (
            {"checksum": {"type": ["md5"]}},
            400,
            "invalid checksum type of several (expecting [crc32c md5 sha256 sha512 xxhash xxhash2 none])",
        ),
        ({"checksum": {"type": {"a": {"b": {"c": 1}}}}}, 400, 'unknown property "checksum.type.a"'),
        ([], 400, "invalid bucket properties: expecting a JSON object"),
    ],
)
def test_what_cannot_be_set_is_refused_as_a_whole(api: Api, wanted: Any, status: int, message: str) -> None:
    name = api.create()
    if isinstance(wanted, dict):
        wanted = {"checksum": {"validate_warm_get": True}} | wanted
    assert error(api.act("PATCH", f"/v1/buckets/{name}", "set-bprops", wanted))[::2] == (status, message)
    assert api.props(name)["checksum"]["validate_warm_get"] is False
    other = fresh_name()
    assert error(api.act("POST", f"/v1/buckets/{other}", "create-bck", wanted))[::2] == (status, message)
    assert api.ask("HEAD", f"/v1/buckets/{other}").status == 404


# listings -------------------------------------------------------------------------------------------------------


def test_a_listing_speaks_msgpack_with_the_names_of_the_sdk(api: Api) -> None:
    name = api.create()
    api.put(name, "a", "b")
    value = {"prefix": "", "props": "name,size,checksum,version", "flags": "0", "pagesize": 1}
    answer = api.act("GET", f"/v1/buckets/{name}", "list", value, accept="application/msgpack")
    assert answer.headers["content-type"] == "application/msgpack"
    page = msgspec.msgpack.decode(answer.body)
    assert page["Entries"] == [{"n": "a", "s": 1, "cs": xxhash.xxh64_hexdigest(b"a"), "v": "1", "f": 64}]
    assert (page["ContinuationToken"], page["Flags"]) == ("a", 0)
    assert page["UUID"]
    value |= {"continuation_token": page["ContinuationToken"], "uuid": page["UUID"]}
    last = msgspec.msgpack.decode(
        api.act("GET", f"/v1/buckets/{name}", "list", value, accept="application/msgpack").body
    )
    assert [entry["n"] for entry in last["Entries"]] == ["b"]
    assert (last["ContinuationToken"], last["UUID"]) == ("", page["UUID"])


def test_a_listing_speaks_json_with_the_names_of_go(api: Api) -> None:
    name = api.create()
    api.put(name, "a")
    page = json.loads(api.act("GET", f"/v1/buckets/{name}", "list", {"props": "all"}).body)
    assert page["continuation_token"] == ""
    (entry,) = page["entries"]
    assert (entry["name"], entry["size"], entry["version"], entry["copies"]) == ("a", "1", "1", 1)
    assert set(entry) == {"name", "size", "checksum", "atime", "version", "location", "custom-md", "copies", "flags"}


def test_a_listing_takes_prefix_marker_and_folders(api: Api) -> None:
    name = api.create()
    api.put(name, "a", "d/1", "d/2", "d0", "e/x/y", "z")
    assert api.names(name) == ["a", "d/1", "d/2", "d0", "e/x/y", "z"]
    assert api.names(name, prefix="d") == ["d/1", "d/2", "d0"]
    assert api.names(name, start_after="d/1") == ["d/2", "d0", "e/x/y", "z"]
    assert api.names(name, start_after="a", continuation_token="d0") == ["e/x/y", "z"]
    assert api.names(name, flags="2048") == ["a", "d/", "d0", "e/", "z"]
    assert api.names(name, flags=str(2048 | 8192)) == ["a", "d0", "z"]
    assert api.names(name, flags="2048", continuation_token="d/") == ["d0", "e/", "z"]
    page = json.loads(api.act("GET", f"/v1/buckets/{name}", "list", {"flags": "2048"}).body)
    assert [entry["flags"] for entry in page["entries"]] == [64, 256, 64, 256, 64]


def test_pages_lose_nothing(api: Api) -> None:
    name = api.create()
    wanted = [f"k{number:04}" for number in range(7)]
    api.put(name, *wanted)
    seen: list[str] = []
    token: str | None = None
    while token != "":
        message = {"pagesize": 3, "continuation_token": token or ""}
        page = json.loads(api.act("GET", f"/v1/buckets/{name}", "list", message).body)
        assert len(page["entries"]) <= 3
        seen += [entry["name"] for entry in page["entries"]]
        token = page["continuation_token"]
    assert seen == wanted


@pytest.mark.parametrize("pagesize", [0, 5000])
def test_a_page_has_at_most_a_thousand_entries(api: Api, thousand_and_one: str, pagesize: int) -> None:
    answer = api.act("GET", f"/v1/buckets/{thousand_and_one}", "list", {"pagesize": pagesize})
    page = json.loads(answer.body)
    assert (len(page["entries"]), page["continuation_token"]) == (1000, "0999")


@pytest.fixture(scope="module")
def thousand_and_one(api: Api) -> str:
    """A bucket of so many objects."""
    name = api.create()
    connection = http.client.HTTPConnection(urlsplit(api.raw.endpoint).netloc, timeout=30)
    for number in range(1001):
        connection.request("PUT", f"/v1/objects/{name}/{number:04}", b"")
        assert connection.getresponse().read() == b""
    connection.close()
    return name


@pytest.mark.parametrize(
    ("message", "status"),
    [
        ({"props": "name,colour"}, 400),
        ({"flags": "many"}, 400),
        ({"flags": "-1"}, 400),
        ({"pagesize": -1}, 400),
        ({"prefix": 7}, 400),
        ("text", 400),
        ({"flags": "8"}, 501),
        ({"flags": "512"}, 501),
        ({"flags": "4096"}, 501),
        ({"flags": "32768"}, 501),
    ],
)
def test_a_listing_refuses_what_it_does_not_understand(api: Api, message: Any, status: int) -> None:
    assert error(api.act("GET", f"/v1/buckets/{api.create()}", "list", message))[0] == status
