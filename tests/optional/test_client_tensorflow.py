"""TensorFlow through tensorflow-io (an old AWS SDK for C++), in a process of its own, since it aborts as it ends."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from targets import Target

SCRIPT = """
import os, sys
import tensorflow as tf, tensorflow_io
gfile, root = tf.io.gfile, sys.argv[1]
with tf.io.TFRecordWriter(f"{root}/train a+b.tfrecord") as writer:
    for number in range(1000):
        writer.write(b"%d" % number)
assert [int(r) for r in tf.data.TFRecordDataset(f"{root}/train a+b.tfrecord").as_numpy_iterator()] == list(range(1000))
content = os.urandom(20 << 20)
with gfile.GFile(f"{root}/large", "wb") as file:
    file.write(content)
with gfile.GFile(f"{root}/large", "rb") as file:
    assert file.read() == content
    file.seek(1000)
    assert file.read(10) == content[1000:1010]
for mode in "wa":
    with gfile.GFile(f"{root}/text", mode) as file:
        file.write("line")
gfile.copy(f"{root}/text", f"{root}/ü copy")
gfile.rename(f"{root}/ü copy", f"{root}/renamed")
assert gfile.GFile(f"{root}/renamed").read() == "lineline"
assert sorted(gfile.listdir(root)) == ["large", "renamed", "text", "train a+b.tfrecord"]
gfile.makedirs(f"{root}/d/e")
for number in range(1020):
    with gfile.GFile(f"{root}/d/e/{number}", "w") as file:
        file.write("x")
assert len(gfile.listdir(f"{root}/d/e")) == 1020
checkpoint = tf.train.Checkpoint(v=tf.Variable(tf.random.normal([1000, 1000])))
manager = tf.train.CheckpointManager(checkpoint, f"{root}/checkpoints", max_to_keep=2)
for _ in range(4):
    manager.save()
checkpoint.restore(manager.latest_checkpoint).assert_consumed()
gfile.rmtree(root)
assert not gfile.exists(f"{root}/large")
os._exit(0)
"""


def test_tensorflow(target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(importlib.util.find_spec(name) is None for name in ("tensorflow", "tensorflow_io")):
        pytest.skip("tensorflow and tensorflow-io are not installed")
    if target.ca is not None:
        pytest.skip("it takes only the authorities of the system's own store")
    monkeypatch.setenv("S3_ENDPOINT", target.s3)
    command = [sys.executable, "-", f"s3://{target.bucket()}/root"]
    done = subprocess.run(command, input=SCRIPT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3_000:]
