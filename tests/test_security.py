"""SECURITY.md: each of its claims names tests that exist; and those that have no other place."""

from __future__ import annotations

import ast
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import self_signed
from s3raw import Sender
from server import CREDENTIALS, ServerProcess

from aisobj.shared_metrics import DIRECTORY_VARIABLE

ROOT = Path(__file__).parent.parent
UNIT = ROOT / "contrib" / "systemd" / "ais-s3.service"

MakeServer = Callable[..., ServerProcess]


def claims(page: str) -> dict[str, list[str]]:
    """Claim -> the tests it names."""
    rows = re.findall(r"^\| (.+) \| (.*) \|$", page[page.index("## Claims") :], re.MULTILINE)[2:]
    return {claim: re.findall(r"`(test_\w+\.py::\w+)`", tests) for claim, tests in rows}


def test_every_claim_has_tests_that_exist() -> None:
    found = claims((ROOT / "SECURITY.md").read_text())
    assert len(found) > 25
    assert [claim for claim, tests in found.items() if not tests] == []
    missing = []
    for name, _, function in (test.partition("::") for tests in found.values() for test in tests):
        path = ROOT / "tests" / name
        tree = ast.parse(path.read_text() if path.exists() else "")
        if function not in [
            node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]:
            missing.append(f"{name}::{function}")
    assert missing == []


def test_a_claim_without_a_test_is_noticed() -> None:
    page = "## Claims\n\n| claim | test |\n| --- | --- |\n| a | `test_x.py::test_y` |\n| b | trust us |\n"
    assert claims(page) == {"a": ["test_x.py::test_y"], "b": []}


def test_the_unit_scores_ok() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager"]
    ended = subprocess.run([*command, str(UNIT)], capture_output=True, text=True, timeout=60, check=False)
    if "Unknown" in ended.stderr or "unrecognized option" in ended.stderr:
        pytest.skip("this systemd-analyze looks at no unit offline")
    found = re.search(r"exposure level for ais-s3\.service: ([\d.]+) (\w+)", ended.stdout)
    assert found, ended.stdout + ended.stderr
    assert found[2] in ("OK", "SAFE", "PERFECT"), ended.stdout


def test_a_unit_without_its_sandbox_scores_worse(tmp_path: Path) -> None:
    """That the tool tells anything."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    bare = re.sub(
        r"^(No|Protect|Private|Restrict|Capability|SystemCall|Lock|User).*\n", "", UNIT.read_text(), flags=re.M
    )
    (tmp_path / "ais-s3.service").write_text(bare)
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(tmp_path / "ais-s3.service")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert re.search(r"exposure level for ais-s3\.service: [\d.]+ (MEDIUM|EXPOSED|UNSAFE)", ended.stdout), ended.stdout


def handshake(port: int, version: ssl.TLSVersion) -> str | None:
    """The version that was spoken."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = version
    with socket.create_connection(("127.0.0.1", port), 30) as plain, context.wrap_socket(plain) as connection:
        return connection.version()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_older_than_1_2_is_refused(make_server: MakeServer, tmp_path: Path) -> None:
    key, certificate = self_signed(tmp_path)
    listen = (f"ssl:0:privateKey={key}:certKey={certificate}:interface=127.0.0.1",)
    server = make_server(listen=listen)
    assert handshake(server.port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
    assert handshake(server.port, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(server.port, old)


def test_what_a_server_keeps_is_for_its_user_alone(make_server: MakeServer) -> None:
    server = make_server("--audit-log", "audit.log", credentials=CREDENTIALS, workers=2)
    s3 = server.boto()
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="key", Body=bytes(300_000))
    assert Sender(server.endpoint).ask("GET", "/s3").status == 403
    variables = Path(f"/proc/{server.pids_of('aisobj.worker')[0]}/environ").read_bytes().split(b"\0")
    prefix = DIRECTORY_VARIABLE.encode() + b"="
    metrics = [Path(os.fsdecode(each.removeprefix(prefix))) for each in variables if each.startswith(prefix)]
    seen = 0
    for top in (server.data, *metrics):
        assert top.stat().st_mode & 0o077 == 0, top
        if top == server.data:
            for path in top.rglob("*"):
                assert path.stat().st_mode & 0o077 == 0, path
                seen += 1
    assert seen > 8 and len(metrics) == 1
    for name in ("access.log", "audit.log"):
        assert (server.home / name).stat().st_mode & 0o007 == 0
