"""How a process of ours starts another one: the same Python, the same package, whatever the working directory is."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import aisobj


def module_command(module: str, *arguments: str) -> tuple[str, list[str], dict[str, str]]:
    """Executable, arguments and environment (ours, and where this very package is) that run a module of ours."""
    home = str(Path(aisobj.__file__).parent.parent)
    search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    # -P: nothing of the working directory is imported.
    return sys.executable, [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": search}
