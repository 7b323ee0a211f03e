"""``ais-s3 scrub``: how it ends, and where the next one goes on."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from server import ServerProcess
from test_tools import some_objects
from tools import SECONDS, start_tool, tool, tool_json
from workerkit import until

from aisobj.storage.lmdb_env import open_environment
from aisobj.storage.scrub import Progress, load_progress


@pytest.mark.parametrize(
    ("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_scrub_that_is_ended_says_so_and_the_next_one_goes_on(
    make_server: Callable[..., ServerProcess], tmp_path: Path, ending: signal.Signals, status: int
) -> None:
    server = make_server()
    some_objects(server)
    server.stop()
    whole = tool_json(server.data, "scrub")[1]
    state = tmp_path / "state"
    with start_tool(server.data, "scrub", "--state", state, "--rate", "0.01", "--json") as running:
        until(state.exists, "it is there from the start")
        if ending == signal.SIGKILL:
            until(lambda: json.loads(state.read_bytes())["rows"] > 0, "it is saved again before much has been done")
        running.send_signal(ending)
        output, errors = running.communicate(timeout=SECONDS)
    assert (running.returncode, output) == (status, "")
    assert errors == ("" if ending == signal.SIGKILL else f"ais-s3: ended by {ending.name}\n")
    left = json.loads(state.read_bytes())
    assert left["rows"] <= whole["rows"] and not left["finished"]
    found = tool_json(server.data, "scrub", "--state", state)[1]
    assert found["started"] == left["started"]
    assert [found[name] for name in ("rows", "blobs", "bytes")] == [whole[name] for name in ("rows", "blobs", "bytes")]


def test_a_scrub_that_is_ended_within_a_blob_begins_it_anew(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = make_server()
    some_objects(server)
    server.stop()
    state, begun = tmp_path / "state", json.dumps({"started": 1.0, "rows_done": True})
    state.write_text(begun)
    whole = tool_json(server.data, "scrub", "--state", state)[1]
    state.write_text(begun)
    with start_tool(server.data, "scrub", "--state", state, "--rate", "2") as running:
        until(lambda: json.loads(state.read_bytes()).get("blobs", 0) > 0, "a blob has been read")
        running.terminate()
        assert running.wait(SECONDS) == 143
    found = tool_json(server.data, "scrub", "--state", state)[1]
    assert [found[name] for name in ("blobs", "bytes")] == [whole[name] for name in ("blobs", "bytes")]


@pytest.mark.parametrize(
    "content",
    [
        *('{"started": 1, "blob": "zz"}', '{"started": 1, "partition": "0"}', '{"started": 1, "row": "\\n"}'),
        *('{"started": 1.0, "blob": "00', '{"started": "yesterday"}', '{"rows": -1}', '{"rows": 1e99}'),
        *("", "[]", "not JSON", "\udcff", '{"scripts": {}}', None),
    ],
)
def test_a_state_that_is_none_is_refused_in_one_line_and_stays(tmp_path: Path, content: str | None) -> None:
    data, state = tmp_path / "data", tmp_path / "state"
    data.mkdir()
    open_environment(data / "index", sync=False).close()
    if content is None:
        state.mkdir()
    else:
        state.write_text(content, errors="surrogateescape")
    status, text = tool(data, "scrub", "--state", state)
    assert status == 2
    assert text.startswith("ais-s3: ") and text.count("\n") == 1 and str(state) in text
    assert content is None or state.read_text(errors="surrogateescape") == content
    # The server's own is another matter: it begins anew.
    assert load_progress(state) == Progress()
