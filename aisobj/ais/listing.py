"""A page of objects as AIStore lists them: msgpack for its SDK, JSON for everybody else.

Source: ``api/apc/lsmsg.go`` (``LsoMsg``), ``cmn/objlist.go`` (``LsoRes``, ``LsoEnt``: both spellings of the names).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec

from aisobj.ais import errors
from aisobj.ais.base import Call
from aisobj.errors import S3Error
from aisobj.model import ListedObject
from aisobj.protocol.listparams import MAX_KEYS, ListParams
from aisobj.protocol.s3time import iso8601

_MSGPACK = b"application/msgpack"

_ARCH_DIR = 1 << 3
_NAME_ONLY = 1 << 4
_NAME_SIZE = 1 << 5
_NOT_CACHED = 1 << 9
_NO_RECURSION = 1 << 11
_DIFF = 1 << 12
_NO_DIRS = 1 << 13
_INVENTORY = 1 << 15

_IS_CACHED = 1 << 6  #: of an entry: it is here, as all objects are
_IS_DIR = 1 << 8  #: of an entry: a virtual directory

#: property of the message -> (msgpack name, JSON name) of the entry
_FIELDS = {
    "name": ("n", "name"),
    "size": ("s", "size"),
    "checksum": ("cs", "checksum"),
    "atime": ("a", "atime"),
    "version": ("v", "version"),
    "location": ("t", "location"),
    "custom": ("m", "custom-md"),
    "copies": ("c", "copies"),
    "flags": ("f", "flags"),
}
#: Known to AIStore, and nothing to say about here; ``cached`` and ``status`` are in the flags.
_SILENT = frozenset({"cached", "target_url", "status", "ec", "node", "chunked", "last-modified", "etag"})


class ListMessage(msgspec.Struct):
    """``apc.LsoMsg``. ``flags`` is a decimal string there; a page size of 0 leaves it to us."""

    prefix: str = ""
    props: str = ""
    uuid: str = ""
    continuation_token: str = ""
    start_after: str = ""
    flags: str | int = 0
    pagesize: int = 0


@dataclass(frozen=True, slots=True)
class PageRequest:
    """What a list-objects message asks for."""

    params: ListParams
    properties: frozenset[str]  #: of each entry, beside its name
    directories: bool  #: whether virtual directories are shown
    uuid: str


def read_request(value: object) -> PageRequest:
    """What ``value``, the action message's, asks for; None asks for the first page. Raises S3Error."""
    message = _convert(value)
    flags = _flags(message.flags)
    params = ListParams(
        version=2,
        prefix=message.prefix.encode(),
        delimiter=b"/" if flags & _NO_RECURSION else b"",
        max_keys=min(message.pagesize, MAX_KEYS) or MAX_KEYS,
        url_encoded=False,
        after=max(message.continuation_token, message.start_after, key=str.encode).encode(),
    )
    return PageRequest(params, _wanted(message.props, flags), not flags & _NO_DIRS, message.uuid)


async def send_page(call: Call, value: object) -> None:
    """Answer with the page that ``value``, the action message's, asks for. Raises S3Error.

    At most 1,000 entries, however many were asked for: a page is rendered in one go. Its continuation token is the
    name of its last entry, "" at the end.
    """
    wanted = read_request(value)
    page = await call.store.turns.run(call.store.objects.list(call.bucket, wanted.params))
    entries = _entries(page.items, page.common_prefixes if wanted.directories else [], wanted.properties)
    token = page.last.decode() if page.truncated else ""
    uuid = wanted.uuid or call.request.request_id
    if _MSGPACK in (call.request.header(b"accept") or b""):
        answer = {"UUID": uuid, "ContinuationToken": token, "Flags": 0, "Entries": _named(entries, 0)}
        call.request.respond(200, ((b"Content-Type", _MSGPACK),), msgspec.msgpack.encode(answer))
        return
    call.send_json({"uuid": uuid, "continuation_token": token, "flags": 0, "entries": _json_entries(entries)})


def _entries(
    items: list[tuple[bytes, ListedObject]], directories: list[bytes], wanted: frozenset[str]
) -> Iterator[dict[str, Any]]:
    """Objects and directories in order, as property -> value."""
    objects = ((key, _entry(key, record, wanted)) for key, record in items)
    folders = ((name, {"name": name.decode(), "flags": _IS_DIR}) for name in directories)
    for _, entry in heapq.merge(objects, folders, key=lambda pair: pair[0]):
        yield entry


def _entry(key: bytes, record: ListedObject, wanted: frozenset[str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": key.decode()}
    if "size" in wanted:
        entry["size"] = record.size
    if "checksum" in wanted:
        entry["checksum"] = record.checksum_value
    if "atime" in wanted:
        entry["atime"] = iso8601(record.mtime)
    if "version" in wanted:
        entry["version"] = str(record.counter)
    if "location" in wanted:
        entry["location"] = f"t[{errors.NODE_ID}]"
    if "custom" in wanted:
        entry["custom"] = f"ETag={record.etag}"
    if "copies" in wanted:
        entry["copies"] = 1
    entry["flags"] = _IS_CACHED
    return entry


def _named(entries: Iterator[dict[str, Any]], spelling: int) -> list[dict[str, Any]]:
    return [{_FIELDS[name][spelling]: value for name, value in entry.items()} for entry in entries]


def _json_entries(entries: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    """Go writes the size as a string (``json:"size,string"``)."""
    found = _named(entries, 1)
    for entry in found:
        if "size" in entry:
            entry["size"] = str(entry["size"])
    return found


def _convert(value: object) -> ListMessage:
    if value is None:
        return ListMessage()
    try:
        message = msgspec.convert(value, ListMessage)
    except msgspec.ValidationError as error:
        raise S3Error("InvalidRequest", f"failed to unmarshal the list-objects message: {error}") from None
    if message.pagesize < 0:
        raise S3Error("InvalidRequest", f"invalid page size {message.pagesize}")
    return message


def _flags(text: str | int) -> int:
    try:
        flags = int(text or 0) if len(str(text)) < 20 else -1
    except ValueError:
        flags = -1
    if flags < 0:
        raise S3Error("InvalidRequest", f'invalid list-objects flags "{str(text)[:40]}"')
    for flag, what in ((_ARCH_DIR, "archives"), (_INVENTORY, "a bucket inventory"), (_DIFF, "a remote difference")):
        if flags & flag:
            raise errors.not_implemented(f"listing {what}")
    if flags & _NOT_CACHED:
        raise errors.not_implemented("listing what is not cached")
    return flags


def _wanted(text: str, flags: int) -> frozenset[str]:
    """The properties to send, beside the name. Raises InvalidRequest for one that AIStore does not have."""
    if flags & _NAME_ONLY:
        return frozenset()
    if flags & _NAME_SIZE:
        return frozenset({"size"})
    names = [name.strip() for name in text.split(",") if name.strip()] or ["name", "size"]
    if "all" in names:
        return frozenset(_FIELDS)
    for name in names:
        if name not in _FIELDS and name not in _SILENT:
            raise S3Error("InvalidRequest", f'unknown object property "{name[:80]}"')
    return frozenset(names)
