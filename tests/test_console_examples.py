"""The console examples of AIStore's S3 document that are not ``ais`` (those are in test_cli.py), on a fresh server.

The document's ``s3cmd --host http://localhost:8080/s3 s3 mb s3://bck1`` mixes two tools: ``s3 mb`` is the AWS CLI's,
and so is the output that it shows. Each line is run as s3cmd without the stray ``s3``, and as ``aws s3`` with
``--endpoint-url``. "Remove a bucket" shows a ``mb`` and a bucket ``aws1``; it removes ``bck1``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from clients import Tool, aws, s3cmd
from server import ServerProcess

_DATE = r"\d{4}-\d\d-\d\d \d\d:\d\d"


def test_the_aws_cli_prints_what_the_document_shows(make_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    run = aws(make_server(), tmp_path, None)
    assert run("s3", "mb", "s3://bck1").out == "make_bucket: bck1\n"
    assert re.fullmatch(rf"{_DATE}:\d\d bck1\n", run("s3", "ls", "s3://").out)
    assert run("s3", "rb", "s3://bck1").out == "remove_bucket: bck1\n"
    assert run("s3", "ls", "s3://").out == ""


def test_s3cmd_with_the_documents_host(make_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """The scheme in ``--host`` is the document's. Its reader's ``~/.s3cfg`` must say that buckets have no host of their
    own and that there is no TLS, since s3cmd's defaults are Amazon's."""
    server = make_server()
    config = s3cmd(server, tmp_path).home / ".s3cfg"
    config.write_text(re.sub(r"(?m)^host_base = .*\n", "", config.read_text()))
    run = Tool("s3cmd", "--host", f"http://localhost:{server.port}/s3", home=tmp_path)
    assert run("mb", "s3://bck1").out == "Bucket 's3://bck1/' created\n"
    assert re.fullmatch(rf"{_DATE}  s3://bck1\n", run("ls", "s3://").out)
    assert run("rb", "s3://bck1").out == "Bucket 's3://bck1/' removed\n"
    assert run("ls", "s3://").out == ""
