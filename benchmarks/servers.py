"""What is measured: ais-s3 itself, its control, and the yardsticks that are no servers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config

from benchmarks.processes import Process, cpu_seconds, memory

ACCESS_KEY, SECRET = "BENCHMARK", "benchmark-secret"
BUCKET = "bench"

_CONTROL = """
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


class Server:
    """A server on loopback. ``start`` it, and ``stop`` it.

    :param home: a directory of its own: data, configuration, log. All servers' are on one file system.
    :ivar url: of its root, without a slash at the end; for S3 with the prefix that its buckets have.
    :ivar tls_url: the same over TLS, or "".
    """

    name = ""
    #: whether it takes S3 requests; others take the path of a file
    s3 = True
    access_key, secret = ACCESS_KEY, SECRET

    def __init__(self, home: Path) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.url = ""
        self.tls_url = ""
        self.process: Process | None = None

    def start(self) -> None:
        """Raises install.Missing where it cannot be installed, RuntimeError where it does not start."""
        raise NotImplementedError

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()
            self.process = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of :attr:`url`."""
        return self.address_of(tls=False)

    def address_of(self, tls: bool) -> tuple[str, int]:
        parts = urlsplit(self.tls_url if tls else self.url)
        assert parts.hostname is not None and parts.port is not None
        return parts.hostname, parts.port

    def cpu(self) -> float:
        """Seconds of user and system time so far, of all its processes."""
        return cpu_seconds(self.process.pid) if self.process is not None else 0.0

    def memory(self) -> dict[str, int]:
        """Bytes of RssAnon + RssShmem by process."""
        return memory(self.process.pid) if self.process is not None else {}

    @cached_property
    def client(self) -> Any:
        """A boto3 client of it."""
        return self.new_client()

    def new_client(self, tls: bool = False) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.tls_url if tls else self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret,
            region_name="us-east-1",
            config=Config(
                signature_version="s3v4", s3={"addressing_style": "path"}, retries={"max_attempts": 1}, read_timeout=120
            ),
        )

    def target(self, operation: str, key: str, tls: bool = False, **parameters: object) -> str:
        """The request target (path and query) of a presigned URL; a plain path where nothing is signed.

        :param operation: boto3's name, as ``get_object``. :param key: "" for an operation on the bucket.
        """
        if not self.s3:
            return f"/{key}"
        named = {"Bucket": BUCKET, **({"Key": key} if key else {}), **parameters}
        client = self.tls_client if tls else self.client
        url: str = client.generate_presigned_url(operation, Params=named, ExpiresIn=86400)
        return "/" + url.split("/", 3)[3]

    @cached_property
    def tls_client(self) -> Any:
        return self.new_client(tls=True)

    def create_bucket(self) -> None:
        if self.s3:
            self.client.create_bucket(Bucket=BUCKET)

    def put(self, key: str, body: bytes) -> None:
        """Store an object, outside of what is measured; where nothing can be stored, nothing happens."""
        if self.s3:
            self.client.put_object(Bucket=BUCKET, Key=key, Body=body)


class Ais(Server):
    """ais-s3 as an operator starts it: credentials, access log, metrics, synced.

    :param options: more of them, as ``--workers 2``.
    """

    name = "ais-s3"

    def __init__(
        self, home: Path, *, options: Sequence[str] = (), certificate: tuple[Path, Path] | None = None
    ) -> None:
        super().__init__(home)
        self.data = home / "data"
        self.options = list(options)
        self.certificate = certificate
        self.started_in = 0.0

    def start(self) -> None:
        credentials = self.home / "credentials"
        credentials.write_text(f"[bench]\naws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET}\n")
        credentials.chmod(0o600)
        log = self.home / "server.log"
        log.unlink(missing_ok=True)
        listen = ["--listen=tcp:0:interface=127.0.0.1"]
        if self.certificate is not None:
            key, certificate = self.certificate
            listen.append(f"--listen=ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}")
        command = [*twistd_ais_s3(), *listen, f"--data={self.data}", f"--credentials={credentials}"]
        command += [f"--access-log={self.home / 'access.log'}", *self.options]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AIS_S3_")}
        self.process = Process(command, log, environment)
        pattern = re.compile(r"listening on (https?://127\.0\.0\.1:\d+)")
        found: list[str] = []

        def ready() -> bool:
            found[:] = pattern.findall(log.read_text(errors="replace"))
            return len(found) >= len(listen) and self._ready(found[0])

        self.started_in = self.process.wait_for(ready)
        urls = {url.partition(":")[0]: url for url in found}
        self.url = f"{urls['http']}/s3"
        self.tls_url = f"{urls['https']}/s3" if "https" in urls else ""

    @staticmethod
    def _ready(url: str) -> bool:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def set_checksum(self, kind: str) -> None:
        """Give the bucket another checksum, over AIStore's API."""
        command = [str(Path(sys.executable).with_name("ais")), "bucket", "props", "set", f"ais://{BUCKET}"]
        environment = os.environ | {
            "AIS_ENDPOINT": self.url.removesuffix("/s3"),
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
        }
        subprocess.run(
            [*command, f"checksum.type={kind}"], env=environment, check=True, capture_output=True, timeout=60
        )


class Control(Server):
    """The plainest resource that twisted.web can serve. It scales the figures to the machine."""

    name = "twisted.web"
    s3 = False

    def start(self) -> None:
        log = self.home / "server.log"
        self.process = Process([sys.executable, "-c", _CONTROL], log)
        self.process.wait_for(lambda: "listening on" in log.read_text())
        [self.url] = re.findall(r"listening on (http://\S+)/", log.read_text())


class Disk(Server):
    """No server: the disk that all of them write to, asked by fio and by a bare loop (``disk``)."""

    name = "disk"
    s3 = False

    def start(self) -> None:
        pass


def twistd_ais_s3() -> list[str]:
    """The command that starts the server of this very checkout's environment."""
    return [str(Path(sys.executable).with_name("twistd")), "-n", "--pidfile=", "ais-s3"]


def has_option(name: str) -> bool:
    """Whether the server knows the option ``--name``."""
    command = [str(Path(sys.executable).with_name("twistd")), "ais-s3", "--help"]
    return f"--{name}" in subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def write_json(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, indent=2))
    return path
