"""The JSON messages of AIStore's API, and what they ask for."""

from __future__ import annotations

import msgspec

from aisobj.ais import listing, props
from aisobj.ais.base import read_message
from aisobj.checksums import CHECKSUM_TYPES
from aisobj.model import Bucket, BucketProps, BucketState
from fuzzing.target import Label, Target, attempt, demand, kind, same, words

_PROPS = BucketProps()
_DOCUMENT = props.to_json(Bucket("bucket", bytes(16), 1, "me", BucketState.ACTIVE, _PROPS))


def check(data: bytes) -> Label:
    message, error = attempt(lambda: read_message(data))
    if message is None:
        assert error is not None
        return kind(error)
    if data.strip():
        same(read_message(msgspec.json.encode(message)), message, "a message, written and read, is the same")
    return _page(message.value), _change(message.value)


def _page(value: object) -> Label:
    page, error = attempt(lambda: listing.read_request(value))
    if page is None:
        assert error is not None
        return kind(error)
    demand(1 <= page.params.max_keys <= 1000, "a page has 1 to 1,000 entries", page)
    page.params.prefix.decode()
    page.params.after.decode()
    return len(page.properties), page.directories, bool(page.params.delimiter)


def _change(value: object) -> Label:
    changed, error = attempt(lambda: props.change(_DOCUMENT, _PROPS, value))
    if changed is None:
        assert error is not None
        return kind(error)
    demand(changed.checksum_type in CHECKSUM_TYPES, "a checksum that there is", changed)
    document = props.to_json(Bucket("bucket", bytes(16), 1, "me", BucketState.ACTIVE, changed))
    document = {name: part for name, part in document.items() if name not in ("provider", "bid", "created")}
    same(props.change(_DOCUMENT, _PROPS, document), changed, "what is shown, set again, is the same")
    return changed != _PROPS


TARGETS = [
    Target(
        "native",
        check,
        "S3 errors only; a message and a bucket's properties, written and read again, are the same; pages in bounds",
        words(
            r"""
            {"action": "value": "list" { } [ ] , : "checksum":{"type":"md5"} "flags":"8" null
            "pagesize": "prefix":" "props":"name,size" true 1e400 "\\ud800"
            "versioning":{"enabled":false} "ec":{"enabled":true} "uuid":"a" -1 "access":"0"
            [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[ "continuation_token":"
            """
        ),
        65536,
    )
]
