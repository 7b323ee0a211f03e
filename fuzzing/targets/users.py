"""The file of users and secrets."""

from __future__ import annotations

import re

from aisobj.protocol.credentials import Credentials
from fuzzing.target import Label, Target, demand, same, words

_SECRET = re.compile(r"aws_secret_access_key *[=:] *(\S*\d\S*\d\S*\d\S*)", re.IGNORECASE)
_KEY = re.compile(r"^[^\S\n]*aws_access_key_id[^\S\n]*[=:][^\S\n]*(.*?)[^\S\n]*$", re.IGNORECASE | re.MULTILINE)


def check(data: bytes) -> Label:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return None  # whoever reads the file says so
    try:
        users = Credentials.parse(text)
    except ValueError as error:
        said = str(error)
        demand("\n" not in said, "an error is one line", said)
        for secret in _SECRET.findall(text):
            demand(secret not in said.rpartition("]")[2] or text.count(secret) > 1, "no error tells a secret", said)
        return re.sub(r"\[.*\]|\d+", "", said, flags=re.DOTALL)[:40]
    found = []
    for key in _KEY.findall(text):
        user = users.lookup(key.encode())
        if user is not None:
            demand(user[0].access_key == key and bool(user[1]), "a user has a key and a secret", user)
            found.append((user[0].name, key, user[1]))
            demand(
                len(user[1]) < 8 or user[1] not in repr(users) or text.count(user[1]) > 1,
                "nothing shows a secret",
                repr(users),
            )
    found = list(dict.fromkeys(found))
    same(len(found), len(users), "each user's key stands in the file")
    again = Credentials(found)
    for name, key, secret in found:
        looked_up = again.lookup(key.encode())
        assert looked_up is not None
        same((looked_up[0].name, looked_up[1]), (name, secret), "a user comes back")
    return len(users)


TARGETS = [
    Target(
        "users",
        check,
        "ValueError of one line, without a secret; each user found has a key and a secret that stand in the file",
        words(
            r"""
            [alice]\n aws_access_key_id\x20=\x20AKIA1\n aws_secret_access_key\x20=\x20s3cr3ts3cr3t\n = :
            \n\x20 # ; [ ] [DEFAULT]\n %(a)s \xef\xbb\xbf aws_session_token\x20=\x20t\n
            region\x20=\x20x\n \x00 [\x00]\n \r \x0c \x85
            """
        ),
        4096,
        1 << 10,  # configparser takes the square of a line's length, and the file is the operator's own
    )
]
