"""nginx in front of the server, and requests that the two might read differently.

Whatever nginx forwards as one request is that one request for the server, with the same target and body, and a request
hidden in a body is never executed.

Each case goes to nginx (``proxy_request_buffering`` on and off, connections to the server kept alive) and to the server
itself. What nginx made of it is told by a recorder that stands behind another nginx where the server stands behind the
first. ``--mutations N`` changes cases at random.

Needs nginx.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import re
import shutil
import socket
import subprocess
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import NamedTuple

from benchmarks.processes import free_ports
from reliability.ambiguous import corpus, fill
from reliability.mangling import mangle_bytes
from reliability.program import Program, Verdict
from reliability.server import Forker, Hang, Server, check_data, serving

CLIENTS = 8
SECONDS = 10.0  #: a hang
PROBES = 10  #: nobody must be cut so often
#: One bucket for each way to the server, so that each has what it was sent; of one length, so that lengths stay true.
ON, OFF, DIRECT = b"smuggled-1", b"smuggled-0", b"smuggled-2"
CANARY = b"alive"
CUT = -1
_LAST = "the-last-line-of-the-log"

_LINE = re.compile(r'"(\S+) (.*) HTTP/1\.[01]" (\d{3}) ')
_TOKEN = re.compile(rb"c[0-9a-f]{12}")

_CONFIGURATION = """
daemon off; master_process off; pid {home}/nginx.pid; error_log {home}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; client_max_body_size 0; large_client_header_buffers 4 16k;
    client_header_timeout 200ms; client_body_timeout 200ms; keepalive_timeout 100ms; send_timeout 2s;
    client_body_temp_path {home}/a; proxy_temp_path {home}/b; fastcgi_temp_path {home}/c; uwsgi_temp_path {home}/d;
    scgi_temp_path {home}/e;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    {servers}
}}
"""
_SERVER = """
    upstream to{port} {{ server 127.0.0.1:{upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{ proxy_pass http://to{port}; proxy_request_buffering {buffering}; }}
    }}
"""


class Read(NamedTuple):
    """A request as somebody has read it.

    :ivar body: of what nginx forwarded.
    :ivar status: of what the server answered; ``CUT`` of what nginx gave up before its end.
    """

    method: str
    target: str
    body: bytes = b""
    status: int = 0


def missing() -> str:
    """Why this cannot run here; "" if it can."""
    return "" if _nginx() else "nginx is not installed"


def _nginx() -> str | None:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Recorder:
    """Stands where the server stands, and writes down what nginx sends, whose framing is beyond doubt.

    :ivar read: token of the case -> requests, in their order.
    """

    def __init__(self) -> None:
        self.read: dict[bytes, list[Read]] = defaultdict(list)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def read_of(self, token: bytes, bucket: bytes) -> list[Read]:
        return [read for read in self.read.get(token, ()) if bucket.decode() in read.target]

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError, EOFError):
            while line := stream.readline():
                fields = {}
                while (field := stream.readline()) != b"\r\n":
                    if not field:
                        return
                    name, _, value = field.partition(b":")
                    fields[name.lower()] = value.strip()
                method, _, rest = line.partition(b" ")
                target = rest.rpartition(b" ")[0]
                read = Read(method.decode("latin-1"), as_logged(target), status=CUT)
                try:
                    read = read._replace(body=_body(stream, fields), status=0)
                finally:
                    for token in _TOKEN.findall(target)[:1]:
                        self.read[token].append(read)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


def _body(stream: object, fields: Mapping[bytes, bytes]) -> bytes:
    """:raises EOFError: it ends too early."""
    read, readline = stream.read, stream.readline  # type: ignore[attr-defined]

    def exactly(length: int) -> bytes:
        pieces = []
        while length:
            data: bytes = read(min(length, 1 << 20))
            if not data:
                raise EOFError
            pieces.append(data)
            length -= len(data)
        return b"".join(pieces)

    if b"transfer-encoding" not in fields:
        return exactly(int(fields.get(b"content-length", b"0")))
    assert fields[b"transfer-encoding"] == b"chunked" and b"content-length" not in fields, fields
    pieces = []
    while True:
        line = readline()
        if not line.endswith(b"\r\n"):
            raise EOFError
        if not (size := int(line, 16)):
            break
        pieces.append(exactly(size))
        exactly(2)
    exactly(2)  # nginx passes no trailers on
    return b"".join(pieces)


def as_logged(target: bytes) -> str:
    """As the server's access log has it."""
    return "".join(chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}" for byte in target)


@contextlib.contextmanager
def nginx(home: Path, upstreams: list[int]) -> Iterator[dict[tuple[int, bool], int]]:
    """nginx before each of these ports, with buffering and without: (port, buffering) -> its own port.

    :raises Hang: it does not start; with its log.
    """
    home.mkdir()
    fronts = [(port, buffering) for port in upstreams for buffering in (True, False)]
    ports = dict(zip(fronts, free_ports(len(fronts)), strict=True))
    servers = "".join(
        _SERVER.format(port=port, upstream=upstream, buffering="on" if buffering else "off")
        for (upstream, buffering), port in ports.items()
    )
    configuration = home / "nginx.conf"
    configuration.write_text(_CONFIGURATION.format(home=home, servers=servers))
    program = _nginx()
    assert program is not None
    command = [program, "-p", str(home), "-c", str(configuration)]
    with (home / "output").open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + SECONDS
        for port in ports.values():
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Hang(f"nginx did not start: {(home / 'output').read_text()}")
                time.sleep(0.02)
        yield ports
    finally:
        process.terminate()
        process.wait(SECONDS)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def send(port: int, data: bytes, *, end: bool) -> bytes:
    """All that is answered until the connection is closed. ``end``: that no more will come is told."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        received = []
        with contextlib.suppress(ConnectionError):
            connection.sendall(data)
            if end:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(1 << 16):
                received.append(piece)
        return b"".join(received)


class Case(NamedTuple):
    name: str
    token: bytes
    text: bytes

    def path(self, bucket: bytes) -> bytes:
        return b"/s3/" + bucket + b"/" + self.token

    def data(self, bucket: bytes, host: bytes) -> bytes:
        return self.text.replace(b"{BUCKET}", bucket).replace(b"{ADDRESS}", host)


def make_cases(mutations: int, seed: int, only: str = "") -> list[Case]:
    """The corpus, and so many changed ones."""
    texts = {name: text for name, text in corpus().items() if only in name}
    names = list(texts)
    cases = []
    for number in range(len(texts) + mutations):
        random = Random(f"{seed} {number}")
        name = names[number] if number < len(names) else random.choice(names)
        token = b"c" + hashlib.sha256(b"%d" % number).hexdigest()[:12].encode()
        text = texts[name]
        if number >= len(names):
            text, name = mangle_bytes(random, text), f"{name}, changed ({number})"
        cases.append(Case(name, token, fill(text, b"/s3/{BUCKET}/" + token, b"{ADDRESS}")))
    return cases


class Rig:
    """The server, nginx before it, nginx before a recorder, and the cases."""

    def __init__(self, server: Server, recorder: Recorder, ports: Mapping[tuple[int, bool], int], log: Path) -> None:
        self.server = server
        self.recorder = recorder
        self.ports = ports
        self._log = log
        self.faults: list[str] = []
        self.host = b"127.0.0.1:%d" % server.port

    def plant(self, cases: list[Case]) -> None:
        for bucket in (ON, OFF, DIRECT):
            assert self.server.ask("PUT", f"/s3/{bucket.decode()}")[0] == 200
            for case in cases:
                self.server.ask("PUT", f"{case.path(bucket).decode()}-canary", CANARY)

    def run(self, case: Case) -> None:
        """To the recorder and to the server, over nginx; then to the server itself."""
        for bucket, buffering in ((ON, True), (OFF, False)):
            for port in (self.recorder.port, self.server.port):
                send(self.ports[port, buffering], case.data(bucket, self.host), end=False)
            self._probe(case, bucket, buffering)
        send(self.server.port, case.data(DIRECT, self.host), end=True)

    def _probe(self, case: Case, bucket: bytes, buffering: bool) -> None:
        """Nothing of the case is left in a connection between nginx and the server."""
        path = f"{case.path(bucket).decode()}-canary"
        for _ in range(PROBES):
            try:
                status, body = self._get(self.ports[self.server.port, buffering], path)
            except ConnectionError:  # this process had no turn for so long that nginx's header time-out cut it
                continue
            except http.client.HTTPException as error:
                self.faults.append(f"{case.name}: what comes after it is answered with no HTTP: {error!r}")
                return
            if (status, body) != (200, CANARY) and (status != 404 or f"{path[4:]}" not in body.decode()):
                self.faults.append(f"{case.name}: what comes after it is answered with {status} {body!r}")
            return
        self.faults.append(f"{case.name}: what comes after it is never answered")

    def _get(self, port: int, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Host": self.host.decode(), "X-Probe": "1"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def answered(self) -> dict[tuple[bytes, bytes], list[Read]]:
        """(token, bucket) -> what the server has read, as its access log has it.

        :raises Hang: the log, which is written each second, is not.
        """
        self.server.ask("GET", f"/s3/{_LAST}")
        deadline = time.monotonic() + SECONDS
        while _LAST not in self._log.read_text():
            if time.monotonic() > deadline:
                raise Hang("the access log is not written")
            time.sleep(0.05)
        found = defaultdict(list)
        for line in self._log.read_text().splitlines():
            parsed = _LINE.search(line)
            assert parsed, line
            method, target, status = parsed.groups()
            bucket = next((name for name in (ON, OFF, DIRECT) if name.decode() in target), b"")
            for token in _TOKEN.findall(target.encode())[:1]:
                found[token, bucket].append(Read(method, target, status=int(status)))
        return found

    def compare(self, case: Case, answered: Mapping[tuple[bytes, bytes], list[Read]]) -> int:
        """Adds what was read differently to the faults; how many requests were read by both."""
        both = 0
        for bucket in (ON, OFF):
            forwarded = self.recorder.read_of(case.token, bucket)
            mine = without_probes(answered[case.token, bucket], case, bucket)
            both += self._judge(case, f"by nginx ({bucket.decode()})", forwarded, mine)
        # Sent directly: where both take the bytes for requests, they take them for the same ones. One may close the
        # connection where the other goes on, but not before what was hidden.
        told = [
            Read(read.method, read.target.replace(ON.decode(), DIRECT.decode()), read.body.replace(ON, DIRECT))
            for read in self.recorder.read_of(case.token, ON)
        ]
        mine = without_probes(answered[case.token, DIRECT], case, DIRECT)
        common = min(len(told), len(mine))
        both += self._judge(case, "directly", told, mine[:common])
        hidden = f"{case.path(DIRECT).decode()}-canary"
        if told and any(read.target == hidden for read in mine[common:]):
            self.faults.append(f"{case.name}: the hidden request was executed, sent directly: {mine}")
        return both

    def _judge(self, case: Case, how: str, forwarded: list[Read], mine: list[Read]) -> int:
        """All that the server has read is among what was forwarded, in that order. (What it refused for its head has no
        target in the log.)"""
        rest = iter(forwarded)
        for read in mine:
            found = next((one for one in rest if one[:2] == read[:2]), None)
            if found is None:
                self.faults.append(f"{case.name}, {how}: the server has read {mine}, and nginx {forwarded}")
                return 0
            if read.method != "PUT" or read.status != 200:
                continue
            if found.status == CUT:
                self.faults.append(f"{case.name}, {how}: what nginx gave up was stored")
            else:
                stored = self._stored(read.target)
                if stored != found.body:
                    self.faults.append(f"{case.name}, {how}: the server has stored {stored!r}, not {found.body!r}")
        return len(mine)

    def _stored(self, target: str) -> bytes:
        raw = re.sub(r"\\x(..)", lambda found: chr(int(found[1], 16)), target).encode("latin-1")
        answer = send(self.server.port, b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (raw, self.host), end=True)
        return answer.partition(b"\r\n\r\n")[2]


def without_probes(reads: list[Read], case: Case, bucket: bytes) -> list[Read]:
    """The canary is planted by a PUT and looked at by a GET; no case does either."""
    canary = f"{case.path(bucket).decode()}-canary"
    return [read for read in reads if read.target != canary or read.method not in ("GET", "PUT")]


def run(forker: Forker, home: Path, *options: str, mutations: int = 0, seed: int = 0, only: str = "") -> Verdict:
    """:param options: of the server. :param only: cases with this in their names."""
    cases = make_cases(mutations, seed, only)
    log = home / "access.log"
    server = Server(forker, home / "server", "--access-log", str(log), *options, sync=False)
    recorder = Recorder()
    began = time.monotonic()
    with serving(server), contextlib.closing(recorder):
        server.start()
        with nginx(home / "nginx", [server.port, recorder.port]) as ports:
            rig = Rig(server, recorder, ports, log)
            rig.plant(cases)
            planted = 3 * len(cases)
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(rig.run, cases))
            answered = rig.answered()
            both = sum(rig.compare(case, answered) for case in cases)
        gone = sum(
            server.ask("GET", f"{case.path(b).decode()}-canary")[1] != CANARY
            for case in cases
            for b in (ON, OFF, DIRECT)
        )
        faults = rig.faults
        if not faults:
            server.stop()
            faults += check_data(server.data)
    faults += [f"{mark!r} in the server's log" for mark in ("Traceback", "Unhandled") if mark in server.log()]
    return faults, {
        "cases": len(cases),
        "forwarded": sum(len(reads) for reads in recorder.read.values()),
        "read by both": both,
        "canaries": planted,
        "rightly deleted": gone,
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    program = Program("reliability.smuggling", __doc__)
    program.add_argument("--mutations", type=int, default=0, help="so many changed cases besides")
    program.add_argument("--only", default="", metavar="TEXT", help="cases with this in their names")
    with program.running() as (options, home), Forker() as forker:
        if why := missing():
            raise SystemExit(why)
        program.report(run(forker, home, mutations=options.mutations, seed=options.seed, only=options.only))


if __name__ == "__main__":
    main()
