"""Digests, ETags and x-amz-checksum-* values."""

from __future__ import annotations

import hashlib
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aisobj import checksums
from aisobj.checksums import DigestSet, new_digest
from aisobj.errors import S3Error
from aisobj.model import Checksum

VERSION = bytes(range(16))

#: The check values of the CRC catalogue (https://reveng.sourceforge.io/crc-catalogue/), all over this text.
CHECK = b"123456789"

KNOWN = {
    "crc32c": "e3069283",
    "CRC32": "cbf43926",
    "CRC32C": "e3069283",
    "CRC64NVME": "ae8b14860a799888",
    "md5": hashlib.md5(CHECK).hexdigest(),
    "sha1": hashlib.sha1(CHECK).hexdigest(),
    "SHA1": hashlib.sha1(CHECK).hexdigest(),
    "sha256": hashlib.sha256(CHECK).hexdigest(),
    "SHA256": hashlib.sha256(CHECK).hexdigest(),
    "sha512": hashlib.sha512(CHECK).hexdigest(),
    "xxhash": "8cb841db40e6ae83",
    "xxhash2": "8cb841db40e6ae83",
    "none": "",
}


@pytest.mark.parametrize("name", sorted({*KNOWN, *checksums.CHECKSUM_TYPES, *checksums.AWS_ALGORITHMS}))
def test_every_name_gives_the_published_digest(name: str) -> None:
    digest = new_digest(name)
    digest.update(CHECK[:4])
    digest.update(memoryview(bytearray(CHECK))[4:])
    assert digest.hexdigest() == KNOWN[name]
    assert digest.digest() == bytes.fromhex(KNOWN[name])


def test_xxhash_agrees_with_aistore() -> None:
    digest = new_digest("xxhash")
    assert digest.hexdigest() == "ef46db3751d8e999"
    digest.update(b"0123456789\n")
    assert digest.hexdigest() == "05967d5390ac53b0"  # AIStore cmd/cli/test/show_object.stdout


@pytest.mark.parametrize("name", ["crc32", "MD5", "", "xxh3"])
def test_an_unknown_name_is_a_key_error(name: str) -> None:
    with pytest.raises(KeyError):
        new_digest(name)
    with pytest.raises(KeyError):
        DigestSet(["md5", name])


@given(st.lists(st.binary(max_size=50), max_size=8))
def test_digest_set_is_each_digest_alone_however_the_stream_is_cut(pieces: list[bytes]) -> None:
    digests = DigestSet(KNOWN)
    for piece in pieces:
        digests.update(memoryview(piece))
    for name in KNOWN:
        alone = new_digest(name)
        alone.update(b"".join(pieces))
        assert digests.raw(name) == alone.digest()
        assert digests.hex(name) == alone.hexdigest()


def test_digest_set_computes_an_algorithm_once_for_all_its_names(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[bytes] = []

    class Counting(checksums._NoDigest):
        def update(self, data: bytes | memoryview, /) -> None:
            updates.append(bytes(data))

    for name in ("xxhash", "xxhash2"):
        monkeypatch.setitem(checksums._MAKERS, name, Counting)
    checksums._plan.cache_clear()
    DigestSet(["xxhash", "xxhash2", "xxhash", "none"]).update(b"x")
    checksums._plan.cache_clear()
    assert updates == [b"x"]


def test_digest_set_knows_only_what_was_asked_for() -> None:
    with pytest.raises(KeyError):
        DigestSet(["md5"]).hex("sha256")


def test_etag_is_the_checksum_of_the_buckets_type() -> None:
    assert checksums.etag("md5", "ab" * 16, VERSION) == "ab" * 16
    assert checksums.etag("xxhash", "05967d5390ac53b0", VERSION) == "05967d5390ac53b0"
    assert checksums.etag("none", "", VERSION) == VERSION.hex() + "-0"


def test_multipart_etag_in_an_md5_bucket_is_that_of_aws() -> None:
    parts = [hashlib.md5(part).digest() for part in (b"one", b"two")]
    assert checksums.multipart_etag("md5", parts, VERSION) == hashlib.md5(b"".join(parts)).hexdigest() + "-2"


@pytest.mark.parametrize("kind", [kind for kind in checksums.CHECKSUM_TYPES if kind != "none"])
def test_multipart_etag_is_the_checksum_of_the_raw_part_digests(kind: str) -> None:
    parts = []
    for data in (b"one", b"two", b"three"):
        digest = new_digest(kind)
        digest.update(data)
        parts.append(digest.digest())
    whole = new_digest(kind)
    whole.update(b"".join(parts))
    assert checksums.multipart_etag(kind, parts, VERSION) == whole.hexdigest() + "-3"


def test_multipart_etag_without_checksums_is_the_version() -> None:
    assert checksums.multipart_etag("none", [b"", b""], VERSION) == VERSION.hex() + "-0"


def test_header_names_go_both_ways() -> None:
    assert checksums.header_name("CRC64NVME") == "x-amz-checksum-crc64nvme"
    for algorithm in checksums.AWS_ALGORITHMS:
        assert checksums.algorithm_of_header(checksums.header_name(algorithm)) == algorithm
    assert checksums.algorithm_of_header("x-amz-checksum-mode") is None
    with pytest.raises(KeyError):
        checksums.header_name("md5")


@pytest.mark.parametrize("algorithm", checksums.AWS_ALGORITHMS)
def test_values_survive_encode_and_parse(algorithm: str) -> None:
    value = new_digest(algorithm).digest()
    text = checksums.encode(Checksum(algorithm, value))
    assert checksums.parse_value(algorithm, text) == value
    assert checksums.encode(Checksum(algorithm, value, 7)) == text + "-7"


@pytest.mark.parametrize(
    "text", ["", "AAAA", "AAAAAAA=", "AAAAAA", "AAAAAA==\n", " AAAAAA==", "AAAAAA==-2", "not-base-64", "é" * 8]
)
def test_a_value_that_is_not_base64_of_the_right_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        checksums.parse_value("CRC32", text)


def test_composite_is_the_checksum_of_the_raw_part_values() -> None:
    values = [hashlib.sha256(part).digest() for part in (b"one", b"two")]
    expected = Checksum("SHA256", hashlib.sha256(b"".join(values)).digest(), 2)
    assert checksums.composite("SHA256", values) == expected


@given(st.sampled_from(["CRC32", "CRC32C", "CRC64NVME"]), st.lists(st.binary(max_size=40), max_size=6))
def test_combined_part_checksums_are_the_checksum_of_the_whole(algorithm: str, parts: list[bytes]) -> None:
    def value(data: bytes) -> bytes:
        digest = new_digest(algorithm)
        digest.update(data)
        return digest.digest()

    combined = checksums.combine_full_object(algorithm, [(value(part), len(part)) for part in parts])
    assert combined == value(b"".join(parts))


def test_combining_takes_parts_of_gibibytes() -> None:
    # 5 TiB of zeros, once doubled and added up, once in parts of 1 GiB: no byte of it is read.
    value, length = zlib.crc32(bytes(1 << 20)).to_bytes(4, "big"), 1 << 20
    while length < 1 << 30:
        value, length = checksums.combine_full_object("CRC32", [(value, length), (value, length)]), 2 * length
    in_parts = checksums.combine_full_object("CRC32", [(value, length)] * 5120)
    while length < 1 << 40:
        value, length = checksums.combine_full_object("CRC32", [(value, length), (value, length)]), 2 * length
    assert in_parts == checksums.combine_full_object("CRC32", [(value, length)] * 5)


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256"])
def test_a_hash_cannot_be_combined(algorithm: str) -> None:
    with pytest.raises(KeyError):
        checksums.combine_full_object(algorithm, [])


@pytest.mark.parametrize(
    ("algorithm", "requested", "kind"),
    [
        ("CRC32", None, "COMPOSITE"),
        ("CRC32C", None, "COMPOSITE"),
        ("SHA1", None, "COMPOSITE"),
        ("SHA256", None, "COMPOSITE"),
        ("CRC64NVME", None, "FULL_OBJECT"),
        ("CRC32", "FULL_OBJECT", "FULL_OBJECT"),
        ("CRC32C", "COMPOSITE", "COMPOSITE"),
    ],
)
def test_checksum_type_of_an_upload(algorithm: str, requested: str | None, kind: str) -> None:
    assert checksums.checksum_kind(algorithm, requested) == kind


@pytest.mark.parametrize(
    ("algorithm", "requested"),
    [("CRC64NVME", "COMPOSITE"), ("SHA256", "FULL_OBJECT"), ("SHA1", "FULL_OBJECT"), ("CRC32", "composite")],
)
def test_a_checksum_type_that_the_algorithm_has_not_is_refused(algorithm: str, requested: str) -> None:
    with pytest.raises(S3Error) as caught:
        checksums.checksum_kind(algorithm, requested)
    assert caught.value.code == "InvalidRequest"
