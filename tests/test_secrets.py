"""Secrets and signatures that still open something are nowhere but where they must be: one server, every kind of
request, and everything that it, its tools and its clients leave looked through.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes, urlsplit

from botocore.exceptions import ClientError
from s3raw import STREAMING, STREAMING_TRAILER, Sender, User
from server import ServerProcess, environment
from tools import tool
from workerkit import one_to_each, until

MakeServer = Callable[..., ServerProcess]

#: Such as stand in no other text; one has what must be escaped in URLs and JSON.
USERS = {"alice": ("AKIAALICE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYq9w"), "bob": ("AKIABOB", "s3cr3t-of-bob-0123456789")}
STRANGERS_SECRET = "secret-of-a-stranger-98765"

_SIGNATURES = re.compile(rb"[Ss]ignature=([0-9A-Fa-f]{64}|[A-Za-z0-9+/%]{27,40}(?:=|%3D))")


class Requests:
    """Sends every kind, and remembers what is answered and each signature that was right or nearly so."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.answers: list[bytes] = []
        self.signatures: set[bytes] = set()

    def raw(self, data: bytes) -> None:
        with contextlib.suppress(EOFError, OSError):
            answer = Sender(self.server.endpoint).send(data)
            found = set(_SIGNATURES.findall(data.replace(b"%53", b"S")))
            while b"%" in data and (less := unquote_to_bytes(data)) != data:  # it has seen them, escaped or not
                data = less
                found.update(_SIGNATURES.findall(data))
            self.remember(answer, found)

    def remember(self, answer: Any, own: set[bytes]) -> None:
        """An answer, but for the signatures that its request had: a client may be told those (SignatureProvided)."""
        self.signatures |= own
        text = repr(answer).encode()
        for signature in own:
            text = text.replace(signature, b"-")
        self.answers.append(text)

    def boto(self) -> None:
        client = self.server.boto()

        def sent(request: Any, **_: Any) -> None:
            self.signatures.update(_SIGNATURES.findall(str(request.headers.get("Authorization", "")).encode()))

        client.meta.events.register("before-send.s3", sent)
        client.create_bucket(Bucket="bucket")
        client.put_object(Bucket="bucket", Key="key", Body=b"x" * 1000)
        client.put_object(Bucket="bucket", Key="large", Body=os.urandom(300_000))
        client.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/key")
        upload = client.create_multipart_upload(Bucket="bucket", Key="parts")["UploadId"]
        client.upload_part(Bucket="bucket", Key="parts", UploadId=upload, PartNumber=1, Body=b"x")
        client.abort_multipart_upload(Bucket="bucket", Key="parts", UploadId=upload)
        client.list_objects_v2(Bucket="bucket")
        client.delete_objects(Bucket="bucket", Delete={"Objects": [{"Key": "copy"}]})
        with contextlib.suppress(ClientError):
            client.get_object(Bucket="bucket", Key="none")

    def presigned(self) -> None:
        for version, expires in (("s3v4", 600), ("s3", 600), ("s3v4", 1)):
            client = self.server.boto(config={"signature_version": version})
            for method, operation in ((b"GET", "get_object"), (b"DELETE", "delete_object"), (b"GET", "put_object")):
                url = client.generate_presigned_url(operation, {"Bucket": "bucket", "Key": "key"}, expires)
                target = f"{urlsplit(url).path}?{urlsplit(url).query}".encode()
                host = urlsplit(url).netloc.encode()
                query = urlsplit(url).query.encode()
                once = quote(url, safe="").encode()
                for asked in (
                    target,
                    target[:-1] + b"x",
                    target.replace(b"Signature", b"%53ignature"),
                    target + b"%zz",
                    target.replace(b"&", b";"),
                    target.replace(b"&", b"&+"),
                    target.replace(b"&", b"&a=b?"),
                    b"/s3/bucket/key?next=" + once,
                    b"/s3/bucket/key?next=" + quote(once).encode() + b"&page=2",
                    b"/s3/bucket/key%3F" + query,
                    b"/s3/bucket/" + once,
                    b"/s3/bucket/" + quote(once).encode(),
                    b"/s3/" + once,
                    b"/v1/objects/bucket/" + once,
                ):
                    for sent_by in (b"http://elsewhere/?" + query, b"http://elsewhere/#" + query, b"http://x/" + once):
                        self.raw(
                            method + b" " + asked + b" HTTP/1.1\r\nHost: " + host + b"\r\nReferer: " + sent_by + b"\r\n"
                            b"User-Agent: agent ?" + query + b"\r\n\r\n"
                        )
                for source in (target, once, url.encode()):
                    self.raw(
                        b"PUT /s3/bucket/copy HTTP/1.1\r\nHost: " + host + b"\r\nx-amz-copy-source: " + source + b"\r\n"
                        b"Content-Length: 0\r\n\r\n"
                    )
                denied = Sender(self.server.endpoint, User("AKIANOBODY", STRANGERS_SECRET))
                self.raw(denied.request("POST", f"/s3/bucket/{once.decode()}?uploads"))

    def by_hand(self) -> None:
        alice = Sender(self.server.endpoint, User(*USERS["alice"]))
        stranger = Sender(self.server.endpoint, User("AKIANOBODY", STRANGERS_SECRET))
        wrong = Sender(self.server.endpoint, User("AKIAALICE", STRANGERS_SECRET))
        for sender in (alice, stranger, wrong):
            for method, target, body in (
                ("GET", "/s3", b""),
                ("GET", "/s3/bucket/key?acl", b""),
                ("PUT", "/s3/bucket/new", b"body"),
                ("PUT", "/s3/Bad_Bucket!/key", b"body"),
                ("POST", "/s3/bucket?delete", b"<not xml"),
                ("GET", "/v1/buckets", b""),
                ("PUT", "/v1/objects/bucket/native", b"body"),
                ("GET", "/v1/cluster?what=" + "x" * 100, b""),
                ("GET", "/metrics", b""),
                ("GET", "/-/ready", b""),
            ):
                request = sender.request(method, target, body=body)
                self.raw(request)
                # Nearly right: the answer must not say what would have been
                self.raw(re.sub(rb"(Signature=[0-9a-f]{63})[0-9a-f]", rb"\1Z", request))
            for mode in (STREAMING, STREAMING_TRAILER):
                answer = sender.put_chunked("/s3/bucket/chunked", [b"x" * 9000], mode=mode)
                self.remember(answer, {sender.signature.seed})
        secret = USERS["alice"][1].encode()
        # Somebody's mistakes: what is not a signature is no reason to repeat it either
        self.raw(b"GET /s3 HTTP/1.1\r\nHost: x\r\nAuthorization: Basic " + secret + b"\r\n\r\n")
        self.raw(b"GET /s3 HTTP/1.1\r\nHost: x\r\nAuthorization: AWS4-HMAC-SHA256 " + secret + b"\r\n\r\n")
        self.raw(b"GET /v1/buckets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + b"\r\n\r\n")

    def after_a_fault(self) -> None:
        """What makes the server write to its log: a corrupt blob, a worker that dies."""
        for blob in self.server.data.glob("blobs/?????/??/*"):
            with blob.open("r+b") as file:
                file.write(b"corrupt")
        self.raw(Sender(self.server.endpoint, User(*USERS["alice"])).request("GET", "/s3/bucket/large"))
        until(lambda: "CorruptData" in self.server.log(), "the fault is not logged")
        workers = self.server.pids_of("aisobj.worker")
        os.kill(workers[0], signal.SIGABRT)
        until(lambda: workers[0] not in self.server.pids_of("aisobj.worker"), "it lives")
        one_to_each(self.server)


def ais(server: ServerProcess, *arguments: str, secret: str = USERS["alice"][1]) -> bytes:
    """What the command prints."""
    env = environment(AIS_ENDPOINT=server.endpoint, AWS_ACCESS_KEY_ID="AKIAALICE", AWS_SECRET_ACCESS_KEY=secret)
    command = [sys.executable, "-m", "aisobj.cli", *arguments]
    done = subprocess.run(command, env=env, capture_output=True, timeout=120, check=False, input=b"")
    return done.stdout + done.stderr


def of_processes(server: ServerProcess) -> Iterator[tuple[str, bytes]]:
    """What other users of the machine, and whoever looks at /proc, see of them."""
    for pid in server.pids():
        for name in ("cmdline", "environ", "comm"):
            yield f"/proc/{pid}/{name}", Path(f"/proc/{pid}/{name}").read_bytes()
    yield "ps", subprocess.run(["ps", "axeww"], capture_output=True, check=False).stdout


def secrets() -> Iterator[bytes]:
    for secret in (*(secret for _, secret in USERS.values()), STRANGERS_SECRET):
        for form in (secret, quote(secret, safe=""), quote(secret), secret.replace("/", "\\/")):
            yield form.encode()


def test_no_secret_and_no_signature_is_in_anything_that_is_left(make_server: MakeServer, tmp_path: Path) -> None:
    audit = tmp_path / "audit.log"
    server = make_server("--audit-log", str(audit), credentials=USERS, workers=2, expect_errors=True)
    seen = dict(of_processes(server))
    assert len(seen) == 4 * 3 + 1  # master, writer, two workers; ps
    requests = Requests(server)
    requests.boto()
    requests.presigned()
    requests.by_hand()
    seen["ais"] = ais(server, "ls") + ais(server, "get", "ais://bucket/key", "-")
    seen["ais, denied"] = ais(server, "ls", "ais://bucket", secret=STRANGERS_SECRET)
    assert b"bucket" in seen["ais"] and seen["ais, denied"]
    requests.after_a_fault()
    seen |= {f"{name} later": data for name, data in of_processes(server)}
    seen["metrics"] = repr(Sender(server.endpoint, User(*USERS["bob"])).ask("GET", "/metrics")).encode()
    time.sleep(1.1)  # the access log is written each second
    server.stop()
    for name in ("fsck", "scrub", "backup"):
        seen[f"ais-s3 {name}"] = tool(server.data, name)[1].encode()
    seen["answers"] = b"\n".join(requests.answers)
    for path in [*sorted(server.home.rglob("*")), audit]:
        if path.is_file() and path.name != "credentials":
            seen[str(path)] = path.read_bytes()

    for name in ("server.log", "access.log", "audit.log", "data.mdb"):
        assert any(where.endswith(name) and len(data) > 300 for where, data in seen.items()), name
    assert b"CorruptData" in seen[str(server.home / "server.log")]
    assert b"X-Amz-Signature=-" in seen[str(server.home / "access.log")]
    assert len(requests.signatures) > 30 and len(requests.answers) > 80
    for where, data in seen.items():
        for secret in secrets():
            assert secret not in data, f"a secret is in {where}"
        for signature in requests.signatures:
            assert signature not in data, f"a signature is in {where}"
