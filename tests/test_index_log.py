"""The index after a power cut: however its file was torn since the log began, it becomes what the log says."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from aisobj.errors import CorruptData
from aisobj.storage import index_log
from aisobj.storage.index_log import BLOCK, DATA_NAME, LOG_NAMES, IndexLog, LogFile
from aisobj.storage.index_recovery import needs_recovery, recover
from aisobj.storage.index_rows import write_rows
from aisobj.storage.lmdb_env import open_environment

PAGE = 4096
SHOW = "import lmdb, sys; dict(lmdb.open(sys.argv[1], lib_version=1, map_size=1 << 40).begin().cursor())"


class Rig:
    """An index with a log that is full after a few commits. ``rows`` is what was acknowledged."""

    def __init__(self, home: Path, seed: int, size: int = 128 << 10) -> None:
        self.path = home / "index"
        self.environment = open_environment(self.path, sync=True)
        self.log = IndexLog(self.path, self.environment, size)
        self.rows: dict[bytes, bytes] = {}
        self.images: list[bytes] = []
        self.chance = random.Random(seed)

    def commit(self, *, show: bool = True) -> None:
        put = {
            b"%05d" % self.chance.randrange(400): self.chance.randbytes(self.chance.choice((40, 900, 5000)))
            for _ in range(6)
        }
        delete = [key for key in (b"%05d" % self.chance.randrange(400) for _ in range(3)) if key not in put]
        with self.environment.begin(write=True) as transaction:
            write_rows(transaction, delete, put)
            self.log.append(delete, put)
            if not show:
                transaction.abort()
        self.rows.update(put)
        for key in delete:
            self.rows.pop(key, None)

    def look_at_file(self) -> None:
        self.images.append((self.path / DATA_NAME).read_bytes())

    def tear(self, target: Path) -> None:
        """What a disk may hold: both logs, which are synced, and of each page of the index any version since the base
        (``look_at_file``)."""
        target.mkdir()
        for name in LOG_NAMES:
            shutil.copyfile(self.path / name, target / name)
        now = (self.path / DATA_NAME).read_bytes()
        torn = bytearray(now)
        for start in range(0, len(now), PAGE):
            versions = [image[start : start + PAGE] for image in [*self.images, now]]
            torn[start : start + PAGE] = self.chance.choice(versions).ljust(PAGE, b"\0")
        (target / DATA_NAME).write_bytes(torn)

    def close(self) -> None:
        self.log.close()
        self.environment.close()


def rows_of(path: Path) -> dict[bytes, bytes]:
    environment = open_environment(path, sync=False)
    try:
        with environment.begin() as transaction:
            return {bytes(key): bytes(value) for key, value in transaction.cursor()}
    finally:
        environment.close()


@pytest.mark.parametrize("seed", range(4))
def test_a_torn_index_becomes_what_was_acknowledged(tmp_path: Path, seed: int) -> None:
    rig = Rig(tmp_path, seed, size=1 << 20)
    spoilt = 0
    for cut in range(8):
        rig.log.checkpoint(wait=True)
        rig.images = []
        for _ in range(rig.chance.randrange(1, 10)):  # less than what fills a log
            rig.look_at_file()
            rig.commit()
        torn = tmp_path / f"torn{cut}"
        rig.tear(torn)
        shutil.copytree(torn, tmp_path / "unmended")
        shown = subprocess.run(
            [sys.executable, "-c", SHOW, str(tmp_path / "unmended")], capture_output=True, check=False
        )
        spoilt += shown.returncode != 0 or rows_of(tmp_path / "unmended") != rig.rows
        shutil.rmtree(tmp_path / "unmended")
        assert needs_recovery(torn)
        recover(torn)
        assert rows_of(torn) == rig.rows
        assert not needs_recovery(torn)
    assert spoilt, "and it could not have been read without that"
    rig.close()


def test_checkpoints_come_and_go_and_a_kill_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 7)
    generations = set()
    for number in range(120):
        rig.commit(show=number % 7 != 3 or number < 50 or number % 2 == 0)
        generations.add(rig.log.generation)
        if number % 10 == 9:
            killed = tmp_path / f"killed{number}"
            shutil.copytree(rig.path, killed)
            recover(killed)
            recover(killed)  # once more changes nothing
            assert rows_of(killed) == rig.rows
            shutil.rmtree(killed)
        if number > 50 and number % 7 == 3 and number % 2:
            break  # a record that LMDB does not show is the last one of a writer
    assert len(generations) > 3
    rig.environment.close()


class PowerCut(Exception):
    """Here the power goes."""


def cut_power(*_: object) -> None:
    raise PowerCut


def test_a_log_that_was_only_about_to_begin_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rig = Rig(tmp_path, 1)
    rig.commit()
    rig.close()
    environment = open_environment(rig.path, sync=True)
    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "mark", cut_power)
        with pytest.raises(PowerCut):
            IndexLog(rig.path, environment)
    environment.close()
    recover(rig.path)
    assert rows_of(rig.path) == rig.rows
    assert not needs_recovery(rig.path)


@pytest.mark.parametrize("cleared", [0, 1])
def test_a_recovery_that_is_cut_short_while_it_clears_the_logs_has_lost_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cleared: int
) -> None:
    """The newer log's base was not on the disk yet: it is none without the older one."""
    rig = Rig(tmp_path, 1, size=1 << 20)
    rig.commit()
    monkeypatch.setattr(IndexLog, "_make_durable", lambda self, file: None)
    rig.log.checkpoint()
    rig.commit()
    rig.environment.close()
    clear, begun = LogFile.clear, iter(range(9))
    with monkeypatch.context() as patch:
        patch.setattr(LogFile, "clear", lambda *given: cut_power() if next(begun) == cleared else clear(*given))
        with pytest.raises(PowerCut):
            recover(rig.path)
    recover(rig.path)
    assert rows_of(rig.path) == rig.rows
    assert not needs_recovery(rig.path)


@pytest.mark.parametrize("damage", [b"?", bytes(BLOCK)])
def test_a_log_whose_older_one_is_damaged_is_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: bytes
) -> None:
    rig = Rig(tmp_path, 1, size=1 << 20)
    rig.commit()
    older = rig.log._current
    monkeypatch.setattr(IndexLog, "_make_durable", lambda self, file: None)
    rig.log.checkpoint()
    rig.commit()
    rig.environment.close()
    os.pwrite(older.descriptor, damage, 12 if len(damage) == 1 else 0)
    with pytest.raises(CorruptData, match="have no base"):
        recover(rig.path)
    next(path for name in LOG_NAMES if LogFile(path := rig.path / name, create=False).generation == 0).unlink()
    with pytest.raises(CorruptData, match="have no base"):
        recover(rig.path)


@pytest.mark.parametrize("block", ["mark", "header"])
def test_a_log_that_has_lost_a_block_is_no_index_though_the_other_one_was_cleared(tmp_path: Path, block: str) -> None:
    rig = Rig(tmp_path, 1)
    rig.commit()
    rig.close()  # an orderly end: both are cleared
    rig = Rig(tmp_path, 2)
    rig.commit()
    log = rig.log._current
    rig.environment.close()
    os.pwrite(log.descriptor, bytes(BLOCK), 0 if block == "header" else BLOCK + len(log.meta_pages))
    with pytest.raises(CorruptData):
        needs_recovery(rig.path)
    with pytest.raises(CorruptData):
        recover(rig.path)


def test_a_log_is_later_than_one_that_was_cleared_however_the_clock_was_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, 1)
    before = rig.log.generation
    rig.commit()
    rig.close()
    monkeypatch.setattr("time.time_ns", lambda: 1)
    rig = Rig(tmp_path, 2)
    assert rig.log.generation > before
    rig.close()


def test_what_was_taken_back_is_not_applied_and_an_orderly_end_needs_no_log(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1)
    rig.commit()
    before = dict(rig.rows)
    rig.commit(show=False)
    rig.log.void()
    killed = tmp_path / "killed"
    shutil.copytree(rig.path, killed)
    recover(killed)
    assert rows_of(killed) == before
    rig.close()
    assert not needs_recovery(rig.path)
    assert rows_of(rig.path) == before


def test_a_record_that_could_not_be_synced_is_not_found_later_and_nothing_more_is_appended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = Rig(tmp_path, 1)
    rig.commit()
    before = dict(rig.rows)

    def fail(_: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(index_log.os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            rig.commit()
    with pytest.raises(OSError, match="Input/output"):
        rig.commit()
    killed = tmp_path / "killed"
    shutil.copytree(rig.path, killed)
    recover(killed)
    assert rows_of(killed) == before
    rig.environment.close()


def test_a_body_that_looks_like_a_record_is_none(tmp_path: Path) -> None:
    """A client may send the bytes of records of its own server's log."""
    rig = Rig(tmp_path, 1, size=1 << 20)
    rig.commit()
    stolen = (rig.path / LOG_NAMES[1]).read_bytes()[4 * PAGE : 8 * PAGE]
    assert any(stolen)
    rig.log.append([], {b"body": stolen})
    rig.log.void()
    rig.log.append([], {b"x": b"1"})
    killed = tmp_path / "killed"
    shutil.copytree(rig.path, killed)
    recover(killed)
    assert rows_of(killed) == rig.rows | {b"x": b"1"}
    rig.environment.close()


@pytest.mark.parametrize("where", ["digest", "number", "length", "rows"])
@pytest.mark.parametrize("number", [0, 3, 8])
def test_a_damaged_record_is_no_end_of_the_log(tmp_path: Path, number: int, where: str) -> None:
    """Those behind it had been acknowledged."""
    rig = Rig(tmp_path, 3, size=1 << 20)
    places = []
    for _ in range(9):
        rig.commit()
        places.append(rig.log._last)
    descriptor = rig.log._current.descriptor
    at = places[number] + {"digest": 0, "number": 23, "length": 25, "rows": 40}[where]
    os.pwrite(descriptor, bytes([os.pread(descriptor, 1, at)[0] ^ 1]), at)
    rig.environment.close()
    before = (rig.path / DATA_NAME).read_bytes()
    if number < 8:
        with pytest.raises(CorruptData, match=f"record {number} of a log"):
            recover(rig.path)
        assert (rig.path / DATA_NAME).read_bytes() == before
        assert needs_recovery(rig.path)
    else:
        recover(rig.path)  # the last one looks as if the power had gone while it was written


@pytest.mark.parametrize("at", [0, 3, 12, 20, 30, BLOCK + 7, 2 * BLOCK + 100])
def test_a_log_with_a_damaged_beginning_is_no_index(tmp_path: Path, at: int) -> None:
    rig = Rig(tmp_path, 3, size=1 << 20)
    for _ in range(3):
        rig.commit()
    descriptor = rig.log._current.descriptor
    rig.environment.close()
    os.pwrite(descriptor, bytes([os.pread(descriptor, 1, at)[0] ^ 1]), at)
    with pytest.raises(CorruptData, match="damaged beginning"):
        recover(rig.path)


def test_a_log_of_a_later_release_is_refused(tmp_path: Path) -> None:
    rig = Rig(tmp_path, 1)
    with (rig.path / LOG_NAMES[1]).open("r+b") as file:
        file.seek(9)
        file.write(b"\x09")
    with pytest.raises(index_log.FormatError, match="version 9"):
        recover(rig.path)
    with pytest.raises(lmdb.Error):
        lmdb.open(str(tmp_path / "none"), create=False)
    rig.environment.close()
