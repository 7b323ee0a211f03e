"""The core operations, each with what comes before it and what shows whether it has happened."""

from __future__ import annotations

import base64
import hashlib
import http.client
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from reliability.server import BUCKET, Server

_RANDOM = random.Random(1)
SMALL, OTHER_SMALL = _RANDOM.randbytes(700), _RANDOM.randbytes(900)
LARGE, OTHER_LARGE = _RANDOM.randbytes(1_300_000), _RANDOM.randbytes(300_000)
KEY, OTHER = f"/s3/{BUCKET}/key", f"/s3/{BUCKET}/other"
SECOND = "/s3/second-bucket"

_SHOWN = re.compile(r"<(Key|ETag|PartNumber|Size)>([^<]*)<")
_ETAG = re.compile(r"<ETag>([^<]*)<")
_UPLOAD = re.compile(r"<UploadId>([^<]*)<")

#: target -> what a GET of it shows: status, and a digest of the body or, of a list, what is in it
State = dict[str, tuple[int, object]]


class Session:
    """One server, and what is known of the multipart upload that is under way."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._upload = ""
        self._etag = ""

    @property
    def uploading(self) -> str:
        """The target of the upload."""
        return f"{KEY}?uploadId={self._upload}"

    def do(self, method: str, target: str, body: bytes | None = None, **headers: str) -> bytes:
        status, answer = self.server.ask(method, target, body, **headers)
        assert status < 300, (method, target, status, answer)
        return answer

    def dare(self, method: str, target: str, body: bytes | None = None, **headers: str) -> int:
        """The status of what may fail; 0: the connection was cut."""
        try:
            return self.server.ask(method, target, body, **headers)[0]
        except (OSError, http.client.HTTPException):
            return 0

    def begin_upload(self) -> None:
        self._upload = _UPLOAD.findall(self.do("POST", f"{KEY}?uploads").decode())[0]

    def put_part(self) -> None:
        self.do("PUT", f"{self.uploading}&partNumber=1", LARGE)
        self._etag = _ETAG.findall(self.do("GET", self.uploading).decode())[0]

    def complete(self) -> int:
        part = f"<Part><PartNumber>1</PartNumber><ETag>{self._etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{part}</CompleteMultipartUpload>"
        return self.dare("POST", self.uploading, document.encode())

    def delete_both(self) -> int:
        document = b"<Delete><Object><Key>key</Key></Object><Object><Key>other</Key></Object></Delete>"
        checksum = hashlib.md5(document, usedforsecurity=False).digest()
        sum_of_it = base64.b64encode(checksum).decode()
        try:
            status, answer = self.server.ask("POST", f"/s3/{BUCKET}?delete", document, **{"Content-MD5": sum_of_it})
        except (OSError, http.client.HTTPException):
            return 0
        if b"<Error>" in answer:  # each key has an answer of its own
            return 500 if b"<Code>InternalError<" in answer else 503
        return status

    def look(self, targets: list[str]) -> State:
        """What is there now. Raises OSError, http.client.HTTPException."""
        found: State = {}
        for target in targets:
            status, body = self.server.ask("GET", target)
            name = target.partition("uploadId=")[0]
            if status != 200:
                found[name] = (status, None)
            elif body.startswith(b"<?xml"):
                found[name] = (status, tuple(_SHOWN.findall(body.decode())))
            else:
                found[name] = (status, hashlib.sha256(body).hexdigest())
        return found


@dataclass(frozen=True, slots=True)
class Operation:
    """``prepare`` brings about the state before it; ``act`` does it, and returns the status."""

    prepare: Callable[[Session], object]
    act: Callable[[Session], int]
    #: which targets show it
    watch: Callable[[Session], list[str]] = lambda session: [KEY, f"/s3/{BUCKET}?list-type=2&prefix=key"]


def _both(session: Session) -> None:
    session.do("PUT", KEY, SMALL)
    session.do("PUT", OTHER, LARGE)


def _copyable(session: Session) -> None:
    session.do("PUT", OTHER, LARGE)
    session.do("DELETE", KEY)


def _with_upload(session: Session) -> None:
    session.do("PUT", KEY, SMALL)
    session.begin_upload()


def _with_part(session: Session) -> None:
    _with_upload(session)
    session.put_part()


def _upload_and_key(session: Session) -> list[str]:
    return [session.uploading, KEY]


OPERATIONS: Mapping[str, Operation] = {
    "put small": Operation(lambda s: s.do("DELETE", KEY), lambda s: s.dare("PUT", KEY, SMALL)),
    "put large": Operation(lambda s: s.do("DELETE", KEY), lambda s: s.dare("PUT", KEY, LARGE)),
    "overwrite large": Operation(lambda s: s.do("PUT", KEY, LARGE), lambda s: s.dare("PUT", KEY, OTHER_LARGE)),
    "overwrite by small": Operation(lambda s: s.do("PUT", KEY, LARGE), lambda s: s.dare("PUT", KEY, OTHER_SMALL)),
    "delete": Operation(lambda s: s.do("PUT", KEY, LARGE), lambda s: s.dare("DELETE", KEY)),
    "delete several": Operation(_both, lambda s: s.delete_both(), lambda s: [KEY, OTHER]),  # each for itself
    "copy": Operation(_copyable, lambda s: s.dare("PUT", KEY, None, **{"x-amz-copy-source": f"/{BUCKET}/other"})),
    "upload part": Operation(
        _with_upload, lambda s: s.dare("PUT", f"{s.uploading}&partNumber=1", LARGE), _upload_and_key
    ),
    "complete upload": Operation(_with_part, lambda s: s.complete(), _upload_and_key),
    "abort upload": Operation(_with_part, lambda s: s.dare("DELETE", s.uploading), _upload_and_key),
    "create bucket": Operation(
        lambda s: s.dare("DELETE", SECOND), lambda s: s.dare("PUT", SECOND), lambda s: [f"{SECOND}?list-type=2"]
    ),
    "delete bucket": Operation(
        lambda s: s.dare("PUT", SECOND), lambda s: s.dare("DELETE", SECOND), lambda s: [f"{SECOND}?list-type=2"]
    ),
}
