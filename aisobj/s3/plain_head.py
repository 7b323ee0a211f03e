"""The head of a plain request (see ``plain``), as a regular expression, and what it says of its sender."""

from __future__ import annotations

from aisobj.model import Principal
from aisobj.protocol import names
from aisobj.protocol.presigned import PLAIN_QUERY, PlainQuery, without_secrets
from aisobj.web.request import PlainRequest

#: A target: all of it, path, bucket, key, and the groups of :data:`PlainQuery`. The path is the canonical one: nothing
#: in it is escaped.
TARGET = rb"((/s3/([a-z0-9.-]{3,63}+)/([A-Za-z0-9_.~/-]{1,%d}+))(?:\?%b)?+)" % (names.MAX_KEY_BYTES, PLAIN_QUERY)
#: Headers, whose names are as clients write them. Host is a group, and so is User-Agent.
HOST = rb"Host: ([A-Za-z0-9.-]++(?::[0-9]{1,5}+)?+)\r\n"
ACCEPT = rb"(?:Accept(?:-Encoding|-Language)?+: [!-~](?:[ -~]*[!-~])?\r\n){0,3}+"
AGENT = rb"(?:User-Agent: ([!-~](?:[ -~]*[!-~])?)\r\n)?+"
KEEP_ALIVE = rb"(?:Connection: [Kk]eep-[Aa]live\r\n)?+"


def note_sender(request: PlainRequest, principal: Principal, presigned: PlainQuery | None, agent: bytes | None) -> None:
    """For log and metrics."""
    if agent is not None:
        request.header = {b"user-agent": agent}.get
    if presigned is not None and not principal.anonymous:
        request.principal_name = principal.name
        request.logged_target = without_secrets(request.uri, request.path, presigned).decode("ascii")
