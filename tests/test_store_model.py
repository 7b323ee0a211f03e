"""The store against a dictionary: any sequence of operations gives what plain dicts would, and leaves a sound store."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, TypeVar

import pytest_twisted
import storekit
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from storekit import INLINE, NEW, NONE, Rig, match
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.threads import blockingCallFromThread, deferToThread
from twisted.python.failure import Failure

from aisobj.checksums import CHECKSUM_TYPES
from aisobj.errors import CommitUnknown, S3Error
from aisobj.model import Attributes, BucketProps, ObjectRecord, Part, Upload
from aisobj.storage import completing

T = TypeVar("T")

BUCKETS = st.sampled_from(["aaa", "bbb", "ccc"])
KEYS = st.sampled_from([b"a", b"a/", b"a/b", b"a//b", b"b/a", b"b/b/c", "é/😀".encode(), b"z" * 1024])
BODIES = st.builds(
    lambda size, byte: bytes([byte]) * size, st.sampled_from([0, 1, INLINE, INLINE + 1, 300]), st.integers(0, 255)
)
HEADERS = st.sampled_from([{}, {"x-amz-meta-a": "b"}, {"x-amz-meta-a": "ö" * 400}])
NUMBERS = st.integers(1, 4)


class Thing:
    """An object of the oracle."""

    def __init__(self, data: bytes, headers: dict[str, str], record: ObjectRecord) -> None:
        self.data = data
        self.headers = headers
        self.record = record


class Progress:
    """An upload of the oracle. ``alive`` until it is completed or aborted, or its bucket is gone."""

    def __init__(self, name: str, key: bytes, upload: Upload) -> None:
        self.name = name
        self.key = key
        self.upload = upload
        self.alive = True
        self.parts: dict[int, tuple[Part, bytes]] = {}


class StoreMachine(RuleBasedStateMachine):
    """Everything one after another. What may be refused is refused as the oracle says."""

    engine = "memory"

    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="store-model-"))
        self.context: AbstractAsyncContextManager[Rig] = storekit.open_rig(self.engine, self.home / "data")
        self.rig = self.run(self.context.__aenter__)
        self.buckets: dict[str, dict[bytes, Thing]] = {}
        self.uploads: list[Progress] = []

    def teardown(self) -> None:
        if not hasattr(self, "rig"):
            return
        try:
            for name, things in self.buckets.items():
                for key in things:
                    self.compare(name, key)
            self.run(lambda: self.context.__aexit__(None, None, None))  # with fsck
        finally:
            shutil.rmtree(self.home)

    def run(self, begin: Callable[[], Any]) -> Any:
        """The result of a coroutine; with the memory engine it never waits."""
        done: Deferred[Any] = Deferred.fromCoroutine(as_coroutine(begin))
        results: list[Any] = []
        done.addBoth(results.append)
        (result,) = results
        if isinstance(result, Failure):
            result.raiseException()
        return result

    def expect(self, code: str | None, begin: Callable[[], Any]) -> Any:
        """Run; it must be refused with this code, or succeed where it is None."""
        try:
            result = self.run(begin)
        except S3Error as error:
            assert error.code == code
            return None
        assert code is None
        return result

    # buckets

    @rule(name=BUCKETS, kind=st.sampled_from(CHECKSUM_TYPES))
    def create_bucket(self, name: str, kind: str) -> None:
        code = "BucketAlreadyOwnedByYou" if name in self.buckets else None
        self.expect(code, lambda: self.rig.bucket(name, checksum_type=kind))
        self.buckets.setdefault(name, {})

    @rule(name=BUCKETS)
    def delete_bucket(self, name: str) -> None:
        things = self.buckets.get(name)
        code = "NoSuchBucket" if things is None else "BucketNotEmpty" if things else None
        self.expect(code, lambda: self.rig.store.buckets.delete(name))
        if code is None:
            self.forget(name)

    @rule(name=BUCKETS)
    def destroy_bucket(self, name: str) -> None:
        code = None if name in self.buckets else "NoSuchBucket"
        self.expect(code, lambda: self.rig.store.buckets.destroy(name))
        if code is None:
            self.forget(name)

    def forget(self, name: str) -> None:
        del self.buckets[name]
        for progress in self.uploads:
            progress.alive = progress.alive and progress.name != name

    @rule(name=BUCKETS, kind=st.sampled_from(CHECKSUM_TYPES))
    def change_type(self, name: str, kind: str) -> None:
        code = None if name in self.buckets else "NoSuchBucket"
        self.expect(code, lambda: self.rig.store.buckets.update(name, lambda props: BucketProps(checksum_type=kind)))

    # objects

    @rule(name=BUCKETS, key=KEYS, data=BODIES, headers=HEADERS, how=st.sampled_from(["put", "new", "match", "other"]))
    def put(self, name: str, key: bytes, data: bytes, headers: dict[str, str], how: str) -> None:
        old = self.buckets.get(name, {}).get(key)
        precondition = {"put": NONE, "new": NEW, "other": match("other")}.get(
            how, match(old.record.etag if old else "*")
        )
        code = None
        if name not in self.buckets:
            code = "NoSuchBucket"
        elif how in ("match", "other") and old is None:
            code = "NoSuchKey"
        elif how == "other" or (how == "new" and old is not None):
            code = "PreconditionFailed"
        record = self.expect(code, lambda: self.rig.put(key, data, name, precondition, headers=headers))
        if code is None:
            self.stored(name, key, data, headers, record)

    def stored(self, name: str, key: bytes, data: bytes, headers: dict[str, str], record: ObjectRecord) -> None:
        old = self.buckets[name].get(key)
        assert record.counter == (1 if old is None else old.record.counter + 1)
        if old is not None:
            assert record.version_id > old.record.version_id
            assert record.mtime >= old.record.mtime
        self.buckets[name][key] = Thing(data, headers, record)
        self.compare(name, key)

    @rule(name=BUCKETS, key=KEYS, data=BODIES, happened=st.booleans())
    def put_of_which_nobody_knows(self, name: str, key: bytes, data: bytes, happened: bool) -> None:
        if name not in self.buckets:
            return
        self.rig.index.unknown = [happened]
        try:
            record = self.run(lambda: self.rig.put(key, data, name))
        except CommitUnknown:
            assert not happened
            self.rig.crashed = True  # until the next start its blob has no owner
        else:
            assert happened
            self.stored(name, key, data, {}, record)

    @rule(name=BUCKETS, key=KEYS)
    def delete(self, name: str, key: bytes) -> None:
        code = None if name in self.buckets else "NoSuchBucket"
        gone = self.expect(code, lambda: self.rig.delete(key, name))
        old = self.buckets.get(name, {}).pop(key, None)
        assert (gone is None) is (old is None)

    @rule(source=BUCKETS, key=KEYS, into=BUCKETS, other=KEYS)
    def copy(self, source: str, key: bytes, into: str, other: bytes) -> None:
        old = self.buckets.get(source, {}).get(key)
        if old is None or into not in self.buckets:
            return
        found = self.rig.fetch(key, source)
        attributes = Attributes(old.record.content_type, old.headers)
        bucket = self.rig.store.buckets.get(into)
        _, record = self.run(lambda: self.rig.store.copier.copy(found, bucket, other, attributes, NONE))
        self.stored(into, other, old.data, old.headers, record)

    def compare(self, name: str, key: bytes) -> None:
        thing = self.buckets[name][key]
        found = self.rig.fetch(key, name)
        assert (found.record.version_id, found.record.etag) == (thing.record.version_id, thing.record.etag)
        assert found.record.headers == thing.headers
        assert self.run(lambda: self.rig.get(key, name)) == thing.data

    # multipart

    @rule(name=BUCKETS, key=KEYS)
    def create_upload(self, name: str, key: bytes) -> None:
        code = None if name in self.buckets else "NoSuchBucket"
        upload = self.expect(code, lambda: self.rig.upload(key, name))
        if code is None:
            self.uploads.append(Progress(name, key, upload))

    @rule(which=st.integers(0, 5), number=NUMBERS, data=BODIES)
    def upload_part(self, which: int, number: int, data: bytes) -> None:
        progress = self.progress(which)
        if progress is None:
            return
        part = self.expect(
            None if progress.alive else "NoSuchUpload",
            lambda: self.rig.part(progress.key, progress.upload, number, data, progress.name),
        )
        if progress.alive:
            progress.parts[number] = part, data

    @rule(which=st.integers(0, 5), wanted=st.sets(NUMBERS, min_size=1))
    def complete_upload(self, which: int, wanted: set[int]) -> None:
        progress = self.progress(which)
        if progress is None or not wanted & progress.parts.keys():
            return
        chosen = [progress.parts[number] for number in sorted(wanted & progress.parts.keys())]
        if not progress.alive:
            thing = self.buckets[progress.name].get(progress.key)
            again = thing is not None and thing.record.body_id == progress.upload.id
            code = None if again else "NoSuchUpload"
        else:
            code = None
        record = self.expect(
            code,
            lambda: self.rig.complete(progress.key, progress.upload, [part for part, _ in chosen], name=progress.name),
        )
        if code is None and progress.alive:
            progress.alive = False
            self.stored(progress.name, progress.key, b"".join(data for _, data in chosen), {}, record)
        elif code is None:
            assert record == self.buckets[progress.name][progress.key].record

    @rule(which=st.integers(0, 5))
    def abort_upload(self, which: int) -> None:
        progress = self.progress(which)
        if progress is None:
            return
        bucket = self.rig.store.buckets.get(progress.name)
        self.expect(
            None if progress.alive else "NoSuchUpload",
            lambda: self.rig.store.uploads.abort(bucket, progress.key, progress.upload.id.hex()),
        )
        progress.alive = False

    def progress(self, which: int) -> Progress | None:
        """One of the uploads whose bucket's name is in use (by it, or by a later bucket)."""
        known = [progress for progress in self.uploads if progress.name in self.buckets]
        return known[which % len(known)] if known else None

    # behind the scenes

    @rule(seconds=st.sampled_from([1, 700]))
    def sweep(self, seconds: int) -> None:
        self.rig.later(seconds)
        self.run(self.rig.store.sweeper.sweep)

    @rule()
    def restart(self) -> None:
        store = self.rig.new_store()
        self.run(store.sweeper.recover)
        self.rig.crashed = False

    # listings

    @rule(
        name=BUCKETS,
        prefix=st.sampled_from([b"", b"a", b"a/", b"b/", b"x"]),
        delimiter=st.sampled_from([b"", b"/", b"//", b"b"]),
        size=st.integers(1, 4),
    )
    def list_in_pages(self, name: str, prefix: bytes, delimiter: bytes, size: int) -> None:
        if name not in self.buckets:
            return
        found: list[bytes] = []
        after = b""
        while True:
            page = self.rig.list(name, prefix=prefix, delimiter=delimiter, max_keys=size, after=after)
            assert page.count <= size
            found += sorted([key for key, _ in page.items] + page.common_prefixes)
            if not page.truncated:
                break
            after = page.last
        assert found == entries(self.buckets[name], prefix, delimiter)

    @invariant()
    def counters_and_keys_are_right(self) -> None:
        if not hasattr(self, "buckets"):
            return
        assert [bucket.name for bucket in self.rig.store.buckets.list()] == sorted(self.buckets)
        for name, things in self.buckets.items():
            assert self.rig.counted(name) == (len(things), sum(len(thing.data) for thing in things.values()))
            assert [key for key, _ in self.rig.list(name).items] == sorted(things)


async def as_coroutine(begin: Callable[[], Any]) -> Any:
    return await begin()


def entries(things: dict[bytes, Thing], prefix: bytes, delimiter: bytes) -> list[bytes]:
    """Keys and common prefixes, as the documentation of ListObjectsV2 describes them."""
    found = set()
    for key in things:
        if key.startswith(prefix):
            end = key.find(delimiter, len(prefix)) if delimiter else -1
            found.add(key if end < 0 else key[: end + len(delimiter)])
    return sorted(found)


class EmbeddedMachine(StoreMachine):
    """On LMDB and files. Runs in a thread; the store runs in the reactor's."""

    engine = "embedded"

    def run(self, begin: Callable[[], Coroutine[Any, Any, T]]) -> T:
        done: T = blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(as_coroutine(begin)))
        return done


def check(machine: type[StoreMachine], examples: int, steps: int) -> None:
    least, completing.MIN_PART_SIZE = completing.MIN_PART_SIZE, 0
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=examples,
                stateful_step_count=steps,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        completing.MIN_PART_SIZE = least


def test_the_store_in_memory_is_a_dictionary() -> None:
    check(StoreMachine, examples=100, steps=50)


@pytest_twisted.ensureDeferred
async def test_the_store_on_disk_is_a_dictionary() -> None:
    await deferToThread(check, EmbeddedMachine, 6, 40)
