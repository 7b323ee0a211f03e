"""AIStore's native API over the wire, in the words that its clients look for."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import msgspec
import pytest
import xxhash
from certificates import self_signed
from s3fixtures import fresh_name
from s3raw import Answer, Sender, User
from server import CREDENTIALS, ServerProcess

ALL_OFF = {"mirror": {"enabled": False}, "ec": {"enabled": False}, "lru": {"enabled": False}}


class Api:
    """Action messages to one server."""

    def __init__(self, raw: Sender) -> None:
        self.raw = raw

    def act(self, method: str, target: str, action: str, value: Any = None, accept: str = "") -> Answer:
        headers = [("content-type", "application/json"), *([("accept", accept)] if accept else [])]
        message = json.dumps({"action": action, "name": "", "value": value}).encode()
        return self.raw.ask(method, target, headers, message, length=len(message))

    def ask(self, method: str, target: str, body: bytes = b"", **headers: str) -> Answer:
        fields = [(name.replace("_", "-"), value) for name, value in headers.items()]
        return self.raw.ask(method, target, fields, body)

    def create(self, props: Any = None) -> str:
        name = fresh_name()
        assert self.act("POST", f"/v1/buckets/{name}?provider=ais", "create-bck", props).status == 200
        return name

    def props(self, bucket: str) -> dict[str, Any]:
        answer = self.ask("HEAD", f"/v1/buckets/{bucket}")
        assert answer.status == 200
        found: dict[str, Any] = json.loads(answer.headers["ais-bucket-props"])
        return found

    def put(self, bucket: str, *keys: str) -> None:
        for key in keys:
            assert self.ask("PUT", f"/v1/objects/{bucket}/{key}", key.encode()).status == 200

    def names(self, bucket: str, **message: Any) -> list[str]:
        answer = self.act("GET", f"/v1/buckets/{bucket}", "list", message)
        assert answer.status == 200, answer
        return [entry["name"] for entry in json.loads(answer.body)["entries"]]


@pytest.fixture(scope="module")
def api(raw: Sender) -> Api:
    return Api(raw)


def error(answer: Answer) -> tuple[int, str, str]:
    """Status, type and message, after a look at the rest of the document."""
    assert answer.headers["content-type"] == "application/json"
    document = json.loads(answer.headers.get("hdr-error") or answer.body)
    assert document["status"] == answer.status
    assert set(document) == {"tcode", "message", "method", "url_path", "remote_addr", "caller", "node", "status"}
    return answer.status, document["tcode"], document["message"]


# buckets --------------------------------------------------------------------------------------------------------


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


# objects --------------------------------------------------------------------------------------------------------


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


# what is not there ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "target", "action"),
    [
        ("GET", "/v1", ""),
        ("GET", "/v1/", ""),
        ("GET", "/v1/etl", ""),
        ("HEAD", "/v1/sort", ""),
        ("POST", "/v1/download", ""),
        ("GET", "/v1/ml/moss/BUCKET", ""),
        ("GET", "/v1/daemon?what=config", ""),
        ("GET", "/v1/cluster?what=qryxstats", ""),
        ("HEAD", "/v1/buckets/BUCKET?bsumm_remote=true", ""),
        ("HEAD", "/v1/buckets/BUCKET/prefix", ""),
        ("GET", "/v1/buckets/BUCKET", "summary-bck"),
        ("POST", "/v1/buckets/BUCKET", "copy-bck"),
        ("DELETE", "/v1/buckets/BUCKET", "delete-listrange"),
        ("DELETE", "/v1/buckets/BUCKET", "evict-remote-bck"),
        ("PATCH", "/v1/buckets/BUCKET", "make-n-copies"),
        ("POST", "/v1/buckets/BUCKET?bck_to=x", "create-bck"),
        ("POST", "/v1/objects/BUCKET", "promote"),
        ("POST", "/v1/objects/BUCKET/k", "mpt-upload"),
        ("PATCH", "/v1/objects/BUCKET/k", ""),
        ("GET", "/v1/objects/BUCKET/k?archpath=in", ""),
        ("GET", "/v1/objects/BUCKET/k?etl_name=e", ""),
        ("PUT", "/v1/objects/BUCKET/k?append_type=append", ""),
        ("PUT", "/v1/objects/BUCKET/k?archpath=in", ""),
        ("PUT", "/v1/objects/BUCKET/k?object_to=ais/@%23/x/y", ""),
        ("DELETE", "/v1/objects/BUCKET/k?uploadId=1", ""),
        ("GET", "/v1/buckets/BUCKET?provider=ais&namespace=@uuid%23ns", "list"),
    ],
)
def test_what_is_not_there_says_so_and_changes_nothing(api: Api, method: str, target: str, action: str) -> None:
    name = api.create()
    api.put(name, "k")
    target = target.replace("BUCKET", name)
    answer = api.act(method, target, action) if action else api.ask(method, target, b"x" if method == "PUT" else b"")
    status, tcode, message = error(answer)
    assert (status, tcode) == (501, "ErrNotImplemented")
    assert message.endswith("is not supported")
    assert api.ask("GET", f"/v1/objects/{name}/k").body == b"k"


@pytest.mark.parametrize(("provider", "scheme"), [("aws", "s3"), ("gcp", "gs"), ("azure", "az")])
def test_remote_buckets_do_not_exist(api: Api, provider: str, scheme: str) -> None:
    answer = api.act("GET", f"/v1/buckets/some-bucket?provider={provider}", "list")
    assert error(answer)[::2] == (404, f'bucket "{scheme}://some-bucket" does not exist')
    assert json.loads(api.act("GET", f"/v1/buckets?provider={provider}", "list").body) == []


def test_an_unknown_provider_is_refused(api: Api) -> None:
    for target in ("/v1/buckets?provider=foo", "/v1/buckets/some-bucket?provider=foo"):
        assert error(api.act("GET", target, "list"))[::2] == (400, 'invalid backend provider "foo"')


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"action": 7}', b"\xff"])
def test_a_message_that_is_none_is_refused(api: Api, body: bytes) -> None:
    answer = api.raw.ask("POST", f"/v1/buckets/{fresh_name()}", (), body)
    status, _, message = error(answer)
    assert (status, message.startswith("failed to unmarshal the action message")) == (400, True)


def test_a_missing_message_is_refused_where_something_would_change(api: Api) -> None:
    name = api.create()
    for method in ("POST", "PATCH", "DELETE"):
        assert error(api.ask(method, f"/v1/buckets/{name}"))[::2] == (400, "the action message is missing")


def test_a_method_without_meaning_is_refused(api: Api) -> None:
    answer = api.ask("PUT", f"/v1/buckets/{api.create()}", b"x")
    assert error(answer)[0] == 405
    assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, POST"


def test_an_object_needs_a_name(api: Api) -> None:
    name = api.create()
    assert error(api.ask("GET", f"/v1/objects/{name}/"))[::2] == (400, f"missing object name in ais://{name}/")
    assert error(api.ask("GET", "/v1/objects/"))[::2] == (400, "bucket name is missing")


# the cluster ----------------------------------------------------------------------------------------------------


def test_the_map_is_one_node_as_the_client_reached_it(api: Api) -> None:
    smap = json.loads(api.ask("GET", "/v1/daemon?what=smap").body)
    (target,) = smap["tmap"].values()
    assert smap["proxy_si"] == smap["pmap"][smap["proxy_si"]["daemon_id"]]
    assert (smap["proxy_si"]["daemon_type"], target["daemon_type"]) == ("proxy", "target")
    assert target["public_net"]["direct_url"] == api.raw.endpoint
    assert target["public_net"]["daemon_port"] == str(urlsplit(api.raw.endpoint).port)
    assert target["id_digest"] == xxhash.xxh64_intdigest(target["daemon_id"].encode(), seed=1103515245)
    assert json.loads(api.ask("GET", "/v1/cluster?what=smap").body) == smap


def test_there_are_no_jobs_and_the_cluster_is_well(api: Api) -> None:
    assert api.ask("GET", "/v1/cluster?what=status_all").body == b"[]"
    assert api.ask("GET", "/v1/cluster?what=running_all").body == b"[]"
    assert api.ask("GET", "/v1/health?prr=true").status == 200


# who may come in ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["/v1/buckets", "/v1/daemon?what=smap", "/v1/health", "/v1/no", "/v1/objects/bck/k"])
def test_a_server_with_credentials_wants_a_signature_everywhere(signed_server: ServerProcess, target: str) -> None:
    nobody = Sender(signed_server.endpoint)
    for headers in ((), (("authorization", "Bearer token"),)):
        assert error(nobody.ask("GET", target, headers))[:2] == (401, "ErrInvalidToken")
    wrong = Sender(signed_server.endpoint, User("AKIAALICE", "guess"))
    assert error(wrong.ask("GET", target))[:2] == (403, "ErrAccessDenied")
    stranger = Sender(signed_server.endpoint, User("AKIANOBODY", "guess"))
    assert error(stranger.ask("HEAD", target))[:2] == (403, "ErrAccessDenied")


def test_signed_requests_come_in(signed_server: ServerProcess) -> None:
    api = Api(Sender(signed_server.endpoint, User(*CREDENTIALS["alice"])))
    name = api.create()
    api.put(name, "k")
    assert api.names(name) == ["k"]


def test_the_hash_of_a_message_is_verified(signed_server: ServerProcess) -> None:
    raw = Sender(signed_server.endpoint, User(*CREDENTIALS["alice"]))
    body = b'{"action": "create-bck"}'
    answer = raw.ask("POST", f"/v1/buckets/{fresh_name()}", (), body, payload="0" * 64)
    assert error(answer)[:2] == (400, "ErrXAmzContentSHA256Mismatch")


# TLS and the SDK ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Any:
    home = tmp_path_factory.mktemp("tls")
    key, certificate = self_signed(home)
    listen = f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}"
    process = ServerProcess(home, listen=("tcp:0:interface=127.0.0.1", listen)).start()
    yield process, certificate
    process.finish()


def test_over_tls_the_sdk_is_sent_round_once(tls: tuple[ServerProcess, Path]) -> None:
    process, certificate = tls
    parts = urlsplit(process.urls[1])
    context = ssl.create_default_context(cafile=str(certificate))

    def ask(method: str, target: str, body: bytes | None, **headers: str) -> http.client.HTTPResponse:
        connection = http.client.HTTPSConnection("127.0.0.1", parts.port, context=context, timeout=30)
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, target, body, fields)
        answer = connection.getresponse()
        answer.read()
        connection.close()
        return answer

    target = "/v1/objects/tls-bucket/k?provider=ais"
    assert ask("POST", "/v1/buckets/tls-bucket", b'{"action": "create-bck"}').status == 200
    sdk = {"user_agent": "ais/python/2.0.0"}
    first = ask("PUT", target, None, content_length="1000", connection="close", **sdk)
    assert first.status == 307
    location = first.getheader("location") or ""
    assert location.startswith(f"https://127.0.0.1:{parts.port}{target}&")
    second = ask("PUT", location.removeprefix(f"https://127.0.0.1:{parts.port}"), b"x" * 1000, **sdk)
    assert second.status == 200
    # Nobody else is: neither another client nor one that sends its body at once.
    assert ask("PUT", target, b"y", connection="close").status == 200
    assert ask("PUT", target, b"z", **sdk).status == 200


@pytest.mark.parametrize("index", [0, 1], ids=["http", "https"])
def test_the_sdk_of_aistore_works(
    tls: tuple[ServerProcess, Path], index: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    sdk = pytest.importorskip("aistore.sdk")
    errors = pytest.importorskip("aistore.sdk.errors")
    process, certificate = tls
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    client = sdk.Client(process.urls[index], ca_cert=str(certificate), timeout=30.0)
    assert client.cluster().is_ready()
    bucket = client.bucket(f"sdk-{index}").create()
    with pytest.raises(errors.ErrBckAlreadyExists):
        client.bucket(bucket.name).create()
    data = bytes(range(256)) * 400
    item = bucket.object("dir/ü x+y%2F.bin")
    item.get_writer().put_content(data)
    assert item.get_reader().read_all() == data
    assert item.get_reader(byte_range="bytes=10-19").read_all() == data[10:20]
    assert item.get_reader(direct=True).read_all() == data
    assert (item.props.size, item.props.obj_version, item.props.present) == (len(data), "1", True)
    assert item.props.checksum_value == xxhash.xxh64_hexdigest(data)
    for number in range(5):
        bucket.object(f"many/{number}").get_writer().put_content(b"x")
    assert [e.name for e in bucket.list_objects_iter(page_size=2, prefix="many/")] == [f"many/{n}" for n in range(5)]
    assert [e.name for e in bucket.list_all_objects(page_size=4)] == [item.name, *(f"many/{n}" for n in range(5))]
    with pytest.raises(errors.ErrObjNotFound):
        bucket.object("nope").get_reader().read_all()
    with pytest.raises(errors.ErrBckNotFound):
        client.bucket("not-there").list_objects()
    item.delete()
    bucket.delete()
    assert bucket.name not in [found.name for found in client.cluster().list_buckets()]
