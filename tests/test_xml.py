"""Our documents, and what botocore makes of them."""

from __future__ import annotations

import datetime
from xml.etree import ElementTree

import pytest
from botocore.handlers import decode_list_object, decode_list_object_v2
from hypothesis import given
from hypothesis import strategies as st
from xmlkit import KEY, NS, SECOND, WHEN, T, list_objects, parsed

from aisobj.errors import ERRORS, S3Error
from aisobj.model import BodyKind, Checksum, ObjectRecord, Part, Upload, VersioningStatus
from aisobj.protocol import xml
from aisobj.protocol.listing import Page, PartsPage, UploadsPage, finish
from aisobj.protocol.listparams import (
    BucketsParams,
    ListParams,
    PartsParams,
    UploadsParams,
    VersionsParams,
    decode_token,
)
from aisobj.protocol.query import parse_query
from aisobj.protocol.s3time import http_date, iso8601


def tags(element: ElementTree.Element) -> list[str]:
    return [child.tag.removeprefix(NS) for child in element]


def record(etag: str = "05967d5390ac53b0", checksum: Checksum | None = None) -> ObjectRecord:
    return ObjectRecord(b"v" * 16, 1, 12, T, etag, BodyKind.INLINE, b"", checksum=checksum)


UPLOAD = Upload(bytes(range(16)), T, "me", "md5", checksum_algorithm="CRC32")
UPLOAD_ID = UPLOAD.id.hex()
ME = {"ID": "me", "DisplayName": "me"}


def test_times() -> None:
    assert iso8601(T) == "2009-10-12T17:50:50.000Z"
    assert http_date(T) == "Mon, 12 Oct 2009 17:50:50 GMT"
    assert iso8601(0) == "1970-01-01T00:00:00.000Z"
    assert http_date(951_782_400 * SECOND) == "Tue, 29 Feb 2000 00:00:00 GMT"


# --- errors


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_is_a_document_with_its_code(code: str) -> None:
    root = ElementTree.fromstring(xml.error_document(S3Error(code), "/b/k", "id"))
    assert (root.tag, tags(root)) == ("Error", ["Code", "Message", "Resource", "RequestId"])
    assert [child.text for child in root] == [code, ERRORS[code][1], "/b/k", "id"]


def test_details_come_between_message_and_resource() -> None:
    error = S3Error("NoSuchKey", "gone", Key="k")
    root = ElementTree.fromstring(xml.error_document(error, "/b/k", "id", "host"))
    assert tags(root) == ["Code", "Message", "Key", "Resource", "RequestId", "HostId"]
    assert tags(ElementTree.fromstring(xml.error_document(error, "", ""))) == ["Code", "Message", "Key"]


@given(st.text(st.characters()))
def test_an_error_parses_whatever_the_request_held(text: str) -> None:
    root = ElementTree.fromstring(xml.error_document(S3Error("NoSuchKey", text, Key=text), text, text))
    assert root[0].text == "NoSuchKey"
    if text.isprintable():
        assert (root[1].text or "") == (root[2].text or "") == text


# --- service and bucket


def test_list_buckets() -> None:
    params = BucketsParams.parse(parse_query(b""))
    body = xml.list_buckets(params, "me", [("a", T), ("b", 0)], region="eu")
    assert parsed("ListBuckets", body) == {
        "Owner": ME,
        "Buckets": [
            {"Name": "a", "CreationDate": WHEN},
            {"Name": "b", "CreationDate": datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)},
        ],
    }


def test_list_buckets_in_pages() -> None:
    params = BucketsParams.parse(parse_query(b"max-buckets=1&prefix=a%26"))
    result = parsed("ListBuckets", xml.list_buckets(params, "me", [("a", T)], region="eu", next_after=b"a"))
    assert result["Buckets"] == [{"Name": "a", "CreationDate": WHEN, "BucketRegion": "eu"}]
    assert result["Prefix"] == "a&"
    assert decode_token(result["ContinuationToken"]) == b"a"


def test_location_constraint() -> None:
    for region, text in (("us-east-1", None), ("eu-west-1", "eu-west-1")):
        root = ElementTree.fromstring(xml.location_constraint(region))
        assert (root.tag, root.text) == (f"{NS}LocationConstraint", text)


@pytest.mark.parametrize(
    ("status", "text"),
    [(VersioningStatus.UNSET, None), (VersioningStatus.ENABLED, "Enabled"), (VersioningStatus.SUSPENDED, "Suspended")],
)
def test_versioning_configuration(status: VersioningStatus, text: str | None) -> None:
    body = xml.versioning_configuration(status)
    assert parsed("GetBucketVersioning", body) == ({"Status": text} if text else {})
    assert ElementTree.fromstring(body).tag == f"{NS}VersioningConfiguration"


# --- listings


def test_list_objects_version_2() -> None:
    params = ListParams.parse(parse_query(b"list-type=2&prefix=a%26&delimiter=/&max-keys=3&start-after=a"), 2)
    items = [
        (b"a&1", record()),
        (b"a&2", record("x-2", Checksum("CRC32", b"abcd", 2))),
        (b"a&3", record(checksum=Checksum("CRC64NVME", b"12345678"))),
    ]
    body = list_objects(params, "bck", Page(items, [b"a&<b>/"], True, b"a&<b>/"), "me")
    root = ElementTree.fromstring(body)
    assert root.tag == f"{NS}ListBucketResult"
    assert tags(root) == (
        ["Name", "Prefix", "StartAfter", "NextContinuationToken", "KeyCount", "MaxKeys", "Delimiter", "IsTruncated"]
        + ["Contents"] * 3
        + ["CommonPrefixes"]
    )
    assert b"<ETag>&quot;05967d5390ac53b0&quot;</ETag>" in body
    result = parsed("ListObjectsV2", body)
    assert decode_token(result.pop("NextContinuationToken")) == b"a&<b>/"
    etag = '"05967d5390ac53b0"'
    common = {"LastModified": WHEN, "Size": 12, "StorageClass": "STANDARD"}
    assert result == {
        "Name": "bck",
        "Prefix": "a&",
        "StartAfter": "a",
        "KeyCount": 4,
        "MaxKeys": 3,
        "Delimiter": "/",
        "IsTruncated": True,
        "Contents": [
            {"Key": "a&1", "ETag": etag, **common},
            {"Key": "a&2", "ETag": '"x-2"', "ChecksumAlgorithm": ["CRC32"], "ChecksumType": "COMPOSITE", **common},
            {"Key": "a&3", "ETag": etag, "ChecksumAlgorithm": ["CRC64NVME"], "ChecksumType": "FULL_OBJECT", **common},
        ],
        "CommonPrefixes": [{"Prefix": "a&<b>/"}],
    }


def test_list_objects_version_2_names_the_owner_only_when_asked_and_echoes_the_token() -> None:
    page = Page([(b"k", record())], [], False, b"k")
    plain = parsed("ListObjectsV2", list_objects(v2(b""), "bck", page, "me"))
    assert "Owner" not in plain["Contents"][0]
    assert "NextContinuationToken" not in plain
    token = xml_token(b"a")
    result = parsed("ListObjectsV2", list_objects(v2(b"fetch-owner=true&continuation-token=" + token), "b", page, "me"))
    assert result["Contents"][0]["Owner"] == ME
    assert result["ContinuationToken"].encode() == token


def v2(query: bytes) -> ListParams:
    return ListParams.parse(parse_query(b"list-type=2&" + query), 2)


def xml_token(after: bytes) -> bytes:
    page: Page[ObjectRecord] = Page([], [after], True, after)
    result = parsed("ListObjectsV2", list_objects(v2(b""), "b", page, "me"))
    return str(result["NextContinuationToken"]).encode()


def test_list_objects_version_1_has_a_next_marker_only_with_a_delimiter() -> None:
    page = Page([(b"k", record())], [], True, b"k")
    without = list_objects(ListParams.parse(parse_query(b"marker=a"), 1), "bck", page, "me")
    root = ElementTree.fromstring(without)
    assert tags(root) == ["Name", "Prefix", "Marker", "MaxKeys", "IsTruncated", "Contents"]
    assert tags(root[-1]) == ["Key", "LastModified", "ETag", "Size", "Owner", "StorageClass"]
    result = parsed("ListObjects", without)
    assert (result["Marker"], result["IsTruncated"], result["Contents"][0]["Owner"]) == ("a", True, ME)
    with_one = list_objects(ListParams.parse(parse_query(b"delimiter=/"), 1), "bck", page, "me")
    assert parsed("ListObjects", with_one)["NextMarker"] == "k"
    last = Page([(b"k", record())], [], False, b"k")
    at_end = list_objects(ListParams.parse(parse_query(b"delimiter=/"), 1), "bck", last, "me")
    assert "NextMarker" not in parsed("ListObjects", at_end)


@given(KEY, KEY)
def test_with_encoding_type_url_boto3_reads_every_key_there_can_be(key: str, other: str) -> None:
    keys = [key.encode(), other.encode()]
    page = Page([(each, record()) for each in keys], keys, True, keys[1])
    params = ListParams(2, keys[0], keys[1], 9, True, b"", start_after=keys[0])
    result = parsed("ListObjectsV2", list_objects(params, "b", page, "me"))
    decode_list_object_v2(result, {"encoding_type_auto_set": True})
    assert [item["Key"] for item in result["Contents"]] == [key, other]
    assert [item["Prefix"] for item in result["CommonPrefixes"]] == [key, other]
    assert (result["Prefix"], result["Delimiter"], result["StartAfter"]) == (key, other, key)
    params = ListParams(1, b"", keys[1], 9, True, keys[0], marker=keys[0])
    result = parsed("ListObjects", list_objects(params, "b", page, "me"))
    decode_list_object(result, {"encoding_type_auto_set": True})
    assert [item["Key"] for item in result["Contents"]] == [key, other]
    assert (result["Marker"], result["NextMarker"], result["Delimiter"]) == (key, other, other)


def test_url_encoding_is_that_of_aws() -> None:
    keys = ["test_file(3).png", "foo+1/bar", "quux ab/cd", "ä~", "%41", "plain/key-1.tar"]
    page = Page([(key.encode(), record()) for key in keys], [], False, b"")
    result = parsed("ListObjectsV2", list_objects(v2(b"encoding-type=url"), "b", page, "me"))
    assert [item["Key"] for item in result["Contents"]] == [
        "test_file%283%29.png",
        "foo%2B1/bar",
        "quux%20ab/cd",
        "%C3%A4~",
        "%2541",
        "plain/key-1.tar",
    ]
    assert result["EncodingType"] == "url"


XML_KEY = KEY.filter(lambda key: all(char in "\t\n\r" or char >= " " for char in key) and not set(key) & {"￾", "￿"})


@given(st.lists(XML_KEY, min_size=1, max_size=4))
def test_without_url_encoding_every_key_that_xml_can_carry_comes_back(keys: list[str]) -> None:
    page = Page([(key.encode(), record()) for key in keys], [], False, b"")
    result = parsed("ListObjectsV2", list_objects(v2(b""), "b", page, "me"))
    assert [item["Key"] for item in result["Contents"]] == keys


def test_a_key_that_xml_cannot_carry_is_written_as_aws_does() -> None:
    page = Page([(b"a\x01b\x1f", record())], [], False, b"")
    assert b"<Key>a&#x1;b&#x1F;</Key>" in list_objects(v2(b""), "b", page, "me")


def test_list_object_versions() -> None:
    params = VersionsParams.parse(
        parse_query(b"prefix=p%3C&delimiter=/&key-marker=k&version-id-marker=v%3C&max-keys=2")
    )
    page = Page([(b"p<1", record(checksum=Checksum("CRC32", bytes(4), 2)))], [b"p</"], True, b"p<1")
    body = finish(xml.list_object_versions(params, "bck", page, "me", bytes.hex))
    assert ElementTree.fromstring(body).tag == f"{NS}ListVersionsResult"
    assert parsed("ListObjectVersions", body) == {
        "Name": "bck",
        "Prefix": "p<",
        "KeyMarker": "k",
        "VersionIdMarker": "v<",
        "NextKeyMarker": "p<1",
        "NextVersionIdMarker": (b"v" * 16).hex(),
        "MaxKeys": 2,
        "Delimiter": "/",
        "IsTruncated": True,
        "Versions": [
            {
                "Key": "p<1",
                "VersionId": (b"v" * 16).hex(),
                "IsLatest": True,
                "LastModified": WHEN,
                "ETag": '"05967d5390ac53b0"',
                "ChecksumAlgorithm": ["CRC32"],
                "ChecksumType": "COMPOSITE",
                "Size": 12,
                "StorageClass": "STANDARD",
                "Owner": ME,
            }
        ],
        "CommonPrefixes": [{"Prefix": "p</"}],
    }


def test_list_multipart_uploads() -> None:
    params = UploadsParams(b"p<", b"/", 2, False, b"k", UPLOAD.id)
    page = UploadsPage([(b"p<1", UPLOAD)], [b"p</"], True, b"p</", "")
    body = xml.list_multipart_uploads(params, "bck", page)
    assert ElementTree.fromstring(body).tag == f"{NS}ListMultipartUploadsResult"
    assert parsed("ListMultipartUploads", body) == {
        "Bucket": "bck",
        "KeyMarker": "k",
        "UploadIdMarker": UPLOAD_ID,
        "NextKeyMarker": "p</",
        "NextUploadIdMarker": "",
        "Prefix": "p<",
        "Delimiter": "/",
        "MaxUploads": 2,
        "IsTruncated": True,
        "Uploads": [
            {
                "Key": "p<1",
                "UploadId": UPLOAD_ID,
                "Initiator": ME,
                "Owner": ME,
                "StorageClass": "STANDARD",
                "Initiated": WHEN,
                "ChecksumAlgorithm": "CRC32",
                "ChecksumType": "COMPOSITE",
            }
        ],
        "CommonPrefixes": [{"Prefix": "p</"}],
    }
    url = UploadsParams(b"", b"", 1000, True)
    result = parsed(
        "ListMultipartUploads",
        xml.list_multipart_uploads(url, "b", UploadsPage([(b"\x01", UPLOAD)], [], False, b"", "")),
    )
    assert (result["Uploads"][0]["Key"], result["EncodingType"]) == ("%01", "url")
    assert "NextKeyMarker" not in result


def test_list_parts() -> None:
    part = Part(7, 5, T, "e", b"", [], Checksum("CRC32", b"abcd"))
    body = xml.list_parts(PartsParams(1, 6), "bck", b"k&", UPLOAD, PartsPage([part], True, 7))
    assert ElementTree.fromstring(body).tag == f"{NS}ListPartsResult"
    assert parsed("ListParts", body) == {
        "Bucket": "bck",
        "Key": "k&",
        "UploadId": UPLOAD_ID,
        "Initiator": ME,
        "Owner": ME,
        "StorageClass": "STANDARD",
        "PartNumberMarker": 6,
        "NextPartNumberMarker": 7,
        "MaxParts": 1,
        "IsTruncated": True,
        "ChecksumAlgorithm": "CRC32",
        "ChecksumType": "COMPOSITE",
        "Parts": [{"PartNumber": 7, "LastModified": WHEN, "ETag": '"e"', "Size": 5, "ChecksumCRC32": "YWJjZA=="}],
    }
    without = Upload(UPLOAD.id, T, "me", "md5")
    result = parsed("ListParts", xml.list_parts(PartsParams(1, 0), "bck", b"k", without, PartsPage([], False, 0)))
    assert not {"ChecksumAlgorithm", "ChecksumType", "Parts"} & result.keys()


# --- results of writes


def test_results_of_copies() -> None:
    made = record(checksum=Checksum("SHA256", b"abcd"))
    assert parsed("CopyObject", xml.copy_object_result(made))["CopyObjectResult"] == {
        "LastModified": WHEN,
        "ETag": '"05967d5390ac53b0"',
        "ChecksumType": "FULL_OBJECT",
        "ChecksumSHA256": "YWJjZA==",
    }
    assert tags(ElementTree.fromstring(xml.copy_object_result(record()))) == ["LastModified", "ETag"]
    part = Part(1, 5, T, "e", b"", [], Checksum("CRC32C", b"abcd"))
    assert parsed("UploadPartCopy", xml.copy_part_result(part))["CopyPartResult"] == {
        "LastModified": WHEN,
        "ETag": '"e"',
        "ChecksumCRC32C": "YWJjZA==",
    }


def test_results_of_multipart() -> None:
    body = xml.initiate_multipart_upload_result("bck", b"k<", UPLOAD)
    assert parsed("CreateMultipartUpload", body) == {"Bucket": "bck", "Key": "k<", "UploadId": UPLOAD_ID}
    made = record("e-2", Checksum("CRC32", b"abcd", 2))
    body = xml.complete_multipart_upload_result("http://h/s3/bck/k%3C", "bck", b"k<", made)
    assert ElementTree.fromstring(body).tag == f"{NS}CompleteMultipartUploadResult"
    assert parsed("CompleteMultipartUpload", body) == {
        "Location": "http://h/s3/bck/k%3C",
        "Bucket": "bck",
        "Key": "k<",
        "ETag": '"e-2"',
        "ChecksumCRC32": "YWJjZA==-2",
        "ChecksumType": "COMPOSITE",
    }


def test_result_of_delete_objects() -> None:
    results: list[xml.Deleted | xml.DeleteFailed] = [
        xml.Deleted(b"a&", "v1"),
        xml.DeleteFailed(b"b", S3Error("InternalError"), "v2"),
        xml.Deleted(b"c"),
    ]
    failure = {"Key": "b", "VersionId": "v2", "Code": "InternalError", "Message": ERRORS["InternalError"][1]}
    assert parsed("DeleteObjects", xml.delete_result(results, quiet=False)) == {
        "Deleted": [{"Key": "a&", "VersionId": "v1"}, {"Key": "c"}],
        "Errors": [failure],
    }
    assert parsed("DeleteObjects", xml.delete_result(results, quiet=True)) == {"Errors": [failure]}
