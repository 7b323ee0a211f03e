"""An object's headers: what is kept of a request's, and what a response says."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.protocol.metadata import parse_object_headers, response_headers, response_overrides
from aisobj.protocol.query import parse_query

Raw = list[tuple[bytes, bytes]]


def round_trip(raw: Raw) -> Raw:
    return response_headers(*parse_object_headers(raw))


def test_what_belongs_to_the_object_is_kept_and_nothing_else() -> None:
    raw = [
        (b"Host", b"h"),
        (b"Authorization", b"secret"),
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"CACHE-CONTROL", b"no-cache"),
        (b"content-disposition", b'attachment; filename="a"'),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Language", b"de"),
        (b"Expires", b"not even a date"),
        (b"X-Amz-Meta-Colour", b"Blue"),
        (b"x-amz-metadata-directive", b"REPLACE"),
        (b"x-amz-acl", b"private"),
        (b"Content-Length", b"5"),
    ]
    content_type, headers = parse_object_headers(raw)
    assert content_type == "text/plain; charset=utf-8"
    assert headers == {
        "cache-control": "no-cache",
        "content-disposition": 'attachment; filename="a"',
        "content-encoding": "gzip",
        "content-language": "de",
        "expires": "not even a date",
        "x-amz-meta-colour": "Blue",
    }
    assert response_headers(content_type, headers) == [
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-cache"),
        (b"Content-Disposition", b'attachment; filename="a"'),
        (b"Content-Encoding", b"gzip"),
        (b"Content-Language", b"de"),
        (b"Expires", b"not even a date"),
        (b"x-amz-meta-colour", b"Blue"),
    ]


def test_without_any_the_content_type_is_aws_default() -> None:
    assert parse_object_headers([(b"Host", b"h")]) == ("", {})
    assert round_trip([]) == [(b"Content-Type", b"binary/octet-stream")]


@pytest.mark.parametrize("value", ["Blau grün 🎉".encode(), b"caf\xe9", b"=?UTF-8?B?w7w=?=", b"a\tb", b"", b"\x80\xff"])
def test_a_value_comes_back_byte_for_byte(value: bytes) -> None:
    assert round_trip([(b"x-amz-meta-a", value)])[1:] == [(b"x-amz-meta-a", value)]


@given(st.binary(max_size=50))
def test_any_value_comes_back_or_is_refused_and_never_ends_a_line(value: bytes) -> None:
    try:
        fields = round_trip([(b"x-amz-meta-a", value)])
    except S3Error as error:
        assert error.code == "InvalidArgument"
        assert any(byte < 0x20 or byte == 0x7F for byte in value)
    else:
        assert fields[1:] == [(b"x-amz-meta-a", value)]
        assert not set(value) & {0, 0x0A, 0x0D}


@pytest.mark.parametrize("name", [b"x-amz-meta-a", b"content-type", b"cache-control"])
@pytest.mark.parametrize("value", [b"a\r\nSet-Cookie: x", b"a\nb", b"a\0b", b"\x1b[0m", b"\x7f"])
def test_control_characters_are_refused(name: bytes, value: bytes) -> None:
    with pytest.raises(S3Error) as caught:
        parse_object_headers([(name, value)])
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize("name", ["a\r\nb", "a: ", "a b", "a\0", "é"])
def test_a_name_from_the_query_that_no_header_can_have_is_refused(name: str) -> None:
    hoisted = parse_query(f"X-Amz-Meta-{quote(name)}=v".encode()).hoisted()
    with pytest.raises(S3Error) as caught:
        parse_object_headers(hoisted)
    assert caught.value.code == "InvalidArgument"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"aws-chunked", None),
        (b"AWS-Chunked", None),
        (b"aws-chunked, gzip", "gzip"),
        (b"gzip,aws-chunked", "gzip"),
        (b"gzip , aws-chunked , br", "gzip,br"),
        (b"gzip, br", "gzip, br"),
        (b"", None),
    ],
)
def test_aws_chunked_is_not_part_of_the_objects_encoding(value: bytes, kept: str | None) -> None:
    assert parse_object_headers([(b"content-encoding", value)])[1].get("content-encoding") == kept


def test_repeated_headers_are_joined_where_they_are_lists_else_the_first_counts() -> None:
    raw = [
        (b"X-Amz-Meta-A", b"1"),
        (b"x-amz-meta-a", b"2"),
        (b"Content-Encoding", b"aws-chunked"),
        (b"Content-Encoding", b"gzip"),
        (b"Expires", b"first"),
        (b"Expires", b"second"),
        (b"Content-Type", b"a/b"),
        (b"Content-Type", b"c/d"),
    ]
    content_type, headers = parse_object_headers(raw)
    assert content_type == "a/b"
    assert headers == {"x-amz-meta-a": "1,2", "content-encoding": "gzip", "expires": "first"}


def metadata_of(size: int) -> Raw:
    """User metadata of ``size`` bytes as AWS counts: names without the prefix, and values."""
    return [(b"x-amz-meta-ab", b"v" * 98), (b"x-amz-meta-c", "é".encode() * 50), (b"x-amz-meta-d", b"v" * (size - 202))]


def test_2_kib_of_user_metadata_fit_and_one_byte_more_does_not() -> None:
    other = [(b"cache-control", b"x" * 3000)]
    assert len(parse_object_headers([*metadata_of(2048), *other])[1]) == 4
    with pytest.raises(S3Error) as caught:
        parse_object_headers(metadata_of(2049))
    assert caught.value.code == "MetadataTooLarge"
    assert caught.value.detail == {"Size": "2049", "MaxSizeAllowed": "2048"}


def test_the_hoisted_headers_of_a_presigned_request_count() -> None:
    query = parse_query(b"X-Amz-Meta-A=gr%C3%BCn&X-Amz-Signature=0")
    assert round_trip(query.hoisted())[1:] == [(b"x-amz-meta-a", "grün".encode())]


# --- response-*


def test_overrides_replace_what_is_stored_and_add_what_is_not() -> None:
    query = parse_query(
        b"response-content-type=text/html&response-expires=never&response-cache-control=&x-id=GetObject"
    )
    overrides = response_overrides(query)
    assert overrides == {"content-type": "text/html", "expires": "never"}
    stored = {"expires": "soon", "x-amz-meta-a": "b", "cache-control": "c"}
    assert response_headers("a/b", stored, overrides) == [
        (b"Content-Type", b"text/html"),
        (b"Expires", b"never"),
        (b"x-amz-meta-a", b"b"),
        (b"Cache-Control", b"c"),
    ]
    assert stored["expires"] == "soon"
    assert response_headers("", {}, {"content-language": "de"})[1:] == [(b"Content-Language", b"de")]


def test_an_override_is_text_that_iso_8859_1_has() -> None:
    overrides = response_overrides(parse_query(b"response-content-disposition=attachment%3B+filename%3D%C3%BC"))
    assert (b"Content-Disposition", "attachment; filename=ü".encode("latin-1")) in response_headers("", {}, overrides)
    with pytest.raises(S3Error) as caught:
        response_overrides(parse_query(b"response-content-disposition=attachment%3B+filename%3D%E2%82%AC"))
    assert caught.value.code == "InvalidArgument"
    assert caught.value.detail["ArgumentValue"] == "attachment; filename=€"


PARAMETERS = ["content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"]


@pytest.mark.parametrize("name", PARAMETERS)
@pytest.mark.parametrize("value", ["a%0d%0aSet-Cookie:x", "%0A", "%00", "%7f"])
def test_an_override_cannot_begin_another_header(name: str, value: str) -> None:
    with pytest.raises(S3Error) as caught:
        response_overrides(parse_query(f"response-{name}={value}".encode()))
    assert caught.value.code == "InvalidArgument"
    assert caught.value.detail == {"ArgumentName": f"response-{name}"}


@pytest.mark.parametrize("name", PARAMETERS)
def test_strangers_choose_no_headers(name: str) -> None:
    with pytest.raises(S3Error) as caught:
        response_overrides(parse_query(f"response-{name}=a".encode()), signed=False)
    assert caught.value.code == "InvalidRequest"
    assert response_overrides(parse_query(b"versionId=a"), signed=False) == {}
    assert response_overrides(parse_query(b""), signed=False) == {}
