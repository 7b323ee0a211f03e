"""``ais://BUCKET/NAME`` on the command line, and wildcards in names."""

from __future__ import annotations

import re
from typing import NamedTuple

import click

SCHEME = "ais://"

_WILD = re.compile(r"[*?\[]")


class Uri(NamedTuple):
    """A bucket, or an object or prefix in it. ``bucket`` is "" for ``ais://``, ``name`` is "" for a whole bucket."""

    bucket: str
    name: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.bucket}/{self.name}" if self.name else f"{SCHEME}{self.bucket}"

    @property
    def is_many(self) -> bool:
        """Whether it stands for all objects that match: a bucket, a name that ends in ``/``, or a wildcard."""
        return not self.name or self.name.endswith("/") or _WILD.search(self.name) is not None


class UriType(click.ParamType):  # type: ignore[type-arg]  # generic only since click 8.4
    """Parameters of the form ``ais://BUCKET[/NAME]``.

    :param bucket_only: a name is an error.
    :param name_needed: so is its absence.
    :param any_bucket: ``ais://`` alone is fine.
    """

    name = "uri"

    def __init__(self, *, bucket_only: bool = False, name_needed: bool = False, any_bucket: bool = False) -> None:
        self._bucket_only = bucket_only
        self._name_needed = name_needed
        self._any_bucket = any_bucket

    def convert(self, value: str | Uri, param: click.Parameter | None, ctx: click.Context | None) -> Uri:
        if isinstance(value, Uri):
            return value
        if not value.startswith(SCHEME):
            scheme, separator, _ = value.partition("://")
            what = f'provider "{scheme}" is not supported' if separator else f'"{value}" has no provider'
            self.fail(f"{what}: expecting {SCHEME}BUCKET{'' if self._bucket_only else '[/OBJECT]'}", param, ctx)
        bucket, _, name = value.removeprefix(SCHEME).partition("/")
        if not bucket and (name or not self._any_bucket):
            self.fail(f'bucket name is missing in "{value}"', param, ctx)
        if bucket.startswith(("@", "#")):
            self.fail(f'namespaces are not supported: "{value}"', param, ctx)
        if name and self._bucket_only:
            self.fail(f'unexpected object name argument "{name}"', param, ctx)
        if not name and self._name_needed:
            self.fail(f'object name is missing in "{value}"', param, ctx)
        return Uri(bucket, name)


class Selection(NamedTuple):
    """Which objects a name with wildcards, or a prefix, stands for.

    ``base`` is how much of the matching names is a folder that they have in common: what a download leaves away.
    """

    prefix: str
    pattern: re.Pattern[str] | None
    base: int

    def matches(self, name: str) -> bool:
        return self.pattern is None or self.pattern.fullmatch(name) is not None


def select(name: str) -> Selection:
    """``*`` and ``?`` match within a folder, ``**`` across folders, ``[abc]`` and ``[!a-z]`` one character."""
    wild = _WILD.search(name)
    prefix = name if wild is None else name[: wild.start()]
    base = prefix.rfind("/") + 1
    return Selection(prefix, None if wild is None else re.compile(_translate(name), re.DOTALL), base)


def _translate(pattern: str) -> str:
    expression = []
    position = 0
    while position < len(pattern):
        char = pattern[position]
        end = pattern.find("]", position + 2) if char == "[" else -1
        if pattern.startswith("**", position):
            expression.append(".*")
            position += 2
            continue
        if end > 0:
            members = pattern[position + 1 : end].replace("\\", r"\\").replace("[", r"\[")
            expression.append(f"[{'^/' + members[1:] if members[0] == '!' else members}]")
            position = end
        else:
            expression.append({"*": "[^/]*", "?": "[^/]"}.get(char) or re.escape(char))
        position += 1
    return "".join(expression)
