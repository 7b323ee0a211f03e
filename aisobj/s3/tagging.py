"""Tags of an object. There are none yet: whatever would set one answers 501, so every object's set is empty.

GetObjectTagging must say so all the same: the AWS CLI 2 asks it before it copies an object in parts from bucket to
bucket, and gives up at an error.
"""

from __future__ import annotations

from aisobj.protocol import xml
from aisobj.s3.answers import version_header
from aisobj.s3.call import Call
from aisobj.s3.versions import check_version


def get_object_tagging(call: Call) -> None:
    """GetObjectTagging."""
    found = call.store.objects.fetch(call.bucket_name, call.key, with_body=False)
    check_version(found.bucket, found.record, call.key, call.query.get("versionId"))
    call.send_xml(xml.no_tags(), *version_header(found.bucket, found.record))
