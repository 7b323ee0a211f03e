"""The head of a plain request (see ``plain``), as a regular expression, and what it says of its sender."""

from __future__ import annotations

from aisobj.model import Principal
from aisobj.protocol import names
from aisobj.protocol.plain_signature import READS, PlainHeaders, PlainValues
from aisobj.protocol.presigned import PLAIN_QUERY
from aisobj.web.request import PlainRequest

#: A path, which is the canonical one (nothing in it is escaped), and in it bucket and key.
PATH = rb"(/s3/([a-z0-9.-]{3,63}+)/([A-Za-z0-9_.~/-]{1,%d}+))" % names.MAX_KEY_BYTES
#: A target: all of it, path, bucket, key, and the groups of ``presigned.PlainQuery``.
TARGET = rb"(%b(?>(?:\?%b)?))" % (PATH, PLAIN_QUERY)
#: Headers, whose names are as clients write them. Host is a group, and so is User-Agent.
HOST = rb"Host: (%b)\r\n" % READS.values[b"host"]
ACCEPT = rb"(?>(?:Accept(?>(?:-Encoding|-Language)?): [!-~](?:[ -~]*[!-~])?\r\n){0,3})"
AGENT = rb"(?>(?:User-Agent: ([!-~](?:[ -~]*[!-~])?)\r\n)?)"
KEEP_ALIVE = rb"(?>(?:Connection: %b\r\n)?)" % READS.values[b"connection"]


def sdk_target(*operations: bytes) -> bytes:
    """A target: all of it, path, bucket, key, and the query, which only says again what the method says (AWS's SDKs for
    Go and JavaScript)."""
    return rb"(%b(?>(?:\?(x-id=(?:%b)))?))" % (PATH, b"|".join(operations))


def sdk_headers(headers: PlainHeaders) -> bytes:
    """Some of them, in any order, a group for each; of one that comes twice the last (:func:`has_each_once`)."""
    each = [rb"%b: (%b)\r\n" % (_spelled(name), value) for name, value in headers.values.items()]
    return rb"(?:%b)*" % b"|".join(each)


def _spelled(name: bytes) -> bytes:
    """A header's name as SDKs write it: the words of it in lower case, or with a capital, and SHA and MD5."""
    words = [b"[%b%b]%b" % (word[:1].upper(), word[:1], word[1:]) for word in name.split(b"-")]
    return b"-".join(words).replace(b"[Ss]ha256", b"(?:[Ss]ha|SHA)256").replace(b"[Mm]d5", b"(?:[Mm]d|MD)5")


def has_each_once(head: bytes, values: PlainValues) -> bool:
    """Whether no header of a head came twice of which :func:`sdk_headers` has found the ``values``."""
    return head.count(b"\r\n") - 2 == len(values) - values.count(None)


def note_sender(request: PlainRequest, principal: Principal, target: bytes | None, agent: bytes | None) -> None:
    """For log and metrics.

    :param target: that was signed, without secrets.
    :param agent: ``User-Agent``, of a request that has no headers else.
    """
    if agent is not None:
        request.header = {b"user-agent": agent}.get
    if target is not None and not principal.anonymous:
        request.principal_name = principal.name
        request.logged_target = target.decode("ascii")
