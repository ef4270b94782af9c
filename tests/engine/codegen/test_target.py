"""Targets: what the machine has, what it can run, what stands in for what it cannot."""

import dataclasses

import llvmlite.binding as llvm
import numpy as np
import pytest

import attngraph as ag
from attngraph.engine.codegen import target as targets
from attngraph.engine.codegen.target import NAMES, foreign_target, host_target, named_target, scalar_target
from attngraph.engine.config import TARGETS

X86 = llvm.get_process_triple().startswith("x86_64")


def test_every_target_of_the_settings_but_the_interpreter_is_known():
    assert set(NAMES) == {name for name in TARGETS if not name.startswith("reference")}


def test_the_host_runs_its_own_target():
    host = host_target()
    assert host is named_target("native")
    assert host.cpu == llvm.get_host_cpu_name()
    assert host.triple == llvm.get_process_triple()
    assert host.lanes("float32") == 2 * host.lanes("float64") == host.vector_bytes // 4
    assert host.lanes(np.int8) == host.vector_bytes


@pytest.mark.parametrize(
    ("name", "width", "fma", "avx512"),
    [("x86-64-v2", 16, False, False), ("x86-64-v3", 32, True, False), ("x86-64-v4", 64, True, True)],
)
def test_levels(name, width, fma, avx512):
    target = named_target(name, must_run=False)
    assert (target.name, target.vector_bytes, target.has_fma, target.has_avx512) == (name, width, fma, avx512)
    assert target.has_f16c == (name != "x86-64-v2")
    assert not target.has_bf16
    assert target.triple.startswith("x86_64")


def test_a_target_of_one_lane():
    target = scalar_target()
    assert (target.lanes("float32"), target.has_avx512) == (1, False)
    assert target.features == host_target().features


def test_targets_are_values():
    target = named_target("x86-64-v3", must_run=False)
    assert target == named_target("x86-64-v3", must_run=False)
    assert len({target, dataclasses.replace(target)}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        target.cpu = "other"


@pytest.fixture
def machine(monkeypatch):
    """Pretends that the machine is another one."""

    for cached in (targets._host, targets._level):
        monkeypatch.setattr(targets, cached.__name__, cached.__wrapped__)

    def pretend(features, triple="x86_64-unknown-linux-gnu"):
        facts = triple, "some-cpu", ",".join(f"+{each}" for each in sorted(features)), frozenset(features)
        monkeypatch.setattr(targets, "_host_facts", lambda: facts)

    return pretend


def test_what_the_machine_lacks_is_named(machine):
    machine(targets._LEVELS["x86-64-v3"] - {"bmi2"})
    assert named_target("x86-64-v2").vector_bytes == 16
    with pytest.raises(ag.CompileError, match=r"cannot run target x86-64-v3: it lacks bmi2\b"):
        named_target("x86-64-v3")
    with pytest.raises(ag.CompileError, match="lacks avx512bw, avx512cd"):
        named_target("x86-64-v4")
    assert named_target("x86-64-v4", must_run=False).has_avx512


def test_the_host_uses_what_it_has(machine):
    machine(targets._LEVELS["x86-64-v4"] | {"avx512bf16"})
    assert (host_target().vector_bytes, host_target().has_bf16, host_target().cpu) == (64, True, "some-cpu")
    machine(targets._LEVELS["x86-64-v4"] - {"avx512vl"})
    assert (host_target().vector_bytes, host_target().has_avx512, host_target().has_fma) == (32, False, True)
    machine(targets._LEVELS["x86-64-v2"] | {"avx"})
    assert (host_target().vector_bytes, host_target().has_fma) == (16, False)


def test_parts_of_an_instruction_set(machine):
    """Wide vectors without FMA, and FMA without wide vectors."""
    v2, v3 = targets._LEVELS["x86-64-v2"], targets._LEVELS["x86-64-v3"]
    for features, wanted in (
        (v3 - {"fma"}, (32, 16, False, True)),
        (v2 | {"avx", "fma", "f16c"}, (16, 16, True, True)),
        (v2 | {"avx", "fma4"}, (16, 16, True, False)),
        (v3 | {"avx512f", "avx512cd", "avx512er"}, (32, 16, True, True)),
    ):
        machine(features)
        host = host_target()
        assert (host.vector_bytes, host.registers, host.has_fma, host.has_f16c) == wanted
        assert not host.has_avx512


@pytest.mark.parametrize(
    ("triple", "features", "wanted"),
    [
        ("aarch64-unknown-linux-gnu", "", (16, 32, True, True)),
        ("arm64-apple-macosx", "", (16, 32, True, True)),
        ("riscv64-unknown-linux-gnu", "+d,+v", (16, 32, True, False)),
        ("riscv64-unknown-linux-gnu", "+d", (4, 32, True, False)),
        ("powerpc64le-unknown-linux-gnu", "+vsx", (16, 64, True, False)),
        ("wasm32-unknown-unknown", "+simd128", (16, 16, False, False)),
        ("wasm32-unknown-unknown", "", (4, 16, False, False)),
        ("loongarch64-unknown-linux-gnu", "", (16, 16, False, False)),
    ],
)
def test_other_architectures(triple, features, wanted):
    target = foreign_target(triple, "generic", features)
    assert (target.vector_bytes, target.registers, target.has_fma, target.has_f16c) == wanted
    assert (target.triple, target.cpu, target.features, target.has_avx512) == (triple, "generic", features, False)


def test_a_level_and_what_is_listed():
    triple = "x86_64-unknown-linux-gnu"
    assert foreign_target(triple, "x86-64-v4").has_avx512
    assert not foreign_target(triple, "x86-64-v3", "-fma").has_fma
    assert foreign_target(triple, "x86-64-v3", "+avx512bf16").has_bf16
    assert foreign_target("aarch64-unknown-linux-gnu").name == "aarch64"
    with pytest.raises(ag.CompileError, match=r"lacks cx16"):
        foreign_target(triple, "x86-64")


def test_a_machine_below_the_lowest_level_has_no_kernels(machine):
    machine({"sse3"})
    with pytest.raises(ag.CompileError, match=r"need x86-64-v2.*sse4.1.*reference"):
        host_target()


def test_other_architectures_run_only_their_own(machine):
    machine(set(), "aarch64-unknown-linux-gnu")
    assert (host_target().vector_bytes, host_target().has_fma) == (16, True)
    with pytest.raises(ag.CompileError, match="does not run on this machine"):
        named_target("x86-64-v2")
    assert named_target("x86-64-v2", must_run=False).triple.startswith("x86_64")


def test_a_target_that_does_not_exist():
    with pytest.raises(ag.CompileError, match="none of native, x86-64-v2"):
        named_target("x86-64-v5")


@pytest.mark.skipif(not X86, reason="x86 only")
def test_the_levels_features_are_those_that_llvm_means():
    """LLVM compiles for its processor of that name; we tell from features whether a machine is one."""
    host = llvm.get_host_cpu_features()
    for features in targets._LEVELS.values():
        assert features <= set(host)
