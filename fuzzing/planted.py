"""``python -m fuzzing.planted``: each target is shown to find what it is there for.

A bug is planted in the server's code (some are those that fuzzing once found there), its target runs, and must break a
promise. A line of JSON for each; exit status 1 where a bug was not found, and then the target is blind.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch
from urllib.parse import unquote_to_bytes

import msgspec

from aisobj import signing
from aisobj.ais import listing as native_listing
from aisobj.errors import S3Error
from aisobj.protocol import (
    awschunked,
    conditions,
    credentials,
    listing,
    metadata,
    names,
    plain_signature,
    presigned,
    query,
    sigv4,
    xmlread,
)
from aisobj.protocol import signing as verifying
from aisobj.s3 import plain_reads, plain_sdk_writes, plain_writes
from aisobj.storage import blob_format, records
from aisobj.web import accesslog, channel, framing, head
from fuzzing import judge, worker
from fuzzing.targets import conditions as targets

RUNS = 60_000  #: inputs at most until a bug is found
_LEAKING_RUNS = 3000  #: and where it is what is kept of all of them


@dataclass(frozen=True, slots=True)
class Bug:
    """:ivar kind: of the promise that it breaks. ``attribute`` of ``owner`` is replaced by ``replacement``."""

    target: str
    kind: str
    owner: object
    attribute: str
    replacement: object

    @contextmanager
    def planted(self) -> Iterator[None]:
        with ExitStack() as stack:
            stack.enter_context(patch.object(self.owner, self.attribute, self.replacement))
            if self.kind == "time":
                stack.enter_context(patch.object(judge, "ALARM", 1.0))
            yield


def _forgets_what_it_held(self: Any, view: memoryview, position: int) -> int:
    """``Decoder._take_data_end`` for which a CRLF never comes in two pieces."""
    if bytes(view[position : position + 2]) != b"\r\n":
        raise S3Error("IncompleteBody")
    self._state = awschunked._State.HEAD
    return position + 2


def _forgets_the_line(self: Any, data: bytes, at: int) -> int:
    """``ChunkedFraming._take_line`` for which a line never comes in two pieces."""
    self._line = b""
    return _take_line(self, data, at)


_take_line = framing.ChunkedFraming._take_line


def _tells_all(section: Any) -> tuple[str, str, str]:
    raise ValueError(f"[{section.name}]: {dict(section)}")


_leaked: list[bytearray] = []


def _keeps(value: str, parse: Callable[[str], Any] = conditions.parse_range) -> Any:
    _leaked.append(bytearray(1 << 16))
    return parse(value)


def _squares(value: str, parse: Callable[[str], Any] = conditions.parse_range) -> Any:
    """Takes time in the square of the length."""
    if len(value) > 1000:
        [value[at:].count("-") for at in range(len(value)) for _ in range(300)]
    return parse(value)


def _looks_past_range(head: bytes, match: Callable[[bytes], Any] = plain_reads._match) -> Any:
    return match(re.sub(rb"\r\nRange: [!-~]+", b"", head))


def _looks_past_if_match(data: bytes, start: int, end: int, match: Any = plain_writes._match) -> Any:
    return match(re.sub(rb"\r\nIf-Match: [!-~]+", b"", data[:end]))


BUGS = (
    Bug("xml", "declared errors", xmlread, "_integer", int),
    Bug("xml", "another reader", xmlread, "_unquote", lambda text: text.strip('" ')),
    Bug("xml", "round trip", xmlread, "_substitute", lambda body: (body.replace(b"&#x1;", b"1"), None)),
    Bug("sigv4-header", "safety", sigv4, "_check_signed", lambda fields, signed: None),
    Bug("sigv4-header", "declared errors", verifying, "_MAX_ZONE", 1 << 70),  # was there
    Bug(
        "sigv4-presigned",
        "another reader",
        presigned,
        "_CANONICAL",
        presigned._CANONICAL.replace(b"Expires", b"expires"),
    ),
    Bug("sigv4-own", "safety", signing, "canonical_query", lambda pairs: b"&".join(sorted(name for name, _ in pairs))),
    Bug("aws-chunked", "any pieces", awschunked.Decoder, "_take_data_end", _forgets_what_it_held),
    Bug("aws-chunked", "another reader", awschunked, "MIN_SIGNED_CHUNK", 100),
    Bug("http-body", "any pieces", framing.ChunkedFraming, "_take_line", _forgets_the_line),
    Bug("http-body", "another reader", framing, "_TRAILER_LINE", re.compile(rb".*")),
    Bug("head", "another reader", head, "_merge_repeated", lambda headers, fields: None),
    Bug(
        "connection", "any pieces", channel, "_without_empty_lines", lambda nothing, data: data.removeprefix(b"\r\n")
    ),  # was there
    Bug("plain-read", "another reader", plain_reads, "_match", _looks_past_range),
    Bug("plain-read", "safety", presigned, "is_signed", lambda canonical, claim, signature, key: True),
    Bug("plain-read", "safety", plain_signature, "is_signed", lambda canonical, claim, signature, key: True),
    Bug("plain-read", "safety", plain_signature.READS, "signed_if_there", ()),
    Bug("plain-read", "another reader", plain_reads, "has_each_once", lambda head, values: True),
    Bug("plain-read", "another reader", plain_reads, "resolve", lambda spec, size: (spec.first or 0, 1)),
    Bug("plain-read", "safety", accesslog, "_target", lambda uri: uri.decode("ascii")),
    Bug("plain-write", "another reader", plain_writes, "_match", _looks_past_if_match),
    Bug(
        "plain-write", "another reader", plain_writes.PlainWrites, "_is_whole", lambda self, method, lengths, body: True
    ),
    Bug("plain-write", "safety", plain_signature, "is_signed", lambda canonical, claim, signature, key: True),
    Bug("plain-write", "safety", plain_signature.WRITES, "signed_if_there", ()),
    Bug("plain-write", "another reader", plain_sdk_writes, "has_each_once", lambda head, values: True),
    Bug("plain-write", "another reader", plain_sdk_writes, "_is_announced", lambda values: True),
    Bug("plain-write", "safety", plain_writes, "write_lines", lambda bucket, record: b"Content-Length: 0\r\n"),
    Bug("range", "another reader", conditions, "_number", lambda text: int(text[:9]) if text else None),
    Bug("range", "memory", targets, "parse_range", _keeps),
    Bug("range", "time", targets, "parse_range", _squares),
    Bug("conditions", "another reader", conditions._EntityTags, "match_strongly", conditions._EntityTags.match_weakly),
    Bug("dates", "declared errors", verifying, "_MAX_ZONE", 1 << 70),  # was there
    Bug("names", "round trip", names, "decode_path", lambda raw: unquote_to_bytes(raw).replace(b"//", b"/")),
    Bug("query", "another reader", query, "unquote_to_bytes", lambda text: unquote_to_bytes(unquote_to_bytes(text))),
    Bug("query", "idempotence", signing, "_encode", lambda text: text.replace(b"%", b"%25")),
    Bug("metadata", "safety", metadata, "_is_token", bool),  # was there
    Bug("listing", "another reader", listing, "_past_group", lambda after, prefix, delimiter: b""),
    Bug("native", "declared errors", native_listing, "_flags", int),
    Bug("stored", "declared errors", records, "UNREADABLE", (msgspec.MsgspecError,)),  # was there
    Bug("stored", "declared errors", blob_format, "UNREADABLE", (msgspec.MsgspecError,)),  # was there
    Bug("users", "safety", credentials, "_user", _tells_all),
)


def find(bug: Bug, seed: int) -> dict[str, Any]:
    """What its target found."""
    runs = _LEAKING_RUNS if bug.kind == "memory" else RUNS
    options = worker.arguments().parse_args(["--runs", str(runs), "--seconds", "120", "--seed", str(seed)])
    options.target, options.first = bug.target, True
    began = time.monotonic()
    with bug.planted():
        line = worker.by_mutations(options)
    crashes = [crash["trace"].strip().splitlines()[-1][:160] for crash in line["crashes"]]
    took = round(time.monotonic() - began, 1)
    return {"target": bug.target, "kind": bug.kind, "executions": line["executions"], "seconds": took, "found": crashes}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m fuzzing.planted", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    seed = parser.parse_args().seed
    blind = 0
    for bug in BUGS:
        line = find(bug, seed)
        print(json.dumps({"seed": seed, **line}), flush=True)
        blind += not line["found"]
        _leaked.clear()
    sys.exit(1 if blind else 0)


if __name__ == "__main__":
    main()
