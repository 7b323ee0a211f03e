"""Buckets over the wire: life and death, location, versioning, ListBuckets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3fixtures import fresh_name, refused
from s3raw import Sender
from server import CREDENTIALS, ServerProcess


def test_a_bucket_lives_from_create_to_delete(s3: Any) -> None:
    name = fresh_name()
    with refused("404", 404):
        s3.head_bucket(Bucket=name)
    made = s3.create_bucket(Bucket=name)
    assert made["Location"] == f"/{name}"
    assert s3.head_bucket(Bucket=name)["BucketRegion"] == "us-east-1"
    listed = s3.list_buckets()
    assert name in [found["Name"] for found in listed["Buckets"]]
    assert listed["Owner"]["ID"]
    deleted = s3.delete_bucket(Bucket=name)
    assert deleted["ResponseMetadata"]["HTTPStatusCode"] == 204
    with refused("NoSuchBucket", 404):
        s3.list_objects_v2(Bucket=name)
    with refused("NoSuchBucket", 404):
        s3.delete_bucket(Bucket=name)
    s3.create_bucket(Bucket=name)  # the name is free again


def test_a_bucket_that_is_yours_cannot_be_created_again(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"kept")
    with refused("BucketAlreadyOwnedByYou", 409) as answer:
        s3.create_bucket(Bucket=bucket)
    assert answer["Error"]["BucketName"] == bucket
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"kept"


def test_a_bucket_of_another_user_exists(make_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """What an open server made is everybody's."""
    open_server = make_server(data=tmp_path / "data")
    open_server.boto().create_bucket(Bucket="everybodys")
    open_server.stop()
    server = make_server(data=tmp_path / "data", credentials=CREDENTIALS)
    alice, bob = server.boto("alice"), server.boto("bob")
    alice.create_bucket(Bucket="alices")
    for user, name, code in (
        (alice, "alices", "BucketAlreadyOwnedByYou"),
        (bob, "alices", "BucketAlreadyExists"),
        (bob, "everybodys", "BucketAlreadyOwnedByYou"),
    ):
        with refused(code, 409):
            user.create_bucket(Bucket=name)


def test_only_an_empty_bucket_can_be_deleted(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"")
    with refused("BucketNotEmpty", 409):
        s3.delete_bucket(Bucket=bucket)
    s3.put_object(Bucket=bucket, Key="k2", Body=b"a refused delete leaves the bucket writable")
    s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "k2"}]})
    s3.delete_bucket(Bucket=bucket)


def test_uploads_in_progress_do_not_keep_a_bucket(s3: Any, bucket: str) -> None:
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=1, Body=b"x" * 100)
    s3.delete_bucket(Bucket=bucket)
    s3.create_bucket(Bucket=bucket)
    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    with refused("NoSuchUpload", 404):
        s3.list_parts(Bucket=bucket, Key="k", UploadId=upload)


BAD_NAMES = ["a", "AB", "aB3", "a..b", "-ab", "ab-", "a_b", "192.168.1.1", "xn--bucket", "a%20b", "b%2Fk", "%FF"]


@pytest.mark.parametrize("name", [*BAD_NAMES, "a" * 64])
@pytest.mark.parametrize("method", ["PUT", "GET", "DELETE"])
def test_a_name_that_no_bucket_has_is_invalid(raw: Sender, name: str, method: str) -> None:
    for prefix in ("/s3/", "/"):
        answer = raw.ask(method, prefix + name)
        assert (answer.status, answer.code) == (400, "InvalidBucketName")


def test_names_at_the_limits_are_taken(s3: Any) -> None:
    for name in ("abc", "a" * 63, "a.b-c.1", "1st"):
        s3.create_bucket(Bucket=name)
        s3.delete_bucket(Bucket=name)


def test_a_bucket_answers_with_and_without_a_slash_under_s3_and_at_the_root(raw: Sender, bucket: str) -> None:
    answers = [raw.ask("GET", target) for target in (f"/s3/{bucket}", f"/s3/{bucket}/", f"/{bucket}", f"/{bucket}/")]
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    services = [raw.ask("GET", target) for target in ("/s3", "/s3/", "/")]
    assert {(answer.status, answer.xml.tag.rpartition("}")[2]) for answer in services} == {
        (200, "ListAllMyBucketsResult")
    }


def test_list_buckets_pages_and_filters(s3: Any, raw: Sender) -> None:
    names = sorted(f"paged-{letter}" for letter in "abcde")
    for name in names:
        s3.create_bucket(Bucket=name)
    first = s3.list_buckets(Prefix="paged-", MaxBuckets=2)
    assert first["Prefix"] == "paged-"
    assert [bucket["Name"] for bucket in first["Buckets"]] == names[:2]
    assert {bucket["BucketRegion"] for bucket in first["Buckets"]} == {"us-east-1"}
    second = s3.list_buckets(Prefix="paged-", MaxBuckets=3, ContinuationToken=first["ContinuationToken"])
    assert [bucket["Name"] for bucket in second["Buckets"]] == names[2:]
    assert "ContinuationToken" not in second
    here = s3.list_buckets(Prefix="paged-", BucketRegion="us-east-1")["Buckets"]
    assert [(bucket["Name"], bucket["BucketRegion"]) for bucket in here] == [(name, "us-east-1") for name in names]
    assert not s3.list_buckets(Prefix="paged-", BucketRegion="eu-west-1").get("Buckets")
    assert raw.ask("GET", "/s3?max-buckets=0").code == "InvalidArgument"
    with refused("InvalidArgument", 400):
        s3.list_buckets(MaxBuckets=2, ContinuationToken="?")
    for name in names:
        s3.delete_bucket(Bucket=name)


def test_versioning_is_unset_then_enabled_then_suspended(s3: Any, bucket: str) -> None:
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)
    plain = s3.put_object(Bucket=bucket, Key="k", Body=b"1")
    assert "VersionId" not in plain

    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
    first = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    second = s3.put_object(Bucket=bucket, Key="k", Body=b"3")["VersionId"]
    assert first < second  # time-ordered
    found = s3.get_object(Bucket=bucket, Key="k", VersionId=second)
    assert (found["Body"].read(), found["VersionId"]) == (b"3", second)
    assert s3.head_object(Bucket=bucket, Key="k")["VersionId"] == second
    with refused("NoSuchVersion", 404):  # only the last version is accessible
        s3.get_object(Bucket=bucket, Key="k", VersionId=first)
    with refused("InvalidArgument", 400):
        s3.get_object(Bucket=bucket, Key="k", VersionId="no-id")

    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
    assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Suspended"
    assert "VersionId" not in s3.put_object(Bucket=bucket, Key="k", Body=b"4")
    assert s3.get_object(Bucket=bucket, Key="k", VersionId="null")["Body"].read() == b"4"


def test_deleting_another_version_leaves_the_current_one(s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    assert s3.delete_object(Bucket=bucket, Key="k", VersionId=old)["VersionId"] == old
    assert s3.get_object(Bucket=bucket, Key="k")["Body"].read() == b"2"
    s3.delete_object(Bucket=bucket, Key="k", VersionId=new)
    with refused("NoSuchKey", 404):
        s3.get_object(Bucket=bucket, Key="k")


def test_a_bad_versioning_document_changes_nothing(raw: Sender, s3: Any, bucket: str) -> None:
    cases = {
        b"": "MalformedXML",
        b"<VersioningConfiguration": "MalformedXML",
        b"<Other/>": "MalformedXML",
        b"<VersioningConfiguration/>": "IllegalVersioningConfigurationException",
        b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>": "MalformedXML",
    }
    for document, code in cases.items():
        answer = raw.ask("PUT", f"/s3/{bucket}?versioning", body=document)
        assert (answer.status, answer.code) == (400, code)
    assert "Status" not in s3.get_bucket_versioning(Bucket=bucket)


def test_the_location_is_empty_without_a_region_and_the_region_with_one(s3: Any, bucket: str, make_server: Any) -> None:
    assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] is None
    elsewhere = make_server("--region", "eu-west-7")
    client = elsewhere.boto(region_name="eu-west-7")
    client.create_bucket(Bucket="here", CreateBucketConfiguration={"LocationConstraint": "eu-west-7"})
    assert client.get_bucket_location(Bucket="here")["LocationConstraint"] == "eu-west-7"
    assert client.head_bucket(Bucket="here")["BucketRegion"] == "eu-west-7"
    with refused("InvalidLocationConstraint", 400):
        client.create_bucket(Bucket="there", CreateBucketConfiguration={"LocationConstraint": "us-west-2"})


def test_a_location_constraint_is_any_without_a_region(s3: Any) -> None:
    name = fresh_name()
    s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
    s3.delete_bucket(Bucket=name)


def test_a_missing_bucket_is_named_by_every_operation(s3: Any) -> None:
    name = "never-was"
    for call in (
        lambda: s3.get_bucket_location(Bucket=name),
        lambda: s3.get_bucket_versioning(Bucket=name),
        lambda: s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"}),
        lambda: s3.list_objects(Bucket=name),
        lambda: s3.list_multipart_uploads(Bucket=name),
        lambda: s3.get_object(Bucket=name, Key="k"),
        lambda: s3.put_object(Bucket=name, Key="k", Body=b"x"),
        lambda: s3.delete_object(Bucket=name, Key="k"),
        lambda: s3.delete_objects(Bucket=name, Delete={"Objects": [{"Key": "k"}]}),
        lambda: s3.create_multipart_upload(Bucket=name, Key="k"),
        lambda: s3.copy_object(Bucket=name, Key="k", CopySource={"Bucket": name, "Key": "s"}),
    ):
        with refused("NoSuchBucket", 404) as answer:
            call()
        assert answer["Error"]["BucketName"] == name
