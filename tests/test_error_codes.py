"""Every code of the error table, provoked over the network."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from badinputs import BODY, World
from s3raw import STREAMING, Answer, Sender
from server import CREDENTIALS
from test_bad_inputs import CRC32, presign
from test_s3_conditions import slow_put
from tools import quarantined

from aisobj.errors import ERRORS

#: How long a slow client is borne with (``web.limits``), and the 5 seconds in which its answer must come.
PATIENCE = 20.0 + 5.0


class Provoked(World):
    """The world, what else the functions below need, and what they made."""

    make_server: Callable[..., Any]
    slow: Any

    def ask(self, method: str, target: str = "", *fields: tuple[str, str], body: bytes = b"") -> Answer:
        """At the open server, below the bucket."""
        return self.open.ask(method, self.path + target, fields, body)


@pytest.fixture(scope="module")
def shared(server: Any, signed_server: Any) -> Provoked:
    return Provoked(server, signed_server)


@pytest.fixture
def world(shared: Provoked, make_server: Any, slow_connections: Any) -> Provoked:
    shared.make_server = make_server
    shared.slow = slow_connections
    return shared


def upload(w: Provoked, *bodies: bytes) -> tuple[str, list[str]]:
    """A multipart upload's target, and the ETags of its parts."""
    answer = w.ask("POST", "/k?uploads")
    target = f"/k?uploadId={answer.element('UploadId')}"
    return target, [
        w.ask("PUT", f"{target}&partNumber={n}", body=body).headers["etag"] for n, body in enumerate(bodies, 1)
    ]


def complete(w: Provoked, target: str, *parts: tuple[int, str]) -> Answer:
    inner = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
    document = f"<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>".encode()
    answer = w.ask("POST", target, body=document)
    assert w.ask("DELETE", target).status == 204
    return answer


def entity_too_small(w: Provoked) -> Answer:
    target, etags = upload(w, b"1", b"2")
    return complete(w, target, (1, etags[0]), (2, etags[1]))


def invalid_part(w: Provoked) -> Answer:
    target, etags = upload(w, b"1")
    return complete(w, target, (2, etags[0]))


def invalid_part_order(w: Provoked) -> Answer:
    target, etags = upload(w, b"1", b"2")
    return complete(w, target, (2, etags[1]), (1, etags[0]))


def conflict(w: Provoked) -> Answer:
    kept = f"{w.path}/kept"
    etag = w.open.ask("HEAD", kept).headers["etag"]
    answer: Answer = slow_put(w.open, kept, [("If-Match", etag)], b"x", lambda: w.open.ask("PUT", kept, body=BODY))
    return answer


def versioning(w: Provoked) -> Answer:
    return w.ask("PUT", "?versioning", body=b"<VersioningConfiguration/>")


def location(w: Provoked) -> Answer:
    server = w.make_server("--region", "eu-1")
    document = b"<CreateBucketConfiguration><LocationConstraint>eu-2</LocationConstraint></CreateBucketConfiguration>"
    return Sender(server.endpoint).ask("PUT", "/s3/bucket", body=document)


def timeout(w: Provoked) -> Answer:
    """The client stopped within a head, and another one within a body."""
    answers = [w.slow.head.answer(), w.slow.body.answer()]
    assert time.monotonic() - w.slow.since > PATIENCE - 6
    assert w.slow.head.closed()
    assert w.slow.body.closed()
    assert [answer.headers["connection"] for answer in answers] == ["close", "close"]
    assert answers[1].code == "RequestTimeout"
    return answers[0]


def blob_of(data: Path, size: int) -> Path:
    """The one file that holds an object of this size (with its footer, so it is a bit larger)."""
    (found,) = [path for path in (data / "blobs").rglob("*") if path.is_file() and size <= path.stat().st_size]
    return found


def internal_error(w: Provoked) -> Answer:
    """Bytes of a blob changed on the disk: in the data, and in the footer. Nothing wrong is ever sent."""
    server = w.make_server()
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    sender.ask("PUT", "/s3/bucket/k", body=b"x" * 100_000)
    path = blob_of(server.data, 100_000)
    for position in (0, 99_999, 100_001):
        with path.open("r+b") as file:
            file.seek(position)
            old = file.read(1)
            file.seek(position)
            file.write(bytes([old[0] ^ 1]))
        answer = sender.ask("GET", "/s3/bucket/k")
        assert (answer.status, answer.code) == (500, "InternalError")
        assert "CorruptData" in server.log()
        assert str(path) not in answer.body.decode()  # the details are for the log
        quarantined(server.data, path, lambda: sender.ask("GET", "/s3/bucket/k")).rename(path)
        with path.open("r+b") as file:
            file.seek(position)
            file.write(old)
        assert sender.ask("GET", "/s3/bucket/k").body == b"x" * 100_000
    return answer


def slow_down(w: Provoked) -> Answer:
    """No file may grow any more: what stands for a full disk here. What is there stays, and can be deleted."""
    server = w.make_server()
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    for key in ("old", "gone"):
        sender.ask("PUT", f"/s3/bucket/{key}", body=b"x" * 100_000)
    for pid in server.pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    answer = sender.ask("PUT", "/s3/bucket/old", body=b"y" * 100_000)
    assert answer.headers["retry-after"]
    assert sender.ask("GET", "/s3/bucket/old").body == b"x" * 100_000
    assert not list((server.data / "blobs" / "tmp").iterdir())
    for pid in server.pids():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert sender.ask("PUT", "/s3/bucket/old", body=b"z" * 100_000).status == 200
    return answer


@contextlib.contextmanager
def failing(pids: list[int], calls: str) -> Iterator[None]:
    """While it lasts these system calls of these processes fail with EIO."""
    strace = shutil.which("strace")
    if strace is None:
        pytest.skip("strace is not installed")
    targets = [argument for pid in pids for argument in ("-p", str(pid))]
    command = [
        strace,
        "-f",
        "-qq",
        "-o",
        os.devnull,
        "-e",
        f"trace={calls}",
        "-e",
        f"inject={calls}:error=EIO",
        *targets,
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 10
        while not all(_traced(pid) for pid in pids):
            if process.poll() is not None or time.monotonic() > deadline:
                assert process.stderr is not None
                pytest.skip(f"strace may not attach here: {process.stderr.read().decode()}")
            time.sleep(0.02)
        yield
    finally:
        process.terminate()
        process.wait()


def _traced(pid: int) -> bool:
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    return all("TracerPid:\t0\n" not in (task / "status").read_text() for task in tasks)


def service_unavailable(w: Provoked) -> Answer:
    """A sync that failed is never tried again: reads go on, writes end, for good."""
    server = w.make_server(sync=True, expect_errors=True)
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    sender.ask("PUT", "/s3/bucket/old", body=b"x" * 100_000)
    with failing(server.pids(), "fdatasync,fsync"):
        first = sender.ask("PUT", "/s3/bucket/k", body=b"y" * 100_000)
        assert (first.status, first.code) == (503, "ServiceUnavailable")
    for method, key in (("PUT", "k"), ("PUT", "old"), ("DELETE", "old"), ("POST", "k?uploads")):
        answer = sender.ask(method, f"/s3/bucket/{key}", body=b"small" if method == "PUT" else b"")
        assert (answer.status, answer.code) == (503, "ServiceUnavailable")
    assert sender.ask("GET", "/s3/bucket/old").body == b"x" * 100_000
    assert sender.ask("GET", "/s3/bucket/k").code == "NoSuchKey"
    return answer


CODES: dict[str, Callable[[Provoked], Answer]] = {
    "AccessDenied": lambda w: w.unsigned.ask("GET", f"{w.path}/kept"),
    "AccessForbidden": lambda w: w.ask("OPTIONS", "/kept", ("origin", "https://evil")),
    "AuthorizationHeaderMalformed": lambda w: w.unsigned.ask("GET", "/s3", [("authorization", "AWS4-HMAC-SHA256")]),
    "AuthorizationQueryParametersError": lambda w: w.unsigned.ask("GET", f"/s3?{presign(w, expires='0')}"),
    "BadDigest": lambda w: w.ask("PUT", "/k", ("content-md5", "AAAAAAAAAAAAAAAAAAAAAA=="), body=b"x"),
    "BadRequest": lambda w: w.open.send(b"GET / HTTP/1.1\r\n\r\n"),
    "BucketAlreadyExists": lambda w: w.by(*CREDENTIALS["bob"]).ask("PUT", w.path),
    "BucketAlreadyOwnedByYou": lambda w: w.ask("PUT"),
    "BucketNotEmpty": lambda w: w.ask("DELETE"),
    "ConditionalRequestConflict": conflict,
    "EntityTooLarge": lambda w: w.open.send(w.open.head("PUT", w.target, length=6 << 30)),
    "EntityTooSmall": entity_too_small,
    "IllegalVersioningConfigurationException": versioning,
    "IncompleteBody": lambda w: w.open.send(w.open.head("PUT", w.target, length=2) + b"x", end=True),
    "InternalError": internal_error,
    "InvalidAccessKeyId": lambda w: w.by("AKIAUNKNOWN").ask("GET", "/s3"),
    "InvalidArgument": lambda w: w.ask("GET", "?max-keys=x"),
    "InvalidBucketName": lambda w: w.open.ask("PUT", "/s3/x"),
    "InvalidChunkSizeError": lambda w: w.signed.put_chunked(w.target, [b"x", b"y"], mode=STREAMING),
    "InvalidDigest": lambda w: w.ask("PUT", "/k", ("content-md5", "x"), body=b"x"),
    "InvalidLocationConstraint": location,
    "InvalidPart": invalid_part,
    "InvalidPartNumber": lambda w: w.ask("GET", "/kept?partNumber=2"),
    "InvalidPartOrder": invalid_part_order,
    "InvalidRange": lambda w: w.ask("GET", "/kept", ("range", "bytes=99-")),
    "InvalidRequest": lambda w: w.ask("PUT", "/kept", ("x-amz-copy-source", f"{w.bucket}/kept")),
    "InvalidStorageClass": lambda w: w.ask("PUT", "/k", ("x-amz-storage-class", "PLATINUM"), body=b"x"),
    "InvalidToken": lambda w: w.signed.ask("GET", "/s3", [("x-amz-security-token", "x")]),
    "InvalidURI": lambda w: w.ask("GET", "/%FF"),
    "KeyTooLongError": lambda w: w.ask("PUT", "/" + "k" * 1025, body=b"x"),
    "MalformedTrailerError": lambda w: w.open.put_chunked(w.target, [b"x"], headers=[("x-amz-trailer", CRC32)]),
    "MalformedXML": lambda w: w.ask("PUT", "?versioning", body=b"<"),
    "MetadataTooLarge": lambda w: w.ask("PUT", "/k", ("x-amz-meta-a", "x" * 2048), body=b"x"),
    "MethodNotAllowed": lambda w: w.ask("POST", "/k"),
    "MissingContentLength": lambda w: w.open.send(w.open.head("PUT", w.target)),
    "NoSuchBucket": lambda w: w.open.ask("GET", "/s3/never-was"),
    "NoSuchCORSConfiguration": lambda w: w.ask("GET", "?cors"),
    "NoSuchKey": lambda w: w.ask("GET", "/missing"),
    "NoSuchUpload": lambda w: w.ask("GET", "/k?uploadId=x"),
    "NoSuchVersion": lambda w: w.ask("GET", f"/kept?versionId={'0' * 32}"),
    "NotImplemented": lambda w: w.ask("PUT", "/kept?tagging", body=b"<Tagging/>"),
    "PreconditionFailed": lambda w: w.ask("GET", "/kept", ("if-match", '"x"')),
    "RequestHeaderSectionTooLarge": lambda w: w.ask("GET", "/kept", ("a", "x" * 20_000)),
    "RequestTimeTooSkewed": lambda w: w.signed.ask("GET", "/s3", now=time.time() - 3600),
    "RequestTimeout": timeout,
    "ServiceUnavailable": service_unavailable,
    "SignatureDoesNotMatch": lambda w: w.by().ask("GET", "/s3"),
    "SlowDown": slow_down,
    "XAmzContentSHA256Mismatch": lambda w: w.signed.ask("PUT", w.target, body=b"x", payload="0" * 64),
}


def test_every_code_is_provoked_here() -> None:
    assert CODES.keys() == ERRORS.keys()


@pytest.mark.parametrize("code", sorted(CODES, key="RequestTimeout".__eq__))  # which has to wait, so it comes last
def test_error_code(code: str, world: Provoked) -> None:
    """Its status, and a document that says what AWS's says."""
    answer = CODES[code](world)
    assert answer.status == ERRORS[code][0]
    assert answer.headers["content-type"] == "application/xml"
    assert answer.body.startswith(b'<?xml version="1.0" encoding="UTF-8"?>\n<Error>')
    assert b"<html" not in answer.body.lower()
    document = answer.xml
    texts = {element.tag: element.text for element in document}
    assert document.tag == "Error"
    assert len(texts) == len(document)  # none twice
    assert texts["Code"] == code
    assert texts["Message"]
    assert texts["RequestId"] == answer.headers["x-amz-request-id"]
    world.check()
