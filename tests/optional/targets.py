"""A server as a client is told of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from clients import Tool, keys_of
from s3fixtures import fresh_name
from server import ServerProcess

MIB = 1 << 20

#: What a key may look like; which of them a client cannot write is said in its test.
KEYS = (
    "plain",
    "with space/and+plus",
    "percent%20and%2Fand%",
    "ünï/日本/🎉",
    "a//b",
    "folder/",
    "q?x=1&y#z",
    "~!*'();:@=$,[]",
    "back\\slash",
)


class Target(NamedTuple):
    """One way into a server.

    :ivar url: of the root, ``http://127.0.0.1:PORT``.
    :ivar ca: the certificate that speaks for the server, None for http.
    """

    server: ServerProcess
    url: str
    ca: Path | None

    @property
    def s3(self) -> str:
        return f"{self.url}/s3"

    @property
    def host(self) -> str:
        """``127.0.0.1:PORT``."""
        return self.url.partition("://")[2]

    @property
    def scheme(self) -> str:
        return self.url.partition("://")[0]

    @property
    def key(self) -> str:
        return keys_of(self.server)[0]

    @property
    def secret(self) -> str:
        return keys_of(self.server)[1]

    def boto(self, **options: Any) -> Any:
        """A client that says what is really there."""
        return self.server.boto(endpoint_url=self.s3, verify=str(self.ca) if self.ca else None, **options)

    def bucket(self) -> str:
        """A new one."""
        name = fresh_name()
        self.boto().create_bucket(Bucket=name)
        return name

    def keys(self, bucket: str) -> list[str]:
        pages = self.boto().get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [entry["Key"] for page in pages for entry in page.get("Contents", ())]

    def env(self) -> dict[str, str]:
        """The variables that most clients read."""
        env = {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        if self.ca is not None:
            # botocore, Go and Rust programs, curl, node: each has its own.
            for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
                env[name] = str(self.ca)
        return env

    def tool(self, program: str, *arguments: str, home: Path, **env: str) -> Tool:
        """A program with these variables; the test is skipped without it."""
        return Tool(program, *arguments, home=home, env=self.env() | env, optional=True)
