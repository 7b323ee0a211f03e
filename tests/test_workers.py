"""Several workers: one store, log, set of figures and of sockets, whoever answers."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import self_signed
from daemonkit import refusal, refusal_in_process
from fsck import check_directory
from server import ServerProcess
from workerkit import SECONDS, Connection, one_to_each, read_only, scrape, until

MakeServer = Callable[..., ServerProcess]
LARGE = bytes(range(256)) * 1024  # a blob


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Two workers, for what harms none of them."""
    server = ServerProcess(tmp_path_factory.mktemp("workers"), workers=2).start()
    yield server
    server.finish()
    assert check_directory(server.data) == []


# One store


def test_each_worker_shows_at_once_what_the_other_has_done(shared: ServerProcess) -> None:
    one, two = one_to_each(shared)
    assert one.ask("PUT", "/s3/seen").status == 200
    for number in range(100):
        writer, reader = (one, two) if number % 2 else (two, one)
        body = b"%d" % number if number % 3 else LARGE + b"%d" % number
        assert writer.ask("PUT", "/s3/seen/key", body).status == 200
        assert reader.ask("GET", "/s3/seen/key").body == body
        assert b"<Key>key</Key>" in reader.ask("GET", "/s3/seen?list-type=2").body
        assert reader.ask("DELETE", "/s3/seen/key").status == 204
        assert writer.ask("GET", "/s3/seen/key").status == 404
        assert b"<Key>key</Key>" not in writer.ask("GET", "/s3/seen?list-type=2").body


def test_a_multipart_upload_may_go_to_any_worker(shared: ServerProcess) -> None:
    one, two = one_to_each(shared)
    one.ask("PUT", "/s3/parts")
    created = one.ask("POST", "/s3/parts/key?uploads").body.decode()
    upload = created.partition("<UploadId>")[2].partition("</UploadId>")[0]
    part = two.ask("PUT", f"/s3/parts/key?partNumber=1&uploadId={upload}", LARGE)
    etag = part.headers["ETag"]
    document = f"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{etag}</ETag></Part>"
    document += "</CompleteMultipartUpload>"
    assert one.ask("POST", f"/s3/parts/key?uploadId={upload}", document.encode()).status == 200
    assert two.ask("GET", "/s3/parts/key").body == LARGE


def test_of_many_writers_at_once_exactly_one_creates_the_object(shared: ServerProcess) -> None:
    one, two = one_to_each(shared)
    one.ask("PUT", "/s3/once")
    connections = [one, two, *(Connection(shared) for _ in range(14))]
    assert len({connection.worker for connection in connections}) == 2
    with ThreadPoolExecutor(len(connections)) as pool:
        for number in range(25):
            together = threading.Barrier(len(connections))

            def create(connection: Connection, path: str, together: threading.Barrier) -> int:
                together.wait(SECONDS)
                return connection.ask("PUT", path, connection.worker.encode(), If_None_Match="*").status

            path = f"/s3/once/key{number}"
            created = Counter(pool.map(lambda each: create(each, path, together), connections))  # noqa: B023
            assert created == {200: 1, 412: len(connections) - 1}, number


def test_counters_and_versions_of_a_contended_key_are_right(shared: ServerProcess) -> None:
    one, two = one_to_each(shared)
    one.ask("PUT", "/s3/counted")
    connections = [one, two, *(Connection(shared) for _ in range(6))]
    with ThreadPoolExecutor(len(connections)) as pool:
        answers = list(
            pool.map(
                lambda each: [each.ask("PUT", "/s3/counted/key", os.urandom(100)).status for _ in range(40)],
                connections,
            )
        )
    assert {status for each in answers for status in each} == {200}
    listing = two.ask("GET", "/s3/counted?list-type=2").body
    assert listing.count(b"<Key>") == 1 and b"<Size>100</Size>" in listing


# What they share


def test_closed_connections_of_all_workers_are_counted(make_server: MakeServer) -> None:
    """Each worker has room for one, and each newcomer displaces it."""
    server = make_server("--max-connections", "1", workers=2)
    kept = [Connection(server) for _ in range(12)]
    time.sleep(2)  # they tell each other each second
    found = scrape(Connection(server))
    assert len(kept) - 2 <= found['ais_s3_closed_connections_total{reason="displaced"}'] < len(kept) + 2


def test_one_access_log_which_sighup_opens_again_in_all(make_server: MakeServer) -> None:
    server = make_server(workers=2)
    path = server.home / "access.log"
    connections = one_to_each(server)
    for connection in connections:
        connection.ask("GET", "/-/health?before")
    path.rename(server.home / "access.log.1")
    server.signal(signal.SIGHUP)

    def reopened() -> bool:
        for connection in connections:
            connection.ask("GET", "/-/health?probe")
        time.sleep(1.2)  # the log is written each second
        text = path.read_text() if path.exists() else ""
        return all(any(f"id={each.worker}" in line for line in text.splitlines()) for each in connections)

    until(reopened, "not all workers have opened it again")
    server.stop()
    assert (server.home / "access.log.1").read_text().count("?before") == 2
    assert "?before" not in path.read_text()
    assert all(line.count(" operation=") == 1 for line in path.read_text().splitlines())


def test_metrics_are_those_of_all_workers_whoever_is_asked(make_server: MakeServer) -> None:
    server = make_server(workers=2)
    connections = one_to_each(server)
    connections[0].ask("PUT", "/s3/bucket")
    for number, connection in enumerate(connections):
        for _ in range(number + 2):
            connection.ask("PUT", f"/s3/bucket/key{number}", b"x" * 1000)
    put = '{operation="PutObject",status="200"}'

    def agreed() -> bool:
        found = [scrape(connection) for connection in connections]
        return all(each.get(f"ais_s3_requests_total{put}") == 5 for each in found)

    until(agreed, "the workers' counts do not add up")
    for connection in connections:
        found = scrape(connection)
        assert found[f"ais_s3_received_bytes_total{put}"] == 5000
        assert found[f"ais_s3_request_seconds_count{put}"] == 5
        assert found['ais_s3_request_seconds_bucket{le="+Inf",operation="PutObject",status="200"}'] == 5
        assert 0 < found[f"ais_s3_request_seconds_sum{put}"] < 5 * SECONDS
        assert found["ais_s3_objects"] == 2
        assert found["ais_s3_connections"] >= 2
        for pid in (server.pid, *server.pids_of("aisobj.worker")):
            assert found[f'process_resident_memory_bytes{{pid="{pid}"}}'] > 0
    victim = server.pids_of("aisobj.worker")[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: len(server.pids_of("aisobj.worker")) == 2, "no worker in its place")
    found = scrape(one_to_each(server)[0])
    assert found[f"ais_s3_requests_total{put}"] == 5  # what the dead one had counted stays
    assert f'process_resident_memory_bytes{{pid="{victim}"}}' not in found


def test_tls_and_unix_sockets_are_shared_and_keep_their_modes(make_server: MakeServer, tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    path = tmp_path / "s3.socket"
    listen = (
        f"ssl:0:privateKey={key.name}:certKey={certificate.name}:interface=127.0.0.1",  # relative, and yet found
        f"unix:{path}:mode=600",
    )
    server = make_server(workers=2, listen=listen, home=tmp_path)
    trusting = ssl.create_default_context(cafile=str(certificate))

    def over_tls() -> str:
        connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=SECONDS, context=trusting)
        connection.request("GET", "/-/health")
        worker: str = connection.getresponse().headers["x-amz-request-id"][:8]
        connection.close()
        return worker

    def over_unix() -> str:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(path))
        connection.request("GET", "/metrics")  # who reaches the socket is on this machine
        response = connection.getresponse()
        assert response.status == 200
        connection.close()
        worker: str = response.headers["x-amz-request-id"][:8]
        return worker

    for ask in (over_tls, over_unix):
        seen: set[str] = set()
        until(lambda ask=ask, seen=seen: seen.add(ask()) or len(seen) == 2, f"{ask.__name__}: one worker only")  # type: ignore[misc,func-returns-value]
    assert path.stat().st_mode & 0o777 == 0o600
    server.stop()
    assert not path.exists()


needs_strace = pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")


@contextlib.contextmanager
def failing_syncs(pid: int, call: str) -> Iterator[None]:
    """From now on a call of the process, or of a thread of it, fails with EIO."""
    command = ["strace", "-f", "-p", str(pid), "-e", f"trace={call}", "-e", f"inject={call}:error=EIO"]
    with subprocess.Popen([*command, "-o", "/dev/null"], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        if "attached" not in said:
            strace.wait()
            pytest.skip(f"no process can be traced here: {said}")
        try:
            yield
        finally:
            strace.terminate()


@needs_strace
@pytest.mark.parametrize("where", ["index", "blob"])
def test_a_sync_that_failed_anywhere_stops_writing_everywhere(make_server: MakeServer, where: str) -> None:
    server = make_server(workers=2, sync=True, expect_errors=True)
    connections = one_to_each(server)
    connections[0].ask("PUT", "/s3/bucket")
    assert connections[0].ask("PUT", "/s3/bucket/key", b"kept").status == 200
    workers = server.pids_of("aisobj.worker")
    body = b"small" if where == "index" else LARGE
    with contextlib.ExitStack() as stack:
        for pid in [server.writer_pid] if where == "index" else workers:
            stack.enter_context(failing_syncs(pid, "fdatasync"))
        assert connections[0].ask("PUT", "/s3/bucket/new", body).status >= 500
    # The other one has not been asked for anything.
    until(lambda: bool(read_only(connections[1])), "the other worker does not know")
    for connection in connections:
        assert "failed" in read_only(connection) or "could not be written" in read_only(connection)
        assert connection.ask("PUT", "/s3/bucket/more", b"x").status == 503
        assert connection.ask("GET", "/s3/bucket/key").body == b"kept"
        assert connection.ask("GET", "/s3/bucket/new").status == 404
    # And who comes new is told, whoever it was that knew.
    os.kill(server.writer_pid, signal.SIGKILL)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
    until(lambda: not set(workers) & set(server.pids_of("aisobj.worker")), "they are not replaced")
    for connection in one_to_each(server):
        until(lambda connection=connection: bool(read_only(connection)), "a new worker does not know")  # type: ignore[misc]


# What is refused


@pytest.mark.parametrize("value", ["0", "-1", "two", "1000", "1.5"])
def test_a_bad_number_of_workers_is_refused(tmp_path: Path, value: str) -> None:
    assert f"--workers {value}: it must be a number from 1 to" in refusal_in_process(tmp_path, "--workers", value)


def test_the_number_of_workers_is_by_default_that_of_the_cores(tmp_path: Path) -> None:
    home = tmp_path / "home"
    server = ServerProcess(home)
    where = server.command.index("--workers")
    del server.command[where : where + 2]
    server.start()
    cores = len(os.sched_getaffinity(0))
    assert len(server.pids_of("aisobj.worker")) == (cores if cores > 1 else 0)
    server.finish()


def test_an_endpoint_that_cannot_be_shared_is_refused_for_several(tmp_path: Path, make_server: MakeServer) -> None:
    listen = "tcp6:0:interface=\\:\\:1"
    line = refusal(tmp_path, "--workers", "2", "--listen", listen)
    assert line == f"--listen {listen}: tcp6 endpoints need --workers 1"


def test_the_usual_refusals_are_one_line_for_several_workers_too(tmp_path: Path, make_server: MakeServer) -> None:
    server = make_server(workers=2)
    taken = f"tcp:{server.port}:interface=127.0.0.1"
    assert refusal(tmp_path, "--workers", "2", "--listen", taken) == f"--listen {taken}: Address already in use"
    assert "another server is using" in refusal(tmp_path, "--workers", "2", "--data", str(server.data))
    assert "nowhere: No such file" in refusal(tmp_path, "--workers", "2", "--credentials", "nowhere")
    assert "--access-log " in refusal(tmp_path, "--workers", "2", "--access-log", "no/such/log")
    assert "cannot be used" in refusal(tmp_path, "--workers", "2", "--data", "/sys")
    server.stop()
    [index] = (server.data / "index").glob("data*")
    index.write_bytes(b"not an index" * 1000)
    assert str(server.data) in refusal(tmp_path, "--workers", "2", "--data", str(server.data))


def test_a_data_directory_may_have_a_long_path(tmp_path: Path, make_server: MakeServer) -> None:
    deep = tmp_path.joinpath(*["directory-with-a-long-name"] * 6)
    deep.mkdir(parents=True)
    assert len(str(deep)) > 108  # the address of a Unix socket has no room for it
    server = make_server(workers=2, data=deep / "data")
    for connection in one_to_each(server):
        assert connection.ask("PUT", "/s3/bucket").status in (200, 409)
    assert (deep / "data" / "writer").stat().st_mode & 0o777 == 0o600
