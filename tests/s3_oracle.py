"""What S3 is, in plain Python: every operation of docs/s3.md by boto3's name and with its parameters, on dictionaries.

Each answers with the part of boto3's response that is certain (None: the field is not there), or raises Refused.
Buckets have the checksum type md5, so ETags are AWS's.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

Answer = dict[str, Any]

MIN_PART = 5 << 20
PAST, FUTURE = (datetime.datetime(year, 1, 1, tzinfo=datetime.UTC) for year in (2001, 2099))

_STATUS = {
    "NoSuchBucket": 404,
    "NoSuchKey": 404,
    "NoSuchUpload": 404,
    "BucketAlreadyOwnedByYou": 409,
    "BucketNotEmpty": 409,
    "PreconditionFailed": 412,
    "NotModified": 304,
    "InvalidRange": 416,
    "InvalidPartNumber": 416,
    "NotImplemented": 501,
}


class Refused(Exception):
    """:ivar code: S3's. :ivar status: HTTP's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code
        self.status = _STATUS.get(code, 400)


@dataclass
class Object:
    data: bytes
    etag: str
    attributes: Answer
    parts: list[int] = field(default_factory=list)  #: their sizes, of what came by multipart upload
    upload: str = ""  #: which it was
    chosen: list[tuple[int, str]] = field(default_factory=list)  #: what its Complete named
    replaced: bool = False  #: and whether there was an object before


@dataclass
class Upload:
    key: str
    attributes: Answer
    parts: dict[int, bytes] = field(default_factory=dict)


@dataclass
class Bucket:
    objects: dict[str, Object] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)


def md5(data: bytes) -> str:
    return f'"{hashlib.md5(data).hexdigest()}"'


class Oracle:
    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self._begun: dict[str, int] = {}  # upload id -> how many began before it

    # Buckets

    def create_bucket(self, Bucket: str) -> Answer:
        if Bucket in self.buckets:
            raise Refused("BucketAlreadyOwnedByYou")
        self.buckets[Bucket] = _new_bucket()
        return {}

    def head_bucket(self, Bucket: str) -> Answer:
        self._bucket(Bucket)
        return {}

    def get_bucket_location(self, Bucket: str) -> Answer:
        self._bucket(Bucket)
        return {"LocationConstraint": None}

    def delete_bucket(self, Bucket: str) -> Answer:
        if self._bucket(Bucket).objects:
            raise Refused("BucketNotEmpty")
        del self.buckets[Bucket]
        return {}

    def list_buckets(self, Prefix: str) -> Answer:
        return {"Buckets": [{"Name": name} for name in sorted(self.buckets) if name.startswith(Prefix)]}

    # Objects

    def put_object(self, Bucket: str, Key: str, Body: bytes, **more: Any) -> Answer:
        bucket = self._bucket(Bucket)
        _check_write(bucket.objects.get(Key), more)
        bucket.objects[Key] = Object(Body, md5(Body), _attributes(more))
        return {"ETag": md5(Body)}

    def get_object(self, Bucket: str, Key: str, Range: str = "", PartNumber: int = 0, **conditions: Any) -> Answer:
        found = self._object(Bucket, Key)
        _check_read(found, conditions)
        size = len(found.data)
        first, end = 0, size
        parts = None
        if PartNumber:
            sizes = found.parts or [size]
            if PartNumber > len(sizes):
                raise Refused("InvalidPartNumber")
            first = sum(sizes[: PartNumber - 1])
            end = first + sizes[PartNumber - 1]
            parts = len(sizes) if found.parts else None
        elif Range:
            low, _, high = Range.removeprefix("bytes=").partition("-")
            if not low:
                first = max(size - int(high), 0)
            else:
                first, end = int(low), min(int(high) + 1, size) if high else size
            if first >= end:
                raise Refused("InvalidRange")
        partial = bool(Range or PartNumber) and end > first
        return {
            "Body": found.data[first:end],
            "ContentLength": end - first,
            "ContentRange": f"bytes {first}-{end - 1}/{size}" if partial else None,
            "PartsCount": parts,
            "ETag": found.etag,
            **found.attributes,
        }

    def head_object(self, Bucket: str, Key: str, **more: Any) -> Answer:
        answer = self.get_object(Bucket, Key, **more)
        del answer["Body"]
        return answer

    def get_object_tagging(self, Bucket: str, Key: str) -> Answer:
        self._object(Bucket, Key)
        return {"TagSet": []}

    def put_object_tagging(self, Bucket: str, Key: str, Tagging: Any) -> Answer:
        raise Refused("NotImplemented")

    def delete_object(self, Bucket: str, Key: str, **conditions: Any) -> Answer:
        objects = self._bucket(Bucket).objects
        _check_write(objects.get(Key), conditions)
        objects.pop(Key, None)
        return {"DeleteMarker": None}

    def delete_objects(self, Bucket: str, Delete: Any) -> Answer:
        objects = self._bucket(Bucket).objects
        deleted, failed = [], []
        for wanted in Delete["Objects"]:
            found = objects.get(wanted["Key"])
            try:
                _check_write(found, {"IfMatch": wanted["ETag"]} if "ETag" in wanted else {})
            except Refused as refusal:
                failed.append({"Key": wanted["Key"], "Code": refusal.code})
                continue
            objects.pop(wanted["Key"], None)
            deleted.append({"Key": wanted["Key"]})
        return {"Deleted": (not Delete["Quiet"] and deleted) or None, "Errors": failed or None}

    def copy_object(self, Bucket: str, Key: str, CopySource: Any, **more: Any) -> Answer:
        bucket = self._bucket(Bucket)
        source = self._source(CopySource, more)
        replaces = more.get("MetadataDirective") == "REPLACE"
        if (CopySource["Bucket"], CopySource["Key"]) == (Bucket, Key) and not replaces:
            raise Refused("InvalidRequest")
        _check_write(bucket.objects.get(Key), more)
        attributes = _attributes(more) if replaces else source.attributes
        bucket.objects[Key] = Object(source.data, source.etag, attributes, source.parts)
        return {"CopyObjectResult": {"ETag": source.etag}}

    # Multipart uploads

    def create_multipart_upload(self, Bucket: str, Key: str, UploadId: str = "", **more: Any) -> Answer:
        """``UploadId``: the one that the server has chosen."""
        self._bucket(Bucket).uploads[UploadId] = Upload(Key, _attributes(more))
        self._begun[UploadId] = len(self._begun)
        return {"Bucket": Bucket, "Key": Key}

    def upload_part(self, Bucket: str, Key: str, UploadId: str, PartNumber: int, Body: bytes) -> Answer:
        self._upload(Bucket, Key, UploadId).parts[PartNumber] = Body
        return {"ETag": md5(Body)}

    def upload_part_copy(
        self, Bucket: str, Key: str, UploadId: str, PartNumber: int, CopySource: Any, **more: Any
    ) -> Answer:
        upload = self._upload(Bucket, Key, UploadId)
        data = self._source(CopySource, more).data
        if "CopySourceRange" in more:
            first, last = map(int, more["CopySourceRange"].removeprefix("bytes=").split("-"))
            if last >= len(data):
                raise Refused("InvalidArgument")
            data = data[first : last + 1]
        upload.parts[PartNumber] = data
        return {"CopyPartResult": {"ETag": md5(data)}}

    def list_parts(
        self, Bucket: str, Key: str, UploadId: str, MaxParts: int = 1000, PartNumberMarker: int = 0
    ) -> Answer:
        parts = sorted(self._upload(Bucket, Key, UploadId).parts.items())
        rest = [(number, data) for number, data in parts if number > PartNumberMarker]
        page = rest[:MaxParts]
        truncated = 0 < len(page) < len(rest)
        found = [{"PartNumber": number, "ETag": md5(data), "Size": len(data)} for number, data in page]
        return {
            "Parts": found or None,
            "IsTruncated": truncated,
            **({"NextPartNumberMarker": page[-1][0]} if truncated else {}),
        }

    def complete_multipart_upload(
        self, Bucket: str, Key: str, UploadId: str, MultipartUpload: Any, **conditions: Any
    ) -> Answer:
        chosen = [(part["PartNumber"], part["ETag"]) for part in MultipartUpload["Parts"]]
        bucket = self._bucket(Bucket)
        numbers = [number for number, _ in chosen]
        if sorted(set(numbers)) != numbers:
            raise Refused("InvalidPartOrder")
        current = bucket.objects.get(Key)
        if UploadId not in bucket.uploads and current is not None and current.upload == UploadId:
            return _asked_again(current, chosen, conditions)
        upload = self._upload(Bucket, Key, UploadId)
        parts = [upload.parts.get(number) for number in numbers]
        if any(data is None or md5(data) != etag for data, (_, etag) in zip(parts, chosen, strict=True)):
            raise Refused("InvalidPart")
        used = [data for data in parts if data is not None]
        if any(len(data) < MIN_PART for data in used[:-1]):
            raise Refused("EntityTooSmall")
        _check_write(current, conditions)
        digests = b"".join(hashlib.md5(data).digest() for data in used)
        etag = f'"{hashlib.md5(digests).hexdigest()}-{len(used)}"'
        made = Object(b"".join(used), etag, upload.attributes, [*map(len, used)], UploadId, chosen, current is not None)
        bucket.objects[Key] = made
        del bucket.uploads[UploadId]
        return {"ETag": etag, "Bucket": Bucket, "Key": Key}

    def abort_multipart_upload(self, Bucket: str, Key: str, UploadId: str) -> Answer:
        self._upload(Bucket, Key, UploadId)
        del self.buckets[Bucket].uploads[UploadId]
        return {}

    # Listings

    def list_objects(self, Bucket: str, Marker: str = "", **more: Any) -> Answer:
        answer, last = self._page(Bucket, Marker, **more)
        return answer | {"NextMarker": last if answer["IsTruncated"] and more.get("Delimiter") else None}

    def list_objects_v2(self, Bucket: str, StartAfter: str = "", **more: Any) -> Answer:
        answer, _ = self._page(Bucket, StartAfter, **more)
        return answer | {"KeyCount": len(answer["Contents"] or ()) + len(answer["CommonPrefixes"] or ())}

    def _page(
        self, name: str, after: str, Prefix: str = "", Delimiter: str = "", MaxKeys: int = 1000
    ) -> tuple[Answer, str]:
        """And its last entry."""
        objects = self._bucket(name).objects
        rows = [(key, key) for key in objects]
        page, truncated = _roll_up(rows, lambda entry: entry.encode() > after.encode(), Prefix, Delimiter, MaxKeys)
        keys = [key for _, key in page if key is not None]
        contents = [{"Key": key, "ETag": objects[key].etag, "Size": len(objects[key].data)} for key in keys]
        answer = {
            "Contents": contents or None,
            "CommonPrefixes": [{"Prefix": entry} for entry, key in page if key is None] or None,
            "IsTruncated": truncated,
            "MaxKeys": MaxKeys,
        }
        return answer, page[-1][0] if page else ""

    def list_multipart_uploads(
        self,
        Bucket: str,
        Prefix: str = "",
        Delimiter: str = "",
        MaxUploads: int = 1000,
        KeyMarker: str = "",
        UploadIdMarker: str = "",
    ) -> Answer:
        uploads = self._bucket(Bucket).uploads
        rows = sorted((upload.key, self._begun[name], name) for name, upload in uploads.items())

        def after(entry: str, number: int | None = None) -> bool:
            if number is not None and UploadIdMarker and entry == KeyMarker:
                return number > self._begun[UploadIdMarker]
            return entry.encode() > KeyMarker.encode()

        listed = [(key, name) for key, number, name in rows if _grouped(key, Prefix, Delimiter) or after(key, number)]
        page, truncated = _roll_up(
            listed, lambda entry: not _grouped(entry, Prefix, Delimiter) or after(entry), Prefix, Delimiter, MaxUploads
        )
        found = [{"Key": entry, "UploadId": name} for entry, name in page if name is not None]
        answer = {
            "Uploads": found or None,
            "CommonPrefixes": [{"Prefix": entry} for entry, name in page if name is None] or None,
            "IsTruncated": truncated,
        }
        if truncated:
            answer |= {"NextKeyMarker": page[-1][0], "NextUploadIdMarker": page[-1][1] or ""}
        return answer

    # What is there

    def _bucket(self, name: str) -> Bucket:
        if name not in self.buckets:
            raise Refused("NoSuchBucket")
        return self.buckets[name]

    def _object(self, name: str, key: str) -> Object:
        objects = self._bucket(name).objects
        if key not in objects:
            raise Refused("NoSuchKey")
        return objects[key]

    def _source(self, source: Any, more: Answer) -> Object:
        found = self._object(source["Bucket"], source["Key"])
        given = {
            name.removeprefix("CopySource"): value for name, value in more.items() if name.startswith("CopySourceIf")
        }
        try:
            _check_read(found, given)
        except Refused:
            raise Refused("PreconditionFailed") from None
        return found

    def _upload(self, name: str, key: str, upload_id: str) -> Upload:
        upload = self._bucket(name).uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise Refused("NoSuchUpload")
        return upload


def _new_bucket() -> Bucket:
    return Bucket()


def _attributes(more: Answer) -> Answer:
    return {
        "ContentType": more.get("ContentType", "binary/octet-stream"),
        "CacheControl": more.get("CacheControl"),
        "Metadata": more.get("Metadata", {}),
    }


def _check_read(found: Object, conditions: Answer) -> None:
    if "IfMatch" in conditions:
        if found.etag != conditions["IfMatch"]:
            raise Refused("PreconditionFailed")
    elif conditions.get("IfUnmodifiedSince") == PAST:
        raise Refused("PreconditionFailed")
    if "IfNoneMatch" in conditions and found.etag == conditions["IfNoneMatch"]:
        raise Refused("NotModified")


def _check_write(current: Object | None, conditions: Answer) -> None:
    if conditions.get("IfNoneMatch") == "*" and current is not None:
        raise Refused("PreconditionFailed")
    if "IfMatch" in conditions:
        if current is None:
            raise Refused("NoSuchKey")
        if current.etag != conditions["IfMatch"]:
            raise Refused("PreconditionFailed")


def _asked_again(current: Object, chosen: list[tuple[int, str]], conditions: Answer) -> Answer:
    """A Complete of what is completed: the same one is answered as before."""
    if chosen != current.chosen:
        raise Refused("InvalidPart")
    if "IfNoneMatch" in conditions if current.replaced else "IfMatch" in conditions:
        raise Refused("PreconditionFailed")
    return {"ETag": current.etag}


def _group_of(key: str, prefix: str, delimiter: str) -> str:
    """The common prefix that stands for a key; "": it is listed itself."""
    end = key.find(delimiter, len(prefix)) if delimiter else -1
    return "" if end < 0 else key[: end + len(delimiter)]


def _grouped(key: str, prefix: str, delimiter: str) -> bool:
    return bool(_group_of(key, prefix, delimiter))


def _roll_up(
    rows: Iterable[tuple[str, str]], after: Any, prefix: str, delimiter: str, limit: int
) -> tuple[Sequence[tuple[str, str | None]], bool]:
    """A page of entries, (key, its row) or (common prefix, None), in order of their bytes; whether more follow."""
    entries: list[tuple[str, str | None]] = []
    for key, row in sorted(rows, key=lambda each: each[0].encode()):
        group = _group_of(key, prefix, delimiter)
        entry = (group, None) if group else (key, row)
        if key.startswith(prefix) and after(entry[0]) and (not group or entry not in entries):
            entries.append(entry)
    return entries[:limit], 0 < limit < len(entries)
