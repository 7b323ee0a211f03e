"""The one edge between coroutines and responses: an operation runs, and whatever it raises becomes an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET

from aisobj.errors import S3Error, StorageError, StoreBusy, StoreFull, StoreReadOnly
from aisobj.storage.engine import slow_down
from aisobj.web.auditlog import READS
from aisobj.web.request import Request

_log = Logger()


def as_s3_error(error: BaseException) -> S3Error:
    """What a client is told of an error that is not S3's own; the details are for the log."""
    if isinstance(error, S3Error):
        return error
    if isinstance(error, (StoreFull, StoreBusy)):
        return slow_down(error)
    if isinstance(error, StoreReadOnly):
        return S3Error("ServiceUnavailable")
    return S3Error("InternalError")


class OperationResource(Resource):
    """A resource whose requests are coroutines. A subclass says what to do, and how an error is written."""

    isLeaf = True

    def handle(self, request: Request) -> Deferred[None] | None:
        """Answer the request, at once (None) or later. May raise."""
        raise NotImplementedError

    def render_error(self, request: Request, error: S3Error) -> None:
        """Write the answer to a failed request; no head has been sent."""
        raise NotImplementedError

    def name_what_was_asked(self, request: Request) -> None:
        """For the audit log: set the operation, the bucket and the key of a request that was refused before anybody
        looked at them, as far as it names any.
        """

    def render(self, request: Request) -> int:
        """twisted.web's entry."""
        self.run(request, self.handle)
        return NOT_DONE_YET

    def run(self, request: Request, handle: Callable[[Request], Deferred[None] | None]) -> None:
        """Have a request answered, or tell what it fails with."""
        try:
            running = handle(request)
        except Exception:
            self._failed(Failure(), request)
        else:
            if running is not None:
                self.watch(running, request)

    def watch(
        self, running: Deferred[Any], request: Request, answer: Callable[[Any, Request], None] | None = None
    ) -> None:
        """See to what is left of an operation when it ends: its ``answer``, if it did not give one, and its line in the
        audit log; or the answer to its failure."""
        running.addCallbacks(self._ended, self._failed_later, callbackArgs=(request, answer), errbackArgs=(request,))

    def _ended(self, result: Any, request: Request, answer: Callable[[Any, Request], None] | None) -> None:
        try:
            if answer is not None:
                answer(result, request)
            if request.method not in READS and request.site.audit_log is not None:
                request.site.audit_log.add(request, None)
        except Exception:
            self._failed_later(Failure(), request)

    def _failed_later(self, failure: Failure, request: Request) -> None:
        try:
            self._failed(failure, request)
        except Exception:
            _log.failure("an error could not be answered", Failure())

    def _failed(self, failure: Failure, request: Request) -> None:
        # An operation is not cancelled when its client goes away: it may be in the middle of a commit, which happens or
        # not whoever still listens. What reads or writes the connection fails by itself.
        error = failure.value
        left = request.gone and failure.check(ConnectionClosed, ConnectionLost) is not None
        if failure.check(S3Error) is None and not left:
            if isinstance(error, StorageError):
                _log.error(
                    "request {id}: {kind}: {error}", id=request.request_id, kind=type(error).__name__, error=error
                )
            else:
                _log.failure("request {id} failed", failure, id=request.request_id)
        found = as_s3_error(failure.value or Exception())
        if request.status and not request.finished:  # the head is out
            request.abort()
        elif not request.finished:
            request.error_code = found.code
            self.render_error(request, found)
        audit_log = request.site.audit_log
        if audit_log is not None and (request.method not in READS or request.denied or found.status == 403):
            self.name_what_was_asked(request)
            audit_log.add(request, request.error_code if left else found.code)
