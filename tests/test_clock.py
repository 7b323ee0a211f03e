"""The machine's clock is set while servers run (libfaketime): the last write wins, and nothing is late or early."""

from __future__ import annotations

import glob
import json
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fsck import check_directory
from s3raw import Sender
from server import ServerProcess
from workerkit import one_to_each

from aisobj.protocol.s3time import http_date
from aisobj.storage.index_backup import next_backup

MakeServer = Callable[..., ServerProcess]

LIBRARIES = glob.glob("/usr/lib/*/faketime/libfaketimeMT.so.1")
needs_faketime = pytest.mark.skipif(not LIBRARIES, reason="libfaketime is not installed")

LARGE = bytes(range(256)) * 1000
HOUR = 3600.0


class FakedServer:
    """Two workers, each with a connection, and a clock that can be set.

    :ivar offset: seconds that its clock is ahead of ours.
    """

    def __init__(self, make_server: MakeServer, home: Path, offset: float = 0.0) -> None:
        self._clock = home / "clock"
        self.offset = offset
        self.set_clock(offset)
        env = {"LD_PRELOAD": LIBRARIES[0], "FAKETIME_TIMESTAMP_FILE": str(self._clock), "FAKETIME_NO_CACHE": "1"}
        env["FAKETIME_DONT_FAKE_MONOTONIC"] = "1"
        self.server = make_server(home=home, workers=2, env=env)
        self.connections = one_to_each(self.server)

    def set_clock(self, offset: float) -> None:
        self.offset = offset
        fresh = self._clock.with_suffix(".new")
        fresh.write_text(f"{offset:+.0f}")
        fresh.replace(self._clock)

    def ask(self, number: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Any:
        return self.connections[number % 2].ask(method, path, body, **headers)

    def restart(self) -> None:
        self.server.stop()
        self.server.start()
        self.connections = one_to_each(self.server)

    def check_clock(self) -> None:
        """That it was faked at all: the answers say what time it is."""
        now = time.time() + self.offset
        said = self.ask(0, "GET", "/-/health").headers["Date"]
        assert said in {http_date(int((now + more) * 1e9)) for more in (-2, -1, 0, 1)}, said


@pytest.fixture
def faked(make_server: MakeServer, tmp_path: Path) -> FakedServer:
    return FakedServer(make_server, tmp_path)


@needs_faketime
def test_the_last_write_wins_when_the_clock_goes_back(faked: FakedServer) -> None:
    faked.ask(0, "PUT", "/s3/bucket")
    write_while_the_clock_goes_back(faked, restart=False)
    write_while_the_clock_goes_back(faked, restart=True)
    assert faked.ask(0, "GET", "/s3/bucket/key").body == b"again"
    assert faked.ask(1, "GET", "/s3/bucket/large").body == LARGE[::-1]
    faked.server.stop()
    assert check_directory(faked.server.data) == []


def write_while_the_clock_goes_back(faked: FakedServer, restart: bool) -> None:
    first = faked.ask(0, "PUT", "/s3/bucket/key", b"first")
    large = faked.ask(0, "PUT", "/s3/bucket/large", LARGE)
    before = faked.ask(0, "HEAD", "/s3/bucket/key").headers
    faked.set_clock(faked.offset - HOUR)
    if restart:
        faked.restart()
    faked.check_clock()
    # Overwrites, by the worker that has seen no later time too
    for number in range(4):
        body = b"later %d" % number
        written = faked.ask(number, "PUT", "/s3/bucket/key", body)
        for reader in range(2):
            found = faked.ask(reader, "GET", "/s3/bucket/key")
            assert (found.body, found.headers["ETag"]) == (body, written.headers["ETag"])
            assert faked.ask(reader, "GET", "/s3/bucket/key", If_None_Match=written.headers["ETag"]).status == 304
            assert faked.ask(reader, "GET", "/s3/bucket/key", If_Match=first.headers["ETag"]).status == 412
            modified = found.headers["Last-Modified"]
            assert _seconds(modified) >= _seconds(before["Last-Modified"]), "Last-Modified went back"
            assert faked.ask(reader, "GET", "/s3/bucket/key", If_Modified_Since=modified).status in (200, 304)
            assert faked.ask(reader, "GET", "/s3/bucket/key", If_Unmodified_Since=modified).status == 200
    assert faked.ask(0, "PUT", "/s3/bucket/key", b"x", If_Match=first.headers["ETag"]).status == 412
    assert faked.ask(1, "PUT", "/s3/bucket/key", b"x", If_None_Match="*").status == 412
    # A large one by a small one, and a large one anew
    assert faked.ask(1, "PUT", "/s3/bucket/large", LARGE[::-1]).headers["ETag"] != large.headers["ETag"]
    assert faked.ask(0, "GET", "/s3/bucket/large").body == LARGE[::-1]
    # LIST, deletion, and creation anew
    listed = faked.ask(1, "GET", "/s3/bucket?list-type=2").body
    assert written.headers["ETag"].strip('"').encode() in listed
    faked.ask(0, "DELETE", "/s3/bucket/key")
    assert faked.ask(1, "GET", "/s3/bucket/key").status == 404
    faked.ask(1, "PUT", "/s3/bucket/key", b"again")
    assert faked.ask(0, "GET", "/s3/bucket/key").body == b"again"


def _seconds(date: str) -> float:
    return time.mktime(time.strptime(date, "%a, %d %b %Y %H:%M:%S GMT"))


@needs_faketime
def test_uploads_listings_and_what_runs_go_on_when_the_clock_is_set(faked: FakedServer) -> None:
    faked.ask(0, "PUT", "/s3/bucket")
    for jump in (-HOUR, HOUR):
        upload_and_list(faked, jump)
    keep_the_pace(faked)


def upload_and_list(faked: FakedServer, jump: float) -> None:
    bucket = f"/s3/bucket{jump:.0f}"
    assert faked.ask(0, "PUT", bucket).status == 200
    for number in range(5):
        faked.ask(0, "PUT", f"{bucket}/k{number}", b"x")
    sender = Sender(faked.server.endpoint)
    upload = sender.ask("POST", f"{bucket}/big?uploads").element("UploadId")
    page = sender.ask("GET", f"{bucket}?list-type=2&max-keys=2")
    old = faked.ask(0, "PUT", f"{bucket}/big?partNumber=1&uploadId={upload}", LARGE).headers["ETag"]
    faked.set_clock(jump)
    faked.check_clock()
    # The part is put again: the later one counts
    new = faked.ask(1, "PUT", f"{bucket}/big?partNumber=1&uploadId={upload}", LARGE[::-1]).headers["ETag"]
    assert old != new and new.strip('"').encode() in sender.ask("GET", f"{bucket}/big?uploadId={upload}").body
    rest = sender.ask("GET", f"{bucket}?list-type=2&continuation-token={page.element('NextContinuationToken')}")
    assert [f"k{number}".encode() in rest.body for number in range(5)] == [False, False, True, True, True]
    document = (
        "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>{}</ETag></Part></CompleteMultipartUpload>"
    )
    target = f"{bucket}/big?uploadId={upload}"
    assert sender.ask("POST", target, body=document.format(old).encode()).code == "InvalidPart"
    assert sender.ask("POST", target, body=document.format(new).encode()).status == 200
    assert faked.ask(0, "GET", f"{bucket}/big").body == LARGE[::-1]


def keep_the_pace(faked: FakedServer) -> None:
    """Connections stay, and what is done each second is done: the metrics of one worker reach the other."""
    for jump in (-HOUR, HOUR, 0.0):
        faked.set_clock(jump)
        time.sleep(1.2)
        faked.check_clock()
        for connection in faked.connections:  # kept alive across it, at both workers
            assert connection.ask("PUT", "/s3/bucket/key", b"x").status == 200
    deadline = time.monotonic() + 10
    put = b'ais_s3_requests_total{operation="PutObject",status="200"} 16.0'
    while put not in faked.ask(1, "GET", "/metrics").body:
        assert time.monotonic() < deadline, "what is done each second was not done"
        time.sleep(0.1)
    assert " seconds=-" not in faked.server.access_log() and " seconds=3" not in faked.server.access_log()
    assert json.loads(faked.ask(0, "GET", "/-/ready").body)["read_only"] == ""


def test_the_newest_backup_is_the_last_one_made_although_the_clock_went_back(tmp_path: Path) -> None:
    made = []
    for now in (1e9, 1e9 - 86400, 1e9 - 86400, 1e9 + 5, timedelta(days=20000).total_seconds()):
        made.append(next_backup(tmp_path, now))
        made[-1].touch()
    assert made == sorted(set(made))
    (tmp_path / "index-by-hand.mdb").touch()  # is passed over
    assert next_backup(tmp_path, 0).name > made[-1].name
