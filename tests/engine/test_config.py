"""Settings: process, context, environment, checks."""

import asyncio
import os
import subprocess
import sys
import threading

import pytest

import attngraph as ag


@pytest.fixture(autouse=True)
def restored():
    before = ag.config._process
    yield
    ag.config._process = before


def test_set_acts_at_once_for_the_process():
    ag.config.set(threads=3)
    assert ag.config.threads == 3
    seen = []
    thread = threading.Thread(target=lambda: seen.append(ag.config.threads))
    thread.start()
    thread.join()
    assert seen == [3]


def test_assignment_is_set():
    ag.config.max_length = 12
    assert ag.config.max_length == 12
    with pytest.raises(ag.ArgumentError, match="speed"):
        ag.config.speed = 3


def test_with_restores_and_is_local_to_the_context():
    ag.config.set(threads=2)
    seen = []
    with ag.config.set(threads=5, target="reference") as inside:
        assert inside is ag.config
        assert (ag.config.threads, ag.config.target) == (5, "reference")
        thread = threading.Thread(target=lambda: seen.append(ag.config.threads))
        thread.start()
        thread.join()
        with ag.config.set(threads=7):
            assert ag.config.threads == 7
        assert ag.config.threads == 5
    assert ag.config.threads == 2
    assert seen == [2]


def test_with_restores_after_an_error():
    ag.config.set(threads=2)
    with pytest.raises(KeyError), ag.config.set(threads=4):
        raise KeyError
    assert ag.config.threads == 2


def test_a_setting_may_be_entered_again():
    setting = ag.config.set(max_length=5)
    for _ in range(2):
        with setting:
            assert ag.config.max_length == 5
        assert ag.config.max_length is None


def test_tasks_have_contexts_of_their_own():
    async def task(threads):
        with ag.config.set(threads=threads):
            await asyncio.sleep(0.01)
            return ag.config.threads

    async def both():
        return await asyncio.gather(task(3), task(4))

    assert asyncio.run(both()) == [3, 4]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", 0),
        ("threads", -1),
        ("threads", "many"),
        ("threads", True),
        ("threads", 1.5),
        ("target", "gpu"),
        ("target", None),
        ("memory_limit", "256 apples"),
        ("memory_limit", -5),
        ("memory_limit", "MiB"),
        ("distance_form", "manhattan"),
        ("max_length", 0),
        ("check_finite", "perhaps"),
        ("cache_dir", 5),
        ("thread", 1),
    ],
)
def test_bad_settings_are_refused_and_change_nothing(name, value):
    before = ag.config.settings()
    with pytest.raises(ag.ArgumentError, match=name):
        ag.config.set(**{name: value})
    assert ag.config.settings() == before


@pytest.mark.parametrize(
    ("given", "bytes_"), [("256MiB", 2**28), ("1GiB", 2**30), ("1.5 kb", 1500), (77, 77), (None, None), ("88", 88)]
)
def test_memory_limits(given, bytes_):
    with ag.config.set(memory_limit=given):
        assert ag.config.memory_limit == bytes_


def test_defaults():
    assert ag.config.threads >= 1
    assert ag.config.target == "native"
    assert ag.config.distance_form == "direct"
    assert ag.config.cache_dir == os.environ["ATTNGRAPH_CACHE_DIR"]  # which conftest.py sets
    assert "threads" in repr(ag.config)
    with pytest.raises(AttributeError, match="speed"):
        _ = ag.config.speed


def run(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )


def test_environment():
    names = "threads target check_finite max_length memory_limit"
    code = f"import attngraph as ag; print(*(getattr(ag.config, name) for name in {names.split()}))"
    result = run(
        code,
        ATTNGRAPH_THREADS="3",
        ATTNGRAPH_TARGET="reference64",
        ATTNGRAPH_CHECK_FINITE="off",
        ATTNGRAPH_MAX_LENGTH="9",
        ATTNGRAPH_MEMORY_LIMIT="2KiB",
    )
    assert result.stdout.split() == ["3", "reference64", "False", "9", "2048"], result.stderr


def test_a_bad_environment_is_a_typed_error_not_a_failing_import():
    result = run("import attngraph as ag; print('imported'); ag.config.threads", ATTNGRAPH_THREADS="lots")
    assert "imported" in result.stdout
    assert "ArgumentError: config: threads" in result.stderr


@pytest.mark.parametrize("name", ["THREAD", "NUM_THREADS", "CACHEDIR", "MEM_LIMIT", "MAXLENGTH", "TARGETS"])
def test_a_misspelt_variable_is_an_error(name):
    result = run("import attngraph as ag; print('imported'); ag.config.threads", **{f"ATTNGRAPH_{name}": "3"})
    assert "imported" in result.stdout
    assert f"ArgumentError: config: there is no environment variable ATTNGRAPH_{name} (ATTNGRAPH_" in result.stderr
    assert "ATTNGRAPH_THREADS, ATTNGRAPH_CACHE_DIR, ATTNGRAPH_MEMORY_LIMIT" in result.stderr


def test_a_variable_of_somebody_elses_is_none_of_our_business():
    result = run("import attngraph as ag; print(ag.config.threads)", ATTNGRAPH_THREADS="3", ATTNGRAPH_HOME="/there")
    assert result.stdout == "3\n", result.stderr


def test_equal_settings_are_one_object():
    """What is held for some settings is found by identity."""
    first = ag.config.set(threads=3) and ag.config.settings()
    ag.config.set(threads=5)
    assert ag.config.settings() is not first
    ag.config.set(threads=3)
    assert ag.config.settings() is first
    for _ in range(2):
        with ag.config.set(threads=5):
            within = ag.config.settings()
            assert within is ag.config.settings()
            assert within.threads == 5
            with ag.config.set(threads=3):
                assert ag.config.settings() is first
            assert ag.config.settings() is within
        assert ag.config.settings() is first


def test_a_change_for_the_process_is_seen_in_a_context():
    with ag.config.set(threads=3):
        before = ag.config.settings()
        other = threading.Thread(target=lambda: ag.config.set(max_length=77))
        other.start()
        other.join()
        assert ag.config.settings() is not before
        assert ag.config.settings().max_length == 77
        assert ag.config.settings().threads == 3
