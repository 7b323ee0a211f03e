"""The whole S3 API of a real server, through boto3, against ``s3_oracle``: any sequence of requests gives what plain
dictionaries would.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.config
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from s3_machine import S3Machine
from server import ServerProcess, running

from reliability.sabotage import FORGET_GROUPS
from reliability.server import Forker, Server, serving

#: Sequences of up to STEPS requests; for a long run, thousands.
EXAMPLES = int(os.environ.get("S3_MODEL_EXAMPLES", "100"))
STEPS = 40


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with running(ServerProcess(tmp_path_factory.mktemp("model"), "--checksum", "md5")) as server:
        yield server.boto()


def check(of_client: Any, examples: int, **more: Any) -> None:
    class Machine(S3Machine):
        client = of_client

    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


def test_any_sequence_of_requests_gives_what_the_oracle_says(client: Any) -> None:
    check(client, EXAMPLES)


def test_a_server_with_a_mistake_is_found_out(tmp_path: Path) -> None:
    """A page that begins after a key in a group shows the group again."""
    with Forker() as forker, serving(Server(forker, tmp_path, "--checksum", "md5", FORGET_GROUPS)) as server:
        server.start()
        config = botocore.config.Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}, proxies={})
        session = boto3.session.Session("anyone", "anything", region_name="us-east-1")
        client = session.client("s3", endpoint_url=f"http://127.0.0.1:{server.port}/s3", config=config)
        with pytest.raises(AssertionError, match="list_"):
            check(client, 500, phases=[Phase.generate], derandomize=True)
