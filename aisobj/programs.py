"""How a process of ours starts another one: the same Python, the same package, whatever the working directory is."""

from __future__ import annotations

import gc
import os
import sys
import time
from pathlib import Path
from typing import Any, Final

import aisobj


def module_command(module: str, *arguments: str) -> tuple[str, list[str], dict[str, str]]:
    """Executable, arguments and environment (ours, and where this very package is) that run a module of ours."""
    home = str(Path(aisobj.__file__).parent.parent)
    search = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    # -P: nothing of the working directory is imported.
    return sys.executable, [sys.executable, "-P", "-m", module, *arguments], {**os.environ, "PYTHONPATH": search}


def steady(reactor: Any) -> None:
    """Let a reactor's calls come when so many seconds have passed, and not when the machine's clock says so: after that
    was set back by an hour, they would all come an hour late. To be called before it has any.
    """
    reactor.seconds = time.monotonic


#: New objects that may be part of a cycle, until the garbage collector looks at them; Python's own figure is 700, and a
#: server with 64 PUTs under way has as many in a few milliseconds, none of them garbage.
_YOUNG: Final = 20_000


def quiet_collector() -> None:
    """Call when all is loaded, before the work begins: the collector need not look at that again, and looks seldom.

    Without this each full collection looks through all that was imported, 8 ms in which nobody is
    served (``docs/performance.md``). What is dropped without a cycle, which is nearly all, is freed at once as ever.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, 10, 10)
