"""Bucket names, keys and copy sources in paths. The first byte chooses: ``p`` a path, ``c`` a copy source."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes, unquote_to_bytes

from aisobj import signing
from aisobj.protocol.names import check_bucket_name, check_key, parse_copy_source, split_target, uri_encode
from fuzzing.target import Label, Target, attempt, demand, kind, same, words


def check(data: bytes) -> Label:
    choice, raw = data[:1], data[1:]
    if choice == b"c":
        return "copy", *_check_copy_source(raw)
    return "path", *_check_path(raw)


def _check_path(raw: bytes) -> tuple[Label, ...]:
    _check_canonical(raw)
    found, error = attempt(lambda: split_target(raw))
    if found is None:
        assert error is not None
        return (kind(error),)
    bucket, key = found
    same(split_target(b"/s3" + raw, b"/s3"), found, "with a prefix it is the same")
    if bucket is not None:
        _check_names(bucket, key)
        demand(unquote_to_bytes(raw).startswith(b"/" + bucket.encode()), "its bucket", raw)
    if key is not None:
        assert bucket is not None
        same(unquote_to_bytes(raw), b"/" + bucket.encode() + b"/" + key, "nothing is merged or dropped")
        same(split_target(f"/{bucket}/{uri_encode(key)}".encode()), found, "written and read again it is the same")
        same(parse_copy_source(f"{bucket}/{uri_encode(key)}"), (bucket, key, None), "and as a copy source")
    return bucket is None, key is None, key is not None and b"/" in key


def _check_names(bucket: str, key: bytes | None) -> None:
    demand(re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket) is not None, "a bucket's name", bucket)
    demand(".." not in bucket and ".-" not in bucket and "-." not in bucket, "a bucket's name", bucket)
    check_bucket_name(bucket)
    if key is not None:
        check_key(key)
        demand(0 < len(key) <= 1024 and b"\0" not in key, "a key", key)
        key.decode()


def _check_copy_source(raw: bytes) -> tuple[Label, ...]:
    found, error = attempt(lambda: parse_copy_source(raw))
    if found is None:
        assert error is not None
        demand(error.code == "InvalidArgument", "what is no copy source is an invalid argument", error)
        return (kind(error),)
    bucket, key, version = found
    _check_names(bucket, key)
    text = f"/{bucket}%2F{quote_from_bytes(key, '')}" + ("" if version is None else f"?versionId={version}")
    same(parse_copy_source(text), found, "written and read again it is the same")
    return version is None, b"/" in key


def _check_canonical(raw: bytes) -> None:
    """The path that is signed: one form for each thing that it can mean, and that form is its own."""
    path = signing.canonical_path(raw)
    same(signing.canonical_path(path), path, "the canonical path is its own canonical path")
    same(unquote_to_bytes(path), unquote_to_bytes(raw), "and means the same")
    demand(re.fullmatch(rb"(?:[A-Za-z0-9._~/-]|%[0-9A-F]{2})*", path) is not None, "in AWS's alphabet", path)


TARGETS = [
    Target(
        "names",
        check,
        "only S3 errors; a key is exactly the bytes that were named, valid, and comes back from its encoding",
        words(
            r"""
            /bucket/key /s3/ %2F %2f %00 %FF %C3%A9 .. // + ?versionId=null ? % xn-- 192.168.1.1
            -s3alias bucket \xc3\xa9 %25 - .
            """
        ),
        16384,
    )
]
