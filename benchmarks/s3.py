"""Operations per second, MB/s and server CPU per operation, over a real socket with authenticated requests.

Starts a server of its own in a temporary directory (durable, access log and metrics on), and a do-nothing twisted.web
resource as the control: CPU figures mean something next to the control's, since machines differ and are noisy.

Needs ``wrk`` (Debian: ``apt-get install wrk``) and boto3, which signs the URLs beforehand so that the load generator
spends nothing on signatures. ::

    python benchmarks/s3.py                     # a table on standard output
    python benchmarks/s3.py --seconds 10 --connections 64 --rounds 3
"""

from __future__ import annotations

import argparse
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import boto3
from botocore.config import Config

KEYS = 500
LARGE = 64 << 20
ACCESS_KEY, SECRET = "BENCHMARK", "benchmark-secret"

CONTROL = """
from twisted.internet import reactor
from twisted.web import resource, server
class Nothing(resource.Resource):
    isLeaf = True
    def render_GET(self, request):
        request.setHeader(b"Content-Type", b"binary/octet-stream")
        return b"x" * 4096
port = reactor.listenTCP(0, server.Site(Nothing()), interface="127.0.0.1")
print(f"listening on http://127.0.0.1:{port.getHost().port}/", flush=True)
reactor.run()
"""

LUA = """
local urls = {}
for line in io.lines("%(urls)s") do urls[#urls + 1] = line end
local body = nil
if "%(body)s" ~= "" then local f = io.open("%(body)s", "rb"); body = f:read("*all"); f:close() end
local next = 0
init = function(args) math.randomseed(os.time()) end
request = function()
  next = next + 1
  return wrk.format("%(method)s", urls[next %% #urls + 1], nil, body)
end
"""


@dataclass
class Result:
    """One workload, one round."""

    name: str
    operations: int
    seconds: float
    cpu: float  #: seconds of the server's CPU, its index writer included
    size: int  #: bytes an operation moves
    errors: str

    def row(self) -> str:
        rate = self.operations / self.seconds
        return (
            f"{self.name:<28}{rate:>10.0f}/s{rate * self.size / 1e6:>10.1f} MB/s"
            f"{self.cpu / self.operations * 1e3:>10.3f} ms CPU{'  ' + self.errors if self.errors else ''}"
        )


class Server:
    """A process and its children, whose CPU counts."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - as long as the process
        self._process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, env=environment)
        self.url = self._wait()

    def _wait(self) -> str:
        for _ in range(200):
            self._log.seek(0)
            found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", self._log.read())
            if found:
                return found[1]
            time.sleep(0.05)
        self._log.seek(0)
        raise SystemExit(f"the server did not start:\n{self._log.read()}")

    def cpu(self) -> float:
        """Seconds of user and system time so far."""
        return sum(_cpu(pid) for pid in (self._process.pid, *_children(self._process.pid)))

    def memory(self) -> int:
        """Peak-independent RssAnon + RssShmem of all its processes, bytes."""
        return sum(_memory(pid) for pid in (self._process.pid, *_children(self._process.pid)))

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(40)


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return sum(int(kb) * 1024 for kb in re.findall(r"Rss(?:Anon|Shmem):\s+(\d+) kB", status))


@contextmanager
def running(command: Sequence[str], environment: dict[str, str] | None = None) -> Iterator[Server]:
    server = Server(command, environment)
    try:
        yield server
    finally:
        server.stop()


class Bench:
    """The workloads of one run."""

    def __init__(self, server: Server, folder: Path, seconds: float, connections: int) -> None:
        self.server = server
        self.folder = folder
        self.seconds = seconds
        self.connections = connections
        self.client = boto3.client(
            "s3",
            endpoint_url=f"{server.url}/s3",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(signature_version="s3v4", s3={"addressing_style": "path"}),
        )

    def fill(self) -> None:
        """The objects that the reads read."""
        self.client.create_bucket(Bucket="bench")
        for number in range(KEYS):
            self.client.put_object(Bucket="bench", Key=f"small/{number:06}", Body=os.urandom(4096))
        for number in range(1000):
            self.client.put_object(Bucket="bench", Key=f"list/{number:06}", Body=b"")
        self.client.put_object(Bucket="bench", Key="large", Body=os.urandom(LARGE))

    def small(self, name: str, operation: str, method: str, keys: Sequence[str], body: bytes = b"") -> Result:
        urls = [self._sign(operation, {"Key": key}) for key in keys]
        return self.load(name, self.server, urls, method, body, self.connections, 4096)

    def bodiless(self, name: str, operation: str, method: str, keys: Sequence[str]) -> Result:
        """As :meth:`small` for answers without a body, by a loop of our own: wrk waits for the body of a HEAD."""
        requests = [
            f"{method} {self._sign(operation, {'Key': key}).removeprefix(self.server.url)} HTTP/1.1\r\n"
            f"Host: {self.server.url.removeprefix('http://')}\r\n\r\n".encode()
            for key in keys
        ]
        before, started = self.server.cpu(), time.monotonic()
        count, failed = _exchange(self.server.url, requests, self.connections, self.seconds)
        seconds = time.monotonic() - started
        errors = f"failed: {failed}" if failed else ""
        return Result(name, count, seconds, self.server.cpu() - before, 0, errors)

    def list(self) -> Result:
        url = self._sign("list_objects_v2", {"Prefix": "list/"})
        return self.load("LIST 1,000 keys", self.server, [url], "GET", b"", min(4, self.connections), 0)

    def large_get(self) -> Result:
        return self.load("GET 64 MiB", self.server, [self._sign("get_object", {"Key": "large"})], "GET", b"", 4, LARGE)

    def large_put(self) -> Result:
        """PUTs by threads that ``sendfile``: wrk copies a body of this size several times for each request."""
        body = self.folder / "body"
        body.write_bytes(os.urandom(LARGE))
        host, port = self.server.url.removeprefix("http://").split(":")
        end = time.monotonic() + self.seconds

        def put(number: int) -> tuple[int, int]:
            target = self._sign("put_object", {"Key": f"put/{number}"}).removeprefix(self.server.url)
            head = f"PUT {target} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {LARGE}\r\n\r\n"
            done = failed = 0
            with socket.create_connection((host, int(port))) as connection, body.open("rb") as file:
                while time.monotonic() < end:
                    connection.sendall(head.encode())
                    connection.sendfile(file)
                    file.seek(0)
                    failed += not connection.recv(65536).startswith(b"HTTP/1.1 200")
                    done += 1
            return done, failed

        before, started = self.server.cpu(), time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            counts = list(pool.map(put, range(4)))
        seconds = time.monotonic() - started
        failed = sum(f for _, f in counts)
        total = sum(done for done, _ in counts)
        cpu = self.server.cpu() - before
        return Result("PUT 64 MiB durable", total, seconds, cpu, LARGE, f"failed: {failed}" if failed else "")

    def _sign(self, operation: str, parameters: dict[str, str]) -> str:
        url: str = self.client.generate_presigned_url(operation, Params={"Bucket": "bench", **parameters})
        return url

    def load(
        self, name: str, server: Server, urls: Sequence[str], method: str, body: bytes, connections: int, size: int
    ) -> Result:
        """Run wrk over the URLs in turn."""
        base = server.url
        (self.folder / "urls").write_text("\n".join(url.removeprefix(base) for url in urls))
        (self.folder / "body").write_bytes(body)
        script = self.folder / "load.lua"
        script.write_text(
            LUA % {"urls": self.folder / "urls", "body": self.folder / "body" if body else "", "method": method}
        )
        before = server.cpu()
        command = ["wrk", "-t1", f"-c{connections}", f"-d{self.seconds}", "--timeout", "60", "-s", str(script), base]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        cpu = server.cpu() - before
        count, seconds = re.search(r"(\d+) requests in ([\d.]+)s", output).groups()  # type: ignore[union-attr]
        errors = " ".join(line.strip() for line in output.splitlines() if "Non-2xx" in line or "Socket errors" in line)
        return Result(name, int(count), float(seconds), cpu, size, errors)


def _exchange(url: str, requests: Sequence[bytes], connections: int, seconds: float) -> tuple[int, int]:
    """Send the requests in turn on each connection, one at a time; (answers, those that are not 2xx)."""
    host, port = url.removeprefix("http://").split(":")
    selector = selectors.DefaultSelector()
    for _ in range(connections):
        connection = socket.create_connection((host, int(port)))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ)
    waiting = [key.fileobj for key in selector.get_map().values()]
    sent = count = failed = 0
    end = time.monotonic() + seconds
    for connection in waiting:
        connection.send(requests[sent % len(requests)])  # type: ignore[union-attr]
        sent += 1
    while count < sent:
        for key, _ in selector.select():
            answer = key.fileobj.recv(65536)  # type: ignore[union-attr]
            count += 1
            failed += not answer.startswith(b"HTTP/1.1 2")
            if time.monotonic() < end:
                key.fileobj.send(requests[sent % len(requests)])  # type: ignore[union-attr]
                sent += 1
    for connection in waiting:
        connection.close()  # type: ignore[union-attr]
    return count, failed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=5, help="of each workload (default 5)")
    parser.add_argument("--connections", type=int, default=16, help="for small objects (default 16)")
    parser.add_argument("--rounds", type=int, default=1, help="of everything (default 1)")
    parser.add_argument("--no-large", action="store_true", help="small objects only")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ais-s3-bench-") as name:
        folder = Path(name)
        credentials = folder / "credentials"
        credentials.write_text(f"[bench]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
        credentials.chmod(0o600)
        command = [
            str(Path(sys.executable).with_name("twistd")),
            "-n",
            "--pidfile=",
            "ais-s3",
            "--listen=tcp:0:interface=127.0.0.1",
            f"--data={folder / 'data'}",
            f"--credentials={credentials}",
            f"--access-log={folder / 'access.log'}",
        ]
        with running(command) as server, running([sys.executable, "-c", CONTROL]) as control:
            bench = Bench(server, folder, arguments.seconds, arguments.connections)
            bench.fill()
            keys = [f"small/{number:06}" for number in range(KEYS)]
            for _ in range(arguments.rounds):
                url = f"{control.url}/"
                print(bench.load("do-nothing twisted.web", control, [url], "GET", b"", bench.connections, 4096).row())
                print(bench.small("GET 4 KiB", "get_object", "GET", keys).row())
                print(bench.bodiless("HEAD 4 KiB", "head_object", "HEAD", keys).row())
                new = [f"new/{number:06}" for number in range(2000)]
                print(bench.small("PUT 4 KiB durable", "put_object", "PUT", new, os.urandom(4096)).row())
                print(bench.list().row())
                if not arguments.no_large:
                    print(bench.large_get().row())
                    print(bench.large_put().row())
            print(f"memory (RssAnon + RssShmem): {server.memory() / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
