"""Every route of the server, read from the code that serves it: for tests that must leave nothing out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from aisobj.ais.base import NativeResource
from aisobj.ais.root import V1Resource
from aisobj.protocol.operations import Level, routes
from aisobj.root import RootResource
from aisobj.s3.call import Context

#: All that llhttp takes for a method, but those that the server refuses in the head.
# fmt: off
METHODS = (
    "GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "TRACE", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND",
    "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND", "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE",
    "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE", "MKCALENDAR", "LINK", "UNLINK",
)
# fmt: on
#: Those that something here answers to.
OURS = METHODS[:7]

#: Sub-resources that neither AWS has nor we.
UNKNOWN = ("newthing", "x-new")


class Route(NamedTuple):
    """One request line. ``tree``: the first part of the path that the server tells its trees apart by."""

    tree: str
    method: str
    target: str


def root_resource() -> Any:
    """The root with nothing behind it: what there is can be looked at, and nothing asked."""
    nothing: Any = None
    return RootResource(Context(nothing, nothing, nothing, nothing), nothing, nothing, nothing)


def trees() -> set[str]:
    """The paths under which, and ``leaves``, the paths at which something is served."""
    return {name.decode() for name in root_resource()._trees}


def leaves() -> set[str]:
    return {b"/".join(path).decode() for path in root_resource()._leaves}


def v1_children() -> dict[str, NativeResource]:
    """What is under ``/v1``, and the resource for whatever else is asked there."""
    nothing: Any = None
    root = V1Resource(nothing, nothing, nothing)
    found = {name.decode(): child for name, child in root.children.items()}
    return {**found, "anything": root._missing}


def s3_routes(bucket: str, key: str, methods: Sequence[str] = METHODS) -> Iterator[Route]:
    """Every operation that the table has, implemented or not, and what it has not."""
    paths = {Level.SERVICE: "/", Level.BUCKET: f"/{bucket}", Level.OBJECT: f"/{bucket}/{key}"}
    for tree, prefix in (("s3", "/s3"), ("root", "")):
        for level, sub_resource, operation in routes():
            yield Route(tree, operation.method, f"{prefix}{paths[level]}{'?' if sub_resource else ''}{sub_resource}")
        for path in paths.values():
            for method in methods:
                yield Route(tree, method, f"{prefix}{path}")
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                for name in UNKNOWN:
                    yield Route(tree, method, f"{prefix}{path}?{name}")


def v1_routes(bucket: str, key: str, methods: Sequence[str] = METHODS) -> Iterator[Route]:
    """Every resource under ``/v1`` with every method, handled or not."""
    paths = {
        "buckets": ("", f"/{bucket}"),
        "objects": ("", f"/{bucket}", f"/{bucket}/{key}"),
        "daemon": ("?what=smap",),
    }
    for name in v1_children():
        for path in paths.get(name, ("",)):
            for method in methods:
                yield Route("v1", method, f"/v1/{name}{path}")


def every_route(bucket: str, key: str, methods: Sequence[str] = METHODS) -> Iterator[Route]:
    """Each once."""
    seen = set()
    for route in (*s3_routes(bucket, key, methods), *v1_routes(bucket, key, methods)):
        if route not in seen:
            seen.add(route)
            yield route
    for path in leaves():
        for method in methods:
            yield Route(path, method, f"/{path}")
