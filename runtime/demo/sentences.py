"""Real English sentences that every Python installation has: summaries of docstrings.

The standard library's source files are parsed, never imported, so collecting them runs no code
and needs no network. ``collect_sentences`` is the one public function.
"""

from __future__ import annotations

import ast
import re
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

DEFAULT_COUNT = 1500

# Tests and third-party packages are not the library; the others hold tables, are missing from
# some installations, or have hundreds of near-identical lines about widgets.
_NOT_THE_LIBRARY = {"__pycache__", "dist-packages", "idle_test", "site-packages", "test", "tests"}
_OTHERS = {"distutils", "encodings", "idlelib", "lib2to3", "pydoc_data", "tkinter", "turtle.py", "turtledemo"}
_SKIPPED = _NOT_THE_LIBRARY | _OTHERS

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
_WORD = re.compile(r"[A-Za-z][a-z'-]*")
_MARKUP = re.compile(r"->|=|[<>{}|\\^~]|\w\(.+\)|::|\.\.\.")
_FEWEST_WORDS = 4
_SHARE_OF_LETTERS = 0.75


def collect_sentences(count: int = DEFAULT_COUNT, root: Path | None = None) -> list[str]:
    """Return up to ``count`` different summary sentences, taken evenly from all there are.

    ``root`` is a folder of Python sources (the running interpreter's standard library unless
    given). The order is that of the sorted file names and, in a file, of the source, so it is the
    same on every run. Each sentence is one line: inner whitespace is a single space.

    Raises:
        ValueError: If ``count`` is negative.
    """
    if count < 0:
        raise ValueError(f"count must not be negative, but is {count}")
    folder = Path(sysconfig.get_path("stdlib")) if root is None else root
    found = (sentence for path in _source_files(folder) for sentence in _summaries(path))
    unique = list(dict.fromkeys(found))
    if count >= len(unique):
        return unique
    return [unique[index * len(unique) // count] for index in range(count)]


def _source_files(folder: Path) -> Iterator[Path]:
    """Yield the Python files below ``folder``, sorted, without those of ``_SKIPPED``."""
    for entry in sorted(folder.iterdir()):
        if entry.name in _SKIPPED:
            continue
        if entry.is_dir():
            yield from _source_files(entry)
        elif entry.suffix == ".py":
            yield entry


def _summaries(path: Path) -> Iterator[str]:
    """Yield the summaries of one file's docstrings; none if it cannot be read or parsed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old sources hold invalid escapes; not our concern
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for docstring in _docstrings(tree):
        sentence = summary(docstring)
        if is_sentence(sentence):
            yield sentence


def _docstrings(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Yield the docstring of ``node`` and of the classes and functions it defines, in source order."""
    text = ast.get_docstring(node)
    if text:
        yield text
    for child in node.body:
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _docstrings(child)


def summary(docstring: str) -> str:
    """Return the first sentence of a docstring's first paragraph, on one line."""
    paragraph = re.split(r"\n\s*\n", docstring.strip(), maxsplit=1)[0]
    first = _SENTENCE_END.split(paragraph, maxsplit=1)[0]
    return " ".join(first.split())


def is_sentence(text: str) -> bool:
    """Tell whether ``text`` reads as an English sentence rather than a signature or a title.

    It begins with a capital, ends with a full stop, has at least four words and is mostly letters.
    """
    if not (text[:1].isupper() and text.endswith((".", "!", "?"))) or _MARKUP.search(text):
        return False
    letters = sum(character.isalpha() for character in text)
    return len(_WORD.findall(text)) >= _FEWEST_WORDS and letters >= _SHARE_OF_LETTERS * len(text)
