"""The AWS CLI, unpatched, on a real server, with and without credentials."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from clients import Tool, aws
from s3fixtures import fresh_name
from server import ServerProcess

MIB = 1 << 20


@pytest.fixture
def alice(signed_server: ServerProcess, tmp_path: Path) -> Tool:
    return aws(signed_server, tmp_path)


@pytest.fixture
def uri(alice: Tool) -> str:
    """A bucket of alice's, as ``s3://NAME``."""
    name = fresh_name()
    alice("s3", "mb", f"s3://{name}")
    return f"s3://{name}"


def test_a_bucket_and_its_objects_from_mb_to_rb(alice: Tool, tmp_path: Path) -> None:
    name = fresh_name()
    small = tmp_path / "small file+.txt"
    small.write_bytes(b"hello")
    assert alice("s3", "mb", f"s3://{name}").out == f"make_bucket: {name}\n"
    assert name in [line.split()[2] for line in alice("s3", "ls").lines]

    alice("s3", "cp", small, f"s3://{name}/a b/+ü%2F")
    alice("s3", "cp", f"s3://{name}/a b/+ü%2F", f"s3://{name}/copy")
    alice("s3", "mv", f"s3://{name}/copy", f"s3://{name}/moved")
    alice("s3", "cp", f"s3://{name}/moved", "back")
    assert (tmp_path / "back").read_bytes() == b"hello"
    listed = alice("s3", "ls", "--recursive", "--summarize", f"s3://{name}").lines
    assert [line[20:].strip() for line in listed[:2]] == ["5 a b/+ü%2F", "5 moved"]
    assert [line.strip() for line in listed[3:]] == ["Total Objects: 2", "Total Size: 10"]

    kept = alice("s3", "rb", f"s3://{name}", status=1)
    assert "BucketNotEmpty" in kept.err
    alice("s3", "rm", "--recursive", f"s3://{name}")
    assert alice("s3", "rb", f"s3://{name}").out == f"remove_bucket: {name}\n"
    gone = alice("s3", "ls", f"s3://{name}", status=None)
    assert "NoSuchBucket" in gone.err


@pytest.mark.parametrize("user", [None, "anyone"], ids=["no-sign-request", "any keys"])
def test_an_open_server_takes_whatever_comes(server: ServerProcess, user: str | None, tmp_path: Path) -> None:
    anyone, bucket = aws(server, tmp_path, user), f"s3://{fresh_name()}"
    (tmp_path / "large").write_bytes(os.urandom(9 * MIB))
    anyone("s3", "mb", bucket)
    anyone("s3", "cp", "large", f"{bucket}/f")
    anyone("s3", "cp", f"{bucket}/f", "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    assert anyone("s3", "rb", "--force", bucket).lines[-1] == f"remove_bucket: {bucket.removeprefix('s3://')}"


def test_a_large_file_goes_in_parts_both_ways(alice: Tool, uri: str, tmp_path: Path) -> None:
    content = os.urandom(20 * MIB + 1)
    (tmp_path / "large").write_bytes(content)
    alice("s3", "cp", "--no-progress", "large", f"{uri}/large")
    head = json.loads(alice("s3api", "head-object", "--bucket", uri.removeprefix("s3://"), "--key", "large").out)
    assert head["ContentLength"] == len(content)
    assert head["ETag"].endswith('-3"')  # parts of 8 MiB
    alice("s3", "cp", "--no-progress", f"{uri}/large", f"{uri}/copied")  # UploadPartCopy
    alice("s3", "cp", "--no-progress", f"{uri}/copied", "back")  # ranged GETs with If-Match
    assert (tmp_path / "back").read_bytes() == content


def test_a_stream_of_unknown_length(alice: Tool, uri: str, tmp_path: Path) -> None:
    content = os.urandom(9 * MIB)
    alice("s3", "cp", "-", f"{uri}/stream", stdin=content)
    alice("s3", "cp", f"{uri}/stream", "back")
    assert (tmp_path / "back").read_bytes() == content


def test_an_empty_file_before_others(signed_server: ServerProcess, uri: str, tmp_path: Path) -> None:
    """On one connection."""
    (tmp_path / "config").write_text("[default]\ns3 =\n    max_concurrent_requests = 1\n")
    alice = aws(signed_server, tmp_path, AWS_CONFIG_FILE=str(tmp_path / "config"))
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(6):
        (tree / f"{number}").write_bytes(b"x" * (number % 2))
    assert len(alice("--cli-read-timeout", "20", "s3", "sync", "--no-progress", "tree", uri).lines) == 6


def test_sync_transfers_what_differs(alice: Tool, uri: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub dir").mkdir(parents=True)
    files = {"a": b"a", "sub dir/b": b"bb", "sub dir/c": b""}
    for path, content in files.items():
        (tree / path).write_bytes(content)
        os.utime(tree / path, (1_700_000_000, 1_700_000_000))  # a LastModified in whole seconds would be earlier
    assert len(alice("s3", "sync", "--no-progress", "tree", uri).lines) == 3
    assert alice("s3", "sync", "tree", uri).out == ""

    (tree / "a").write_bytes(b"longer")
    (tree / "sub dir/b").unlink()
    changed = alice("s3", "sync", "--no-progress", "--delete", "tree", uri).lines
    assert sorted(line.split(":")[0] for line in changed) == ["delete", "upload"]

    alice("s3", "sync", "--no-progress", uri, "again")
    assert (tmp_path / "again/a").read_bytes() == b"longer"
    assert sorted(str(p.relative_to(tmp_path / "again")) for p in tmp_path.glob("again/**/*") if p.is_file()) == [
        "a",
        "sub dir/c",
    ]
    removed = alice("s3", "rm", "--recursive", "--exclude", "sub*", uri).lines
    assert removed == [f"delete: {uri}/a"]


def test_presign(alice: Tool, uri: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"for everybody")
    alice("s3", "cp", "f", f"{uri}/with space+")
    url = alice("s3", "presign", "--expires-in", "60", f"{uri}/with space+").out.strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"for everybody"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url.replace("with", "some"), timeout=30)
    assert refused.value.code == 403


def test_folders_are_shown_as_prefixes(alice: Tool, uri: str) -> None:
    alice("s3", "cp", "-", f"{uri}/folder/file", stdin=b"x")
    assert [line.strip() for line in alice("s3", "ls", uri).lines] == ["PRE folder/"]


def test_s3api(alice: Tool, uri: str, tmp_path: Path) -> None:
    bucket = uri.removeprefix("s3://")
    (tmp_path / "f").write_bytes(b"0123456789")
    of = ("--bucket", bucket)
    for key in "abc":
        alice("s3api", "put-object", *of, "--key", key, "--body", "f", "--metadata", f"name={key}")
    answer = json.loads(alice("s3api", "get-object", *of, "--key", "b", "--range", "bytes=2-4", "part").out)
    assert (tmp_path / "part").read_bytes() == b"234"
    assert (answer["ContentRange"], answer["Metadata"]) == ("bytes 2-4/10", {"name": "b"})

    pages = alice("s3api", "list-objects-v2", *of, "--page-size", "1", "--query", "Contents[].Key", "--output", "text")
    assert pages.out.split() == ["a", "b", "c"]
    alice("s3api", "put-bucket-versioning", *of, "--versioning-configuration", "Status=Enabled")
    assert json.loads(alice("s3api", "get-bucket-versioning", *of).out) == {"Status": "Enabled"}

    deleted = alice("s3api", "delete-objects", *of, "--delete", "Objects=[{Key=a},{Key=c}]")
    assert sorted(entry["Key"] for entry in json.loads(deleted.out)["Deleted"]) == ["a", "c"]


def test_who_has_no_keys_or_wrong_ones_is_refused(signed_server: ServerProcess, tmp_path: Path) -> None:
    stranger = aws(signed_server, tmp_path, None)("s3", "ls", status=None)
    assert "AccessDenied" in stranger.err
    wrong = aws(signed_server, tmp_path, AWS_SECRET_ACCESS_KEY="another")
    assert "SignatureDoesNotMatch" in wrong("s3", "ls", status=None).err


def test_it_works_at_the_root_too(signed_server: ServerProcess, tmp_path: Path) -> None:
    at_root = aws(signed_server, tmp_path, endpoint=signed_server.endpoint)
    name = fresh_name()
    at_root("s3", "mb", f"s3://{name}")
    at_root("s3", "rb", f"s3://{name}")
