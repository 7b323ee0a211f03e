"""AIStore's native API: objects, in the words that its clients look for."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

import pytest
import xxhash
from aisapi import Api, error


@pytest.mark.parametrize("size", [0, 5, 100_000])
def test_an_object_comes_back_with_its_attributes(api: Api, size: int) -> None:
    name = api.create()
    data = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    stored = api.ask("PUT", f"/v1/objects/{name}/k?provider=ais", data, content_type="application/json")
    assert (stored.status, stored.headers["ais-version"]) == (200, "1")
    assert stored.headers["ais-checksum-value"] == xxhash.xxh64_hexdigest(data)
    answer = api.ask("GET", f"/v1/objects/{name}/k?provider=ais")
    assert (answer.status, answer.body) == (200, data)
    for found in (answer, api.ask("HEAD", f"/v1/objects/{name}/k")):
        assert found.headers["content-length"] == str(size)
        assert found.headers["ais-checksum-type"] == "xxhash"
        assert found.headers["ais-checksum-value"] == xxhash.xxh64_hexdigest(data)
        assert (found.headers["ais-version"], found.headers["ais-present"]) == ("1", "true")
        assert int(found.headers["ais-atime"]) > 1e18
    assert answer.headers["content-type"] == "application/octet-stream"


def test_the_version_counts_overwrites(api: Api) -> None:
    name = api.create()
    for version in ("1", "2", "3"):
        api.put(name, "k")
        assert api.ask("HEAD", f"/v1/objects/{name}/k").headers["ais-version"] == version


@pytest.mark.parametrize("size", [10, 100_000])
def test_a_range_is_partial_content(api: Api, size: int) -> None:
    name = api.create()
    data = bytes(number % 251 for number in range(size))
    api.ask("PUT", f"/v1/objects/{name}/k", data)
    for wanted, begin, end in (("bytes=2-5", 2, 6), ("bytes=7-", 7, size), ("bytes=-3", size - 3, size)):
        answer = api.ask("GET", f"/v1/objects/{name}/k", range=wanted)
        assert (answer.status, answer.body) == (206, data[begin:end])
        assert answer.headers["content-range"] == f"bytes {begin}-{end - 1}/{size}"
    answer = api.ask("GET", f"/v1/objects/{name}/k", range=f"bytes={size}-")
    assert error(answer)[0] == 416
    assert answer.headers["content-range"] == f"bytes */{size}"


def test_head_gives_the_properties_that_are_asked_for(api: Api) -> None:
    name = api.create()
    api.put(name, "k")
    headers = api.ask("HEAD", f"/v1/objects/{name}/k?props=name,size").headers
    assert "ais-checksum-value" not in headers
    assert (headers["content-length"], headers["ais-present"]) == ("1", "true")
    assert "ais-version" in api.ask("HEAD", f"/v1/objects/{name}/k?props=version").headers
    answer = api.ask("HEAD", f"/v1/objects/{name}/k?props=size,colour")
    assert error(answer)[::2] == (400, 'unknown object property "colour"')


def test_a_missing_object_is_named_as_the_sdk_expects(api: Api) -> None:
    name = api.create()
    for method in ("GET", "HEAD", "DELETE"):
        answer = api.ask(method, f"/v1/objects/{name}/no/such")
        assert error(answer) == (404, "ErrNotFound", f"t[ais-s3]: ais://{name}/no/such does not exist")


def test_an_object_is_deleted_once(api: Api) -> None:
    name = api.create()
    api.put(name, "k")
    assert api.ask("DELETE", f"/v1/objects/{name}/k?provider=ais").status == 200
    assert api.ask("DELETE", f"/v1/objects/{name}/k").status == 404


def test_an_upload_into_a_missing_bucket_is_refused_before_its_body(api: Api) -> None:
    head = api.raw.head("PUT", "/v1/objects/not-there/k", length=1 << 30)
    assert error(api.raw.send(head))[1] == "ErrBckNotFound"


def test_the_checksum_of_the_client_is_verified(api: Api) -> None:
    name = api.create({"checksum": {"type": "md5"}})
    target = f"/v1/objects/{name}/k"
    right = xxhash.xxh64_hexdigest(b"data")
    bad = api.ask("PUT", target, b"date", ais_checksum_type="xxhash", ais_checksum_value=right)
    assert error(bad)[2].startswith(f"BAD DATA CHECKSUM: xxhash[{right}]")
    assert api.ask("HEAD", target).status == 404
    assert api.ask("PUT", target, b"data", ais_checksum_type="xxhash", ais_checksum_value=right.upper()).status == 200
    unknown = api.ask("PUT", target, b"data", ais_checksum_type="foo", ais_checksum_value="00")
    assert error(unknown)[2].startswith('invalid checksum type "foo"')


def test_custom_metadata_is_the_user_metadata_of_s3(api: Api, s3: Any) -> None:
    name = api.create()
    assert api.ask("PUT", f"/v1/objects/{name}/k", b"x", ais_custom_md="color=light blue").status == 200
    assert s3.head_object(Bucket=name, Key="k")["Metadata"] == {"color": "light blue"}
    assert api.ask("HEAD", f"/v1/objects/{name}/k?props=custom").headers["ais-custom-md"] == "color=light blue"
    assert error(api.ask("PUT", f"/v1/objects/{name}/k", b"x", ais_custom_md="color"))[0] == 400


@pytest.mark.parametrize("key", ["a//b", "a/", "../x", "./", "%20+%2B", "%252F", "%F0%9F%98%80", "x%2Fy", "a%3Fb"])
def test_keys_are_opaque(api: Api, key: str) -> None:
    name = api.create()
    target = f"/v1/objects/{name}/{key}"
    assert api.ask("PUT", target, key.encode()).status == 200
    assert api.ask("GET", target).body == key.encode()
    assert api.names(name) == [unquote(key)]


def test_a_body_of_unknown_length_is_stored(api: Api) -> None:
    name = api.create()
    head = api.raw.head("PUT", f"/v1/objects/{name}/k", [("transfer-encoding", "chunked")])
    assert api.raw.send(head + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").status == 200
    assert api.ask("GET", f"/v1/objects/{name}/k").body == b"abcde"
