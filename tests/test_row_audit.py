"""What a look at every row of an index finds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from aisobj.storage import keys, records
from aisobj.storage.lmdb_env import open_environment, row_prefix
from aisobj.storage.row_audit import faults_of_rows

BUCKET = bytes(range(16))
ROWS = {row_prefix(BUCKET) + b"X%04d" % number: records.seal(b"row %d" % number) for number in range(500)}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[lmdb.Environment]:
    environment = open_environment(tmp_path / "index", sync=False)
    put(environment, ROWS)
    yield environment
    environment.close()


def put(environment: lmdb.Environment, rows: dict[bytes, bytes]) -> None:
    with environment.begin(write=True) as transaction:
        for key, row in rows.items():
            transaction.put(key, row)


def test_what_was_written_is_sound_and_each_flip_in_a_row_is_found(environment: lmdb.Environment) -> None:
    put(environment, {row_prefix(keys.ROOT) + keys.PURGE + BUCKET: b""})  # which has no checksum
    assert list(faults_of_rows(environment)) == []
    key, row = row_prefix(BUCKET) + b"X0007", ROWS[row_prefix(BUCKET) + b"X0007"]
    for at in range(len(row)):
        put(environment, {key: row[:at] + bytes([row[at] ^ 1]) + row[at + 1 :]})
        (fault,) = faults_of_rows(environment)
        assert "(b'X0007')" in fault and BUCKET.hex() in fault


@pytest.mark.parametrize(
    ("what", "other", "fault"),
    [
        (b"X0250", b"X9250", "out of order"),
        (b"X0250", b"X0001", "out of order"),
        (len(ROWS).to_bytes(8, "little"), (len(ROWS) + 2).to_bytes(8, "little"), "2 rows are missing"),
        (len(ROWS).to_bytes(8, "little"), (len(ROWS) - 2).to_bytes(8, "little"), "out of order"),
    ],
)
def test_a_key_out_of_order_and_a_wrong_number_of_rows_are_found(
    environment: lmdb.Environment, tmp_path: Path, what: bytes, other: bytes, fault: str
) -> None:
    (tmp_path / "copy").mkdir()
    environment.copy(str(tmp_path / "copy"), compact=True)  # one of each page
    copy = tmp_path / "copy" / "data.mdb"
    copy.write_bytes(copy.read_bytes().replace(what, other))
    with lmdb.open(str(copy), lib_version=1, subdir=False, readonly=True, lock=False) as damaged:
        faults = list(faults_of_rows(damaged))
    assert len(faults) == 1 and fault in faults[0]
