"""DeleteObject and DeleteObjects."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred, gatherResults

from aisobj.errors import S3Error, StorageError
from aisobj.model import Bucket, ObjectRecord
from aisobj.protocol import names, xml
from aisobj.protocol.conditions import WritePrecondition
from aisobj.s3.call import Call
from aisobj.s3.versions import is_current, version_headers
from aisobj.storage.objects import any_current
from aisobj.web.rendering import as_s3_error
from aisobj.web.upload import read_document

#: 1,000 keys of 1,024 bytes with their elements, escaped at their longest.
_MAX_DOCUMENT = 8 << 20
#: So many keys of one DeleteObjects are under way at once: they share a commit, and the reactor has its turn between.
_AT_ONCE = 100


class _NoSuchVersion(Exception):
    """The version that the client names is not there (any more), so there is nothing to delete."""


def delete_object(call: Call) -> Coroutine[Deferred[Any], Any, None] | Deferred[None]:
    """DeleteObject: 204 also where there is none. Of what is there, without conditions, it takes no coroutine."""
    if call.query.get("versionId") is None and call.request.header(b"if-match") is None:
        deleting = call.store.objects.delete_at_once(call.bucket_name, call.key)
        if deleting is not None:
            return deleting.addCallback(lambda _: call.send_empty(204))
    return _delete_object(call)


async def _delete_object(call: Call) -> None:
    version_id = call.query.get("versionId")
    match = call.text_header("if-match")
    if version_id is None and match is None:  # the deletion itself finds the bucket, or that there is none
        await call.store.objects.delete(call.bucket_name, call.key, any_current)
        call.send_empty(204)
        return
    bucket = call.bucket()
    precondition = WritePrecondition.parse(lambda name: match if name == "if-match" else None)
    await _delete(call, bucket, xml.DeleteKey(call.key, version_id), precondition)
    call.send_empty(204, *version_headers(bucket, version_id))


async def delete_objects(call: Call) -> None:
    """DeleteObjects: each key has its own result, and none keeps another from being deleted."""
    bucket = call.bucket()
    document = await read_document(call.request, call.auth, _MAX_DOCUMENT, required=True, digest_required=True)
    wanted, quiet = await call.read(document, xml.read_delete)
    results: list[xml.Deleted | xml.DeleteFailed] = []
    call.request.outcomes = []
    for start in range(0, len(wanted), _AT_ONCE):
        batch = [Deferred.fromCoroutine(_result(call, bucket, key)) for key in wanted[start : start + _AT_ONCE]]
        results.extend(await gatherResults(batch))
    call.send_xml(xml.delete_result(results, quiet=quiet))


async def _result(call: Call, bucket: Bucket, wanted: xml.DeleteKey) -> xml.Deleted | xml.DeleteFailed:
    try:
        names.check_key(wanted.key)
        # As DeleteObject with If-Match, also in what a key is told that is not there (AWS, "conditional deletes").
        await _delete(call, bucket, wanted, WritePrecondition(if_match=wanted.etag))
    except (S3Error, StorageError) as error:
        failed = xml.DeleteFailed(wanted.key, as_s3_error(error), wanted.version_id)
        _note(call, wanted, failed.error.code)
        return failed
    _note(call, wanted, None)
    return xml.Deleted(wanted.key, wanted.version_id)


def _note(call: Call, wanted: xml.DeleteKey, error: str | None) -> None:
    if call.request.outcomes is not None:
        call.request.outcomes.append((wanted.key, error))


async def _delete(call: Call, bucket: Bucket, wanted: xml.DeleteKey, precondition: WritePrecondition) -> None:
    def check(current: ObjectRecord | None) -> None:
        if wanted.version_id is not None and not is_current(bucket, current, wanted.version_id):
            raise _NoSuchVersion
        precondition.check(current)
        if current is not None and not _holds(wanted, current):
            raise S3Error("PreconditionFailed")

    with contextlib.suppress(_NoSuchVersion):
        await call.store.objects.delete(bucket.name, wanted.key, check)


def _holds(wanted: xml.DeleteKey, current: ObjectRecord) -> bool:
    """The conditions inside a DeleteObjects document that no header says."""
    return wanted.size in (None, current.size) and wanted.last_modified in (None, current.mtime // 10**9 * 10**9)
