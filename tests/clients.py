"""Other people's command lines as a test runs them: in a home of their own, with no setting of the developer's."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from server import ServerProcess, environment

HANG_SECONDS = 90.0  #: no command needs a tenth of it

#: Any will do for a server without credentials.
DUMMY = ("anyone", "anything")


class Done(NamedTuple):
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Tool:
    """A program with its first arguments and its surroundings; call it with the others.

    :param home: HOME and working directory.
    :param optional: it may be missing in CI too; the test is skipped then.
    """

    def __init__(
        self, program: str, *arguments: str, home: Path, env: Mapping[str, str] | None = None, optional: bool = False
    ) -> None:
        self.command = (_path_of(program, optional), *arguments)
        self.home = home
        self._env = environment(HOME=str(home), TZ="UTC", **(env or {}))
        # s3cmd is Debian's, with Debian's Python: nothing of ours may reach it.
        self._env.pop("PYTHONPATH", None)

    def with_options(self, *arguments: str) -> Tool:
        made = Tool.__new__(Tool)
        made.command, made.home, made._env = (*self.command, *arguments), self.home, self._env
        return made

    def __call__(self, *arguments: str | Path, status: int | None = 0, stdin: bytes = b"") -> Done:
        """Run it.

        :param status: the exit status that is right; None: any failure, for a tool whose releases differ.
        """
        command = [*self.command, *map(str, arguments)]
        ended = subprocess.run(
            command, cwd=self.home, env=self._env, input=stdin, capture_output=True, timeout=HANG_SECONDS, check=False
        )
        done = Done(ended.returncode, ended.stdout.decode(errors="replace"), ended.stderr.decode(errors="replace"))
        assert done.status if status is None else done.status == status, (command, done)
        return done


def _path_of(program: str, optional: bool) -> str:
    """Beside our Python, else wherever; a test that has not got its client is skipped, but in CI only if it may."""
    beside = Path(sys.executable).with_name(program)
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        if os.environ.get("CI") and not optional:
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
    return found


def aws(server: ServerProcess, home: Path, user: str | None = "alice", endpoint: str = "", **env_more: str) -> Tool:
    """The AWS CLI.

    :param user: whose keys it signs with (dummy ones if the server is open), None for ``--no-sign-request``.
    :param endpoint: default: ``server.s3``.
    :param env_more: further variables.
    """
    env = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_PAGER": "", "AWS_MAX_ATTEMPTS": "1"}
    unsigned = []
    if user is None:
        unsigned = ["--no-sign-request"]
    else:
        env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"] = keys_of(server, user)
    return Tool("aws", "--endpoint-url", endpoint or server.s3, *unsigned, home=home, env=env | env_more)


def s3cmd(server: ServerProcess, home: Path, user: str = "alice", host_bucket: str = "{host}/s3") -> Tool:
    """s3cmd with a ``~/.s3cfg`` as docs/getting-started.md has it.

    :param host_bucket: ``{host}`` stands for ``127.0.0.1:PORT``.
    """
    host = server.endpoint.partition("://")[2]
    access_key, secret = keys_of(server, user)
    config = configparser.RawConfigParser()
    config["default"] = {
        "access_key": access_key,
        "secret_key": secret,
        "host_base": f"{host}/s3",
        "host_bucket": host_bucket.format(host=host),
        "use_https": "False",
    }
    with (home / ".s3cfg").open("w") as file:
        config.write(file)
    return Tool("s3cmd", "--no-progress", home=home)


def keys_of(server: ServerProcess, user: str = "alice") -> tuple[str, str]:
    return DUMMY if server.credentials is None else server.credentials[user]
