"""``/v1/buckets``: list, create, destroy, head, set and reset properties, list objects.

Source: AIStore ``ais/proxy.go`` (``httpbck*``) and ``api/bucket.go``; the calls of the Python SDK 2.0.0.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from aisobj.ais import listing, props
from aisobj.ais.base import (
    ActionMessage,
    Call,
    NativeResource,
    admit_parameters,
    is_remote_provider,
    split,
)
from aisobj.ais.errors import not_implemented
from aisobj.errors import S3Error
from aisobj.model import Bucket, BucketProps, BucketState
from aisobj.web.request import Request


async def get(call: Call) -> None:
    """List buckets, or the objects of one; the message says which where the path does not."""
    message = await call.message()
    if message.action not in ("", "list"):
        raise _unknown_action(message)
    if call.bucket:
        await listing.send_page(call, message.value)
        return
    found: list[Bucket] = []
    if not is_remote_provider(call.query.get("provider") or ""):
        found = call.store.buckets.list()
    call.send_json([{"name": bucket.name, "provider": "ais"} for bucket in found])


async def head(call: Call) -> None:
    """A bucket's properties, in a header."""
    _need_bucket(call)
    if "bsumm_remote" in call.query:
        raise not_implemented("the summary of a bucket")
    bucket = call.store.buckets.get(call.bucket)
    document = json.dumps(props.to_json(bucket), separators=(",", ":"))
    call.send((b"Ais-Bucket-Props", document.encode("ascii")))


async def post(call: Call) -> None:
    """Create a bucket. Every other action of POST is not there."""
    _need_bucket(call)
    message = await call.message()
    if message.action != "create-bck":
        raise _unknown_action(message)
    admit_parameters(call.query)
    wanted = call.context.props
    if message.value is not None:
        wanted = props.change(_template(wanted), wanted, message.value)
    await call.store.buckets.create(call.bucket, call.auth.principal.name, wanted)
    call.send()


async def patch(call: Call) -> None:
    """Set properties, or reset them to those of a new bucket."""
    _need_bucket(call)
    message = await call.message()
    admit_parameters(call.query)
    default = call.context.props
    if message.action == "reset-bprops":
        await call.store.buckets.update(call.bucket, lambda current: props.reset(current, default))
    elif message.action == "set-bprops":
        known = props.to_json(call.store.buckets.get(call.bucket))
        await call.store.buckets.update(call.bucket, lambda current: props.change(known, current, message.value))
    else:
        raise _unknown_action(message)
    call.send()


async def delete(call: Call) -> None:
    """Destroy a bucket with all that is in it, as AIStore does."""
    _need_bucket(call)
    message = await call.message()
    if message.action != "destroy-bck":
        raise _unknown_action(message)
    admit_parameters(call.query)
    await call.store.buckets.destroy(call.bucket)
    call.send()


def _need_bucket(call: Call) -> None:
    if not call.bucket:
        raise S3Error("InvalidBucketName")


def _template(default: BucketProps) -> Mapping[str, object]:
    """The document that a new bucket's properties are compared with."""
    return props.to_json(Bucket("", b"", 0, "", BucketState.ACTIVE, default))


def _unknown_action(message: ActionMessage) -> S3Error:
    if not message.action:
        return S3Error("InvalidRequest", "the action message is missing")
    return not_implemented(f'action "{message.action}"')


class BucketsResource(NativeResource):
    """``/v1/buckets``, ``/v1/buckets/`` and ``/v1/buckets/BUCKET``."""

    label = "V1Buckets"
    handlers = {b"GET": get, b"HEAD": head, b"POST": post, b"PATCH": patch, b"DELETE": delete}

    def target(self, request: Request) -> tuple[str, bytes]:
        bucket, key = split(request, b"/v1/buckets")
        if key:  # AIStore takes a prefix there, for summaries
            raise not_implemented("a path below a bucket")
        return bucket, b""
