"""The collector of docstring summaries: enough of them, real sentences, the same on every run."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from attngraph.runtime.demo.sentences import DEFAULT_COUNT, collect_sentences, is_sentence, summary


def test_the_standard_library_gives_more_than_the_default(every_sentence: list[str]) -> None:
    assert len(every_sentence) > 2 * DEFAULT_COUNT
    assert DEFAULT_COUNT >= 1000


def test_sentences_differ_and_take_one_line_each(every_sentence: list[str]) -> None:
    assert len(set(every_sentence)) == len(every_sentence)
    for sentence in every_sentence:
        assert sentence == " ".join(sentence.split())
        assert sentence.splitlines() == [sentence]
        assert is_sentence(sentence)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A small folder of sources with what a real one has: nesting, tests, broken files, repetition."""
    write(
        tmp_path / "b.py",
        '"""The second file in order."""\n'
        "class A:\n"
        '    """A class that spans\n    two lines of text. More about it.\n\n    Details."""\n'
        "    async def f(self):\n"
        '        """Return what nobody asked for."""\n'
        "def g():\n"
        '    """g(x) -> int"""\n'
        "def h():\n"
        '    """Return what nobody asked for."""\n',
    )
    write(tmp_path / "a" / "c.py", '"""The first file in order."""\nimport nothing_of_this_name\n"\\d"\n')
    write(tmp_path / "a" / "test" / "d.py", '"""A file of tests is skipped."""\n')
    write(tmp_path / "site-packages" / "e.py", '"""A file of others is skipped."""\n')
    write(tmp_path / "broken.py", '"""This file does not parse."""\ndef\n')
    write(tmp_path / "notes.txt", '"""This is not Python at all."""\n')
    return tmp_path


EXPECTED = [
    "The first file in order.",
    "The second file in order.",
    "A class that spans two lines of text.",
    "Return what nobody asked for.",
]


def test_files_are_parsed_in_order_and_never_imported(library: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert collect_sentences(100, library) == EXPECTED


@pytest.mark.parametrize(("count", "rows"), [(0, []), (1, [0]), (2, [0, 2]), (3, [0, 1, 2]), (4, range(4))])
def test_fewer_are_taken_evenly(library: Path, count: int, rows: list[int]) -> None:
    assert collect_sentences(count, library) == [EXPECTED[row] for row in rows]


def test_a_negative_count_is_an_error() -> None:
    with pytest.raises(ValueError, match="must not be negative, but is -1"):
        collect_sentences(-1)


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("One line.", "One line."),
        ("Spread\n    over lines.\n\nRest.", "Spread over lines."),
        ("First. Second.", "First."),
        ("See sys.path for more. And this.", "See sys.path for more."),
        ("\x0cForm\u2028feeds\x85go.", "Form feeds go."),
    ],
)
def test_summary(docstring: str, expected: str) -> None:
    assert summary(docstring) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Return the number of items.", True),
        ("Is this a real question?", True),
        ("Too few words.", False),
        ("no capital at the start here.", False),
        ("No full stop at the end here", False),
        ("Fetch(url, data) returns the page read.", False),
        ("Set x = y for all of them.", False),
        ("A 1 2 3 4 5 6 7 8 9 10 11 12 is a row.", False),
    ],
)
def test_is_sentence(text: str, expected: bool) -> None:
    assert is_sentence(text) is expected
