"""Who the command is: the usual AWS variables and files.

Source: AWS "Configuration and credential file settings" and "Environment variables to configure the AWS CLI".
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aisobj.client import Signer

DEFAULT_REGION = "us-east-1"


def find_signer(environ: Mapping[str, str] = os.environ) -> Signer | None:
    """The variables first, then the profile of the files; None if there is nothing. Servers are often open.

    :raises click.ClickException: half a pair of keys, a file that cannot be read, or AWS_PROFILE names no profile.
    """
    from aisobj.client import Signer  # noqa: PLC0415  what needs no server need not wait for treq

    profile = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or ""
    found = _profile(environ, profile)
    access_key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if not access_key and not secret:
        access_key, secret = found.get("aws_access_key_id"), found.get("aws_secret_access_key")
        if profile and not found:
            raise click.ClickException(f'the AWS profile "{profile}" does not exist')
    if not access_key and not secret:
        return None
    if not access_key or not secret:
        missing = "the secret access key" if access_key else "the access key id"
        raise click.ClickException(f"the AWS credentials are incomplete: {missing} is missing")
    region = environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or found.get("region") or DEFAULT_REGION
    return Signer(access_key, secret, region)


def _profile(environ: Mapping[str, str], profile: str) -> dict[str, str]:
    """The settings of a profile in both files; the credentials file wins."""
    name = profile or "default"
    config = _read(environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    shared = _read(environ.get("AWS_SHARED_CREDENTIALS_FILE") or "~/.aws/credentials")
    section = name if name == "default" else f"profile {name}"
    found: dict[str, str] = {}
    for parser, wanted in ((config, section), (shared, name)):
        if parser.has_section(wanted):
            found.update(parser.items(wanted))
    return found


def _read(path: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        parser.read_string(Path(path).expanduser().read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, UnicodeDecodeError, RuntimeError) as error:
        raise click.ClickException(f"cannot read {path}: {error}") from None
    except configparser.Error:  # its text quotes lines, and a line may be a secret
        raise click.ClickException(f"cannot read {path}: not in the AWS format") from None
    return parser
