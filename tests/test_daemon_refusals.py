"""What ``twistd ais-s3`` refuses, in one line, before it serves anybody."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from daemonkit import OPEN, fetch, refusal, refusal_in_process, run
from server import ServerProcess

MakeServer = Callable[..., ServerProcess]


def test_help_says_every_option_and_its_variable_in_a_line(tmp_path: Path) -> None:
    ended = run(tmp_path, "ais-s3", "--help", env={"COLUMNS": "200"})
    assert ended.returncode == 0
    for option in (
        "--listen=",
        "--data=",
        "--credentials=",
        "--region=",
        "--checksum=",
        "--no-sync",
        "--access-log=",
        "--server-name=",
        f"--{OPEN}",
        "--workers=",
    ):
        lines = [line for line in ended.stdout.splitlines() if f" {option} " in line and line.startswith("  ")]
        assert len(lines) == 1 and len(lines[0].partition(option)[2].strip()) > 20, (option, ended.stdout)
    assert "AIS_S3_NO_SYNC" in ended.stdout


def test_version_is_ours(tmp_path: Path) -> None:
    assert run(tmp_path, "ais-s3", "--version").stdout.startswith("ais-s3 ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--bogus",), "option --bogus not recognized"),
        (("--data",), "option --data requires argument"),
        (("--checksum", "crc"), "--checksum crc: it must be one of crc32c, md5"),
        ((f"--{OPEN}=1",), f"option --{OPEN} must not have an argument"),
        (("--listen", "8080"), "--listen 8080: "),
        (("--listen", "tcp:http:interface=127.0.0.1"), "--listen tcp:http"),
        (("--listen", "tcp:0:interfaces=127.0.0.1"), "--listen tcp:0:interfaces"),
        (("--listen", "carrier-pigeon:0"), "Unknown endpoint type"),
        (("--listen", "tcp:0:interface=192.0.2.1"), "Cannot assign requested address"),
        (("--listen", "ssl:0:privateKey=none.pem"), "none.pem: No such file"),
        (("--credentials", "nowhere"), "nowhere: No such file or directory"),
        (("--max-connections", "0"), "--max-connections 0: it must be a whole number, 1 or more"),
        (("--max-connections-per-address", "-1"), "--max-connections-per-address -1: it must be a whole number, 0 or"),
        (("--access-log", "no/such/directory/log"), "--access-log "),
    ],
)
def test_a_bad_option_is_refused_with_its_name(tmp_path: Path, options: tuple[str, ...], message: str) -> None:
    assert message in refusal_in_process(tmp_path, *options)


@pytest.mark.parametrize("options", [("--bogus",), ("--listen", "8080"), ("--credentials", "nowhere")])
def test_a_bad_option_is_one_line_and_status_1(tmp_path: Path, options: tuple[str, ...]) -> None:
    assert options[-1] in refusal(tmp_path, *options)


@pytest.mark.parametrize("text", ["", "aws_access_key_id = x", "[alice]\naws_access_key_id = AKIA\n", "[a]\nhunter2\n"])
def test_a_bad_credentials_file_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "credentials"
    path.write_text(text)
    line = refusal_in_process(tmp_path, "--credentials", str(path))
    assert str(path) in line
    assert "hunter2" not in line


def test_a_bad_variable_is_refused_like_an_option(tmp_path: Path) -> None:
    assert "AIS_S3_NO_SYNC=maybe" in refusal_in_process(tmp_path, env={"AIS_S3_NO_SYNC": "maybe"})
    assert "--checksum crc" in refusal_in_process(tmp_path, env={"AIS_S3_CHECKSUM": "crc"})
    assert "--listen nonsense" in refusal_in_process(tmp_path, env={"AIS_S3_LISTEN": "nonsense tcp:0"})


def test_a_second_server_on_the_same_data_is_refused(tmp_path: Path, make_server: MakeServer) -> None:
    first = make_server()
    assert "another server is using the data directory" in refusal(tmp_path, "--data", str(first.data))
    first.stop()
    first.start()  # and the lock ends with its owner


def test_a_busy_port_is_refused(tmp_path: Path, make_server: MakeServer) -> None:
    taken = f"tcp:{make_server().port}:interface=127.0.0.1"
    assert refusal(tmp_path, "--listen", taken) == f"--listen {taken}: Address already in use"


def test_a_busy_port_is_refused_before_the_daemon_forks(tmp_path: Path, make_server: MakeServer) -> None:
    taken = f"tcp:{make_server().port}:interface=127.0.0.1"
    ended = run(tmp_path, "--pidfile=", "ais-s3", "--data", "data", "--listen", taken)
    assert (ended.returncode, ended.stderr) == (1, f"ais-s3: --listen {taken}: Address already in use\n")


def test_a_data_directory_that_cannot_be_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (str(tmp_path / "file" / "data"), "/proc/ais-s3", "/sys"):
        assert f"the data directory {path} cannot be used: " in refusal_in_process(tmp_path, "--data", path)
    assert "the data directory /sys cannot be used: " in refusal(tmp_path, "--data", "/sys")


def test_an_index_that_cannot_be_opened_is_one_line_and_status_1(tmp_path: Path, make_server: MakeServer) -> None:
    server = make_server()
    server.stop()
    [index] = (server.data / "index").glob("data*")
    index.write_bytes(b"not an index" * 1000)
    line = refusal(tmp_path, "--data", str(server.data))
    assert str(server.data) in line


def test_an_open_server_does_not_leave_this_machine_unless_told_so(tmp_path: Path, make_server: MakeServer) -> None:
    line = refusal_in_process(tmp_path, "--listen", "tcp:0:interface=127.0.0.1", "--listen", "tcp:0:interface=0.0.0.0")
    assert f"--{OPEN}" in line and "--credentials" in line
    assert f"--{OPEN}" in refusal_in_process(tmp_path, "--listen", "tcp:0:interface=\\:\\:")
    assert f"--{OPEN}" in refusal_in_process(tmp_path, env={"AIS_S3_LISTEN": "tcp:0"})
    told = make_server(f"--{OPEN}", "--server-name", "s3.example", listen=("tcp:0:interface=0.0.0.0",))
    assert "EVERY MACHINE" in told.log()
    assert fetch(told, "/s3", Host="s3.example")[0] == 200
    assert fetch(told, "/s3", Host=socket.gethostname())[0] == 200
    assert fetch(told, "/s3", Host="rebound.example")[0] == 403
