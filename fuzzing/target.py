"""What a fuzzing target is, and what the targets have in common."""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar
from xml.etree import ElementTree

from aisobj.errors import ERRORS, S3Error
from aisobj.protocol.xml import error_document

T = TypeVar("T")

#: What an input led to, e.g. an error's code: inputs that lead to something new are worth keeping.
Label = object


class Broken(Exception):
    """A promise is broken."""


@dataclass(frozen=True, slots=True)
class Target:
    """One thing to attack.

    :ivar check: judges one input: returns a label, raises :class:`Broken`, or whatever should not have come out.
    :ivar promise: what it checks, for people.
    :ivar tokens: words of the input's language, for mutations.
    :ivar max_size: bytes of the longest input, so that there are many; ``long_size`` of those whose cost is measured:
        as long as the server lets them come, or long enough to tell.
    """

    name: str
    check: Callable[[bytes], Label]
    promise: str
    tokens: Sequence[bytes] = ()
    max_size: int = 4096
    long_size: int = 1 << 14


def demand(true: bool, promise: str, *seen: object) -> None:
    """:raises Broken: unless it is true."""
    if not true:
        raise Broken(f"{promise}: {', '.join(repr(each)[:400] for each in seen)}")


def same(one: object, other: object, promise: str) -> None:
    """:raises Broken: unless both are equal."""
    demand(one == other, promise, one, other)


def attempt(call: Callable[[], T]) -> tuple[T, None] | tuple[None, S3Error]:
    """What it returned, or the error that the client would get, which is one that a client can get for its input.

    :raises Broken: the error blames the server, cannot be sent, or cannot be read by the client.
    """
    try:
        return call(), None
    except S3Error as error:
        check_error(error)
        return None, error


def check_error(error: S3Error) -> None:
    """:raises Broken: as :func:`attempt`."""
    demand(error.status < 500 or error.code == "NotImplemented", "input is never the server's fault", error)
    for name, value in error.headers.items():
        demand(f"{name}{value}".isprintable() and value.isascii(), "a header can be sent", name, value)
    if error.detail or error.message != ERRORS[error.code][1]:
        document = ElementTree.fromstring(error_document(error, "/", "id"))
        demand(document[0].text == error.code, "an error document has its code first", document)


def kind(error: S3Error) -> Label:
    """The error without what it quotes of the input."""
    return error.code, error.message[:24]


def pieces(data: bytes, most: int = 8) -> Iterator[bytes]:
    """``data`` in pieces chosen by its own checksum: the same input is always cut alike."""
    state = zlib.crc32(data)
    count = state % most + 1
    cuts = set()
    for _ in range(count):
        state = zlib.crc32(state.to_bytes(4, "big"), state)
        cuts.add(state % (len(data) + 1))
    for begin, end in pairwise([0, *sorted(cuts), len(data)]):
        yield data[begin:end]


def single_bytes(data: bytes) -> Iterator[bytes]:
    for at in range(len(data)):
        yield data[at : at + 1]


def chance(data: bytes, below: int, salt: int = 0) -> int:
    """A number that depends on the input alone."""
    return zlib.crc32(data, salt) % below


def words(text: str) -> list[bytes]:
    r"""The words of a language, with blanks between them; ``\xNN``, ``\r``, ``\n`` and ``\t`` stand for bytes."""
    return [codecs.escape_decode(word)[0] for word in text.encode("ascii").split()]
