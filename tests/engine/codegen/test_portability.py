"""One generator for every processor: kernels of other instruction sets run here, those of others are read."""

import dataclasses
import json
import re
import subprocess
import sys
from typing import NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from sweeps import VARIANTS, array, inputs

import attngraph as ag
from attngraph.engine import kernels, loop_codes, loops, program
from attngraph.engine.codegen.target import foreign_target, host_target, named_target
from attngraph.engine.config import config
from attngraph.engine.errors import CompileError
from attngraph.engine.pipeline import optimize
from attngraph.engine.program import Program

HOST = llvm.get_process_triple()
# Instruction sets of x86: a level, and what there is beyond it or is not there.
SETS = {
    "128 bits": ("x86-64-v2", ""),
    "128 bits and FMA": ("x86-64-v2", "+avx,+fma,+f16c,+xsave"),
    "AVX2 without FMA": ("x86-64-v3", "-fma"),
    "AVX2 and FMA": ("x86-64-v3", ""),
    "F of AVX-512 alone": ("x86-64-v3", "+avx512f,+avx512cd"),
    "AVX-512": ("x86-64-v4", ""),
}


@pytest.fixture(autouse=True)
def small_kernels(monkeypatch):
    """Sizes of tests are below what is worth a kernel."""
    for least in ("LEAST_WORK", "LEAST_ELEMENTS"):
        monkeypatch.setattr(program, least, 0)


@pytest.fixture
def compiling_for(monkeypatch):
    """Makes kernels for a target that no setting names."""

    def compile_for(target):
        for module in (kernels, loops):
            monkeypatch.setattr(module, "named_target", lambda _: target)

    return compile_for


def runnable(name):
    """The target of that set, if this machine can run it."""
    if not HOST.startswith("x86_64"):
        pytest.skip("x86 only")
    if name == "AVX2 of a processor with more":
        return dataclasses.replace(host_target(), name=name, vector_bytes=32, registers=16, has_avx512=False)
    cpu, features = SETS[name]
    present = {each for each, has in llvm.get_host_cpu_features().items() if has}
    try:
        named_target(cpu)
    except CompileError as reason:
        pytest.skip(str(reason))
    if missing := {each[1:] for each in features.split(",") if each.startswith("+")} - present:
        pytest.skip(f"this machine lacks {', '.join(sorted(missing))}")
    return foreign_target(HOST, cpu, features)


def check(expression, tolerance=2e-5):
    made = Program(optimize([expression.node]))
    assert made.plan.sweeps, made.plan.not_fused
    (found,) = made.run({}, config.settings(), check_finite=False)
    with ag.config.set(target="reference64"):
        wanted = expression.compute()
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * max(1, np.abs(wanted).max()))


@pytest.mark.parametrize("features", [*SETS, "AVX2 of a processor with more"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_on_every_instruction_set(compiling_for, features, variant):
    compiling_for(runnable(features))
    check(VARIANTS[variant][0](*inputs(rows=37, columns=131)))


@pytest.mark.parametrize("features", [*SETS, "AVX2 of a processor with more"])
def test_ragged_sizes_on_every_instruction_set(compiling_for, features):
    compiling_for(runnable(features))
    for rows, columns, width in ((1, 77, 20), (3, 130, 17), (9, 16, 4), (16, 18, 33), (35, 127, 1), (70, 257, 7)):
        q, k, v = inputs(rows=rows, columns=columns, width=width)
        check(ag.attention(q, k, v))
        check(ag.attention(q, k, v, is_causal="lower_right"))


def test_what_the_sets_are():
    for name, wanted in {
        "128 bits": (16, 16, False, False, False),
        "128 bits and FMA": (16, 16, True, False, True),
        "AVX2 without FMA": (32, 16, False, False, True),
        "AVX2 and FMA": (32, 16, True, False, True),
        "F of AVX-512 alone": (32, 16, True, False, True),
        "AVX-512": (64, 32, True, True, True),
    }.items():
        found = foreign_target("x86_64-unknown-linux-gnu", *SETS[name])
        kept = (found.vector_bytes, found.registers, found.has_fma, found.has_avx512, found.has_f16c)
        assert kept == wanted, name


# --- other architectures: compiled in a process of its own, for LLVM ends a process on what it cannot do


class Architecture(NamedTuple):
    """A processor that we cannot run, what multiplies and adds there, and how its assembly calls."""

    triple: str
    cpu: str
    features: str
    multiply_add: str
    call: str


ARCHITECTURES = {
    "cortex-a76": Architecture("aarch64-unknown-linux-gnu", "cortex-a76", "", r"\tfmla\t", r"\tblr?\t(.*)"),
    "apple-m1": Architecture("arm64-apple-macosx", "apple-m1", "", r"\tfmla\.4s\t", r"\tblr?\t(.*)"),
    "neoverse-v1": Architecture("aarch64-unknown-linux-gnu", "neoverse-v1", "", r"\tfmla\t", r"\tblr?\t(.*)"),
    "aarch64": Architecture("aarch64-unknown-linux-gnu", "generic", "", r"\tfmla\t", r"\tblr?\t(.*)"),
    "riscv64": Architecture(
        "riscv64-unknown-linux-gnu",
        "generic-rv64",
        "+m,+a,+f,+d,+c,+v",
        r"\tvf(?:macc|madd)\.v",
        r"\t(?:call|tail)\t(.*)",
    ),
    "ppc64le": Architecture(
        "powerpc64le-unknown-linux-gnu", "pwr9", "+vsx", r"\txvmadd[am]sp\b", r"\t(?:bl|bctrl)\b(.*)"
    ),
    "wasm32": Architecture(
        "wasm32-unknown-unknown", "generic", "+simd128", r"\tf32x4\.mul\b", r"\tcall(?:_indirect)?\t(.*)"
    ),
}
ASSEMBLE = """
import json, sys
from llvmlite import binding
binding.initialize_all_targets()
binding.initialize_all_asmprinters()
from attngraph.engine.codegen.target import foreign_target
from attngraph.engine.native_code import emit_assembly, emit_object, undefined_symbols
target = foreign_target(*sys.argv[1:])
texts = json.load(sys.stdin)
symbols = [sorted(undefined_symbols(emit_object(text, {}, target)) - {""}) for text in texts]
json.dump([[emit_assembly(text, target) for text in texts], symbols], sys.stdout)
"""
# An instruction of x86 alone.
STRANGE = """
declare <4 x float> @llvm.x86.sse.rcp.ps(<4 x float>)
define <4 x float> @f(<4 x float> %x) {
  %y = call <4 x float> @llvm.x86.sse.rcp.ps(<4 x float> %x)
  ret <4 x float> %y
}
"""


class Written:
    """Stands for code that was written and not compiled."""

    def function(self, *_):
        return lambda: 0


@pytest.fixture
def texts_for(monkeypatch, compiling_for):
    """Writes all kernels of some expressions for an architecture: their texts."""

    def texts(architecture, *expressions):
        found = []

        def keep(text, *_, **__):
            found.append(text())
            return Written()

        compiling_for(foreign_target(architecture.triple, architecture.cpu, architecture.features))
        for module in (kernels, loop_codes):
            monkeypatch.setattr(module, "compile_text", keep)
        for expression in expressions:
            before = len(found)
            made = Program(optimize([expression.node]))
            for kernel in [*made.kernels.values(), *made.loops.values()]:
                kernel.for_plain_arrays(config.settings())
            assert len(found) > before
        return found

    return texts


def assembled(architecture, texts):
    """The assembly of each text, and what its object takes from elsewhere."""
    command = [sys.executable, "-c", ASSEMBLE, architecture.triple, architecture.cpu, architecture.features]
    result = subprocess.run(command, input=json.dumps(texts), capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr[-2000:]
    return list(zip(*json.loads(result.stdout), strict=True))


def inner_loops(assembly):
    """The lines of each innermost loop: LLVM's comments say of a block which loop it heads or is in."""
    loops = {}
    head = None
    for line in assembly.splitlines():
        if found := re.match(r"\.?L?(BB\d+_\d+):|\W+%bb\.\d+:", line):
            block, head = found[1], None
        if found := re.search(r"in Loop: Header=(BB\d+_\d+)", line):
            head = found[1]
        if "Inner Loop Header" in line:
            head = block
            loops[head] = []
        if head in loops:
            loops[head].append(line)
    return list(loops.values())


def spills(lines):
    """How often a loop stores or loads a register that did not suffice."""
    return sum("Spill" in line or "Reload" in line for line in lines)


def usual():
    """Attentions of many rows and of few, and loops."""
    many, few, one = (inputs(rows=rows, columns=150, width=64) for rows in (70, 5, 1))
    x = array(40, 50)
    return {
        "plain": ag.attention(*many),
        "causal": ag.attention(*many, is_causal=True),
        "softcap": VARIANTS["softcap"][0](*many),
        "gated": VARIANTS["gated"][0](*many),
        "dense bias": VARIANTS["bias (H, S, S)"][0](*many),
        "distance": VARIANTS["poincare"][0](*many),
        "few rows": ag.attention(*few),
        "one row": ag.attention(*one),
        "row loop": ag.layer_norm(ag.gelu(x)),
        "loop": ag.sin(x) * ag.log1p(ag.abs(x)) // 0.3 + ag.pow(ag.abs(x), 0.7),
        "float16": ag.softmax(ag.asarray(np.asarray(x).astype("float16")).astype("float32"), axis=-1),
    }


def strangers(architecture, assembly):
    """What is called that the module does not define itself."""
    called = {name.strip() for name in re.findall(architecture.call, assembly)}
    return called - set(re.findall(r"^(\w+):", assembly, re.MULTILINE))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_nothing_is_called_on_other_architectures(texts_for, name):
    architecture, expressions = ARCHITECTURES[name], usual()
    texts = texts_for(architecture, *expressions.values())
    for text, (assembly, symbols) in zip(texts, assembled(architecture, texts), strict=True):
        # Integers of 128 bits, wanted for the sine of huge numbers, LLVM leaves to its own library on wasm32.
        assert strangers(architecture, assembly) <= ({"__multi3", "__ashlti3"} if name == "wasm32" else set())
        assert set(symbols) <= {".TOC."}  # where its tables begin, on ppc64le
        if " @sweep(" in text:
            assert len(re.findall(architecture.multiply_add, assembly)) >= 16


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_contractions_stay_in_registers(texts_for, name):
    architecture, expressions = ARCHITECTURES[name], usual()
    chosen = [expressions[each] for each in ("plain", "causal", "softcap", "gated", "dense bias")]
    for assembly, _ in assembled(architecture, texts_for(architecture, *chosen)):
        main = [each for each in inner_loops(assembly) if is_contraction(each, architecture)]
        assert len(main) >= 2  # of the score, and of the values
        assert [spills(each) for each in main] == [0] * len(main)


def is_contraction(loop, architecture):
    """Whether a loop does little but multiply and add: 4 vectors by 4 columns, or by 2, four times."""
    return len(re.findall(architecture.multiply_add, "\n".join(loop))) >= (
        48 if architecture.triple[:4] != "wasm" else 32
    )


def test_every_variant_on_arm(texts_for):
    """Score functions may take more registers than there are, but not many more, and call nothing."""
    architecture = ARCHITECTURES["cortex-a76"]
    texts = texts_for(architecture, *(build(*inputs()) for build, _ in VARIANTS.values()))
    for assembly, symbols in assembled(architecture, texts):
        assert not symbols
        assert not strangers(architecture, assembly)
        for loop in inner_loops(assembly):
            assert spills(loop) <= max(10, len(loop) // 3)


def test_a_process_survives_what_it_cannot_compile():
    """The helper of these tests says what LLVM says, and we are still there."""
    with pytest.raises(AssertionError, match="sse"):
        assembled(ARCHITECTURES["cortex-a76"], [STRANGE])
