"""ListObjectVersions: the current versions, by ids that GET and DELETE take."""

from __future__ import annotations

from typing import Any

import boto3
import pytest
from s3fixtures import refused
from s3raw import Sender

KEYS = ["a", "b/1", "b/2", "b c+", "d/", "e&<>", "\U0001f600"]


def versions(s3: Any, bucket: str, **parameters: Any) -> list[dict[str, Any]]:
    """Of all pages."""
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket, **parameters)
    found = [version for page in pages for version in page.get("Versions", ())]
    assert all(version["IsLatest"] for version in found)
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
@pytest.mark.parametrize("status", [None, "Enabled", "Suspended"])
def test_every_id_that_is_listed_can_be_read_and_deleted(s3: Any, bucket: str, status: str | None, size: int) -> None:
    if status:
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"before")
        s3.put_object(Bucket=bucket, Key=key, Body=key.encode())
    found = versions(s3, bucket, PaginationConfig={"PageSize": size})
    assert [version["Key"] for version in found] == sorted(KEYS, key=str.encode)
    for version in found:
        named = {"Bucket": bucket, "Key": version["Key"], "VersionId": version["VersionId"]}
        got = s3.get_object(**named)
        assert got["Body"].read() == version["Key"].encode()
        assert (got["ETag"], got["ContentLength"]) == (version["ETag"], version["Size"])
        assert got.get("VersionId", "null") == version["VersionId"]
    s3.delete_object(**named)
    rest = [{"Key": version["Key"], "VersionId": version["VersionId"]} for version in found[:-1]]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": rest})
    assert answer["Deleted"] == rest
    assert versions(s3, bucket) == []
    s3.delete_bucket(Bucket=bucket)


def test_a_bucket_is_emptied_as_test_suites_do_it(server: Any, s3: Any, bucket: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    session = boto3.session.Session("anyone", "anything", region_name="us-east-1")
    found = session.resource("s3", endpoint_url=server.s3, config=s3.meta.config).Bucket(bucket)
    found.object_versions.delete()
    found.delete()


def test_prefixes_delimiters_and_markers(s3: Any, bucket: str) -> None:
    for key in KEYS:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x", ChecksumAlgorithm="SHA1")
    page = s3.list_object_versions(Bucket=bucket, Delimiter="/")
    assert [version["Key"] for version in page["Versions"]] == ["a", "b c+", "e&<>", "\U0001f600"]
    assert [entry["Prefix"] for entry in page["CommonPrefixes"]] == ["b/", "d/"]
    assert page["Versions"][0]["ChecksumAlgorithm"] == ["SHA1"]
    assert "DeleteMarkers" not in page
    first = s3.list_object_versions(Bucket=bucket, Delimiter="/", MaxKeys=3)
    assert (first["IsTruncated"], first["NextKeyMarker"]) == (True, "b/")
    assert "NextVersionIdMarker" not in first
    rest = s3.list_object_versions(Bucket=bucket, Delimiter="/", KeyMarker=first["NextKeyMarker"])
    assert [version["Key"] for version in rest["Versions"]] == ["e&<>", "\U0001f600"]
    assert [version["Key"] for version in versions(s3, bucket, Prefix="b/")] == ["b/1", "b/2"]
    after = s3.list_object_versions(Bucket=bucket, Prefix="b", KeyMarker="b/1", VersionIdMarker="null")
    assert [version["Key"] for version in after["Versions"]] == ["b/2"]
    assert (after["KeyMarker"], after["VersionIdMarker"], after["Prefix"]) == ("b/1", "null", "b")


def test_bad_parameters_of_a_listing_of_versions(s3: Any, raw: Sender, bucket: str) -> None:
    for query in ("version-id-marker=null", "max-keys=x", "max-keys=-1", "encoding-type=base64"):
        answer = raw.ask("GET", f"/s3/{bucket}?versions&{query}")
        assert (answer.status, answer.code) == (400, "InvalidArgument"), query
    empty = raw.ask("GET", f"/s3/{bucket}?versions&max-keys=0&key-marker=&version-id-marker=")
    assert (empty.status, empty.element("IsTruncated")) == (200, "false")
    with refused("NoSuchBucket", 404):
        s3.list_object_versions(Bucket="never-was")
