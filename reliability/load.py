"""A mixed load that knows what it was promised, for a server that is killed under it.

Every key has one client, which works on it one operation after the other. So each key has one version known to be
stored, or, after an operation without an answer, one of two. Contents describe themselves: which write made them, how
long they are, and a digest at the end.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import threading
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

import xxhash

HANG_SECONDS = 30.0
KEYS = 8  #: of each client
PART = 5 << 20  #: the least that a part but the last may have

#: Operations -> how often, in relation. Without reads, what was written is read by :meth:`Client.verify` only.
BLIND = {"put_small": 30, "put_large": 20, "delete": 20}
LARGE = {"put_large": 1}
MIXED = BLIND | {"look": 10, "copy": 15, "multipart": 14, "multipart_of_two": 1}

_POOL = random.Random(0).randbytes(1 << 20)
NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"

#: What a write stored, as the contents say; None: no object.
Version = str | None


class Torn(Exception):
    """Contents that are not what one write stored."""


class Unanswered(Exception):
    """Nobody knows what became of the operation: a 5xx, or the connection was cut."""


class Cut(Unanswered):
    """The connection was cut. Where only one worker of several was killed, what it had sent to the index writer may
    still be on its way."""


class Unexpected(Exception):
    """An answer that cannot be right."""


class Answer(NamedTuple):
    status: int
    etag: str
    body: bytes

    @property
    def code(self) -> str:
        return ElementTree.fromstring(self.body).findtext("Code") or "" if self.status >= 300 and self.body else ""


def exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """One request and its whole answer. Raises OSError, HTTPException."""
    connection.request(method, path, body, headers or {})
    response = connection.getresponse()
    return Answer(response.status, response.headers.get("ETag", ""), response.read())


class Trouble:
    """What is done to the server; said before it is done.

    :ivar writer: its index writer is killed: from now on a 5xx is no fault.
    :ivar worker: one of its workers is killed: from now on connections may be cut.
    :ivar all: it is killed.
    """

    def __init__(self) -> None:
        self.worker = threading.Event()
        self.writer = threading.Event()
        self.all = threading.Event()


def make_content(version: str, size: int) -> bytes:
    """``size`` bytes that may be anything, and what tells of them."""
    head = f"{version} {size}\n".encode()
    offset = xxhash.xxh32_intdigest(head) % len(_POOL)
    body = head + (_POOL[offset:] + _POOL * (size // len(_POOL) + 1))[:size]
    return body + xxhash.xxh128_digest(body)


def version_of(content: bytes) -> str:
    """:raises Torn:"""
    body, digest = content[:-16], content[-16:]
    if xxhash.xxh128_digest(body) != digest:
        raise Torn(f"{len(content)} bytes do not match their digest; they begin with {content[:40]!r}")
    head, _, rest = body.partition(b"\n")
    version, _, size = head.decode().partition(" ")
    if len(rest) != int(size):
        raise Torn(f"{version} has {len(rest)} bytes, not {size}")
    return version


class Client:
    """One of several. Its keys begin with its name.

    :param operations: as in ``MIXED``.
    :ivar faults: what the server did that it must not do, a line each.
    :ivar acknowledged: operations that were answered.
    """

    def __init__(self, name: str, bucket: str, seed: int, operations: Mapping[str, int] = MIXED) -> None:
        self.faults: list[str] = []
        self.acknowledged = 0
        self._name = name
        self._bucket = bucket
        self._random = random.Random(seed)
        self._writes = 0
        self._may: dict[str, set[Version]] = {f"{name}/{number}": {None} for number in range(KEYS)}
        self._keys = list(self._may)
        self._cut: set[str] = set()  # how these will be no look tells, but a write that is answered, or a start
        self._operations = [getattr(self, f"_{operation}") for operation in operations]
        self._weights = list(operations.values())
        self._connection = http.client.HTTPConnection("localhost")

    def verify(self, port: int) -> None:
        """Compare every key, and the listing, with what was promised. The server has just begun."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
        self._cut.clear()
        try:
            for key in self._keys:
                self._look(key)
            listed = self._list()
        except (Unanswered, Unexpected) as error:
            self.faults.append(f"{self._name}: {error}")
            return
        stored = {key for key in self._keys if self._may[key] != {None}}
        if listed != stored:
            self.faults.append(f"{self._name}: listed are {sorted(listed)}, stored are {sorted(stored)}")

    def work(self, trouble: Trouble) -> None:
        """Change things until the server is gone."""
        while not trouble.all.is_set():
            key = self._random.choice(self._keys)
            try:
                if len(self._may[key]) > 1 and key not in self._cut:
                    self._look(key)
                self._random.choices(self._operations, self._weights)[0](key)
                self.acknowledged += 1
            except Unanswered as error:
                if trouble.all.is_set():
                    return
                if isinstance(error, Cut) and trouble.worker.is_set():
                    self._cut.add(key)
                elif not trouble.writer.is_set():
                    self.faults.append(f"{key}: {error}, of a server that was left alone")
                    return
                time.sleep(0.005)
            except Unexpected as error:
                self.faults.append(f"{key}: {error}")
        self._connection.close()

    # Operations on one key

    def _put_small(self, key: str) -> None:
        self._put(key, self._random.randrange(4096))

    def _put_large(self, key: str) -> None:
        self._put(key, self._random.randrange(64 << 10, 1 << 20))

    def _put(self, key: str, size: int) -> None:
        version = self._new_version()
        with self._becomes(key, version):
            self._ask("PUT", key, body=make_content(version, size))

    def _delete(self, key: str) -> None:
        with self._becomes(key, None):
            self._ask("DELETE", key)

    def _copy(self, key: str) -> None:
        """Of another key that certainly has something."""
        for source in self._random.sample(self._keys, len(self._keys)):
            (version, *others) = self._may[source]
            if source != key and version is not None and not others:
                break
        else:
            return self._put_small(key)
        with self._becomes(key, version):
            answer = self._ask("PUT", key, {"x-amz-copy-source": f"/{self._bucket}/{source}"})
            if b"<CopyObjectResult" not in answer.body:
                raise Unexpected(f"copy: {answer}")

    def _multipart(self, key: str) -> None:
        self._put_in_parts(key, self._random.randrange(1 << 18))

    def _multipart_of_two(self, key: str) -> None:
        self._put_in_parts(key, PART + self._random.randrange(1 << 18))

    def _put_in_parts(self, key: str, size: int) -> None:
        version = self._new_version()
        content = make_content(version, size)
        created = ElementTree.fromstring(self._ask("POST", f"{key}?uploads").body)
        upload = quote(created.findtext(f"{NAMESPACE}UploadId") or "")
        document = "<CompleteMultipartUpload>"
        for number, start in enumerate(range(0, len(content), PART), 1):
            part = self._ask("PUT", f"{key}?partNumber={number}&uploadId={upload}", body=content[start : start + PART])
            document += f"<Part><PartNumber>{number}</PartNumber><ETag>{part.etag}</ETag></Part>"
        document += "</CompleteMultipartUpload>"
        with self._becomes(key, version):
            answer = self._ask("POST", f"{key}?uploadId={upload}", body=document.encode())
            if b"<CompleteMultipartUploadResult" not in answer.body:
                raise Unexpected(f"complete: {answer}")

    def _look(self, key: str) -> None:
        """What is there now is what may be there, and is there from now on."""
        may = self._may[key]
        answer = self._ask("GET", key, good=(200, 404))
        try:
            found = version_of(answer.body) if answer.status == 200 else None
        except Torn as error:
            self.faults.append(f"{key}: torn: {error}")
            return
        if found not in may:
            what = "lost" if found is None else "resurrected" if may == {None} else "another"
            self.faults.append(f"{key}: {what}: promised was {' or '.join(map(str, may))}, found is {found}")
        if key not in self._cut:
            self._may[key] = {found}

    def _list(self) -> set[str]:
        document = ElementTree.fromstring(self._ask("GET", f"?list-type=2&prefix={self._name}/").body)
        return {element.text or "" for element in document.iter(f"{NAMESPACE}Key")}

    @contextlib.contextmanager
    def _becomes(self, key: str, version: Version) -> Iterator[None]:
        """Until the answer has come the key may be as it was, or as it shall be."""
        self._may[key] = {*self._may[key], version}
        yield
        self._may[key] = {version}
        self._cut.discard(key)

    def _new_version(self) -> str:
        self._writes += 1
        return f"{self._name}-{self._writes}"

    def _ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        *,
        body: bytes | None = None,
        good: tuple[int, ...] = (200, 204),
    ) -> Answer:
        """:raises Unanswered, Unexpected:"""
        connection = self._connection
        try:
            answer = exchange(connection, method, f"/s3/{self._bucket}/{target}", body, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Cut(f"{method} {target}: {type(error).__name__}: {error}") from None
        if answer.status >= 500:
            raise Unanswered(f"{method} {target}: {answer}")
        if b"<Code>NoSuchBucket</Code>" in answer.body:
            raise Unexpected(f"{method} {target}: lost: the bucket, whose creation was promised")
        if answer.status not in good:
            raise Unexpected(f"{method} {target}: {answer}")
        return answer
