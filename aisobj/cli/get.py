"""``ais get``: objects to files, folders and standard output."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

import click

from aisobj.cli.output import quoted, size_text
from aisobj.cli.report import Report
from aisobj.cli.session import for_each, run
from aisobj.cli.uri import Selection, Uri, select

if TYPE_CHECKING:
    from aisobj.client import Client, Entry, ObjectInfo

STDOUT = "-"


class Download(NamedTuple):
    """An object and where it goes; ``shown`` is how the destination is written in messages."""

    name: str
    path: Path
    shown: str


class UnsafeName(Exception):
    """The name of an object that would lead out of the destination, or cannot be a file's."""


def local_path(name: str) -> Path:
    """The relative path that an object gets. Raises UnsafeName."""
    parts = name.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise UnsafeName("the name of the object cannot be that of a file: get it alone, to a file that you name")
    return Path(*parts)


def get(source: Uri, destination: str | None, *, prefix: str, quiet: bool, bar: bool) -> None:
    """The command."""
    many = bool(prefix) or source.is_many
    if destination == STDOUT:
        if prefix or not source.name:
            raise click.UsageError("only one object can go to standard output")
        many, quiet, bar = False, True, bar and not sys.stdout.isatty()

    async def operation(client: Client) -> Report:
        report = Report(client.reactor, f"GET from {Uri(source.bucket, '')}", quiet=quiet, bar=bar)
        receiver = _Receiver(client, source.bucket, report)
        try:
            if many:
                selection = select(source.name + prefix)
                await receiver.receive_all(selection, Path(destination or "."), source)
            elif destination == STDOUT:
                await receiver.receive_to(sys.stdout.buffer, source.name)
                sys.stdout.buffer.flush()
            else:
                await receiver.receive(_single(source.name, destination))
        finally:
            report.close()
        return report

    run(operation).check()


def _single(name: str, destination: str | None) -> Download:
    """One object: into a folder, or to a file of any name."""
    path = Path(destination or ".")
    if path.is_dir() or (destination or "").endswith("/"):
        last = name.rpartition("/")[2]
        try:
            path = path / local_path(last)
        except UnsafeName as error:
            raise click.ClickException(f"{quoted(name)}: {error}") from None
    return Download(name, path, path.as_posix() if destination else path.name)


class _Receiver:
    def __init__(self, client: Client, bucket: str, report: Report) -> None:
        self._client = client
        self._bucket = bucket
        self._report = report
        self._umask = os.umask(0)
        os.umask(self._umask)

    async def receive_all(self, selection: Selection, folder: Path, source: Uri) -> None:
        """Every selected object, as a tree below ``folder``."""
        found = 0

        async def entries() -> AsyncIterator[Entry]:
            nonlocal found
            async for page in self._client.pages(self._bucket, prefix=selection.prefix):
                for entry in page:
                    if selection.matches(entry.name):
                        found += 1
                        self._report.expect(entry.size)
                        yield entry

        async def work(entry: Entry) -> None:
            try:
                relative = entry.name[selection.base :]
                if relative.endswith("/") and not entry.size:  # a marker, as S3's browsers make them for folders
                    (folder / local_path(relative.rstrip("/"))).mkdir(parents=True, exist_ok=True)
                    return
                if not relative:
                    return
                path = folder / local_path(relative)
                path.parent.mkdir(parents=True, exist_ok=True)
            except (UnsafeName, OSError) as error:
                self._report.fail(f"{Uri(self._bucket, entry.name)}: {_text(error)}")
                return
            await self.receive(Download(entry.name, path, path.as_posix()), expected=True)

        await for_each(entries(), work)
        if not found and source.name:
            raise click.ClickException(f"no objects match {source}")

    async def receive(self, download: Download, expected: bool = False) -> None:
        """One object to a file, which appears when all of it is there."""
        from aisobj.client import ClientError  # noqa: PLC0415  with treq, which is slow to import

        name, path, shown = download
        try:
            if _is_special(path):
                with path.open("wb") as file:
                    info = await self.receive_to(file, name, expected)
            else:
                info = await self._replace(name, path, expected)
        except (ClientError, OSError) as error:
            self._report.fail(_text(error))
            return
        size = size_text(info.size)
        self._report.done(f"GET {quoted(name)} from {Uri(self._bucket, '')} as {quoted(shown)} [{size}]")

    async def receive_to(self, file: IO[bytes], name: str, expected: bool = False) -> ObjectInfo:
        def begin(info: ObjectInfo) -> None:
            if not expected:
                self._report.expect(info.size)

        def write(data: bytes) -> None:
            file.write(data)
            self._report.moved(len(data))

        return await self._client.get_object(self._bucket, name, write, begin)

    async def _replace(self, name: str, path: Path, expected: bool) -> ObjectInfo:
        target = path.resolve() if path.is_symlink() else path
        try:
            descriptor, temporary = tempfile.mkstemp(prefix=".ais-", suffix=".part", dir=target.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from None
        try:
            with os.fdopen(descriptor, "wb") as file:
                info = await self.receive_to(file, name, expected)
            Path(temporary).chmod(0o666 & ~self._umask)
            os.replace(temporary, target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
        return info


def _is_special(path: Path) -> bool:
    """A device or pipe: written to, never replaced."""
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def _text(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"{error.filename2 or error.filename}: {error.strerror}" if error.filename else str(error)
    return str(error)
