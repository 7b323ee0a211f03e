"""What is whole but stands in the place of something else is never served: no checksum of its own can tell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from s3fixtures import refused
from server import ServerProcess
from test_lost_index import change
from tools import tool_json

from aisobj.model import ObjectRecord
from aisobj.storage import keys, records

MakeServer = Callable[..., ServerProcess]


def move_row(data: Path, old: bytes, new: bytes) -> None:
    """As a bit does that changes in the key of an object's row."""

    def work(transaction: Any) -> None:
        found = [key for key, _ in transaction.cursor() if key[17:] == keys.OBJECT + old]
        assert len(found) == 1
        transaction.put(found[0][:17] + keys.OBJECT + new, transaction.pop(found[0]))

    change(data, work)


@pytest.mark.parametrize("body", [b"small", b"large" * 40_000], ids=["inline", "file"])
def test_a_row_of_another_key_is_corrupt(make_server: MakeServer, body: bytes) -> None:
    server = make_server(expect_errors=True)
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="k15", Body=body)
    server.stop()
    move_row(server.data, b"k15", b"k14")
    server.start()
    client = server.boto()
    with refused("NoSuchKey", 404):
        client.get_object(Bucket="bucket", Key="k15")
    for operation in (client.get_object, client.delete_object):
        with refused("InternalError", 500):
            operation(Bucket="bucket", Key="k14")
    with refused("500", 500):
        client.head_object(Bucket="bucket", Key="k14")
    with refused("InternalError", 500):
        client.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/k14")
    for arguments in (["fsck"], ["scrub"]):
        status, found = tool_json(server.data, *arguments)
        assert (status, found["sound"]) == (1, False), found
        assert "the record of another key" in str(found), found


def test_a_record_of_an_earlier_release_names_no_key() -> None:
    """And is taken for what it stands at."""
    record = ObjectRecord(bytes(16), 1, 0, 1, "e", 0, b"")  # type: ignore[arg-type]
    row = records.encode(record)
    assert records.decode_object(b"any", row) == record


@pytest.mark.parametrize("kind", ["xxhash", "md5"])
def test_a_blob_in_the_place_of_another_is_not_served(make_server: MakeServer, kind: str) -> None:
    server = make_server("--checksum", kind, expect_errors=True)
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    bodies = {"a": b"a" * 200_000, "b": b"b" * 200_000}
    for key, body in bodies.items():
        client.put_object(Bucket="bucket", Key=key, Body=body)
    client.copy_object(Bucket="bucket", Key="copy", CopySource="bucket/a")
    server.stop()
    assert tool_json(server.data, "fsck")[0] == 0
    first, second = sorted((server.data / "blobs").glob("?????/??/*"))[:2]
    aside = first.with_name("aside")
    for source, target in ((first, aside), (second, first), (aside, second)):
        source.rename(target)
    server.start()
    client = server.boto()
    for key in bodies:
        for more in ({}, {"Range": "bytes=10-20"}):
            with refused("InternalError", 500):
                client.get_object(Bucket="bucket", Key=key, **more)
    assert client.get_object(Bucket="bucket", Key="copy")["Body"].read() == bodies["a"]
    status, found = tool_json(server.data, "fsck")
    assert status == 1 and "is another blob than that of" in str(found), found
