"""What every IIndex promises, run over each of them: in memory, on LMDB with a writer thread and a writer process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredList, gatherResults
from twisted.internet.threads import blockingCallFromThread, deferToThread
from zope.interface.verify import verifyObject

from aisobj.errors import StorageError, StoreReadOnly
from aisobj.storage import keys, records
from aisobj.storage.index_protocol import MAX_KEY
from aisobj.storage.interfaces import ABSENT, PRESENT, CommitResult, IIndex, ISnapshot
from aisobj.storage.lmdb_index import LmdbIndex
from aisobj.storage.memory_index import MemoryIndex

BUCKET = bytes(range(16))
OTHER = bytes(15) + b"\x01"
OK, CONFLICT = CommitResult.OK, CommitResult.CONFLICT


def open_index(kind: str, path: Path) -> Any:
    if kind == "memory":
        return MemoryIndex()
    return LmdbIndex.open(path / "index", reactor=reactor, sync=False, writer=kind)  # type: ignore[arg-type]


@pytest_twisted.async_yield_fixture(params=["memory", "thread", "process"])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Any]:
    opened = open_index(request.param, tmp_path)
    yield opened
    await opened.close()


async def fill(index: Any, rows: dict[bytes, bytes], partition: bytes = BUCKET) -> None:
    assert await index.commit(partition, {}, rows) is OK


@contextlib.contextmanager
def snapshot(index: Any, partition: bytes = BUCKET) -> Iterator[Any]:
    view = index.snapshot(partition)
    try:
        yield view
    finally:
        view.close()


@pytest_twisted.ensureDeferred
async def test_provides_the_interface(index: Any) -> None:
    assert verifyObject(IIndex, index)
    with snapshot(index) as view:
        assert verifyObject(ISnapshot, view)
    assert index.read_only == ""


@pytest_twisted.ensureDeferred
async def test_the_version_is_another_one_after_each_commit_and_only_then(index: Any) -> None:
    versions = []
    for number in range(3):
        with snapshot(index) as view, snapshot(index, b"other") as other:
            assert view.version == other.version
            versions.append(view.version)
        assert await index.commit(BUCKET, {b"nothing": b"is there"}, {b"a": b"refused"}) is CONFLICT
        with snapshot(index) as view:
            assert view.version == versions[-1]
        await fill(index, {b"a": b"%d" % number}, (BUCKET, b"other")[number % 2])
    assert len(set(versions)) == 3


@pytest_twisted.ensureDeferred
async def test_a_snapshot_that_turns_to_another_partition_shows_that_one_and_keeps_it(index: Any) -> None:
    await fill(index, {b"a": b"1"})
    await fill(index, {b"a": b"other", b"b": b"2"}, b"other")
    with snapshot(index) as view:
        assert view.get(b"a") == b"1"
        view.turn_to(b"other")
        assert (view.get(b"a"), view.get(b"b")) == (b"other", b"2")
        await fill(index, {b"a": b"later"}, b"other")
        assert view.get(b"a") == b"other"
        assert list(view.scan(b"", b"", 10)) == [(b"a", b"other"), (b"b", b"2")]
    assert index.get(b"other", [b"a"]) == [b"later"]


@pytest_twisted.ensureDeferred
async def test_get_gives_each_row_in_the_order_asked_and_none_for_what_is_not_there(index: Any) -> None:
    await fill(index, {b"a": b"1", b"b": b"", b"\0": b"nul", b"\xff\xff": b"high"})
    assert index.get(BUCKET, [b"b", b"x", b"\xff\xff", b"a", b"\0", b"a\0"]) == [b"", None, b"high", b"1", b"nul", None]
    assert index.get(BUCKET, []) == []
    with snapshot(index) as view:
        assert view.get(b"a") == b"1"
        assert view.get(b"x") is None


@pytest_twisted.ensureDeferred
async def test_scan_is_in_byte_order_within_prefix_after_and_limit(index: Any) -> None:
    names = [b"\0", b"\0\0", b"O", b"O\0", b"Oa", b"Oa\0", b"Oa\xff", b"Oa\xff\xff", b"Ob", b"P", b"\xff", b"\xff\xff"]
    await fill(index, {name: name[::-1] for name in reversed(names)})

    def scan(after: bytes, prefix: bytes, limit: int = 100) -> list[bytes]:
        rows = index.scan(BUCKET, after, prefix, limit)
        assert all(value == key[::-1] for key, value in rows)
        return [key for key, _ in rows]

    assert scan(b"", b"") == names
    assert scan(b"", b"Oa") == [b"Oa", b"Oa\0", b"Oa\xff", b"Oa\xff\xff"]
    assert scan(b"Oa", b"Oa") == [b"Oa\0", b"Oa\xff", b"Oa\xff\xff"]
    assert scan(b"Oa\0", b"O") == [b"Oa\xff", b"Oa\xff\xff", b"Ob"]
    assert scan(b"A", b"Ob") == [b"Ob"], "an `after` below the prefix does not widen it"
    assert scan(b"Z", b"O") == [], "an `after` beyond the prefix leaves nothing"
    assert scan(b"Oa", b"O", 2) == [b"Oa\0", b"Oa\xff"]
    assert scan(b"", b"", 0) == []
    assert scan(b"\xff", b"\xff") == [b"\xff\xff"]
    assert scan(b"\xff\xff", b"") == []
    assert scan(b"", b"none") == []


@pytest_twisted.ensureDeferred
async def test_what_is_taken_of_a_scan_s_rows(index: Any) -> None:
    """In order, of the rows that are returned and no others, with what to keep of their keys."""
    await fill(
        index, {b"%b%03d" % (kind, number): b"%d" % number for kind in (b"N", b"O", b"P") for number in range(300)}
    )

    def take(rows: list[tuple[bytes, bytes]], own: slice) -> list[tuple[int, bytes]]:
        return [(int(value), key[own]) for key, value in rows]

    def refuse(rows: list[tuple[bytes, bytes]], own: slice) -> list[object]:
        raise ValueError(rows[0][1])

    with snapshot(index) as view:
        for limit, count in ((1, 1), (20, 20), (1000, 200)):
            found = view.scan(b"099", b"", limit, b"O", take)
            assert found == [(number, b"%03d" % number) for number in range(100, 100 + count)]
        assert view.scan(b"", b"29", 1000, b"O", take) == [(number, b"%d" % number) for number in range(290, 300)]
        assert view.scan(b"299", b"", 9, b"O", take) == []
        with pytest.raises(ValueError, match="100"):
            view.scan(b"099", b"", 9, b"O", refuse)
        assert view.scan(b"099", b"", 1, b"O") == [(b"100", b"100")]


@pytest_twisted.ensureDeferred
async def test_scan_after_a_key_longer_than_any_row_can_have(index: Any) -> None:
    longest = b"k" * MAX_KEY
    await fill(index, {b"k": b"", longest: b"", b"l": b""})
    assert [key for key, _ in index.scan(BUCKET, longest, b"", 9)] == [b"l"]
    assert [key for key, _ in index.scan(BUCKET, longest + b"k", b"", 9)] == [b"l"]
    assert [key for key, _ in index.scan(BUCKET, longest[:-1] + b"a" * 3000, b"", 9)] == [longest, b"l"]
    assert index.scan(BUCKET, b"", longest + b"k", 9) == []
    assert index.get(BUCKET, [longest + b"k"]) == [None]


@pytest_twisted.ensureDeferred
async def test_the_longest_keys_of_the_layout_fit_and_longer_ones_are_refused(index: Any) -> None:
    layout = keys.upload(b"x" * 1024, b"\xff" * 16)
    longest = b"\xff" * MAX_KEY
    await fill(index, {layout: b"u", longest: b"l"})
    assert index.get(BUCKET, [layout, longest]) == [b"u", b"l"]
    assert [key for key, _ in index.scan(BUCKET, layout, b"", 9)] == [longest]
    refused: list[Callable[[], object]] = [
        lambda: index.commit(BUCKET, {}, {longest + b"\0": b""}),
        lambda: index.commit(BUCKET, {}, {b"": b""}),
        lambda: index.commit(BUCKET, {b"": ABSENT}, {}),
        lambda: index.commit(BUCKET, {}, {}, [longest + b"\0"]),
        lambda: index.commit(BUCKET, {}, {}, [], {b"": (1,)}),
        lambda: index.commit(BUCKET + b"!", {}, {b"a": b""}),
    ]
    for call in refused:
        with pytest.raises(ValueError):
            call()


@pytest_twisted.ensureDeferred
async def test_a_large_value_survives(index: Any) -> None:
    value = bytes(range(256)) * 12_000
    await fill(index, {b"big": value, b"small": b"s"})
    assert index.get(BUCKET, [b"big", b"small"]) == [value, b"s"]


@pytest_twisted.ensureDeferred
async def test_a_snapshot_does_not_see_later_commits(index: Any) -> None:
    await fill(index, {b"a": b"1", b"b": b"1"})
    with snapshot(index) as view:
        assert await index.commit(BUCKET, {}, {b"a": b"2", b"c": b"2"}, [b"b"]) is OK
        rows = view.scan(b"", b"", 9)
        assert (view.get(b"a"), view.get(b"b"), view.get(b"c")) == (b"1", b"1", None)
        assert list(rows) == [(b"a", b"1"), (b"b", b"1")]
        assert index.get(BUCKET, [b"a", b"b", b"c"]) == [b"2", None, b"2"]
    assert index.scan(BUCKET, b"", b"", 9) == [(b"a", b"2"), (b"c", b"2")]
    view.close()  # idempotent


@pytest_twisted.ensureDeferred
async def test_expectations_absent_present_and_exact(index: Any) -> None:
    await fill(index, {b"a": b"1", b"e": b""})

    async def tried(expect: Any) -> CommitResult:
        result: CommitResult = await index.commit(BUCKET, expect, {})
        return result

    assert await tried({b"a": PRESENT, b"e": PRESENT, b"x": ABSENT}) is OK
    assert await tried({b"a": b"1", b"e": b""}) is OK
    assert await tried({b"a": ABSENT}) is CONFLICT
    assert await tried({b"e": ABSENT}) is CONFLICT
    assert await tried({b"x": PRESENT}) is CONFLICT
    assert await tried({b"x": b""}) is CONFLICT
    assert await tried({b"a": b"11"}) is CONFLICT
    assert await tried({b"e": b"1"}) is CONFLICT


@pytest_twisted.ensureDeferred
async def test_a_refused_commit_changes_nothing(index: Any) -> None:
    before = {b"a": b"1", b"b": b"2", b"c": keys.encode_counters((1, 1))}
    await fill(index, before)
    result = await index.commit(BUCKET, {b"a": b"1", b"b": b"x"}, {b"a": b"9", b"n": b"9"}, [b"b"], {b"c": (5, 5)})
    assert result is CONFLICT
    assert dict(index.scan(BUCKET, b"", b"", 9)) == before


@pytest_twisted.ensureDeferred
async def test_put_delete_and_add_in_one_commit(index: Any) -> None:
    await fill(index, {b"gone": b"1", b"old": b"1"})
    result = await index.commit(
        BUCKET, {b"old": b"1"}, {b"old": b"2", b"new": b"3"}, [b"gone", b"never was"], {b"C": (2, -7)}
    )
    assert result is OK
    rows = {b"C": keys.encode_counters((2, -7)), b"new": b"3", b"old": b"2"}
    assert dict(index.scan(BUCKET, b"", b"", 9)) == rows


@pytest_twisted.ensureDeferred
async def test_of_one_key_delete_comes_before_put_before_add(index: Any) -> None:
    ones = keys.encode_counters((1,))
    await fill(index, {b"a": b"x", b"b": ones, b"c": ones})
    assert await index.commit(BUCKET, {}, {b"a": b"y", b"b": ones}, [b"a", b"b", b"c"], {b"b": (4,), b"c": (4,)}) is OK
    want = [b"y", keys.encode_counters((5,)), keys.encode_counters((4,))]
    assert index.get(BUCKET, [b"a", b"b", b"c"]) == want


@pytest_twisted.ensureDeferred
async def test_of_conflicting_commits_at_once_exactly_one_wins(index: Any) -> None:
    attempts = [index.commit(BUCKET, {b"lock": ABSENT}, {b"lock": b"%d" % n}) for n in range(20)]
    results = await gatherResults(attempts)
    assert results.count(OK) == 1
    assert index.get(BUCKET, [b"lock"]) == [b"%d" % results.index(OK)]


@pytest_twisted.ensureDeferred
async def test_commits_sent_together_see_those_before_them(index: Any) -> None:
    chain: list[Deferred[CommitResult]] = [index.commit(BUCKET, {}, {b"n": b"0"})]
    chain += [index.commit(BUCKET, {b"n": b"%d" % n}, {b"n": b"%d" % (n + 1)}) for n in range(50)]
    assert set(await gatherResults(chain)) == {OK}
    assert index.get(BUCKET, [b"n"]) == [b"50"]


@pytest_twisted.ensureDeferred
async def test_counters_commute_and_never_conflict(index: Any) -> None:
    adds = [index.commit(BUCKET, {}, {}, [], {b"C": (1, n)}) for n in range(-10, 31)]
    assert set(await gatherResults(adds)) == {OK}
    assert index.get(BUCKET, [b"C"]) == [keys.encode_counters((41, sum(range(-10, 31))))]


@pytest_twisted.ensureDeferred
async def test_counters_are_seen_by_commits_sent_together(index: Any) -> None:
    sums = [keys.encode_counters((n, n)) for n in range(4)]
    expected: list[dict[bytes, Any]] = [
        {b"C": ABSENT}, {b"C": PRESENT}, {b"C": sums[2]}, {b"C": sums[2]}, {b"C": ABSENT}
    ]  # fmt: skip
    adds = [index.commit(BUCKET, expect, {}, [], {b"C": (1, 1)}) for expect in expected]
    assert await gatherResults(adds) == [OK, OK, OK, CONFLICT, CONFLICT]
    assert index.get(BUCKET, [b"C"]) == [sums[3]]
    replaced = [
        index.commit(BUCKET, {}, {}, [], {b"C": (1, 1)}),
        index.commit(BUCKET, {}, {}, [b"C"]),
        index.commit(BUCKET, {b"C": ABSENT}, {}, [], {b"C": (1, 1)}),
        index.commit(BUCKET, {}, {b"C": sums[2]}),
        index.commit(BUCKET, {b"C": sums[2]}, {}, [], {b"C": (1, 1)}),
    ]
    assert set(await gatherResults(replaced)) == {OK}
    assert index.get(BUCKET, [b"C"]) == [sums[3]]


@pytest_twisted.ensureDeferred
async def test_a_counter_that_cannot_be_added_fails_only_its_own_commit(index: Any) -> None:
    await fill(index, {b"C": keys.encode_counters((1, 2)), b"text": b"no"})
    bad = [
        index.commit(BUCKET, {}, {b"x": b""}, [b"text"], {b"C": (1,)}),
        index.commit(BUCKET, {}, {b"x": b""}, [], {b"C": (2**63 - 1, 0)}),
        index.commit(BUCKET, {}, {b"x": b""}, [], {b"text": (1,)}),
    ]
    good = index.commit(BUCKET, {}, {b"good": b"1"}, [], {b"C": (1, 1)})
    for success, failure in await DeferredList(bad, consumeErrors=True):
        assert not success
        assert failure.type is StorageError
    assert await good is OK
    rows = {b"C": keys.encode_counters((2, 3)), b"good": b"1", b"text": b"no"}
    assert dict(index.scan(BUCKET, b"", b"", 9)) == rows


@pytest_twisted.ensureDeferred
async def test_partitions_do_not_see_each_other(index: Any) -> None:
    zeros = bytes(16)
    partitions = [keys.ROOT, BUCKET, OTHER, zeros, zeros[:15] + b"A", b"\xff" * 16]
    for number, partition in enumerate(partitions):
        await fill(index, {b"A": b"%d" % number, b"\0": b"", b"\xff": b""}, partition)
    for number, partition in enumerate(partitions):
        assert index.scan(partition, b"", b"", 9) == [(b"\0", b""), (b"A", b"%d" % number), (b"\xff", b"")]
        assert index.scan(partition, b"\xff", b"", 9) == []
    assert await index.commit(OTHER, {b"A": PRESENT}, {}, [b"A", b"\0", b"\xff"]) is OK
    assert index.scan(OTHER, b"", b"", 9) == []
    assert index.get(BUCKET, [b"A"]) == [b"1"]


@pytest_twisted.ensureDeferred
async def test_a_partition_whose_name_begins_another_ones_does_not_see_into_it(index: Any) -> None:
    # Rows whose name and key run together to the same bytes.
    await fill(index, {b"A": b"bucket"}, BUCKET)
    await fill(index, {BUCKET[8:] + b"A": b"half"}, BUCKET[:8])
    await fill(index, {BUCKET + b"A": b"root"}, keys.ROOT)
    assert index.scan(BUCKET, b"", b"", 9) == [(b"A", b"bucket")]
    assert index.scan(BUCKET[:8], b"", b"", 9) == [(BUCKET[8:] + b"A", b"half")]
    assert index.scan(keys.ROOT, b"", b"", 9) == [(BUCKET + b"A", b"root")]
    assert index.get(keys.ROOT, [b"A", b"\x10" + BUCKET + b"A"]) == [None, None]


@pytest_twisted.ensureDeferred
async def test_close_answers_what_is_queued_and_refuses_what_comes_later(index: Any) -> None:
    queued = [index.commit(BUCKET, {}, {b"%d" % n: b""}) for n in range(30)]
    closed = index.close()
    with pytest.raises(StoreReadOnly):
        await index.commit(BUCKET, {}, {b"late": b""})
    await closed
    assert all(deferred.called for deferred in queued)
    assert set(await gatherResults(queued)) == {OK}
    await index.close()  # idempotent


ROW_KEYS = st.sampled_from([b"a", b"a\0", b"ab", b"b", b"\0", b"\xff", b"\xff\xff"])
COUNTERS = st.sampled_from([b"C1", b"C2"])
VALUES = st.binary(max_size=3)
COMMITS = st.tuples(
    st.sampled_from([keys.ROOT, BUCKET, OTHER]),
    st.dictionaries(ROW_KEYS, st.one_of(st.just(ABSENT), st.just(PRESENT), VALUES), max_size=1),
    st.dictionaries(ROW_KEYS, VALUES, max_size=3),
    st.lists(ROW_KEYS, max_size=2),
    st.dictionaries(COUNTERS, st.tuples(st.integers(-5, 5)), max_size=1),
)


@pytest_twisted.ensureDeferred
async def test_a_commit_founds_a_partition_or_does_nothing(index: Any) -> None:
    first = {b"A": b"1", b"B": b"2"}
    assert await index.commit(keys.ROOT, {b"n": ABSENT}, {b"n": b"x"}, (), {}, {BUCKET: first}) is OK
    assert index.scan(BUCKET, b"", b"", 9) == [(b"A", b"1"), (b"B", b"2")]
    assert index.get(keys.ROOT, (b"n",)) == [b"x"]
    assert await index.commit(keys.ROOT, {b"n": ABSENT}, {b"n": b"y"}, (), {}, {OTHER: first}) is CONFLICT
    assert index.scan(OTHER, b"", b"", 9) == []
    for bad in ({bytes(17): first}, {OTHER: {b"": b"row"}}, {OTHER: {bytes(MAX_KEY + 1): b"row"}}):
        with pytest.raises(ValueError):
            await index.commit(keys.ROOT, {}, {b"n": b"z"}, (), {}, bad)
    assert index.get(keys.ROOT, (b"n",)) == [b"x"]


class Oracle:
    """The same, as plainly as can be."""

    def __init__(self) -> None:
        self.rows: dict[tuple[bytes, bytes], bytes] = {}

    def commit(self, partition: bytes, expect: Any, put: Any, delete: Any, add: Any) -> CommitResult:
        for key, wanted in expect.items():
            row = self.rows.get((partition, key))
            held = row is None if wanted is ABSENT else row is not None if wanted is PRESENT else row == wanted
            if not held:
                return CONFLICT
        for key in delete:
            self.rows.pop((partition, key), None)
        for key, value in put.items():
            self.rows[partition, key] = value
        for key, (amount,) in add.items():
            row = self.rows.get((partition, key), records.seal(bytes(8)))
            old = int.from_bytes(records.unseal(row), "big", signed=True)
            self.rows[partition, key] = records.seal((old + amount).to_bytes(8, "big", signed=True))
        return OK

    def scan(self, partition: bytes, after: bytes, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        found = [(key, value) for (where, key), value in self.rows.items() if where == partition]
        return sorted(row for row in found if row[0] > after and row[0].startswith(prefix))[:limit]


async def compare(index: Any, commits: list[Any], after: bytes, prefix: bytes, limit: int) -> None:
    oracle = Oracle()
    partitions = (keys.ROOT, BUCKET, OTHER)
    for partition in partitions:
        await index.commit(partition, {}, {}, [key for key, _ in index.scan(partition, b"", b"", 100)])
    results = await gatherResults([index.commit(*commit) for commit in commits])
    assert results == [oracle.commit(*commit) for commit in commits]
    for partition in partitions:
        assert index.scan(partition, b"", b"", 100) == oracle.scan(partition, b"", b"", 100)
        assert index.scan(partition, after, prefix, limit) == oracle.scan(partition, after, prefix, limit)
        names = [key for where, key in oracle.rows if where == partition] + [after]
        assert index.get(partition, names) == [oracle.rows.get((partition, name)) for name in names]


BOUNDS = st.binary(max_size=2) | ROW_KEYS


@pytest_twisted.ensureDeferred
async def test_behaves_as_a_dictionary_would(index: Any) -> None:
    @settings(max_examples=40, deadline=None)
    @given(commits=st.lists(COMMITS, max_size=12), after=BOUNDS, prefix=BOUNDS, limit=st.integers(0, 5))
    def check(commits: list[Any], after: bytes, prefix: bytes, limit: int) -> None:
        blockingCallFromThread(reactor, lambda: Deferred.fromCoroutine(compare(index, commits, after, prefix, limit)))

    await deferToThread(check)  # hypothesis calls it without awaiting
