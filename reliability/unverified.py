"""A server that verifies nothing: the negative control of ``flips``. Its arguments are those of twistd.

It reaches into the server's code, as no other program here does, since there is (rightly) no option for this.
"""

from __future__ import annotations

from twisted.scripts import twistd

from aisobj.storage import blob_reader, records


def verify_nothing() -> None:
    """From now on, in this process."""
    setattr(blob_reader, "verify", lambda view, first_block, footer: None)  # noqa: B010
    setattr(records, "unseal", lambda row: memoryview(row)[1:-8])  # noqa: B010 (records.decode leaves the verdict to it)


def run() -> None:
    """Never returns."""
    verify_nothing()
    twistd.run()


if __name__ == "__main__":
    run()
