"""A server that is killed leaves its index writer at work for a moment: nobody else may begin before it has finished.

Otherwise the next server would find a blob that no row owns yet, remove it, and the writer would then commit the row.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest
from server import START_SECONDS, ServerProcess


@pytest.mark.parametrize("workers", [1, 2])
def test_a_start_is_refused_while_the_writer_of_a_killed_server_runs_and_works_once_it_has_ended(
    tmp_path: Path, workers: int
) -> None:
    server = ServerProcess(tmp_path / "first", workers=workers).start()
    server.boto().create_bucket(Bucket="bucket")
    writer = server.writer_pid
    os.kill(writer, signal.SIGSTOP)
    try:
        server.kill()
        second = ServerProcess(tmp_path / "second", data=server.data)
        with pytest.raises(RuntimeError, match="another server is using the data directory"):
            second.start()
    finally:
        os.kill(writer, signal.SIGCONT)
    subprocess.run(["tail", f"--pid={writer}", "-f", "/dev/null"], timeout=START_SECONDS, check=True)
    second.start()
    try:
        assert second.boto().list_buckets()["Buckets"][0]["Name"] == "bucket"
    finally:
        second.stop()
