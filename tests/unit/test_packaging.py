"""What an installation brings: the client alone without the worker's parts, and a command that says what is missing."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
HEAVY = ("aiokafka", "click", "faust", "mode", "rich", "rocksdict", "uvloop")
CLIENT_DEPENDENCIES = ("confluent_kafka", "msgspec", "typing_extensions.py")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel as users get it, built by the backend that pyproject.toml names, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    script = "import sys; from hatchling import build; print(build.build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


class Bare:
    """A virtual environment with the wheel and what the client depends on, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        return subprocess.run(
            command, env=clean, cwd=self.folder, capture_output=True, text=True, check=False, timeout=60
        )

    def ask(self, script: str) -> str:
        done = self.run(str(self.python), "-c", script)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


@pytest.fixture(scope="module")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """`pip install kafka-wait-for-me`, without extras; the two dependencies are those of the running environment."""
    folder = tmp_path_factory.mktemp("bare")
    venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
    one = Bare(folder)
    site = Path(one.ask("import sysconfig; print(sysconfig.get_path('purelib'))"))
    pip = [sys.executable, "-m", "pip", "--python", str(one.python), "install", "--quiet", "--no-deps", "--no-index"]
    done = one.run(*pip, str(wheel))
    assert done.returncode == 0, done.stderr
    for name in (*CLIENT_DEPENDENCIES, "confluent_kafka.libs"):
        for where in ("purelib", "platlib"):
            source = Path(sysconfig.get_path(where)) / name
            if source.exists() and not (site / name).exists():
                (site / name).symlink_to(source)
    return one


def test_the_wheel_holds_both_packages_and_nothing_else(wheel: Path, project: dict[str, Any]) -> None:
    """No tests, no folder named `app` or `producers` that could shadow somebody's own."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"wait_for_me", "wait_for_me_app", f"kafka_wait_for_me-{project['project']['version']}.dist-info"}
    assert {"wait_for_me/py.typed", "wait_for_me_app/py.typed"} <= set(names)
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_every_source_file_is_in_the_wheel(wheel: Path) -> None:
    """A package that the build does not know would be missed only by users."""
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".py")}
    roots = (REPOSITORY / "producers", REPOSITORY / "app")
    sources = {path.relative_to(root).as_posix() for root in roots for path in root.rglob("*.py")}
    assert packed == sources


def test_the_folders_above_the_packages_are_no_packages_themselves() -> None:
    """`app.wait_for_me_app.worker` would load the module twice, and with it a second Faust app."""
    assert not (REPOSITORY / "app" / "__init__.py").exists()
    assert not (REPOSITORY / "producers" / "__init__.py").exists()


def test_the_client_depends_on_two_packages_and_the_worker_is_pinned(project: dict[str, Any]) -> None:
    """The worker reaches into Faust, so what it was tested with is what is installed."""
    base = sorted(line.partition(">")[0] for line in project["project"]["dependencies"])
    assert base == ["confluent-kafka", "msgspec"]
    app = project["project"]["optional-dependencies"]["app"]
    exact = {line.partition("==")[0]: line.partition("==")[2] for line in app if "==" in line and ";" not in line}
    assert exact == {
        "aiokafka": "0.14.0",
        "faust-streaming": "0.15.3",
        "mode-streaming": "0.7.1",
        "rocksdict": "0.3.29",
    }


@pytest.mark.slow
def test_a_bare_installation_has_every_client_module_and_loads_nothing_of_the_worker(bare: Bare) -> None:
    """Each module of `wait_for_me` imports, and neither Faust nor RocksDB is there to be loaded."""
    script = f"""
import importlib, importlib.util, pkgutil, sys
import wait_for_me
modules = [one.name for one in pkgutil.walk_packages(wait_for_me.__path__, 'wait_for_me.')]
for name in modules: importlib.import_module(name)
print(len(modules) > 5, [n for n in {HEAVY!r} if n in sys.modules or importlib.util.find_spec(n)], 'wait_for_me_app' in sys.modules)
"""
    assert bare.ask(script) == "True [] False"


@pytest.mark.slow
def test_the_schema_alone_loads_no_kafka_library(bare: Bare) -> None:
    """A service that only decodes commands should not pay for librdkafka."""
    script = "import sys, wait_for_me, wait_for_me.commands, wait_for_me.codec; print('confluent_kafka' in sys.modules)"
    assert bare.ask(script) == "False"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [(), ("--help",), ("worker",), ("topics", "check")])
def test_the_command_of_a_bare_installation_says_what_to_install(bare: Bare, arguments: tuple[str, ...]) -> None:
    """One line instead of a traceback."""
    done = bare.run(str(bare.python.parent / "wait-for-me"), *arguments)
    assert (done.returncode, done.stdout) == (78, "")
    assert done.stderr.count("\n") == 1
    assert done.stderr.endswith("Run: pip install 'kafka-wait-for-me[app]'\n")


def test_another_missing_module_is_not_taken_for_a_missing_extra(tmp_path: Path) -> None:
    """A broken installation must show its traceback, not advice that cannot help."""
    (tmp_path / "click.py").write_text("import no_such_module_anywhere\n")
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY / "producers"), str(REPOSITORY / "app")])
    done = subprocess.run(
        [sys.executable, "-m", "wait_for_me_app"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "No module named 'no_such_module_anywhere'" in done.stderr
    assert "pip install" not in done.stderr
