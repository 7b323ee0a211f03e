"""The short forms of the programs of ``reliability/`` about load and abuse, and that each can fail. What takes long
because it waits for time-outs runs side by side.
"""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from server import ServerProcess

from reliability import aborts, drain, sabotage, slow, transfers
from reliability.program import fresh_seed
from reliability.server import BUCKET, Forker, Server, serving
from reliability.wire import MIB, Wire

MakeServer = Callable[..., ServerProcess]
Measured = tuple[list[str], dict[str, Any]]

CONNECTIONS = int(os.environ.get("SLOW_CONNECTIONS", "300"))
REQUESTS = int(os.environ.get("ABORTED_REQUESTS", "6000"))
SEED = int(os.environ.get("LOAD_SEED", "0")) or fresh_seed()


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    with Forker() as forker:
        yield forker


# Slow clients

#: name -> what slow.run is told. How long things take is for the long form to judge.
ATTACKS: dict[str, dict[str, Any]] = {
    "head": {"kind": "head", "seconds": 40},
    "body": {"kind": "body", "seconds": 40},
    "read": {"kind": "read", "seconds": 34, "options": (sabotage.IMPATIENT,)},
    "one address": {"kind": "body", "seconds": 15, "options": ("--max-connections-per-address", "20")},
    "no time-outs": {"kind": "head", "seconds": 34, "shed": 28, "options": (sabotage.NO_TIME_OUTS,)},
}


@pytest.fixture(scope="module")
def attacks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Measured]:
    if why := slow.unavailable():
        pytest.skip(why)

    def attack(name: str) -> Measured:
        home = tmp_path_factory.mktemp("slow")
        told = {"connections": CONNECTIONS, "rate": 100, "workers": 1, "p99": math.inf, "shed": math.inf}
        with Forker() as forker:
            return slow.run(forker, home, **(told | ATTACKS[name]))

    with ThreadPoolExecutor(len(ATTACKS)) as pool:
        return dict(zip(ATTACKS, pool.map(attack, ATTACKS), strict=True))


@pytest.mark.parametrize(("kind", "reason"), [("head", "head"), ("body", "body"), ("read", "response")])
def test_slow_clients_are_shed_and_others_served(attacks: dict[str, Measured], kind: str, reason: str) -> None:
    faults, measured = attacks[kind]
    print(measured)
    assert faults == []
    assert measured["closed by reason"].keys() == {reason}
    assert measured["closed by reason"][reason] >= 0.9 * CONNECTIONS
    assert measured["others' GETs"] > 100


def test_one_address_gets_no_more_than_its_share(attacks: dict[str, Measured]) -> None:
    faults, measured = attacks["one address"]
    print(measured)
    assert [fault for fault in faults if "open still" not in fault] == []
    assert measured["closed by reason"]["address"] >= CONNECTIONS - 20 - CONNECTIONS // 10
    assert measured["others' GETs"] > 100


def test_a_server_without_time_outs_is_found_out(attacks: dict[str, Measured]) -> None:
    faults, measured = attacks["no time-outs"]
    assert any("had its connection for" in fault for fault in faults), measured


# Large transfers


def test_memory_is_bounded_by_connections(forker: Forker, tmp_path: Path) -> None:
    faults, measured = transfers.run(forker, tmp_path, uploads=8, downloads=8, size=48 * MIB, workers=2)
    print(measured)
    assert faults == []


def test_a_server_that_reads_more_than_it_can_write_is_found_out(forker: Forker, tmp_path: Path) -> None:
    faults, measured = transfers.run(
        forker, tmp_path, uploads=8, downloads=0, size=48 * MIB, workers=1, options=(sabotage.NO_BACK_PRESSURE,)
    )
    assert any("a worker took" in fault for fault in faults), measured


def test_uploads_that_break_off_fit_into_a_memory_cgroup(forker: Forker, tmp_path: Path) -> None:
    if why := transfers.unavailable():
        pytest.skip(why)
    faults, measured = transfers.run_in_cgroup(forker, tmp_path, uploads=16, size=48 * MIB, workers=2)
    print(measured)
    assert faults == []


# Clients that leave


def test_files_and_memory_stay_flat_when_clients_break_off(forker: Forker, tmp_path: Path) -> None:
    faults, measured = aborts.run(forker, tmp_path, requests=REQUESTS, workers=2, seed=SEED)
    print(measured)
    assert not faults, (f"LOAD_SEED={SEED}", faults, measured)
    assert measured["broken off"] > REQUESTS // 20  # type: ignore[operator]


def test_connections_that_stay_open_are_found_out(forker: Forker, tmp_path: Path) -> None:
    faults, _ = aborts.run(forker, tmp_path, requests=800, workers=1, seed=SEED, leak=True, patience=2)
    assert any("files are open" in fault for fault in faults)


# The end


def test_the_end_fails_nothing_in_flight(forker: Forker, tmp_path: Path) -> None:
    faults, measured = drain.run(forker, tmp_path, requests=40, workers=2, rounds=1)
    print(measured)
    assert faults == []
    assert set(measured["new ones"]) & {"refused", "told"}  # type: ignore[call-overload]


def test_an_end_that_cuts_is_found_out(forker: Forker, tmp_path: Path) -> None:
    faults, _ = drain.run(forker, tmp_path, requests=10, workers=1, rounds=1, options=(sabotage.NO_DRAIN,))
    assert any("load failed" in fault for fault in faults)


def test_a_restart_behind_a_socket_of_systemds_refuses_nobody(tmp_path: Path) -> None:
    faults, measured = drain.run_restarts(tmp_path, restarts=2, workers=2, seed=SEED, clients=8)
    print(measured)
    assert faults == []
    assert measured["answered"] > 50  # type: ignore[operator]


def test_a_restart_with_a_port_of_its_own_is_found_out(tmp_path: Path) -> None:
    faults, _ = drain.run_restarts(tmp_path, restarts=1, workers=1, seed=SEED, clients=4, inherits=False)
    assert any("ConnectionRefusedError" in fault for fault in faults)


# A disk that does not keep up


def test_a_full_disk_pool_is_503(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path / "server", sabotage.STUCK_DISK)
    body = b"x" * 100_000  # too long for the index
    with serving(server):
        server.start().make_bucket()
        assert server.ask("PUT", f"/s3/{BUCKET}/small", b"small")[0] == 200
        stuck = server.home / sabotage.STUCK
        stuck.touch()
        waiting: list[Wire] = []
        refused: dict[str, str] = {}
        while not refused:
            assert len(waiting) < 1500, "it takes more and more"
            wire = Wire(server.port, seconds=60)
            wire.begin("PUT", f"/s3/{BUCKET}/large-{len(waiting)}", len(body))
            wire.socket.sendall(body)
            wire.socket.settimeout(0.003)
            waiting.append(wire)
            try:
                status, refused, document = wire.answer()
            except TimeoutError:
                continue
        assert (status, refused["retry-after"]) == (503, "1")
        assert b"<Code>SlowDown</Code>" in document and b"busy" in document
        assert len(waiting) > 500
        # What needs no disk of its own goes on.
        assert server.ask("GET", f"/s3/{BUCKET}/small") == (200, b"small")
        assert server.ask("DELETE", f"/s3/{BUCKET}/small")[0] == 204
        stuck.unlink()
        for wire in waiting[:-1]:
            wire.socket.settimeout(60)
            assert wire.answer()[0] == 200
            wire.close()
        assert server.ask("PUT", f"/s3/{BUCKET}/large", body)[0] == 200
        server.stop()
    assert "Traceback" not in server.log()


# Open files


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_leave_files_for_their_requests(make_server: MakeServer, workers: int) -> None:
    server = make_server(workers=workers, start=False)
    server.command[:0] = ["prlimit", "--nofile=600:600"]
    server.start()
    assert "only 172 connections for each worker" in server.log()
    wires = [Wire(server.port) for _ in range(workers * 172 + 300)]
    with Wire(server.port) as wire:
        assert wire.ask("PUT", "/s3/bucket")[0] == 200
        assert wire.ask("PUT", "/s3/bucket/key", bytes(MIB))[0] == 200
        assert wire.ask("GET", "/s3/bucket/key") == (200, bytes(MIB))
    for wire in wires:
        wire.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_without_a_free_file_it_waits_and_does_not_spin(make_server: MakeServer, workers: int) -> None:
    server = make_server(workers=workers, expect_errors=True)
    serving = server.pids_of("aisobj.worker") if workers > 1 else [server.pid]
    Wire(server.port).ask("GET", "/-/health")
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in serving}
    for pid in serving:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + 3, before[pid][1]))
    wires = [Wire(server.port) for _ in range(60)]
    used = cpu_seconds(serving)
    time.sleep(3)
    assert cpu_seconds(serving) - used < 0.6 * workers  # of 3 * workers
    for pid in serving:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before[pid])
    for wire in wires:
        wire.close()
    with Wire(server.port) as wire:
        assert wire.ask("GET", "/-/health")[0] == 200


def cpu_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")
