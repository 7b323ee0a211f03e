"""Which functions of ours a request goes through, and how many bytecodes of each: the same in every run."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

_COUNT = 64  #: requests: one batch of log lines


async def print_bytecodes(run: Callable[[int], Awaitable[None]], rows: int) -> None:
    """Print the ``rows`` functions that run most bytecodes for a request, with how often each is called.

    :param run: answers so many requests.
    """
    bytecodes, calls = Counter[CodeType](), Counter[CodeType]()

    def begin(frame: FrameType, event: str, argument: Any) -> Callable[[FrameType, str, Any], Any]:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        code = frame.f_code
        calls[code] += 1

        def step(frame: FrameType, event: str, argument: Any) -> Any:
            bytecodes[code] += event == "opcode"
            return step

        return step

    sys.settrace(begin)
    try:
        await run(_COUNT)
    finally:
        sys.settrace(None)
    total, frames = sum(bytecodes.values()) / _COUNT, sum(calls.values()) / _COUNT
    print(f"  {total:.0f} bytecodes and {frames:.0f} calls of Python functions a request")
    for code, count in bytecodes.most_common(rows):
        where = f"{Path(code.co_filename).name}:{code.co_firstlineno} {code.co_qualname}"
        print(f"  {count / _COUNT:8.1f} {calls[code] / _COUNT:6.1f} times  {where}")
