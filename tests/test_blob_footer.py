"""A blob says whose it is and what it holds, so that an index can be rebuilt from blobs alone."""

from __future__ import annotations

import hashlib
from pathlib import Path

from server import ServerProcess

from aisobj.storage.blob_format import TRAILER, decode_footer, footer_length


def test_the_footer_names_bucket_key_headers_and_checksum_of_what_was_put(tmp_path: Path) -> None:
    server = ServerProcess(tmp_path, "--checksum", "md5").start()
    data = b"0123456789" * 50_000
    try:
        server.boto().create_bucket(Bucket="bucket")
        server.boto().put_object(
            Bucket="bucket", Key="a/key", Body=data, ContentType="text/plain", Metadata={"colour": "red"}
        )
    finally:
        server.stop()
    (blob,) = (server.data / "blobs").glob("?????/??/*")
    raw = blob.read_bytes()
    start = len(raw) - TRAILER - footer_length(raw[-TRAILER:], len(raw))
    owner = decode_footer(raw[start:-TRAILER], raw[-TRAILER:], len(raw)).owner
    assert owner["key"] == b"a/key"
    assert len(owner["bucket"]) == 16
    assert owner["content-type"] == "text/plain"
    assert owner["metadata"]["x-amz-meta-colour"] == "red"
    assert (owner["checksum-type"], owner["checksum"]) == ("md5", hashlib.md5(data).hexdigest())
