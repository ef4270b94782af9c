"""Sweeps as text: golden listings of some variants. ``make golden`` writes them anew."""

import os
from pathlib import Path

import pytest
from planned import plan_of
from sweeps import VARIANTS, inputs

FOLDER = Path(__file__).parents[2] / "golden" / "sweeps"
NAMES = ("causal", "differential", "gated", "many points", "moments", "poincare", "relative table", "sink")


@pytest.mark.parametrize("name", NAMES)
def test_listing_is_golden(name):
    build, _ = VARIANTS[name]
    plan, _ = plan_of(build(*inputs()))
    text = "\n".join(map(str, plan.sweeps)) + "\n"
    path = FOLDER / f"{name.replace(' ', '-')}.txt"
    if os.environ.get("ATTNGRAPH_RENEW_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()


def test_every_listing_has_its_variant():
    assert {path.stem for path in FOLDER.iterdir()} == {name.replace(" ", "-") for name in NAMES}
