"""Bucket names, keys, and where a request names them."""

from __future__ import annotations

from urllib.parse import unquote, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisobj.errors import S3Error
from aisobj.protocol import names

keys = st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=200).map(str.encode)


def refused(code: str, function: object, *arguments: object) -> S3Error:
    with pytest.raises(S3Error) as caught:
        function(*arguments)  # type: ignore[operator]
    assert caught.value.code == code
    return caught.value


@pytest.mark.parametrize(
    "name",
    ["abc", "a" * 63, "1bucket", "b-1.x2", "my.dotted.name", "a--b", "127.0.0.1a", "1.2.3", "1.2.3.4.5", "metrics"],
)
def test_good_bucket_names(name: str) -> None:
    names.check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "", "a", "ab", "a" * 64, "AB", "Bucket", "a..b", "-ab", "ab-", ".ab", "ab.", "foo.-bar", "foo-.bar",
        "192.168.1.1", "999.1.1.1", "xn--bucket", "sthree-x", "amzn-s3-demo-bucket", "b-s3alias", "b--ol-s3",
        "b.mrap", "b--x-s3", "b--table-s3", "foo_bar", "a b", "abc\n", "abc/", "buc\u0301ket", "аbс", "abc\0",
    ],
)  # fmt: skip
def test_bad_bucket_names(name: str) -> None:
    assert refused("InvalidBucketName", names.check_bucket_name, name).detail == {"BucketName": name}


@pytest.mark.parametrize("name", ["a-" * 8000 + ".", "a" * 100_000, "a." * 8000])
def test_a_long_bucket_name_is_refused(name: str) -> None:
    refused("InvalidBucketName", names.check_bucket_name, name)


@pytest.mark.parametrize("key", [b"k", b"a" * 1024, "é".encode() * 512, b"../../etc/passwd", b"/", b"//", b"a\r\n\x01"])
def test_a_key_is_opaque(key: bytes) -> None:
    names.check_key(key)


@pytest.mark.parametrize("key", [b"a" * 1025, "é".encode() * 512 + b"a"])
def test_key_length_is_counted_in_bytes(key: bytes) -> None:
    error = refused("KeyTooLongError", names.check_key, key)
    assert error.detail == {"Size": "1025", "MaxSizeAllowed": "1024"}


@pytest.mark.parametrize("key", [b"\xff", b"a\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80"])
def test_a_key_that_is_not_utf8_is_refused(key: bytes) -> None:
    refused("InvalidURI", names.check_key, key)


@pytest.mark.parametrize("key", [b"", b"\0", b"a\0b"])
def test_an_empty_key_and_nul_are_refused(key: bytes) -> None:
    refused("InvalidArgument", names.check_key, key)


@pytest.mark.parametrize(
    ("raw", "decoded"), [(b"a%2Fb", b"a/b"), (b"a+b", b"a+b"), (b"%25zz", b"%zz"), (b"%e2%82%AC", "€".encode())]
)
def test_decode_path_undoes_percent_encoding_once(raw: bytes, decoded: bytes) -> None:
    assert names.decode_path(raw) == decoded


@pytest.mark.parametrize("raw", [b"%zz", b"%", b"a%2", b"%2", b"%%41", b"%u0041", b"%\xc3\xa9"])
def test_a_broken_escape_is_refused(raw: bytes) -> None:
    refused("InvalidURI", names.decode_path, raw)


TARGETS = [
    (b"", (None, None)),
    (b"/", (None, None)),
    (b"/bkt", ("bkt", None)),
    (b"/bkt/", ("bkt", None)),
    (b"/b%6bt/k", ("bkt", b"k")),
    (b"/bkt/a//b", ("bkt", b"a//b")),
    (b"/bkt//", ("bkt", b"/")),
    (b"/bkt//k", ("bkt", b"/k")),
    (b"/bkt/k/", ("bkt", b"k/")),
    (b"/bkt/./x", ("bkt", b"./x")),
    (b"/bkt/%2e%2e/x", ("bkt", b"../x")),
    (b"/bkt/a%2Fb+c%20d", ("bkt", b"a/b+c d")),
    (b"/bkt/a;b=c&d:@e", ("bkt", b"a;b=c&d:@e")),
]


@pytest.mark.parametrize("prefix", [b"/s3", b""])
@pytest.mark.parametrize(("path", "expected"), TARGETS)
def test_split_target_keeps_keys_exactly(prefix: bytes, path: bytes, expected: tuple[str | None, bytes | None]) -> None:
    assert names.split_target(prefix + path, prefix) == expected


@pytest.mark.parametrize("prefix", [b"/s3", b""])
@pytest.mark.parametrize(
    ("path", "code"),
    [
        (b"//key", "InvalidBucketName"),
        (b"//", "InvalidBucketName"),
        (b"/bkt%2Fkey", "InvalidBucketName"),
        (b"/../etc", "InvalidBucketName"),
        (b"/b%ffkt/k", "InvalidBucketName"),
        (b"/b%zzkt/k", "InvalidURI"),
        (b"/bkt/%zz", "InvalidURI"),
        (b"/bkt/%ff", "InvalidURI"),
        (b"/bkt/a%00b", "InvalidArgument"),
        (b"/bkt/" + b"k" * 1025, "KeyTooLongError"),
    ],
)
def test_split_target_refuses(prefix: bytes, path: bytes, code: str) -> None:
    for _ in range(2):  # the second time too, whatever is cached
        refused(code, names.split_target, prefix + path, prefix)


@pytest.mark.parametrize("path", [b"/s3x/k", b"/v1/bkt", b"", b"*"])
def test_split_target_wants_its_prefix(path: bytes) -> None:
    refused("InvalidURI", names.split_target, path, b"/s3")


@given(keys)
def test_an_encoded_key_comes_back(key: bytes) -> None:
    encoded = names.uri_encode(key)
    assert names.split_target(b"/bkt/" + encoded.encode("ascii")) == ("bkt", key)
    assert names.parse_copy_source("/bkt/" + encoded) == ("bkt", key, None)
    # Clients decode a listing either way.
    assert unquote(encoded).encode() == unquote_plus(encoded).encode() == key


def test_uri_encode_is_that_of_s3_tests() -> None:
    assert [names.uri_encode(key) for key in (b"foo+1/", b"quux ab/", b"test_file(3).png")] == [
        "foo%2B1/",
        "quux%20ab/",
        "test_file%283%29.png",
    ]
    assert names.uri_encode(b"a/b", safe="") == "a%2Fb"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bkt/key", ("bkt", b"key", None)),
        ("/bkt/key", ("bkt", b"key", None)),
        (b"bkt/a%2Fb", ("bkt", b"a/b", None)),
        ("bkt%2Fa%2Fb", ("bkt", b"a/b", None)),
        ("%2fbkt%2f/a", ("bkt", b"/a", None)),
        ("/bkt//key", ("bkt", b"/key", None)),
        ("bkt/a+b", ("bkt", b"a b", None)),  # unlike in a path
        ("bkt/a+b%2Bc%20d?versionId=x+y", ("bkt", b"a b+c d", "x+y")),
        ("bkt/ключ", ("bkt", "ключ".encode(), None)),
        ("bkt/..", ("bkt", b"..", None)),
        ("bkt/key?versionId=null", ("bkt", b"key", "null")),
        ("bkt/a?b?versionId=3HL4kqtJvjVBH40Nrjfkd", ("bkt", b"a?b", "3HL4kqtJvjVBH40Nrjfkd")),
        ("bkt/a%3FversionId=x", ("bkt", b"a?versionId=x", None)),
    ],
)
def test_copy_source(value: str | bytes, expected: tuple[str, bytes, str | None]) -> None:
    assert names.parse_copy_source(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "", "/", "bkt", "bkt/", "/bkt", "/bkt/", "//key", "..", "../x", "bkt/%00", "bkt/%zz", "b%zkt/k", "bkt/%ff",
        "%2Fkey", "bkt%2F", "BKT/key", "bkt/key?versionId=", "?versionId=x", "bkt?versionId=x", "bkt/k?versionId=é",
        "bkt/" + "k" * 1025, b"bkt/\xff", "bkt/\udcff",
        "arn:aws:s3:us-east-1:123456789012:accesspoint/name/object/key",
    ],
)  # fmt: skip
def test_a_bad_copy_source_is_an_invalid_argument(value: str | bytes) -> None:
    error = refused("InvalidArgument", names.parse_copy_source, value)
    assert error.detail == {"ArgumentName": "x-amz-copy-source"}
