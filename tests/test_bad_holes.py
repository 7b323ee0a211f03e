"""Holes that other servers had, each by its name: this one has none of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from badinputs import BODY, Checked, Rows, World
from credential_kinds import KINDS, People
from routes import every_route
from s3fixtures import fresh_name
from s3raw import STREAMING, STREAMING_TRAILER, UNSIGNED_TRAILER, Answer, User, aws_chunked
from server import CREDENTIALS
from test_bad_inputs import CRC32, presign
from test_s3_auth import ADDED, PAYLOADS, attempt, presigned, without_ids

import aisobj

ROWS = Rows()
row = ROWS.row
SOURCE = Path(aisobj.__file__).parent


@pytest.mark.parametrize("name", ROWS.by_name)
def test_hole(name: str, world: World) -> None:
    ROWS.check(name, world)


def signed_server_of(w: World) -> Any:
    return w.servers[1]


# Signatures that nobody looked at


def refused(w: World, mechanism: str, payloads: list[str]) -> Iterator[Checked]:
    """A PUT signed by nobody that is known, and by somebody with a wrong secret."""
    server = signed_server_of(w)
    for user, code in (
        (User("AKIAALICE", "wrong"), "SignatureDoesNotMatch"),
        (User("AKIANO", "x"), "InvalidAccessKeyId"),
    ):
        for payload in payloads:
            answer = attempt(mechanism, PAYLOADS[payload], server, w.target, user)
            # Headers that no signature in the query covers are refused before it is looked at.
            said = "AccessDenied" if answer.code == "AccessDenied" and mechanism == "v4 query" else code
            yield answer, 403, said


@row("MinIO CVE-2025-31489")
def _(w: World) -> Iterator[Checked]:
    yield from refused(w, "v4 header", ["unsigned trailer", "streaming", "streaming trailer", "unsigned", "signed"])


@row("MinIO CVE-2026-40344")
def _(w: World) -> Iterator[Checked]:
    yield from refused(w, "v4 query", ["unsigned trailer", "streaming", "streaming trailer", "unsigned", "missing"])


@row("MinIO CVE-2026-41145")
def _(w: World) -> Iterator[Checked]:
    credential = presign(w).partition("X-Amz-Credential=")[2].partition("&")[0]
    for query in (f"X-Amz-Credential={credential}", f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={credential}"):
        for mode in (UNSIGNED_TRAILER, STREAMING):
            fields = [("content-encoding", "aws-chunked"), ("x-amz-decoded-content-length", "1")]
            body = b"1\r\nx\r\n0\r\n\r\n"
            answer = w.unsigned.ask("PUT", f"{w.target}?{query}", fields, body, payload=mode)
            yield answer, 400, "AuthorizationQueryParametersError"
    yield from refused(w, "v2 query", ["missing", "unsigned trailer"])


def added_headers(w: World, version: str) -> Iterator[Checked]:
    user = User(*CREDENTIALS["alice"])
    target = presigned(signed_server_of(w), user, "put_object", w.target, version)
    for name, value in ADDED.items():
        given = f"{w.bucket}/kept" if name == "x-amz-copy-source" else value
        answer = w.unsigned.send(w.unsigned.head("PUT", target, [(name, given)], length=1) + b"x")
        if name == "x-amz-security-token":
            yield answer, 400, "InvalidToken"
        else:
            yield answer, 403, "AccessDenied" if answer.code == "AccessDenied" else "SignatureDoesNotMatch"


@row("Swift CVE-2026-71191")
def _(w: World) -> Iterator[Checked]:
    yield from added_headers(w, "s3v4")


@row("RustFS GHSA-g8w9")
def _(w: World) -> Iterator[Checked]:
    yield from added_headers(w, "s3")
    for name in ("x-amz-meta-a", "x-amz-acl", "x-amz-copy-source"):
        yield w.signed.ask("PUT", w.target, body=b"x", later=[(name, "a/b")]), 403, "AccessDenied"


@row("MinIO CVE-2021-21390", once=True)
def _(w: World) -> Iterator[Checked]:
    chunks = [b"x" * 8192, b"y" * 300]
    for mode in (STREAMING, STREAMING_TRAILER):
        trailers = [] if mode == STREAMING else [(CRC32, "AAAAAA==")]
        w.signed.head("PUT", w.target, payload=mode)
        length = len(aws_chunked(chunks, mode, w.signed.signature, [(n.encode(), v.encode()) for n, v in trailers]))
        for at in [*range(0, 90), *range(90, length - 900, 501), *range(length - 900, length, 13)]:

            def change(body: bytes, at: int = at) -> bytes:
                return body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :]

            answer = w.signed.put_chunked(w.target, chunks, mode=mode, trailers=trailers, change=change)
            assert answer.status in (400, 403), at
            yield answer, answer.status, answer.code


# What strangers learn


@row("MinIO CVE-2024-36107")
def _(w: World) -> Iterator[Checked]:
    etag = w.signed.ask("HEAD", f"{w.path}/kept").headers["etag"]
    for fields in (
        [],
        [("If-None-Match", etag)],
        [("If-Match", etag)],
        [("If-Match", '"x"')],
        [("If-Modified-Since", "Tue, 07 Jul 2099 21:53:04 GMT")],
        [("If-Unmodified-Since", "Tue, 07 Jul 2020 21:53:04 GMT")],
        [("Range", "bytes=99-")],
    ):
        there, missing = (w.unsigned.ask("GET", f"{w.path}/{key}", fields) for key in ("kept", "nope"))
        assert without_ids(there).body == without_ids(missing).body.replace(b"/nope<", b"/kept<")
        assert set(there.headers) == set(missing.headers)
        yield there, 403, "AccessDenied"
        yield missing, 403, "AccessDenied"


#: What others have there.
ELSEWHERE = (
    "/minio/health/cluster", "/minio/bootstrap/v1/verify", "/minio/admin/v3/info", "/minio/v2/metrics/cluster",
    "/debug/pprof/", "/debug/vars", "/admin", "/admin/user", "/admin/metadata/user", "/swift/v1", "/auth/1.0",
    "/dir/status", "/dir/assign", "/cluster/status", "/status", "/stats/counter", "/ui/index.html", "/vol/status",
    "/server-status", "/.env", "/v1/secrets", "/v1/config", "/v1/debug", "/console", "/actuator/env", "/-/reload",
    "/-/quit", "/-/config", "/metrics/x", "/api/v1/status", "/iam", "/sts", "/?Action=ListUsers&Version=2010-05-08",
)  # fmt: skip


@row("MinIO CVE-2023-28432")
def _(w: World) -> Iterator[Checked]:
    for target in ELSEWHERE:
        for method in ("GET", "POST"):
            answer = w.unsigned.ask(method, target)
            if target.startswith("/v1"):
                assert answer.status == 401, (method, target)
            else:
                yield answer, 403, "AccessDenied"


@row("MinIO CVE-2023-28434")
def _(w: World) -> Iterator[Checked]:
    """There is no bucket for metadata that a name could lead to."""
    for name in (".minio.sys", ".ais", "..", ".", "%2e%2e", "_system", ".blobs", "index%2f"):
        for method in ("PUT", "GET", "DELETE"):
            answer = w.signed.ask(method, f"/s3/{name}/x", [("x-amz-copy-source", f"{w.bucket}/kept")])
            if answer.code != "NotImplemented":  # a copy source on GET or DELETE
                yield answer, 400, "InvalidBucketName"


@row("SeaweedFS CVE-2026-72920", once=True)
def _(w: World) -> Iterator[Checked]:
    """Every route that there is, as the code has them; with every kind of credential: ``test_auth_matrix``."""
    public = {"-/health", "-/ready", "metrics"}
    people = People(w.unsigned.endpoint, User(*CREDENTIALS["alice"]), User(*CREDENTIALS["bob"]))
    for route in every_route(w.bucket, "kept", ("GET", "PUT", "POST", "DELETE", "PATCH")):
        if route.tree in public:
            continue
        answer = w.unsigned.send(KINDS["none"].request(people, route), route.method)
        if route.tree == "v1":
            assert answer.status == 401, route
        elif route.method != "HEAD":
            yield answer, 403, "AccessDenied"
        else:
            assert answer.status == 403, route


@row("MinIO CVE-2024-55949")
def _(w: World) -> Iterator[Checked]:
    """Nothing that anybody may ask changes users or rights: there is no such operation, and the file stays as it is."""
    file = signed_server_of(w).home / "credentials"
    before = file.read_bytes()
    new = b'{"name":"eve","secret":"x","policy":"admin"}'
    for target in ("/v1/users", "/v1/roles", "/v1/tokens", "/v1/clusters", "/v1/cluster"):
        for method in ("POST", "PUT"):
            answer = w.signed.ask(method, target, [("content-type", "application/json")], new)
            assert answer.status in (405, 501), (method, target, answer)
    assert file.read_bytes() == before
    yield w.by("eve", "x").ask("GET", "/s3"), 403, "InvalidAccessKeyId"


# Ceph: odd requests that were crashes


def is_no_crash(answers: list[Answer]) -> None:
    for answer in answers:
        assert answer.status < 500 or answer.status == 501, answer


@row("Ceph CVE-2022-3854")
def _(w: World) -> Iterator[Checked]:
    odd = [
        "/",
        "//",
        "///",
        "/?",
        "/??",
        "/s3?",
        "/s3/?",
        "/s3//",
        "/s3//k",
        f"{w.path}//",
        f"{w.path}/?",
        "/%2f",
        "/.",
        "/..",
    ]
    is_no_crash([w.open.ask(method, target) for target in odd for method in ("GET", "HEAD", "DELETE", "POST")])
    for target in ("/s3//k", "/s3/%00", "/s3/%2f/k"):
        yield w.open.ask("PUT", target, body=b"x"), 400, "InvalidBucketName"
    yield w.open.ask("GET", f"{w.path}/%"), 400, "InvalidURI"


@row("Ceph RESTler 72669")
def _(w: World) -> Iterator[Checked]:
    for name in (
        "range",
        "if-match",
        "if-modified-since",
        "content-type",
        "x-amz-copy-source-range",
        "authorization",
        "expect",
    ):
        is_no_crash([w.open.ask(method, f"{w.path}/kept", [(name, "")]) for method in ("GET", "HEAD")])
    yield w.open.ask("PUT", w.target, [("x-amz-copy-source", "")]), 400, "InvalidArgument"
    yield w.open.ask("PUT", w.target, [("content-md5", "")], b"x"), 400, "InvalidDigest"
    head = w.open.head("PUT", w.target, [("x-amz-content-sha256", "")], length=1)
    yield w.open.send(head + b"x"), 400, "InvalidArgument"


@row("Ceph RESTler 72502")
def _(w: World) -> Iterator[Checked]:
    for method, target in (
        ("POST", f"{w.path}?delete"),
        ("PUT", f"{w.path}?versioning"),
        ("POST", f"{w.target}?uploadId={'0' * 32}"),
    ):
        yield w.open.ask(method, target, [("content-md5", "1B2M2Y8AsgTpgAmY7PhCfg==")]), 400, "MalformedXML"


@row("Ceph CVE-2018-16846")
def _(w: World) -> Iterator[Checked]:
    for query in ("max-keys=2147483648", "max-keys=99999999999999999999", "uploads&max-uploads=2147483648"):
        yield w.open.ask("GET", f"{w.path}?{query}"), 400, "InvalidArgument"
    for query in ("max-keys=2147483647", "list-type=2&max-keys=2147483647"):
        assert w.open.ask("GET", f"{w.path}?{query}").element("MaxKeys") == "1000"


@row("Ceph CVE-2020-12059")
def _(w: World) -> Iterator[Checked]:
    for document in (b"", b"<", b"<Tagging/>", b"<Tagging><TagSet><Tag/></TagSet></Tagging>"):
        for method, target in (
            ("PUT", f"{w.path}/kept?tagging"),
            ("PUT", f"{w.path}?tagging"),
            ("POST", f"{w.path}?tagging"),
        ):
            yield w.open.ask(method, target, body=document), 501, "NotImplemented"
    yield w.open.ask("PUT", w.target, [("x-amz-tagging", "a=b&a&=%zz")], b"x"), 501, "NotImplemented"


@row("Ceph CVE-2024-48916")
def _(w: World) -> Iterator[Checked]:
    none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbiJ9."  # {"alg": "none"}
    for target in (w.path, f"{w.path}/kept"):
        yield w.unsigned.ask("GET", target, [("authorization", f"Bearer {none}")]), 400, "InvalidArgument"
        yield w.unsigned.ask("GET", target, [("x-amz-security-token", none)]), 403, "AccessDenied"
        yield w.signed.ask("GET", target, [("x-amz-security-token", none)]), 400, "InvalidToken"
    action = "/?Action=AssumeRoleWithWebIdentity&RoleArn=a&RoleSessionName=b&WebIdentityToken=" + none
    yield w.unsigned.ask("POST", action), 403, "AccessDenied"


FORM = "multipart/form-data; boundary=b"


def form(**fields: str) -> bytes:
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    ]
    return ("".join(parts) + '--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n').encode()


@row("Ceph CVE-2023-43040")
def _(w: World) -> Iterator[Checked]:
    body = form(key="k", bucket="another", policy="e30=", AWSAccessKeyId="AKIAALICE", signature="x")
    yield w.unsigned.ask("POST", w.path, [("content-type", FORM)], body), 403, "AccessDenied"
    for sender in (w.open, w.signed):
        yield sender.ask("POST", w.path, [("content-type", FORM)], body), 501, "NotImplemented"


@row("Ceph CVE-2016-7031")
def _(w: World) -> Iterator[Checked]:
    for acl in ("authenticated-read", "public-read", "public-read-write", "aws-exec-read", "log-delivery-write"):
        for target in (w.target, f"/s3/{fresh_name()}"):
            yield w.signed.ask("PUT", target, [("x-amz-acl", acl)]), 501, "NotImplemented"
        yield w.signed.ask("PUT", f"{w.path}?acl", [("x-amz-acl", acl)]), 501, "NotImplemented"
    for target in (w.path, f"{w.path}?list-type=2", f"{w.path}/kept", f"{w.path}?uploads"):
        yield w.unsigned.ask("GET", target), 403, "AccessDenied"


# Twisted's HTTP


def alone(w: World, data: bytes) -> Answer:
    """One answer and the end, whatever else was in the bytes."""
    with w.open.connect() as wire:
        wire.send(data + w.open.request("DELETE", f"{w.path}/kept"))
        answer = wire.answer()
        assert wire.closed()
    return answer


def head_of(w: World, *lines: str) -> bytes:
    return (
        f"PUT {w.target} HTTP/1.1\r\nHost: {w.open.host}\r\n".encode()
        + "".join(f"{x}\r\n" for x in lines).encode()
        + b"\r\n"
    )


@row("Twisted CVE-2020-10108")
def _(w: World) -> Iterator[Checked]:
    for lengths in (("0", "5"), ("5", "0"), ("5", "5"), ("0, 5",)):
        yield alone(w, head_of(w, *(f"Content-Length: {length}" for length in lengths))), 400, "BadRequest"


@row("Twisted CVE-2020-10109")
def _(w: World) -> Iterator[Checked]:
    for lines in (
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 0", "Transfer-Encoding: identity"),
    ):
        yield alone(w, head_of(w, *lines) + b"0\r\n\r\n"), 400, "BadRequest"


@row("Twisted CVE-2022-24801")
def _(w: World) -> Iterator[Checked]:
    for line in (
        "Content-Length: +5",
        "Content-Length: -0",
        "Content-Length: 0x5",
        "Content-Length: 5_0",
        "A : b",
        "Foo\x01: b",
    ):
        yield alone(w, head_of(w, line)), 400, "BadRequest"
    for chunks in (
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"+5\r\nhello\r\n0\r\n\r\n",
        b"5 \r\nhello\r\n0\r\n\r\n",
    ):
        yield alone(w, head_of(w, "Transfer-Encoding: chunked") + chunks), 400, "BadRequest"


SCRIPT = "<script>alert(1)</script>"


@row("Twisted CVE-2022-39348")
def _(w: World) -> Iterator[Checked]:
    for host in (SCRIPT, f"localhost{SCRIPT}", '"><b>'):
        answer = w.open.ask("GET", w.path, [("host", host)])
        assert b"<script" not in answer.body.lower()
        yield answer, 400, "BadRequest"


@row("Twisted CVE-2023-46137")
def _(w: World) -> Iterator[Checked]:
    with w.open.connect() as wire:
        targets = [f"{w.path}/kept", f"{w.path}/missing-1", "/-/health", f"{w.path}/missing-2"]
        wire.send(b"".join(w.open.request("GET", target) for target in targets))
        assert wire.answer().body == BODY
        first = wire.answer()
        assert first.element("Key") == "missing-1"
        yield first, 404, "NoSuchKey"
        assert wire.answer().body == b"ok\n"
        second = wire.answer()
        assert second.element("Key") == "missing-2"
        yield second, 404, "NoSuchKey"


@row("Twisted CVE-2024-41671")
def _(w: World) -> Iterator[Checked]:
    """Each sees what the one before it has done."""
    with w.open.connect() as wire:
        for _round in range(5):
            wire.send(
                w.open.request("PUT", w.target, body=b"x" * 50_000)
                + w.open.request("GET", w.target)
                + w.open.request("DELETE", w.target)
                + w.open.request("GET", w.target)
            )
            assert wire.answer().status == 200
            assert wire.answer().body == b"x" * 50_000
            assert wire.answer().status == 204
            yield wire.answer(), 404, "NoSuchKey"


@row("Twisted CVE-2024-41810")
def _(w: World) -> Iterator[Checked]:
    for target in (
        f"/s3/{SCRIPT}",
        f"{w.path}/{SCRIPT}",
        f"{w.path}/missing?x={SCRIPT}",
        "//evil.example/..",
        f"/v1/{SCRIPT}",
    ):
        for quoted in (target, target.replace("<", "%3C").replace(">", "%3E")):
            answer = w.open.ask("GET", quoted)
            assert not 300 <= answer.status < 400
            assert "location" not in answer.headers
            assert answer.headers["content-type"] in ("application/xml", "application/json")
            if answer.headers["content-type"] != "application/json":  # in which it is text
                assert b"<script" not in answer.body.lower()
    yield w.open.ask("GET", f"{w.path}/missing"), 404, "NoSuchKey"
