"""A disk that is full, bytes that changed on it, a server that stops in the middle: nothing wrong is served or lost."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from fsck import check_directory
from s3fixtures import refused
from s3raw import Sender
from test_error_codes import blob_of
from tools import quarantined

MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 320 MiB: the reserve, the ballast, and a bit."""
    path = tmp_path / "disk"
    path.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=320m", "none", path], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def test_a_full_disk_still_reads_and_deletes(small_disk: Path, tmp_path: Path, make_server: Any) -> None:
    server = make_server(data=small_disk / "data")
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    names = {"Bucket": "bucket", "Key": "old"}
    client.put_object(**names, Body=b"x" * MIB)
    client.put_object(Bucket="bucket", Key="small", Body=b"x")
    upload = client.create_multipart_upload(**names)["UploadId"]
    filler = small_disk / "filler"
    filler.write_bytes(bytes(60 * MIB))  # whatever else is on the disk

    sender = Sender(server.endpoint)
    assert free(small_disk) < 256 * MIB
    wait_for(sender, 503)
    for key, body in (("old", b"y" * MIB), ("small", b"y"), ("new", b"y" * 100)):
        answer = sender.ask("PUT", f"/s3/bucket/{key}", body=body)
        assert (answer.status, answer.code, answer.headers["retry-after"]) == (503, "SlowDown", "1"), key
    with refused("SlowDown", 503):
        client.upload_part(**names, UploadId=upload, PartNumber=1, Body=b"x" * 100)
    assert client.get_object(**names)["Body"].read() == b"x" * MIB
    assert client.get_object(Bucket="bucket", Key="small")["Body"].read() == b"x"
    filler.open("ab").write(bytes(free(small_disk) - 4096))  # now really full
    client.delete_object(**names)
    client.delete_object(Bucket="bucket", Key="small")
    assert client.list_objects_v2(Bucket="bucket")["KeyCount"] == 0

    filler.unlink()
    wait_for(sender, 200)
    client.put_object(**names, Body=b"z" * MIB)
    assert client.get_object(**names)["Body"].read() == b"z" * MIB
    server.stop()
    assert check_directory(server.data) == []


def free(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def wait_for(sender: Sender, status: int) -> None:
    """How full the disk is is looked at about once a second, when somebody writes."""
    deadline = time.monotonic() + 15
    while sender.ask("PUT", "/s3/bucket/probe", body=b"x").status != status:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    sender.ask("DELETE", "/s3/bucket/probe")


def test_a_corrupt_block_is_never_sent(make_server: Any) -> None:
    """In the middle of a download the connection is cut before it, so that nobody takes what came for the whole."""
    server = make_server()
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    size = 3 * MIB
    body = os.urandom(size)
    sender.ask("PUT", "/s3/bucket/k", body=body)
    path = blob_of(server.data, size)
    with path.open("r+b") as file:
        file.seek(2 * MIB + 5)
        file.write(bytes([body[2 * MIB + 5] ^ 1]))
    with sender.connect() as wire:
        wire.send(sender.request("GET", "/s3/bucket/k"))
        with pytest.raises(EOFError) as caught:
            wire.answer()
    received = int(str(caught.value).split()[5])
    assert received <= 2 * MIB
    taken = quarantined(server.data, path)
    for value in ("bytes=0-99", f"bytes={2 * MIB}-", f"bytes={size - 9}-"):  # sound ranges neither
        answer = sender.ask("GET", "/s3/bucket/k", [("Range", value)])
        assert (answer.status, answer.code) == (500, "InternalError"), value
    assert sender.ask("HEAD", "/s3/bucket/k").status == 200
    copied = sender.ask(
        "PUT", "/s3/bucket/copy", [("x-amz-copy-source", "bucket/k"), ("x-amz-checksum-algorithm", "SHA1")]
    )
    assert (copied.status, copied.code) == (500, "InternalError")
    assert sender.ask("GET", "/s3/bucket/copy").status == 404
    assert server.log().count("CorruptData") >= 2
    assert corrupt_objects(sender) == 1
    with taken.open("r+b") as file:  # an operator has found the right byte
        file.seek(2 * MIB + 5)
        file.write(body[2 * MIB + 5 : 2 * MIB + 6])
    taken.rename(path)
    assert sender.ask("GET", "/s3/bucket/k").body == body
    taken.with_name(f"blob-{path.name}.json").unlink()
    assert corrupt_objects(sender) == 0


def test_a_corrupt_row_is_never_sent_and_is_counted_once(make_server: Any) -> None:
    server = make_server(workers=2)
    sender = Sender(server.endpoint)
    sender.ask("PUT", "/s3/bucket")
    body = os.urandom(1000)
    sender.ask("PUT", "/s3/bucket/k", body=body)
    index = lmdb.open(str(server.data / "index"), lib_version=1, map_size=1 << 40, max_readers=1024, create=False)
    try:
        with index.begin(write=True) as transaction:
            (row_key,) = [key for key, row in transaction.cursor() if body in row]
            row = transaction.get(row_key)
            transaction.put(row_key, row[:500] + bytes([row[500] ^ 1]) + row[501:])
        for _ in range(3):
            answer = sender.ask("GET", "/s3/bucket/k")
            assert (answer.status, answer.code) == (500, "InternalError")
        deadline = time.monotonic() + 15
        while corrupt_objects(sender) != 1:
            assert time.monotonic() < deadline
        (note,) = (server.data / "blobs" / "quarantine").iterdir()
        assert json.loads(note.read_text())["key"] == row_key[17:].hex()
        with index.begin(write=True) as transaction:
            transaction.put(row_key, row)
        assert sender.ask("GET", "/s3/bucket/k").body == body
    finally:
        index.close()


def corrupt_objects(sender: Sender) -> int:
    text = sender.ask("GET", "/metrics").body.decode()
    return int(float(re.findall(r"^ais_s3_corrupt_objects (\S+)$", text, re.MULTILINE)[0]))


def test_what_was_stored_is_there_after_a_kill_and_after_a_stop(make_server: Any) -> None:
    server = make_server(sync=True)
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    want = {}
    for number, size in enumerate((0, 10, 40_000, MIB)):
        want[f"k{number}"] = os.urandom(size)
        client.put_object(Bucket="bucket", Key=f"k{number}", Body=want[f"k{number}"], Metadata={"n": str(number)})
    upload = client.create_multipart_upload(Bucket="bucket", Key="upload")["UploadId"]
    names = {"Bucket": "bucket", "Key": "upload", "UploadId": upload}
    etag = client.upload_part(**names, PartNumber=1, Body=b"part")["ETag"]
    for end in (server.kill, server.stop):
        end()
        server.start()
        client = server.boto()
        for key, body in want.items():
            found = client.get_object(Bucket="bucket", Key=key)
            assert (found["Body"].read(), found["Metadata"]) == (body, {"n": key[1:]})
        assert [part["ETag"] for part in client.list_parts(**names)["Parts"]] == [etag]
    client.complete_multipart_upload(**names, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]})
    server.stop()
    assert check_directory(server.data) == []
