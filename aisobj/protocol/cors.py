"""Cross-origin resource sharing: no bucket has a configuration, so no page of another site may read or write.

A browser asks before it lets a page do so (``OPTIONS``, the preflight) and never signs that. The answer tells nothing
about buckets and keys, and is the same for all: AWS tells one that is not there from one without a configuration.
Source: AWS "Troubleshooting CORS", "OPTIONS object"; codes and texts as recorded from AWS by LocalStack
(``tests/aws/services/s3/test_s3_cors.py``, ``test_cors_http_options_no_config``).
"""

from __future__ import annotations

from aisobj.errors import S3Error

#: The label of metrics and of the access log; AWS's log has ``REST.OPTIONS.PREFLIGHT``.
PREFLIGHT = "Preflight"


def preflight_refusal(origin: bytes | None, method: bytes | None) -> S3Error:
    """What every preflight gets.

    :param origin: the header ``Origin``. :param method: the header ``Access-Control-Request-Method``.
    """
    if not origin:
        return S3Error("BadRequest", "Insufficient information. Origin request header needed.")
    return S3Error("AccessForbidden", Method=(method or b"OPTIONS").decode("latin-1"), ResourceType="BUCKET")
