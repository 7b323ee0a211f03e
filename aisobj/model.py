"""The frozen records that storage keeps and the other floors pass around.

Stored records are array-like msgspec structs: a field is only ever appended, with a default, so that a record written
by an earlier release still decodes. Ids are 16 bytes, big-endian time-ordered (``storage.ids``). Times are nanoseconds
since the epoch (int). Sizes and offsets are bytes. Keys are the exact bytes the client named (valid UTF-8, no NUL).
"""

from __future__ import annotations

import enum

import msgspec


class _Record(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Base of what is stored. No record can be part of a cycle, so the garbage collector need not look at any."""


class Format(_Record, frozen=True, array_like=True):
    """The root partition's ``F`` row."""

    version: int  #: of the release that made the store
    min_reader: int  #: the oldest format version whose code reads it
    flags: list[str]  #: features in use that older code does not know
    instance: bytes  #: the store's own id


class BucketState(enum.IntEnum):
    """ACTIVE takes writes; CLOSING is being looked through by DeleteBucket; DELETED is gone and awaits its purge."""

    ACTIVE = 0
    CLOSING = 1
    DELETED = 2


class VersioningStatus(enum.IntEnum):
    """S3's bucket versioning status. UNSET is a bucket that never had PutBucketVersioning."""

    UNSET = 0
    ENABLED = 1
    SUSPENDED = 2


class BucketProps(_Record, frozen=True, array_like=True):
    """What a bucket can be told; names follow AIStore's Bprops (``cmn/api.go``)."""

    checksum_type: str = "xxhash"  #: one of checksums.CHECKSUM_TYPES
    validate_cold_get: bool = True  #: AIStore's property; without a remote backend nothing is ever cold
    validate_warm_get: bool = False  #: GET also recomputes the whole-object checksum
    validate_obj_move: bool = False  #: kept and shown, without effect here
    enable_read_range: bool = False  #: kept and shown, without effect here
    versioning_enabled: bool = True  #: AIStore's versioning.enabled
    versioning_validate_warm_get: bool = False  #: kept and shown
    versioning_status: VersioningStatus = VersioningStatus.UNSET  #: S3's own


class Bucket(_Record, frozen=True, array_like=True):
    """The bucket's ``A`` row."""

    name: str
    id: bytes
    created: int
    owner: str
    state: BucketState
    props: BucketProps


class BucketName(_Record, frozen=True, array_like=True):
    """The root partition's ``b<name>`` row: which bucket id a name stands for."""

    id: bytes
    created: int
    owner: str


class BodyKind(enum.IntEnum):
    """Where the bytes of an object are."""

    EMPTY = 0  #: nowhere: size 0
    INLINE = 1  #: in the ``D<body id>`` row
    EXTENTS = 2  #: in blobs, listed by the ``M<body id>`` row


class Checksum(_Record, frozen=True, array_like=True):
    """An ``x-amz-checksum-*`` value.

    ``algorithm`` is AWS's name (``CRC32``, ``CRC32C``, ``CRC64NVME``, ``SHA1``, ``SHA256``); ``value`` the raw digest;
    ``parts`` is 0 for FULL_OBJECT, else the N of a COMPOSITE ``value-N``.
    """

    algorithm: str
    value: bytes
    parts: int = 0


class ObjectRecord(_Record, frozen=True, array_like=True):
    """The ``O<key>`` row: all that LIST, HEAD and conditions need, at most about 400 bytes."""

    version_id: bytes  #: 16 bytes, time-ordered, unique
    counter: int  #: AIStore's native decimal version: 1, and +1 with each overwrite
    size: int
    mtime: int  #: Last-Modified, ns; never goes back for a key
    etag: str  #: without quotes
    body_kind: BodyKind
    body_id: bytes
    checksum_type: str = "none"  #: the bucket's checksum.type when this was written
    checksum_value: str = ""  #: lower-case hex of the whole object; "" for none and for multipart
    checksum: Checksum | None = None  #: x-amz-checksum-*, as given or computed
    content_type: str = ""  #: "" stands for binary/octet-stream
    parts: int = 0  #: number of parts if it was made by CompleteMultipartUpload
    long_headers: bool = False  #: the rest of the headers and the user metadata are in ``X<version id>``
    headers: dict[str, str] = {}  #: lower-case name -> value: cache-control, content-*, expires, x-amz-meta-*
    key_digest: int = -1  #: XXH32 of the key, since the row's checksum does not cover where it stands; -1: not known


class ListedObject(_Record, frozen=True, array_like=True):
    """What LIST shows of an ``ObjectRecord``: its first fields, in its order; decoding passes over the rest."""

    version_id: bytes
    counter: int
    size: int
    mtime: int
    etag: str
    body_kind: int
    body_id: bytes
    checksum_type: str = "none"
    checksum_value: str = ""
    checksum: Checksum | None = None


class Headers(_Record, frozen=True, array_like=True):
    """The ``X<version id>`` row: what did not fit into the object record (same form as ``ObjectRecord.headers``)."""

    headers: dict[str, str]


class Extent(_Record, frozen=True, array_like=True):
    """``length`` bytes at ``offset`` of the data of a blob. A blob has exactly one owner: one body, or one part."""

    blob_id: bytes
    offset: int
    length: int


class PartInfo(_Record, frozen=True, array_like=True):
    """One part of a completed multipart object: what ``?partNumber=`` and whole-object verification need."""

    number: int
    size: int
    digest: bytes  #: raw digest in the object's checksum_type; b"" for none
    checksum: Checksum | None = None


class Body(_Record, frozen=True, array_like=True):
    """The ``M<body id>`` row."""

    extents: list[Extent]
    parts: list[PartInfo] = []


class Upload(_Record, frozen=True, array_like=True):
    """The ``U<key>00<upload id>`` row."""

    id: bytes
    initiated: int
    owner: str
    checksum_type: str  #: the bucket's checksum.type when the upload began; decides the ETag
    content_type: str = ""
    headers: dict[str, str] = {}
    checksum_algorithm: str = ""  #: AWS's name, or "" if none was asked for
    checksum_full_object: bool = False  #: FULL_OBJECT rather than COMPOSITE


class Part(_Record, frozen=True, array_like=True):
    """The ``P<upload id><part u16>`` row."""

    number: int
    size: int
    mtime: int
    etag: str
    digest: bytes  #: raw digest in the upload's checksum_type
    extents: list[Extent]
    checksum: Checksum | None = None


class Garbage(_Record, frozen=True, array_like=True):
    """The ``G<time><body id>`` row: blobs to remove once no reader can still hold their extents."""

    blob_ids: list[bytes]


class Counters(msgspec.Struct, frozen=True):
    """Totals of one bucket, or of the whole store."""

    objects: int = 0
    bytes: int = 0


class Principal(msgspec.Struct, frozen=True):
    """Who is asking. ``anonymous`` only while no credentials are configured."""

    name: str
    access_key: str = ""
    anonymous: bool = False


ANONYMOUS = Principal(name="anonymous", anonymous=True)


class Attributes(msgspec.Struct, frozen=True):
    """What a client says about an object besides its bytes; see ``ObjectRecord`` for the fields."""

    content_type: str = ""
    headers: dict[str, str] = {}
    checksum: Checksum | None = None
