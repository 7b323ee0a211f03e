"""The machine of ``test_s3_model``: what requests there are, and how an answer is compared with ``s3_oracle``'s."""

from __future__ import annotations

import itertools
from typing import Any

from botocore.exceptions import ClientError
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, multiple, rule
from s3_oracle import FUTURE, MIN_PART, PAST, Answer, Oracle, Refused

_runs = itertools.count(1)

NAMES = st.sampled_from(["one", "one", "one", "two"])  # mostly the one that is there
KEYS = st.sampled_from(["a", "a/", "a/b", "a/b/c", "a//b", "b", "b/a", "ü/😀", " +&", "%2F", "z" * 1024])
BIG = bytes(range(256)) * (MIN_PART // 256)
#: By name: hypothesis keeps, prints and compares what it chooses.
CONTENTS = {"": b"", "x": b"x", "digits": b"0123456789", "5 kB": b"y" * 5000, "100 kB": b"z" * 100_000}
CONTENTS |= {"part": BIG, "larger part": BIG + b"!"}
BODIES = st.sampled_from(["", "x", "digits", "5 kB", "100 kB"])
PARTS = st.sampled_from(["", "digits", "5 kB", "part", "larger part"])
ATTRIBUTES = st.sampled_from(
    [
        {},
        {"Metadata": {"a": "b"}},
        {"ContentType": "text/plain", "CacheControl": "no-cache", "Metadata": {"k": "v" * 300}},
    ]
)
PREFIXES = st.sampled_from(["", "", "a", "a/", "a/b", "b", "ü/", "none"])
DELIMITERS = st.sampled_from(["", "/", "/", "/", "//", "b"])
MARKERS = st.one_of(st.just(""), st.just(""), KEYS, st.sampled_from(["a/a", "a/b/", "b/", "zz"]))
LIMITS = st.sampled_from([0, 1, 1, 2, 3, 1000])
RANGES = st.sampled_from(["bytes=0-", "bytes=0-0", "bytes=3-6", "bytes=4999-", "bytes=-4", "bytes=70000-999999"])
#: Which ETag a condition names.
WHICH = st.sampled_from(["none", "none", "current", "other", "new"])


def present(**parameters: Any) -> Answer:
    """Those that were given."""
    return {name: value for name, value in parameters.items() if value not in ("", None)}


class S3Machine(RuleBasedStateMachine):
    client: Any  #: of the server

    uploads = Bundle("uploads")  #: bucket, key, id
    pages = Bundle("pages")  #: where a listing goes on: its parameters, its token, its last entry

    @initialize(keys=st.lists(KEYS, max_size=8, unique=True))
    def begin(self, keys: list[str]) -> None:
        self.oracle = Oracle()
        self.completed: dict[str, list[Answer]] = {}  #: by upload id: what was named
        self.prefix = f"model-{next(_runs)}-"
        self.both("create_bucket", Bucket=self.prefix + "one")
        for key in keys:
            self.both("put_object", Bucket=self.prefix + "one", Key=key, Body=key.encode())

    def teardown(self) -> None:
        if not hasattr(self, "oracle"):
            return
        for name, bucket in [*self.oracle.buckets.items()]:
            self.both("list_objects_v2", Bucket=name)
            self.both("list_multipart_uploads", Bucket=name)
            for key in [*bucket.objects]:
                self.both("get_object", Bucket=name, Key=key)
                self.both("delete_object", Bucket=name, Key=key)
            self.both("delete_bucket", Bucket=name)

    def both(self, operation: str, *, oracle: Answer | None = None, **parameters: Any) -> Answer | None:
        """Do it, and compare. The answer, None where it was refused.

        :param oracle: parameters for the oracle, in place of those of the same name and of ContinuationToken.
        """
        try:
            answer: Answer = getattr(self.client, operation)(**parameters)
        except ClientError as error:
            answer = error.response
        if "Body" in answer:
            answer["Body"] = answer["Body"].read()
        if "UploadId" in answer:
            parameters["UploadId"] = answer["UploadId"]
        parameters |= oracle or {}
        parameters.pop("ContinuationToken", None)
        try:
            expected = getattr(self.oracle, operation)(**parameters)
        except Refused as refusal:
            found = (answer.get("Error", {}).get("Code"), answer["ResponseMetadata"]["HTTPStatusCode"])
            # The answer to a HEAD, and a 304, have no document: boto3 takes the status for the code.
            wordless = operation.startswith("head_") or refusal.status == 304
            assert found == (str(refusal.status) if wordless else refusal.code, refusal.status), (operation, parameters)
            return None
        assert "Error" not in answer, (operation, parameters, answer)
        for name, value in expected.items():
            assert alike(answer.get(name), value), (operation, parameters, name, answer.get(name), value)
        return answer

    def etag(self, name: str, key: str, which: str) -> Answer:
        """The condition of a write."""
        bucket = self.oracle.buckets.get(name)
        current = bucket.objects.get(key) if bucket else None
        return {
            "none": {},
            "new": {"IfNoneMatch": "*"},
            "other": {"IfMatch": '"0123456789abcdef0123456789abcdef"'},
            "current": {"IfMatch": current.etag if current else '"0"'},
        }[which]

    def reading(self, name: str, key: str, which: str, prefix: str = "") -> Answer:
        """The conditions of a read."""
        conditions: Answer = self.etag(name, key, which)
        if which == "new":
            current: Answer = self.etag(name, key, "current")
            conditions = {"IfNoneMatch": current["IfMatch"]}
        return {prefix + condition: value for condition, value in conditions.items()}

    # Buckets

    @rule(name=NAMES)
    def create_bucket(self, name: str) -> None:
        self.both("create_bucket", Bucket=self.prefix + name)

    @rule(name=NAMES)
    def look_at_buckets(self, name: str) -> None:
        self.both("head_bucket", Bucket=self.prefix + name)
        self.both("get_bucket_location", Bucket=self.prefix + name)
        self.both("list_buckets", Prefix=self.prefix)

    @rule(name=NAMES)
    def delete_bucket(self, name: str) -> None:
        self.both("delete_bucket", Bucket=self.prefix + name)

    # Objects

    @rule(name=NAMES, key=KEYS, body=BODIES, attributes=ATTRIBUTES, which=WHICH)
    def put(self, name: str, key: str, body: str, attributes: Answer, which: str) -> None:
        name = self.prefix + name
        condition = self.etag(name, key, which)
        self.both("put_object", Bucket=name, Key=key, Body=CONTENTS[body], **attributes, **condition)

    @rule(
        name=NAMES,
        key=KEYS,
        how=st.sampled_from(["get_object", "get_object", "head_object"]),
        part=st.one_of(
            st.just({}),
            RANGES.map(lambda text: {"Range": text}),
            st.integers(1, 3).map(lambda number: {"PartNumber": number}),
        ),
        which=WHICH,
        date=st.sampled_from(
            [
                {},
                {},
                {"IfUnmodifiedSince": PAST},
                {"IfUnmodifiedSince": FUTURE},
                {"IfModifiedSince": PAST},
                {"IfModifiedSince": FUTURE},
            ]
        ),
    )
    def get(self, name: str, key: str, how: str, part: Answer, which: str, date: Answer) -> None:
        name = self.prefix + name
        self.both(how, Bucket=name, Key=key, **part, **self.reading(name, key, which), **date)

    @rule(name=NAMES, key=KEYS)
    def tagging(self, name: str, key: str) -> None:
        self.both("get_object_tagging", Bucket=self.prefix + name, Key=key)
        tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
        self.both("put_object_tagging", Bucket=self.prefix + name, Key=key, Tagging=tags)

    @rule(name=NAMES, key=KEYS, which=st.sampled_from(["none", "none", "current", "other"]))
    def delete(self, name: str, key: str, which: str) -> None:
        name = self.prefix + name
        self.both("delete_object", Bucket=name, Key=key, **self.etag(name, key, which))

    @rule(name=NAMES, keys=st.lists(KEYS, min_size=1, max_size=4, unique=True), quiet=st.booleans(), which=WHICH)
    def delete_several(self, name: str, keys: list[str], quiet: bool, which: str) -> None:
        name = self.prefix + name
        condition = self.etag(name, keys[0], which).get("IfMatch")
        first = present(Key=keys[0], ETag=condition)
        wanted = {"Objects": [first, *({"Key": key} for key in keys[1:])], "Quiet": quiet}
        self.both("delete_objects", Bucket=name, Delete=wanted)

    @rule(
        name=NAMES,
        key=KEYS,
        into=NAMES,
        other=KEYS,
        attributes=ATTRIBUTES,
        directive=st.sampled_from(["", "COPY", "REPLACE"]),
        source_which=WHICH,
        which=WHICH,
    )
    def copy(
        self,
        name: str,
        key: str,
        into: str,
        other: str,
        attributes: Answer,
        directive: str,
        source_which: str,
        which: str,
    ) -> None:
        name, into = self.prefix + name, self.prefix + into
        self.both(
            "copy_object",
            Bucket=into,
            Key=other,
            CopySource={"Bucket": name, "Key": key},
            **present(MetadataDirective=directive),
            **(attributes if directive == "REPLACE" else {}),
            **self.reading(name, key, source_which, "CopySource"),
            **self.etag(into, other, which),
        )

    # Multipart uploads

    @rule(target=uploads, name=NAMES, key=KEYS, attributes=ATTRIBUTES, parts=st.lists(PARTS, max_size=2))
    def begin_upload(self, name: str, key: str, attributes: Answer, parts: list[str]) -> Any:
        name = self.prefix + name
        answer = self.both("create_multipart_upload", Bucket=name, Key=key, **attributes)
        if answer is None:
            return multiple()
        upload = name, key, answer["UploadId"]
        for number, body in enumerate(parts, 1):
            self.put_part(upload, number, body)
        return upload

    @rule(upload=uploads, number=st.integers(1, 3), body=PARTS)
    def put_a_part(self, upload: tuple[str, str, str], number: int, body: str) -> None:
        self.put_part(upload, number, body)

    def put_part(self, upload: tuple[str, str, str], number: int, body: str) -> None:
        name, key, upload_id = upload
        self.both("upload_part", Bucket=name, Key=key, UploadId=upload_id, PartNumber=number, Body=CONTENTS[body])

    @rule(
        upload=uploads,
        number=st.integers(1, 3),
        name=NAMES,
        source=KEYS,
        wanted=st.sampled_from(["", "bytes=0-0", "bytes=2-7", f"bytes=1-{MIN_PART}"]),
        which=WHICH,
    )
    def copy_part(
        self, upload: tuple[str, str, str], number: int, name: str, source: str, wanted: str, which: str
    ) -> None:
        into, key, upload_id = upload
        self.both(
            "upload_part_copy",
            Bucket=into,
            Key=key,
            UploadId=upload_id,
            PartNumber=number,
            CopySource={"Bucket": self.prefix + name, "Key": source},
            **present(CopySourceRange=wanted),
            **self.reading(self.prefix + name, source, which, "CopySource"),
        )

    @rule(upload=uploads, limit=st.sampled_from([1, 2, 1000]), marker=st.integers(0, 3))
    def list_parts(self, upload: tuple[str, str, str], limit: int, marker: int) -> None:
        name, key, upload_id = upload
        parameters = {"MaxParts": limit, "PartNumberMarker": marker}
        self.both("list_parts", Bucket=name, Key=key, UploadId=upload_id, **parameters)

    @rule(
        upload=uploads,
        how=st.sampled_from(["all", "all", "all", "last", "backwards", "other ETag", "another"]),
        which=WHICH,
    )
    def complete(self, upload: tuple[str, str, str], how: str, which: str) -> None:
        name, key, upload_id = upload
        page = self.both("list_parts", Bucket=name, Key=key, UploadId=upload_id) or {}
        parts = [{"PartNumber": part["PartNumber"], "ETag": part["ETag"]} for part in page.get("Parts", ())]
        if not parts and how == "all":
            parts = self.completed.get(upload_id, [])
        if how == "last":
            parts = parts[-1:]
        elif how == "backwards":
            parts.reverse()
        elif how == "other ETag" and parts:
            parts[0]["ETag"] = '"0123456789abcdef0123456789abcdef"'
        if how == "another" or not parts:
            parts = [*parts, {"PartNumber": 4, "ETag": '"0123456789abcdef0123456789abcdef"'}]
        done = self.both(
            "complete_multipart_upload",
            Bucket=name,
            Key=key,
            UploadId=upload_id,
            MultipartUpload={"Parts": parts},
            **self.etag(name, key, which),
        )
        if done is not None:
            self.completed[upload_id] = parts

    @rule(upload=uploads)
    def abort(self, upload: tuple[str, str, str]) -> None:
        name, key, upload_id = upload
        self.both("abort_multipart_upload", Bucket=name, Key=key, UploadId=upload_id)

    # Listings

    @rule(name=NAMES, prefix=PREFIXES, delimiter=DELIMITERS, marker=MARKERS, limit=LIMITS)
    def list_1(self, name: str, prefix: str, delimiter: str, marker: str, limit: int) -> None:
        some = present(Prefix=prefix, Delimiter=delimiter, Marker=marker)
        self.both("list_objects", Bucket=self.prefix + name, MaxKeys=limit, **some)

    @rule(target=pages, name=NAMES, prefix=PREFIXES, delimiter=DELIMITERS, after=MARKERS, limit=LIMITS)
    def list_2(self, name: str, prefix: str, delimiter: str, after: str, limit: int) -> Any:
        some = present(Prefix=prefix, Delimiter=delimiter)
        parameters = {"Bucket": self.prefix + name, "MaxKeys": limit, **some}
        return self.next_page(parameters, self.both("list_objects_v2", **parameters, **present(StartAfter=after)))

    @rule(target=pages, page=pages)
    def list_2_further(self, page: tuple[Answer, str, str]) -> Any:
        """Whatever has changed since."""
        parameters, token, last = page
        answer = self.both("list_objects_v2", ContinuationToken=token, oracle={"StartAfter": last}, **parameters)
        return self.next_page(parameters, answer)

    @staticmethod
    def next_page(parameters: Answer, answer: Answer | None) -> Any:
        if answer is None or not answer["IsTruncated"]:
            assert answer is None or "NextContinuationToken" not in answer
            return multiple()
        entries = [entry["Key"] for entry in answer.get("Contents", ())]
        entries += [entry["Prefix"] for entry in answer.get("CommonPrefixes", ())]
        return parameters, answer["NextContinuationToken"], max(entries, key=str.encode)

    @rule(name=NAMES, prefix=PREFIXES, delimiter=DELIMITERS, limit=st.sampled_from([1, 2, 1000]))
    def list_uploads(self, name: str, prefix: str, delimiter: str, limit: int) -> None:
        """All pages."""
        some = present(Prefix=prefix, Delimiter=delimiter)
        parameters = {"Bucket": self.prefix + name, "MaxUploads": limit, **some}
        markers: Answer = {}
        while answer := self.both("list_multipart_uploads", **parameters, **markers):
            if not answer["IsTruncated"]:
                return
            markers = present(KeyMarker=answer["NextKeyMarker"], UploadIdMarker=answer["NextUploadIdMarker"])

    @rule(upload=uploads, alone=st.booleans(), limit=st.sampled_from([1, 1000]))
    def list_uploads_after(self, upload: tuple[str, str, str], alone: bool, limit: int) -> None:
        """After one that may be gone."""
        name, key, upload_id = upload
        marker = {} if alone else {"UploadIdMarker": upload_id}
        self.both("list_multipart_uploads", Bucket=name, MaxUploads=limit, KeyMarker=key, **marker)


def alike(found: Any, expected: Any) -> bool:
    """Whether it is that, but for fields of entries that are not expected. Deleted and refused keys have no order."""
    if isinstance(expected, list):
        if not isinstance(found, list) or len(found) != len(expected):
            return False
        if expected and "Size" not in expected[0] and "Key" in expected[0] and "UploadId" not in expected[0]:
            found, expected = (sorted(some, key=lambda entry: entry["Key"]) for some in (found, expected))
        return all(map(alike, found, expected))
    if isinstance(expected, dict):
        return isinstance(found, dict) and all(alike(found.get(name), value) for name, value in expected.items())
    return bool(found == expected)
