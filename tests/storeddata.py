"""What the data directories of ``tests/data`` hold: stored by the servers of earlier commits, with this program.

To add one when a stored form changes, *before* the change is committed (or from a checkout of the commit before)::

    PYTHONPATH=CHECKOUT:tests python tests/storeddata.py tests/data/FORM.tar.xz

It runs the server that is found first, stores what :func:`store` says, kills it with kill -9, and packs its directory.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from server import CREDENTIALS, ServerProcess

SMALL = b"small " * 100
LARGE = b"".join(hashlib.sha256(b"%d" % (number // 64)).digest() for number in range(9000))  # two blocks; packs well
PART = LARGE[:100_000]
LONG = {f"name-{number}": "v" * 100 for number in range(12)}  # too long for an object's own row

#: bucket -> key -> (body, metadata)
OBJECTS = {
    "first": {
        "small": (SMALL, {"a": "b"}),
        "large": (LARGE, {"a": "b"}),
        "overwritten": (SMALL[::-1], {}),
        "empty": (b"", {}),
        "copy": (LARGE, {"a": "b"}),
        "long": (SMALL, LONG),
        "multipart": (PART, {"m": "n"}),
        "dir/\u00fc \u2028/key": (SMALL, {}),
    },
    "with-md5": {"small": (SMALL, {})},
}
#: In progress in the bucket ``first``: its key; one part is there.
UPLOAD = "unfinished"


def store(s3: Any) -> None:
    """Store it all, and some that is gone again."""
    for bucket in OBJECTS:
        s3.create_bucket(Bucket=bucket)
    s3.put_bucket_versioning(Bucket="first", VersioningConfiguration={"Status": "Suspended"})
    for key in ("deleted", "overwritten"):
        s3.put_object(Bucket="first", Key=key, Body=LARGE)
    s3.delete_object(Bucket="first", Key="deleted")
    for bucket, objects in OBJECTS.items():
        for key, (body, metadata) in objects.items():
            which = {"Bucket": bucket, "Key": key}
            if key == "copy":
                s3.copy_object(**which, CopySource={"Bucket": bucket, "Key": "large"})
            elif key == "multipart":
                complete(s3, begin(s3, which, metadata), which)
            else:
                s3.put_object(**which, Body=body, Metadata=metadata, ContentType="text/x-test", CacheControl="no-cache")
    begin(s3, {"Bucket": "first", "Key": UPLOAD}, {})


def begin(s3: Any, which: dict[str, str], metadata: dict[str, str]) -> str:
    """An upload with one part; its id."""
    upload_id: str = s3.create_multipart_upload(**which, Metadata=metadata)["UploadId"]
    s3.upload_part(**which, UploadId=upload_id, PartNumber=1, Body=PART)
    return upload_id


def complete(s3: Any, upload_id: str, which: dict[str, str]) -> None:
    """Complete it with the parts that are there."""
    parts = s3.list_parts(**which, UploadId=upload_id)["Parts"]
    chosen = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in parts]
    s3.complete_multipart_upload(**which, UploadId=upload_id, MultipartUpload={"Parts": chosen})


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as home:
        server = ServerProcess(Path(home), credentials=CREDENTIALS, sync=True)
        if server.workers == 1:  # what came before --workers does not know it
            where = server.command.index("--workers")
            del server.command[where : where + 2]
        server.start()
        try:
            store(server.boto())
        finally:
            for pid in reversed(server.pids()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            server.kill()
        with tarfile.open(target, "w:xz", format=tarfile.PAX_FORMAT, preset=9) as archive:
            for path in sorted(server.data.rglob("*")):
                if path.name not in ("ballast", "lock", "lock.mdb", "writer"):
                    archive.add(path, path.relative_to(server.data), recursive=False, filter=_nobody)


def _nobody(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main(Path(sys.argv[1]))
