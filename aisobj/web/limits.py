"""Every limit and time-out of the HTTP side in one frozen value, so that a test can shrink any of them.

Sizes are bytes, times are seconds. S3's own numbers are AWS's, "Amazon S3 service quotas" and the pages of the
operations: https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
"""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB
TIB = 1024 * GIB


@dataclass(frozen=True, slots=True)
class Limits:
    """Handed to :class:`aisobj.web.site.Site`; resources find it as ``request.limits``."""

    # One connection
    connections: int = 4096  #: open at once per process: ``admission``
    connections_per_address: int = 0  #: the same, from one address (IPv6: one /64); 0: no limit
    refusals: int = 128  #: further ones that are being told to come later
    head_bytes: int = 16 * KIB  #: request line and headers together, AWS allows 8 KiB
    headers: int = 100
    crowd: int = 64  #: with more connections than this, little is left unsent in the kernel for each
    held_blocks: int = 128  #: blocks of large bodies (half a MiB) that wait for clients to read
    chunk_line_bytes: int = 256  #: a chunk size with its extension
    trailer_bytes: int = 16 * KIB  #: the trailer section of a chunked body
    drain_bytes: int = 64 * KIB  #: an unread body up to this long is read and dropped to keep the connection
    linger_bytes: int = 64 * MIB  #: dropped after an answer that closes, so that the client gets to read it

    head_seconds: float = 20.0  #: for the whole head, however slowly its bytes arrive
    body_rate: int = 1 * KIB  #: a body must arrive at this many bytes per second ...
    body_grace_seconds: float = 20.0  #: ... with this much credit; while we pause the client, time stands still
    response_rate: int = 1 * KIB  #: a client must read its response at this many bytes per second ...
    response_grace_seconds: float = 55.0  #: ... with this much credit
    idle_seconds: float = 60.0  #: between two requests of one connection
    handshake_seconds: float = 10.0  #: TLS
    linger_seconds: float = 10.0  #: how long linger_bytes may take
    arrival_seconds: float = 1.0  #: at the end of the server, for a connection that has asked for nothing yet
    sweep_seconds: float = 1.0  #: how often time-outs are looked at
    sweep_slice_seconds: float = 0.003  #: at a stretch: requests have their turn in between

    # S3
    user_metadata_bytes: int = 2 * KIB
    key_bytes: int = 1024
    document_bytes: int = 1 * MIB  #: an XML body
    long_document_bytes: int = 8 * MIB  #: CompleteMultipartUpload and DeleteObjects
    delete_keys: int = 1000
    parts: int = 10_000
    part_min_bytes: int = 5 * MIB  #: all parts but the last
    put_bytes: int = 5 * GIB  #: one PUT or one part
    object_bytes: int = 5 * TIB
    max_keys: int = 1000  #: one page of a listing
    tags: int = 10
    post_policy_bytes: int = 20 * KIB
