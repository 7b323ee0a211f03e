"""What botocore makes of documents, and of requests."""

from __future__ import annotations

import datetime
from typing import Any

import botocore.loaders
import botocore.model
import botocore.parsers
import botocore.serialize
from botocore.handlers import escape_xml_payload
from hypothesis import strategies as st

from aisobj.protocol import xml
from aisobj.protocol.listing import finish
from aisobj.protocol.listparams import ListParams

NS = "{http://s3.amazonaws.com/doc/2006-03-01/}"
SECOND = 1_000_000_000
T = 1_255_369_850 * SECOND + 123_456_789  # 2009-10-12T17:50:50 and a bit
MODEL = botocore.model.ServiceModel(botocore.loaders.Loader().load_service_model("s3", "service-2"))
WHEN = datetime.datetime(2009, 10, 12, 17, 50, 50, tzinfo=datetime.UTC)

#: Every key there can be.
KEY = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=12)


def list_objects(params: ListParams, bucket: str, page: Any, owner: str) -> bytes:
    return finish(xml.list_objects(params, bucket, page, owner))


def parsed(operation: str, body: bytes) -> dict[str, Any]:
    """What botocore makes of a document, without its own part."""
    shape = MODEL.operation_model(operation).output_shape
    result = botocore.parsers.create_parser("rest-xml").parse({"status_code": 200, "headers": {}, "body": body}, shape)
    result.pop("ResponseMetadata")
    return dict(result)


def sent(operation: str, **parameters: Any) -> bytes:
    """The body that botocore makes of a request."""
    serializer = botocore.serialize.create_serializer("rest-xml", include_validation=False)
    request = serializer.serialize_to_request(parameters, MODEL.operation_model(operation))
    escape_xml_payload(request)
    body = request["body"]
    assert isinstance(body, bytes)
    return body
