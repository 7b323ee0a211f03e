"""Stored data outlives the code: every earlier form is served, and what is newer is refused and untouched."""

from __future__ import annotations

import hashlib
import json
import os
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_type_hints

import lmdb
import pytest
import storeddata
from fsck import check_directory
from s3fixtures import refused
from server import CREDENTIALS, ServerProcess
from tools import tool
from xxhash import xxh3_64_digest

from aisobj import model
from aisobj.model import Format
from aisobj.storage import blob_format, keys, records
from aisobj.storage.formats import FORMAT_VERSION
from aisobj.storage.index_recovery import recover
from aisobj.storage.lmdb_env import open_environment, row_prefix

MakeServer = Callable[..., ServerProcess]

DATA = Path(__file__).parent / "data"
STORED = sorted(DATA.glob("*.tar.xz"))
FORMS = DATA / "forms.json"


def unpack(archive: Path, home: Path) -> Path:
    data = home / "data"
    data.mkdir(mode=0o700, parents=True)
    with tarfile.open(archive) as opened:
        if hasattr(tarfile, "data_filter"):
            opened.extraction_filter = tarfile.data_filter
        opened.extractall(data)  # ``filter`` came with Python 3.11.4
    for path in data.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return data


def bodies(s3: Any) -> dict[str, dict[str, tuple[bytes, dict[str, str]]]]:
    """Everything that can be listed, with its metadata."""
    found: dict[str, dict[str, tuple[bytes, dict[str, str]]]] = {}
    for bucket in s3.list_buckets()["Buckets"]:
        name = bucket["Name"]
        found[name] = {}
        for entry in s3.list_objects_v2(Bucket=name).get("Contents", []):
            answer = s3.get_object(Bucket=name, Key=entry["Key"])
            found[name][entry["Key"]] = answer["Body"].read(), answer["Metadata"]
            assert answer["ETag"] == entry["ETag"] and answer["LastModified"] == entry["LastModified"]
    return found


@pytest.mark.parametrize("archive", STORED, ids=lambda path: path.name.partition(".")[0])
def test_what_an_earlier_server_stored_is_served_and_written_on(
    make_server: MakeServer, tmp_path: Path, archive: Path
) -> None:
    data = unpack(archive, tmp_path)
    assert check_directory(data, crashed=True) == []
    server = make_server(data=data, credentials=CREDENTIALS)
    s3 = server.boto()
    assert bodies(s3) == storeddata.OBJECTS
    assert s3.get_bucket_versioning(Bucket="first")["Status"] == "Suspended"
    first = s3.get_object(Bucket="first", Key="large", Range="bytes=262000-262999")
    assert first["Body"].read() == storeddata.LARGE[262000:263000]
    assert (first["ContentType"], first["CacheControl"]) == ("text/x-test", "no-cache")
    # And goes on
    expected = {name: dict(objects) for name, objects in storeddata.OBJECTS.items()}
    [upload] = s3.list_multipart_uploads(Bucket="first")["Uploads"]
    which = {"Bucket": "first", "Key": upload["Key"]}
    storeddata.complete(s3, upload["UploadId"], which)
    expected["first"][storeddata.UPLOAD] = storeddata.PART, {}
    for key in ("small", "large", "multipart", "long"):
        s3.put_object(Bucket="first", Key=key, Body=b"new")
        expected["first"][key] = b"new", {}
    s3.copy_object(Bucket="first", Key="empty", CopySource={"Bucket": "first", "Key": "copy"})
    expected["first"]["empty"] = expected["first"].pop("copy")
    s3.delete_object(Bucket="first", Key="copy")
    s3.delete_objects(Bucket="with-md5", Delete={"Objects": [{"Key": "small"}]})
    s3.delete_bucket(Bucket="with-md5")
    del expected["with-md5"]
    assert bodies(s3) == expected
    server.stop()
    assert check_directory(data) == []
    assert tool(data, "scrub")[0] == 0


def forms() -> dict[str, Any]:
    """What a stored form is made of."""
    stored = [model.Bucket, model.BucketName, model.ObjectRecord, model.Headers, model.Body, model.Upload, model.Part]
    stored += [model.Garbage, model.Format, model.BucketProps, model.Checksum, model.Extent, model.PartInfo]
    return {
        "format": FORMAT_VERSION,
        "row": records.VERSION.hex(),
        "blob": [blob_format.VERSION, blob_format.TRAILER, *get_type_hints(blob_format.Footer)],
        "records": {kind.__name__: {name: str(of) for name, of in get_type_hints(kind).items()} for kind in stored},
        "rows": sorted(
            value.decode() for name, value in vars(keys).items() if name.isupper() and type(value) is bytes and value
        ),
    }


def test_a_new_stored_form_comes_with_data_of_the_old_one() -> None:
    """See ``storeddata``: pack what the old code stores, then write the new forms down."""
    assert len(STORED) >= 3
    assert json.loads(FORMS.read_text()) == forms(), f"add data of the form before, then: {json.dumps(forms())}"


# What is newer


def contents(data: Path) -> dict[str, str]:
    """Every file but those that hold nothing, by its hash."""
    nothing = ("lock", "lock.mdb", "ballast", "writer")
    files = [path for path in sorted(data.rglob("*")) if path.is_file() and path.name not in nothing]
    return {str(path.relative_to(data)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def put_row(index: Path, partition: bytes, key: bytes, row: bytes) -> None:
    recover(index)  # what is still in its log would be written over this
    environment = open_environment(index, sync=True)
    with environment.begin(write=True) as transaction:
        transaction.put(row_prefix(partition) + key, row)
    environment.close()


NEWER = {
    "the data directory has format 7": Format(7, FORMAT_VERSION + 1, [], bytes(16)),
    "features that this release does not know: tiers": Format(1, 1, ["tiers"], bytes(16)),
}


@pytest.mark.parametrize(("said", "workers"), list(zip(NEWER, (2, 1), strict=True)))
def test_a_newer_data_directory_is_refused_and_untouched(
    make_server: MakeServer, tmp_path: Path, said: str, workers: int
) -> None:
    data = unpack(STORED[-1], tmp_path)
    put_row(data / "index", keys.ROOT, keys.FORMAT, records.encode(NEWER[said]))
    before = contents(data)
    server = make_server(data=data, start=False, workers=workers)
    server.launch()
    assert server.wait() == 1
    assert said in server.log()
    assert "Traceback" not in server.log()
    server.expect_errors = True  # one critical line
    assert contents(data) == before


@pytest.mark.parametrize("command", ["fsck", "scrub --quarantine", "backup", "restore", "rebuild-index"])
def test_a_newer_data_directory_is_refused_by_the_tools_too(tmp_path: Path, command: str) -> None:
    said = list(NEWER)[len(command) % 2]
    data = unpack(STORED[-1], tmp_path)
    put_row(data / "index", keys.ROOT, keys.FORMAT, records.encode(NEWER[said]))
    if command in ("restore", "rebuild-index"):  # they look at the backup
        (data / "backups").mkdir()
        (data / "index" / "data.mdb").rename(data / "backups" / "index-20300101T000000Z.mdb")
    before = contents(data)
    status, text = tool(data, *command.split())
    assert status == 2
    assert said.removeprefix("the data directory ") in text and text.count("\n") == 1
    assert contents(data) == before


def test_an_index_of_another_lmdb_is_refused_and_untouched(make_server: MakeServer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "index").mkdir(parents=True)
    with lmdb.open(str(data / "index"), lib_version=0) as other, other.begin(write=True) as transaction:
        transaction.put(b"key", b"value")
    before = contents(data)
    server = make_server(data=data, start=False)
    server.launch()
    assert server.wait() == 1
    assert "is no index of this release" in server.log()
    server.expect_errors = True
    assert contents(data) == before


def test_a_newer_row_and_a_newer_blob_are_refused_by_name_and_stay(make_server: MakeServer, tmp_path: Path) -> None:
    data = unpack(STORED[-1], tmp_path)
    recover(data / "index")
    environment = open_environment(data / "index", sync=True)
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        (key, row), _ = [item for item in cursor if item[0][17:] == b"Osmall"]
        newer = b"\x02" + row[1:-8]
        transaction.put(key, newer + xxh3_64_digest(newer))
    environment.close()
    damaged = "first"  # made first, so its id and its rows come first
    [blob, _] = [path for path in data.glob("blobs/?????/??/*") if path.stat().st_nlink == 2]  # large, and its copy
    with blob.open("r+b") as file:
        file.seek(-32, os.SEEK_END)
        trailer = bytearray(file.read())
        struct.pack_into(">H", trailer, 22, 2)
        trailer[24:] = xxh3_64_digest(bytes(trailer[:24]))
        file.seek(-32, os.SEEK_END)
        file.write(trailer)
    size = blob.stat().st_size
    server = make_server(data=data, credentials=CREDENTIALS, expect_errors=True)
    s3 = server.boto()
    failed = []
    for name, objects in storeddata.OBJECTS.items():
        for key_, (body, _) in objects.items():
            try:
                assert s3.get_object(Bucket=name, Key=key_)["Body"].read() == body
            except s3.exceptions.ClientError as error:
                assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 500
                failed.append(key_)
    assert sorted(failed) == ["copy", "large", "small"]
    with refused("InternalError", 500):
        s3.list_objects_v2(Bucket=damaged)
    server.stop()
    assert "a row of format 2, which this release does not read" in server.log()
    assert "a blob of format 2; this release reads 1" in server.log()
    assert blob.stat().st_size == size and not (data / "blobs" / "quarantine").exists()
