"""The settings in docs/getting-started.md, run word for word against a server with credentials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from server import environment
from targets import Target

PAGE = (Path(__file__).parents[2] / "docs" / "getting-started.md").read_text()

#: Which programs a shell block calls, by a word that stands in it.
PROGRAMS = ("aws", "rclone", "s5cmd", "s4cmd", "curl", "restic", "duplicity", "gdalinfo", "s3")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
MODULES = (
    *("boto3", "cloudpathlib", "deltalake", "duckdb", "icechunk", "minio", "obstore", "pandas", "polars", "pyarrow"),
    *("s3fs", "s3torchconnector", "smart_open", "tensorflow", "tensorflow_io", "tensorstore"),
)
SUBMODULES = {"pyarrow": "pyarrow.fs, pyarrow.parquet", "obstore": "obstore.store"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def label(block: str) -> str:
    return " ".join(re.findall(r"\w+", block)[:6])


@pytest.fixture
def home(both_ways: Mapping[str, Target], tmp_path: Path) -> Path:
    """Where the page's reader stands: a folder with data, and a bucket with what the page reads."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/a b").write_text("hello")
    (tmp_path / "file.txt").write_text("hello")
    target = both_ways["credentials"]
    boto = target.boto()
    if "my-bucket" not in [bucket["Name"] for bucket in boto.list_buckets()["Buckets"]]:
        boto.create_bucket(Bucket="my-bucket")
    boto.put_object(Bucket="my-bucket", Key="train/1", Body=b"hello")
    boto.put_object(Bucket="my-bucket", Key="train.tfrecord", Body=b"")
    try:
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        return tmp_path
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3]}), tmp_path / "t.parquet")
    boto.upload_file(str(tmp_path / "t.parquet"), "my-bucket", "t.parquet")
    return tmp_path


def run(target: Target, home: Path, command: list[str], text: str) -> subprocess.CompletedProcess[str]:
    env = environment(**target.env(), HOME=str(home), S3_ENDPOINT=target.s3)
    del env["PYTHONPATH"]  # programs of the system's Python take nothing of ours
    env["PATH"] = PATH
    env |= {"S3_ACCESS_KEY": target.key, "S3_SECRET_KEY": target.secret}  # as the page says of s4cmd
    return subprocess.run(
        command, cwd=home, env=env, input=text, capture_output=True, text=True, timeout=120, check=False
    )


def told(target: Target, block: str) -> str:
    """With the reader's own values for the page's placeholders."""
    block = block.replace("HOST:8080", target.host).replace("KEY:SECRET", f"{target.key}:{target.secret}")
    values = {"KEY": target.key, "SECRET": target.secret}
    return re.sub(r"""(?<=['"=])(KEY|SECRET)\b""", lambda found: values[found[0]], block)


@pytest.mark.parametrize("block", [block for block in blocks("sh") if "HOST:8080" in block], ids=label)
def test_shell(both_ways: Mapping[str, Target], home: Path, block: str) -> None:
    target = both_ways["credentials"]
    called = [name for name in PROGRAMS if re.search(rf"^{name} ", block, re.MULTILINE)]
    if not called or any(shutil.which(name, path=PATH) is None for name in called):
        pytest.skip(f"not installed: {called}")
    if "mb s3://my-bucket" in block:
        block = block.replace("my-bucket", "another-bucket")
    if "gdalinfo" in block:
        (home / "image.pgm").write_bytes(b"P5 2 2 255\n....")
        target.boto().upload_file(str(home / "image.pgm"), "my-bucket", "image.tif")
    done = run(target, home, ["bash", "-euo", "pipefail"], told(target, block))
    assert done.returncode == 0, done


@pytest.mark.parametrize("block", blocks("python"), ids=label)
def test_python(both_ways: Mapping[str, Target], home: Path, block: str) -> None:
    target = both_ways["credentials"]
    needed = [name for name in MODULES if re.search(rf"\b{name}\.", block) or f"import {name}" in block]
    for name in needed:
        pytest.importorskip(name)
    imports = "".join(f"import {name}\nimport {SUBMODULES.get(name, name)}\n" for name in needed)
    ended = "\nimport os\nos._exit(0)\n" if "tensorflow" in block else "\n"  # its own fault, as the page says
    done = run(target, home, [sys.executable, "-"], imports + told(target, block) + ended)
    assert done.returncode == 0, done


@pytest.mark.parametrize("block", blocks("sql"), ids=label)
def test_sql(both_ways: Mapping[str, Target], home: Path, block: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    if not (home / "t.parquet").exists():
        pytest.skip("pyarrow, which writes the file, is not installed")
    connection = duckdb.connect()
    try:
        connection.execute("LOAD httpfs")
    except duckdb.Error:
        pytest.skip("httpfs is not installed")
    install = "INSTALL httpfs; "
    assert install in block
    for statement in told(both_ways["credentials"], block.replace(install, "")).split(";"):
        if statement.strip():
            connection.execute(statement)
    assert connection.fetchall() == [(3,)]
