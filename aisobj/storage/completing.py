"""What CompleteMultipartUpload makes of an upload: whether what the client says of the parts and of the object is true,
and the body that the parts become. No I/O.

Rules: AWS "CompleteMultipartUpload", "Checking object integrity in Amazon S3", "Amazon S3 multipart upload limits".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from aisobj import checksums
from aisobj.errors import S3Error
from aisobj.model import Body, Checksum, ObjectRecord, Part, PartInfo, Upload
from aisobj.protocol.listing import Slices
from aisobj.storage.bodies import NewBody

MIN_PART_SIZE = 5 << 20
MAX_OBJECT_SIZE = 5 << 40
#: Parts compared in one go: some 0.5 ms. What else is done with so many takes no longer.
_COMPARED = 1000


class Chosen(NamedTuple):
    """A part as CompleteMultipartUpload names it: number, ETag without quotes, and its checksum if it was given."""

    number: int
    etag: str
    checksum: Checksum | None = None


class Stated(NamedTuple):
    """What the client says of the object. None: nothing."""

    checksum: Checksum | None = None  #: ``x-amz-checksum-*``, with N parts where it says ``-N``
    checksum_type: str | None = None  #: ``x-amz-checksum-type``
    size: int | None = None  #: ``x-amz-mp-object-size``


def assemble(
    upload: Upload, stored: dict[int, Part], chosen: Sequence[Chosen], stated: Stated
) -> Slices[tuple[NewBody, Checksum | None]]:
    """The body of the object, and its x-amz-checksum.

    :raises S3Error: InvalidPart, EntityTooSmall, EntityTooLarge, InvalidRequest, BadDigest.
    """
    long = len(chosen) > _COMPARED
    _check_type(upload, stated)
    used = yield from _choose(upload, stored, chosen)
    if long:
        yield
    new = _new_body(upload, used, stated.size)
    if long:
        yield
    return new, _whole_checksum(upload, used, stated.checksum)


def taken_apart(record: ObjectRecord, body: Body, chosen: Sequence[Chosen]) -> tuple[Upload, dict[int, Part]]:
    """The upload and the parts that an object was made of, as far as :func:`assemble` compares them.

    With type none the ETags were made of ids that nobody has kept: those of ``chosen`` are taken for right.
    """
    etags = {want.number: want.etag for want in chosen}
    whole = record.checksum
    upload = Upload(
        record.body_id,
        0,
        "",
        record.checksum_type,
        checksum_algorithm="" if whole is None else whole.algorithm,
        checksum_full_object=whole is not None and not whole.parts,
    )
    return upload, {
        part.number: Part(
            part.number,
            part.size,
            mtime=0,
            etag=part.digest.hex() or etags.get(part.number, ""),
            digest=part.digest,
            extents=[],
            checksum=part.checksum,
        )
        for part in body.parts
    }


def _is_composite(upload: Upload) -> bool:
    return bool(upload.checksum_algorithm) and not upload.checksum_full_object


def _check_type(upload: Upload, stated: Stated) -> None:
    """An upload without an algorithm would have a full-object checksum at AWS, so that says nothing wrong of it."""
    kind = checksums.type_of(_is_composite(upload))
    if stated.checksum_type not in (None, kind):
        raise S3Error(
            "InvalidRequest",
            f"The upload was created using the {kind} checksum mode. The complete request must use the same checksum "
            "mode.",
        )
    given = stated.checksum
    if given is not None and given.algorithm != upload.checksum_algorithm:
        raise S3Error(
            "InvalidRequest",
            f"Checksum Type mismatch occurred, expected checksum Type: {upload.checksum_algorithm.lower() or 'null'}, "
            f"actual checksum Type: {given.algorithm.lower()}",
        )


def _choose(upload: Upload, stored: dict[int, Part], chosen: Sequence[Chosen]) -> Slices[list[Part]]:
    """The stored parts that the client names. AWS compares ETags, and sizes of all parts but the last.

    Of a composite checksum each part's must be there: whoever composes it anew has to have them.
    """
    composite = _is_composite(upload)
    used: list[Part] = []
    for want in chosen:
        part = stored.get(want.number)
        if part is None or part.etag != want.etag or want.checksum not in (None, part.checksum):
            raise S3Error("InvalidPart", PartNumber=str(want.number), ETag=want.etag)
        if composite and want.checksum is None:
            raise S3Error(
                "InvalidRequest",
                f"The upload was created using a {upload.checksum_algorithm.lower()} checksum. The complete request "
                f"must include the checksum for each part. It was missing for part {want.number} in the request.",
            )
        used.append(part)
        if len(used) % _COMPARED == 0:
            yield
    for part in used[:-1]:
        if part.size < MIN_PART_SIZE:
            raise S3Error(
                "EntityTooSmall",
                ProposedSize=str(part.size),
                MinSizeAllowed=str(MIN_PART_SIZE),
                PartNumber=str(part.number),
                ETag=part.etag,
            )
    return used


def _new_body(upload: Upload, used: Sequence[Part], size: int | None) -> NewBody:
    total = sum(part.size for part in used)
    if total > MAX_OBJECT_SIZE:
        raise S3Error("EntityTooLarge", ProposedSize=str(total), MaxSizeAllowed=str(MAX_OBJECT_SIZE))
    if size is not None and size != total:
        raise S3Error("InvalidRequest", "The provided x-amz-mp-object-size does not match the size of the parts.")
    digests = [part.digest for part in used]
    return NewBody(
        size=total,
        etag=lambda version: checksums.multipart_etag(upload.checksum_type, digests, version),
        checksum_type=upload.checksum_type,
        checksum_value="",
        body=Body(
            [extent for part in used for extent in part.extents],
            [PartInfo(part.number, part.size, part.digest, part.checksum) for part in used],
        ),
        owner=upload.id,
        parts=len(used),
    )


def _whole_checksum(upload: Upload, used: Sequence[Part], given: Checksum | None) -> Checksum | None:
    """The object's x-amz-checksum: from the parts' own, never from the data."""
    algorithm = upload.checksum_algorithm
    values = [(part.checksum, part.size) for part in used]
    if not algorithm or any(value is None or value.algorithm != algorithm for value, _ in values):
        return None
    known = [(value.value, size) for value, size in values if value is not None]
    if upload.checksum_full_object:
        whole = Checksum(algorithm, checksums.combine_full_object(algorithm, known))
    else:
        whole = checksums.composite(algorithm, [value for value, _ in known])
    # Without "-N" nothing is said of the number of parts.
    if given is not None and (given.value != whole.value or given.parts not in (0, whole.parts)):
        raise S3Error("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    return whole
