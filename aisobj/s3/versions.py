"""Version ids as S3 shows them. Only the current version of an object is accessible."""

from __future__ import annotations

import re
from collections.abc import Callable

from aisobj.errors import S3Error
from aisobj.model import Bucket, ObjectRecord, VersioningStatus

_VERSION_ID = re.compile(r"[0-9a-f]{32}")
NULL = "null"


def shown(bucket: Bucket, record: ObjectRecord) -> str:
    """The id that ``x-amz-version-id`` carries, or "" while the bucket's status is not Enabled."""
    return record.version_id.hex() if bucket.props.versioning_status is VersioningStatus.ENABLED else ""


def listed(bucket: Bucket) -> Callable[[bytes], str]:
    """A version's id -> what ListObjectVersions shows of it, which ``?versionId=`` takes (:func:`is_current`)."""
    if bucket.props.versioning_status is VersioningStatus.ENABLED:
        return bytes.hex
    return lambda _: NULL


def version_headers(bucket: Bucket, version_id: str | None) -> list[tuple[bytes, bytes]]:
    """``x-amz-version-id`` with a given id, where the bucket shows ids at all."""
    if version_id is None or bucket.props.versioning_status is VersioningStatus.UNSET:
        return []
    return [(b"x-amz-version-id", version_id.encode("latin-1"))]


def is_current(bucket: Bucket, record: ObjectRecord | None, version_id: str) -> bool:
    """Whether ``?versionId=`` names the record: by its id, or by ``null`` while the status is not Enabled.

    :raises S3Error: InvalidArgument for what no id looks like.
    """
    if version_id != NULL and _VERSION_ID.fullmatch(version_id) is None:
        raise S3Error(
            "InvalidArgument", "Invalid version id specified", ArgumentName="versionId", ArgumentValue=version_id
        )
    if record is None:
        return False
    if version_id == NULL:
        return bucket.props.versioning_status is not VersioningStatus.ENABLED
    return record.version_id.hex() == version_id


def check_version(bucket: Bucket, record: ObjectRecord, key: bytes, version_id: str | None) -> None:
    """Raises NoSuchVersion where ``?versionId=`` names another version than the current one."""
    if version_id is not None and not is_current(bucket, record, version_id):
        raise S3Error("NoSuchVersion", Key=key.decode(), VersionId=version_id)
