"""The root of the URL space: ``/s3``, ``/v1``, ``/-/``, ``/metrics``, and S3 once more for whatever is none of these.

``s3``, ``v1`` and ``-`` are too short to be names of buckets, so nothing is hidden but a bucket called ``metrics``
(which is still there as ``/s3/metrics``).
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.web.resource import IResource, Resource

from aisobj.ais.root import V1Resource
from aisobj.metrics import Gauges, Metrics
from aisobj.s3.call import Context
from aisobj.s3.service import ServiceResource
from aisobj.web.health import HealthResource, MetricsResource, ReadyResource, State
from aisobj.web.request import Request


class RootResource(Resource):
    """Answers every path; Twisted's own 404 page is never reached.

    :param context: of the S3 resources; ``/v1`` works on the same store with the same users.
    """

    def __init__(self, context: Context, state: State, metrics: Metrics, gauges: Callable[[], Gauges]) -> None:
        Resource.__init__(self)
        authenticator = context.authenticator
        self._service = ServiceResource(context)
        self._trees: dict[bytes, IResource] = {
            b"s3": self._service,
            b"v1": V1Resource(context.store, authenticator, context.props),
        }
        self._leaves: dict[tuple[bytes, ...], IResource] = {
            (b"metrics",): MetricsResource(metrics, authenticator),
            (b"-", b"health"): HealthResource(),
            (b"-", b"ready"): ReadyResource(state, authenticator, gauges),
        }

    def getChildWithDefault(self, path: bytes, request: Request) -> IResource:
        found = self._trees.get(path) or self._leaves.get((path, *request.postpath))
        return found or self._service.getChildWithDefault(path, request)
