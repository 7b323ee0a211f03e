"""What ``rebuild-index`` says it has done, and what nobody can know."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from typing import Any

#: What leaves no footer, or none that says so.
UNKNOWN = (
    "small objects that were put, and objects that were overwritten by small ones",
    "copies and completed uploads",
    "deletes of objects, and uploads that were aborted",
    "buckets that were made, changed or destroyed",
    "which of the objects of the backup were overwritten or deleted like that",
)


@dataclass(frozen=True)
class FromFooter:
    """An object, or a part, that is there because a footer proves that it was stored.

    :ivar stored: when its blob was begun. :ivar replaced: whether the backup has an older one.
    :ivar upload: in hex, of a part; else "". :ivar part: its number, or 0.
    """

    bucket: str
    key: str
    bytes: int
    stored: str
    replaced: bool
    upload: str = ""
    part: int = 0

    @property
    def place(self) -> tuple[str, ...]:
        """What there is one of."""
        return (self.bucket, self.key, self.upload, str(self.part))

    def __str__(self) -> str:
        if self.upload:
            return f"{self.bucket}/{self.key}: part {self.part} of upload {self.upload}"
        return f"{self.bucket}/{self.key}: {self.bytes} bytes"


@dataclass
class Rebuilt:
    """What was done; each list has a line for each thing.

    :ivar taken: when the backup was made, seconds since the epoch. :ivar taken_from: what says so.
    :ivar found: objects and parts that footers prove, each once: the newest. :ivar objects: how many there are now.
    :ivar dropped: records of the backup whose blob is gone.
    :ivar unrecoverable: blobs that belong to something that is not known.
    :ivar replaced: where the old index is now, or "".
    """

    backup: str
    taken: float
    taken_from: str
    found: dict[tuple[str, ...], FromFooter] = field(default_factory=dict)
    objects: int = 0
    dropped: list[str] = field(default_factory=list)
    unrecoverable: list[str] = field(default_factory=list)
    replaced: str = ""

    def add(self, found: FromFooter) -> None:
        """One that is newer than what there was, be it of the backup or of another footer."""
        earlier = self.found.get(found.place, found)
        self.found[found.place] = replace(found, replaced=earlier.replaced)

    @property
    def from_backup(self) -> int:
        """How many objects are as the backup has them."""
        return self.objects - sum(not found.upload for found in self.found.values())

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "backup": self.backup,
            "backup_time": utc(self.taken),
            "backup_time_from": self.taken_from,
            "backup_age_seconds": self._age(),
            "added": [str(found) for found in self.found.values()],
            "possibly_outdated": [asdict(found) for found in self.found.values()],
            "from_backup": self.from_backup,
            "unknown": list(UNKNOWN),
            "dropped": self.dropped,
            "unrecoverable": self.unrecoverable,
            "replaced": self.replaced,
        }

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(
                f"{'replaced' if found.replaced else 'added'}: {found}, stored {found.stored}; "
                "may have been deleted or overwritten since"
                for found in self.found.values()
            ),
            *(f"dropped: {text}" for text in self.dropped),
            *(f"unrecoverable: {text}" for text in self.unrecoverable),
            f"rebuilt from {self.backup}: {len(self.found)} added, {len(self.dropped)} dropped, "
            f"{len(self.unrecoverable)} unrecoverable",
            f"the backup is of {utc(self.taken)} ({self.taken_from}), {_hours(self._age())} old; since then cannot be "
            "known:",
            *(f"- {what}" for what in UNKNOWN),
            f"{self.from_backup} objects are as the backup has them",
        ]

    def _age(self) -> int:
        return max(0, round(time.time() - self.taken))


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _hours(seconds: int) -> str:
    hours, rest = divmod(seconds, 3600)
    return f"{hours} h {rest // 60} min" if hours else f"{rest // 60} min {rest % 60} s"
