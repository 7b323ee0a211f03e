"""``/v1``: AIStore's native API, as far as it makes sense on one node. What is missing answers 501 in its own form."""

from __future__ import annotations

from twisted.web.resource import IResource, Resource

from aisobj.ais.base import Call, Context, NativeResource
from aisobj.ais.buckets import BucketsResource
from aisobj.ais.daemon import ClusterResource, DaemonResource, HealthResource
from aisobj.ais.errors import not_implemented
from aisobj.ais.objects import ObjectsResource
from aisobj.model import BucketProps
from aisobj.storage.store import ObjectStore
from aisobj.web.auth import Authenticator
from aisobj.web.request import Request


async def _missing(call: Call) -> None:
    raise not_implemented(f"{call.request.method.decode('latin-1')} {call.request.path.decode('latin-1')}")


class _MissingResource(NativeResource):
    """Whatever else AIStore has: jobs, ETL, dSort, get-batch, downloads."""

    label = "V1Missing"
    handlers = {method: _missing for method in (b"GET", b"HEAD", b"PUT", b"POST", b"PATCH", b"DELETE")}


class V1Resource(Resource):
    """To be put at ``/v1`` of the root resource.

    :param default_props: of buckets that are created here, and what a reset of properties goes back to.
    """

    def __init__(self, store: ObjectStore, authenticator: Authenticator, default_props: BucketProps) -> None:
        Resource.__init__(self)
        context = Context(store, authenticator, default_props)
        self._missing = _MissingResource(context)
        self.putChild(b"buckets", BucketsResource(context))
        self.putChild(b"objects", ObjectsResource(context))
        self.putChild(b"daemon", DaemonResource(context))
        self.putChild(b"cluster", ClusterResource(context))
        self.putChild(b"health", HealthResource(context))

    def getChild(self, path: bytes, request: Request) -> IResource:
        return self._missing

    def render(self, request: Request) -> int:
        return self._missing.render(request)
