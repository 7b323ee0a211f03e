"""Query strings, and the operation that a request is. The first line of an input is the method, then the query."""

from __future__ import annotations

from urllib.parse import parse_qsl, quote_from_bytes

from aisobj import signing
from aisobj.protocol.operations import OPERATIONS, Level, find, resolve
from aisobj.protocol.query import Query, parse_query
from fuzzing.target import Label, Target, attempt, demand, kind, same, words

_ASCII = bytes(range(128)).decode()
_OURS = frozenset(
    f"X-Amz-{name}"
    for name in ("Algorithm", "Credential", "Date", "Expires", "SignedHeaders", "Signature", "Security-Token")
) | {"X-Amz-Content-Sha256", "X-Amz-User-Agent"}


def check(data: bytes) -> Label:
    method, _, raw = data.partition(b"\n")
    query, error = attempt(lambda: parse_query(raw))
    _check_pairs(raw)
    if query is None:
        assert error is not None
        demand(error.code == "InvalidURI", "what cannot be decoded is no URI", error)
        return kind(error)
    pairs = parse_qsl(quote_from_bytes(raw, _ASCII), keep_blank_values=True, errors="replace")
    found = [(name, value.decode()) for name, value in query.pairs]
    same(found, [pair for pair in pairs if pair[0] not in _OURS], "any decoder reads the same")
    _check_query(query)
    return tuple(_operation(level, method, query) for level in Level)


def _check_query(query: Query) -> None:
    first: dict[str, bytes] = {}
    for name, value in query.pairs:
        first.setdefault(name, value)
    same({name: query.get_bytes(name) for name in query.names()}, first, "the first of a name counts")
    for moved, _ in query.hoisted():
        demand(moved.startswith(b"x-amz-"), "only x-amz-* are taken for headers", moved)


def _check_pairs(raw: bytes) -> None:
    """What is signed: one form for each thing that it can mean, and that form is its own."""
    query = signing.canonical_query(signing.canonical_pairs(raw))
    same(
        signing.canonical_query(signing.canonical_pairs(query)), query, "the canonical query is its own canonical query"
    )
    same(sorted(_decoded(query)), sorted(_decoded(raw)), "and means the same")


def _decoded(raw: bytes) -> list[tuple[str, str]]:
    return parse_qsl(raw.decode("latin-1"), keep_blank_values=True, encoding="latin-1")


def _no_header(name: bytes) -> bytes | None:
    return None


def _operation(level: Level, method: bytes, query: Query) -> Label:
    operation, error = attempt(lambda: find(level, method, query, _no_header))
    if operation is None:
        assert error is not None
        return kind(error)
    demand(operation.name in OPERATIONS and operation.level is level, "an operation of its level", operation)
    admitted, error = attempt(lambda: resolve(level, method, query, _no_header))
    if error is not None:
        return kind(error)
    assert admitted is not None
    demand(admitted is operation and operation.implemented, "what is let in is what was found, and is there", operation)
    if operation.writes:
        known = operation.parameters | {"AWSAccessKeyId", "Signature", "Expires", "content-type", "content-md5"}
        others = [n for n in query.names() if n not in known and not n.lower().startswith("x-")]
        same([n for n in others if n not in _SUB_RESOURCES], [], "a write has no parameter that nobody knows")
    return operation.name


_SUB_RESOURCES = frozenset(["delete", "list-type", "location", "uploads", "uploadId", "versioning"])

TARGETS = [
    Target(
        "query",
        check,
        "InvalidURI, or what urllib reads; its signed form is canonical; a write with an unknown parameter is refused",
        words(
            r"""
            GET\n PUT\n POST\n DELETE\n HEAD\n acl uploads uploadId= partNumber=1 list-type=2 versionId=
            & = + %26 %3D %00 %C3%A9 %FF X-Amz-Signature= x-amz-meta-a= delete X-Amz-Acl=
            response-content-type= tagging %E2%84%AA ; x-id=GetObject append
            """
        ),
        16384,
    )
]
