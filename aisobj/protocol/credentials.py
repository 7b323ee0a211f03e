"""The users of a server: their access keys and secrets, from a file in the AWS shared-credentials format.

Source: AWS "Configuration and credential file settings", https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-files.html
"""

from __future__ import annotations

import configparser
import re
from collections.abc import Iterable

from aisobj.model import Principal

# What an access key may be made of: it stands in a header between "=" and "/" and in front of a comma or a colon.
_is_access_key = re.compile(r"[A-Za-z0-9._~+=@-]+").fullmatch


class Credentials:
    """Access key -> user. Immutable; a changed file is a new object. Its ``repr`` shows no secret."""

    __slots__ = ("_users",)

    def __init__(self, users: Iterable[tuple[str, str, str]]) -> None:
        """
        :param users: name, access key, secret of each.
        :raises ValueError: no user, an access key that cannot be one or that two users have, an empty secret.
        """
        found: dict[bytes, tuple[Principal, str]] = {}
        for name, access_key, secret in users:
            if not _is_access_key(access_key):
                raise ValueError(f"[{name}]: aws_access_key_id is not an access key (letters, digits and ._~+=@- only)")
            if not secret:
                raise ValueError(f"[{name}]: aws_secret_access_key is empty")
            other = found.get(access_key.encode())
            if other is not None:
                raise ValueError(f"[{name}]: the same aws_access_key_id as [{other[0].name}]")
            found[access_key.encode()] = Principal(name, access_key), secret
        if not found:
            raise ValueError("no section: each user needs one, with aws_access_key_id and aws_secret_access_key")
        self._users = found

    @classmethod
    def parse(cls, text: str) -> Credentials:
        """Read a shared-credentials file: each section is a user, named like the section.

        Other settings (``region``, ``output``) are ignored.

        :raises ValueError: one line that names the section or the line, never a secret.
        """
        # Neither interpolation nor a section that others inherit from: AWS's format has none of both.
        parser = configparser.RawConfigParser(default_section="\0", comment_prefixes=("#", ";"))
        try:
            parser.read_string(text.removeprefix("\ufeff"))
        except configparser.DuplicateSectionError as error:
            raise ValueError(f"[{error.section}]: there are two such sections") from None
        except configparser.DuplicateOptionError as error:
            raise ValueError(f"[{error.section}]: {error.option} is given twice") from None
        except configparser.ParsingError as error:
            # Its own text quotes the line, and that may be a secret's.
            line = getattr(error, "lineno", None) or error.errors[0][0]
            raise ValueError(f"line {line}: expected [section], and name = value under it") from None
        return cls([_user(parser[name]) for name in parser.sections()])

    def lookup(self, access_key: bytes) -> tuple[Principal, str] | None:
        """The user and the secret, or None. ``access_key``: as it was sent, whatever that is."""
        return self._users.get(access_key)

    def access_keys(self) -> dict[str, str]:
        """Name of each user -> the access key."""
        return {user.name: user.access_key for user, _ in self._users.values()}

    def __len__(self) -> int:
        return len(self._users)

    def __repr__(self) -> str:
        return f"<Credentials of {', '.join(user.name for user, _ in self._users.values())}>"


def _user(section: configparser.SectionProxy) -> tuple[str, str, str]:
    if section.get("aws_session_token"):
        raise ValueError(f"[{section.name}]: aws_session_token is not supported, only long-term keys are")
    values = []
    for option in ("aws_access_key_id", "aws_secret_access_key"):
        value = section.get(option)
        if not value:
            raise ValueError(f"[{section.name}]: {option} is missing")
        if "\n" in value:
            raise ValueError(f"[{section.name}]: {option} goes over several lines")
        values.append(value)
    return section.name, values[0], values[1]
