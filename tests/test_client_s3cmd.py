"""Debian's s3cmd on a real server, under /s3. It takes an ETag without ``-`` for the md5, so it wants md5 buckets."""

from __future__ import annotations

import os
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Tool, s3cmd
from s3fixtures import fresh_name
from server import CREDENTIALS, ServerProcess, running

MIB = 1 << 20

#: The two ways to say where buckets are; with the first s3cmd signs ``/BUCKET/KEY`` for the host ``HOST:PORT/s3``, with
#: the second ``/KEY`` for the host ``HOST:PORT/s3/BUCKET``.
HOST_BUCKETS = ("{host}/s3", "{host}/s3/%(bucket)s")


@pytest.fixture(scope="module")
def md5_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Open; new buckets are md5 ones."""
    with running(ServerProcess(tmp_path_factory.mktemp("md5"), "--checksum", "md5")) as server:
        yield server


@pytest.fixture(scope="module")
def signed_md5_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with running(
        ServerProcess(tmp_path_factory.mktemp("signed-md5"), "--checksum", "md5", credentials=CREDENTIALS)
    ) as server:
        yield server


@pytest.fixture(params=["open", "credentials"])
def either(request: pytest.FixtureRequest) -> ServerProcess:
    name = "md5_server" if request.param == "open" else "signed_md5_server"
    server: ServerProcess = request.getfixturevalue(name)
    return server


Session = Callable[[Tool], str]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """``session(s3cmd)``: a bucket of its own from mb to rb; the name of the bucket, which is gone."""

    def run(s3cmd: Tool) -> str:
        name = fresh_name()
        bucket = f"s3://{name}"
        (tmp_path / "f").write_bytes(b"hello")
        s3cmd("mb", bucket)
        assert bucket in [line.split()[-1] for line in s3cmd("ls").lines]
        s3cmd("put", "f", f"{bucket}/a b/ü+%2F")
        s3cmd("cp", f"{bucket}/a b/ü+%2F", f"{bucket}/copy")
        s3cmd("mv", f"{bucket}/copy", f"{bucket}/moved")
        assert [line.split(maxsplit=3)[2:] for line in s3cmd("ls", "--recursive", bucket).lines] == [
            ["5", f"{bucket}/a b/ü+%2F"],
            ["5", f"{bucket}/moved"],
        ]
        got = s3cmd("get", "--force", f"{bucket}/a b/ü+%2F", "back")
        assert "WARNING" not in got.err
        assert (tmp_path / "back").read_bytes() == b"hello"
        s3cmd("del", f"{bucket}/moved", f"{bucket}/a b/ü+%2F")
        assert s3cmd("ls", bucket).out == ""
        s3cmd("rb", bucket)
        return name

    return run


@pytest.mark.parametrize("host_bucket", HOST_BUCKETS)
def test_a_bucket_and_its_objects_from_mb_to_rb(
    either: ServerProcess, host_bucket: str, tmp_path: Path, session: Session
) -> None:
    tool = s3cmd(either, tmp_path, host_bucket=host_bucket)
    name = session(tool)
    gone = tool("ls", f"s3://{name}", status=12)
    assert "NoSuchBucket" in gone.err


@pytest.mark.parametrize("host_bucket", HOST_BUCKETS)
def test_signature_v2(signed_md5_server: ServerProcess, host_bucket: str, tmp_path: Path, session: Session) -> None:
    session(s3cmd(signed_md5_server, tmp_path, host_bucket=host_bucket).with_options("--signature-v2"))


@pytest.fixture
def alice(signed_md5_server: ServerProcess, tmp_path: Path) -> Tool:
    return s3cmd(signed_md5_server, tmp_path)


@pytest.fixture
def uri(alice: Tool) -> str:
    """An md5 bucket of alice's, as ``s3://NAME``."""
    bucket = f"s3://{fresh_name()}"
    alice("mb", bucket)
    return bucket


def test_a_large_file_goes_in_parts(either: ServerProcess, tmp_path: Path) -> None:
    tool = s3cmd(either, tmp_path)
    bucket = f"s3://{fresh_name()}"
    content = os.urandom(17 * MIB)
    (tmp_path / "large").write_bytes(content)
    tool("mb", bucket)
    put = tool("put", "large", f"{bucket}/large")  # chunks of 15 MiB
    assert "WARNING" not in put.err
    tool("cp", f"{bucket}/large", f"{bucket}/copy")
    tool("get", f"{bucket}/copy", "back")
    assert (tmp_path / "back").read_bytes() == content


def test_sync_transfers_what_differs(alice: Tool, uri: str, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub dir").mkdir(parents=True)
    for path, content in {"a": b"a", "sub dir/b": b"bb", "sub dir/c": b""}.items():
        (tree / path).write_bytes(content)
    assert alice("sync", "tree/", f"{uri}/").out.count("upload:") == 3
    assert alice("sync", "tree/", f"{uri}/").out == ""

    (tree / "a").write_bytes(b"longer")
    (tree / "sub dir/b").unlink()
    changed = alice("sync", "--delete-removed", "tree/", f"{uri}/").out
    assert (changed.count("upload:"), changed.count("delete:")) == (1, 1)

    alice("sync", f"{uri}/", "again/")
    assert (tmp_path / "again/a").read_bytes() == b"longer"
    assert sorted(str(p.relative_to(tmp_path / "again")) for p in tmp_path.glob("again/**/*") if p.is_file()) == [
        "a",
        "sub dir/c",
    ]
    alice("del", "--recursive", "--force", uri)
    assert alice("ls", uri).out == ""


def test_info_shows_what_was_stored(alice: Tool, uri: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello")
    alice("put", "--mime-type", "text/x-mine", "--add-header", "x-amz-meta-name:value", "f", f"{uri}/f")
    shown = alice("info", f"{uri}/f").out
    for line in ("File size: 5", "MIME type: text/x-mine", "MD5 sum:   5d41402abc4b2a76b9719d911017c592"):
        assert line in shown
    assert "x-amz-meta-name: value" in shown
    assert "Location:  us-east-1" in alice("info", uri).out  # policy, CORS and ACL, which we have not, do not hurt it


def test_modify_replaces_the_metadata(alice: Tool, uri: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"hello")
    alice("put", "f", f"{uri}/f")
    alice("modify", "--add-header", "x-amz-meta-name:new", f"{uri}/f")
    assert "x-amz-meta-name: new" in alice("info", f"{uri}/f").out


def test_signurl(alice: Tool, uri: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"for everybody")
    alice("put", "f", f"{uri}/with space+")
    url = alice("signurl", f"{uri}/with space+", "+60").out.strip()
    with urllib.request.urlopen(url, timeout=30) as answer:
        assert answer.read() == b"for everybody"


def test_wrong_keys_are_refused(signed_md5_server: ServerProcess, tmp_path: Path) -> None:
    tool = s3cmd(signed_md5_server, tmp_path).with_options("--secret_key=another")
    assert "SignatureDoesNotMatch" in tool("ls", status=77).err


# An xxhash bucket, the default. What s3cmd makes of it is why buckets can be given checksum.type=md5.


@pytest.fixture
def xxhash(server: ServerProcess, tmp_path: Path) -> tuple[Tool, str]:
    tool, bucket = s3cmd(server, tmp_path), f"s3://{fresh_name()}"
    tool("mb", bucket)
    return tool, bucket


def test_put_into_an_xxhash_bucket_stores_the_object_and_complains(xxhash: tuple[Tool, str], tmp_path: Path) -> None:
    tool, bucket = xxhash
    (tmp_path / "f").write_bytes(b"hello")
    put = tool("put", "f", f"{bucket}/f", status=2)
    assert "MD5 Sums don't match!" in put.err
    assert [line.split()[2:] for line in tool("ls", bucket).lines] == [["5", f"{bucket}/f"]]


def test_get_from_an_xxhash_bucket_warns_and_succeeds(
    xxhash: tuple[Tool, str], server: ServerProcess, tmp_path: Path
) -> None:
    tool, bucket = xxhash
    server.boto().put_object(Bucket=bucket.removeprefix("s3://"), Key="f", Body=b"hello")
    got = tool("get", f"{bucket}/f", "back")
    assert "MD5 signatures do not match" in got.err
    assert (tmp_path / "back").read_bytes() == b"hello"


def test_an_etag_with_a_hyphen_is_not_checked(xxhash: tuple[Tool, str], server: ServerProcess, tmp_path: Path) -> None:
    tool, bucket = xxhash
    name = bucket.removeprefix("s3://")
    boto = server.boto()
    upload = {"Bucket": name, "Key": "f", "UploadId": boto.create_multipart_upload(Bucket=name, Key="f")["UploadId"]}
    part = boto.upload_part(**upload, PartNumber=1, Body=b"hello")
    boto.complete_multipart_upload(**upload, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]})
    assert "WARNING" not in tool("get", f"{bucket}/f", "back").err
