"""A bucket: life and death, location, versioning, listings. DeleteObjects is in ``deleting``."""

from __future__ import annotations

import msgspec
from twisted.web.resource import IResource

from aisobj.errors import S3Error
from aisobj.model import BucketProps, VersioningStatus
from aisobj.protocol import xml
from aisobj.protocol.listing import Slices
from aisobj.protocol.listparams import ListParams, UploadsParams, VersionsParams
from aisobj.protocol.operations import Level
from aisobj.s3.call import DEFAULT_REGION, Call, Context, S3Resource
from aisobj.s3.deleting import delete_objects
from aisobj.s3.object import ObjectResource
from aisobj.s3.versions import listed
from aisobj.web.request import Request
from aisobj.web.upload import read_document

#: AWS gives no limit for configuration documents; ours are tiny.
_MAX_DOCUMENT = 1 << 20


async def create_bucket(call: Call) -> None:
    """CreateBucket. A LocationConstraint must be the server's region, if it has one."""
    document = await read_document(call.request, call.auth, _MAX_DOCUMENT)
    location = await call.read(document, xml.read_create_bucket)
    if location and call.context.region and location != call.context.region:
        raise S3Error("InvalidLocationConstraint", LocationConstraint=location)
    await call.store.buckets.create(call.bucket_name, call.auth.principal.name, call.context.props)
    call.send_empty(200, (b"Location", b"/" + call.bucket_name.encode()))


def head_bucket(call: Call) -> None:
    """HeadBucket."""
    call.bucket()
    call.send_empty(200, (b"x-amz-bucket-region", _region(call).encode()), (b"Content-Type", b"application/xml"))


async def delete_bucket(call: Call) -> None:
    """DeleteBucket."""
    await call.store.buckets.delete(call.bucket_name)
    call.send_empty(204)


def get_bucket_cors(call: Call) -> None:
    """GetBucketCors: no bucket has a configuration (``protocol.cors``)."""
    call.bucket()
    raise S3Error("NoSuchCORSConfiguration", BucketName=call.bucket_name)


def get_bucket_location(call: Call) -> None:
    """GetBucketLocation."""
    call.bucket()
    call.send_xml(xml.location_constraint(_region(call)))


def get_bucket_versioning(call: Call) -> None:
    """GetBucketVersioning."""
    call.send_xml(xml.versioning_configuration(call.bucket().props.versioning_status))


async def put_bucket_versioning(call: Call) -> None:
    """PutBucketVersioning: sets S3's status and AIStore's ``versioning.enabled`` alike."""
    call.bucket()
    document = await read_document(call.request, call.auth, _MAX_DOCUMENT, required=True)
    status = await call.read(document, xml.read_versioning)

    def change(props: BucketProps) -> BucketProps:
        enabled = status is VersioningStatus.ENABLED
        return msgspec.structs.replace(props, versioning_status=status, versioning_enabled=enabled)

    await call.store.buckets.update(call.bucket_name, change)
    call.send_empty(200)


async def list_objects(call: Call) -> None:
    """ListObjects."""
    await _list(call, ListParams.parse(call.query, 1))


async def list_objects_v2(call: Call) -> None:
    """ListObjectsV2."""
    await _list(call, ListParams.parse(call.query, 2))


async def _list(call: Call, params: ListParams) -> None:
    document = await call.store.turns.run(_page(call, params))
    call.send_xml(document, (b"x-amz-bucket-region", _region(call).encode()))


def _page(call: Call, params: ListParams) -> Slices[bytes]:
    page = yield from call.store.objects.list(call.bucket_name, params)
    return (yield from xml.list_objects(params, call.bucket_name, page, call.context.owner))


async def list_object_versions(call: Call) -> None:
    """ListObjectVersions: of each object the current version, which is the only one that there is.

    Tools that empty a bucket of its versions (Terraform's ``force_destroy``, boto3's ``object_versions``) ask for it.
    """
    call.send_xml(await call.store.turns.run(_versions_page(call, VersionsParams.parse(call.query))))


def _versions_page(call: Call, params: VersionsParams) -> Slices[bytes]:
    bucket = call.bucket()
    page = yield from call.store.objects.list(call.bucket_name, params.keys)
    return (yield from xml.list_object_versions(params, bucket.name, page, call.context.owner, listed(bucket)))


def list_multipart_uploads(call: Call) -> None:
    """ListMultipartUploads."""
    params = UploadsParams.parse(call.query)
    page = call.store.uploads.list(call.bucket(), params)
    call.send_xml(xml.list_multipart_uploads(params, call.bucket_name, page))


def _region(call: Call) -> str:
    return call.context.region or DEFAULT_REGION


class BucketResource(S3Resource):
    """``/s3/BUCKET`` and ``/s3/BUCKET/``; what follows the slash, whatever it holds, is one key."""

    isLeaf = False
    level = Level.BUCKET
    handlers = {
        "CreateBucket": create_bucket,
        "HeadBucket": head_bucket,
        "DeleteBucket": delete_bucket,
        "GetBucketCors": get_bucket_cors,
        "GetBucketLocation": get_bucket_location,
        "GetBucketVersioning": get_bucket_versioning,
        "PutBucketVersioning": put_bucket_versioning,
        "ListObjects": list_objects,
        "ListObjectsV2": list_objects_v2,
        "ListObjectVersions": list_object_versions,
        "ListMultipartUploads": list_multipart_uploads,
        "DeleteObjects": delete_objects,
    }

    def __init__(self, context: Context, bucket_name: str) -> None:
        super().__init__(context, bucket_name)
        self._object = ObjectResource(context, bucket_name)

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        rest = request.postpath
        if not path and not rest:
            return self
        request.key = b"/".join((path, *rest)) if rest else path
        return self._object
