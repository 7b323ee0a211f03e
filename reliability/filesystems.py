"""File systems in a file, mounted through a loop device: they can lose their power, or be full. For root only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
import tempfile
import time
from functools import cache
from pathlib import Path

_GIVE_UP_SECONDS = 30.0
#: XFS_IOC_GOINGDOWN, which ext4 has too; and its flag that says: without writing the log first (linux/xfs_fs.h).
_GOING_DOWN = 0x8004587D
_NO_LOG_FLUSH = 2

#: kind -> how it is made, and how it is looked at without changing it
KINDS = {
    "ext4": (["mkfs.ext4", "-q", "-F"], ["e2fsck", "-f", "-n"]),
    "xfs": (["mkfs.xfs", "-q", "-f"], ["xfs_repair", "-n"]),
}


class FileSystemError(Exception):
    """A command for a file system fails; with what it says."""


class LoopFileSystem:
    """A file system of its own. ``make`` it, and ``close`` it at the end, or use it as a context.

    :param home: where its image is, and the directory that it is mounted on.
    :param size: bytes; the image is sparse. :param image: one that is there and stays, of this size.
    :ivar path: its root, while it is mounted.
    """

    def __init__(self, home: Path, kind: str, size: int, image: Path | None = None) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.kind = kind
        self.path = home / "mounted"
        self._image = image or home / "image"
        self._ours = image is None
        self._size = size
        self.path.mkdir(exist_ok=True)

    def make(self) -> None:
        """An empty one, mounted."""
        self.close()
        if self._ours:
            with self._image.open("wb") as image:
                image.truncate(self._size)
        _run(*KINDS[self.kind][0], str(self._image))
        self.mount()

    def mount(self) -> None:
        _run("mount", "-t", self.kind, "-o", "loop", str(self._image), str(self.path))

    def unmount(self) -> None:
        """Waits for whoever still has it open. :raises FileSystemError:"""
        deadline = time.monotonic() + _GIVE_UP_SECONDS
        while True:
            try:
                return _run("umount", str(self.path))
            except FileSystemError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def cut_power(self) -> None:
        """From now on nothing reaches the device, not even what the journal has in memory."""
        descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(descriptor, _GOING_DOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(descriptor)

    def recover(self) -> list[str]:
        """Mount it again after a power cut; what its own checker finds wrong after that."""
        self.unmount()
        self.mount()  # replays the journal
        self.unmount()
        try:
            _run(*KINDS[self.kind][1], str(self._image))
        except FileSystemError as error:
            return str(error).splitlines()
        finally:
            self.mount()
        return []

    def close(self) -> None:
        """Unmount and remove it, in whatever state it is. The loop device goes with the last who has it open."""
        if os.path.ismount(self.path):
            try:
                self.unmount()
            except FileSystemError:
                _run("umount", "--lazy", str(self.path))
        if self._ours:
            self._image.unlink(missing_ok=True)

    def __enter__(self) -> LoopFileSystem:
        try:
            self.make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@cache
def missing(kind: str) -> str:
    """Why there can be none of a kind here, or ""."""
    if os.geteuid():
        return "only root may mount"
    for command, *_ in KINDS[kind]:
        if shutil.which(command) is None:
            return f"{command} is not installed"
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        try:
            stack.enter_context(LoopFileSystem(Path(home), kind, 512 << 20))
        except FileSystemError as error:
            return str(error)
    return ""


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise FileSystemError(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
