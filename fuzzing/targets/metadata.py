"""The headers that an object keeps, also those that a presigned URL carries in its query (the first line)."""

from __future__ import annotations

import re

from aisobj.protocol.metadata import (
    DEFAULT_CONTENT_TYPE,
    MAX_USER_METADATA,
    parse_object_headers,
    response_headers,
    response_overrides,
)
from aisobj.protocol.query import parse_query
from fuzzing.target import Label, Target, attempt, demand, kind, same, words

#: RFC 9110 section 5: what may stand in an answer.
_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+").fullmatch
_VALUE = re.compile(rb"[\t -~\x80-\xff]*").fullmatch
#: What a head parser lets through.
_SENT_NAME = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+").fullmatch


def check(data: bytes) -> Label:
    first, *lines = data.split(b"\n")
    fields = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
    if not all(_SENT_NAME(name) for name, _ in fields):
        return None
    query, _ = attempt(lambda: parse_query(first))
    if query is None:
        return None
    overrides, _ = attempt(lambda: response_overrides(query))
    found, refused = attempt(lambda: parse_object_headers([*fields, *query.hoisted()]))
    if found is None:
        assert refused is not None
        return kind(refused)
    content_type, headers = found
    sent = response_headers(content_type, headers)
    _check_fields(sent)
    if overrides is not None:
        _check_fields(response_headers(content_type, headers, overrides))
    size = sum(
        len(name) - len("x-amz-meta-") + len(value) for name, value in headers.items() if name[:11] == "x-amz-meta-"
    )
    demand(size <= MAX_USER_METADATA, "user metadata has a limit", size)
    again = parse_object_headers((name.lower(), value) for name, value in sent)
    same(again, (content_type or DEFAULT_CONTENT_TYPE, headers), "what we send, sent to us, is the same")
    return len(headers), content_type == "", overrides is None, len(query.hoisted())


def _check_fields(fields: list[tuple[bytes, bytes]]) -> None:
    for name, value in fields:
        demand(_NAME(name) is not None, "a name that can stand in an answer", name)
        demand(_VALUE(value) is not None, "a value that can stand in an answer", value)
    names = [name.lower() for name, _ in fields]
    demand(len(set(names)) == len(names), "each header once", names)


TARGETS = [
    Target(
        "metadata",
        check,
        "refused, or headers that can stand in an answer, once each, in their limit; sent back to us they are the same",
        words(
            r"""
            \nx-amz-meta- \ncontent-type:\x20 \ncontent-encoding:\x20 aws-chunked gzip ,\x20
            \ncache-control:\x20 :\x20 \nexpires:\x20 \ncontent-disposition:\x20 x-amz-meta-a=b
            &X-Amz-Meta- %0D%0A %00 %20 %3A %E2%84%AA response-content-type= response-expires= & =
            \xc3\xa9 %C3%89 =?UTF-8?B?4pyT?= \t \x20
            """
        ),
        4096,
    )
]
