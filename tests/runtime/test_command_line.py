"""The command line, run as users do."""

import os
import subprocess
import sys

import batches
import pytest

import attngraph as ag

MODEL = """
import attngraph as ag

@ag.compile
def attend(queries, keys, values, slope):
    out, lse = ag.attention(queries, keys, values, return_lse=True)
    return {"out": out * slope, "lse": lse}
"""

JOB = """
function = "model.py:attend"
output = "out.zarr"
chunk = 3
over = 1

[inputs]
queries = "queries.zarr"
keys = "memory"
values = { path = "memory", array = "values" }

[constants]
slope = 0.5

[config]
threads = 1
"""


def command(folder, *arguments):
    code = "from attngraph.runtime.command_line import main; main()"
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        check=False,
        text=True,
        cwd=folder,
        env=environment,
        timeout=60,
    )


@pytest.fixture
def folder(tmp_path):
    batches.arrays(tmp_path)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "job.toml").write_text(JOB)
    return tmp_path


def test_a_batch(folder):
    done = command(folder, "batch", "job.toml")
    assert done.returncode == 0, done.stderr
    assert "batch of 14 chunks" in done.stdout
    assert "14 computed, 0 done before" in done.stdout
    batches.check(folder, batches.by_chunks(folder))
    assert "0 computed, 14 done before" in command(folder, "batch", "job.toml", "--scheduler", "threads").stdout
    (folder / "job.toml").write_text(JOB.replace("0.5", "0.25"))
    refused = command(folder, "batch", "job.toml")
    assert refused.returncode == 2
    assert "constant 'slope': 0.5 before, 0.25 now" in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("model.py:attend", "model:attend"), None),
        (("model.py:attend", "model.py:other"), "has no function 'other'"),
        (("model.py:attend", "absent:attend"), "No module named 'absent'"),
        (("model.py:attend", "model"), 'function is "module:name"'),
        (("queries.zarr", "absent.zarr"), "no zarr array"),
        (('output = "out.zarr"', ""), "lacks output"),
        (("chunk = 3", 'chunk = "3"'), "chunk is int, not str"),
        (("chunk = 3", "chonk = 3"), "says 'chonk'; there are function"),
        (("chunk = 3", "chunk ="), "is not TOML"),
        (("threads = 1", "treads = 1"), "no setting 'treads'"),
        (('array = "values"', 'array = "value"'), "which of keys and values"),
    ],
)
def test_jobs(folder, monkeypatch, change, said):
    from attngraph.runtime.batch.job_file import run_job_file

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    (folder / "job.toml").write_text(JOB.replace(*change))
    if said is None:
        assert run_job_file(folder / "job.toml").chunks_done == 14
    else:
        with pytest.raises(ag.AttnGraphError, match=said):
            run_job_file(folder / "job.toml")
    sys.modules.pop("model", None)


def test_errors_are_a_message_and_a_code(folder):
    for arguments in (["batch", "absent.toml"], ["batch"], ["fly"]):
        done = command(folder, *arguments)
        assert done.returncode == 2
        assert done.stderr
        assert "Traceback" not in done.stderr
    (folder / "model.py").write_text("def attend(**arguments):\n    raise RuntimeError('of the user')\n")
    done = command(folder, "batch", "job.toml")
    assert (done.returncode, done.stderr) == (2, "attngraph: RuntimeError: of the user\n")
    assert "batch" in command(folder, "--help").stdout
