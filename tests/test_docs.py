"""What the pages say is what the code does, where that can be checked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from server import ServerProcess, environment

from aisobj.metrics import Gauges, Metrics
from aisobj.options import Options
from reliability import promises, record

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def commands(page: str) -> list[str]:
    """The lines of the README's shell blocks."""
    return [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    [command] = [line for line in commands((ROOT / "README.md").read_text()) if "pytest" in line]
    assert f"\n{command}\n" in (ROOT / ".ci" / "run").read_text()


def test_the_examples_of_the_readme_work_one_after_the_other(
    make_server: Callable[..., ServerProcess], tmp_path: Path
) -> None:
    """Word for word, but for the port and for where this environment is."""
    server = make_server()
    page = (ROOT / "README.md").read_text()
    blocks = re.findall(r"```(sh|python)\n(.*?)```", page[page.index("## Use it") :], re.DOTALL)
    assert [kind for kind, _ in blocks] == ["sh", "python", "sh", "sh"]
    script = "".join(text if kind == "sh" else f"python - <<'END'\n{text}END\n" for kind, text in blocks)
    script = script.replace(":8080", f":{server.port}").replace(".venv/bin/", "")
    (tmp_path / "README.md").write_text(page)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    env = environment(HOME=str(tmp_path), PATH=path, AIS_ENDPOINT=server.endpoint)
    command = ["bash", "-e", "-c", script]
    ended = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    s3 = server.boto()
    for name in ("first-bucket", "second-bucket", "md5-bucket"):
        assert s3.get_object(Bucket=name, Key="readme")["Body"].read() == page.encode()


def test_every_option_and_its_variable_are_in_the_operations_page() -> None:
    options = [name.rstrip("=") for name in Options().longOpt]
    assert len(options) > 8
    for name in set(options) - {"help", "version"}:
        assert f"`--{name}" in OPERATIONS
        assert f"`AIS_S3_{name.upper().replace('-', '_')}" in OPERATIONS


def test_every_variable_of_the_example_file_is_one() -> None:
    text = (ROOT / "contrib" / "systemd" / "ais-s3.env").read_text()
    names = set(re.findall(r"^#?(AIS_S3_\w+)=", text, re.MULTILINE))
    assert names >= {"AIS_S3_LISTEN", "AIS_S3_DATA", "AIS_S3_ACCESS_LOG"}
    assert names <= {f"AIS_S3_{name.rstrip('=').upper().replace('-', '_')}" for name in Options().longOpt}


def test_every_metric_is_in_the_operations_page() -> None:
    metrics = Metrics(Gauges)
    metrics.observe("GetObject", 200, 0.1, 0, 1)
    names = set(re.findall(r"^# TYPE (ais_s3_\w+)", metrics.render().decode(), re.MULTILINE))
    assert len(names) > 6
    assert not [name for name in names if f"`{name}" not in OPERATIONS]


@pytest.mark.parametrize("page", sorted(ROOT.glob("*.md")) + sorted(ROOT.glob("docs/*.md")), ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_the_unit_is_valid(tmp_path: Path) -> None:
    unit = (ROOT / "contrib" / "systemd" / "ais-s3.service").read_text()
    # The program is not installed here, nor is its user.
    unit = unit.replace("/opt/ais-s3/bin/twistd", "/bin/true").replace("=ais-s3\n", "=root\n")
    (tmp_path / "ais-s3.service").write_text(unit)
    try:
        command = ["systemd-analyze", "verify", str(tmp_path / "ais-s3.service")]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        pytest.skip("systemd is not installed")
    assert (ended.returncode, ended.stdout + ended.stderr) == (0, "")


def unknown(page: str) -> list[str]:
    """What a page names of the tests, their variables and the programs that is not there."""
    sources = {path.stem: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    tests = {name: set(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE)) for name, text in sources.items()}
    found = []
    for name, test in re.findall(r"\b(test_\w+)(?:\.py)?(?:::(\w+))?", page):
        there = test in tests.get(name, ()) if test else name in sources or any(name in of for of in tests.values())
        found += [] if there else [f"{name}::{test}" if test else name]
    for name in re.findall(r"`([A-Z][A-Z0-9_]*_(?:SEED|SECONDS))`", page):
        found += [] if any(f'environ.get("{name}"' in text for text in sources.values()) else [name]
    for module in re.findall(r"python -m ((?:reliability|fuzzing)(?:\.\w+)+)", page):
        found += [] if (ROOT / module.replace(".", "/")).with_suffix(".py").exists() else [module]
    return found


def test_what_the_reliability_page_names_is_there() -> None:
    assert unknown(record.PAGE.read_text()) == []


def test_a_name_that_is_not_there_is_noticed() -> None:
    page = "`test_crash.py` `test_no_such` `test_crash.py::test_none` `CRASH_SEED` `A_SEED` `python -m reliability.no`"
    assert unknown(page) == ["test_no_such", "test_crash::test_none", "A_SEED", "reliability.no"]


def test_the_figures_of_the_reliability_page_are_those_that_were_recorded() -> None:
    text = record.PAGE.read_text()
    assert record.page(text, record.load()) == text


@pytest.mark.parametrize(
    "program", [path.stem for path in (ROOT / "reliability").glob("*.py") if "= Program(" in path.read_text()]
)
def test_every_program_shows_its_figures_on_the_reliability_page(program: str) -> None:
    assert f"<!-- reliability.{program} -->" in record.PAGE.read_text()


def test_a_recorded_figure_replaces_the_one_on_the_page() -> None:
    result = {
        "arguments": "--cuts 3", "seconds": 1234, "date": "2026-11-25", "revision": "abc1234",
        "measured": {"seed": 12345, "ext4": {"cuts": 4000, "lost": 0}},
    }  # fmt: skip
    text = "| <!-- reliability.powercut -->what was<!-- / --> | <!-- reliability.crash -->x<!-- / --> |"
    shown = "`--cuts 3`: seed 12345; ext4: cuts 4,000, lost 0 (1,234 s, 2026-11-25, abc1234)"
    assert record.page(text, {"reliability.powercut": result}) == (
        f"| <!-- reliability.powercut -->{shown}<!-- / --> | <!-- reliability.crash -->not yet<!-- / --> |"
    )


def test_every_promise_of_the_reliability_page_has_a_figure() -> None:
    """A cell of its tables that has nothing is a promise that nobody has measured."""
    rows = [line for line in record.PAGE.read_text().splitlines() if line.startswith("| ")]
    assert len(rows) > 80
    assert [row[:60] for row in rows if row.endswith(("| |", "not yet<!-- / --> |"))] == []


def test_the_tests_that_a_promise_names_are_there() -> None:
    rows = record.markers(record.PAGE.read_text(), record.TESTS)
    assert len(rows) > 20
    tests = [each for marker in rows for each in promises.named(marker)]
    assert unknown(" ".join(f"{module}::{test}" if test else module for module, test in tests)) == []


def test_what_became_of_the_tests_of_a_promise() -> None:
    report = """<testsuites><testsuite>
        <testcase classname="tests.test_a" name="test_one[x]" time="1.5"/>
        <testcase classname="tests.test_a" name="test_one[y]" time="1"><failure/></testcase>
        <testcase classname="tests.test_a" name="test_two" time="2"><skipped/></testcase>
        <testcase classname="tests.test_b" name="test_one" time="4"><error/></testcase>
    </testsuite></testsuites>"""
    ended = promises.read_report(report)
    assert promises.measure("tests.test_a::test_one", ended) == ({"tests": 2, "failed": 1}, 2.5)
    assert promises.measure("tests.test_a", ended) == ({"tests": 3, "failed": 1, "skipped": 1}, 4.5)
    assert promises.measure("tests.test_a::test_two+test_b", ended) == ({"tests": 2, "failed": 1, "skipped": 1}, 6.0)
    assert promises.measure("tests.test_none", ended) == ({"tests": 0, "failed": 0}, 0)
