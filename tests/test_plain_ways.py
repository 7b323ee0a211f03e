"""Connections that do whatever clients do, and commits that take their time or fail: by the short way of plain requests
and by the tree everything happens alike, step by step."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from hashlib import md5
from random import Random
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from aisobj.errors import CommitUnknown, StorageError, StoreFull, StoreReadOnly
from aisobj.s3.call import S3Resource
from fuzzing.targets.world import HOST, World, presigned, signed_lines, without_ids
from reliability.program import fresh_seed

SCRIPTS = int(os.environ.get("PLAIN_SCRIPTS", "400"))
SEED = int(os.environ.get("PLAIN_SEED", "0")) or fresh_seed()

_KEYS = [b"small", b"a/b.c~d", b"many", b"large", b"empty", b"new", b"named", b"summed"]
_BUCKETS = [b"bck", b"bck", b"versions", b"checked", b"unsummed", b"nobody"]
#: How a commit ends -> whether it has happened, and what is told.
_ENDS: dict[str, tuple[bool, Exception | None]] = {
    "done": (True, None),
    "full": (False, StoreFull("x")),
    "failed": (False, StorageError("x")),
    "lost": (False, CommitUnknown("x")),
    "unknown": (True, CommitUnknown("x")),
    "read-only": (False, StoreReadOnly("x")),
}

#: What happens, to which connection, and how.
Step = tuple[str, int, Any]


class LateCommits:
    """The commits of an index, which wait until they are told how to end."""

    def __init__(self, world: World) -> None:
        self.waiting: list[tuple[Deferred[Any], tuple[Any, ...]]] = []
        self._commit: Callable[..., Deferred[Any]] = world.index.commit
        world.index.commit = self.commit  # type: ignore[method-assign]

    def commit(self, *given: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.waiting.append((deferred, given))
        return deferred

    def end(self, number: int, how: str) -> None:
        deferred, given = self.waiting.pop(number % len(self.waiting))
        happens, error = _ENDS[how]
        ended = self._commit(*given) if happens else None
        if error is not None or ended is None:
            deferred.errback(error)
        else:
            ended.chainDeferred(deferred)


def request(chance: Random, is_open: bool) -> bytes:
    method = chance.choice([b"PUT", b"PUT", b"PUT", b"DELETE", b"DELETE", b"GET", b"HEAD"])
    in_header = chance.random() < 0.5
    how = 4 | chance.choice([0, 16, 32, 128, 144]) if not is_open or chance.random() < 0.4 else 0
    target = b"/s3/%b/%b" % (chance.choice(_BUCKETS), chance.choice(_KEYS))
    if not in_header:
        target = presigned(method, target, how)
        if chance.random() < 0.05:
            target = target[:-1] + b"0"
    body = bytes(chance.choices(b"xyz", k=chance.choice([0, 1, 5, 63, 64, 65, 300]))) if method == b"PUT" else b""
    lines = []
    for probability, line in (
        (0.3, b"User-Agent: x/1"),
        (0.95 * (method == b"PUT"), b"Content-Length: %d" % len(body)),
        (0.2, b"Connection: keep-alive"),
        (0.1, b"Connection: close"),
        (0.1, b"If-Match: *"),
        (0.2, b"Expect: 100-continue"),
        (0.2 * in_header, b"Range: bytes=1-3"),
        (0.3 * (in_header and method == b"PUT"), b"Content-MD5: " + b64encode(md5(body).digest())),
        (0.05 * (in_header and method == b"PUT"), b"x-amz-checksum-crc32: AAAAAA=="),
    ):
        if chance.random() < probability:
            lines.append(line)
    if in_header:
        wrong = b"x" if chance.random() < 0.1 else b""
        lines = signed_lines(method, target, 8 | chance.choice([0, 16, 32, 128, 176]), lines, body + wrong)
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: " + HOST, *lines, b"", b""]) + body


def pieces(chance: Random, is_open: bool) -> Iterator[bytes]:
    """Requests as they may arrive: whole, in two pieces, most of them a head and its body, or two at once."""
    for _ in range(chance.randint(1, 4)):
        whole, how = request(chance, is_open), chance.random()
        if how < 0.2:
            whole += request(chance, is_open)
        elif how < 0.5:
            head = whole.index(b"\r\n\r\n") + 4
            cut = chance.randrange(1 if how < 0.3 else head, len(whole) + 1)
            yield whole[:cut]
            whole = whole[cut:]
        yield whole


def script(chance: Random) -> tuple[list[bool], list[Step]]:
    """Which connections there are (of the open site, or of the other one), and what happens."""
    opens = [chance.random() < 0.5 for _ in range(chance.randint(1, 4))]
    data = [pieces(chance, is_open) for is_open in opens]
    steps: list[Step] = []
    for _ in range(60):
        number = chance.randrange(len(opens))
        names, weights = (
            ["data", "end", "eof", "lost", "drain", "pump", "full", "read-only"],
            [40, 40, 3, 3, 2, 4, 3, 1],
        )
        match chance.choices(names, weights)[0]:
            case "data":
                steps.append(("data", number, next(data[number], b"")))
            case "end":
                how = chance.choices(list(_ENDS), [12, 1, 1, 1, 1, 1])[0]
                steps.append(("end", chance.randrange(100), how))
            case name:
                steps.append((name, number, chance.random() < 0.4))
    return opens, steps


class Play:
    """Scripts in one of the worlds, which is as in the beginning after each."""

    def __init__(self, short: bool) -> None:
        self.world = World(short)
        self.plain = 0
        self._late = LateCommits(self.world)
        self._connections: list[tuple[Any, Any]] = []
        self._silent = set[int]()  # those that send no more
        self._gone = set[int]()

    def __call__(self, opens: list[bool], steps: list[Step]) -> list[object]:
        """What could be seen after each step, and in the end."""
        world, late = self.world, self._late
        self._connections = [world.connect(is_open) for is_open in opens]
        self._silent.clear()
        self._gone.clear()
        seen: list[object] = []
        for step in steps:
            self._go(*step)
            seen.append((step[0], len(late.waiting), self._states()))
        while late.waiting:
            late.end(0, "done")
            world.clock.pump([0.0] * 4)
        seen.append(self._states())
        for number in range(len(opens)):
            self._go("lost", number, None)
        seen += [world.logged(), world.rows()]
        self.plain += world.plain()
        self._begin_anew()
        return seen

    def _go(self, what: str, number: int, how: Any) -> None:
        world, late = self.world, self._late
        if what == "end" and late.waiting:
            late.end(number, how)
        elif what in ("data", "eof", "lost"):
            self._do(what, number, how)
        elif what == "drain":
            for site in world.sites.values():
                site.draining = True
                for channel in list(site.connections):
                    channel.drain()
        elif what == "pump":
            world.clock.pump([0.0] * 4)
        elif what == "full":
            world.blobs.full = how
        elif what == "read-only":
            world.index.read_only = "a sync failed"

    def _do(self, what: str, number: int, data: bytes | None) -> None:
        """A client does something, if it still can."""
        channel, _ = self._connections[number]
        if what == "lost" and number not in self._gone:
            self._gone.add(number)
            channel.connectionLost(Failure(ConnectionDone()))
        elif number not in self._gone | self._silent:
            if what == "eof":
                self._silent.add(number)
                channel.readConnectionLost()
            else:
                channel.dataReceived(data)

    def _states(self) -> list[object]:
        return [
            (
                *(without_ids(sent), sent.disconnecting, sent.aborted),
                *(channel._paused, channel._request is None, channel._deadline),
            )
            for channel, sent in self._connections
        ]

    def _begin_anew(self) -> None:
        world = self.world
        world.blobs.full, world.index.read_only = False, ""
        for site in world.sites.values():
            site.draining = False
        world.reset()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails is logged, thousands of times."""
    monkeypatch.setattr("aisobj.web.rendering._log", type("Silent", (), {"error": _drop, "failure": _drop})())


def _drop(*_: object, **__: object) -> None:
    pass


def test_both_ways_go_alike(quiet: None) -> None:
    short, long = Play(True), Play(False)
    for number in range(SCRIPTS):
        opens, steps = script(Random(f"{SEED} {number}"))
        one, other = short(opens, steps), long(opens, steps)
        for step, (ours, theirs) in enumerate(zip(one, other, strict=True)):
            assert ours == theirs, (f"PLAIN_SEED={SEED}", number, steps[:step])
    assert short.plain > SCRIPTS / 4
    assert long.plain == 0


def test_a_way_that_is_another_is_noticed(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: here a failed commit is no failure."""

    class Careless(S3Resource):
        def render_error(self, request: Any, error: Any) -> None:
            request.respond_lines(204, b"")

    monkeypatch.setattr("aisobj.s3.plain_writes.S3Resource", Careless)
    with pytest.raises(AssertionError, match="PLAIN_SEED"):
        test_both_ways_go_alike(quiet)
