"""The list of bad inputs, of limits and of other servers' holes; and what their tests share: a world that must be the
same afterwards, and rows of inputs and answers.

``test_bad_list`` sees to it that each row of the list has its test, by its name, in one of ``ROW_MODULES``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3fixtures import fresh_name
from s3raw import Answer, Sender, User, user_of

BODY = b"as it was"

#: Number -> input. What each gets is in its row.
INPUTS = {
    1: "Content-MD5 not base64, short or empty",
    2: "Content-MD5 of something else",
    3: "x-amz-content-sha256 of something else",
    4: "a body shorter than its Content-Length",
    5: "a PUT, or a document that is needed, with neither Content-Length nor Transfer-Encoding",
    6: "a Content-Length that is no plain number",
    7: "two ways to say how long the body is",
    8: "broken chunks",
    9: "aws-chunked that ends within a chunk",
    10: "aws-chunked without x-amz-decoded-content-length",
    11: "aws-chunked with another length than announced",
    12: "a chunk signature that is wrong, in any chunk",
    13: "a signed chunk under 8 KiB that is not the last",
    14: "a trailer that is missing, of another name, or none at all",
    15: "a checksum in a trailer that is wrong",
    16: "two checksums, or an unknown algorithm",
    17: "the same checksum in header and trailer",
    18: "an unsigned trailer under a bad signature, in the header and in the query",
    19: "an unknown access key",
    20: "a wrong secret",
    21: "a clock more than 15 minutes off",
    22: "no date, or none that can be read",
    23: "an Authorization header that is malformed",
    24: "an unknown scheme",
    25: "another service, terminator or date in the scope",
    26: "a presigned URL that has expired",
    27: "X-Amz-Expires that is none",
    28: "a signature in the header and in the query",
    29: "an x-amz-* header that is not signed",
    30: "host not among the signed headers",
    31: "a parameter of the signature twice",
    32: "signed for another path than the one sent",
    33: "keys that look like paths are stored as they are, and are no paths",
    34: "keys of 1,025 bytes",
    35: "keys that are not UTF-8, and bad escapes",
    36: "a NUL in a key",
    37: "names that no bucket has",
    38: "more than 2 KiB of user metadata",
    39: "a head over its limits",
    40: "CR, LF or NUL in metadata",
    41: "response-* that would begin a header of its own, or of a stranger",
    42: "documents that are malformed, have a DTD, a bomb of entities, an external entity",
    43: "documents over their cap, or that would take seconds to read",
    44: "DeleteObjects of 0 and of 1,001 keys",
    45: "DeleteObjects without a digest of its document",
    46: "CompleteMultipartUpload without parts, with wrong ones, in the wrong order, too small",
    47: "part numbers outside 1 to 10,000",
    48: "upload ids that there are none of",
    49: "a PUT that declares more than 5 GiB",
    50: "a range beyond the end, and any of an empty object",
    51: "ranges that are none, or a thousand, are ignored",
    52: "a range and a part number",
    53: "max-keys that is no number of keys",
    54: "an unknown encoding, a token that we did not give out",
    55: "a copy source that is none",
    56: "a copy onto itself without a change",
    57: "If-None-Match: * where there is something",
    58: "If-Match where there is nothing",
    59: "a conditional write that somebody else came before",
    60: "deleting a bucket that is not empty",
    61: "a stranger, whatever there is and whatever it asks",
    62: "sub-resources, parameters and headers that are not implemented",
    63: "a method that a resource does not have",
    64: "tags: too many, too long, twice; there are none here",
    65: "a canned ACL that is none",
    66: "forms: expired, refused by their policy, no policy, too long; there are none here",
    67: "no Host, two, or one that an open server does not know",
    68: "a write from another site at an open server",
    69: "a target of another host, a folded header, a bare LF",
    70: "a hundred requests at once are answered in order",
    71: "a slow head, a slow body",
    72: "a full disk, a store that writes no more",
    73: "a corrupt block",
    74: "what is no HTTP/1.1 at all",
    75: "Upgrade with a body, and without one",
    76: "another version, coding or fragment; a head, trailer or extension over its limit",
    77: "thousands of requests in one read, bytes after Connection: close, trailers that are headers",
}

#: What is taken up to this much, and not beyond.
LIMITS = {
    "head": "16 KiB of request line and headers",
    "headers": "100 headers",
    "metadata": "2 KiB of user metadata",
    "key": "1,024 bytes of key",
    "document": "1 MiB of a document",
    "long document": "8 MiB of DeleteObjects and CompleteMultipartUpload",
    "delete": "1,000 keys of DeleteObjects",
    "parts": "parts 1 to 10,000",
    "part": "5 MiB at least of a part that is not the last",
    "put": "5 GiB of a PUT and of a part",
    "object": "5 TiB of an object",
    "max-keys": "1,000 keys of a page",
    "ranges": "one range",
    "tags": "10 tags: none here",
    "policy": "20 KiB of a form's policy: none here",
    "length": "19 digits of Content-Length, checked before they are a number",
    "head time": "20 s for the whole head",
    "body rate": "1 KiB/s of a body after 20 s",
    "unread": "60 s for a response that nobody reads",
    "idle": "60 s between two requests",
    "handshake": "10 s for the TLS handshake",
    "pause": "no time passes while it is we who pause",
}

#: Server and number -> what it was. Each is a regression test here.
HOLES = {
    "MinIO CVE-2025-31489": "an unsigned trailer under a signature that nobody looked at",
    "MinIO CVE-2026-40344": "an unsigned trailer with credentials in the query",
    "MinIO CVE-2026-41145": "credentials in the query, and no signature that was looked at",
    "Swift CVE-2026-71191": "x-amz-* headers added to a presigned PUT",
    "RustFS GHSA-g8w9": "x-amz-* headers added to a presigned PUT",
    "MinIO CVE-2021-21390": "a byte of a signed stream of chunks changed",
    "MinIO CVE-2024-36107": "conditions answered before who asks is known",
    "MinIO CVE-2023-28432": "an endpoint that shows the server's environment",
    "MinIO CVE-2023-28434": "a request that gets past the checks of a metadata bucket",
    "SeaweedFS CVE-2026-72920": "an administrator's endpoint without authentication",
    "MinIO CVE-2024-55949": "a user who gives himself more rights",
    "SeaweedFS CVE-2026-54917": "a key that is a path out of the data directory",
    "SeaweedFS CVE-2026-55874": "a path in another parameter than the key",
    "MinIO CVE-2018-1000538": "a body that is read into memory, however long",
    "Ceph CVE-2022-3854": "a URL that is odd",
    "Ceph RESTler 72669": "an empty or odd header",
    "Ceph RESTler 72502": "an empty document",
    "Ceph CVE-2018-16846": "a page size that is too large",
    "Ceph CVE-2020-12059": "tags in a document that is none",
    "Ceph CVE-2024-48916": "a token that says of itself how it is signed",
    "Ceph CVE-2023-43040": "a form whose bucket is not that of its policy",
    "Ceph CVE-2016-7031": "authenticated-read that everybody may list",
    "Swift CVE-2014-0006": "signatures compared in a time that tells of them",
    "Swift CVE-2016-0738": "downloads that are interrupted and leave something",
    "Twisted CVE-2020-10108": "two Content-Lengths",
    "Twisted CVE-2020-10109": "Content-Length and Transfer-Encoding",
    "Twisted CVE-2022-24801": "lengths and chunks that are read leniently",
    "Twisted CVE-2022-39348": "a Host that is shown in a page",
    "Twisted CVE-2023-46137": "pipelined requests answered out of order",
    "Twisted CVE-2024-41671": "pipelined requests that are processed out of order",
    "Twisted CVE-2024-41810": "a redirect that shows what was asked for",
    "Twisted CVE-2026-42304": "names that are looked up",
}

#: Where the rows are.
ROW_MODULES = (
    "test_bad_inputs",
    "test_bad_requests",
    "test_bad_holes",
    "test_bad_holes_inside",
    "test_bad_limits",
    "test_trouble_rows",
)

#: What a row yields for each of its inputs: the answer, and what it must be.
Checked = tuple[Answer, int, str]
Row = Callable[["World"], Iterator[Checked]]

#: For the look at memory: a row is asked again for so long, and its servers may grow by so much meanwhile.
AGAIN_SECONDS = 0.1
GROWTH = 12 << 20


class UsableSender(Sender):
    """Sees to it that after each answer the connection can be used, or is closed, as the answer says."""

    def send(self, data: bytes, method: str = "GET", *, end: bool = False) -> Answer:
        with self.connect() as wire:
            wire.send(data)
            if end:
                wire.end()
            answer = wire.answer(method)
            if answer.status == 100:
                return answer
            if end or answer.headers.get("connection") == "close":
                assert wire.closed(), "something follows the last answer"
            else:
                wire.send(f"GET /-/health HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
                assert wire.answer().body == b"ok\n", "the connection cannot be used any more"
            return answer


class World:
    """An open server and one with credentials, a bucket in both, in each an object called ``kept``."""

    def __init__(self, server: Any, signed_server: Any) -> None:
        self.servers = (server, signed_server)
        self.user = user_of(signed_server)
        self.open = UsableSender(server.endpoint)
        self.signed = UsableSender(signed_server.endpoint, self.user)
        self.unsigned = UsableSender(signed_server.endpoint)
        self.bucket = fresh_name()
        self.path = f"/s3/{self.bucket}"
        self.target = f"{self.path}/k"
        for sender in (self.open, self.signed):
            assert sender.ask("PUT", self.path).status == 200
            assert sender.ask("PUT", f"{self.path}/kept", body=BODY).status == 200

    def by(self, access_key: str | None = None, secret: str = "wrong", region: str = "us-east-1") -> Sender:
        """Somebody else at the server with credentials: by default the right user with a wrong secret."""
        assert self.user is not None
        return UsableSender(self.signed.endpoint, User(access_key or self.user.access_key, secret), region)

    def check(self) -> None:
        """Nothing was stored, changed or left behind, and both servers are well."""
        for server, sender in zip(self.servers, (self.open, self.signed), strict=True):
            listing = sender.ask("GET", self.path)
            keys = [element.text for element in listing.xml.iter() if element.tag.endswith("}Key")]
            assert keys == ["kept"]
            assert sender.ask("GET", f"{self.path}/kept").body == BODY
            uploads = sender.ask("GET", f"{self.path}?uploads")
            assert uploads.element("Upload") is None
            assert temporary_files(server.data) == []
            assert "Traceback" not in server.log()

    def memory(self) -> int:
        """Bytes of both servers."""
        return sum(int(server.rss()) for server in self.servers)


@pytest.fixture(scope="module")
def world(server: Any, signed_server: Any) -> World:
    return World(server, signed_server)


def temporary_files(data: Path) -> list[Path]:
    """What an upload leaves until it is done."""
    return list((data / "blobs" / "tmp").iterdir())


class Rows:
    """The rows of a test module, by name.

    :ivar ids: of the list's rows that are among them.
    """

    def __init__(self) -> None:
        self.by_name: dict[str, Row] = {}
        self.ids: set[int | str] = set()
        self._once: set[str] = set()

    def row(self, number: int | str, what: str = "", *, once: bool = False) -> Callable[[Row], Row]:
        """Marks a function as the row ``number`` of the list; its name is the list's.

        :param what: of several tests of one row, which this is. :param once: is not asked again and again.
        """
        words = {**INPUTS, **LIMITS, **HOLES}[number]  # a row that the list does not have is none

        def add(function: Row) -> Row:
            name = f"{number}: {words}{': ' if what else ''}{what}"
            assert name not in self.by_name, name
            self.by_name[name] = function
            self.ids.add(number)
            if once:
                self._once.add(name)
            return function

        return add

    def check(self, name: str, world: World) -> None:
        """Every input of a row gets its answer, in XML, and nothing else comes of it, however often."""
        self._ask(name, world)
        world.check()
        if name not in self._once:
            before, until = world.memory(), time.monotonic() + AGAIN_SECONDS
            while time.monotonic() < until:
                self._ask(name, world)
            grown = world.memory() - before
            assert grown < GROWTH, f"the servers have grown by {grown} bytes"
            world.check()

    def _ask(self, name: str, world: World) -> None:
        answers = 0
        for answer, status, code in self.by_name[name](world):
            assert (answer.status, answer.code) == (status, code), answer
            assert not answer.body or answer.headers["content-type"] == "application/xml"
            answers += 1
        assert answers
