"""Writes in the store that meet each other: preconditions, counters, queues."""

from __future__ import annotations

from typing import Any

import pytest
import storekit
from pytest_twisted import ensureDeferred
from storekit import LARGE, NEW, SMALL, Commit, Rig, all_of, match, refused
from twisted.internet.defer import Deferred, gatherResults

from aisobj.errors import S3Error
from aisobj.model import ObjectRecord

rig = storekit.rig


# --- preconditions


@ensureDeferred
async def test_preconditions_hold_for_what_is_there_when_it_is_committed(rig: Rig) -> None:
    await rig.bucket()
    first = await rig.put(b"k", SMALL, precondition=NEW)
    with refused("PreconditionFailed"):
        await rig.put(b"k", LARGE, precondition=NEW)
    with refused("PreconditionFailed"):
        await rig.put(b"k", LARGE, precondition=match("other"))
    with refused("NoSuchKey"):
        await rig.put(b"absent", LARGE, precondition=match("*"))
    assert rig.blob_ids() == set()
    second = await rig.put(b"k", LARGE, precondition=match(first.etag))
    assert (await rig.put(b"k", SMALL, precondition=match("*"))).counter == 3
    assert second.counter == 2
    with refused("PreconditionFailed"):
        await rig.store.objects.delete("bck", b"k", match(second.etag).check)
    await rig.store.objects.delete("bck", b"k", match(first.etag).check)
    assert rig.counted() == (0, 0)


@ensureDeferred
@pytest.mark.parametrize("data", [SMALL, LARGE])
async def test_of_concurrent_puts_that_want_to_be_first_one_is(rig: Rig, data: bytes) -> None:
    await rig.bucket()
    results = await all_of([rig.put(b"k", data, precondition=NEW, headers={"x-amz-meta-n": str(n)}) for n in range(20)])
    won = [result for result in results if isinstance(result, ObjectRecord)]
    assert len(won) == 1
    assert {result.code for result in results if isinstance(result, S3Error)} == {"PreconditionFailed"}
    assert rig.record(b"k") == won[0]
    assert rig.counted() == (1, len(data))


@ensureDeferred
async def test_of_concurrent_puts_that_replace_one_version_one_does(rig: Rig) -> None:
    await rig.bucket()
    old = await rig.put(b"k", b"old")
    results = await all_of([rig.put(b"k", b"new%d" % n, precondition=match(old.etag)) for n in range(10)])
    assert [type(result) for result in results].count(ObjectRecord) == 1
    assert rig.record(b"k").counter == 2


@ensureDeferred
async def test_the_version_that_a_conditional_put_saw_must_be_the_one_it_replaces(rig: Rig) -> None:
    await rig.bucket()
    seen = await rig.put(b"k", SMALL)
    await rig.put(b"k", SMALL)  # the same bytes, so the ETag holds again
    with refused("ConditionalRequestConflict"):
        await rig.put(b"k", LARGE, precondition=match(seen.etag), seen=seen.version_id)
    assert rig.blob_ids() == set()
    await rig.put(b"k", b"other")
    with refused("PreconditionFailed"):
        await rig.put(b"k", LARGE, precondition=match(seen.etag), seen=seen.version_id)
    now = rig.record(b"k")
    await rig.put(b"k", LARGE, precondition=match(now.etag), seen=now.version_id)


@ensureDeferred
async def test_a_precondition_is_checked_again_when_another_writer_was_quicker(rig: Rig) -> None:
    await rig.bucket()

    async def other(commit: Commit) -> None:
        await rig.put(b"k", b"the other's")

    rig.index.before = other
    with refused("PreconditionFailed"):
        await rig.put(b"k", LARGE, precondition=NEW)
    rig.index.before = other
    mine = await rig.put(b"k", LARGE)
    assert mine.counter == 3
    assert await rig.get(b"k") == LARGE


@ensureDeferred
async def test_many_writers_of_one_key_all_succeed(rig: Rig) -> None:
    await rig.bucket()
    rig.index.slow = True
    results = await all_of([rig.put(b"k", b"%d" % n) for n in range(150)])
    assert {type(result) for result in results} == {ObjectRecord}
    assert sorted(result.counter for result in results) == list(range(1, 151))
    assert rig.counted() == (1, rig.record(b"k").size)
    assert len(rig.index.commits) < 1 + 150 + 2 * 150  # they queue; in a free-for-all it would be 150 * 150 / 2
    assert rig.store._engine._lines == {}


# --- counters


@ensureDeferred
async def test_counters_are_exact_after_concurrent_mixes(rig: Rig) -> None:
    await rig.bucket()
    work: list[Any] = []
    for number in range(60):
        key = b"k%d" % (number % 7)
        work.append(rig.put(key, bytes(number * 3)) if number % 3 else rig.delete(key))
    await all_of(work)
    page = rig.list()
    assert rig.counted() == (len(page.items), sum(record.size for _, record in page.items))
    totals = rig.store.buckets.totals()
    assert (totals.objects, totals.bytes) == rig.counted()


@ensureDeferred
async def test_concurrent_puts_of_different_keys_do_not_wait_for_each_other(rig: Rig) -> None:
    await rig.bucket()
    made = await gatherResults([Deferred.fromCoroutine(rig.put(b"%d" % n, LARGE)) for n in range(30)])
    assert rig.counted() == (30, 30 * len(LARGE))
    assert {record.counter for record in made} == {1}
    assert len(rig.index.commits) == 30 + 1  # nobody had to try again; one made the bucket
