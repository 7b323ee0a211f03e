"""Tables and arrays in object storage: pyarrow (the AWS SDK for C++), polars, deltalake and obstore (Rust's
object_store), lance, icechunk, tensorstore, duckdb."""

from __future__ import annotations

import os
from typing import Any

import pytest
from targets import KEYS, MIB, Target


@pytest.fixture
def arrow_fs(target: Target) -> Any:
    fs = pytest.importorskip("pyarrow.fs")
    more = {"tls_ca_file_path": str(target.ca)} if target.ca else {}
    return fs.S3FileSystem(
        access_key=target.key,
        secret_key=target.secret,
        endpoint_override=f"{target.host}/s3",
        scheme=target.scheme,
        allow_bucket_creation=True,
        allow_bucket_deletion=True,
        **more,
    )


@pytest.mark.parametrize("key", [key for key in KEYS if not key.endswith("/") and "//" not in key])
def test_pyarrow_keys(arrow_fs: Any, target: Target, key: str) -> None:
    bucket = target.bucket()
    with arrow_fs.open_output_stream(f"{bucket}/{key}") as file:
        file.write(key.encode())
    assert key in target.keys(bucket)
    with arrow_fs.open_input_file(f"{bucket}/{key}") as file:
        assert file.read() == key.encode()
    arrow_fs.copy_file(f"{bucket}/{key}", f"{bucket}/{key}-copy")
    arrow_fs.delete_file(f"{bucket}/{key}")
    assert f"{key}-copy" in target.keys(bucket)


def test_pyarrow_files(arrow_fs: Any, target: Target) -> None:
    fs = pytest.importorskip("pyarrow.fs")
    bucket, content = target.bucket(), os.urandom(37 * MIB)
    with arrow_fs.open_output_stream(f"{bucket}/a/large", metadata={"Content-Type": "x/y", "name": "value"}) as file:
        for start in range(0, len(content), MIB):
            file.write(content[start : start + MIB])
    with arrow_fs.open_input_file(f"{bucket}/a/large") as file:
        assert file.read_at(10, 20 * MIB) == content[20 * MIB : 20 * MIB + 10]
        assert file.read() == content
    assert target.boto().head_object(Bucket=bucket, Key="a/large")["ContentType"] == "x/y"
    arrow_fs.move(f"{bucket}/a/large", f"{bucket}/b")
    arrow_fs.create_dir(f"{bucket}/dir/sub", recursive=True)
    for number in range(1_020):
        arrow_fs.open_output_stream(f"{bucket}/dir/sub/{number}").close()
    assert len(arrow_fs.get_file_info(fs.FileSelector(f"{bucket}/dir", recursive=True))) == 1_021
    arrow_fs.delete_dir(f"{bucket}/dir")
    assert arrow_fs.get_file_info(f"{bucket}/dir").type == fs.FileType.NotFound
    arrow_fs.create_dir(f"{bucket}-made")
    arrow_fs.delete_dir(f"{bucket}-made")
    assert [info.type for info in arrow_fs.get_file_info([f"{bucket}/b", f"{bucket}/none", f"{bucket}-made"])] == [
        fs.FileType.File,
        fs.FileType.NotFound,
        fs.FileType.NotFound,
    ]


def test_pyarrow_dataset(arrow_fs: Any, target: Target) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    dataset = pytest.importorskip("pyarrow.dataset")
    parquet = pytest.importorskip("pyarrow.parquet")
    root = f"{target.bucket()}/data set"
    table = pyarrow.table({"n": range(10_000), "part": [f"p {number % 7}" for number in range(10_000)]})
    for behaviour in ("error", "delete_matching", "overwrite_or_ignore"):
        dataset.write_dataset(
            table,
            root,
            filesystem=arrow_fs,
            format="parquet",
            partitioning=dataset.partitioning(pyarrow.schema([("part", pyarrow.string())]), flavor="hive"),
            existing_data_behavior=behaviour,
        )
    read = dataset.dataset(root, filesystem=arrow_fs, partitioning="hive")
    assert (
        read.to_table(filter=dataset.field("part") == "p 3").num_rows
        == table.filter(pyarrow.compute.equal(table["part"], "p 3")).num_rows
    )
    parquet.write_table(table, f"{root}.parquet", filesystem=arrow_fs)
    assert parquet.read_table(f"{root}.parquet", filesystem=arrow_fs) == table


def storage_options(target: Target) -> dict[str, str]:
    """For polars, deltalake and lance."""
    return {
        "aws_endpoint_url": target.s3,
        "aws_access_key_id": target.key,
        "aws_secret_access_key": target.secret,
        "aws_region": "us-east-1",
        "aws_allow_http": "true",
    }


def test_polars(target: Target) -> None:
    polars = pytest.importorskip("polars")
    numpy = pytest.importorskip("numpy")
    bucket, options = target.bucket(), storage_options(target)
    frame = polars.DataFrame({"n": range(3_000_000), "f": numpy.random.default_rng(1).random(3_000_000)})
    frame.write_parquet(f"s3://{bucket}/a b/large.parquet", storage_options=options)
    assert target.boto().head_object(Bucket=bucket, Key="a b/large.parquet")["ContentLength"] > 16 * MIB
    frame.lazy().sink_parquet(f"s3://{bucket}/sunk.parquet", storage_options=options)
    lazy = polars.scan_parquet(f"s3://{bucket}/a b/large.parquet", storage_options=options)
    assert lazy.filter(polars.col("n") > 2_999_990).collect().height == 9
    assert polars.read_parquet(f"s3://{bucket}/sunk.parquet", storage_options=options).equals(frame)
    small = frame.head(100).with_columns(part=polars.col("n") % 3)
    small.write_parquet(f"s3://{bucket}/parts/", partition_by="part", storage_options=options)
    again = polars.scan_parquet(f"s3://{bucket}/parts/**/*.parquet", storage_options=options, hive_partitioning=True)
    assert again.filter(polars.col("part") == 1).collect()["n"].sum() == sum(range(1, 100, 3))
    frame.head(10).write_csv(f"s3://{bucket}/t.csv", storage_options=options)
    assert polars.scan_csv(f"s3://{bucket}/t.csv", storage_options=options).collect().height == 10
    with pytest.raises(FileNotFoundError):
        polars.scan_parquet(f"s3://{bucket}/none.parquet", storage_options=options).collect()


def test_deltalake(target: Target) -> None:
    deltalake = pytest.importorskip("deltalake")
    pyarrow = pytest.importorskip("pyarrow")
    url, options = f"s3://{target.bucket()}/a table", storage_options(target)

    def some(low: int, high: int) -> Any:
        return pyarrow.table({"n": pyarrow.array(range(low, high), pyarrow.int64()), "p": ["x y"] * (high - low)})

    deltalake.write_deltalake(url, some(0, 10), partition_by=["p"], storage_options=options)
    for round_ in range(1, 12):  # past a checkpoint
        deltalake.write_deltalake(url, some(round_ * 10, round_ * 10 + 10), mode="append", storage_options=options)
    table = deltalake.DeltaTable(url, storage_options=options)
    assert table.version() == 11
    stale = deltalake.DeltaTable(url, version=5, storage_options=options)
    assert stale.to_pyarrow_table().num_rows == 60
    table.create_checkpoint()
    table.delete("n < 5")
    table.update(updates={"p": "'z'"}, predicate="n = 5")
    table.merge(some(100, 130), "s.n = t.n", source_alias="s", target_alias="t").when_not_matched_insert_all().execute()
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    again = deltalake.DeltaTable(url, storage_options=options)
    assert sorted(again.to_pyarrow_table()["n"].to_pylist()) == list(range(5, 130))
    with pytest.raises(Exception, match=r"(?i)conflict|concurrent|exists|already"):
        deltalake.write_deltalake(url, some(0, 1), mode="error", storage_options=options)


def obstore_of(target: Target, bucket: str) -> Any:
    return pytest.importorskip("obstore.store").S3Store(
        bucket,
        endpoint=target.s3,
        access_key_id=target.key,
        secret_access_key=target.secret,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )


@pytest.mark.parametrize("key", [key for key in KEYS if not key.endswith("/") and "//" not in key])
def test_obstore_keys(target: Target, key: str) -> None:
    obstore = pytest.importorskip("obstore")
    bucket = target.bucket()
    store = obstore_of(target, bucket)
    obstore.put(store, key, key.encode())
    assert [entry["path"] for entry in obstore.list(store).collect()] == target.keys(bucket) == [key]
    assert bytes(obstore.get(store, key).bytes()) == key.encode()
    obstore.copy(store, key, "copy")
    obstore.delete(store, [key])
    assert target.keys(bucket) == ["copy"]


def test_obstore(target: Target) -> None:
    obstore = pytest.importorskip("obstore")
    exceptions = pytest.importorskip("obstore.exceptions")
    bucket, content = target.bucket(), os.urandom(23 * MIB)
    store = obstore_of(target, bucket)
    obstore.put(store, "large", content, attributes={"Content-Type": "x/y", "name": "value"})
    assert bytes(obstore.get(store, "large").bytes()) == content
    ranges = obstore.get_ranges(store, "large", starts=[0, 5 * MIB, 22 * MIB], lengths=[10, 10, MIB])
    assert [bytes(one) for one in ranges] == [content[:10], content[5 * MIB : 5 * MIB + 10], content[22 * MIB :]]
    assert bytes(obstore.get(store, "large", options={"range": {"suffix": 9}}).bytes()) == content[-9:]

    etag = obstore.put(store, "once", b"1", mode="create")["e_tag"]
    with pytest.raises(exceptions.AlreadyExistsError):
        obstore.put(store, "once", b"2", mode="create")
    obstore.put(store, "once", b"22", mode={"e_tag": etag})
    with pytest.raises(exceptions.PreconditionError):
        obstore.put(store, "once", b"3", mode={"e_tag": etag})
    with pytest.raises(exceptions.NotModifiedError):
        obstore.get(store, "once", options={"if_none_match": obstore.head(store, "once")["e_tag"]})

    obstore.rename(store, "once", "renamed")
    for number in range(1_050):
        obstore.put(store, f"d/{number:04}", b"x", use_multipart=False)
    assert len(obstore.list(store, prefix="d").collect()) == 1_050
    assert obstore.list_with_delimiter(store)["common_prefixes"] == ["d"]
    assert len(obstore.list(store, prefix="d", offset="d/1000").collect()) == 49
    obstore.delete(store, [f"d/{number:04}" for number in range(1_050)])
    assert target.keys(bucket) == ["large", "renamed"]


def test_lance(target: Target) -> None:
    lance = pytest.importorskip("lance")
    pyarrow = pytest.importorskip("pyarrow")
    if not hasattr(lance, "write_dataset"):
        pytest.skip("another package called lance")
    url, options = f"s3://{target.bucket()}/t.lance", storage_options(target)
    lance.write_dataset(pyarrow.table({"n": range(100)}), url, storage_options=options)
    lance.write_dataset(pyarrow.table({"n": range(100, 200)}), url, mode="append", storage_options=options)
    data = lance.dataset(url, storage_options=options)
    data.delete("n < 50")
    assert (data.count_rows(), lance.dataset(url, version=1, storage_options=options).count_rows()) == (150, 100)


def test_icechunk(target: Target) -> None:
    icechunk = pytest.importorskip("icechunk")
    if target.ca is not None:
        pytest.skip("it trusts the authorities that were compiled in")
    zarr = pytest.importorskip("zarr")
    storage = icechunk.s3_storage(
        bucket=target.bucket(),
        prefix="repository",
        region="us-east-1",
        endpoint_url=f"{target.s3}/",  # without the slash it lists /s3BUCKET
        allow_http=True,
        access_key_id=target.key,
        secret_access_key=target.secret,
        force_path_style=True,
    )
    repository = icechunk.Repository.create(storage)
    for round_ in range(3):
        session = repository.writable_session("main")
        array = zarr.open_array(session.store, path="x", mode="a", shape=(100,), chunks=(10,), dtype="i4")
        array[:] = round_
        session.commit(f"round {round_}")
    read = zarr.open_array(repository.readonly_session("main").store, path="x", mode="r")
    assert (read[:] == 2).all()
    assert len(list(repository.ancestry(branch="main"))) == 4


def test_tensorstore(target: Target) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    numpy = pytest.importorskip("numpy")
    bucket = target.bucket()
    spec = {
        "driver": "zarr3",
        "kvstore": {
            "driver": "s3",
            "bucket": bucket,
            "path": "array/",
            "endpoint": target.s3,
            "aws_region": "us-east-1",
            "aws_credentials": {"type": "environment"},
        },
        "metadata": {"shape": [200, 200], "data_type": "int32"},
    }
    array = tensorstore.open(spec, create=True).result()
    values = numpy.arange(40_000, dtype="int32").reshape(200, 200)
    array.write(values).result()
    assert (tensorstore.open(spec).result().read().result() == values).all()


def test_duckdb(target: Target) -> None:
    duckdb = pytest.importorskip("duckdb")
    connection = duckdb.connect()
    try:
        connection.execute("INSTALL httpfs; LOAD httpfs;")
    except duckdb.Error:
        pytest.skip("httpfs is not installed and cannot be downloaded")
    bucket = target.bucket()
    if target.ca is not None:
        connection.execute(f"SET ca_cert_file = '{target.ca}'")
    connection.execute(
        f"CREATE SECRET (TYPE s3, KEY_ID '{target.key}', SECRET '{target.secret}', ENDPOINT '{target.host}/s3',"
        f" URL_STYLE 'path', USE_SSL {'true' if target.ca else 'false'})"
    )
    connection.execute(f"COPY (SELECT range AS n, range % 3 AS p FROM range(100000)) TO 's3://{bucket}/t.parquet'")
    assert connection.sql(f"SELECT count(*) FROM 's3://{bucket}/*.parquet'").fetchone() == (100_000,)
    connection.execute(
        f"COPY (SELECT range AS n, range % 3 AS p FROM range(99)) TO 's3://{bucket}/p' (FORMAT parquet, PARTITION_BY p)"
    )
    assert connection.sql(f"SELECT count(*) FROM 's3://{bucket}/p/*/*.parquet' WHERE p = 1").fetchone() == (33,)
