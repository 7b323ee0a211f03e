"""The S3 tree: the service, under which buckets are, under which objects are. ListBuckets."""

from __future__ import annotations

from functools import lru_cache

from twisted.web.resource import IResource

from aisobj.model import Bucket
from aisobj.protocol import xml
from aisobj.protocol.listparams import BucketsParams
from aisobj.protocol.operations import Level
from aisobj.s3.bucket import BucketResource
from aisobj.s3.call import DEFAULT_REGION, Call, Context, S3Resource
from aisobj.web.request import Request


def list_buckets(call: Call) -> None:
    """ListBuckets. All are in one region, so the filter by ``bucket-region`` lets all pass or none."""
    params = BucketsParams.parse(call.query)
    region = call.context.region or DEFAULT_REGION
    found: list[Bucket] = []
    if params.region in ("", region):
        found = call.store.buckets.list(params.prefix.decode(), params.after.decode(), params.max_buckets + 1)
    page = found[: params.max_buckets]
    call.send_xml(
        xml.list_buckets(
            params,
            call.context.owner,
            [(bucket.name, bucket.created) for bucket in page],
            region=region,
            next_after=page[-1].name.encode() if len(found) > len(page) else b"",
        )
    )


#: Resources of so many buckets are kept, whether the buckets exist or not.
_BUCKETS = 256


class ServiceResource(S3Resource):
    """``/s3`` and ``/s3/``; also what the root of the server falls back to."""

    isLeaf = False
    level = Level.SERVICE
    handlers = {"ListBuckets": list_buckets}

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._bucket = lru_cache(maxsize=_BUCKETS)(self._make_bucket)

    def _make_bucket(self, name: bytes) -> BucketResource:
        return BucketResource(self.context, name.decode("utf-8", "replace"))

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        if not path and not request.postpath:
            return self
        return self._bucket(path)
