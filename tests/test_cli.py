"""The ``ais`` command as a process, against a real server."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import xxhash
from certificates import self_signed
from clients import Done
from forked_ais import HANG_SECONDS, Forker
from s3fixtures import fresh_name
from server import CREDENTIALS, ServerProcess, environment

import aisobj
from aisobj.cli.put import plan
from aisobj.cli.uri import Uri


class Ais:
    """The command in a home of its own."""

    def __init__(self, forker: Forker, endpoint: str, home: Path) -> None:
        self._forker = forker
        self.home = home
        self.env = environment(HOME=str(home), AIS_ENDPOINT=endpoint, TZ="UTC")

    def raw(self, *arguments: str | Path, stdin: bytes = b"", **env: str) -> tuple[int, bytes, bytes]:
        return self._forker.run([*map(str, arguments)], cwd=self.home, env=self.env | env, stdin=stdin)

    def __call__(self, *arguments: str | Path, status: int = 0, stdin: bytes = b"", **env: str) -> Done:
        code, out, err = self.raw(*arguments, stdin=stdin, **env)
        done = Done(code, out.decode(), err.decode())
        assert done.status == status, done
        assert "Traceback" not in done.err
        return done

    def fails(self, *arguments: str | Path, **options: Any) -> str:
        """Stderr of a command that ends with status 1 and says nothing else."""
        done = self(*arguments, status=1, **options)
        assert done.out == ""
        return done.err


@pytest.fixture(scope="module")
def forker() -> Iterator[Forker]:
    forker = Forker(environment())
    yield forker
    forker.close()


@pytest.fixture
def ais(forker: Forker, server: ServerProcess, tmp_path: Path) -> Ais:
    return Ais(forker, server.endpoint, tmp_path)


def tree(folder: Path) -> dict[str, bytes]:
    """Path below the folder -> content, of all files."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    content = {
        "a.txt": b"a",
        "one/b.jpg": b"b",
        "one/two/c.jpg": b"cc",
        "zü/d e&f.txt": b"",
        "big": os.urandom(700_000),
    }
    for name, data in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


# the seed document ----------------------------------------------------------------------------------------------


def test_the_console_examples_of_the_s3compat_document(
    forker: Forker, make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """Character for character, but for its slip: it creates ``ais://bck`` and shows ``ais://bck2``."""
    server = make_server()
    ais = Ais(forker, server.endpoint, tmp_path)

    def console(command: str) -> str:
        """As typed: quotes and pipes are the shell's."""
        ended = subprocess.run(
            ["bash", "-c", f'ais() {{ "{sys.executable}" -m aisobj.cli "$@"; }}; set -o pipefail; {command}'],
            cwd=tmp_path,
            env=ais.env,
            capture_output=True,
            timeout=HANG_SECONDS,
            check=True,
        )
        assert ended.stderr == b""
        return ended.stdout.decode()

    assert console("ais ls ais://") == "AIS Buckets (0)\n"
    assert console('ais create bucket ais://bck --bucket-props="checksum.type=md5"') == '"ais://bck" bucket created\n'
    assert console("ais show props ais://bck | grep checksum") == "checksum         Type: md5 | Validate: ColdGET\n"
    ais("rm", "bucket", "ais://bck")
    ais("create", "bucket", "ais://bck")
    assert console("ais set props ais://bck checksum.type=md5") == (
        'Bucket props successfully updated\n"checksum.type" set to:"md5" (was:"xxhash")\n'
    )
    ais("rm", "bucket", "ais://bck")
    server.boto().create_bucket(Bucket="bck1")
    first, *rest = console("ais ls ais://").splitlines()
    assert first == "AIS Buckets (1)"
    assert rest == ["  ais://bck1"]  # the document leaves the names out, AIStore 3.3 prints them


# buckets --------------------------------------------------------------------------------------------------------


def test_todays_spellings(ais: Ais) -> None:
    name = f"ais://{fresh_name()}"
    assert ais("bucket", "create", name).out == f'"{name}" bucket created\n'
    assert f"  {name}" in ais("bucket", "ls").lines
    assert {"name": name.removeprefix("ais://"), "provider": "ais"} in json.loads(ais("ls", "--json").out)
    assert ais("bucket", "props", "set", name, "versioning.enabled=no").lines[1] == (
        '"versioning.enabled" set to:"false" (was:"true")'
    )
    assert ais("bucket", "props", "set", name, '{"versioning": {"enabled": false}}').out == (
        f'Bucket "{name}" already has the set props, nothing to do\n'
    )
    assert ais("bucket", "props", "show", name, "versioning").lines[1].split() == ["versioning.enabled", "false"]
    assert ais("set", "props", "--reset", name).out == "Bucket props successfully reset\n"
    assert json.loads(ais("show", "props", name, "--json").out)["versioning"]["enabled"] is True
    assert ais("bucket", "rm", name).out == f'"{name}" bucket destroyed\n'


def test_the_table_of_properties(ais: Ais) -> None:
    name = f"ais://{fresh_name()}"
    ais("create", "bucket", name)
    head, *rows = ais("show", "props", name).lines
    assert head == "PROPERTY         VALUE"
    assert [row.split()[0] for row in rows] == (
        ["access", "checksum", "created", "ec", "lru", "mirror", "provider", "versioning"]
    )
    assert rows[1] == "checksum         Type: xxhash | Validate: ColdGET"
    assert rows[-1] == "versioning       Enabled | Validate on WarmGET: no"


def test_errors_of_buckets_are_aistores_texts(ais: Ais) -> None:
    name = f"ais://{fresh_name()}"
    ais("create", "bucket", name)
    assert ais.fails("create", "bucket", name) == f'Error: Bucket "{name}" already exists\n'
    assert ais("create", "bucket", name, "--ignore-error").out == f'Bucket "{name}" already exists\n'
    assert ais.fails("set", "props", name, "unknown.field=1") == 'Error: unknown property "unknown.field"\n'
    assert ais.fails("set", "props", name, "provider=aws") == 'Error: property "provider" is readonly\n'
    assert ais.fails("ls", "ais://not-there") == 'Error: bucket "ais://not-there" does not exist\n'
    assert ais.fails("rm", "bucket", "ais://not-there") == 'Error: bucket "ais://not-there" does not exist\n'
    assert ais("rm", "bucket", "ais://not-there", "--ignore-error").out == ""
    assert "is invalid" in ais.fails("create", "bucket", "ais://Bad_Name")


def test_a_bucket_with_objects_is_destroyed_after_a_confirmation(ais: Ais, s3: Any) -> None:
    name = fresh_name()
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    refused = ais("rm", "bucket", f"ais://{name}", stdin=b"n\n", status=1)
    assert "not empty" in refused.err
    ais("rm", "bucket", f"ais://{name}", status=1)  # nobody there to ask
    assert s3.get_object(Bucket=name, Key="k")["Body"].read() == b"x"
    assert ais("rm", "bucket", f"ais://{name}", stdin=b"y\n").out == f'"ais://{name}" bucket destroyed\n'
    s3.create_bucket(Bucket=name)
    s3.put_object(Bucket=name, Key="k", Body=b"x")
    assert ais("rm", f"ais://{name}", "--yes").out == f'"ais://{name}" bucket destroyed\n'


# objects --------------------------------------------------------------------------------------------------------


def test_a_file_goes_up_and_comes_back(ais: Ais, bucket: str, files: Path) -> None:
    assert ais("put", "files/big", f"ais://{bucket}").out == f'PUT "big" to ais://{bucket}\n'
    assert ais("object", "put", "files/a.txt", f"ais://{bucket}/dir/").out == f'PUT "dir/a.txt" to ais://{bucket}\n'
    assert ais("put", "files/a.txt", f"ais://{bucket}/other").out == f'PUT "other" to ais://{bucket}\n'
    assert ais("get", f"ais://{bucket}/big").out == f'GET "big" from ais://{bucket} as "big" [683.59KiB]\n'
    assert (ais.home / "big").read_bytes() == (files / "big").read_bytes()
    assert (ais.home / "big").stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert ais("get", f"ais://{bucket}/dir/a.txt", "files/one").out.endswith('as "files/one/a.txt" [1B]\n')
    assert ais("get", f"ais://{bucket}/other", "/dev/null").out.endswith('as "/dev/null" [1B]\n')
    assert not list(ais.home.rglob("*.part"))


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_standard_input_and_output(ais: Ais, bucket: str) -> None:
    data = os.urandom(600_000)
    assert ais("put", "-", f"ais://{bucket}/dir/key", stdin=data).out == f'PUT "dir/key" to ais://{bucket}\n'
    assert ais.raw("get", f"ais://{bucket}/dir/key", "-") == (0, data, b"")
    assert "object name is missing" in ais("put", "-", f"ais://{bucket}", status=2).err


def test_folders_go_up_and_come_back(ais: Ais, bucket: str, files: Path) -> None:
    done = ais("put", "files", f"ais://{bucket}/copy/")
    assert sorted(done.lines) == sorted(f'PUT "copy/{name}" to ais://{bucket}' for name in tree(files))
    ais("get", f"ais://{bucket}/copy/", "back", "--quiet")
    assert tree(ais.home / "back") == tree(files)
    flat = ais("put", "files", f"ais://{bucket}/flat/", "--non-recursive")
    assert len(flat.lines) == 2


def test_wildcards_on_both_sides(ais: Ais, bucket: str, files: Path) -> None:
    done = ais("put", "files/*/*.jpg", "files/a.txt", f"ais://{bucket}/w/")
    assert sorted(done.lines) == [f'PUT "w/a.txt" to ais://{bucket}', f'PUT "w/one/b.jpg" to ais://{bucket}']
    ais("put", "files/**/*.jpg", f"ais://{bucket}/w/")
    listed = ais("ls", f"ais://{bucket}/w/**.jpg", "--no-headers")
    assert [line.split()[0] for line in listed.lines] == ["w/one/b.jpg", "w/one/two/c.jpg"]
    ais("get", f"ais://{bucket}/w/one/*.jpg", "got")
    assert tree(ais.home / "got") == {"b.jpg": b"b"}
    removed = ais("rm", f"ais://{bucket}/w/*/*", "--yes")
    assert removed.out == f'deleted "w/one/b.jpg" from ais://{bucket}\n'
    assert ais.fails("get", f"ais://{bucket}/none*") == f"Error: no objects match ais://{bucket}/none*\n"
    assert ais.fails("put", "files/*.none", f"ais://{bucket}") == 'Error: no files match "files/*.none"\n'


def test_a_listing(ais: Ais, bucket: str, s3: Any) -> None:
    for key, size in (("a", 11), ("dir/b", 2560), ("dir/c\x1b[2J", 0)):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x" * size)
    assert ais("ls", f"ais://{bucket}").out == (
        "NAME             SIZE\na                11B\ndir/b            2.50KiB\ndir/c\\x1b[2J     0B\n"
    )
    assert ais("ls", f"ais://{bucket}", "--non-recursive", "-H").lines == ["a        11B", "dir/"]
    found = json.loads(ais("ls", f"ais://{bucket}/dir/", "--json", "--props", "name,size,checksum,version").out)
    assert found[0] == {
        "name": "dir/b",
        "size": 2560,
        "checksum": xxhash.xxh64_hexdigest(b"x" * 2560),
        "version": "1",
    }
    assert found[1]["name"] == "dir/c\x1b[2J"
    everything = ais("ls", f"ais://{bucket}", "--props", "all", "--limit", "1")
    headings = "NAME SIZE CHECKSUM ATIME VERSION CACHED TARGET URL STATUS COPIES"
    assert " ".join(everything.lines[0].split()) == headings
    assert len(everything.lines) == 2
    assert ais("ls", f"ais://{bucket}", "--prefix", "none", "--json").out == "[]\n"


def test_what_is_known_about_an_object(ais: Ais, bucket: str, s3: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"0123456789\n", Metadata={"color": "blue"})
    head, *rows = ais("show", "object", f"ais://{bucket}/k").lines
    assert head == "PROPERTY         VALUE"
    assert rows[1:] == [
        "checksum         05967d5390ac53b0",
        f"name             ais://{bucket}/k",
        "size             11B",
    ]
    document = json.loads(ais("object", "head", f"ais://{bucket}/k", "--json").out)
    assert (document["size"], document["version"], document["custom"]) == (11, "1", {"color": "blue"})
    missing = f"t[ais-s3]: ais://{bucket}/none does not exist"
    assert ais.fails("object", "show", f"ais://{bucket}/none") == f"Error: {missing}\n"


def test_objects_are_deleted(ais: Ais, bucket: str, s3: Any) -> None:
    for key in ("a", "b", "p/1", "p/2", "q"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    name = f"ais://{bucket}"
    assert ais("rm", f"{name}/a").out == f'deleted "a" from {name}\n'
    done = ais("object", "rm", f"{name}/a", f"{name}/b", status=1)
    assert done.out == f'deleted "b" from {name}\n'
    assert done.err == f"Error: t[ais-s3]: {name}/a does not exist\n1 of 2 failed\n"
    assert 'the first is "p/1"' in ais("rm", f"{name}/p/", stdin=b"n\n", status=1).err
    assert len(ais("rm", f"{name}/p/", stdin=b"y\n").lines) == 2
    assert "use --all" in ais("rm", "object", name, status=2).err
    assert ais("rm", "object", name, "--all", "--yes").out == f'deleted "q" from {name}\n'


def test_one_bad_file_does_not_stop_the_others(ais: Ais, bucket: str, files: Path) -> None:
    (files / "gone").symlink_to("nowhere")
    done = ais("put", "files/a.txt", "files/gone", "files/big", f"ais://{bucket}", status=1)
    assert len(done.lines) == 2
    assert done.err == "Error: files/gone: No such file or directory\n1 of 3 failed\n"
    assert ais.fails("put", "files/a.txt", "files/none", f"ais://{bucket}/x/") == (
        "Error: files/none: no such file or directory\n"
    )
    assert ais.fails("put", "files/a.txt", "ais://not-there") == 'Error: bucket "ais://not-there" does not exist\n'


def test_no_name_of_an_object_leads_out_of_the_folder(ais: Ais, bucket: str, s3: Any) -> None:
    for key in ("good", "../up", "/abs", "a//b", "x/./y", "dir/"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"" if key == "dir/" else b"x")
    done = ais("get", f"ais://{bucket}", "deep/down", status=1)
    assert done.out == f'GET "good" from ais://{bucket} as "deep/down/good" [1B]\n'
    assert done.err.count("cannot be that of a file") == 4
    assert tree(ais.home) == {"deep/down/good": b"x"}
    assert (ais.home / "deep/down/dir").is_dir()
    ais("get", f"ais://{bucket}/../up", "named")
    assert (ais.home / "named").read_bytes() == b"x"


def test_what_cannot_be_fetched_leaves_the_old_file(ais: Ais, bucket: str) -> None:
    (ais.home / "k").write_bytes(b"old")
    assert ais.fails("get", f"ais://{bucket}/k") == f"Error: t[ais-s3]: ais://{bucket}/k does not exist\n"
    assert tree(ais.home) == {"k": b"old"}


@pytest.mark.parametrize(
    ("sources", "name", "wanted"),
    [
        (["a.txt"], "", ["a.txt"]),
        (["a.txt"], "x", ["x"]),
        (["a.txt"], "x/", ["x/a.txt"]),
        (["a.txt", "big"], "x", ["xa.txt", "xbig"]),
        (["one"], "", ["b.jpg", "two/c.jpg"]),
        (["one"], "x", ["xb.jpg", "xtwo/c.jpg"]),
        (["one/"], "x/", ["x/b.jpg", "x/two/c.jpg"]),
        (["o*"], "", ["one/b.jpg", "one/two/c.jpg"]),
        (["one/*"], "", ["b.jpg", "two/c.jpg"]),
        (["*.txt"], "x", ["xa.txt"]),
        (["**/*.jpg"], "", ["one/b.jpg", "one/two/c.jpg"]),
    ],
)
def test_where_files_go(
    files: Path, monkeypatch: pytest.MonkeyPatch, sources: list[str], name: str, wanted: list[str]
) -> None:
    monkeypatch.chdir(files)
    uploads = plan(sources, Uri("b", name), recursive=True, complain=pytest.fail)
    assert sorted(upload.name for upload in uploads) == wanted


# the server -----------------------------------------------------------------------------------------------------


def test_requests_are_signed_with_the_usual_credentials(
    forker: Forker, signed_server: ServerProcess, tmp_path: Path
) -> None:
    ais = Ais(forker, signed_server.endpoint, tmp_path)
    access_key, secret = CREDENTIALS["alice"]
    assert ais.fails("ls") == "Error: access denied: the request is not signed\n"
    keys = {"AWS_ACCESS_KEY_ID": access_key, "AWS_SECRET_ACCESS_KEY": secret}
    assert "signature" in ais.fails("ls", **(keys | {"AWS_SECRET_ACCESS_KEY": "guess"}))
    name = f"ais://{fresh_name()}"
    ais("create", "bucket", name, **keys)
    (tmp_path / ".aws").mkdir()
    access_key, secret = CREDENTIALS["bob"]
    (tmp_path / ".aws/credentials").write_text(
        f"[work]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n"
    )
    ais("put", "-", f"{name}/we ird?&+%=ü", stdin=b"data", AWS_PROFILE="work")
    assert ais("get", f"{name}/we ird?&+%=ü", "-", AWS_PROFILE="work").out == "data"


def test_tls_with_a_certificate_of_ones_own(
    forker: Forker, make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    key, certificate = self_signed(tmp_path)
    server = make_server(listen=(f"ssl:0:interface=127.0.0.1:privateKey={key}:certKey={certificate}",))
    ais = Ais(forker, server.urls[0].replace("127.0.0.1", "localhost"), tmp_path)
    assert "certificate verify failed" in ais.fails("ls")
    assert ais("ls", AIS_CLIENT_CA=str(certificate)).out == "AIS Buckets (0)\n"
    assert "cannot use the certificates" in ais.fails("ls", AIS_CLIENT_CA=str(key))


def test_a_server_that_is_not_there(ais: Ais) -> None:
    error = ais.fails("ls", "--endpoint", "http://127.0.0.1:1")
    assert error.startswith("Error: cannot connect to http://127.0.0.1:1: ")
    assert error.count("\n") == 1
    assert "is no endpoint" in ais.fails("--endpoint", "ftp://x", "ls")
    assert "is no endpoint" in ais.fails("ls", AIS_ENDPOINT=f"{ais.env['AIS_ENDPOINT']}/s3")


def test_help_version_and_completion(ais: Ais) -> None:
    assert ais("--version").out == f"ais {aisobj.__version__} (ais-s3)\n"
    assert "bucket" in ais("--help").out
    assert "_ais_completion" in ais("completion", "fish").out
    words = ais(_AIS_COMPLETE="fish_complete", COMP_WORDS="ais bucket ", COMP_CWORD="").out
    assert "plain,create" in words


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, ais: Ais, *arguments: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            # What a shell runs in the background ignores ^C, and so does everything that is begun there.
            ["env", "--default-signal=INT", sys.executable, "-m", "aisobj.cli", *arguments],
            cwd=ais.home,
            env=ais.env | {"TERM": "xterm"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self.shown = b""

    def wait_for(self, text: bytes) -> None:
        deadline = time.monotonic() + HANG_SECONDS
        while text not in self.shown:
            ready, _, _ = select.select([self._master], [], [], 1.0)
            try:
                data = os.read(self._master, 65536) if ready else b""
            except OSError:  # the end, on Linux
                data = b""
            self.shown += data
            assert data or (self.process.poll() is None and time.monotonic() < deadline), self.shown

    def interrupt(self) -> int:
        """^C, as often as it takes: one that comes just before ``input`` begins to wait is noticed after the wait."""
        for _ in range(int(HANG_SECONDS)):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self.process.wait(1.0)
        raise AssertionError(self.shown)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


@pytest.fixture
def terminal(ais: Ais) -> Iterator[Callable[..., Terminal]]:
    opened: list[Terminal] = []

    def on_terminal(*arguments: str) -> Terminal:
        opened.append(Terminal(ais, *arguments))
        return opened[-1]

    yield on_terminal
    for one in opened:
        one.close()


def test_a_long_upload_shows_a_bar(terminal: Callable[..., Terminal], ais: Ais, bucket: str, s3: Any) -> None:
    os.mkfifo(ais.home / "slow")
    command = terminal("put", "slow", f"ais://{bucket}/slow")
    with (ais.home / "slow").open("wb", buffering=0) as writer:  # opens when the command does
        writer.write(b"x" * 1000)
        command.wait_for(b"PUT to")
    command.wait_for(f'PUT "slow" to ais://{bucket}'.encode())
    assert command.process.wait(HANG_SECONDS) == 0
    assert s3.get_object(Bucket=bucket, Key="slow")["Body"].read() == b"x" * 1000


def test_an_upload_that_waits_can_be_interrupted(
    terminal: Callable[..., Terminal], ais: Ais, bucket: str, s3: Any
) -> None:
    os.mkfifo(ais.home / "slow")
    command = terminal("put", "slow", f"ais://{bucket}/slow")
    with (ais.home / "slow").open("wb", buffering=0) as writer:
        writer.write(b"x" * 1000)
        command.wait_for(b"PUT to")
        assert command.interrupt() == 1
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)


def test_a_question_can_be_interrupted(terminal: Callable[..., Terminal], bucket: str, s3: Any) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    command = terminal("rm", f"ais://{bucket}")
    command.wait_for(b"[y/N]")
    assert command.interrupt() == 1
    assert s3.head_object(Bucket=bucket, Key="k")
