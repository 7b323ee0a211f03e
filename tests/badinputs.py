"""What the tests of bad inputs share: a world that must be the same afterwards, and rows of inputs and answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from s3fixtures import fresh_name
from s3raw import Answer, Sender, User, user_of

BODY = b"as it was"

#: What a row yields for each of its inputs: the answer, and what it must be.
Checked = tuple[Answer, int, str]
Row = Callable[["World"], Iterator[Checked]]


class World:
    """An open server and one with credentials, a bucket in both, in each an object called ``kept``."""

    def __init__(self, server: Any, signed_server: Any) -> None:
        self.servers = (server, signed_server)
        self.user = user_of(signed_server)
        self.open = Sender(server.endpoint)
        self.signed = Sender(signed_server.endpoint, self.user)
        self.unsigned = Sender(signed_server.endpoint)
        self.bucket = fresh_name()
        self.path = f"/s3/{self.bucket}"
        self.target = f"{self.path}/k"
        for sender in (self.open, self.signed):
            assert sender.ask("PUT", self.path).status == 200
            assert sender.ask("PUT", f"{self.path}/kept", body=BODY).status == 200

    def by(self, access_key: str | None = None, secret: str = "wrong", region: str = "us-east-1") -> Sender:
        """Somebody else at the server with credentials: by default the right user with a wrong secret."""
        assert self.user is not None
        return Sender(self.signed.endpoint, User(access_key or self.user.access_key, secret), region)

    def check(self) -> None:
        """Nothing was stored, changed or left behind, and both servers are well."""
        for server, sender in zip(self.servers, (self.open, self.signed), strict=True):
            listing = sender.ask("GET", self.path)
            keys = [element.text for element in listing.xml.iter() if element.tag.endswith("}Key")]
            assert keys == ["kept"]
            assert sender.ask("GET", f"{self.path}/kept").body == BODY
            uploads = sender.ask("GET", f"{self.path}?uploads")
            assert uploads.element("Upload") is None
            assert not list((server.data / "blobs" / "tmp").iterdir())
            assert "Traceback" not in server.log()


class Rows:
    """The rows of a test module, by name."""

    def __init__(self) -> None:
        self.by_name: dict[str, Row] = {}

    def row(self, number: int, rule: str) -> Callable[[Row], Row]:
        """Marks a function as the row ``number`` of the list of bad inputs."""

        def add(function: Row) -> Row:
            self.by_name[f"{number}: {rule}"] = function
            return function

        return add

    def check(self, name: str, world: World) -> None:
        """Every input of a row gets its answer, in XML, and nothing else comes of it."""
        answers = 0
        for answer, status, code in self.by_name[name](world):
            assert (answer.status, answer.code) == (status, code), answer
            assert not answer.body or answer.headers["content-type"] == "application/xml"
            answers += 1
        assert answers
        world.check()
