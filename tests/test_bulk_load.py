"""What ``benchmarks/bulk_load.py`` makes is what as many PUTs would have made."""

from __future__ import annotations

import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from server import ServerProcess

ROOT = Path(__file__).parent.parent
COUNT = 21_500  # two whole commits and a part of one


@pytest.fixture
def loaded(tmp_path: Path) -> ServerProcess:
    command = [sys.executable, "-m", "benchmarks.bulk_load", str(tmp_path / "home" / "data"), str(COUNT)]
    subprocess.run([*command, "--bucket=bench"], cwd=ROOT, check=True, timeout=120)
    return ServerProcess(tmp_path / "home")


def test_every_object_is_there_and_counted(loaded: ServerProcess) -> None:
    loaded.start()
    try:
        client = loaded.boto()
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="bench")
        found = [entry for page in pages for entry in page["Contents"]]
        prefixes = client.list_objects_v2(Bucket="bench", Delimiter="/")["CommonPrefixes"]
        client.put_object(Bucket="bench", Key="put", Body=b"")
        made, put = found[0], client.head_object(Bucket="bench", Key="put")
        with urllib.request.urlopen(f"{loaded.endpoint}/metrics", timeout=10) as answer:
            metrics = answer.read().decode()
    finally:
        loaded.stop()
    assert [entry["Key"].partition("/")[2] for entry in found] == [f"{number:010}" for number in range(COUNT)]
    assert len(prefixes) == 100
    assert made["ETag"] == put["ETag"]
    assert re.search(rf"^ais_s3_objects\S* {COUNT + 1}\.0$", metrics, re.MULTILINE), metrics


def test_an_upload_of_linked_parts_completes_and_is_read_back_part_for_part(tmp_path: Path) -> None:
    server, parts, size = ServerProcess(tmp_path / "home"), 3, 5 << 20
    server.start()
    server.boto().create_bucket(Bucket="bench")
    server.stop()
    command = [sys.executable, "-m", "benchmarks.bulk_upload", str(tmp_path / "home" / "data"), "huge"]
    made = subprocess.run(
        [*command, str(parts), str(size)], cwd=ROOT, check=True, capture_output=True, text=True, timeout=120
    )
    [(key, upload)] = [line.split() for line in made.stdout.splitlines()]
    server.start()
    try:
        client = server.boto()
        listed = client.list_parts(Bucket="bench", Key=key, UploadId=upload)["Parts"]
        chosen = {"Parts": [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in listed]}
        client.complete_multipart_upload(Bucket="bench", Key=key, UploadId=upload, MultipartUpload=chosen)
        body = client.get_object(Bucket="bench", Key=key)["Body"].read()
    finally:
        server.stop()
    assert len(body) == parts * size
    assert body == body[:size] * parts
