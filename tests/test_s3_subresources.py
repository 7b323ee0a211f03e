"""No sub-resource, known or not, falls through to another operation: not a byte of what is there may change.

(AIStore overwrites the object on ``PUT key?tagging``.)
"""

from __future__ import annotations

from typing import Any

import pytest
from s3fixtures import refused
from s3raw import Sender

#: AWS's sub-resources, from the index of its API reference, and names that AWS may add.
# fmt: off
BUCKET = [
    "abac", "accelerate", "acl", "analytics", "encryption", "intelligent-tiering", "inventory",
    "lifecycle", "logging", "metadataAnnotationTable", "metadataConfiguration", "metadataInventoryTable",
    "metadataJournalTable", "metadataTable", "metrics", "notification", "object-lock", "ownershipControls",
    "policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "session", "tagging",
    "website",
]
OBJECT = [
    "acl", "annotation", "attributes", "encryption", "legal-hold", "renameObject", "restore", "retention",
    "select", "torrent",
]
# fmt: on
UNKNOWN = ["newthing", "new-thing", "NewThing", "n"]

#: Ours, and the methods that they have there.
BUCKET_OURS = {
    "location": "GET",
    "versioning": "GET PUT",
    "versions": "GET",
    "uploads": "GET",
    "delete": "POST",
    "list-type": "GET",
    "cors": "GET PUT DELETE",
}
OBJECT_OURS = {"uploads": "POST", "uploadId": "GET PUT POST DELETE", "tagging": "GET PUT DELETE"}

METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE")
BODY = b"as it was"


@pytest.fixture
def kept(s3: Any, bucket: str) -> Any:
    """A bucket with one object, both of which must be the same afterwards."""
    s3.put_object(Bucket=bucket, Key="k", Body=BODY, Metadata={"a": "b"})
    before = s3.head_object(Bucket=bucket, Key="k")
    buckets = [found["Name"] for found in s3.list_buckets()["Buckets"]]
    yield bucket
    found = s3.get_object(Bucket=bucket, Key="k")
    assert (found["Body"].read(), found["Metadata"]) == (BODY, {"a": "b"})
    assert (found["ETag"], found["LastModified"]) == (before["ETag"], before["LastModified"])
    assert [entry["Key"] for entry in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["k"]
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    assert [found["Name"] for found in s3.list_buckets()["Buckets"]] == buckets


def refuse(raw: Sender, method: str, target: str, status: int) -> None:
    answer = raw.ask(method, target, body=b"<Tagging/>" if method in ("PUT", "POST") else b"")
    assert answer.status == status, (method, target, answer)
    if method != "HEAD":
        assert answer.code == {501: "NotImplemented", 405: "MethodNotAllowed", 400: "InvalidArgument"}[status]
    if status == 405:
        assert method not in answer.headers["allow"].split(", ")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("level", "names"), [("", BUCKET), ("/k", OBJECT)])
def test_what_aws_has_and_we_have_not(raw: Sender, kept: str, level: str, names: list[str], method: str) -> None:
    for name in names:
        for query in (name, f"{name}=", f"{name}=1", f"x-id=Something&{name}", f"{name}&versionId=null", f"a=b&{name}"):
            for target in (f"/s3/{kept}{level}", f"/{kept}{level}"):
                refuse(raw, method, f"{target}?{query}", 501)


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_a_cors_configuration_is_refused(raw: Sender, kept: str, method: str) -> None:
    for query in ("cors", "cors=", "cors=1", "x-id=Something&cors", "cors&versionId=null", "a=b&cors"):
        for target in (f"/s3/{kept}", f"/{kept}"):
            refuse(raw, method, f"{target}?{query}", 501)


def test_no_bucket_has_a_cors_configuration(s3: Any, bucket: str) -> None:
    with refused("NoSuchCORSConfiguration", 404):
        s3.get_bucket_cors(Bucket=bucket)
    with refused("NoSuchBucket", 404):
        s3.get_bucket_cors(Bucket="no-such-bucket")


def test_tags_are_refused(raw: Sender, kept: str) -> None:
    for query in ("tagging", "tagging=", "tagging=1", "x-id=PutObjectTagging&tagging", "tagging&versionId=null"):
        for target in (f"/s3/{kept}/k", f"/{kept}/k"):
            refuse(raw, "PUT", f"{target}?{query}", 501)
            refuse(raw, "DELETE", f"{target}?{query}", 501)


def test_no_object_has_tags(s3: Any, bucket: str) -> None:
    """The AWS CLI 2 asks before it copies in parts, and takes no 501 for an answer."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    version = s3.put_object(Bucket=bucket, Key="k")["VersionId"]
    for more in ({}, {"VersionId": version}):
        answer = s3.get_object_tagging(Bucket=bucket, Key="k", **more)
        assert (answer["TagSet"], answer["VersionId"]) == ([], version)
    with refused("NoSuchVersion", 404):
        s3.get_object_tagging(Bucket=bucket, Key="k", VersionId="0" * 32)
    with refused("NoSuchKey", 404):
        s3.get_object_tagging(Bucket=bucket, Key="none")


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_what_nobody_knows_is_refused_where_something_could_be_written(raw: Sender, kept: str, method: str) -> None:
    for level in ("", "/k"):
        for name in UNKNOWN:
            for query in (name, f"{name}=", f"{name}=1"):
                answer = raw.ask(method, f"/s3/{kept}{level}?{query}")
                assert answer.status in ((405, 501) if method == "POST" else (501,)), (query, answer)


def test_what_nobody_knows_is_refused_on_reads_if_it_looks_like_a_sub_resource(raw: Sender, kept: str) -> None:
    for method in ("GET", "HEAD"):
        for name in UNKNOWN:
            refuse(raw, method, f"/s3/{kept}/k?{name}", 501)
        for query in ("cache=1", "_=1234", "x-amz-anything=1", "x-id=GetObject"):  # to get past a cache, or to tell us
            assert raw.ask(method, f"/s3/{kept}/k?{query}").status == 200, query


@pytest.mark.parametrize("method", METHODS)
def test_our_own_with_a_method_that_they_do_not_have(raw: Sender, kept: str, method: str) -> None:
    for level, ours in (("", BUCKET_OURS), ("/k", OBJECT_OURS)):
        for name, methods in ours.items():
            if method not in methods.split():
                refuse(raw, method, f"/s3/{kept}{level}?{name}", 405)


def test_a_sub_resource_of_the_other_level_is_refused(raw: Sender, kept: str) -> None:
    for name in set(BUCKET) - set(OBJECT):
        refuse(raw, "PUT", f"/s3/{kept}/k?{name}", 501)
    for name in set(OBJECT) - set(BUCKET):
        refuse(raw, "PUT", f"/s3/{kept}?{name}", 501)
    for name in ("location", "versioning", "delete", "list-type"):
        for method in ("GET", "PUT", "POST", "DELETE"):
            refuse(raw, method, f"/s3/{kept}/k?{name}", 501)
    refuse(raw, "PUT", f"/s3/{kept}?uploadId=x&partNumber=1", 501)


def test_two_sub_resources_at_once_are_refused(raw: Sender, kept: str) -> None:
    for query in ("acl&tagging", "uploads&uploadId=x", "uploadId=x&partNumber=1&acl"):
        refuse(raw, "PUT", f"/s3/{kept}/k?{query}", 400)
    refuse(raw, "DELETE", f"/s3/{kept}?policy&lifecycle", 400)


def test_a_parameter_of_another_operation_is_refused_on_writes(raw: Sender, kept: str) -> None:
    for query in ("partnumber=1", "versionId=null", "prefix=x", "max-keys=1", "response-content-type=a"):
        refuse(raw, "PUT", f"/s3/{kept}/k?{query}", 501)
    refuse(raw, "PUT", f"/s3/{kept}/k?partNumber=1", 400)
    for query in ("partNumber=1", "versionId=null", "prefix=x", "marker=a"):
        refuse(raw, "DELETE", f"/s3/{kept}?{query}", 501)


@pytest.mark.parametrize(
    "header",
    [
        "x-amz-server-side-encryption",
        "x-amz-server-side-encryption-customer-algorithm",
        "x-amz-server-side-encryption-aws-kms-key-id",
        "x-amz-tagging",
        "x-amz-object-lock-mode",
        "x-amz-object-lock-legal-hold",
        "x-amz-grant-read",
        "x-amz-grant-full-control",
        "x-amz-website-redirect-location",
        "x-amz-write-offset-bytes",
    ],
)
def test_a_header_that_asks_for_what_we_do_not_have_stores_nothing(raw: Sender, kept: str, header: str) -> None:
    answer = raw.ask("PUT", f"/s3/{kept}/k", [(header, "value")], b"x")
    assert (answer.status, answer.code, answer.element("Header")) == (501, "NotImplemented", header)
    if "write-offset" not in header:
        answer = raw.ask("POST", f"/s3/{kept}/k?uploads", [(header, "value")])
        assert (answer.status, answer.code) == (501, "NotImplemented")
        fields = [(header, "value"), ("x-amz-copy-source", f"{kept}/k"), ("x-amz-metadata-directive", "REPLACE")]
        assert raw.ask("PUT", f"/s3/{kept}/k", fields).code == "NotImplemented"


def test_values_that_say_what_is_so_anyway_are_taken(raw: Sender, bucket: str) -> None:
    for name, value in (
        ("x-amz-acl", "private"),
        ("x-amz-acl", "bucket-owner-full-control"),
        ("x-amz-storage-class", "STANDARD"),
        ("x-amz-tagging", ""),
        ("x-amz-request-payer", "requester"),
        ("x-amz-expected-bucket-owner", "123456789012"),
    ):
        assert raw.ask("PUT", f"/s3/{bucket}/k", [(name, value)], b"x").status == 200, name
    for value, code in (("GLACIER", "NotImplemented"), ("PLATINUM", "InvalidStorageClass")):
        assert raw.ask("PUT", f"/s3/{bucket}/k", [("x-amz-storage-class", value)], b"x").code == code
