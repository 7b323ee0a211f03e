"""``ais-s3``: check, verify, back up and rebuild a data directory.

Exit status: 0 nothing is wrong; 1 something is; 2 it could not be done (and a line on stderr says why); 130 and 143 it
was ended by SIGINT (Ctrl-C) or SIGTERM.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, ParamSpec

import click
import lmdb
import msgspec

import aisobj
from aisobj.errors import CorruptData, StorageError
from aisobj.storage import keys
from aisobj.storage.blob_audit import BlobFiles
from aisobj.storage.embedded import DataDirectory, lock_data_directory
from aisobj.storage.formats import check_format
from aisobj.storage.index_backup import (
    DIRECTORY,
    back_up,
    backups,
    check_backup,
    copy_backup,
    next_backup,
)
from aisobj.storage.index_log import DATA_NAME
from aisobj.storage.index_reader import IndexReader
from aisobj.storage.index_recovery import needs_recovery, recover
from aisobj.storage.lmdb_env import open_environment
from aisobj.storage.orphans import give_back
from aisobj.storage.scrub import Progress, Scrub, read_progress, remove_progress
from aisobj.tools.ending import Ended, end_by_exception, undisturbed
from aisobj.tools.fsck import Fsck
from aisobj.tools.rebuild import rebuild
from aisobj.tools.restored import count_lost, finish, put_in_place, unowned_blobs

FOUND, FAILED = 1, 2
_MIB = 1 << 20
#: Seconds of work that a scrub may lose, of rows and small blobs.
_SAVE = 1.0
#: Of what is wrong with a backup, so much stands in the line that refuses it.
_NAMED = 3

P = ParamSpec("P")


def _refuse(message: str) -> NoReturn:
    click.echo(f"ais-s3: {message}", err=True)
    sys.exit(FAILED)


def _guarded(command: Callable[P, None]) -> Callable[P, None]:
    """What cannot be done is one line and exit status 2; what is ended by a signal, one line and 128 + its number."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            end_by_exception()
            command(*args, **kwargs)
        except Ended as ended:
            click.echo(f"ais-s3: {ended}", err=True)
            sys.exit(ended.status)
        except (StorageError, lmdb.Error, OSError) as error:
            _refuse(str(error))

    return run


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--data", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), metavar="DIR")
@click.version_option(aisobj.__version__, prog_name="ais-s3")
@click.pass_context
def main(context: click.Context, data: Path) -> None:
    """Check, verify, back up and rebuild the data directory DIR of an ais-s3 server."""
    context.obj = data.absolute()


@contextlib.contextmanager
def _reader(data: Path) -> Iterator[IndexReader]:
    """The index, of a format that this release reads."""
    if not (data / "index" / DATA_NAME).exists():
        raise StorageError(f"{data / 'index'} holds no index; restore or rebuild-index makes one of a backup")
    if needs_recovery(data / "index"):
        _is_served(data)
    reader = IndexReader.open(data / "index")
    try:
        row = reader.get(keys.ROOT, [keys.FORMAT])[0]
        if row is not None:
            with contextlib.suppress(CorruptData):  # that is for fsck and scrub to say
                check_format(row, data)
        yield reader
    finally:
        reader.close()


@contextlib.contextmanager
def _locked(data: Path) -> Iterator[DataDirectory]:
    """The directory, for us alone. Raises StorageError: a server uses it."""
    directory = lock_data_directory(data)
    try:
        yield directory
    finally:
        directory.release()


@contextlib.contextmanager
def _whole(data: Path) -> Iterator[None]:
    """As :func:`_locked`; what a server that was killed left of the index is made whole, as its next start would."""
    with _locked(data):
        recover(data / "index")
        yield


def _is_served(data: Path) -> bool:
    """Whether a server holds the lock; where none does, the index is made whole."""
    try:
        directory = lock_data_directory(data)
    except StorageError:
        return True
    try:
        recover(data / "index")
    finally:
        directory.release()
    return False


def _print(as_json: bool, document: dict[str, Any], lines: list[str]) -> None:
    if as_json:
        click.echo(json.dumps(document))
    else:
        for line in lines:
            click.echo(line)


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


@main.command()
@click.option("--deep", is_flag=True, help="Also read every byte and compare it with the checksums of objects.")
@click.option("--crashed", is_flag=True, help="What the next start of a server removes is no fault.")
@_json
@click.pass_obj
@_guarded
def fsck(data: Path, deep: bool, crashed: bool, as_json: bool) -> None:
    """Compare the index with the files, both ways. A server may run. Changes nothing, but that what a server that
    was killed has left of the index is made whole."""
    online = _is_served(data)
    with _reader(data) as reader:
        report = Fsck(reader, BlobFiles(data / "blobs"), online=online, deep=deep).run()
    wrong = report.faults + ([] if crashed or online else report.left_by_crash)
    document = {"sound": not wrong, "online": online, "deep": deep, **asdict(report)}
    seen = f"{report.buckets} buckets, {report.objects} objects, {report.bytes} bytes, {report.blobs} blobs"
    _print(as_json, document, [*wrong, f"{'faults: ' + str(len(wrong)) if wrong else 'sound'}; {seen}"])
    sys.exit(FOUND if wrong else 0)


@main.command()
@click.option("--rate", type=click.FloatRange(min=0), default=0.0, help="MiB/s to read at most; 0: as fast as it goes.")
@click.option("--state", type=click.Path(path_type=Path), help="File to go on from, and to leave off in.")
@click.option("--quarantine", is_flag=True, help="Move corrupt blobs away, note corrupt rows. No server may run.")
@_json
@click.pass_obj
@_guarded
def scrub(data: Path, rate: float, state: Path | None, quarantine: bool, as_json: bool) -> None:
    """Verify every block of every blob and every row of the index."""
    progress = Progress() if state is None else read_progress(state)
    if progress.finished or not progress.started:
        progress = Progress(started=time.time())
    with _whole(data) if quarantine else contextlib.nullcontext(), _reader(data) as reader:
        began, cpu, before = time.monotonic(), time.process_time(), progress.bytes
        _drive(Scrub(reader, BlobFiles(data / "blobs"), progress, quarantine=quarantine), rate * _MIB, state)
    progress.finished = time.time()
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    if state is not None:
        remove_progress(state)
    speed = (progress.bytes - before) / _MIB / max(seconds, 1e-9)
    document = {"sound": not progress.corrupt, "seconds": seconds, "cpu_seconds": used, "mib_per_second": speed}
    seen = f"{progress.rows} rows, {progress.blobs} blobs, {progress.bytes} bytes; {speed:.0f} MiB/s"
    what = f"corrupt: {len(progress.corrupt)}" if progress.corrupt else "sound"
    _print(as_json, document | msgspec.to_builtins(progress), [*progress.corrupt, f"{what}; {seen}"])
    sys.exit(FOUND if progress.corrupt else 0)


def _drive(work: Scrub, rate: float, state: Path | None) -> None:
    """Do it at a rate (bytes/s, 0: any). Leaves the state behind however it ends."""
    steps, done, began = work.steps(), 0, time.monotonic()
    saved = -math.inf  # so at once: a file that cannot be written is no surprise at the end
    try:
        while True:
            now = time.monotonic()
            if state is not None and now - saved > _SAVE:
                work.progress.save(state)
                saved = now
            with undisturbed():  # else it might say that less was done than was, or more
                size = next(steps, None)
            if size is None:
                return
            done += size
            if rate and done / rate > now - began:
                time.sleep(done / rate - (now - began))
    finally:
        if state is not None:
            work.progress.save(state)


@main.command()
@click.argument("target", required=False, type=click.Path(path_type=Path, dir_okay=False))
@_json
@click.pass_obj
@_guarded
def backup(data: Path, target: Path | None, as_json: bool) -> None:
    """Copy the index to TARGET (default: a new file in DIR/backups) while a server uses it, or none does."""
    target = target or next_backup(data / DIRECTORY, time.time())
    with _reader(data) as reader:
        back_up(reader.environment, target.absolute())
    size = target.stat().st_size
    _print(as_json, {"backup": str(target), "bytes": size}, [f"{target}: {size} bytes"])


@main.command()
@click.argument("source", required=False, type=click.Path(path_type=Path))
@click.option("--force", is_flag=True, help="Replace the index that is there; it is kept as index.replaced-TIME.")
@click.option("--damaged", is_flag=True, help="Take it although some of its rows are not what was written.")
@_json
@click.pass_obj
@_guarded
def restore(data: Path, source: Path | None, force: bool, damaged: bool, as_json: bool) -> None:
    """Make the backup SOURCE (default: the newest of DIR/backups) the index. No server may run.

    Every row of it is verified first. Blobs that it does not know, orphans too, are moved to the quarantine:
    rebuild-index is what adds them.
    """
    with _locked(data):
        source = _chosen(data, source)
        _refuse_to_overwrite(data, force)
        unsound = check_backup(source)
        if not damaged:
            _refuse_unsound(source, unsound, "--damaged restores it all the same")
        fresh = copy_backup(data, source)
        files = BlobFiles(data / "blobs")
        give_back(files.root)
        with contextlib.closing(open_environment(fresh, sync=False)) as environment:
            reader = IndexReader(environment)
            unowned = dict.fromkeys(unowned_blobs(reader, files), f"not known to {source}")
            lost = count_lost(reader, files)
            finish(environment, files)
        replaced = put_in_place(data, fresh, files, unowned)
    document = {
        "restored": str(source),
        "replaced": replaced,
        "unowned": len(unowned),
        "lost": lost,
        "unsound": unsound,
    }
    lines = [*unsound, f"restored {source}" + (f"; the old index is {replaced}" if replaced else "")]
    if unowned or lost:
        lines.append(f"{len(unowned)} blobs it does not know are in quarantine; {lost} that it knows are gone")
    _print(as_json, document, lines)
    sys.exit(FOUND if unowned or lost or unsound else 0)


@main.command("rebuild-index")
@click.option("--from", "source", type=click.Path(path_type=Path), help="Backup. [default: the newest of DIR/backups]")
@click.option("--force", is_flag=True, help="Replace the index that is there; it is kept as index.replaced-TIME.")
@_json
@click.pass_obj
@_guarded
def rebuild_index(data: Path, source: Path | None, force: bool, as_json: bool) -> None:
    """Rebuild the index from a backup and what the footers of newer blobs prove. No server may run."""
    with _locked(data):
        source = _chosen(data, source)
        _refuse_to_overwrite(data, force)
        _refuse_unsound(source, check_backup(source), "restore --damaged takes it, and adds nothing")
        report = rebuild(data, source)
    _print(as_json, report.as_dict(), report.lines())
    sys.exit(FOUND if report.dropped or report.unrecoverable else 0)


def _chosen(data: Path, source: Path | None) -> Path:
    if source is not None:
        return source
    found = backups(data / DIRECTORY)
    if not found:
        raise StorageError(f"there is no backup of the index in {data / DIRECTORY}; name one")
    return found[-1]


def _refuse_unsound(source: Path, unsound: list[str], else_: str) -> None:
    """:param unsound: what is wrong with its rows. :param else_: what can be done all the same."""
    if unsound:
        first = "; ".join(unsound[:_NAMED]) + ("; …" if len(unsound) > _NAMED else "")
        raise StorageError(f"{source} is damaged, faults: {len(unsound)} ({first}); take another backup, or {else_}")


def _refuse_to_overwrite(data: Path, force: bool) -> None:
    if not force and os.path.exists(data / "index" / "data.mdb"):
        raise StorageError(f"{data / 'index'} is there; --force replaces it (and keeps it under another name)")
