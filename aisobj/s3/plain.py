"""Plain requests: on an object, as what reads and writes a data set sends them.

Such a request says nothing but who asks for what: a presigned URL as SDKs write it (or, where the server is open, one
without a signature), Host, and headers that change nothing; or it is signed as SDKs do it in ``Authorization``. One
match of a regular expression takes it apart, and it costs half of what it does in the resource tree
(docs/performance.md).

It is a shortcut, not a second opinion: what cannot be answered with success (another form, a wrong signature, no such
object, no space) is left to the tree, which looks at it from the beginning and alone tells errors; what fails once a
commit is on its way is told as the tree tells it. (What SDKs write goes to the very operation that the tree would have
led to, so that this tells its errors.) The fuzzing targets ``plain-read`` and ``plain-write`` hold the two against each
other.
"""

from __future__ import annotations

from aisobj.s3.call import Context
from aisobj.s3.plain_reads import PlainReads
from aisobj.s3.plain_writes import PlainWrites
from aisobj.web.site import Shortcut


def shortcuts(context: Context) -> dict[bytes, Shortcut]:
    """For :attr:`aisobj.web.site.Site.shortcuts`."""
    return {
        **dict.fromkeys(PlainReads.FIRST_BYTES, PlainReads(context)),
        **dict.fromkeys(PlainWrites.FIRST_BYTES, PlainWrites(context)),
    }
