"""Plain GetObject and HeadObject (see ``plain``): answered at once."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from aisobj.errors import S3Error
from aisobj.protocol.conditions import parse_range, resolve
from aisobj.protocol.plain_signature import AGENT as AGENT_PLACE
from aisobj.protocol.plain_signature import CHECKSUM_MODE, RANGE, READS, PlainValues
from aisobj.protocol.presigned import PlainQuery, without_secrets
from aisobj.s3.answers import read_lines
from aisobj.s3.call import Context
from aisobj.s3.plain_head import (
    ACCEPT,
    AGENT,
    HOST,
    KEEP_ALIVE,
    TARGET,
    has_each_once,
    note_sender,
    sdk_headers,
    sdk_target,
)
from aisobj.web.request import PlainRequest

if TYPE_CHECKING:
    from aisobj.model import Principal
    from aisobj.web.channel import Channel

_match = re.compile(
    rb"(GET|HEAD) " + TARGET + rb" HTTP/1\.1\r\n" + HOST + ACCEPT + AGENT + ACCEPT + KEEP_ALIVE + rb"\r\n"
).fullmatch
_match_signed = re.compile(
    rb"(GET|HEAD) " + sdk_target(b"GetObject", b"HeadObject") + rb" HTTP/1\.1\r\n" + sdk_headers(READS) + rb"\r\n"
).fullmatch


class PlainReads:
    """A :data:`aisobj.web.site.Shortcut`."""

    #: Of the methods that it may know.
    FIRST_BYTES = (b"G", b"H")

    def __init__(self, context: Context) -> None:
        self._objects = context.store.objects
        self._authenticator = context.authenticator

    def __call__(self, channel: Channel, head: bytes) -> bool:
        if len(head) > channel.site.limits.head_bytes:
            return False
        started = channel.site.now()
        try:
            match = _match(head)
            if match is not None:
                method, uri, path, raw_bucket, key, *query, host, agent = match.groups()
                presigned: PlainQuery | None = query if query[0] is not None else None  # type: ignore[assignment]
                principal = self._authenticator.authenticate_bare(method, path, host, presigned)
                target = None if presigned is None else without_secrets(uri, path, presigned)
                with_checksum, wanted = False, None
            else:
                signed = self._read_signed(head)
                if signed is None:
                    return False
                (method, uri, path, raw_bucket, key), principal, values = signed
                agent, with_checksum, wanted = values[AGENT_PLACE], values[CHECKSUM_MODE] is not None, values[RANGE]
                target = uri
            if principal is None:
                return False
            bucket = raw_bucket.decode("ascii")
            found = self._objects.fetch(bucket, key, method == b"GET")
            if found.bucket.props.validate_warm_get:
                self._objects.check_inline(found)
            content: bytes | memoryview | None = found.inline if method == b"GET" else b""
            span = None
            if wanted is not None and content is not None:
                span, content = _cut(content, wanted, with_checksum)
        except Exception:  # the tree meets it too, and tells
            return False
        lines = read_lines(found.bucket, found.record, with_checksum, span)
        if lines is None or content is None:
            return False
        request = PlainRequest(channel, started, method, uri, path, bucket, key)
        request.operation = "GetObject" if method == b"GET" else "HeadObject"
        note_sender(request, principal, target, agent)
        channel.begin(request)
        request.respond_lines(200 if span is None else 206, lines, content)
        return True

    def _read_signed(self, head: bytes) -> tuple[list[bytes], Principal | None, PlainValues] | None:
        """One as SDKs send it, with a signature in ``Authorization`` (an open server looks at none): method, target,
        path, bucket and key; who asks; and the headers. Raises what the tree is to tell.
        """
        match = _match_signed(head)
        if match is None:
            return None
        method, uri, path, bucket, key, query, *values = match.groups()
        if not has_each_once(head, values):
            return None
        principal = self._authenticator.authenticate_plain(READS, method, path, query or b"", values)
        return [method, uri, path, bucket, key], principal, values


def _cut(content: bytes | memoryview, wanted: bytes, with_checksum: bool) -> tuple[tuple[int, int], bytes | memoryview]:
    """Offset and length of a range, and the bytes that it is. Raises S3Error where the tree is to look at it: it is
    none, there are no such bytes, or a checksum may be due.

    :param wanted: ``Range``.
    """
    spec = None if with_checksum else parse_range(wanted.decode("ascii"))
    if spec is None:
        raise S3Error("InvalidRange")
    offset, length = resolve(spec, len(content))
    return (offset, length), content[offset : offset + length]
