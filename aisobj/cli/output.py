"""What is printed: tables laid out as AIStore's, sizes, properties.

AIStore fills its tables with tabs (Go's ``text/tabwriter``, a column every 8 places) and puts a blank before each
cell but the first. Here the same places are reached with blanks, so that a line looks the same on every terminal, in a
pipe, and in AIStore's documentation.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import click
from rich.cells import cell_len

_TAB = 8

#: AIStore's names of all permissions, in its order (3.3, ``cmn/api_access.go``).
_ACCESS = (
    "GET,HEAD-OBJECT,PUT,APPEND,DOWNLOAD,DELETE-OBJECT,RENAME-OBJECT,PROMOTE,HEAD-BUCKET,LIST-OBJECTS,RENAME-BUCKET,"
    "PATCH,MAKE-NCOPIES,SYNC-BUCKET,DELETE-BUCKET"
)


class Table:
    """Prints rows under each other. The first rows decide on the widths; later ones may be wider than their column."""

    def __init__(self) -> None:
        self._widths: list[int] = []

    def print(self, rows: Sequence[Sequence[str]]) -> None:
        cells = [[printable(cell) for cell in row] for row in rows]
        if not self._widths:
            self._widths = [_width(max(map(cell_len, column))) for column in zip(*cells, strict=True)]
        for row in cells:
            padded = [cell + " " * (width - cell_len(cell)) for cell, width in zip(row, self._widths, strict=True)]
            click.echo(" ".join(padded).rstrip())


def _width(longest: int) -> int:
    return -(-(longest + 1) // _TAB) * _TAB


def printable(text: str) -> str:
    """With control characters as escapes: a name must not steer the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def quoted(text: str) -> str:
    """As Go's ``%q``."""
    return json.dumps(text, ensure_ascii=False)


def print_json(value: Any) -> None:
    """Indented by four, as AIStore's."""
    click.echo(json.dumps(value, indent=4, ensure_ascii=False))


def size_text(size: int) -> str:
    """``11B``, ``2.50KiB`` (``cos.ToSizeIEC`` with two digits)."""
    for shift, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << shift:
            return f"{size / (1 << shift):.2f}{unit}"
    return f"{size}B"


def time_text(ns: int) -> str:
    """RFC 3339 in local time."""
    return datetime.fromtimestamp(ns // 10**9).astimezone().isoformat().replace("+00:00", "Z")


def flatten(document: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    """``{"checksum": {"type": "md5"}}`` -> ``checksum.type``, ``md5``."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def value_text(value: Any) -> str:
    """As it is typed: ``true`` rather than ``True``."""
    return value if isinstance(value, str) else json.dumps(value)


def props_rows(props: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A line for each section of a bucket's properties."""
    return [(name, show(props)) for name, show in _SECTIONS.items()]


def flat_rows(props: Mapping[str, Any], section: str = "") -> list[tuple[str, str]]:
    """A line for each property, or for those of a section."""
    return [
        (name, value_text(value))
        for name, value in sorted(flatten(props))
        if not section or name == section or name.startswith(section + ".")
    ]


def _checksum(props: Mapping[str, Any]) -> str:
    """``cmn.CksumConf.String``."""
    conf = props["checksum"]
    if conf["type"] == "none":
        return "Disabled"
    names = {
        "ColdGET": "validate_cold_get",
        "WarmGET": "validate_warm_get",
        "ObjectMove": "validate_obj_move",
        "ReadRange": "enable_read_range",
    }
    validated = ",".join(name for name, field in names.items() if conf.get(field))
    return f"Type: {conf['type']} | Validate: {validated or 'Nothing'}"


def _ec(props: Mapping[str, Any]) -> str:
    conf = props["ec"]
    if not conf["enabled"]:
        return "Disabled"
    return f"{conf['data_slices']}:{conf['parity_slices']} ({size_text(conf['objsize_limit'])})"


def _lru(props: Mapping[str, Any]) -> str:
    conf = props["lru"]
    return f"Do not evict time: {conf['dont_evict_time']}" if conf["enabled"] else "Disabled"


def _mirror(props: Mapping[str, Any]) -> str:
    conf = props["mirror"]
    return f"{conf['copies']} copies" if conf["enabled"] else "Disabled"


def _versioning(props: Mapping[str, Any]) -> str:
    conf = props["versioning"]
    if not conf["enabled"]:
        return "Disabled"
    return f"Enabled | Validate on WarmGET: {'yes' if conf['validate_warm_get'] else 'no'}"


_SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "access": lambda props: _ACCESS if int(props["access"]) == 2**64 - 1 else str(props["access"]),
    "checksum": _checksum,
    "created": lambda props: time_text(int(props["created"])),
    "ec": _ec,
    "lru": _lru,
    "mirror": _mirror,
    "provider": lambda props: str(props["provider"]),
    "versioning": _versioning,
}
