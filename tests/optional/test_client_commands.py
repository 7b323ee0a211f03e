"""Other people's programs: copying (rclone, s5cmd, s4cmd, curl, libs3's s3), backing up (restic, duplicity), mounting
(s3fs-fuse), reading (GDAL)."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from clients import Tool
from targets import MIB, Target

#: Names that a file system takes and a shell does not like.
NAMES = ("plain", "with space+plus", "percent%20%2F", "ünï/日本/🎉", "~!*'();:@=$,[]", "deep/er/file", "empty")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder ``tree`` with odd names and a large file."""
    root = tmp_path / "tree"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"" if name == "empty" else os.urandom(3_000))
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    (root / "large").write_bytes(os.urandom(33 * MIB))
    return root


def same(one: Path, other: Path) -> bool:
    return subprocess.run(["diff", "-r", one, other], capture_output=True, check=False).returncode == 0


def rclone_of(target: Target, home: Path) -> Tool:
    certificate = ("--ca-cert", str(target.ca)) if target.ca else ()
    tool = target.tool("rclone", *certificate, home=home, AWS_CA_BUNDLE="")  # which rclone 1.60 chokes on
    settings = ("provider=Other", f"access_key_id={target.key}", f"secret_access_key={target.secret}")
    tool("config", "create", "store", "s3", *settings, f"endpoint={target.s3}", "force_path_style=true")
    return tool


def test_rclone(target: Target, tmp_path: Path, tree: Path) -> None:
    rclone, bucket = rclone_of(target, tmp_path), target.bucket()
    options = ("--s3-chunk-size", "5M", "--s3-upload-cutoff", "10M", "--stats", "0", "-v")
    rclone("copy", "tree", f"store:{bucket}/data set", *options)
    assert "Copied" not in rclone("copy", "tree", f"store:{bucket}/data set", *options).err
    rclone("check", "tree", f"store:{bucket}/data set")
    rclone("check", "--download", "tree", f"store:{bucket}/data set")
    (tree / "plain").write_bytes(b"changed")
    shutil.rmtree(tree / "deep")
    rclone("sync", "tree", f"store:{bucket}/data set", *options)
    rclone("copy", f"store:{bucket}/data set", "back")
    assert same(tree, tmp_path / "back")
    assert (tmp_path / "back/with space+plus").stat().st_mtime == 1_700_000_000

    rclone("copyto", f"store:{bucket}/data set/large", f"store:{bucket}/copy", "--s3-copy-cutoff", "8M")
    rclone("moveto", f"store:{bucket}/copy", f"store:{bucket}/moved//twice")
    rclone("touch", "-t", "2020-01-01T00:00:00", f"store:{bucket}/data set/plain")
    assert "2020-01-01 00:00:00" in rclone("lsl", f"store:{bucket}/data set/plain").out
    rclone("rcat", f"store:{bucket}/streamed", stdin=b"x" * (12 * MIB))
    assert rclone("cat", "--offset", "5", "--count", "3", f"store:{bucket}/streamed").out == "xxx"
    assert len(rclone("hashsum", "md5", f"store:{bucket}/data set").lines) >= len(NAMES)
    rclone("purge", f"store:{bucket}/data set")
    rclone("mkdir", f"store:{bucket}-made")
    assert f"{bucket}-made" in rclone("lsf", "store:").out
    rclone("rmdir", f"store:{bucket}-made")
    rclone("cleanup", f"store:{bucket}")


def test_rclone_with_many(target: Target, tmp_path: Path) -> None:
    rclone, bucket = rclone_of(target, tmp_path), target.bucket()
    (tmp_path / "many").mkdir()
    for number in range(1_100):
        (tmp_path / f"many/{number}").write_text(str(number))
    rclone("sync", "--transfers", "16", "many", f"store:{bucket}/many")
    assert len(rclone("lsf", f"store:{bucket}/many").lines) == 1_100
    rclone("delete", f"store:{bucket}/many")
    assert target.keys(bucket) == []


def test_s5cmd(target: Target, tmp_path: Path, tree: Path) -> None:
    s5cmd = target.tool("s5cmd", "--endpoint-url", target.s3, home=tmp_path)
    uri = f"s3://{target.bucket()}"
    s5cmd("cp", "--part-size", "5", "tree/", f"{uri}/data set/")
    s5cmd("cp", "--part-size", "5", f"{uri}/data set/*", "back/")
    assert same(tree, tmp_path / "back")
    (tree / "plain").unlink()
    (tree / "more").write_bytes(b"more")
    s5cmd("sync", "--delete", "tree/", f"{uri}/data set/")
    s5cmd("sync", f"{uri}/data set/*", "again/")
    assert same(tree, tmp_path / "again")
    s5cmd("mv", f"{uri}/data set/more", f"{uri}/moved")
    assert s5cmd("cat", f"{uri}/moved").out == "more"
    s5cmd("pipe", f"{uri}/piped", stdin=b"p" * (12 * MIB))
    assert str(12 * MIB) in s5cmd("du", f"{uri}/piped").out
    s5cmd("run", stdin="".join(f"cp {uri}/moved {uri}/many/{number}\n" for number in range(1_050)).encode())
    assert len(s5cmd("ls", f"{uri}/many/").lines) == 1_050
    s5cmd("rm", f"{uri}/*")
    assert target.keys(uri.removeprefix("s3://")) == []
    s5cmd("mb", f"{uri}-made")
    s5cmd("rb", f"{uri}-made")
    assert "NoSuchBucket" in s5cmd("ls", f"{uri}-made", status=None).err


def test_s4cmd(target: Target, tmp_path: Path, tree: Path) -> None:
    keys = {"S3_ACCESS_KEY": target.key, "S3_SECRET_KEY": target.secret}
    s4cmd = target.tool("s4cmd", "--endpoint-url", target.s3, home=tmp_path, **keys)
    uri = f"s3://{target.bucket()}"
    options = ("--multipart-split-size", str(5 * MIB), "--max-singlepart-upload-size", str(10 * MIB))
    s4cmd("put", "--recursive", *options, "tree", f"{uri}/")
    s4cmd("get", "--recursive", f"{uri}/tree", "back")
    assert same(tree, tmp_path / "back/tree" if (tmp_path / "back/tree").exists() else tmp_path / "back")
    s4cmd("dsync", "--recursive", "tree", f"{uri}/synced")
    s4cmd("cp", f"{uri}/tree/plain", f"{uri}/copy")
    s4cmd("mv", f"{uri}/copy", f"{uri}/moved")
    assert f"{uri}/moved" in s4cmd("ls", uri + "/").out
    s4cmd("del", "--recursive", f"{uri}/tree")
    assert not any(key.startswith("tree/") for key in target.keys(uri.removeprefix("s3://")))


def test_curl(target: Target, tmp_path: Path) -> None:
    user = ("--user", f"{target.key}:{target.secret}", "--aws-sigv4", "aws:amz:us-east-1:s3")
    unsigned = ("-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD")  # later releases send it by themselves
    curl, url = target.tool("curl", "-sS", *user, *unsigned, home=tmp_path), f"{target.s3}/{target.bucket()}"
    (tmp_path / "file").write_bytes(os.urandom(MIB))
    assert curl("--fail-with-body", "-T", "file", f"{url}/a%20b/%C3%BC%2B").out == ""
    curl("--fail-with-body", "-o", "back", f"{url}/a%20b/%C3%BC%2B")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    curl("--fail-with-body", "-r", "10-19", "-o", "part", f"{url}/a%20b/%C3%BC%2B")
    assert (tmp_path / "part").read_bytes() == (tmp_path / "file").read_bytes()[10:20]
    assert "<Key>a b/ü+</Key>" in curl("--fail-with-body", f"{url}?list-type=2&prefix=a%20b%2F").out
    assert curl("-X", "DELETE", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/a%20b/%C3%BC%2B").out == "204"


def test_libs3(target: Target, tmp_path: Path) -> None:
    """The ``s3`` of libs3 (which Ceph's gateway and iRODS build on) cannot carry a path: the root of the server."""
    env = {"S3_ACCESS_KEY_ID": target.key, "S3_SECRET_ACCESS_KEY": target.secret, "S3_HOSTNAME": target.host}
    s3 = target.tool("s3", *(() if target.ca else ("-u",)), home=tmp_path, **env)
    bucket = target.bucket()
    (tmp_path / "file").write_bytes(os.urandom(18 * MIB))
    s3("put", f"{bucket}/ü", "filename=file", "x-amz-meta-name=value")
    s3("get", f"{bucket}/ü", "filename=back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "file").read_bytes()
    assert "ü" in s3("list", bucket).out
    s3("copy", f"{bucket}/ü", f"{bucket}/copy")
    s3("delete", f"{bucket}/ü")
    assert target.keys(bucket) == ["copy"]


def test_restic(target: Target, tmp_path: Path, tree: Path) -> None:
    """``s3:URL/BUCKET`` at the root: restic takes the first part of the path for the bucket."""
    certificate = ("--cacert", str(target.ca)) if target.ca else ()
    url = f"s3:{target.url}/{target.bucket()}/backups"
    restic = target.tool("restic", "-r", url, *certificate, home=tmp_path, RESTIC_PASSWORD="secret")
    restic("init")
    restic("backup", "tree")
    (tree / "plain").write_bytes(os.urandom(MIB))
    restic("backup", "tree")
    restic("check", "--read-data")
    assert len(restic("list", "snapshots").lines) == 2
    restic("restore", "latest", "--target", "back")
    assert same(tree, tmp_path / "back/tree")
    restic("forget", "--keep-last", "1", "--prune")
    restic("check")


def test_duplicity(target: Target, tmp_path: Path, tree: Path) -> None:
    """Its ``boto3+s3`` scheme."""
    duplicity = target.tool("duplicity", home=tmp_path, PASSPHRASE="secret")
    options = ("--s3-endpoint-url", target.s3, "--s3-region-name", "us-east-1", "--no-encryption", "--volsize", "10")
    url = f"boto3+s3://{target.bucket()}/backups"
    duplicity("full", *options, "tree", url)
    (tree / "plain").write_bytes(b"changed")
    duplicity("incremental", *options, "tree", url)
    assert "1 difference" not in duplicity("verify", *options, url, "tree").out
    shutil.rmtree(tmp_path / ".cache")
    duplicity("restore", *options, url, "back")
    assert same(tree, tmp_path / "back")
    duplicity("remove-all-but-n-full", "1", "--force", *options, url)


def test_gdal(target: Target, tmp_path: Path) -> None:
    env = {"AWS_S3_ENDPOINT": f"{target.host}/s3", "AWS_VIRTUAL_HOSTING": "FALSE"}
    env["AWS_HTTPS"] = "YES" if target.ca else "NO"
    translate = target.tool("gdal_translate", home=tmp_path, **env)
    (tmp_path / "image.pgm").write_bytes(b"P5 3000 2000 255\n" + os.urandom(6_000_000))
    bucket = target.bucket()
    image = f"/vsis3/{bucket}/a b/image+1.tif"
    translate("-q", "--config", "CPL_VSIL_USE_TEMP_FILE_FOR_RANDOM_WRITE", "YES", "image.pgm", image)
    assert "Size is 3000, 2000" in target.tool("gdalinfo", home=tmp_path, **env)("-checksum", image).out
    translate("-q", "-srcwin", "100", "100", "50", "50", image, "window.tif")
    assert target.keys(bucket) == ["a b/image+1.tif"]


@pytest.fixture
def mounted(target: Target, tmp_path: Path) -> Iterator[Callable[..., Path]]:
    """``mounted(bucket, *options)``: where s3fs-fuse shows the bucket."""
    if not os.access("/dev/fuse", os.W_OK):
        pytest.skip("there is no /dev/fuse")
    passwd = tmp_path / "passwd-s3fs"
    passwd.write_text(f"{target.key}:{target.secret}\n")
    passwd.chmod(0o600)
    points: list[Path] = []

    def mount(bucket: str, *options: str) -> Path:
        point = tmp_path / f"mount{len(points)}"
        point.mkdir()
        told = [f"url={target.s3}", "use_path_request_style", f"passwd_file={passwd}", *options]
        target.tool("s3fs", home=tmp_path)(bucket, point, *(part for option in told for part in ("-o", option)))
        points.append(point)
        deadline = time.monotonic() + 20
        while not os.path.ismount(point):
            assert time.monotonic() < deadline, "s3fs does not mount"
            time.sleep(0.05)
        return point

    yield mount
    for point in points:
        subprocess.run(["fusermount", "-u", "-z", point], check=False)


def test_s3fs_fuse(target: Target, tmp_path: Path, tree: Path, mounted: Callable[..., Path]) -> None:
    bucket = target.bucket()
    point = mounted(bucket, "multipart_size=5")
    shutil.copytree(tree, point / "tree")
    assert same(tree, point / "tree")
    (point / "tree/large").rename(point / "renamed large")
    (point / "tree").rename(point / "renamed tree")
    with (point / "renamed large").open("r+b") as file:
        file.seek(7 * MIB)
        file.write(b"overwritten")
    with (point / "renamed large").open("ab") as file:
        file.write(b"appended")
    with (point / "renamed tree/plain").open("r+b") as file:
        file.truncate(10)  # truncate(2), by name, writes zeros: 1.90 does not read the object first
    (point / "renamed tree/plain").chmod(0o600)
    (point / "link").symlink_to("renamed tree/plain")
    again = mounted(bucket, "use_cache=")
    large = (again / "renamed large").read_bytes()
    assert (large[7 * MIB :][:11], large[-8:]) == (b"overwritten", b"appended")
    assert (again / "link").read_bytes() == (tree / "plain").read_bytes()[:10]
    assert (again / "renamed tree/plain").stat().st_mode & 0o777 == 0o600
    with contextlib.suppress(FileNotFoundError):
        (point / "none").read_bytes()
        pytest.fail("a missing file was read")
    shutil.rmtree(point / "renamed tree")
    for name in ("renamed large", "link"):
        (point / name).unlink()
    assert target.keys(bucket) == []


def test_s3fs_fuse_with_many(target: Target, mounted: Callable[..., Path]) -> None:
    bucket, boto = target.bucket(), target.boto()
    for number in range(1_100):
        boto.put_object(Bucket=bucket, Key=f"folder/{number}", Body=b"x")
    assert len(os.listdir(mounted(bucket) / "folder")) == 1_100
