"""``twistd ais-s3`` as the operator meets it: options, refusals, signals, the end. Real processes throughout."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import self_signed
from daemonkit import end_at_once, fetch, parsed, run, wait_until_it_accepts_no_more
from server import CREDENTIALS, STOP_SECONDS, TWISTD, ServerProcess, environment, write_credentials

from aisobj.listening import StartupError
from aisobj.options import Settings, default_data
from aisobj.tap import notices

MakeServer = Callable[..., ServerProcess]


# What it does


def test_the_defaults_are_the_users_own_directory_and_loopback(tmp_path: Path) -> None:
    """Without an option; the port may be taken by a server that a developer runs."""
    ended = threading.Event()
    env = environment(XDG_DATA_HOME=str(tmp_path / "share"))
    process = subprocess.Popen(
        [TWISTD, "-n", "ais-s3"], cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    timer = threading.Timer(STOP_SECONDS, process.kill)
    timer.start()
    assert process.stdout is not None
    for line in process.stdout:
        if "Address already in use" in line:
            pytest.skip("port 8080 is taken")
        if "listening on http://127.0.0.1:8080/s3" in line:
            ended.set()
            process.terminate()
    assert process.wait() == 0
    timer.cancel()
    assert ended.is_set()
    assert (tmp_path / "share" / "ais-s3" / "index").is_dir()
    assert (tmp_path / "share" / "ais-s3").stat().st_mode & 0o777 == 0o700


def test_every_option_is_a_variable_too(tmp_path: Path) -> None:
    credentials = write_credentials(tmp_path / "credentials")
    env = environment(
        AIS_S3_LISTEN="tcp:0:interface=127.0.0.1 tcp:0:interface=\\:\\:1",
        AIS_S3_DATA=str(tmp_path / "data"),
        AIS_S3_CREDENTIALS=str(credentials),
        AIS_S3_REGION="eu-1",
        AIS_S3_CHECKSUM="md5",
        AIS_S3_NO_SYNC="1",
        AIS_S3_ACCESS_LOG=str(tmp_path / "access.log"),
    )
    if not socket.has_ipv6:
        pytest.skip("no IPv6")
    server = ServerProcess(tmp_path, credentials=CREDENTIALS, listen=(), env=env)
    server.command = [TWISTD, "-n", "--pidfile=", "ais-s3"]
    server.expect_listeners = 2
    server.start()
    try:
        assert server.urls[1].startswith("http://[::1]:")
        client = server.boto(region_name="eu-1")
        client.create_bucket(Bucket="bucket", CreateBucketConfiguration={"LocationConstraint": "eu-1"})
        etag = client.put_object(Bucket="bucket", Key="key", Body=b"x")["ETag"]
        assert etag == '"9dd4e461268c8034f5c8564e155c67a6"'
        assert "A POWER CUT" in server.log()
    finally:
        server.finish()
    assert "operation=PutObject bucket=bucket key=key" in server.access_log()


def test_access_log_goes_to_standard_output_by_default(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path)
    where = server.command.index("--access-log")
    del server.command[where : where + 2]
    server.start()
    fetch(server, "/-/health")
    server.finish()
    assert '"GET /-/health HTTP/1.1" 200' in server.log()


def test_access_log_off_writes_none(make_server: MakeServer) -> None:
    server = make_server("--access-log", "off")
    fetch(server, "/-/health")
    server.stop()
    assert "/-/health" not in server.log()
    assert not (server.home / "access.log").exists()


def test_sighup_reopens_the_access_log(make_server: MakeServer) -> None:
    server = make_server()
    path = server.home / "access.log"
    fetch(server, "/-/health?before")
    path.rename(server.home / "access.log.1")
    server.signal(signal.SIGHUP)
    deadline = time.monotonic() + 30
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    fetch(server, "/-/health?after")
    server.stop()
    assert "?before" in (server.home / "access.log.1").read_text()
    assert "?after" in path.read_text() and "?before" not in path.read_text()


def test_tls_a_unix_socket_and_with_credentials_every_address(make_server: MakeServer, tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    listen = f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1"
    unix = tmp_path / "s3.socket"
    server = make_server(listen=(listen, f"unix:{unix}", "tcp:0:interface=0.0.0.0"), credentials=CREDENTIALS)
    assert server.urls[1] == f"unix:{unix}" and "EVERY MACHINE" not in server.log()
    assert server.endpoint.startswith("https://127.0.0.1:")
    client = server.boto(verify=str(certificate))
    client.create_bucket(Bucket="bucket")
    body = os.urandom(300_000)
    client.put_object(Bucket="bucket", Key="key", Body=body)
    assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == body
    connection = http.client.HTTPConnection("localhost")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(unix))
    connection.request("GET", "/metrics")  # who reaches the socket is on this machine
    assert connection.getresponse().status == 200
    connection.close()


# The end


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0(make_server: MakeServer, number: signal.Signals) -> None:
    server = make_server()
    server.signal(number)
    assert server.wait() == 0
    assert "stopped" in server.log()


def test_data_survive_a_restart(make_server: MakeServer) -> None:
    server = make_server(sync=True)
    server.boto().create_bucket(Bucket="bucket")
    server.boto().put_object(Bucket="bucket", Key="key", Body=b"kept")
    server.kill()
    server.start()
    assert server.boto().get_object(Bucket="bucket", Key="key")["Body"].read() == b"kept"
    server.stop()
    server.start()
    assert server.boto().get_object(Bucket="bucket", Key="key")["Body"].read() == b"kept"


def upload_in_flight(server: ServerProcess) -> socket.socket:
    """A PUT of ten bytes, five of which the server has received."""
    server.boto().create_bucket(Bucket="bucket")
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    head = f"PUT /s3/bucket/key HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: 10\r\n"
    connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")  # so it is in the handler
    connection.sendall(b"01234")
    return connection


def test_sigterm_finishes_what_is_in_flight(make_server: MakeServer) -> None:
    server = make_server()
    with upload_in_flight(server) as connection:
        server.signal(signal.SIGTERM)
        wait_until_it_accepts_no_more(server)
        connection.sendall(b"56789")
        answer = connection.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 200 ") and b"\r\nConnection: close\r\n" in answer
        assert connection.recv(1) == b""
    assert server.wait() == 0
    server.start()
    assert server.boto().get_object(Bucket="bucket", Key="key")["Body"].read() == b"0123456789"


def test_a_second_signal_does_not_wait(make_server: MakeServer) -> None:
    server = make_server()
    with upload_in_flight(server):
        end_at_once(server)
    server.start()
    assert server.boto().list_objects_v2(Bucket="bucket")["KeyCount"] == 0


def test_systemd_is_told_and_says_where_data_go(make_server: MakeServer, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(30)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "STATE_DIRECTORY": str(tmp_path / "state")}
        server = make_server(env=env, start=False)
        where = server.command.index("--data")
        del server.command[where : where + 2]
        server.start()
        assert systemd.recv(100) == b"READY=1"
        assert fetch(server, "/-/ready")[0] == 200
        server.stop()
        assert systemd.recv(100) == b"STOPPING=1"
    assert (tmp_path / "state" / "index").is_dir()


def test_as_a_daemon_it_serves_after_the_fork(tmp_path: Path) -> None:
    options = ["--data", "data", "--listen", "tcp:0:interface=127.0.0.1", "--access-log", "access.log"]
    daemon = ["--rundir", "/", "--pidfile", "pid", "--logfile", str(tmp_path / "log")]
    assert run(tmp_path, *daemon, "ais-s3", *options).returncode == 0
    pid = int((tmp_path / "pid").read_text())
    try:
        deadline = time.monotonic() + 30
        while "listening on " not in (log := (tmp_path / "log").read_text()):
            assert time.monotonic() < deadline, log
            time.sleep(0.02)
        server = ServerProcess(tmp_path)
        server.urls = [log.partition("listening on ")[2].split("/s3")[0]]
        server.boto().create_bucket(Bucket="bucket")
        assert fetch(server, "/-/health") == (200, b"ok\n")
    finally:
        os.kill(pid, signal.SIGTERM)
    while (tmp_path / "pid").exists():
        assert time.monotonic() < deadline + 30
        time.sleep(0.02)
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert "operation=CreateBucket" in (tmp_path / "access.log").read_text()


# /-/ and /metrics


def test_health_and_ready_answer_anyone(signed_server: ServerProcess) -> None:
    assert fetch(signed_server, "/-/health") == (200, b"ok\n")
    status, body = fetch(signed_server, "/-/ready", Host="rebound.example")
    assert (status, body) == (200, b"ready\n")


def test_ready_tells_details_on_the_machine_itself(server: ServerProcess) -> None:
    status, body = fetch(server, "/-/ready")
    details = json.loads(body)
    assert status == 200
    assert details["phase"] == "ready" and details["read_only"] == "" and details["connections"] >= 1


def test_metrics_count_requests_bytes_seconds_and_what_is_stored(make_server: MakeServer) -> None:
    server = make_server()
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=b"x" * 1000)
    client.get_object(Bucket="bucket", Key="key")["Body"].read()
    status, body = fetch(server, "/metrics")
    assert status == 200
    found = {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in body.decode().splitlines() if line[0] != "#"
    }
    assert found['ais_s3_requests_total{operation="PutObject",status="200"}'] == 1
    assert found['ais_s3_received_bytes_total{operation="PutObject",status="200"}'] == 1000
    assert found['ais_s3_sent_bytes_total{operation="GetObject",status="200"}'] == 1000
    assert found['ais_s3_request_seconds_count{operation="GetObject",status="200"}'] == 1
    assert found['ais_s3_request_seconds_bucket{le="+Inf",operation="GetObject",status="200"}'] == 1
    assert found["ais_s3_connections"] >= 1
    assert found["ais_s3_objects"] == 1
    assert found["ais_s3_stored_bytes"] == 1000
    assert found["ais_s3_read_only"] == 0
    assert found["process_resident_memory_bytes"] > 0


def test_metrics_are_not_for_a_web_page_that_rebound_its_name(
    server: ServerProcess, signed_server: ServerProcess
) -> None:
    for process in (server, signed_server):
        status, body = fetch(process, "/metrics", Host="rebound.example")
        assert status == 403 and b"AccessDenied" in body


def test_what_is_ours_takes_only_reads(server: ServerProcess) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    for path in ("/-/health", "/-/ready", "/metrics"):
        connection.request("DELETE", path)
        response = connection.getresponse()
        response.read()
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")
    connection.close()


def test_a_bucket_called_metrics_is_still_there_under_s3(server: ServerProcess) -> None:
    client = server.boto()
    client.create_bucket(Bucket="metrics")
    client.put_object(Bucket="metrics", Key="key", Body=b"x")
    assert fetch(server, "/s3/metrics/key") == (200, b"x")
    assert fetch(server, "/metrics/key") == (200, b"x")


def test_the_data_directory_is_where_systemd_or_the_users_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_data({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b", "XDG_DATA_HOME": "/x"}) == Path("/var/lib/a")
    assert default_data({"XDG_DATA_HOME": "/share"}) == Path("/share/ais-s3")
    monkeypatch.setenv("HOME", "/home/alice")
    assert default_data({"XDG_DATA_HOME": "relative"}) == Path("/home/alice/.local/share/ais-s3")  # its specification
    monkeypatch.setenv("HOME", "nowhere")
    with pytest.raises(StartupError, match="--data is needed"):
        default_data({})


def test_secrets_that_everybody_can_read_are_said_at_the_start(tmp_path: Path) -> None:
    credentials = write_credentials(tmp_path / "credentials")
    settings = Settings.of(parsed(), {"AIS_S3_CREDENTIALS": str(credentials)})
    assert notices(settings, []) == []
    credentials.chmod(0o644)
    assert "EVERY USER OF THIS MACHINE" in notices(settings, [])[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.parametrize("workers", [1, 2])
def test_uid_of_twistd_is_refused(make_server: MakeServer, workers: int) -> None:
    server = make_server(start=False, workers=workers)
    server.command[1:1] = ["--uid", "65534"]
    server.launch()
    assert server.wait() == 1
    assert "ais-s3: twistd's --uid is not supported: start the server as the user" in server.log()
    server.expect_errors = True
