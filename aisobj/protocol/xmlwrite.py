"""The documents that S3 answers with.

Source: the "Response Syntax" of each operation in AWS's API reference. Each function returns the whole body.
"""

from __future__ import annotations

from aisobj.errors import S3Error
from aisobj.protocol.xmltext import DECLARATION, escape_readable


def error_document(error: S3Error, resource: str, request_id: str, host_id: str = "") -> bytes:
    """The ``Error`` document (it has no namespace). It always parses, whatever the client put into its request.

    :param resource: the path of the request, decoded, e.g. ``/bucket/key``; "" leaves the element out.
    :param request_id: what ``x-amz-request-id`` says; "" leaves the element out.
    :param host_id: what ``x-amz-id-2`` says; "" leaves the element out.
    """
    elements = {"Code": error.code, "Message": error.message, **error.detail}
    elements |= {name: text for name, text in _tail(resource, request_id, host_id) if text}
    inner = "".join(f"<{name}>{escape_readable(text)}</{name}>" for name, text in elements.items())
    return f"{DECLARATION}<Error>{inner}</Error>".encode()


def _tail(resource: str, request_id: str, host_id: str) -> tuple[tuple[str, str], ...]:
    return ("Resource", resource), ("RequestId", request_id), ("HostId", host_id)
