"""``ais-s3`` on the data directory of a real server: beside it, after it, and where it has come to grief."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3raw import Sender
from server import ServerProcess
from test_error_codes import blob_of
from test_s3_trouble import corrupt_objects
from tools import tool, tool_json
from workerkit import until

MIB = 1 << 20


def some_objects(server: ServerProcess, bucket: str = "bucket") -> dict[str, bytes]:
    """One of each kind: inline, a file, a multipart one (two blobs), a copy; and an upload under way."""
    client = server.boto()
    client.create_bucket(Bucket=bucket)
    want = {"small": os.urandom(500), "large": os.urandom(300_000), "parts": os.urandom(5 * MIB + 100)}
    for key in ("small", "large"):
        client.put_object(Bucket=bucket, Key=key, Body=want[key], Metadata={"n": key * 60})
    names = {"Bucket": bucket, "Key": "parts"}
    upload = client.create_multipart_upload(**names)["UploadId"]
    pieces = [want["parts"][: 5 * MIB], want["parts"][5 * MIB :]]
    parts = [
        {
            "PartNumber": n,
            "ETag": client.upload_part(**names, UploadId=upload, PartNumber=n, Body=piece)["ETag"],
        }
        for n, piece in enumerate(pieces, 1)
    ]
    client.complete_multipart_upload(**names, UploadId=upload, MultipartUpload={"Parts": parts})
    client.copy_object(Bucket=bucket, Key="copy", CopySource=f"{bucket}/large")
    want["copy"] = want["large"]
    open_upload = client.create_multipart_upload(Bucket=bucket, Key="open")["UploadId"]
    client.upload_part(Bucket=bucket, Key="open", UploadId=open_upload, PartNumber=1, Body=b"x" * 100)
    return want


def stored(server: ServerProcess, bucket: str = "bucket") -> dict[str, bytes]:
    client = server.boto()
    listed = client.list_objects_v2(Bucket=bucket).get("Contents", [])
    return {found["Key"]: client.get_object(Bucket=bucket, Key=found["Key"])["Body"].read() for found in listed}


@contextlib.contextmanager
def written_to(server: ServerProcess) -> Iterator[None]:
    """A bucket that changes all the time: puts, overwrites, deletes, small and large."""
    end = threading.Event()
    failures: list[BaseException] = []

    def run(seed: int) -> None:
        chance = random.Random(seed)
        sender = Sender(server.endpoint)
        try:
            while not end.is_set():
                path = f"/s3/busy/k{chance.randrange(600)}"
                if chance.random() < 0.3:
                    sender.ask("DELETE", path)
                else:
                    sender.ask("PUT", path, body=bytes(chance.choice([10, 1000, 70_000])))
                time.sleep(0.002)
        except BaseException as error:
            failures.append(error)

    server.boto().create_bucket(Bucket="busy")
    threads = [threading.Thread(target=run, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(0.5)
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()
    assert not failures


def flip(path: Path, position: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        old = file.read(1)[0]
        file.seek(position)
        file.write(bytes([old ^ 1]))


def test_a_sound_store_is_sound_beside_its_server_and_after_it(make_server: Callable[..., ServerProcess]) -> None:
    server = make_server()
    want = some_objects(server)
    with written_to(server):
        for arguments in (["fsck"], ["fsck", "--deep"], ["scrub"]):
            status, found = tool_json(server.data, *arguments)
            assert (status, found["sound"]) == (0, True), found
    assert found["bytes"] > sum(map(len, want.values()))
    assert tool_json(server.data, "fsck")[1]["online"]
    server.stop()
    status, found = tool_json(server.data, "fsck", "--deep")
    assert (status, found["sound"], found["online"]) == (0, True, False), found
    assert found["objects"] >= len(want)


def test_faults_are_found_beside_a_server_that_writes(make_server: Callable[..., ServerProcess]) -> None:
    server = make_server()
    some_objects(server)
    path = blob_of(server.data, 5 * MIB)
    with written_to(server):
        path.rename(path.with_suffix(".hidden"))
        status, found = tool_json(server.data, "fsck")
        assert (status, found["faults"]) == (1, [f"bucket: {path.name} is lost"])
        path.with_suffix(".hidden").rename(path)
        flip(path, 3 * MIB)
        assert tool_json(server.data, "fsck")[0] == 0
        status, found = tool_json(server.data, "fsck", "--deep")
        assert status == 1 and len(found["faults"]) == 1 and path.name in found["faults"][0]
        status, found = tool_json(server.data, "scrub")
        assert status == 1 and len(found["corrupt"]) == 1 and path.name in found["corrupt"][0]
        assert path.exists()  # it only reads
        assert tool(server.data, "scrub", "--quarantine")[0] == 2  # for that the server must not run
    server.stop()
    assert tool(server.data, "scrub", "--quarantine")[0] == 1
    assert not path.exists()
    assert tool(server.data, "scrub")[0] == 0
    assert tool(server.data, "fsck")[0] == 1  # its object is not to be had
    server.start()
    sender = Sender(server.endpoint)
    assert sender.ask("GET", "/s3/bucket/parts").status == 500
    assert corrupt_objects(sender) == 1
    assert sender.ask("DELETE", "/s3/bucket/parts").status == 204


def test_a_scrub_is_held_to_its_rate_and_goes_on_where_it_was(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = make_server()
    some_objects(server)
    whole = tool_json(server.data, "scrub")[1]
    slow = tool_json(server.data, "scrub", "--rate", "4")[1]
    assert slow["seconds"] >= whole["bytes"] / (4 * MIB) * 0.7  # the last step is not waited for
    state = tmp_path / "state"
    assert tool_json(server.data, "scrub", "--state", state)[1]["bytes"] == whole["bytes"]
    assert not state.exists()
    ids = sorted(path.name for path in (server.data / "blobs").glob("?????/??/*"))
    # As a scrub leaves it that was killed when it had read all blobs but the last.
    state.write_text(
        json.dumps({"started": 1.0, "rows_done": True, "rows": 7, "blobs": len(ids) - 1, "blob": ids[-2], "bytes": 5})
    )
    again = tool_json(server.data, "scrub", "--state", state)[1]
    assert (again["rows"], again["blobs"], again["bytes"]) == (7, len(ids), 5 + 100)  # the part of 100 bytes


def test_the_servers_own_scrub_quarantines_and_its_backups_are_kept_few(
    make_server: Callable[..., ServerProcess],
) -> None:
    interval = str(1.1 / 3600)
    server = make_server(
        *("--scrub-rate", "500", "--scrub-hours", interval, "--index-backup-hours", interval, "--index-backups", "2"),
        workers=2,
    )
    some_objects(server)
    path = blob_of(server.data, 5 * MIB)
    flip(path, 3 * MIB)
    sender = Sender(server.endpoint)
    until(lambda: not path.exists() and corrupt_objects(sender) == 1, "the scrub finds it", server.log)
    until(lambda: f"blob {path.name}" in server.log(), "it says so", server.log)
    until(lambda: server.log().count("the index was backed up") >= 4, "backups are made", server.log)
    until(lambda: len(list((server.data / "backups").iterdir())) == 2, "old ones go", server.log)
    assert server.log().count("the index was backed up") == len(set(re.findall(r"backed up to (\S+)", server.log())))


def test_a_backup_is_a_moment_of_the_index_and_can_be_put_back(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = make_server()
    want = some_objects(server)
    target = tmp_path / "elsewhere" / "index.mdb"
    with written_to(server):
        assert tool(server.data, "backup", target)[0] == 0
    assert tool(server.data, "backup", target)[0] == 2  # nothing is overwritten
    assert target.stat().st_mode & 0o077 == 0
    assert tool(server.data, "restore", target, "--force")[0] == 2  # a server runs
    Sender(server.endpoint).ask("DELETE", "/s3/bucket/small")
    server.stop()
    status, text = tool(server.data, "restore", target)
    assert status == 2 and "--force" in text
    assert tool(server.data, "restore", tmp_path / "nothing", "--force")[0] == 2
    (tmp_path / "garbage").write_bytes(os.urandom(100_000))
    assert tool(server.data, "restore", tmp_path / "garbage", "--force")[0] == 2
    status, found = tool_json(server.data, "restore", target, "--force")
    assert status in (0, 1) and Path(found["replaced"]).is_dir()
    server.start()
    assert stored(server) == want  # what was deleted since is small, so it is in the index
    server.stop()
    spoilt = server.data / "index" / "data.mdb"
    spoilt.write_bytes(os.urandom(spoilt.stat().st_size))
    assert tool(server.data, "fsck")[0] == 2
    assert tool(server.data, "restore", target, "--force")[0] in (0, 1)
    server.start()
    assert stored(server) == want


def test_an_index_is_rebuilt_from_a_backup_and_the_footers_of_newer_blobs(
    make_server: Callable[..., ServerProcess],
) -> None:
    server = make_server()
    want = some_objects(server)
    client = server.boto()
    upload = client.list_multipart_uploads(Bucket="bucket")["Uploads"][0]["UploadId"]
    client.put_object(Bucket="bucket", Key="gone", Body=b"g" * 80_000)
    assert tool(server.data, "backup")[0] == 0
    # What footers prove:
    want["new"], want["large"] = os.urandom(200_000), os.urandom(100_000)
    headers = {"ContentType": "text/x-new", "CacheControl": "no-cache", "Metadata": {"long": "x" * 300}}
    client.put_object(Bucket="bucket", Key="new", Body=want["new"], **headers)
    client.put_object(Bucket="bucket", Key="large", Body=want["large"])
    names = {"Bucket": "bucket", "Key": "open", "UploadId": upload}
    part = client.upload_part(**names, PartNumber=2, Body=b"y" * 70_000)
    heads = {key: client.head_object(Bucket="bucket", Key=key) for key in want}
    # And what they do not:
    client.put_object(Bucket="bucket", Key="tiny", Body=b"tiny")
    client.copy_object(Bucket="bucket", Key="copied", CopySource="bucket/new")
    client.delete_object(Bucket="bucket", Key="gone")
    client.create_bucket(Bucket="later")
    client.put_object(Bucket="later", Key="k", Body=b"k" * 90_000)
    server.stop()
    next(blob for blob in (server.data / "blobs").glob("?????/??/*") if b"g" * 80_000 in blob.read_bytes()).unlink()

    shutil.rmtree(server.data / "index")
    status, found = tool_json(server.data, "rebuild-index")
    assert status == 1
    assert sorted(text.split(":")[0] for text in found["added"]) == ["bucket/large", "bucket/new", "bucket/open"]
    assert [text.split(":")[0] for text in found["dropped"]] == ["bucket/gone"]
    assert len(found["unrecoverable"]) == 2
    assert sum("a copy" in text for text in found["unrecoverable"]) == 1
    assert sum("is not in the backup" in text for text in found["unrecoverable"]) == 1
    assert tool_json(server.data, "fsck", "--deep")[1]["faults"] == []
    assert tool(server.data, "rebuild-index")[0] == 2  # there is an index now

    server.start()
    assert stored(server) == want
    client = server.boto()
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == ["bucket"]
    for key, head in heads.items():
        again = client.head_object(Bucket="bucket", Key=key)
        for field in ("ETag", "ContentType", "ContentLength", "Metadata", "CacheControl"):
            assert again.get(field) == head.get(field), (key, field)
    parts = client.list_parts(**names)["Parts"]
    assert [(p["PartNumber"], p["Size"]) for p in parts] == [(1, 100), (2, 70_000)]
    assert parts[1]["ETag"] == part["ETag"]
    client.abort_multipart_upload(**names)
    quarantine = server.data / "blobs" / "quarantine"
    assert len(list(quarantine.glob("unowned-*.json"))) == 3  # with the old "large"
    assert corrupt_objects(Sender(server.endpoint)) == 0
    server.stop()
    server.start()  # a start removes blobs without an owner: none of these
    assert stored(server) == want
    assert len([path for path in quarantine.iterdir() if not path.suffix]) == 3


def test_a_rebuilt_index_says_what_it_cannot_know(make_server: Callable[..., ServerProcess], tmp_path: Path) -> None:
    server = make_server()
    client = server.boto()
    client.create_bucket(Bucket="bucket")
    for key, size in (("kept", 10), ("large", 70_000), ("overwritten", 70_000)):
        client.put_object(Bucket="bucket", Key=key, Body=bytes(size))
    upload = client.create_multipart_upload(Bucket="bucket", Key="open")["UploadId"]
    began = time.time()
    assert tool(server.data, "backup")[0] == 0
    for size in (80_000, 90_000):
        client.put_object(Bucket="bucket", Key="large", Body=bytes(size))
    client.put_object(Bucket="bucket", Key="overwritten", Body=b"small")
    client.put_object(Bucket="bucket", Key="deleted", Body=bytes(100_000))
    client.delete_object(Bucket="bucket", Key="deleted")
    client.upload_part(Bucket="bucket", Key="open", UploadId=upload, PartNumber=2, Body=bytes(70_000))
    server.stop()

    found = tool_json(server.data, "rebuild-index", "--force")[1]
    doubtful = {one["key"]: one for one in found["possibly_outdated"]}
    assert sorted(doubtful) == ["deleted", "large", "open"] and len(found["possibly_outdated"]) == len(found["added"])
    assert {key: (one["bytes"], one["replaced"]) for key, one in doubtful.items()} == {
        "deleted": (100_000, False),
        "large": (90_000, True),  # the newest of both
        "open": (70_000, False),
    }
    assert (doubtful["open"]["upload"], doubtful["open"]["part"]) == (upload, 2)
    assert all(found["backup_time"] <= one["stored"] for one in doubtful.values())
    assert found["from_backup"] == 2  # "overwritten" is one of them, and nothing tells
    assert found["backup_time_from"] == "by its name" and found["backup_age_seconds"] <= time.time() - began + 2
    assert any("overwritten by small ones" in text for text in found["unknown"])

    shutil.copyfile(found["backup"], tmp_path / "elsewhere.mdb")
    os.utime(tmp_path / "elsewhere.mdb", (began - 7500, began - 7500))
    text = tool(server.data, "rebuild-index", "--force", "--from", tmp_path / "elsewhere.mdb")[1]
    assert "added: bucket/deleted: 100000 bytes, stored " in text
    assert "replaced: bucket/large: 90000 bytes, stored " in text
    assert text.count("; may have been deleted or overwritten since\n") == 3
    assert "(by its file's time, which a copy may have changed), 2 h 5 min old; since then cannot be known:\n- " in text
    assert "- deletes of objects" in text and "2 objects are as the backup has them" in text


def test_a_damaged_backup_is_taken_only_where_that_is_asked_for(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    server = make_server()
    want = some_objects(server)
    sound, damaged = tmp_path / "sound.mdb", tmp_path / "damaged.mdb"
    assert tool(server.data, "backup", sound)[0] == 0
    server.stop()
    content = sound.read_bytes()
    places = [match.end() + 40 for match in re.finditer(rb"O(small|large)\0?(?=\x01)", content)]  # in two records
    assert len(places) == 2
    shutil.copyfile(sound, damaged)
    for place in places:
        flip(damaged, place)
    before = sorted(path for path in server.data.rglob("*") if path.is_file())
    for command in (["restore", damaged, "--force"], ["rebuild-index", "--from", damaged, "--force"]):
        status, text = tool(server.data, *command)
        assert status == 2 and text.count("\n") == 1, text
        assert "faults: 2" in text and "(b'Osmall')" in text and "(b'Olarge')" in text and "--damaged" in text
    assert sorted(path for path in server.data.rglob("*") if path.is_file()) == before

    status, found = tool_json(server.data, "restore", damaged, "--force", "--damaged")
    assert status == 1 and len(found["unsound"]) == 2
    server.start()
    sender = Sender(server.endpoint)
    answers = {key: sender.ask("GET", f"/s3/bucket/{key}").status for key in want}
    assert answers == dict.fromkeys(want, 200) | {"small": 500, "large": 500}
    server.stop()
    assert tool(server.data, "restore", sound, "--force")[0] == 0
    server.start()
    assert stored(server) == want


def test_without_a_backup_nothing_is_rebuilt(make_server: Callable[..., ServerProcess]) -> None:
    server = make_server()
    some_objects(server)
    server.stop()
    shutil.rmtree(server.data / "index")
    before = sorted(path for path in server.data.rglob("*") if path.is_file())
    status, text = tool(server.data, "rebuild-index")
    assert status == 2 and "no backup" in text
    assert sorted(path for path in server.data.rglob("*") if path.is_file()) == before


@pytest.mark.parametrize("arguments", [["fsck"], ["scrub"], ["backup"], ["restore"], ["rebuild-index"]])
def test_a_directory_that_is_none_is_refused_in_one_line(tmp_path: Path, arguments: list[Any]) -> None:
    status, text = tool(tmp_path, *arguments)
    assert status == 2
    assert text.startswith("ais-s3: ") and text.count("\n") == 1
