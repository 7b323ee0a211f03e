"""Several workers: a server that goes on when one of its processes does not, and that ends in order."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import self_signed
from daemonkit import end_at_once, wait_until_it_accepts_no_more
from fsck import check_directory
from server import ServerProcess
from workerkit import SECONDS, Connection, is_alive, one_to_each, read_only, until

MakeServer = Callable[..., ServerProcess]


# Somebody dies


class Load:
    """PUTs over connections of their own, until told to stop; knows what was acknowledged."""

    def __init__(self, server: ServerProcess, clients: int = 4) -> None:
        self.acknowledged: dict[str, bytes] = {}
        self.statuses: Counter[int] = Counter()
        self.cut = 0
        self._server = server
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(clients)
        self._running = [self._pool.submit(self._work, number) for number in range(clients)]

    def _work(self, client: int) -> None:
        connection = None
        for number in range(1_000_000):
            if self._stop.is_set():
                return
            path, body = f"/s3/load/{client}-{number}", os.urandom(1 + number * 997 % 200_000)
            try:
                connection = connection or Connection(self._server)
                status = connection.ask("PUT", path, body).status
            except (OSError, http.client.HTTPException):
                self.cut += 1
                connection = None
                time.sleep(0.01)
                continue
            self.statuses[status] += 1
            if status == 200:
                self.acknowledged[path] = body

    def await_more(self, more: int = 40) -> None:
        enough = len(self.acknowledged) + more
        until(lambda: len(self.acknowledged) >= enough, f"no progress: {self.statuses}, {self.cut} cut")

    def stop(self) -> None:
        self._stop.set()
        for each in self._running:
            each.result(SECONDS)
        self._pool.shutdown()

    def check(self) -> None:
        """Everything that was acknowledged is there."""
        connection = Connection(self._server)
        for path, body in self.acknowledged.items():
            assert connection.ask("GET", path).body == body, path


@contextlib.contextmanager
def loaded(server: ServerProcess) -> Iterator[Load]:
    Connection(server).ask("PUT", "/s3/load")
    load = Load(server)
    try:
        load.await_more()
        yield load
    finally:
        load.stop()


@pytest.mark.parametrize("number", [0, 1])
def test_a_worker_that_is_killed_is_replaced_and_the_others_go_on(make_server: MakeServer, number: int) -> None:
    server = make_server(workers=2, sync=True)
    workers = server.pids_of("aisobj.worker")
    with loaded(server) as load:
        os.kill(workers[number], signal.SIGKILL)
        load.await_more()
        until(lambda: len(server.pids_of("aisobj.worker")) == 2, "no worker in its place")
        one_to_each(server)
        load.await_more()
    assert set(load.statuses) == {200}
    assert workers[1 - number] in server.pids_of("aisobj.worker")
    assert f"worker {number} ended: A process has ended with a probable error condition" in server.log()
    load.check()
    server.stop()
    assert check_directory(server.data) == []


def test_a_writer_that_is_killed_is_replaced_and_every_worker_writes_again(make_server: MakeServer) -> None:
    server = make_server(workers=2, sync=True)
    workers = server.pids_of("aisobj.worker")
    with loaded(server) as load:
        for _ in range(3):
            writer = server.writer_pid
            os.kill(writer, signal.SIGKILL)
            load.await_more()
            assert server.writer_pid != writer
    assert load.cut == 0 and set(load.statuses) <= {200, 500}
    for connection in one_to_each(server):
        assert connection.ask("PUT", "/s3/load/after", b"x").status == 200
        assert read_only(connection) == ""
    assert server.pids_of("aisobj.worker") == workers
    load.check()


def test_a_delete_is_not_undone_by_what_a_dead_worker_had_begun(make_server: MakeServer) -> None:
    """A PUT is on its way to the writer when its worker dies. Its client sees that, asks another worker to DELETE, and
    is told that it is done: then the PUT must not be stored any more."""
    server = make_server(workers=2, sync=True)
    one, two = one_to_each(server)
    assert one.ask("PUT", "/s3/late").status == 200
    os.kill(server.writer_pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            put = pool.submit(one.ask, "PUT", "/s3/late/key", b"x")
            pid = one.pid(server)
            time.sleep(0.5)  # until it has been sent to the writer; nobody can see that
            os.kill(pid, signal.SIGKILL)
            with pytest.raises((http.client.HTTPException, OSError)):
                put.result(SECONDS)
            delete = pool.submit(two.ask, "DELETE", "/s3/late/key")
            time.sleep(0.2)  # for an answer that would be too early
            os.kill(server.writer_pid, signal.SIGCONT)
            assert delete.result(SECONDS).status == 204
    finally:
        os.kill(server.writer_pid, signal.SIGCONT)
    time.sleep(0.2)
    assert two.ask("GET", "/s3/late/key").status == 404
    assert two.ask("GET", "/s3/late?list-type=2").body.count(b"<Key>") == 0


def test_when_the_master_is_killed_all_end_and_the_next_server_has_everything(make_server: MakeServer) -> None:
    server = make_server(workers=2, sync=True)
    with loaded(server) as load:
        others = server.pids()[1:]
        assert len(others) == 3
        server.kill()
        until(lambda: not any(map(is_alive, others)), "workers or writer outlive the master")
        server.start()
        load.await_more()
    load.check()
    server.stop()
    assert check_directory(server.data) == []


def test_workers_that_are_starting_end_with_the_master_too(make_server: MakeServer) -> None:
    """They hold the lock, and take a second to import what they need: they must not wait for its end."""
    server = make_server(workers=2, start=False)
    began = time.monotonic()
    server.start()
    starting = time.monotonic() - began
    server.stop()
    for _ in range(3):
        server.launch()
        until(lambda: len(server.pids_of("aisobj.worker")) == 2, "no workers")
        workers = server.pids_of("aisobj.worker")
        server.kill()
        began = time.monotonic()
        until(lambda: not any(map(is_alive, workers)), "workers outlive the master")  # noqa: B023
        assert time.monotonic() - began < starting / 2
    server.start()


def test_a_worker_that_cannot_start_again_is_tried_again_later(make_server: MakeServer, tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    listen = ("tcp:0:interface=127.0.0.1", f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1")
    server = make_server(workers=2, listen=listen)
    hidden = key.rename(tmp_path / "hidden")
    os.kill(server.pids_of("aisobj.worker")[1], signal.SIGKILL)
    until(lambda: server.log().count("key.pem: No such file") >= 2, "it is not tried again", server.log)
    assert Connection(server).ask("GET", "/-/ready").status == 200
    hidden.rename(key)
    until(lambda: "worker 1 serves again" in server.log(), "it does not serve again", server.log)
    one_to_each(server)


def test_signals_to_the_workers_are_the_masters_business(make_server: MakeServer) -> None:
    """Ctrl-C reaches the whole group."""
    server = make_server(workers=2)
    workers = server.pids_of("aisobj.worker")
    for pid in workers:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(pid, number)
    for connection in one_to_each(server):
        assert connection.ask("GET", "/-/ready").status == 200
    assert server.pids_of("aisobj.worker") == workers


# The end


def upload_in_flight(server: ServerProcess, key: str) -> tuple[str, socket.socket]:
    """Its worker, and the connection: five of ten bytes are there."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=SECONDS)
    connection.sendall(b"GET /-/health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    worker = connection.recv(10_000).lower().partition(b"x-amz-request-id: ")[2][:8].decode()
    head = f"PUT /s3/bucket/{key} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
    connection.sendall(b"01234")
    return worker, connection


def uploads_in_flight(server: ServerProcess) -> dict[str, socket.socket]:
    """In each worker one, by its key."""
    Connection(server).ask("PUT", "/s3/bucket")
    found: dict[str, socket.socket] = {}
    workers: set[str] = set()
    while len(workers) < server.workers:
        key = f"key{len(found)}"
        worker, found[key] = upload_in_flight(server, key)
        workers.add(worker)
    return found


def test_all_workers_finish_what_is_in_flight(make_server: MakeServer) -> None:
    server = make_server(workers=2)
    uploads = uploads_in_flight(server)
    server.signal(signal.SIGTERM)
    wait_until_it_accepts_no_more(server)
    assert len(server.pids_of("aisobj.worker")) == 2
    for connection in uploads.values():
        connection.sendall(b"56789")
        assert connection.recv(10_000).startswith(b"HTTP/1.1 200 ")
        connection.close()
    assert server.wait() == 0
    assert not (server.data / "writer").exists()
    server.start()
    connection = Connection(server)
    for key in uploads:
        assert connection.ask("GET", f"/s3/bucket/{key}").body == b"0123456789"


def test_a_second_signal_ends_all_workers_at_once(make_server: MakeServer) -> None:
    server = make_server(workers=2)
    uploads = uploads_in_flight(server)
    end_at_once(server)
    for connection in uploads.values():
        connection.close()


def test_a_signal_while_it_starts_ends_it_with_status_0(make_server: MakeServer) -> None:
    server = make_server(workers=2, start=False)
    server.launch()
    until(lambda: "starting up" in server.log(), "it does not start")
    until(lambda: len(server.pids()) > 1, "no process is started")
    server.signal(signal.SIGTERM)
    assert server.wait() == 0
