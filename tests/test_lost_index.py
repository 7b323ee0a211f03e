"""A server whose index has gone, or has lost rows, takes nothing away that the tools could bring back."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from server import ServerProcess
from test_tools import some_objects, stored
from tools import tool, tool_json

from aisobj.storage import keys
from aisobj.storage.lmdb_env import open_environment, row_prefix
from aisobj.storage.orphans import KEPT, ORPHANS, drop_old_orphans, orphans_name

MakeServer = Callable[..., ServerProcess]


def blobs(data: Path) -> list[str]:
    return sorted(path.name for path in (data / "blobs").glob("?????/??/*"))


def change(data: Path, work: Callable[[lmdb.Transaction], object]) -> None:
    """The index of a stopped server."""
    environment = open_environment(data / "index", sync=False)
    with environment.begin(write=True) as transaction:
        work(transaction)
    environment.close()


def remove_index(data: Path) -> None:
    shutil.rmtree(data / "index")


def empty_index(data: Path) -> None:
    (data / "index" / "data.mdb").write_bytes(b"")


def lose_format(data: Path) -> None:
    change(data, lambda transaction: transaction.delete(row_prefix(keys.ROOT) + keys.FORMAT))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("lose", [remove_index, empty_index, lose_format])
def test_no_index_is_begun_where_there_has_been_one(
    make_server: MakeServer, lose: Callable[[Path], None], workers: int
) -> None:
    server = make_server(workers=workers, expect_errors=True)
    want = some_objects(server)
    server.stop()
    assert tool(server.data, "backup")[0] == 0
    before = blobs(server.data)
    lose(server.data)
    with pytest.raises(RuntimeError, match="has lost its index, but not its blobs or backups: see ais-s3 restore"):
        server.start()
    assert blobs(server.data) == before
    assert tool_json(server.data, "restore", "--force")[0] == 0
    server.start()
    assert stored(server) == want


def test_a_backup_alone_says_that_there_was_an_index(make_server: MakeServer) -> None:
    server = make_server(expect_errors=True)
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="small", Body=b"1")
    server.stop()
    assert tool(server.data, "backup")[0] == 0
    remove_index(server.data)
    with pytest.raises(RuntimeError, match="has lost its index"):
        server.start()
    shutil.rmtree(server.data / "backups")
    server.start()  # nothing is left that could be lost


def test_what_a_damaged_index_does_not_know_is_set_aside_and_a_restored_one_has_it_again(
    make_server: MakeServer,
) -> None:
    server = make_server(workers=2)
    want = some_objects(server)
    server.stop()
    assert tool(server.data, "backup")[0] == 0
    before = blobs(server.data)

    def lose_owners(transaction: lmdb.Transaction) -> None:
        found = [key for key, _ in transaction.cursor() if key[:1] == b"\x10" and key[17:18] == keys.BLOB]
        assert len(found) == len(before)
        for key in found:
            transaction.delete(key)

    change(server.data, lose_owners)
    server.start()
    assert re.search(rf"{len(before)} blobs that the index does not know are in \S+/orphans/\d+T\d+Z", server.log())
    server.stop()
    aside = server.data / "blobs" / ORPHANS
    assert blobs(server.data) == []
    assert sorted(path.name for path in aside.glob("*/*")) == before
    assert tool_json(server.data, "restore", "--force")[0] == 0
    assert blobs(server.data) == before
    server.start()
    assert stored(server) == want


def test_orphans_are_dropped_after_a_week(tmp_path: Path) -> None:
    now = 1_800_000_000
    old, young = (tmp_path / ORPHANS / orphans_name(int(now - KEPT + ago) * 10**9) for ago in (-2, 2))
    other = tmp_path / ORPHANS / "20200101"
    for directory in (old, young, other):
        directory.mkdir(parents=True)
        (directory / ("0" * 32)).touch()
    assert drop_old_orphans(str(tmp_path), now) == 1
    assert sorted(os.listdir(tmp_path / ORPHANS)) == sorted([young.name, other.name])
    assert drop_old_orphans(str(tmp_path), now) == 0
    assert drop_old_orphans(str(tmp_path / "none"), now) == 0
