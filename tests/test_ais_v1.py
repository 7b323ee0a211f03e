"""AIStore's native API over the wire, in the words that its clients look for."""

from __future__ import annotations

import http.client
import json
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import xxhash
from aisapi import Api, error
from certificates import self_signed
from s3fixtures import fresh_name
from s3raw import Sender, User
from server import CREDENTIALS, ServerProcess

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


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"action": 7}', b"\xff", b"[" * 100_000])
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
