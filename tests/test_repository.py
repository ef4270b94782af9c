"""Facts of packaging that nothing else would notice until a user does."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import attngraph

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ["engine", "ops", "attention", "runtime"]


def test_the_tests_run_on_this_checkout():
    assert Path(attngraph.__file__).resolve() == ROOT / "__init__.py"


def test_the_root_package_is_imported_once():
    origins = {name: getattr(module, "__file__", None) for name, module in list(sys.modules.items())}
    roots = [name for name, origin in origins.items() if origin and Path(origin) == ROOT / "__init__.py"]
    assert roots == ["attngraph"]


def test_every_package_is_listed():
    folders = {path.parent for name in FOLDERS for path in (ROOT / name).rglob("*.py")}
    found = {".".join(["attngraph", *folder.relative_to(ROOT).parts]) for folder in folders}
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found | {"attngraph"})


@pytest.mark.parametrize("package", PROJECT["tool"]["setuptools"]["packages"])
def test_every_package_says_what_it_is(package):
    source = ROOT.joinpath(*package.split(".")[1:], "__init__.py").read_text()
    assert source.startswith('"""')


def test_the_types_are_declared():
    assert (ROOT / "py.typed").is_file()
    assert "py.typed" in PROJECT["tool"]["setuptools"]["package-data"]["attngraph"]


def test_the_version_is_written_once():
    assert attngraph.__version__ == importlib.metadata.version("attngraph"), "install again: rm .venv/.has-*"
    assert "version" in PROJECT["project"]["dynamic"]
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text()


def test_all_has_every_extra_but_the_benchmarks_peers():
    extras = PROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    named = re.fullmatch(r"attngraph\[(.*)\]", everything)[1].split(",")
    assert sorted(named) == sorted(extras.keys() - {"all", "bench"})


def test_the_import_loads_only_what_everyone_needs():
    banned = PROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"]
    command = [sys.executable, "-c", "import attngraph, sys; print(*sys.modules)"]
    loaded = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert "attngraph" in loaded
    assert not set(banned) & set(loaded)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_make_lists_its_targets():
    listed = subprocess.run(["make"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    assert re.findall(r"^  make (\w+)  ", listed, re.MULTILINE) == phony.split()


def test_the_ci_script_can_run():
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
