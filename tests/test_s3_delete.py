"""DeleteObject and DeleteObjects."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from s3fixtures import refused
from s3raw import Answer, Sender


def test_deleting_answers_204_whether_there_was_something_or_not(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    for _ in range(2):
        answer = raw.ask("DELETE", f"/s3/{bucket}/k")
        assert (answer.status, "content-length" in answer.headers) == (204, False)
        assert raw.ask("GET", f"/s3/{bucket}/k").status == 404


def test_delete_if_match(s3: Any, bucket: str) -> None:
    etag = s3.put_object(Bucket=bucket, Key="k", Body=b"x")["ETag"]
    with refused("PreconditionFailed", 412):
        s3.delete_object(Bucket=bucket, Key="k", IfMatch='"other"')
    assert s3.head_object(Bucket=bucket, Key="k")
    s3.delete_object(Bucket=bucket, Key="k", IfMatch=etag)
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def delete(raw: Sender, bucket: str, document: bytes, *headers: tuple[str, str]) -> Answer:
    md5 = base64.b64encode(hashlib.md5(document).digest()).decode()
    return raw.ask("POST", f"/s3/{bucket}?delete", headers or [("Content-MD5", md5)], document)


def keys_document(keys: list[str], extra: str = "") -> bytes:
    objects = "".join(f"<Object><Key>{key}</Key></Object>" for key in keys)
    return f"<Delete>{objects}{extra}</Delete>".encode()


def test_a_thousand_keys_at_once_each_with_its_result(s3: Any, bucket: str) -> None:
    there = [f"k{number}" for number in range(0, 1000, 50)]
    for key in there:
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * 40_000 if key == "k0" else b"x")
    s3.put_object(Bucket=bucket, Key="other", Body=b"x")
    asked = [f"k{number}" for number in range(1000)]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in asked]})
    assert [found["Key"] for found in answer["Deleted"]] == asked
    assert "Errors" not in answer
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["other"]


def test_quiet_names_only_what_failed(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    objects = [{"Key": "k"}, {"Key": "x" * 1025}, {"Key": "missing"}]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects, "Quiet": True})
    assert "Deleted" not in answer
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("x" * 1025, "KeyTooLongError")]
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_conditions_in_the_document_hold_for_their_own_key_only(s3: Any, bucket: str) -> None:
    etags = {key: s3.put_object(Bucket=bucket, Key=key, Body=key.encode())["ETag"] for key in "abcd"}
    head = s3.head_object(Bucket=bucket, Key="d")
    objects = [
        {"Key": "a", "ETag": etags["a"]},
        {"Key": "b", "ETag": etags["a"]},
        {"Key": "c", "Size": 99},
        {"Key": "d", "Size": 1, "LastModifiedTime": head["LastModified"]},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [found["Key"] for found in answer["Deleted"]] == ["a", "d"]
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [
        ("b", "PreconditionFailed"),
        ("c", "PreconditionFailed"),
    ]
    assert [found["Key"] for found in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["b", "c"]


def test_an_etag_of_what_is_not_there_is_no_such_key(s3: Any, bucket: str) -> None:
    """As the single DELETE with If-Match has it; without an ETag there is nothing that could differ."""
    made = s3.put_object(Bucket=bucket, Key="there", Body=b"x")["ETag"]
    modified = s3.head_object(Bucket=bucket, Key="there")["LastModified"]
    for etag in ("*", made):
        with refused("NoSuchKey", 404):
            s3.delete_object(Bucket=bucket, Key="gone", IfMatch=etag)
    objects = [
        {"Key": "gone", "ETag": made},
        {"Key": "gone", "ETag": "*"},
        {"Key": "gone", "ETag": made, "Size": 1},
        {"Key": "gone", "Size": 1},
        {"Key": "gone", "LastModifiedTime": modified},
        {"Key": "there", "ETag": "*"},
    ]
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": objects})
    assert [(error["Key"], error["Code"]) for error in answer["Errors"]] == [("gone", "NoSuchKey")] * 3
    assert [found["Key"] for found in answer["Deleted"]] == ["gone", "gone", "there"]


def test_a_condition_that_we_do_not_know_deletes_nothing(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    document = b"<Delete><Object><Key>k</Key><IfSomething>1</IfSomething></Object></Delete>"
    answer = delete(raw, bucket, document)
    assert (answer.status, answer.code) == (400, "MalformedXML")
    assert s3.head_object(Bucket=bucket, Key="k")


def test_the_document_must_be_covered_by_a_digest_that_is_right(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    document = keys_document(["k"])
    wrong = base64.b64encode(hashlib.md5(b"other").digest()).decode()
    right = base64.b64encode(hashlib.sha256(document).digest()).decode()
    for headers, code in (
        ([("x-none", "")], "InvalidRequest"),
        ([("Content-MD5", wrong)], "BadDigest"),
        ([("Content-MD5", "?")], "InvalidDigest"),
        ([("x-amz-checksum-sha256", right[:-2] + "A=")], "BadDigest"),
    ):
        answer = delete(raw, bucket, document, *headers)
        assert (answer.status, answer.code) == (400, code)
    assert s3.head_object(Bucket=bucket, Key="k")
    assert delete(raw, bucket, document, ("x-amz-checksum-sha256", right)).status == 200
    with refused("404", 404):
        s3.head_object(Bucket=bucket, Key="k")


def test_bad_documents_delete_nothing(raw: Sender, s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    entity = b'<!DOCTYPE Delete [<!ENTITY a "k">]><Delete><Object><Key>&a;</Key></Object></Delete>'
    for document in (
        b"",
        b"k",
        b"<Delete>",
        b"<Delete/>",
        b"<Remove><Object><Key>k</Key></Object></Remove>",
        b"<Delete><Object><Key></Key></Object></Delete>",
        b"<Delete><Object/></Delete>",
        b"<Delete><Object><Key>k</Key><Key>k</Key></Object></Delete>",
        b"<Delete><Quiet>perhaps</Quiet><Object><Key>k</Key></Object></Delete>",
        entity,
        keys_document(["k"] * 1001),
        b"<Delete>" + b"<a>" * 100_000,
    ):
        answer = delete(raw, bucket, document)
        assert (answer.status, answer.code) == (400, "MalformedXML"), document[:80]
    assert s3.head_object(Bucket=bucket, Key="k")


def test_the_same_key_twice_is_deleted_twice(s3: Any, bucket: str) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k"}, {"Key": "k"}]})
    assert [found["Key"] for found in answer["Deleted"]] == ["k", "k"]


def test_versions_in_the_document(s3: Any, bucket: str) -> None:
    """Only the last version is there: naming another one deletes nothing, and is no error."""
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    old = s3.put_object(Bucket=bucket, Key="k", Body=b"1")["VersionId"]
    new = s3.put_object(Bucket=bucket, Key="k", Body=b"2")["VersionId"]
    for version, left in ((old, 1), (new, 0)):
        answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": version}]})
        assert answer["Deleted"] == [{"Key": "k", "VersionId": version}]
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == left
    answer = s3.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": "k", "VersionId": "nonsense"}]})
    assert [error["Code"] for error in answer["Errors"]] == ["InvalidArgument"]
