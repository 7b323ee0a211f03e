"""Which operation a request is, and that nothing unknown becomes one."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import botocore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.protocol.operations import OPERATIONS, Level, Operation, find, resolve
from aisobj.protocol.query import EMPTY, parse_query

NO_HEADERS: Mapping[bytes, bytes] = {}


def ask(level: Level, method: str, query: str = "", headers: Mapping[bytes, bytes] = NO_HEADERS) -> Operation:
    return resolve(level, method.encode(), parse_query(query.encode()), headers.get)


def refusal(level: Level, method: str, query: str = "", headers: Mapping[bytes, bytes] = NO_HEADERS) -> S3Error:
    with pytest.raises(S3Error) as caught:
        ask(level, method, query, headers)
    return caught.value


COPY = {b"x-amz-copy-source": b"/b/k"}
SERVICE, BUCKET, OBJECT = Level.SERVICE, Level.BUCKET, Level.OBJECT

IMPLEMENTED: list[tuple[str, Level, str, str, Mapping[bytes, bytes]]] = [
    ("ListBuckets", SERVICE, "GET", "max-buckets=3&prefix=a", {}),
    ("CreateBucket", BUCKET, "PUT", "", {}),
    ("HeadBucket", BUCKET, "HEAD", "", {}),
    ("DeleteBucket", BUCKET, "DELETE", "", {}),
    ("GetBucketCors", BUCKET, "GET", "cors", {}),
    ("GetBucketLocation", BUCKET, "GET", "location", {}),
    ("GetBucketVersioning", BUCKET, "GET", "versioning=", {}),
    ("PutBucketVersioning", BUCKET, "PUT", "versioning", {}),
    ("ListObjects", BUCKET, "GET", "prefix=&delimiter=&marker=&max-keys=&encoding-type=url", {}),
    ("ListObjectsV2", BUCKET, "GET", "list-type=2&prefix=&marker=&start-after=&continuation-token=&fetch-owner=", {}),
    ("ListObjectVersions", BUCKET, "GET", "versions&prefix=&key-marker=&version-id-marker=&max-keys=&delimiter=", {}),
    ("ListMultipartUploads", BUCKET, "GET", "uploads&prefix=&key-marker=&upload-id-marker=&delimiter=", {}),
    ("DeleteObjects", BUCKET, "POST", "delete", {}),
    ("PutObject", OBJECT, "PUT", "", {}),
    ("GetObject", OBJECT, "GET", "versionId=&partNumber=1&response-content-type=", {}),
    ("HeadObject", OBJECT, "HEAD", "partNumber=2", {}),
    ("DeleteObject", OBJECT, "DELETE", "versionId=x", {}),
    ("GetObjectTagging", OBJECT, "GET", "tagging&versionId=x", {}),
    ("CopyObject", OBJECT, "PUT", "", COPY),
    ("CreateMultipartUpload", OBJECT, "POST", "uploads", {}),
    ("UploadPart", OBJECT, "PUT", "partNumber=1&uploadId=x", {}),
    ("UploadPartCopy", OBJECT, "PUT", "partNumber=1&uploadId=x", COPY),
    ("CompleteMultipartUpload", OBJECT, "POST", "uploadId=x", {}),
    ("AbortMultipartUpload", OBJECT, "DELETE", "uploadId=x", {}),
    ("ListParts", OBJECT, "GET", "uploadId=x&max-parts=&part-number-marker=", {}),
]

#: What any client may add to any request.
IGNORED = (
    "x-id=Any&X-Amz-Signature=0&X-Amz-Credential=a&X-Amz-Security-Token=&AWSAccessKeyId=a&Signature=b&Expires=1&x-"
)


@pytest.mark.parametrize(("name", "level", "method", "query", "headers"), IMPLEMENTED)
def test_an_implemented_operation_is_found_also_with_what_any_client_may_add(
    name: str, level: Level, method: str, query: str, headers: Mapping[bytes, bytes]
) -> None:
    operation = ask(level, method, query, headers)
    assert (operation.name, operation.level, operation.method) == (name, level, method)
    assert operation is OPERATIONS[name]
    assert ask(level, method, f"{query}&{IGNORED}" if query else IGNORED, headers) is operation
    assert operation.writes == (method in {"PUT", "POST", "DELETE"})


def test_no_other_operation_counts_as_implemented() -> None:
    assert {op.name for op in OPERATIONS.values() if op.implemented} == {row[0] for row in IMPLEMENTED}


def botocore_operations() -> list[tuple[str, str, str]]:
    """(name, method, URI) of every operation in the installed SDK's model of S3."""
    model = next((Path(botocore.__file__).parent / "data" / "s3").glob("*/service-2.json*"))
    text = gzip.decompress(model.read_bytes()) if model.suffix == ".gz" else model.read_bytes()
    operations = json.loads(text)["operations"]
    return [(name, op["http"]["method"], op["http"]["requestUri"]) for name, op in operations.items()]


def test_every_operation_of_the_sdks_model_is_known_and_none_falls_through_to_another() -> None:
    """The names that this table gives differ where AWS tells operations apart by more than the sub-resource."""
    same = {
        "CopyObject": "PutObject",
        "UploadPartCopy": "UploadPart",
        "ListObjects": "ListObjects",
        "ListDirectoryBuckets": "ListBuckets",  # on a host of its own
        "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
        "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
        "GetBucketNotification": "GetBucketNotificationConfiguration",
        "PutBucketNotification": "PutBucketNotificationConfiguration",
        "GetObjectAnnotation": "ListObjectAnnotations",
        "GetBucketAnalyticsConfiguration": "ListBucketAnalyticsConfigurations",
        "GetBucketInventoryConfiguration": "ListBucketInventoryConfigurations",
        "GetBucketMetricsConfiguration": "ListBucketMetricsConfigurations",
        "GetBucketIntelligentTieringConfiguration": "ListBucketIntelligentTieringConfigurations",
    }
    needs_upload_id = {"ListParts", "UploadPart", "UploadPartCopy", "CompleteMultipartUpload", "AbortMultipartUpload"}
    for name, method, uri in botocore_operations():
        if name == "WriteGetObjectResponse":  # POST /WriteGetObjectResponse on a host of Object Lambda
            continue
        path, _, query = uri.partition("?")
        level = SERVICE if path == "/" else OBJECT if "{Key+}" in path else BUCKET
        query = query or ("uploadId=x" if name in needs_upload_id else "")
        query = query.replace("&select-type=2", "")
        found = find(level, method.encode(), parse_query(query.encode()), NO_HEADERS.get)
        assert found.name == same.get(name, name), name


@pytest.mark.parametrize(
    ("level", "method", "query"),
    [
        (OBJECT, "PUT", "tagging"),
        (OBJECT, "PUT", "tagging="),
        (OBJECT, "PUT", "acl&versionId=x"),
        (OBJECT, "PUT", "retention=x"),
        (OBJECT, "GET", "attributes"),
        (OBJECT, "GET", "torrent"),
        (OBJECT, "HEAD", "acl"),
        (OBJECT, "POST", "select&select-type=2"),
        (OBJECT, "PUT", "renameObject"),
        (OBJECT, "GET", "location"),
        (OBJECT, "PUT", "versioning"),
        (BUCKET, "GET", "acl"),
        (BUCKET, "GET", "policy"),
        (BUCKET, "PUT", "policy"),
        (BUCKET, "DELETE", "lifecycle"),
        (BUCKET, "GET", "session"),
        (BUCKET, "POST", ""),
        (BUCKET, "PUT", "retention"),
        (BUCKET, "GET", "uploadId=x"),
        (SERVICE, "GET", "acl"),
        (SERVICE, "GET", "max-directory-buckets=3"),
    ],
)
def test_a_known_sub_resource_that_we_do_not_have_is_not_implemented(level: Level, method: str, query: str) -> None:
    assert refusal(level, method, query).code == "NotImplemented"


@pytest.mark.parametrize("level", [BUCKET, OBJECT])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
@pytest.mark.parametrize(
    "query", ["newThing", "newThing=", "newThing=1", "ACL", "prefix=a", "partnumber=1", "_=1", "1"]
)
def test_a_write_with_a_parameter_that_it_does_not_have_is_not_implemented(
    level: Level, method: str, query: str
) -> None:
    assert refusal(level, method, query).code == "NotImplemented"
    assert refusal(level, method, f"x-id=a&{query}").code == "NotImplemented"


@pytest.mark.parametrize("headers", [{}, COPY])
@pytest.mark.parametrize("query", ["partNumber=1", "partNumber", "x-id=UploadPart&partNumber=1"])
def test_a_part_without_its_upload_is_no_object(query: str, headers: Mapping[bytes, bytes]) -> None:
    with pytest.raises(S3Error, match="does not accept partNumber without uploadId") as caught:
        ask(OBJECT, "PUT", query, headers)
    assert caught.value.code == "InvalidArgument"
    for level, method in ((BUCKET, "PUT"), (BUCKET, "DELETE"), (OBJECT, "DELETE")):
        assert refusal(level, method, query).code == "NotImplemented"


@given(
    st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda name: name[:2].lower() != "x-" and name not in {"AWSAccessKeyId", "Signature", "Expires"}
    )
)
def test_no_unknown_word_makes_a_put_or_a_bucket_creation(word: str) -> None:
    for level in (BUCKET, OBJECT):
        try:
            operation = ask(level, "PUT", quote(word, safe=""))
        except S3Error as error:
            told = (level, word) == (OBJECT, "partNumber")
            assert error.code in ({"InvalidArgument"} if told else {"NotImplemented", "MethodNotAllowed"})
        else:
            assert operation.name not in {"PutObject", "CreateBucket"}


@pytest.mark.parametrize("query", ["newThing", "new-thing=", "Acl", "versioning2x&newThing"])
def test_a_read_with_an_unknown_sub_resource_is_not_implemented(query: str) -> None:
    assert refusal(OBJECT, "GET", query).code == "NotImplemented"
    assert refusal(BUCKET, "GET", query).code == "NotImplemented"


@pytest.mark.parametrize("query", ["v=2", "_=17000", "28661463", "utm_source=x", "download=1"])
def test_a_read_with_a_cache_buster_is_read(query: str) -> None:
    assert ask(OBJECT, "GET", query).name == "GetObject"


def test_two_sub_resources_at_once_are_refused() -> None:
    error = refusal(OBJECT, "PUT", "tagging&acl")
    assert (error.code, error.message) == ("InvalidArgument", "Conflicting query string parameters: acl, tagging")
    assert refusal(OBJECT, "GET", "uploadId=x&uploads").code == "InvalidArgument"


@pytest.mark.parametrize(
    ("level", "method", "query", "allow"),
    [
        (SERVICE, "PUT", "", "GET"),
        (SERVICE, "HEAD", "", "GET"),
        (BUCKET, "PATCH", "", "DELETE, GET, HEAD, PUT"),
        (BUCKET, "DELETE", "versioning", "GET, PUT"),
        (BUCKET, "HEAD", "list-type=2", "GET"),
        (BUCKET, "DELETE", "delete", "POST"),
        (OBJECT, "POST", "", "DELETE, GET, HEAD, PUT"),
        (OBJECT, "OPTIONS", "", "DELETE, GET, HEAD, PUT"),
        (OBJECT, "HEAD", "uploadId=x", "DELETE, GET, POST, PUT"),
        (OBJECT, "\xff", "uploads", "POST"),
    ],
)
def test_a_method_that_the_resource_lacks_is_405_with_those_that_it_has(
    level: Level, method: str, query: str, allow: str
) -> None:
    with pytest.raises(S3Error) as caught:
        resolve(level, method.encode("latin-1"), parse_query(query.encode()), NO_HEADERS.get)
    assert (caught.value.code, caught.value.headers) == ("MethodNotAllowed", {"Allow": allow})


def test_a_sub_resource_without_any_method_that_we_have_is_501_rather_than_405() -> None:
    assert refusal(BUCKET, "POST", "acl").code == "NotImplemented"


def test_the_name_of_an_operation_that_we_do_not_have_is_found_for_the_log() -> None:
    operation = find(BUCKET, b"GET", parse_query(b"acl"), NO_HEADERS.get)
    assert (operation.name, operation.implemented) == ("GetBucketAcl", False)


# --- headers

NEW_OBJECT = [("PUT", "", {}), ("PUT", "", COPY), ("POST", "uploads", {})]


@pytest.mark.parametrize(("method", "query", "headers"), NEW_OBJECT)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-amz-server-side-encryption", "AES256"),
        ("x-amz-server-side-encryption-customer-key", "x"),
        ("x-amz-server-side-encryption-aws-kms-key-id", "x"),
        ("x-amz-object-lock-mode", "GOVERNANCE"),
        ("x-amz-object-lock-legal-hold", "ON"),
        ("x-amz-tagging", "a=b"),
        ("x-amz-grant-read", "id=x"),
        ("x-amz-website-redirect-location", "/x"),
        ("x-amz-acl", "public-read"),
        ("x-amz-storage-class", "GLACIER"),
    ],
)
def test_a_new_object_with_what_we_cannot_keep_is_not_implemented(
    method: str, query: str, headers: Mapping[bytes, bytes], name: str, value: str
) -> None:
    with_header = {**headers, name.encode(): value.encode()}
    assert refusal(OBJECT, method, query, with_header).code == "NotImplemented"
    hoisted = f"{query}&{name.title()}={value}".lstrip("&")
    assert refusal(OBJECT, method, hoisted, headers).code == "NotImplemented"


@pytest.mark.parametrize(
    ("level", "method", "query", "header", "value"),
    [
        (OBJECT, "PUT", "", "x-amz-write-offset-bytes", "0"),
        (OBJECT, "GET", "", "x-amz-server-side-encryption-customer-algorithm", "AES256"),
        (OBJECT, "DELETE", "", "x-amz-mfa", "1 2"),
        (OBJECT, "DELETE", "", "x-amz-if-match-size", "5"),
        (OBJECT, "PUT", "uploadId=x&partNumber=1", "x-amz-server-side-encryption-customer-key", "x"),
        (BUCKET, "PUT", "", "x-amz-bucket-object-lock-enabled", "true"),
        (BUCKET, "PUT", "", "x-amz-object-ownership", "ObjectWriter"),
        (BUCKET, "PUT", "", "x-amz-grant-full-control", "id=x"),
        (BUCKET, "PUT", "versioning", "x-amz-mfa", "1 2"),
    ],
)
def test_headers_that_other_operations_refuse(level: Level, method: str, query: str, header: str, value: str) -> None:
    error = refusal(level, method, query, {header.encode(): value.encode()})
    assert error.code == "NotImplemented"
    assert header in error.detail.values()


@pytest.mark.parametrize("level", [BUCKET, OBJECT])
def test_a_canned_acl_that_nobody_knows_is_invalid_argument(level: Level) -> None:
    assert refusal(level, "PUT", "", {b"x-amz-acl": b"Public"}).code == "InvalidArgument"


def test_a_storage_class_that_nobody_knows() -> None:
    assert refusal(OBJECT, "PUT", "", {b"x-amz-storage-class": b"FAST"}).code == "InvalidStorageClass"


def test_headers_that_change_nothing_are_accepted() -> None:
    headers = {
        b"x-amz-acl": b"private",
        b"x-amz-storage-class": b"STANDARD",
        b"x-amz-tagging": b"",
        b"x-amz-request-payer": b"requester",
        b"x-amz-expected-bucket-owner": b"123456789012",
        b"x-amz-bypass-governance-retention": b"true",
    }
    assert ask(OBJECT, "PUT", "", headers).name == "PutObject"
    assert ask(OBJECT, "PUT", "", {b"x-amz-acl": b"bucket-owner-full-control"}).name == "PutObject"
    bucket = {b"x-amz-object-ownership": b"BucketOwnerEnforced", b"x-amz-bucket-object-lock-enabled": b"false"}
    assert ask(BUCKET, "PUT", "", bucket).name == "CreateBucket"


@pytest.mark.parametrize("query", ["x-amz-copy-source=/b/k", "X-Amz-Write-Offset-Bytes=0", "x-amz-new-header=1"])
def test_a_header_hoisted_into_the_query_never_makes_another_operation(query: str) -> None:
    assert refusal(OBJECT, "PUT", query).code == "NotImplemented"


def test_what_presigning_sdks_hoist_is_accepted() -> None:
    query = "x-amz-meta-a=b&x-amz-checksum-crc32=AAAAAA%3D%3D&x-amz-sdk-checksum-algorithm=CRC32&x-amz-acl=private"
    assert ask(OBJECT, "PUT", query).name == "PutObject"
    assert ask(OBJECT, "GET", "x-amz-checksum-mode=ENABLED").name == "GetObject"


# --- the query itself


def test_an_empty_query_is_the_shared_empty_one() -> None:
    assert parse_query(b"") is EMPTY
    assert not EMPTY
    assert EMPTY.hoisted() == []
    assert EMPTY.get("a") is None


def test_a_query_is_decoded_once() -> None:
    query = parse_query(b"a=1+2%2B%2541&&b&=x&c=%C3%A9=&a=second&%61b=%00")
    assert sorted(query.names()) == ["", "a", "ab", "b", "c"]
    assert (query.get("a"), query.get_bytes("a")) == ("1 2+%41", b"1 2+%41")
    assert (query.get("b"), query.get("c"), query.get_bytes("ab"), query.get("z")) == ("", "é=", b"\0", None)
    assert "b" in query
    assert "z" not in query


@pytest.mark.parametrize("raw", [b"a=%", b"a=%zz", b"%4=a", b"a=%C3", b"%ff=a", b"a=\xff", b"a=%ED%A0%80"])
def test_a_query_that_does_not_decode_is_invalid_uri(raw: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse_query(raw)
    assert caught.value.code == "InvalidURI"


def test_hoisted_headers_come_without_the_signature() -> None:
    query = parse_query(b"X-Amz-Meta-A=b+c&X-Amz-Signature=0&X-Amz-Date=1&x-id=1&x-amz-acl=private&prefix=a")
    assert query.hoisted() == [(b"x-amz-meta-a", b"b c"), (b"x-amz-acl", b"private")]
