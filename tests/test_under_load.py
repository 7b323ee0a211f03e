"""The short forms of the programs of ``reliability/`` about load and abuse, and that each can fail. What takes long
because it waits for time-outs runs side by side.
"""

from __future__ import annotations

import contextlib
import errno
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
from reliability.wire import MIB, Wire, allow_many_files

MakeServer = Callable[..., ServerProcess]
Measured = tuple[list[str], dict[str, Any]]
Refusal = tuple[int, dict[str, str], bytes]

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


def test_a_server_that_holds_whole_bodies_is_killed_in_its_cgroup(forker: Forker, tmp_path: Path) -> None:
    if why := transfers.unavailable():
        pytest.skip(why)
    faults, measured = transfers.run_in_cgroup(
        forker, tmp_path, uploads=16, size=48 * MIB, workers=2, options=(sabotage.NO_BACK_PRESSURE,)
    )
    assert "a process of the server was killed" in faults, measured


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


def fill_disk_pool(server: Server, body: bytes, most: int = 800) -> tuple[list[Wire], Refusal | None]:
    """Uploads that wait for a disk that does not sync; and how the first one was refused that has an answer."""
    waiting: list[Wire] = []
    while len(waiting) < most:
        wire = Wire(server.port, seconds=60)
        wire.begin("PUT", f"/s3/{BUCKET}/large-{len(waiting)}", len(body))
        wire.socket.sendall(body)
        wire.socket.settimeout(0.003)
        try:
            return waiting, wire.answer()
        except TimeoutError:
            waiting.append(wire)
    return waiting, None


def give_up_pages(blob: Path) -> bool:
    """Have the kernel forget what it has of a file; whether it did."""
    descriptor = os.open(blob, os.O_RDONLY)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT)
    except OSError as error:
        # tmpfs keeps its pages, but reads none of them without perhaps waiting: the server asks the pool there too.
        return error.errno in (errno.EAGAIN, errno.EOPNOTSUPP)
    finally:
        os.close(descriptor)
    return False


def test_a_full_disk_pool_is_503(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path / "server", sabotage.STUCK_DISK)
    body = b"x" * 100_000  # too long for the index
    with serving(server):
        server.start().make_bucket()
        assert server.ask("PUT", f"/s3/{BUCKET}/small", b"small")[0] == 200
        assert server.ask("PUT", f"/s3/{BUCKET}/cold", body)[0] == 200
        (blob,) = (path for path in server.home.rglob("blobs/**/*") if path.is_file())
        stuck = server.home / sabotage.STUCK
        stuck.touch()
        waiting, refusal = fill_disk_pool(server, body)
        assert refusal is not None, "it takes more and more"
        status, headers, document = refusal
        assert (status, headers["retry-after"]) == (503, "1")
        assert b"<Code>SlowDown</Code>" in document and b"busy" in document
        assert len(waiting) > 500
        cold = give_up_pages(blob)
        print(f"cold: {cold}")
        if cold:  # a body that the disk has to be waited for
            with Wire(server.port) as wire:
                wire.begin("GET", f"/s3/{BUCKET}/cold")
                status, headers, document = wire.answer()
            assert (status, headers["retry-after"]) == (503, "1") and b"<Code>SlowDown</Code>" in document
        # What needs no disk of its own goes on.
        assert server.ask("GET", f"/s3/{BUCKET}/small") == (200, b"small")
        assert server.ask("DELETE", f"/s3/{BUCKET}/small")[0] == 204
        stuck.unlink()
        for wire in waiting:
            wire.socket.settimeout(60)
            assert wire.answer()[0] == 200
            wire.close()
        assert server.ask("PUT", f"/s3/{BUCKET}/large", body)[0] == 200
        server.stop()
    assert "Traceback" not in server.log()


def test_a_disk_pool_without_a_bound_is_found_out(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path / "server", sabotage.STUCK_DISK, sabotage.NO_QUEUE_LIMIT)
    with serving(server):
        server.start().make_bucket()
        (server.home / sabotage.STUCK).touch()
        waiting, refusal = fill_disk_pool(server, b"x" * 100_000)
        for wire in waiting:
            wire.close()
    assert refusal is None


# Open files


def ask_in_a_crowd(port: int, connections: int) -> list[tuple[int, bytes]]:
    """The answers to a client that comes after so many who say nothing. Raises ConnectionError."""
    allow_many_files()
    wires = [Wire(port) for _ in range(connections)]
    try:
        with Wire(port) as wire:
            asked: list[tuple[str, str, bytes | None]] = [
                ("PUT", "", None),
                ("PUT", "/key", bytes(MIB)),
                ("GET", "/key", None),
            ]
            return [wire.ask(method, f"/s3/{BUCKET}{key}", body) for method, key, body in asked]
    finally:
        for wire in wires:
            wire.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_leave_files_for_their_requests(make_server: MakeServer, workers: int) -> None:
    server = make_server(workers=workers, start=False)
    server.command[:0] = ["prlimit", "--nofile=600:600"]
    server.start()
    assert "only 172 connections for each worker" in server.log()
    answers = ask_in_a_crowd(server.port, workers * 172 + 500)
    assert [status for status, _ in answers] == [200, 200, 200]
    assert answers[-1][1] == bytes(MIB)


def test_connections_that_leave_no_files_are_found_out(tmp_path: Path) -> None:
    with Forker() as forker:
        resource.prlimit(forker.pid, resource.RLIMIT_NOFILE, (600, 600))
        server = Server(forker, tmp_path, sabotage.NO_FILE_LIMIT)
        with serving(server), pytest.raises(ConnectionError):
            ask_in_a_crowd(server.start().port, 172 + 500)


NEWCOMERS = 60


def come_without_files(server: Server, free: int) -> tuple[float, int]:
    """Newcomers while no process has more than ``free`` files left: the part of its time that the busiest works
    meanwhile, and how many newcomers are answered once there are files again."""
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in server.serving_pids()}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")) + free, hard))
    wires = [Wire(server.port, seconds=60) for _ in range(NEWCOMERS)]
    used, began = [cpu_seconds(pid) for pid in before], time.monotonic()
    time.sleep(1.5)
    busiest = max(cpu_seconds(pid) - was for pid, was in zip(before, used, strict=True)) / (time.monotonic() - began)
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    answered = 0
    for wire in wires:
        with contextlib.suppress(ConnectionError), wire:
            answered += wire.ask("GET", "/-/health")[0] == 200
    return busiest, answered


@pytest.mark.parametrize("free", [0, 3])
def test_without_a_free_file_newcomers_wait_and_nothing_spins(forker: Forker, tmp_path: Path, free: int) -> None:
    server = Server(forker, tmp_path, workers=2)
    with serving(server):
        busiest, answered = come_without_files(server.start(), free)
        assert (busiest < 0.2, answered) == (True, NEWCOMERS), busiest
        server.stop()


def test_without_a_free_file_one_process_cuts_newcomers_and_does_not_spin(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path)
    with serving(server):
        busiest, answered = come_without_files(server.start(), 3)
        assert (busiest < 0.2, answered > 0) == (True, True), (busiest, answered)
        assert server.ask("GET", "/-/health")[0] == 200
        server.stop()


def test_a_server_that_does_not_wait_for_a_free_file_is_found_out(forker: Forker, tmp_path: Path) -> None:
    server = Server(forker, tmp_path, sabotage.NO_PAUSE, workers=2)
    with serving(server):
        assert come_without_files(server.start(), 0)[0] > 0.2


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
