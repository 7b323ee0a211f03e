"""What a workload is, what its targets are, and the bench that it runs on."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from benchmarks.disk import hash_ms
from benchmarks.install import Missing
from benchmarks.load import Sample
from benchmarks.peers import Moto, Nginx, S3rver, SeaweedFS
from benchmarks.servers import Ais, Control, Disk, Server, has_option

OURS, CONTROL, SEAWEED, NGINX, DISK = Ais.name, Control.name, SeaweedFS.name, Nginx.name, Disk.name
PEERS = (SEAWEED, NGINX, Moto.name, S3rver.name)
#: what a request of the control costs on the machine that the targets were written for, ms of CPU
CONTROL_MS = 0.17
MIB = 1 << 20
#: free space of the disk that no workload touches: others use it too
_RESERVE = 12 << 30

#: who took part in one round -> what was measured
Round = Mapping[str, Sample]
#: of one round; KeyError where somebody who is needed did not take part
Figure = Callable[[Round], float]


class Target(NamedTuple):
    """One claim of a row of the table. It is met where the median of all rounds is within the bound."""

    text: str
    figure: Figure
    bound: float
    at_most: bool = True

    def met(self, value: float) -> bool:
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True)
class Workload:
    """A row of the table, or a part of one.

    :ivar runs: who takes part -> (the server's name, what it does there). The names are often the same.
    :ivar prepare: called once for each server, before the first round.
    :ivar latency: the table shows p50 and p99 as well.
    """

    name: str
    title: str
    runs: Mapping[str, tuple[str, Callable[[Bench, Server], Sample]]]
    targets: Sequence[Target] = ()
    prepare: Callable[[Bench, Server], object] = lambda bench, server: None
    latency: bool = False
    rounds: int | None = None  #: at most so many, where one takes long
    disk: int = 0  #: bytes that it writes at most, of which nothing is left afterwards: the servers begin anew


def same(
    run: Callable[[Bench, Server], Sample], *servers: str
) -> dict[str, tuple[str, Callable[[Bench, Server], Sample]]]:
    """``Workload.runs`` where all do the same."""
    return {name: (name, run) for name in servers}


@dataclass
class Bench:
    """Where the workloads run: the servers, started when they are first asked for, all on one file system.

    :ivar round: the number of the one that runs, from 0.
    :ivar skipped: server -> why it does not take part.
    """

    folder: Path
    seconds: float
    quick: bool = False
    peers: Sequence[str] = PEERS
    round: int = 0
    skipped: dict[str, str] = field(default_factory=dict)
    _servers: dict[str, Server] = field(default_factory=dict)
    _prepared: set[tuple[str, str]] = field(default_factory=set)
    _hashes: dict[int, dict[str, float]] = field(default_factory=dict)

    def server(self, name: str) -> Server:
        """Raises Missing: see ``skipped``."""
        if name in self.skipped:
            raise Missing(self.skipped[name])
        if name not in self._servers:
            if name in PEERS and name not in self.peers:
                self.skipped[name] = "not asked for"
                raise Missing(self.skipped[name])
            server: Server | None = None
            try:
                server = self._make(name)
                server.start()
                server.create_bucket()
            except Exception as error:  # whatever ails a peer, the others go on
                if server is not None:
                    server.stop()
                if name == OURS:
                    raise
                self.skipped[name] = str(error) or type(error).__name__
                raise Missing(self.skipped[name]) from error
            self._servers[name] = server
        return self._servers[name]

    def _make(self, name: str) -> Server:
        home = self.folder / "".join(each if each.isalnum() else "_" for each in name)
        if name == NGINX:
            return Nginx(home, self.certificate())
        if name == OURS:
            return Ais(home, certificate=self.certificate())
        if name.startswith(f"{OURS} --"):
            option, *_ = options = name.split()[1:]
            if not has_option(option.removeprefix("--")):
                raise Missing(f"this release has no {option}")
            return Ais(home, options=options)
        for kind in (Control, Disk, SeaweedFS, Moto, S3rver):
            if name == kind.name:
                return kind(home)
        raise Missing("it could not be prepared")

    def add(self, name: str, server: Server) -> None:
        """A server that a workload has started; the bench stops it."""
        self._servers[name] = server

    def has(self, name: str) -> bool:
        return name in self._servers

    def once(self, key: str, server: Server, work: Callable[[Bench, Server], object]) -> None:
        """Do ``work`` on the server if it has not been done under this key."""
        if (key, str(server.home)) not in self._prepared:
            work(self, server)
            self._prepared.add((key, str(server.home)))

    def drop(self, name: str) -> None:
        """Stop a server."""
        server = self._servers.pop(name, None)
        if server is not None:
            server.stop()

    def check_room(self, size: int) -> None:
        """Raises Missing where the disk has less than so many bytes, and the reserve that is left to others."""
        free = shutil.disk_usage(self.folder).free
        if free < size + _RESERVE:
            raise Missing(f"it writes up to {size >> 30} GiB, and {free >> 30} GiB are free: too few")

    def wipe(self) -> None:
        """Stop all servers and remove what they hold: they begin anew."""
        for name in list(self._servers):
            home = self._servers[name].home
            self.drop(name)
            shutil.rmtree(home, ignore_errors=True)
        self._prepared.clear()

    def close(self) -> None:
        for name in list(self._servers):
            with contextlib.suppress(Exception):
                self.drop(name)

    def certificate(self) -> tuple[Path, Path]:
        """A key and a certificate signed with it."""
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        if not certificate.exists():
            command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
            command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        return key, certificate

    def hashes(self, size: int) -> dict[str, float]:
        """Milliseconds of CPU that each hash of so many bytes takes."""
        if size not in self._hashes:
            self._hashes[size] = hash_ms(size)
        return self._hashes[size]


# What targets are made of ---------------------------------------------------------------------------------------------


def cpu(milliseconds: float, who: str = OURS) -> Target:
    """CPU per operation, scaled by what the control costs in the same round."""

    def figure(of: Round) -> float:
        return of[who].cpu_ms * CONTROL_MS / of[CONTROL].cpu_ms

    return Target(
        f"CPU ≤ {milliseconds:g} ms per operation, where the control takes {CONTROL_MS} ms", figure, milliseconds
    )


def rate(factor: float, peer: str, who: str = OURS) -> Target:
    return Target(f"≥ {factor:g} × {peer}'s rate", lambda of: of[who].rate / of[peer].rate, factor, at_most=False)


def cpu_of(factor: float, peer: str, who: str = OURS) -> Target:
    return Target(f"CPU ≤ {factor:g} × {peer}'s", lambda of: of[who].cpu_ms / of[peer].cpu_ms, factor)


def best_peer(factor: float) -> Target:
    def figure(of: Round) -> float:
        peers = [sample.rate for name, sample in of.items() if name in PEERS]
        if not peers:
            raise KeyError("no peer took part")
        return of[OURS].rate / max(peers)

    return Target(f"≥ {factor:g} × the best peer's rate", figure, factor, at_most=False)


def same_cost(factor: float, who: str, base: str) -> Target:
    text = f"CPU of {who} ≤ {factor:g} × that of {base}"
    return Target(text, lambda of: of[who].cpu_ms / of[base].cpu_ms, factor)
