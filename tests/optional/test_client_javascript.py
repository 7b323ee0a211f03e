"""The AWS SDKs for JavaScript: ``npm install @aws-sdk/client-s3 @aws-sdk/lib-storage @aws-sdk/s3-request-presigner
aws-sdk`` somewhere, and that place's ``node_modules`` in ``NODE_PATH``."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from targets import KEYS, Target


@pytest.mark.parametrize(
    ("script", "package"), [("javascript_v3.mjs", "@aws-sdk/client-s3"), ("javascript_v2.cjs", "aws-sdk")]
)
def test_javascript(target: Target, tmp_path: Path, script: str, package: str) -> None:
    if not (Path(os.environ.get("NODE_PATH", "/nonexistent")) / package).exists():
        pytest.skip(f"{package} is not in NODE_PATH")
    node = target.tool("node", home=tmp_path)
    node(Path(__file__).with_name(script), target.s3, target.bucket(), json.dumps(KEYS))
