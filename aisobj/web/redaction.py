"""What opens something does not get into a log: the one place that takes it out of a text.

A presigned URL opens what it names until it expires, so its signature is no less a secret than a password. Clients put
such URLs, or pieces of them, where nobody expects them: into a Referer, a User-Agent, a copy source, a parameter, a
key; and whoever passes them on escapes once more what is there. So nothing here asks where a text comes from, or how it
is made up: what follows the name of a secret goes, however both are escaped.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

#: A percent sign, escaped as often as you like: ``%``, ``%25``, ``%2525``.
_PERCENT: Final = "%(?:25)*"


def _codes(characters: str) -> list[str]:
    return sorted({f"{ord(case):02x}" for one in characters for case in (one.lower(), one.upper())})


def _digit(digit: str) -> str:
    """Of an escape; some escape these too."""
    return f"(?:{digit}|{_PERCENT}(?:{'|'.join(_codes(digit))}))"


def _escaped(characters: str) -> str:
    return f"{_PERCENT}(?:{'|'.join(_digit(code[0]) + _digit(code[1]) for code in _codes(characters))})"


def _any_of(characters: str) -> str:
    return f"(?:[{re.escape(characters)}]|{_escaped(characters)})"


#: A name that ends in ``Signature`` is one, but not a directory (``/signature=1/``, as Hive has them).
_NO_DIRECTORY: Final = "(?<!/)(?<!2f)"
#: Around the sign between a name and its value.
_BEFORE: Final = "(?>" + _any_of(" +\t\"'[]") + "*)"
_AFTER: Final = "(?>" + _any_of(" \t\"'") + "*)"
#: What no secret holds, so that it ends there; escaped, as hexadecimal digits.
_END: Final = r"\0- \"#&',;<>?\\"
_END_DIGITS: Final = "(?:[01][0-9a-f]|2[02367c]|3[bcef]|5c)"


def _secrets(character: Callable[[str], str]) -> re.Pattern[str]:
    """The parameters of presigned URLs, SigV4's and SigV2's; groups for all but the value.

    :param character: of a name -> its regular expression.
    """
    signature, *others = (
        "".join(map(character, name))
        for name in ("signature", "x-amz-credential", "x-amz-security-token", "awsaccesskeyid")
    )
    # A separator that is escaped more often than the "=" belongs to the value.
    return re.compile(
        f"((?:{_NO_DIRECTORY}{signature}|{'|'.join(others)}){_BEFORE})"
        f"(?:([=:]{_AFTER})[^{_END}]*+"
        f"|(%3[ad]{_AFTER})(?>(?:[^{_END}%]|%(?!{_END_DIGITS}))*)"
        f"|({_escaped(':=')}{_AFTER})(?>(?:[^{_END}%]|%(?!(?:25)*{_END_DIGITS}))*))",
        re.IGNORECASE | re.ASCII,
    )


_plain: Final = _secrets(re.escape).sub
_hidden: Final = _secrets(_any_of).sub  # takes thrice as long: 30 us for a presigned URL (measured)
#: An escape without need, of a letter, a digit or ``-``, or one of ``%``: names may be behind it.
_hides: Final = re.compile(r"%(?:2[5Dd]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa])").search


def redacted(text: str) -> str:
    """``text`` with ``-`` for each secret, and otherwise as it was.

    :param text: a target, a header, a key; percent-encoded never, once or more often.
    """
    kept = r"\1\2\3\4-"
    if "%" in text and _hides(text):
        return _hidden(kept, text)
    lower = text.lower()
    if (
        "signature" in lower
        or "x-amz-credential" in lower
        or "x-amz-security-token" in lower
        or "awsaccesskeyid" in lower
    ):
        return _plain(kept, text)
    return text
