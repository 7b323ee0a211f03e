"""The floors (docs/architecture.md): a module imports only from lower floors, or from its own package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import aisobj

PACKAGE = Path(aisobj.__file__).parent

#: The first part of a module's name below ``aisobj`` -> its floor. A new module must be given one.
FLOORS = {
    "": 0,  # aisobj/__init__.py
    "errors": 0,
    "model": 0,
    "checksums": 0,
    "metrics": 0,
    "shared_metrics": 0,
    "polling": 0,
    "programs": 0,
    "signing": 0,
    "protocol": 1,
    "storage": 2,
    "web": 3,
    "s3": 4,
    "ais": 4,
    "listening": 5,
    "root": 5,
    "daemon": 5,
    "heap": 5,
    "open_files": 5,
    "options": 5,
    "serving": 5,
    "control": 5,
    "master": 5,
    "worker": 5,
    "working": 5,
    "tap": 5,
}
#: Beside the house: they speak to a server, and take nothing from it but floor 0.
CLIENTS = {"client", "cli"}
#: Beside it too: it works on a data directory, with the floors up to storage, and no server knows it.
TOOLS = "tools"
_STORAGE = 2
#: The modules of these floors are one family and may import each other.
FAMILIES = {0, 5}


def module_name(path: Path) -> str:
    """``aisobj.web.site``."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(source: str) -> Iterator[str]:
    """Every module of ours that the source imports, anywhere in it, also for types only."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.partition(".")[0] == "aisobj")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the floor"
            if node.module == "aisobj":  # the package itself, or a module of it
                yield from (f"aisobj.{alias.name}" if alias.name != "__version__" else "aisobj" for alias in node.names)
            elif node.module is not None and node.module.startswith("aisobj."):
                yield node.module


def head(module: str) -> str:
    """``web`` of ``aisobj.web.site``."""
    return module.partition(".")[2].partition(".")[0]


def allowed(importer: str, imported: str) -> bool:
    """Both are heads."""
    if importer == imported:
        return True
    if importer in CLIENTS:
        return imported in CLIENTS or FLOORS.get(imported) == 0
    if importer == TOOLS:
        return FLOORS.get(imported, _STORAGE + 1) <= _STORAGE
    if imported in CLIENTS or imported == TOOLS:
        return False
    upper, lower = FLOORS[importer], FLOORS[imported]
    return lower < upper or (lower == upper and upper in FAMILIES)


def violations(module: str, source: str) -> list[str]:
    return [f"{module} imports {name}" for name in imports(source) if not allowed(head(module), head(name))]


def test_every_module_imports_only_from_lower_floors() -> None:
    paths = sorted(PACKAGE.rglob("*.py"))
    assert len(paths) > 50
    found = [line for path in paths for line in violations(module_name(path), path.read_text())]
    assert found == []


def outside(source: str) -> set[str]:
    """The top-level packages that the source imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0])
    return found


def test_the_protocol_knows_neither_twisted_nor_input_and_output() -> None:
    assert outside("import twisted.web\nfrom lmdb import open") == {"twisted", "lmdb"}  # it would be found
    for path in (PACKAGE / "protocol").glob("*.py"):
        assert not outside(path.read_text()) & {"twisted", "asyncio", "socket", "lmdb", "threading", "os"}, path


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aisobj.s3.object", "from aisobj.ais.base import Call"),
        ("aisobj.ais.base", "from aisobj.s3 import call"),
        ("aisobj.protocol.names", "import aisobj.web.request"),
        ("aisobj.storage.store", "from aisobj.web.limits import Limits"),
        ("aisobj.web.site", "from aisobj import tap"),
        ("aisobj.cli.main", "from aisobj.protocol.names import check_key"),
        ("aisobj.errors", "def late():\n    from aisobj.protocol import xml"),
        ("aisobj.web.site", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from aisobj.s3.call import Call"),
        ("aisobj.tap", "from aisobj.cli.main import main"),
        ("aisobj.tools.main", "from aisobj.web.health import State"),
        ("aisobj.tools.main", "from aisobj.client import Client"),
        ("aisobj.cli.main", "from aisobj.tools.fsck import Fsck"),
        ("aisobj.storage.upkeep", "from aisobj.tools.rebuild import rebuild"),
    ],
)
def test_an_import_from_above_or_beside_is_found(module: str, source: str) -> None:
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("aisobj.s3.object", "from aisobj.s3.call import Call\nfrom aisobj.web.site import Site"),
        ("aisobj.tap", "from aisobj.root import RootResource\nimport aisobj"),
        (
            "aisobj.tools.main",
            "from aisobj.storage.embedded import lock_data_directory\nfrom aisobj.tools.fsck import Fsck",
        ),
        ("aisobj.cli.main", "from aisobj.signing import sign\nfrom aisobj.client import Client\nimport twisted.web"),
    ],
)
def test_an_import_from_below_is_allowed(module: str, source: str) -> None:
    assert violations(module, source) == []


def test_what_is_imported_from_outside_is_declared_and_the_other_way_round() -> None:
    declared = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.split(r"[\[.>]", text.lower().replace("-", "_"))[0] for text in declared}
    imported = set().union(*(outside(path.read_text()) for path in PACKAGE.rglob("*.py")))
    assert imported - set(sys.stdlib_module_names) - {"aisobj"} == names


def test_the_programs_of_reliability_import_nothing_private() -> None:
    """But those that are a server: what many are forked from, and what breaks one on purpose."""
    servers = {"forking.py", "sabotage.py", "unverified.py"}
    paths = [path for path in (PACKAGE.parent / "reliability").glob("*.py") if path.name not in servers]
    assert len(paths) > 10
    for path in paths:
        private = [name for name in imports(path.read_text()) if not allowed("cli", head(name))]
        assert private == [], path
