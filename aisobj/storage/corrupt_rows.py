"""Which row of the index is to blame when an object cannot be read. Nobody comes here but after CorruptData."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from aisobj.errors import StorageError
from aisobj.model import BodyKind, BucketName
from aisobj.storage import keys, records
from aisobj.storage.engine import Engine


def note_corrupt_rows(engine: Engine, name: str, key: bytes) -> None:
    """Look at all rows that a read of an object needs, and note those that do not match their checksum.

    :param name: the bucket's. :param key: S3's.
    """
    bucket_id = _look(engine, keys.ROOT, keys.bucket_name(name), partial(records.decode, BucketName))
    if bucket_id is None:
        return
    _look(engine, bucket_id.id, keys.BUCKET)
    record = _look(engine, bucket_id.id, keys.OBJECT + key, partial(records.decode_object, key))
    if record is None:
        return
    if record.long_headers:
        _look(engine, bucket_id.id, keys.HEADERS + record.version_id)
    if record.body_kind is BodyKind.INLINE:
        _look(engine, bucket_id.id, keys.INLINE + record.body_id)
    elif record.body_kind is BodyKind.EXTENTS:
        _look(engine, bucket_id.id, keys.BODY + record.body_id)


def _look(engine: Engine, partition: bytes, row_key: bytes, decode: Callable[[bytes], Any] = lambda row: None) -> Any:
    """The record in a row, where ``decode`` is given and it can be read."""
    row = engine.index.get(partition, (row_key,))[0]
    if row is None:
        return None
    try:
        records.unseal(row)
        return decode(row)
    except StorageError as error:
        engine.findings.note_row(partition, row_key, str(error))
        return None
