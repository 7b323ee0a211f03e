"""Backups of the index: one file each, an LMDB 1.0 environment without free pages, made while the index is in use.

A backup is one moment of the index. It holds the small objects and the records of all others, not the blobs.
"""

from __future__ import annotations

import calendar
import shutil
import time
from pathlib import Path

import lmdb

from aisobj.errors import StorageError
from aisobj.storage import keys, records
from aisobj.storage.exchange import exchange
from aisobj.storage.formats import check_format
from aisobj.storage.ids import id_time
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.row_audit import faults_of_rows
from aisobj.storage.syncing import sync_directory, sync_file

#: In the data directory.
DIRECTORY = "backups"
_SUFFIX = ".mdb"
_PART = ".unfinished"
_NAME = "index-%Y%m%dT%H%M%SZ"

#: In the data directory: an index that a tool is making, and one that it has replaced.
UNFINISHED = "index.unfinished"
_REPLACED = "index.replaced-%Y%m%dT%H%M%SZ"


def next_backup(directory: Path, now: float) -> Path:
    """Where the next backup goes: its name is greater than those of all that are there, also where the clock has gone
    back since, so the newest is always the last by name.

    :param now: seconds since the epoch.
    """
    for newest in reversed(backups(directory)):
        named = _time_in_name(newest)
        if named is not None:
            now = max(now, named + 1)
            break
    return directory / (time.strftime(_NAME, time.gmtime(now)) + _SUFFIX)


def _time_in_name(path: Path) -> float | None:
    """None: it is no name of ours."""
    try:
        return calendar.timegm(time.strptime(path.stem, _NAME))
    except ValueError:
        return None


def time_of_backup(path: Path, reader: IndexReader) -> tuple[float, str]:
    """When a backup was made, or a little before, in seconds since the epoch; and what says so.

    :param reader: of it, or of a copy. :raises OSError:
    """
    named = _time_in_name(path)
    if named is not None:
        return named, "by its name"
    row = reader.get(keys.ROOT, [keys.CHECKPOINT])[0]
    settled = 0 if row is None else id_time(bytes(records.unseal(row)))
    if settled:  # a server that runs writes it every minute, and nothing outside can have changed it
        return settled / 1e9, "by its checkpoint"
    return path.stat().st_mtime, "by its file's time, which a copy may have changed"


def backups(directory: Path) -> list[Path]:
    """The finished ones, oldest first."""
    return sorted(directory.glob("index-*" + _SUFFIX))


def back_up(environment: lmdb.Environment, target: Path) -> None:
    """Copy the index to the file ``target``, which must not exist; durable when this returns. Takes a while.

    While it runs LMDB reuses no page that is freed: the index may grow by what is written meanwhile.

    :raises StorageError: it could not be made; nothing is left of it.
    """
    if target.exists():
        raise StorageError(f"{target} exists")
    work = target.with_name(target.name + _PART)
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(mode=0o700)
        environment.copy(str(work), compact=True)
        made = work / "data.mdb"
        made.chmod(0o600)
        sync_file(made)
        made.rename(target)
        work.rmdir()
        sync_directory(target.parent)
        sync_directory(target.parent.parent)
    except (lmdb.Error, OSError) as error:
        shutil.rmtree(work, ignore_errors=True)
        raise StorageError(f"the index could not be copied to {target}: {error}") from error


def remove_old(directory: Path, keep: int) -> None:
    """All but the newest ``keep``, and what a crash left unfinished. Raises OSError."""
    for path in backups(directory)[:-keep]:
        path.unlink()
    for path in directory.glob("*" + _PART):
        shutil.rmtree(path, ignore_errors=True)


def check_backup(path: Path) -> list[str]:
    """Read a backup once, from end to end. What is wrong with its rows, a line each; [] where it is as it was made.

    :raises StorageError: or FormatError: it is no index, or none that this release reads.
    """
    if not path.is_file():
        raise StorageError(f"{path} is no file")
    reader = IndexReader.open(path)
    try:
        check_format(reader.get(keys.ROOT, [keys.FORMAT])[0], path)
        return list(faults_of_rows(reader.environment))
    except lmdb.Error as error:
        raise StorageError(f"{path} cannot be read: {error}") from error
    finally:
        reader.close()


def copy_backup(data: Path, backup: Path) -> Path:
    """A fresh directory in ``data`` that holds a backup as an index; nothing uses it yet, and the next call removes it.

    :raises OSError:
    """
    fresh = data / UNFINISHED
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(mode=0o700)
    shutil.copyfile(backup, fresh / "data.mdb")
    (fresh / "data.mdb").chmod(0o600)
    return fresh


def sync_index(fresh: Path) -> None:
    """Make what is in a fresh directory durable. :raises OSError:"""
    (fresh / "lock.mdb").unlink(missing_ok=True)
    sync_file(fresh / "data.mdb")
    sync_directory(fresh)


def swap_index(data: Path, fresh: Path) -> Path | None:
    """Make a synced directory the index of a locked data directory, durably. Where the old one is now, or None.

    Under the index's name there is the old one or the new one at every moment; whatever is killed here leaves both.
    Only where the file system cannot exchange names there is none for a moment: no server starts with that, and the
    next ``restore`` or ``rebuild-index`` goes on as if there had never been one.

    :raises OSError: the index is as it was, or there is none, as above.
    """
    index, replaced = data / "index", None
    if index.exists():
        # It gets the name that the old one is to have before that: no name of an index that counts is ever one that
        # the next run removes.
        waiting = replaced = _name_for_replaced(data)
        fresh.rename(waiting)
        if not exchange(waiting, index):
            replaced = _name_for_replaced(data)
            index.rename(replaced)
            waiting.rename(index)
    else:
        fresh.rename(index)
    sync_directory(data)
    return replaced


def _name_for_replaced(data: Path) -> Path:
    """One that is free; greater than those of earlier ones, unless the clock went back."""
    now = int(time.time())
    while (path := data / time.strftime(_REPLACED, time.gmtime(now))).exists():
        now += 1
    return path
