"""slowhttptest against a server: thousands of clients that send their heads or bodies, or read their answers, a few
bytes now and then. Meanwhile others get what they ask for, and the slow ones are shed.

They come from 127.0.0.1, the others from 127.0.0.2.
"""

from __future__ import annotations

import csv
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from reliability.others import Others
from reliability.program import Program
from reliability.server import BUCKET, Forker, Server, check_log, serving
from reliability.wire import MIB, Peak, allow_many_files

P99 = 0.020  #: seconds, of the others' GETs
#: Within so many seconds all are shed; the server looks at its time-outs each second, and slowhttptest too.
SHED = {"head": 30, "body": 30, "read": 60}
_SLACK = 3
#: States of TCP in /proc/net/tcp: ESTABLISHED, FIN_WAIT1, CLOSE_WAIT, LAST_ACK. The others hold no data.
_OPEN = frozenset(("01", "04", "08", "09"))

_OBJECT = f"/s3/{BUCKET}/object"
_LARGE = f"/s3/{BUCKET}/large"
#: What slowhttptest is told for each kind. Nobody is told to come in less than 10 s.
_KINDS = {
    "head": ["-H", "-i", "10", "-t", "GET"],
    "body": ["-B", "-i", "10", "-t", "PUT", "-s", "1000000", "-x", "24"],
    "read": ["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"],
}


def attack(kind: str, server: Server, connections: int, rate: int, seconds: int) -> list[tuple[int, int, int]]:
    """Run slowhttptest; for each second: when, how many it had opened, how many of these were closed."""
    prefix = server.home / f"slow-{kind}"
    target = _LARGE if kind == "read" else _OBJECT
    command = ["slowhttptest", *_KINDS[kind], "-c", str(connections), "-r", str(rate), "-l", str(seconds), "-p", "5"]
    command += ["-u", f"http://127.0.0.1:{server.port}{target}", "-g", "-o", str(prefix)]
    # Which are closed the server tells: slowhttptest reads what it has received, at its own pace, before it notices.
    open_each_second: dict[int, int] = {}
    allow_many_files()
    began = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            open_each_second[round(time.monotonic() - began)] = open_sockets(server, "127.0.0.1")
            if time.monotonic() - began > seconds + 60:
                process.kill()
            time.sleep(1)
    with Path(f"{prefix}.csv").open() as file:
        opened = {int(row["Seconds"]): int(row["Closed"]) + int(row["Connected"]) for row in csv.DictReader(file)}
    seen, last = [], 0
    for second, still in open_each_second.items():
        last = opened.get(second, last)
        seen.append((second, last, max(0, last - still)))
    return seen


def longest(seen: list[tuple[int, int, int]]) -> int:
    """At most how many seconds a connection was open, if those that came first went first."""
    worst = 0
    for second, opened, _ in seen:
        gone = next((later for later, _, closed in seen if closed >= opened), None)
        if gone is None:  # some were there until the end
            return seen[-1][0] - second
        worst = max(worst, gone - second)
        if opened == seen[-1][1]:
            break
    return worst


def run(
    forker: Forker,
    home: Path,
    *,
    kind: str,
    connections: int,
    workers: int,
    rate: int,
    options: tuple[str, ...] = (),
    seconds: int | None = None,
    p99: float = P99,
    shed: float | None = None,
) -> tuple[list[str], dict[str, object]]:
    """The broken promises, and what was measured.

    :param options: of the server. :param seconds: how long the attack goes on; default: until all must be shed.
    :param p99: in which the others must get theirs. :param shed: in which the slow ones must be; seconds.
    """
    server = Server(forker, home / f"server-{kind}", *options, workers=workers)
    limit = SHED[kind] + _SLACK if shed is None else shed
    seconds = seconds or connections // rate + SHED[kind] + 15
    with serving(server):
        server.start().make_bucket()
        server.ask("PUT", _OBJECT, os.urandom(4096))
        server.ask("PUT", _LARGE, os.urandom(4 * MIB))
        with Others(server.port, _OBJECT) as quiet:
            time.sleep(3)
        peak = Peak(server.serving_pids)
        with peak.watched(), Others(server.port, _OBJECT) as others:
            seen = attack(kind, server, connections, rate, seconds)
        left = open_sockets(server, "127.0.0.1")
        reasons = {name: int(value) for name, value in closed(server).items()}
        server.stop()
    opened, held = seen[-1][1], longest(seen)
    most = max(now - gone for _, now, gone in seen)
    faults = others.faults[:5]
    if opened < 0.9 * connections:
        faults.append(f"slowhttptest opened {opened} connections of {connections}")
    if held > limit:
        faults.append(f"a slow {kind} had its connection for {held} s")
    if left > 0:
        faults.append(f"{left} connections are open still in the server")
    if others.percentile(0.99) > p99:
        faults.append(f"p99 of the others' GETs: {1000 * others.percentile(0.99):.1f} ms")
    faults += check_log(server.log())
    return faults, {
        "kind": kind,
        "workers": workers,
        "connections": opened,
        "open at once": most,
        "longest, s": held,
        "closed by reason": reasons,
        "others' GETs": len(others.seconds),
        "p50, ms": round(1000 * others.percentile(0.5), 2),
        "p99, ms": round(1000 * others.percentile(0.99), 2),
        "p99 before, ms": round(1000 * quiet.percentile(0.99), 2),
        "MB in a worker": round(peak.bytes / 1e6),
    }


def closed(server: Server) -> dict[str, float]:
    """``ais_s3_closed_connections_total`` by its reason."""
    time.sleep(1.5)  # the workers tell each other each second
    _, text = server.ask("GET", "/metrics")
    found = {}
    for line in text.decode().splitlines():
        if line.startswith("ais_s3_closed_connections_total{"):
            name, _, value = line.rpartition(" ")
            found[name.partition('"')[2].partition('"')[0]] = float(value)
    return found


def open_sockets(server: Server, client: str) -> int:
    """The server's ends of connections from an address, as the kernel has them: those that it still sends on, too."""
    ours = f":{server.port:04X}"
    theirs = socket.inet_aton(client)[::-1].hex().upper() + ":"
    ends = (line.split()[1:4] for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(local.endswith(ours) and remote.startswith(theirs) and state in _OPEN for local, remote, state in ends)


def unavailable() -> str:
    """Why it cannot be run here, or ""."""
    return "" if shutil.which("slowhttptest") else "there is no slowhttptest"


def main() -> None:
    program = Program("reliability.slow", __doc__)
    program.add_argument("--kind", choices=[*_KINDS, "all"], default="all")
    program.add_argument("--connections", type=int, default=5000)
    program.add_argument("--rate", type=int, default=500, help="new connections per second")
    program.add_argument("--workers", type=int, default=2)
    program.add_argument("--per-address", type=int, default=100, help="the limit of the attack with such a limit")
    with program.running() as (options, home), Forker() as forker:
        told = {"connections": options.connections, "rate": options.rate, "workers": options.workers}
        for kind in _KINDS if options.kind == "all" else [options.kind]:
            program.report(run(forker, home / kind, kind=kind, **told), kind)
        limit = ("--max-connections-per-address", str(options.per_address))
        kind = "body" if options.kind == "all" else options.kind
        program.report(run(forker, home / "limited", kind=kind, options=limit, **told), "limit per address")


if __name__ == "__main__":
    main()
