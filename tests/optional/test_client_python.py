"""File systems and object layers for Python: s3fs (aiobotocore), smart_open, cloudpathlib, zarr, webdataset, minio."""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any

import pytest
from targets import KEYS, MIB, Target


def s3fs_options(target: Target) -> dict[str, Any]:
    return {"key": target.key, "secret": target.secret, "endpoint_url": target.s3, "skip_instance_cache": True}


@pytest.fixture
def fs(target: Target) -> Any:
    return pytest.importorskip("s3fs").S3FileSystem(**s3fs_options(target))


@pytest.mark.parametrize("key", KEYS)
def test_s3fs_keys(fs: Any, target: Target, key: str) -> None:
    bucket = target.bucket()
    fs.pipe_file(f"{bucket}/{key}", key.encode())
    assert target.keys(bucket) == [key]
    assert fs.cat_file(f"{bucket}/{key}") == key.encode()
    assert fs.find(bucket) == [f"{bucket}/{key}"]
    fs.rm_file(f"{bucket}/{key}")
    assert target.keys(bucket) == []


def test_s3fs_files(fs: Any, target: Target) -> None:
    bucket, content = target.bucket(), os.urandom(18 * MIB)
    with fs.open(f"{bucket}/large", "wb", block_size=5 * MIB) as file:
        file.write(content)
    assert fs.info(f"{bucket}/large")["size"] == len(content)
    assert fs.cat_file(f"{bucket}/large", start=5, end=MIB) == content[5:MIB]
    with fs.open(f"{bucket}/large", "rb", block_size=MIB) as file:
        file.seek(-7, os.SEEK_END)
        assert file.read() == content[-7:]
    with fs.open(f"{bucket}/large", "ab") as file:
        file.write(b"appended")
    assert fs.cat_file(f"{bucket}/large") == content + b"appended"
    fs.mv(f"{bucket}/large", f"{bucket}/folder/moved")
    assert (fs.exists(f"{bucket}/large"), fs.isdir(f"{bucket}/folder")) == (False, True)
    assert (
        hashlib.sha256(fs.cat_file(f"{bucket}/folder/moved")).digest() == hashlib.sha256(content + b"appended").digest()
    )
    fs.setxattr(f"{bucket}/folder/moved", name="value")
    assert fs.getxattr(f"{bucket}/folder/moved", "name") == "value"
    with pytest.raises(FileExistsError):
        fs.pipe_file(f"{bucket}/folder/moved", b"x", mode="create")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(f"{bucket}/missing")


def test_s3fs_many(fs: Any, target: Target) -> None:
    bucket = target.bucket()
    fs.pipe({f"{bucket}/d/{number:04}": b"%d" % number for number in range(1_100)})
    assert len(fs.ls(f"{bucket}/d")) == 1_100
    assert fs.glob(f"{bucket}/d/000?") == [f"{bucket}/d/000{number}" for number in range(10)]
    fs.rm(f"{bucket}/d", recursive=True)
    assert target.keys(bucket) == []
    fs.rmdir(bucket)
    assert not fs.exists(bucket)


def test_pandas(target: Target) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("s3fs")
    options = {"key": target.key, "secret": target.secret, "endpoint_url": target.s3}
    bucket = target.bucket()
    frame = pandas.DataFrame({"n": range(1_000)})
    frame.to_parquet(f"s3://{bucket}/t.parquet", storage_options=options)
    assert pandas.read_parquet(f"s3://{bucket}/t.parquet", storage_options=options)["n"].sum() == frame["n"].sum()
    frame.to_csv(f"s3://{bucket}/t.csv", storage_options=options)
    assert len(pandas.read_csv(f"s3://{bucket}/t.csv", storage_options=options)) == 1_000


def test_hugging_face_datasets(target: Target, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("s3fs")
    options = {"key": target.key, "secret": target.secret, "endpoint_url": target.s3}
    bucket = target.bucket()
    data = datasets.Dataset.from_dict({"n": list(range(1_000))})
    data.save_to_disk(f"s3://{bucket}/data", storage_options=options)
    assert datasets.load_from_disk(f"s3://{bucket}/data", storage_options=options)["n"][-1] == 999


def test_zarr(target: Target) -> None:
    zarr = pytest.importorskip("zarr")
    numpy = pytest.importorskip("numpy")
    pytest.importorskip("s3fs")
    options = {"key": target.key, "secret": target.secret, "endpoint_url": target.s3}
    url, values = f"s3://{target.bucket()}/a.zarr", numpy.arange(90_000).reshape(300, 300)
    group = zarr.open_group(url, mode="w", storage_options=options)
    array = group.create_array("x", shape=(300, 300), chunks=(50, 50), dtype="i8")
    array[:] = values
    array.attrs["unit"] = "m"
    again = zarr.open_group(url, mode="r+", storage_options=options)
    again["x"][10:20, :] = -1
    again["x"].resize((400, 300))
    values[10:20, :] = -1
    read = zarr.open_group(url, mode="r", storage_options=options)
    assert (read["x"].shape, read["x"].attrs["unit"], list(read.keys())) == ((400, 300), "m", ["x"])
    assert (read["x"][:300] == values).all()
    del again["x"]
    assert list(zarr.open_group(url, mode="r", storage_options=options).keys()) == []


@pytest.mark.parametrize("key", [key for key in KEYS if not key.endswith("/")])
def test_smart_open(target: Target, key: str) -> None:
    smart_open = pytest.importorskip("smart_open")
    bucket, content = target.bucket(), os.urandom(200_000)
    parameters = {"client": target.boto()}
    with smart_open.open(f"s3://{bucket}/{key}", "wb", transport_params=parameters) as file:
        file.write(content)
    assert target.keys(bucket) == [key]
    with smart_open.open(f"s3://{bucket}/{key}", "rb", transport_params=parameters) as file:
        assert file.read() == content


def test_smart_open_in_parts(target: Target) -> None:
    smart_open = pytest.importorskip("smart_open")
    bucket, content = target.bucket(), os.urandom(17 * MIB)
    parameters = {"client": target.boto(), "min_part_size": 5 * MIB}
    with smart_open.open(f"s3://{bucket}/k.gz", "wb", transport_params=parameters) as file:
        file.write(content)
    with smart_open.open(f"s3://{bucket}/k.gz", "rb", transport_params=parameters) as file:
        file.seek(1_000)
        assert file.read() == content[1_000:]


def test_cloudpathlib(target: Target, tmp_path: Path) -> None:
    cloudpathlib = pytest.importorskip("cloudpathlib")
    client = cloudpathlib.S3Client(
        aws_access_key_id=target.key, aws_secret_access_key=target.secret, endpoint_url=target.s3
    )
    root = client.CloudPath(f"s3://{target.bucket()}")
    for key in ("plain", "with space/and+plus", "ünï/日本/🎉", "percent%20"):
        (root / key).write_text(key)
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()) == sorted(
        ["plain", "with space/and+plus", "ünï/日本/🎉", "percent%20"]
    )
    (root / "plain").copy(root / "copy")
    (root / "copy").rename(root / "folder" / "renamed")
    assert (root / "folder" / "renamed").read_text() == "plain"
    (root / "folder").rmtree()
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "large").write_bytes(os.urandom(17 * MIB))
    (root / "tree").upload_from(tmp_path / "tree")
    assert (root / "tree" / "large").stat().st_size == 17 * MIB
    assert not (root / "folder" / "renamed").exists()


def test_webdataset(target: Target) -> None:
    """Shards written through s3fs and read through a presigned URL or a pipe, as its manual says."""
    webdataset = pytest.importorskip("webdataset")
    s3fs = pytest.importorskip("s3fs")
    bucket = target.bucket()
    with (
        s3fs.S3FileSystem(**s3fs_options(target)).open(f"{bucket}/shard-000000.tar", "wb") as file,
        webdataset.TarWriter(file) as shard,
    ):
        for number in range(200):
            shard.write({"__key__": f"{number:06}", "cls": number, "bin": os.urandom(1_000)})
    url = target.boto().generate_presigned_url("get_object", {"Bucket": bucket, "Key": "shard-000000.tar"})
    samples = list(webdataset.WebDataset(f"pipe:curl -fsS '{url}'", shardshuffle=False).decode())
    assert [sample["cls"] for sample in samples] == list(range(200))


@pytest.mark.parametrize("key", KEYS)
def test_minio_keys(target: Target, key: str) -> None:
    client, bucket = minio(target), target.bucket()
    client.put_object(bucket, key, io.BytesIO(b"content"), 7)
    assert target.keys(bucket) == [key]
    assert client.get_object(bucket, key).read() == b"content"
    assert client.stat_object(bucket, key).size == 7
    assert [entry.object_name for entry in client.list_objects(bucket, recursive=True)] == [key]
    client.remove_object(bucket, key)
    assert target.keys(bucket) == []


def test_minio(target: Target, tmp_path: Path) -> None:
    client = minio(target)
    commonconfig = pytest.importorskip("minio.commonconfig")
    deleteobjects = pytest.importorskip("minio.deleteobjects")
    bucket, content = target.bucket(), os.urandom(21 * MIB)
    assert bucket in [entry.name for entry in client.list_buckets()]
    client.put_object(bucket, "large", io.BytesIO(content), -1, part_size=10 * MIB, metadata={"name": "value"})
    (tmp_path / "file").write_bytes(content)
    client.fput_object(bucket, "file", str(tmp_path / "file"))
    client.fget_object(bucket, "large", str(tmp_path / "back"))
    assert (tmp_path / "back").read_bytes() == content
    assert client.get_object(bucket, "large", offset=5, length=10).read() == content[5:15]
    client.copy_object(bucket, "copy", commonconfig.CopySource(bucket, "large"))
    client.compose_object(bucket, "both", [commonconfig.ComposeSource(bucket, name) for name in ("large", "copy")])
    assert client.stat_object(bucket, "both").size == 2 * len(content)
    for number in range(1_010):
        client.put_object(bucket, f"d/{number:04}", io.BytesIO(b"x"), 1)
    assert len(list(client.list_objects(bucket, "d/"))) == 1_010
    assert [entry.object_name for entry in client.list_objects(bucket) if entry.is_dir] == ["d/"]
    every = [deleteobjects.DeleteObject(key) for key in target.keys(bucket)]
    assert list(client.remove_objects(bucket, every)) == []
    client.remove_bucket(bucket)
    assert not client.bucket_exists(bucket)


def minio(target: Target) -> Any:
    """It cannot carry a path: the root of the server."""
    module = pytest.importorskip("minio")
    return module.Minio(
        target.host, access_key=target.key, secret_key=target.secret, secure=target.ca is not None, region="us-east-1"
    )
