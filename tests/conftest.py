import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

# A job in the background of a shell starts with Ctrl-C ignored, and its children inherit that: tests that interrupt
# a process would wait for what never comes.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parents[1]

# Kernels that tests compile stay in the checkout, for its next run.
os.environ.setdefault("ATTNGRAPH_CACHE_DIR", str(ROOT / "build" / "cache" / "kernels"))

# No deadline: the first example may compile a kernel.
settings.register_profile("dev", deadline=None, max_examples=50)
settings.register_profile("ci", deadline=None, max_examples=50, derandomize=True, print_blob=True)
settings.register_profile("fuzz", deadline=None, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))


class PlainRoot:
    """The repository's root is collected as a folder, though it is a package, too.

    As a package pytest would import it a second time, under another name than attngraph.
    """

    @staticmethod
    def pytest_collect_directory(path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # Registered, because pytest asks a conftest.py only about what lies below its own folder.
    config.pluginmanager.register(PlainRoot())
