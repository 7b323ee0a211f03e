"""What a transfer of many files says while it runs and when it ends: lines, a bar, and how many failed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from twisted.internet.interfaces import IDelayedCall, IReactorTime

if TYPE_CHECKING:
    from rich.progress import Progress

#: A bar appears for what takes longer than this, in seconds.
_PATIENCE = 1.0
_REFRESH = 0.2


class Report:
    """Collects what happened to each file. ``close`` it at the end.

    :param bar: whether a progress bar may be shown; it is only where stderr is a terminal.
    """

    def __init__(self, reactor: IReactorTime, what: str, *, quiet: bool, bar: bool) -> None:
        self._reactor = reactor
        self._what = what
        self._quiet = quiet
        self._call: IDelayedCall | None = None
        self._progress: Progress | None = None
        self._task: Any = None
        self._total = 0
        self._moved = 0
        self.succeeded = 0
        self.failed = 0
        if bar and sys.stderr.isatty():
            self._call = reactor.callLater(_PATIENCE, self._show)

    def expect(self, size: int) -> None:
        """So many more bytes are to be moved."""
        self._total += size

    def moved(self, count: int) -> None:
        """So many bytes were."""
        self._moved += count

    def done(self, line: str) -> None:
        """One file is finished."""
        self.succeeded += 1
        if not self._quiet:
            self._print(line, err=False)

    def fail(self, line: str) -> None:
        """One file is not; the others go on."""
        self.failed += 1
        self._print(f"Error: {line}", err=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._call is not None:
            self._call.cancel()
            self._call = None
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def check(self) -> None:
        """Raises click.exceptions.Exit where something failed: each failure has had its line."""
        if self.failed:
            if self.failed + self.succeeded > 1:
                click.echo(f"{self.failed} of {self.failed + self.succeeded} failed", err=True)
            raise click.exceptions.Exit(1)

    def _print(self, line: str, err: bool) -> None:
        if self._progress is not None and (err or sys.stdout.isatty()):
            # Above the bar, which is on the same terminal.
            self._progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            click.echo(line, err=err)

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415  few commands get here
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn  # noqa: PLC0415

        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._progress.add_task(self._what, total=None)
        self._progress.start()
        self._refresh()

    def _refresh(self) -> None:
        assert self._progress is not None
        self._progress.update(self._task, completed=self._moved, total=max(self._total, self._moved) or None)
        self._progress.refresh()
        self._call = self._reactor.callLater(_REFRESH, self._refresh)
