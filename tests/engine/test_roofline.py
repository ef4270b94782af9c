"""The machine's limits: plausible, and the same for every target's own vectors."""

import attngraph as ag
from attngraph.engine.config import config
from attngraph.engine.roofline import Roofline, roofline


def test_limits_of_this_machine():
    with ag.config.set(threads=1):
        limits = roofline(config.settings())
        assert 1e9 < limits.flops < 1e12
        assert 1e8 < limits.bytes < 1e12
        assert roofline(config.settings()) is limits  # measured once


def test_the_least_time_is_that_of_the_scarcer_resource():
    limits = Roofline(flops=100.0, bytes=10.0)
    assert limits.seconds(flops=100, bytes=1) == 1
    assert limits.seconds(flops=100, bytes=100) == 10
