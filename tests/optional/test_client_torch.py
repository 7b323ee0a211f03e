"""PyTorch through s3torchconnector (the AWS Common Runtime)."""

from __future__ import annotations

import os
import pickle
from typing import Any

import pytest
from targets import KEYS, MIB, Target


@pytest.fixture
def where(target: Target) -> dict[str, Any]:
    """What each of its classes takes."""
    connector = pytest.importorskip("s3torchconnector")
    if target.ca is not None:
        pytest.skip("it takes only the authorities of the system's own store")
    config = connector.S3ClientConfig(force_path_style=True)
    return {"region": "us-east-1", "endpoint": target.s3, "s3client_config": config}


def test_map_dataset(where: dict[str, Any], target: Target) -> None:
    connector = pytest.importorskip("s3torchconnector")
    bucket, boto = target.bucket(), target.boto()
    keys = [key for key in KEYS if not key.endswith("/")]
    for key in keys:
        boto.put_object(Bucket=bucket, Key=f"train/{key}", Body=key.encode())
    data = connector.S3MapDataset.from_prefix(f"s3://{bucket}/train/", **where)
    assert sorted(data[number].key for number in range(len(data))) == sorted(f"train/{key}" for key in keys)
    assert sorted(data[number].read() for number in range(len(data))) == sorted(key.encode() for key in keys)


def test_iterable_dataset_of_many(where: dict[str, Any], target: Target) -> None:
    connector = pytest.importorskip("s3torchconnector")
    torch_data = pytest.importorskip("torch.utils.data")
    bucket, boto = target.bucket(), target.boto()
    for number in range(1_050):
        boto.put_object(Bucket=bucket, Key=f"{number:04}", Body=b"%d" % number)
    data = connector.S3IterableDataset.from_prefix(f"s3://{bucket}/", transform=_number, enable_sharding=True, **where)
    loader = torch_data.DataLoader(data, num_workers=2, batch_size=32, multiprocessing_context="spawn")
    assert sorted(int(number) for batch in loader for number in batch) == list(range(1_050))


def _number(reader: Any) -> int:
    return int(reader.read())


def test_large_objects_and_ranges(where: dict[str, Any], target: Target) -> None:
    connector = pytest.importorskip("s3torchconnector")
    bucket, content = target.bucket(), os.urandom(40 * MIB)
    checkpoint = connector.S3Checkpoint(**where)
    with checkpoint.writer(f"s3://{bucket}/large") as writer:
        writer.write(content)
    with checkpoint.reader(f"s3://{bucket}/large") as reader:
        assert reader.read() == content
    ranged = connector.S3ReaderConstructor.range_based()
    data = connector.S3MapDataset.from_prefix(f"s3://{bucket}/large", reader_constructor=ranged, **where)
    reader = data[0]
    reader.seek(30 * MIB)
    assert reader.read(10) == content[30 * MIB : 30 * MIB + 10]
    assert target.boto().head_object(Bucket=bucket, Key="large")["ETag"].endswith('-5"')


def test_checkpoint(where: dict[str, Any], target: Target) -> None:
    connector = pytest.importorskip("s3torchconnector")
    torch = pytest.importorskip("torch")
    bucket = target.bucket()
    checkpoint = connector.S3Checkpoint(**where)
    model = torch.nn.Linear(2_000, 2_000)
    for epoch in range(3):
        with checkpoint.writer(f"s3://{bucket}/epoch 0+{epoch}.ckpt") as writer:
            torch.save(model.state_dict(), writer)
    with checkpoint.reader(f"s3://{bucket}/epoch 0+2.ckpt") as reader:
        loaded = torch.load(reader)
    assert torch.equal(loaded["weight"], model.state_dict()["weight"])
    with pytest.raises(connector.S3Exception), checkpoint.reader(f"s3://{bucket}/none") as reader:
        pickle.load(reader)


def test_distributed_checkpoint(where: dict[str, Any], target: Target) -> None:
    dcp = pytest.importorskip("s3torchconnector.dcp", exc_type=ImportError)
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    path = f"s3://{target.bucket()}/run"
    more = {"region": where["region"], "s3client_config": where["s3client_config"]}
    os.environ["AWS_ENDPOINT_URL"] = where["endpoint"]
    state = {"weight": torch.rand(1_000, 1_000), "step": torch.tensor(7)}
    checkpoint.save(state, storage_writer=dcp.S3StorageWriter(path=path, overwrite=True, **more), no_dist=True)
    checkpoint.save(state, storage_writer=dcp.S3StorageWriter(path=path, overwrite=True, **more), no_dist=True)
    loaded = {"weight": torch.zeros(1_000, 1_000), "step": torch.tensor(0)}
    checkpoint.load(loaded, storage_reader=dcp.S3StorageReader(path=path, **more), no_dist=True)
    assert torch.equal(loaded["weight"], state["weight"])
    assert int(loaded["step"]) == 7
