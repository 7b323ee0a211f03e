"""The ``ais`` command, in AIStore's spellings: classic (``ais create bucket``) and today's (``ais bucket create``).

Each function here names its arguments and options and hands on; what it does is in the module that it calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from click.shell_completion import get_completion_class

from aisobj import __version__
from aisobj.cli import buckets, objects, remove
from aisobj.cli.get import get as get_objects
from aisobj.cli.put import put as put_files
from aisobj.cli.session import endpoint_option
from aisobj.cli.uri import Uri, UriType

_CONTEXT = {"help_option_names": ["-h", "--help"]}

ANY = UriType(any_bucket=True)
BUCKET = UriType(bucket_only=True)
OBJECT = UriType(name_needed=True)
EITHER = UriType()

_json = click.option("--json", "-j", "as_json", is_flag=True, help="Print JSON.")
_yes = click.option("--yes", "-y", is_flag=True, help="Do not ask.")
_quiet = click.option("--quiet", "-q", is_flag=True, help="Print only errors.")
_bar = click.option("--progress/--no-progress", "bar", default=True, help="A progress bar, if stderr is a terminal.")


def _ignore_error(what: str) -> Callable[[Any], Any]:
    return click.option("--ignore-error", is_flag=True, help=f"It is no error if the bucket {what}.")


class VerbGroup(click.Group):
    """A group whose first word may also be the argument of a command of its own: ``ais rm ais://bck/obj``."""

    fallback = "any"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for word in args if not word.startswith("-")]
        if args and (words[:1] and words[0] not in self.commands):
            args = [self.fallback, *args]
        return super().parse_args(ctx, args)


@click.group(context_settings=_CONTEXT)
@endpoint_option
@click.version_option(__version__, message="ais %(version)s (ais-s3)", help="Print the version and exit.")
def main() -> None:
    """Work with buckets and objects of an AIStore or ais-s3 server.

    Buckets are ais://BUCKET, objects ais://BUCKET/OBJECT. The server is $AIS_ENDPOINT, http://localhost:8080 if it
    is not set. Where the server asks for a signature, it comes from the usual AWS variables and files
    ($AWS_ACCESS_KEY_ID and $AWS_SECRET_ACCESS_KEY, $AWS_PROFILE, ~/.aws/credentials).
    """


@main.group("bucket")
def bucket_group() -> None:
    """Buckets: create, list, show, remove, properties."""


@bucket_group.group("props")
def bucket_props_group() -> None:
    """Properties of a bucket: show, set, reset."""


@main.group("object")
def object_group() -> None:
    """Objects: put, get, list, show, remove."""


@main.group("create")
def create_group() -> None:
    """Create a bucket."""


@main.group("show")
def show_group() -> None:
    """Show a bucket, its properties, or an object."""


@main.group("set")
def set_group() -> None:
    """Set properties of a bucket."""


@main.group("rm", cls=VerbGroup)
def rm_group() -> None:
    """Remove objects, or buckets with all that is in them.

    `ais rm ais://BUCKET/OBJECT` and `ais rm ais://BUCKET` do without a further word.
    """


def leaf(*places: tuple[click.Group, str], hidden: bool = False) -> Callable[[Callable[..., None]], click.Command]:
    """One command under several names."""

    def register(function: Callable[..., None]) -> click.Command:
        command = click.command(context_settings=_CONTEXT, hidden=hidden)(endpoint_option(function))
        for group, name in places:
            group.add_command(command, name)
        return command

    return register


# buckets --------------------------------------------------------------------------------------------------------


@leaf((create_group, "bucket"), (bucket_group, "create"))
@click.argument("uris", metavar="ais://BUCKET...", nargs=-1, required=True, type=BUCKET)
@click.option("--bucket-props", "--props", "props", default="", help='E.g. "checksum.type=md5", or JSON.')
@_ignore_error("exists already")
def create_bucket(uris: tuple[Uri, ...], props: str, ignore_error: bool) -> None:
    """Create buckets."""
    buckets.create(uris, buckets.parse_props([props]), ignore_error=ignore_error)


@leaf((rm_group, "bucket"), (bucket_group, "rm"))
@click.argument("uris", metavar="ais://BUCKET...", nargs=-1, required=True, type=BUCKET)
@_yes
@_ignore_error("does not exist")
def remove_bucket(uris: tuple[Uri, ...], yes: bool, ignore_error: bool) -> None:
    """Destroy buckets with all that is in them.

    One that is not empty needs a confirmation, or --yes.
    """
    remove.remove_buckets(uris, yes=yes, ignore_error=ignore_error)


@leaf((show_group, "props"), (show_group, "bucket"), (bucket_props_group, "show"), (bucket_group, "show"))
@click.argument("uri", metavar="ais://BUCKET", type=BUCKET)
@click.argument("section", required=False, default="")
@click.option("--verbose", "-v", is_flag=True, help="A line for each property.")
@click.option("--compact", "-c", is_flag=True, hidden=True, help="As without --verbose.")
@_json
def show_props(uri: Uri, section: str, verbose: bool, compact: bool, as_json: bool) -> None:
    """Show the properties of a bucket, or of one SECTION ("checksum")."""
    buckets.show_props(uri, section, verbose=verbose and not compact, as_json=as_json)


@leaf((set_group, "props"), (bucket_props_group, "set"))
@click.argument("uri", metavar="ais://BUCKET", type=BUCKET)
@click.argument("words", metavar="NAME=VALUE...|JSON", nargs=-1)
@click.option("--reset", is_flag=True, help="Set all of them as in a new bucket.")
def set_props(uri: Uri, words: tuple[str, ...], reset: bool) -> None:
    """Set properties of a bucket: `checksum.type=md5`, `versioning.enabled=false`."""
    if reset and words:
        raise click.UsageError("--reset takes no properties")
    if reset:
        buckets.reset_props(uri)
    elif words:
        buckets.set_props(uri, buckets.parse_props(words))
    else:
        raise click.UsageError("bucket properties are missing: expecting NAME=VALUE or JSON")


@leaf((bucket_props_group, "reset"))
@click.argument("uri", metavar="ais://BUCKET", type=BUCKET)
def reset_props(uri: Uri) -> None:
    """Set all properties of a bucket as in a new one."""
    buckets.reset_props(uri)


# objects --------------------------------------------------------------------------------------------------------


@leaf((main, "ls"), (bucket_group, "ls"), (object_group, "ls"))
@click.argument("uri", metavar="[ais://[BUCKET[/PREFIX]]]", required=False, default="ais://", type=ANY)
@click.option("--prefix", default="", help="Only names that begin so.")
@click.option("--props", default="name,size", show_default=True, help="Comma-separated properties, or all.")
@click.option("--limit", type=click.IntRange(min=0), default=0, help="Print so many objects at most; 0: all.")
@click.option("--non-recursive", "--nr", "flat", is_flag=True, help="Folders as one line each.")
@click.option("--start-after", default="", help="Begin after this name.")
@click.option("--no-headers", "-H", "bare", is_flag=True, help="No headings.")
@_json
def list_anything(
    uri: Uri, prefix: str, props: str, limit: int, flat: bool, start_after: str, bare: bool, as_json: bool
) -> None:
    """List buckets, or the objects of one.

    The URI may end in a prefix or have wildcards (in quotes): * and ? within a folder, ** across folders.
    """
    if not uri.bucket:
        buckets.list_buckets(as_json=as_json)
        return
    objects.list_objects(
        uri,
        prefix=prefix,
        props=props,
        limit=limit,
        recursive=not flat,
        start_after=start_after,
        headers=not bare,
        as_json=as_json,
    )


@leaf((object_group, "show"), (object_group, "head"), (show_group, "object"))
@click.argument("uri", metavar="ais://BUCKET/OBJECT", type=OBJECT)
@click.option("--props", default="atime,checksum,name,size", show_default=True, help="Properties to show, or all.")
@_json
def show_object(uri: Uri, props: str, as_json: bool) -> None:
    """Show what is known about an object."""
    objects.show_object(uri, props=props, as_json=as_json)


@leaf((main, "put"), (object_group, "put"))
@click.argument("sources", metavar="FILE|FOLDER|PATTERN|-...", nargs=-1, required=True)
@click.argument("destination", metavar="ais://BUCKET[/OBJECT|/PREFIX]", type=EITHER)
@click.option(
    "--recursive/--non-recursive", "-r/ ", default=True, show_default=True, help="Folders with their folders."
)
@_bar
@_quiet
def put(sources: tuple[str, ...], destination: Uri, recursive: bool, bar: bool, quiet: bool) -> None:
    """Put files, folders, or standard input (-) into a bucket.

    The destination of one file is an object; of a folder, a wildcard or several sources it is the beginning of all
    names, so let it end in /.
    """
    put_files(sources, destination, recursive=recursive, quiet=quiet, bar=bar)


@leaf((main, "get"), (object_group, "get"))
@click.argument("source", metavar="ais://BUCKET[/OBJECT|/PREFIX/]", type=EITHER)
@click.argument("destination", metavar="[FILE|FOLDER|-]", required=False)
@click.option("--prefix", default="", help="All objects whose names begin so.")
@_bar
@_quiet
def get(source: Uri, destination: str | None, prefix: str, bar: bool, quiet: bool) -> None:
    """Get an object, or all that match, into a file, a folder, or standard output (-).

    A bucket, a name that ends in /, and wildcards (in quotes) stand for all objects that match: the destination is a
    folder then. A file appears under its name when all of it is there and its checksum was right.
    """
    get_objects(source, destination, prefix=prefix, quiet=quiet, bar=bar)


_all = click.option("--all", "everything", is_flag=True, help="All objects of the bucket.")
_prefix = click.option("--prefix", default=None, help="All objects whose names begin so.")


@leaf((rm_group, "object"), (object_group, "rm"))
@click.argument("uris", metavar="ais://BUCKET/OBJECT...", nargs=-1, required=True, type=EITHER)
@_prefix
@_all
@_yes
@_quiet
def remove_object(uris: tuple[Uri, ...], prefix: str | None, everything: bool, yes: bool, quiet: bool) -> None:
    """Delete objects.

    A name that ends in / and wildcards (in quotes) stand for all objects that match, after a confirmation or --yes.
    """
    remove.remove_objects(uris, prefix=prefix, everything=everything, yes=yes, quiet=quiet)


@leaf((rm_group, VerbGroup.fallback), hidden=True)
@click.argument("uris", metavar="ais://BUCKET[/OBJECT]...", nargs=-1, required=True, type=EITHER)
@_prefix
@_all
@_yes
@_quiet
def remove_anything(uris: tuple[Uri, ...], prefix: str | None, everything: bool, yes: bool, quiet: bool) -> None:
    """Delete objects, or destroy buckets."""
    whole = [uri for uri in uris if not uri.name]
    if prefix is not None or everything or not whole:
        remove.remove_objects(uris, prefix=prefix, everything=everything, yes=yes, quiet=quiet)
    elif len(whole) == len(uris):
        remove.remove_buckets(uris, yes=yes, ignore_error=False)
    else:
        raise click.UsageError("buckets and objects cannot be removed together")


# shells ---------------------------------------------------------------------------------------------------------


@main.command("completion", context_settings=_CONTEXT)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes the shell complete this command: `source <(ais completion bash)`."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "ais", "_AIS_COMPLETE").source())
