"""Every error this server can name: S3's codes in one table, and the family that storage raises.

Source of codes, statuses and texts: AWS "Error responses",
https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: code -> (HTTP status, default message). The only place where a code meets its status.
ERRORS: Mapping[str, tuple[int, str]] = MappingProxyType(
    {
        "AccessDenied": (403, "Access Denied"),
        "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
        "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
        "AuthorizationQueryParametersError": (
            400,
            "The query parameters for authorization are not valid.",
        ),
        "BadDigest": (
            400,
            "The Content-MD5 or checksum value that you gave did not match the data received.",
        ),
        "BadRequest": (400, "The request could not be understood."),
        "BucketAlreadyExists": (409, "The bucket that you tried to create already exists, and another user owns it."),
        "BucketAlreadyOwnedByYou": (409, "The bucket that you tried to create already exists, and you own it."),
        "BucketNotEmpty": (409, "The bucket that you tried to delete is not empty."),
        "ConditionalRequestConflict": (
            409,
            "A conflicting operation occurred during this conditional request.",
        ),
        "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
        "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed object size."),
        "IllegalVersioningConfigurationException": (
            400,
            "The versioning configuration specified in the request is not valid.",
        ),
        "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header."),
        "InternalError": (500, "An internal error occurred. Try again."),
        "InvalidAccessKeyId": (403, "The AWS access key ID that you provided does not exist in our records."),
        "InvalidArgument": (400, "Invalid Argument"),
        "InvalidBucketName": (400, "The specified bucket is not valid."),
        "InvalidChunkSizeError": (403, "Only the last chunk is allowed to have a size less than 8192 bytes."),
        "InvalidDigest": (400, "The Content-MD5 or checksum value that you specified is not valid."),
        "InvalidLocationConstraint": (400, "The specified location constraint is not valid."),
        "InvalidPart": (
            400,
            "One or more of the specified parts could not be found. The part might not have been uploaded, "
            "or the specified entity tag might not have matched the part's entity tag.",
        ),
        "InvalidPartOrder": (
            400,
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.",
        ),
        "InvalidPartNumber": (416, "The requested partnumber is not satisfiable."),
        "InvalidRange": (416, "The requested range is not satisfiable."),
        "InvalidRequest": (400, "Invalid Request"),
        "InvalidStorageClass": (400, "The storage class that you specified is not valid."),
        "InvalidURI": (400, "The specified URI couldn't be parsed."),
        "InvalidToken": (400, "The provided token is malformed or otherwise not valid."),
        "KeyTooLongError": (400, "Your key is too long."),
        "MalformedTrailerError": (400, "The request contained trailing data that was not well-formed."),
        "MalformedXML": (
            400,
            "The XML that you provided was not well formed or did not validate against our published schema.",
        ),
        "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size."),
        "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
        "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
        "NoSuchBucket": (404, "The specified bucket does not exist."),
        "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
        "NoSuchKey": (404, "The specified key does not exist."),
        "NoSuchUpload": (
            404,
            "The specified multipart upload does not exist. The upload ID might not be valid, "
            "or the multipart upload might have been aborted or completed.",
        ),
        "NoSuchVersion": (404, "The version ID specified in the request does not match an existing version."),
        "NotImplemented": (501, "A header or query that you provided implies functionality that is not implemented."),
        "PreconditionFailed": (412, "At least one of the preconditions that you specified did not hold."),
        "RequestHeaderSectionTooLarge": (400, "The request header section exceeds the maximum allowed size."),
        "RequestTimeTooSkewed": (403, "The difference between the request time and the server's time is too large."),
        "RequestTimeout": (
            400,
            "Your connection was not read from or written to within the timeout period.",
        ),
        "ServiceUnavailable": (503, "The server cannot store anything at the moment. Reads still work."),
        "SignatureDoesNotMatch": (
            403,
            "The request signature that the server calculated does not match the signature that you provided.",
        ),
        "SlowDown": (503, "Please reduce your request rate."),
        "XAmzContentSHA256Mismatch": (
            400,
            "The provided x-amz-content-sha256 header does not match the data.",
        ),
    }
)


class S3Error(Exception):
    """A request's failure, in S3's terms; rendered as XML under S3 and as JSON under ``/v1``.

    :param code: a key of :data:`ERRORS`; another one is a bug and raises ``KeyError`` at once.
    :param message: replaces the table's text.
    :param close: the connection cannot be used for another request (broken framing).
    :param headers: further response headers, e.g. ``Content-Range`` on a 416.
    :param detail: further elements of the error document, e.g. ``Region="eu-1"``; never a secret.
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        close: bool = False,
        headers: Mapping[str, str] | None = None,
        **detail: str,
    ) -> None:
        self.code = code
        self.status, default = ERRORS[code]
        self.message = default if message is None else message
        self.close = close
        self.headers: Mapping[str, str] = headers or {}
        self.detail: Mapping[str, str] = detail
        super().__init__(f"{code}: {self.message}")


class StorageError(Exception):
    """A storage engine could not do what was asked. The text is for the log, never for a client."""


class CorruptData(StorageError):
    """Bytes on disk do not match their checksum, or a record cannot be decoded. Never served."""


class BlobMissing(StorageError):
    """A blob that the index names is not there (removed since the index was read, or lost)."""


class StoreReadOnly(StorageError):
    """A sync failed, so nothing more is written: what the disk holds is no longer known. Reads go on."""


class StoreFull(StorageError):
    """Free space is under the reserve, or the file system or quota is exhausted."""


class StoreBusy(StorageError):
    """More disk work waits than will be done soon. Nothing was begun: to be tried again later."""


class CommitUnknown(StorageError):
    """The index writer went away before it answered; the commit may have happened or not: re-read."""


class FormatError(StorageError):
    """The data directory was written by something this code does not read (newer format, or not ours)."""
