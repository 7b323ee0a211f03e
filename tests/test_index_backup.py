"""When a backup of the index was made."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from aisobj.storage import keys, records
from aisobj.storage.ids import first_id
from aisobj.storage.index_backup import time_of_backup
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.lmdb_env import open_environment, row_prefix


def test_a_backups_time_is_in_its_name_or_in_its_checkpoint_or_that_of_the_file(tmp_path: Path) -> None:
    named, other = tmp_path / "index-20261125T120030Z.mdb", tmp_path / "copy.mdb"
    for path in (named, other):
        path.write_bytes(b"")
        os.utime(path, (1e9, 1e9))
    with contextlib.closing(open_environment(tmp_path / "index", sync=False)) as environment:
        reader = IndexReader(environment)
        assert time_of_backup(other, reader) == (1e9, "by its file's time, which a copy may have changed")
        with environment.begin(write=True) as transaction:
            row = records.seal(first_id(1_700_000_000_500_000_000))
            transaction.put(row_prefix(keys.ROOT) + keys.CHECKPOINT, row)
        assert time_of_backup(other, reader) == (1_700_000_000.5, "by its checkpoint")
        assert time_of_backup(named, reader) == (1_795_608_030, "by its name")
