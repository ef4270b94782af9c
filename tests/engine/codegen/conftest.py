import contextlib
import ctypes
import re

import llvmlite.binding as llvm
import numpy as np
import pytest

from attngraph.engine.codegen.target import named_target
from attngraph.engine.errors import CompileError


class Native:
    """A module as native code: its functions take arrays, as pointers, and integers."""

    def __init__(self, module):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        parsed = llvm.parse_assembly(module.text())
        parsed.verify()
        target = module.target
        machine = llvm.Target.from_triple(target.triple).create_target_machine(
            cpu=target.cpu, features=target.features, opt=3, reloc="pic", codemodel="small", jit=True
        )
        parsed.data_layout = str(machine.target_data)
        self.assembly = machine.emit_assembly(parsed)
        self.engine = llvm.create_mcjit_compiler(parsed, machine)
        self.engine.finalize_object()

    def __call__(self, name, *arguments, returns=None):
        kinds = [ctypes.c_void_p if isinstance(each, np.ndarray) else ctypes.c_int64 for each in arguments]
        function = ctypes.CFUNCTYPE(returns, *kinds)(self.engine.get_function_address(name))
        return function(*[each.ctypes.data if isinstance(each, np.ndarray) else each for each in arguments])

    @property
    def calls(self):
        """What is called, or jumped to, that the module does not define."""
        defined = set(re.findall(r"^(\w+):", self.assembly, re.MULTILINE))
        called = re.findall(r"^\t(?:callq?|jmpq?)\s+\*?\$?([A-Za-z_]\w*)", self.assembly, re.MULTILINE)
        return {name for name in called if name not in defined} | set(re.findall(r"\bcallq?\s+\*.*", self.assembly))


@pytest.fixture(scope="session")
def native():
    return Native


TARGETS = ["x86-64-v2", "x86-64-v3", "x86-64-v4"]


@pytest.fixture(params=TARGETS, scope="session")
def target(request):
    try:
        return named_target(request.param)
    except CompileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def targets():
    """All that this machine runs, for tests whose expectation costs more than a target's code does."""
    found = []
    for name in TARGETS:
        with contextlib.suppress(CompileError):
            found.append(named_target(name))
    return found or pytest.skip("no target of x86")
