"""The README: every snippet runs, the picture is the one that its first snippet draws."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_there_are_snippets():
    assert len(SNIPPETS) >= 3
    assert len(re.findall(r"^```(\w+)$", README, re.MULTILINE)) == len(re.findall(r"^```$", README, re.MULTILINE))


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippets_run(number, capsys):
    exec(compile(SNIPPETS[number], f"README.md, snippet {number}", "exec"), {"__name__": "snippet"})


def test_the_picture_is_what_the_first_snippet_draws():
    names = {"__name__": "snippet"}
    exec(compile(SNIPPETS[0], "README.md, snippet 0", "exec"), names)
    golden = ROOT / "tests" / "golden" / "attention.svg"
    # To renew it: names["O"].visualize().save(golden)
    assert names["O"].visualize().svg == golden.read_text()


def test_commands_are_targets_of_make():
    targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1].split()
    named = set(re.findall(r"(?:^|`)make (\w+)", README, re.MULTILINE))
    assert {"demo", "test", "bench"} <= named <= set(targets)


def test_files_that_it_names_exist():
    for name in re.findall(r"`((?:engine|ops|attention|runtime|tests)/[\w/.]*)`", README):
        assert (ROOT / name).exists(), name
    for target in re.findall(r"\]\(([\w/.]+)\)", README):
        assert (ROOT / target).exists(), target
