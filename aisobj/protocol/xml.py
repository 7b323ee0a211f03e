"""XML documents in and out, in AWS's element names, order and namespace: the module to import.

The readers are in ``xmlread``, the writers in ``xmlwrite``, escaping in ``xmltext``.
"""

from __future__ import annotations

from aisobj.protocol.xmlread import (
    CompletePart,
    DeleteKey,
    read_complete,
    read_create_bucket,
    read_delete,
    read_versioning,
)
from aisobj.protocol.xmlwrite import (
    Deleted,
    DeleteFailed,
    complete_multipart_upload_result,
    copy_object_result,
    copy_part_result,
    delete_result,
    error_document,
    initiate_multipart_upload_result,
    list_buckets,
    list_multipart_uploads,
    list_object_versions,
    list_objects,
    list_parts,
    location_constraint,
    no_tags,
    versioning_configuration,
)

__all__ = [
    "CompletePart",
    "DeleteFailed",
    "DeleteKey",
    "Deleted",
    "complete_multipart_upload_result",
    "copy_object_result",
    "copy_part_result",
    "delete_result",
    "error_document",
    "initiate_multipart_upload_result",
    "list_buckets",
    "list_multipart_uploads",
    "list_object_versions",
    "list_objects",
    "list_parts",
    "location_constraint",
    "no_tags",
    "read_complete",
    "read_create_bucket",
    "read_delete",
    "read_versioning",
    "versioning_configuration",
]
