"""The results as an SVG, light and dark: rates of each workload, and what each operation costs the server."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from html import escape

from benchmarks.load import Sample
from benchmarks.report import Result, number

_WIDTH, _LABEL, _BAR, _ROW, _GAP = 960, 230, 330, 20, 18
_STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-weight: 600 } .small { fill: #59636e }
  .bar { fill: #b6bec9 } .ours { fill: #0969da } .whisker { stroke: #1f2328; stroke-width: 1 }
  .met { fill: #1a7f37 } .missed { fill: #bc4c00 }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .small { fill: #9198a1 } .bar { fill: #4a525c } .ours { fill: #4493f8 }
    .whisker { stroke: #e6edf3 } .met { fill: #3fb950 } .missed { fill: #db8b4b }
  }
"""


def draw(results: Sequence[Result]) -> str:
    """One panel for each workload: a bar is the median rate, its whisker the least and the most, beside it the CPU."""
    parts: list[str] = []
    top = 34
    for result in results:
        if result.rounds:
            panel, height = _panel(result, top)
            parts += panel
            top += height + _GAP
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{top}" viewBox="0 0 {_WIDTH} {top}" '
        f'role="img" aria-label="Benchmark results">'
    )
    legend = _text(_LABEL, 18, "rate: median, least and most", "small")
    legend += _text(_LABEL + _BAR + 150, 18, "server CPU per operation", "small")
    return "\n".join([head, f"<style>{_STYLE}</style>", legend, *parts, "</svg>", ""])


def _panel(result: Result, top: int) -> tuple[list[str], int]:
    who = result.who()
    values = {name: [_value(sample) for sample in result.samples(name)] for name in who}
    most = max((max(each) for each in values.values()), default=0) or 1.0
    parts = [_text(0, top + 14, result.title, "title")]
    verdicts = [each.word for each in result.verdicts if each.median is not None]
    if verdicts:
        met = verdicts.count("met")
        words = f"{met} of {len(verdicts)} targets met"
        parts.append(_text(_WIDTH, top + 14, words, "met" if met == len(verdicts) else "missed", anchor="end"))
    for row, name in enumerate(who):
        y = top + _ROW * (row + 1) + 2
        samples, numbers = result.samples(name), values[name]
        middle, low, high = (f(numbers) / most * _BAR for f in (statistics.median, min, max))
        ours = ' class="ours"' if name.startswith("ais-s3") else ' class="bar"'
        parts.append(_text(_LABEL - 8, y + 13, name, anchor="end"))
        parts.append(f'<rect{ours} x="{_LABEL}" y="{y + 3}" width="{max(middle, 1):.1f}" height="{_ROW - 6}" rx="2"/>')
        line = f'x1="{_LABEL + low:.1f}" x2="{_LABEL + high:.1f}" y1="{y + 10}" y2="{y + 10}"'
        parts.append(f'<line class="whisker" {line}/>')
        parts.append(_text(_LABEL + _BAR + 8, y + 13, f"{number(statistics.median(numbers))} {_unit(samples[0])}"))
        cpu = [sample.cpu_ms for sample in samples if sample.cpu]
        if cpu:
            parts.append(_text(_LABEL + _BAR + 150, y + 13, f"{number(statistics.median(cpu))} ms"))
    return parts, _ROW * (len(who) + 1)


def _single(sample: Sample) -> bool:
    return sample.operations <= 1 and not sample.size


def _value(sample: Sample) -> float:
    if _single(sample):
        return max(sample.memory.values(), default=0) / 1e6 if sample.seconds == 1.0 else sample.seconds
    return sample.megabytes if sample.size >= 1 << 20 else sample.rate


def _unit(sample: Sample) -> str:
    if _single(sample):
        return "MB" if sample.seconds == 1.0 else "s"
    return "MB/s" if sample.size >= 1 << 20 else "/s"


def _text(x: int, y: int, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'
