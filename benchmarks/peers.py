"""Other servers, each set up as is fair to it."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.install import program
from benchmarks.processes import Process, answers, free_ports
from benchmarks.servers import BUCKET, Server, write_json

_NGINX = """
{user}
worker_processes 1;
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{ worker_connections 1024; }}
http {{
    access_log {home}/access.log;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/t1; fastcgi_temp_path {home}/t2; uwsgi_temp_path {home}/t3; scgi_temp_path {home}/t4;
    client_max_body_size 0;
    sendfile on;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 600s;
    default_type binary/octet-stream;
    server {{
        listen 127.0.0.1:{port} backlog=1024;
        listen 127.0.0.1:{tls_port} ssl backlog=1024;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        root {home}/www;
        dav_methods PUT DELETE;
        create_full_put_path on;
    }}
}}
"""


class Nginx(Server):
    """The practical limit: files by sendfile, one worker, access log on. PUT by its WebDAV module, which never syncs.

    The body of a PUT is spooled to a directory on the same file system and renamed, which is its quickest way.
    """

    name = "nginx"
    s3 = False

    def __init__(self, home: Path, certificate: tuple[Path, Path]) -> None:
        super().__init__(home)
        self._key, self._certificate = certificate

    def start(self) -> None:
        nginx = program("nginx")
        port, tls_port = free_ports(2)
        (self.home / "www").mkdir(exist_ok=True)
        configuration = self.home / "nginx.conf"
        configuration.write_text(
            _NGINX.format(
                user="user root;" if os.geteuid() == 0 else "",
                home=self.home,
                port=port,
                tls_port=tls_port,
                key=self._key,
                certificate=self._certificate,
            )
        )
        command = [nginx, "-c", str(configuration), "-p", str(self.home)]
        self.process = Process(command, self.home / "server.log")
        self.process.wait_for(lambda: answers(port))
        self.url, self.tls_url = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}"

    def put(self, key: str, body: bytes) -> None:
        path = self.home / "www" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)


class SeaweedFS(Server):
    """``weed server -s3`` with its own defaults and one user: it verifies signatures, and never syncs."""

    name = "seaweedfs"

    def start(self) -> None:
        weed = program("weed")
        user = {"name": "bench", "credentials": [{"accessKey": self.access_key, "secretKey": self.secret}]}
        configuration = write_json(
            self.home / "s3.json",
            {"identities": [{**user, "actions": ["Admin", "Read", "Write", "List", "Tagging"]}]},
        )
        names = ("master.port", "volume.port", "filer.port", "s3.port")
        ports = dict(zip((*names, *(f"{name}.grpc" for name in names)), free_ports(2 * len(names)), strict=True))
        (self.home / "data").mkdir(exist_ok=True)
        command = [weed, f"-logdir={self.home}", "server", "-s3", f"-dir={self.home / 'data'}", "-ip=127.0.0.1"]
        command += ["-ip.bind=127.0.0.1", f"-s3.config={configuration}", "-master.telemetry=false"]
        command += [f"-{name}={port}" for name, port in ports.items()]
        self.process = Process(command, self.home / "server.log")
        self.url = f"http://127.0.0.1:{ports['s3.port']}"
        self.process.wait_for(self._takes_writes, 90)

    def _takes_writes(self) -> bool:
        """Its parts find each other only after its port is open."""
        try:
            if not answers(self.address[1]):
                return False
            super().create_bucket()
            self.put("ready", b"ready")
        except Exception:  # botocore's own hierarchy, and what it passes through
            return False
        return True

    def create_bucket(self) -> None:
        """The one that it was waited for: each bucket takes volumes, of which there are few by default."""


class Moto(Server):
    """``moto_server``: in memory, does not verify signatures."""

    name = "moto"

    def start(self) -> None:
        (port,) = free_ports(1)
        command = [program("moto_server"), "-H", "127.0.0.1", "-p", str(port)]
        self.process = Process(command, self.home / "server.log")
        self.url = f"http://127.0.0.1:{port}"
        self.process.wait_for(lambda: answers(port))


class S3rver(Server):
    """``s3rver``: verifies signatures, knows one user, never syncs."""

    name = "s3rver"
    access_key, secret = "S3RVER", "S3RVER"

    def start(self) -> None:
        (port,) = free_ports(1)
        data = self.home / "data"
        data.mkdir(exist_ok=True)
        command = [program("s3rver"), "-d", str(data), "-a", "127.0.0.1", "-p", str(port), "--silent"]
        self.process = Process([*command, "--no-vhost-buckets", "--configure-bucket", BUCKET], self.home / "server.log")
        self.url = f"http://127.0.0.1:{port}"
        self.process.wait_for(lambda: answers(port))

    def create_bucket(self) -> None:
        """It has been told to make it."""
