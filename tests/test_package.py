"""What an installation contains: the plugin is found from a wheel and from an editable install, Twisted is unharmed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*command: str | Path, cwd: str | Path = "/") -> str:
    """Its output. Without PYTHONPATH: only what is installed is found."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    env |= {"PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    ended = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as pip does, but with the setuptools that is here (so that the test needs no network)."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"  # setuptools leaves build/ and egg-info where it works
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "venv", "*.egg-info", "__pycache__"))
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(directory)]
    run(*pip, str(source))
    [path] = directory.glob("*.whl")
    return path


def environment(directory: Path) -> Path:
    """The interpreter of a virtual environment that has our dependencies, but not the project."""
    venv.create(directory, with_pip=False, symlinks=True)
    python = directory / "bin" / "python"
    site = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    # Directories that a .pth file adds get none of their own .pth files read: no editable install leaks in.
    Path(site, "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def plugin_in(python: Path) -> tuple[Path, str]:
    """Where the plugin was found, and what twistd says of it. Run in ``/``, where nothing of ours lies."""
    where = run(python, "-c", "import twisted.plugins.ais_s3 as plugin; print(plugin.__file__)").strip()
    twistd = "import sys; from twisted.scripts.twistd import run; sys.argv = ['twistd', {}]; run()"
    assert "ais-s3 " in run(python, "-c", twistd.format("'ais-s3', '--version'"))
    return Path(where), run(python, "-c", twistd.format("'--help'"))


def test_the_plugin_is_found_from_a_wheel(wheel: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    run(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel))
    where, listed = plugin_in(python)
    assert where.is_relative_to(tmp_path)
    assert "An S3-compatible object server" in listed
    assert (python.parent / "ais").exists()


def test_the_plugin_is_found_from_an_editable_install(tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    pip = [sys.executable, "-m", "pip", "--python", str(python)]
    # setuptools is among the dependencies that the environment sees
    run(*pip, "install", "--no-deps", "--no-index", "--no-build-isolation", "--editable", str(ROOT))
    where, listed = plugin_in(python)
    assert where == ROOT / "twisted" / "plugins" / "ais_s3.py"
    assert "An S3-compatible object server" in listed


def test_the_wheel_holds_the_package_and_the_plugin_and_nothing_of_twisteds(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "twisted/plugins/ais_s3.py" in names
    assert "aisobj/py.typed" in names
    packaged = [name for name in names if ".dist-info/" not in name and not name.startswith("aisobj/")]
    assert packaged == ["twisted/plugins/ais_s3.py"]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "aisobj").rglob("*.py")}
    assert modules == {name for name in names if name.startswith("aisobj/") and name.endswith(".py")}


@pytest.mark.parametrize("path", ["twisted/__init__.py", "twisted/plugins/__init__.py"])
def test_no_package_file_of_ours_breaks_twisted(path: str) -> None:
    assert (ROOT / "twisted/plugins/ais_s3.py").exists()
    assert not (ROOT / path).exists()


def test_the_plugin_imports_nothing_of_the_server() -> None:
    code = "import sys, twisted.plugins.ais_s3; print([name for name in sys.modules if name.startswith('aisobj')])"
    assert run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r}); {code}") == "[]\n"
