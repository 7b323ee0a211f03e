"""The parts of the ``ais`` command that need neither a process nor a server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from aisobj.cli import buckets, output
from aisobj.cli.credentials import find_signer
from aisobj.cli.get import UnsafeName, local_path
from aisobj.cli.objects import columns
from aisobj.cli.uri import Uri, UriType
from aisobj.cli.uri import select as select_names


def test_properties_are_parsed() -> None:
    words = ["checksum.type=md5", "versioning.enabled=off a.b.c=7"]
    wanted = {"checksum": {"type": "md5"}, "versioning": {"enabled": False}, "a": {"b": {"c": 7}}}
    assert buckets.parse_props(words) == wanted
    assert buckets.parse_props([json.dumps(wanted)]) == wanted
    assert buckets.parse_props([""]) == {}


@pytest.mark.parametrize("word", ["checksum", "=md5", "checksum.type=", "a=1 a.b=2", "{", '{"a": }'])
def test_bad_properties_are_refused(word: str) -> None:
    with pytest.raises(click.UsageError, match="invalid bucket propert"):
        buckets.parse_props([word])


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("ais://b", Uri("b", "")),
        ("ais://b/", Uri("b", "")),
        ("ais://b/k", Uri("b", "k")),
        ("ais://b//k/", Uri("b", "/k/")),
        ("ais://b/ais://c", Uri("b", "ais://c")),
    ],
)
def test_uris_are_parsed(text: str, uri: Uri) -> None:
    assert UriType().convert(text, None, None) == uri


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("b/k", {}, '"b/k" has no provider'),
        ("s3://b", {}, 'provider "s3" is not supported'),
        ("ais://", {}, "bucket name is missing"),
        ("ais:///k", {"any_bucket": True}, "bucket name is missing"),
        ("ais://@uuid#ns/b", {}, "namespaces are not supported"),
        ("ais://b/k", {"bucket_only": True}, 'unexpected object name argument "k"'),
        ("ais://b", {"name_needed": True}, "object name is missing"),
    ],
)
def test_bad_uris_are_refused(text: str, options: dict[str, bool], message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        UriType(**options).convert(text, None, None)


@pytest.mark.parametrize(
    ("pattern", "prefix", "base", "yes", "no"),
    [
        ("a/b", "a/b", 2, ["a/b", "a/bc"], []),
        ("dir/", "dir/", 4, ["dir/x"], []),
        ("*.jpg", "", 0, ["a.jpg", ".jpg"], ["d/a.jpg", "a.jpgx"]),
        ("d/**.jpg", "d/", 2, ["d/a.jpg", "d/e/a.jpg"], ["a.jpg"]),
        ("d/x-?", "d/x-", 2, ["d/x-1"], ["d/x-", "d/x-/", "d/x-12"]),
        ("x[0-2]", "x", 0, ["x0", "x2"], ["x3", "x"]),
        ("x[!0-2]", "x", 0, ["x3"], ["x0", "x/"]),
        ("x[]]", "x", 0, ["x]"], ["x["]),
        ("x[", "x", 0, ["x["], ["x"]),
        ("a+(*)", "a+(", 0, ["a+(b)"], ["aa(b)"]),
        ("*", "", 0, ["a\nb"], ["a/b"]),
    ],
)
def test_wildcards_in_names(pattern: str, prefix: str, base: int, yes: list[str], no: list[str]) -> None:
    selection = select_names(pattern)
    assert (selection.prefix, selection.base) == (prefix, base)
    assert [name for name in (*yes, *no) if selection.matches(name)] == yes


@pytest.mark.parametrize("name", ["", ".", "..", "/a", "a/", "a//b", "../a", "a/../b", "a\0b"])
def test_names_that_cannot_be_files(name: str) -> None:
    with pytest.raises(UnsafeName):
        local_path(name)


def test_names_that_can_be_files() -> None:
    assert local_path("a/.hidden/..c/d e") == Path("a/.hidden/..c/d e")


def test_sizes_are_written_as_aistore_does() -> None:
    sizes = [0, 11, 1023, 1024, 2560, 31_974_000, 1 << 30, 5 << 40]
    assert [output.size_text(size) for size in sizes] == (
        ["0B", "11B", "1023B", "1.00KiB", "2.50KiB", "30.49MiB", "1.00GiB", "5.00TiB"]
    )


def test_columns_are_as_wide_as_gos_tabwriter_makes_them(capsys: pytest.CaptureFixture[str]) -> None:
    table = output.Table()
    table.print([("NAME", "SIZE"), ("1234567", "x")])
    table.print([("12345678901", "y")])
    assert capsys.readouterr().out == "NAME     SIZE\n1234567  x\n12345678901 y\n"
    wide = output.Table()
    wide.print([("12345678", "x"), ("ü字", "y")])
    assert capsys.readouterr().out == "12345678         x\nü字              y\n"


@pytest.mark.parametrize(
    ("checksum", "text"),
    [
        ({"type": "md5", "validate_cold_get": True}, "Type: md5 | Validate: ColdGET"),
        (
            {"type": "xxhash", "validate_warm_get": True, "validate_obj_move": True},
            "Type: xxhash | Validate: WarmGET,ObjectMove",
        ),
        ({"type": "xxhash", "enable_read_range": True}, "Type: xxhash | Validate: ReadRange"),
        ({"type": "sha256"}, "Type: sha256 | Validate: Nothing"),
        ({"type": "none", "validate_cold_get": True}, "Disabled"),
    ],
)
def test_the_line_of_checksums(checksum: dict[str, Any], text: str) -> None:
    assert output._checksum({"checksum": checksum}) == text


def test_unknown_columns_are_refused() -> None:
    assert columns("size,name") == ["name", "size"]
    with pytest.raises(click.UsageError, match='unknown object property "colour"'):
        columns("name,colour")


def credentials(home: Path, **env: str) -> tuple[str, str, str] | None:
    found = find_signer({"AWS_SHARED_CREDENTIALS_FILE": f"{home}/keys", "AWS_CONFIG_FILE": f"{home}/config"} | env)
    return None if found is None else (found.access_key, found.secret, found.region)


def test_credentials_come_from_variables_and_files(tmp_path: Path) -> None:
    assert credentials(tmp_path) is None
    pair = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert credentials(tmp_path, **pair) == ("id", "secret", "us-east-1")
    assert credentials(tmp_path, **pair, AWS_REGION="eu-1") == ("id", "secret", "eu-1")
    (tmp_path / "keys").write_text("[default]\naws_access_key_id=d\naws_secret_access_key=%x\n")
    (tmp_path / "config").write_text(
        "[default]\nregion=eu-2\n[profile work]\nregion = eu-3\naws_access_key_id = w\naws_secret_access_key = ws\n"
    )
    assert credentials(tmp_path) == ("d", "%x", "eu-2")
    assert credentials(tmp_path, AWS_PROFILE="work") == ("w", "ws", "eu-3")
    assert credentials(tmp_path, **pair, AWS_PROFILE="work") == ("id", "secret", "eu-3")


def test_credentials_that_are_broken_are_no_secret_in_the_message(tmp_path: Path) -> None:
    with pytest.raises(click.ClickException, match="the secret access key is missing"):
        credentials(tmp_path, AWS_ACCESS_KEY_ID="id")
    with pytest.raises(click.ClickException, match='"none" does not exist'):
        credentials(tmp_path, AWS_PROFILE="none")
    (tmp_path / "keys").write_text("SECRET without a section\n")
    with pytest.raises(click.ClickException) as caught:
        credentials(tmp_path)
    assert "SECRET" not in caught.value.message


def test_a_signer_does_not_show_its_secret() -> None:
    signer = find_signer({"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "hush"})
    assert "hush" not in repr(signer)
