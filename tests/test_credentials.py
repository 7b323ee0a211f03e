"""The credentials file: what is read, what is refused, and that no secret ever shows."""

from __future__ import annotations

import pytest

from aisobj.model import Principal
from aisobj.protocol.credentials import Credentials

FILE = """\
# the team
[default]
aws_access_key_id = AKIADEFAULT
aws_secret_access_key = s3cr3t/with+odd=%(chars)s
region = eu-1

[data loader]
AWS_ACCESS_KEY_ID=AKIALOADER
aws_secret_access_key=s3cr3t two
"""


def test_each_section_is_a_user() -> None:
    users = Credentials.parse(FILE)
    assert len(users) == 2
    assert users.lookup(b"AKIADEFAULT") == (Principal("default", "AKIADEFAULT"), "s3cr3t/with+odd=%(chars)s")
    assert users.lookup(b"AKIALOADER") == (Principal("data loader", "AKIALOADER"), "s3cr3t two")
    assert users.lookup(b"AKIANOBODY") is None
    assert users.lookup(b"") is None


def test_a_section_called_default_in_capitals_is_a_user_too() -> None:
    users = Credentials.parse("[DEFAULT]\naws_access_key_id=A\naws_secret_access_key=b\n")
    assert users.lookup(b"A") == (Principal("DEFAULT", "A"), "b")


def test_a_byte_order_mark_and_dos_line_ends_are_read_over() -> None:
    users = Credentials.parse("\ufeff" + FILE.replace("\n", "\r\n"))
    assert users.lookup(b"AKIALOADER") == (Principal("data loader", "AKIALOADER"), "s3cr3t two")


def test_no_secret_in_the_repr() -> None:
    assert repr(Credentials.parse(FILE)) == str(Credentials.parse(FILE)) == "<Credentials of default, data loader>"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no section"),
        ("# nothing\n", "no section"),
        ("[a]\n", "[a]: aws_access_key_id is missing"),
        ("[a]\naws_access_key_id = A\n", "[a]: aws_secret_access_key is missing"),
        ("[a]\naws_access_key_id = A\naws_secret_access_key =\n", "[a]: aws_secret_access_key is missing"),
        ("[a]\naws_access_key_id =\naws_secret_access_key = s3cr3t\n", "[a]: aws_access_key_id is missing"),
        ("[a]\naws_access_key_id = A B\naws_secret_access_key = s3cr3t\n", "[a]: aws_access_key_id is not"),
        ("[a]\naws_access_key_id = A/B\naws_secret_access_key = s3cr3t\n", "[a]: aws_access_key_id is not"),
        ("[a]\naws_access_key_id = A:B\naws_secret_access_key = s3cr3t\n", "[a]: aws_access_key_id is not"),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = s3cr3t\n  more\n",
            "[a]: aws_secret_access_key goes over",
        ),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = s3cr3t\naws_session_token = s3cr3t\n",
            "[a]: aws_session_token is not supported",
        ),
        (
            "[a]\naws_access_key_id = A\naws_secret_access_key = s3cr3t\n"
            "[b]\naws_access_key_id = A\naws_secret_access_key = s3cr3t\n",
            "[b]: the same aws_access_key_id as [a]",
        ),
        ("[a]\naws_access_key_id = A\n[a]\naws_access_key_id = B\n", "[a]: there are two"),
        (
            "[a]\naws_secret_access_key = s3cr3t\naws_secret_access_key = s3cr3t\n",
            "[a]: aws_secret_access_key is given",
        ),
        ("aws_secret_access_key = s3cr3t\n", "line 1: "),
        ("[a]\naws_access_key_id = A\naws_secret_access_key s3cr3t\n", "line 3: "),
        ("[a\naws_secret_access_key = s3cr3t\n", "line 1: "),
    ],
)
def test_a_file_with_a_fault_is_refused_in_one_line_without_the_secret(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        Credentials.parse(text)
    message = str(caught.value)
    assert message.startswith(says)
    assert "\n" not in message
    assert "s3cr3t" not in message
    # A traceback shows causes as well.
    assert caught.value.__cause__ is None and (caught.value.__suppress_context__ or caught.value.__context__ is None)


def test_an_empty_secret_is_refused_however_it_comes() -> None:
    with pytest.raises(ValueError, match=r"\[a\]: aws_secret_access_key is empty"):
        Credentials([("a", "A", "")])
