"""Clients that work on the same few keys of one bucket, and say what they did and what they were answered."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from urllib.parse import quote
from xml.etree import ElementTree

from reliability import registers
from reliability.linearizability import NEVER
from reliability.load import HANG_SECONDS, NAMESPACE, Answer, Torn, exchange, make_content, version_of
from reliability.registers import UNCHANGED, UNKNOWN, History, Page, Record, State, Steps
from reliability.server import Hang

KEYS = [f"key-{number}" for number in range(5)]
#: How often each is done, in relation.
WEIGHTS = {"get": 20, "put": 18, "create": 12, "replace": 16, "delete": 10, "copy": 10, "complete": 8, "list": 10}
LARGE = 0.1  #: of contents: more than the index takes


class Unanswered(Exception):
    """:ivar returned: when, if not ``NEVER``, what was asked for has happened if it ever does."""

    def __init__(self, text: str, returned: float) -> None:
        super().__init__(text)
        self.returned = returned


class Down(Exception):
    """No request was sent."""


class Stage:
    """What the clients of one history share.

    :ivar address: number and port of the server that runs. :ivar contents: ETag -> version and size of all that may
        have been stored. :ivar latest: key -> the ETag that somebody saw there last.
    :ivar cuts: connections may be cut. :ivar errors: answers may be a 5xx. :ivar acknowledged: about how many were not.
    """

    def __init__(self, bucket: str, address: tuple[int, int]) -> None:
        self.bucket = bucket
        self.address = address
        self.history = History()
        self.contents: dict[str, tuple[str, int]] = {}
        self.latest: dict[str, str] = {}
        self.faults: list[str] = []
        self.cuts = threading.Event()
        self.errors = threading.Event()
        self.acknowledged = 0


class Client:
    """One of several, in a thread of its own."""

    def __init__(self, number: int, stage: Stage, seed: int) -> None:
        self.done: Counter[str] = Counter()
        self._name = f"client{number}"
        self._stage = stage
        self._random = random.Random(seed)
        self._writes = 0
        self._server = -1
        self._connection = http.client.HTTPConnection("localhost")

    def work(self, operations: int) -> None:
        """So many operations that were answered."""
        for name in self._random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=operations):
            self._insist(getattr(self, f"_{name}"))
            self.done[name] += 1
        self._connection.close()

    def look(self) -> None:
        """See how each key ended."""
        for key in self._random.sample(KEYS, len(KEYS)):
            self._insist(partial(self._get, key))
        self._insist(self._list)
        self._connection.close()

    def _insist(self, operation: Callable[[], None]) -> None:
        """Until it is answered. :raises Hang:"""
        deadline = time.monotonic() + HANG_SECONDS
        while not self._do(operation):
            if time.monotonic() > deadline:
                raise Hang("the server does not come back")

    def _do(self, operation: Callable[[], None]) -> bool:
        """Whether there was an answer."""
        stage = self._stage
        if self._random.random() < 0.05:
            self._connection.close()  # the next one may lead to another worker
        try:
            operation()
        except Down:
            time.sleep(0.005)
            return False
        except Unanswered as error:
            allowed = stage.cuts if error.returned == NEVER else stage.errors
            if not allowed.is_set():
                self._fault(f"{error}, of a server that was left alone")
            time.sleep(0.005)
            return False
        stage.acknowledged += 1
        return True

    def _fault(self, text: str) -> None:
        self._stage.faults.append(f"{self._name}: {text}")

    # Operations. Each adds to the history what it was; where it was not answered, what it may have changed.

    def _get(self, key: str = "") -> None:
        key = key or self._random.choice(KEYS)
        called = time.monotonic()
        answer = self._ask("GET", key, good=(200, 404))
        self._saw(key, called, answer.etag if answer.status == 200 else None)
        if answer.status == 404:
            return
        try:
            found = version_of(answer.body)
        except Torn as error:
            self._fault(f"{key}: torn: {error}")
            return
        if found != self._stage.contents.get(answer.etag, ("",))[0]:
            self._fault(f"{key}: {answer.etag} was read with the contents of {found}")

    def _saw(self, key: str, called: float, etag: State) -> None:
        self._add(key, called, registers.read(etag), f"{self._name} reads {etag}")
        if etag is not None:
            self._stage.latest[key] = etag

    def _put(self) -> None:
        self._write("puts", registers.wrote)

    def _create(self) -> None:
        refusals = {"PreconditionFailed": registers.exists}
        self._write("creates", registers.created, {"If-None-Match": "*"}, refusals)

    def _replace(self) -> None:
        key = self._random.choice(KEYS)
        old = self._stage.latest.get(key)
        if old is None:
            return self._create()
        refusals = {
            "PreconditionFailed": registers.differs(old),
            "NoSuchKey": registers.read(None),
            # A copy may have brought back what was there, after something else.
            "ConditionalRequestConflict": registers.nothing,
        }
        self._write(f"replaces {old} by", lambda etag: registers.replaced(old, etag), {"If-Match": old}, refusals, key)

    def _write(
        self,
        what: str,
        steps: Callable[[str], Steps],
        headers: dict[str, str] | None = None,
        refusals: Mapping[str, Steps] | None = None,
        key: str = "",
    ) -> None:
        key = key or self._random.choice(KEYS)
        content, etag = self._content(_md5)
        with self._becomes(key, steps(etag), f"{self._name} {what} {etag}", etag) as record:
            answer = self._ask("PUT", key, headers, content, good=(200, 404, 409, 412))
            if answer.status != 200:
                refused = (refusals or {}).get(answer.code)
                if refused is None:
                    self._fault(f"{record.what}: {answer}")
                    refused = registers.nothing
                record.steps, record.leaves, record.what = refused, UNCHANGED, f"{record.what}: {answer.code}"
            elif answer.etag != etag:
                self._fault(f"{record.what}: it is {answer.etag}")
        if answer.status == 200:
            self._stage.latest[key] = etag

    def _delete(self) -> None:
        key = self._random.choice(KEYS)
        with self._becomes(key, registers.wrote(None), f"{self._name} deletes", None):
            self._ask("DELETE", key)

    def _copy(self) -> None:
        source, key = self._random.sample(KEYS, 2)
        stage = self._stage
        called = time.monotonic()
        known = registers.one_of(lambda: [*stage.contents])
        with self._becomes(key, known, f"{self._name} copies {source}", UNKNOWN) as record:
            answer = self._ask("PUT", key, {"x-amz-copy-source": f"/{stage.bucket}/{source}"}, good=(200, 404))
            if answer.status == 200:
                etag = ElementTree.fromstring(answer.body).findtext(f"{NAMESPACE}ETag")
                if etag not in stage.contents:
                    self._fault(f"{record.what}: {answer}")
                record.steps, record.leaves, record.what = registers.wrote(etag), etag, f"{record.what}: {etag}"
            else:
                etag = None
                record.steps, record.leaves, record.what = registers.nothing, UNCHANGED, f"{record.what}: none"
        self._saw(source, called, etag)

    def _complete(self) -> None:
        key = self._random.choice(KEYS)
        content, etag = self._content(_md5_of_parts)
        created = ElementTree.fromstring(self._ask("POST", f"{key}?uploads").body)
        upload = quote(created.findtext(f"{NAMESPACE}UploadId") or "")
        part = self._ask("PUT", f"{key}?partNumber=1&uploadId={upload}", body=content)
        document = f"<Part><PartNumber>1</PartNumber><ETag>{part.etag}</ETag></Part>"
        document = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>"
        with self._becomes(key, registers.wrote(etag), f"{self._name} completes {etag}", etag):
            answer = self._ask("POST", f"{key}?uploadId={upload}", body=document.encode())
            if etag.strip('"').encode() not in answer.body:
                self._fault(f"{key}: completed {etag}: {answer}")

    def _list(self) -> None:
        """All pages: one, or several."""
        size = self._random.choice((2, 1000))
        after, more = "", ""
        while True:
            called = time.monotonic()
            answer = self._ask("GET", f"?list-type=2&max-keys={size}{more}")
            document = ElementTree.fromstring(answer.body)
            found = {}
            for entry in document.iter(f"{NAMESPACE}Contents"):
                key, etag, length = (entry.findtext(f"{NAMESPACE}{name}") or "" for name in ("Key", "ETag", "Size"))
                found[key] = etag
                if str(self._stage.contents.get(etag, ("", -1))[1]) != length:
                    self._fault(f"{key} is listed with {etag} and {length} bytes")
            token = document.findtext(f"{NAMESPACE}NextContinuationToken")
            last = max(found, default="") if token else max(KEYS)
            page = {key: found.pop(key, None) for key in KEYS if after < key <= last}
            if found:
                self._fault(f"{sorted(found)} are listed after {after!r}, with {size} on a page")
            for key, state in page.items():
                self._saw(key, called, state)
            self._stage.history.pages.append(Page(called, time.monotonic(), page))
            if not token:
                return
            after, more = last, f"&continuation-token={quote(token)}"

    # Parts of these

    def _content(self, etag_of: Callable[[bytes], str]) -> tuple[bytes, str]:
        """New contents and the ETag that they will have."""
        self._writes += 1
        version = f"{self._name}-{self._writes}"
        size = self._random.randrange(64 << 10, 128 << 10) if self._random.random() < LARGE else 0
        content = make_content(version, size or self._random.randrange(200))
        etag = etag_of(content)
        self._stage.contents[etag] = (version, len(content))
        return content, etag

    @contextlib.contextmanager
    def _becomes(self, key: str, steps: Steps, what: str, leaves: State) -> Iterator[Record]:
        """Of what goes on inside; the record may be corrected there."""
        record = Record(key, time.monotonic(), NEVER, steps, what, leaves)
        try:
            yield record
        except Down:
            raise
        except Unanswered as error:
            record.what += f", perhaps ({error})"
            record.answered, record.returned, record.server = False, error.returned, self._server
        else:
            record.returned = time.monotonic()
            self._stage.history.records.append(record)
            return
        self._stage.history.records.append(record)
        raise Unanswered(record.what, record.returned)

    def _add(self, key: str, called: float, steps: Steps, what: str) -> None:
        self._stage.history.records.append(Record(key, called, time.monotonic(), steps, what))

    def _ask(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | None = None,
        body: bytes | None = None,
        good: tuple[int, ...] = (200, 204),
    ) -> Answer:
        """:raises Unanswered, Down:"""
        connection = self._connect()
        try:
            answer = exchange(connection, method, f"/s3/{self._stage.bucket}/{target}", body, headers)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Unanswered(f"{method} {target}: {type(error).__name__}: {error}", NEVER) from None
        if answer.status >= 500:
            raise Unanswered(f"{method} {target}: {answer}", time.monotonic())
        if answer.status not in good:
            self._fault(f"{method} {target}: {answer}")
        return answer

    def _connect(self) -> http.client.HTTPConnection:
        """:raises Down:"""
        server, port = self._stage.address
        if server != self._server:
            self._connection.close()
            self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_SECONDS)
            self._server = server
        if self._connection.sock is None:
            try:
                self._connection.connect()
            except OSError as error:
                raise Down from error
        return self._connection


def _md5(content: bytes) -> str:
    return f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'


def _md5_of_parts(content: bytes) -> str:
    """Of a multipart upload of one part."""
    digest = hashlib.md5(content, usedforsecurity=False).digest()
    return f'"{hashlib.md5(digest, usedforsecurity=False).hexdigest()}-1"'
