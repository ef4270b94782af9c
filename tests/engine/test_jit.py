"""From text to code: what is compiled, what is found, what is rejected, and what keeps code alive."""

import ctypes
import gc
import hashlib
import os
import re
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path
from typing import NamedTuple

import pytest
from llvmlite import binding

import attngraph as ag
from attngraph.engine import jit, object_cache
from attngraph.engine.jit import compile_text, compile_unkept
from attngraph.engine.native_code import undefined_symbols
from attngraph.engine.object_cache import CacheWarning

pytestmark = pytest.mark.skipif(
    not binding.get_process_triple().startswith("x86_64"), reason="the texts are for x86-64"
)


class Target(NamedTuple):
    triple: str = binding.get_process_triple()
    cpu: str = "x86-64-v2"
    features: str = ""


TARGET = Target()
NEVER = "this is not IR"


def adder(constant, name="add"):
    return f"define i64 @{name}(i64 %x) {{\n  %y = add i64 %x, {constant}\n  ret i64 %y\n}}\n"


def add(module, x, name="add"):
    return module.function(name, ctypes.c_int64, ctypes.c_int64)(x)


@pytest.fixture(autouse=True)
def nothing_loaded(monkeypatch):
    monkeypatch.setattr(jit, "_loaded", jit._Loaded(512))
    monkeypatch.setattr(object_cache, "_warned", set())


@pytest.fixture
def directory(tmp_path):
    return str(tmp_path / "cache")


def forget():
    """As a new process would: nothing in memory."""
    jit._loaded._held.clear()
    jit._loaded._living.clear()


def objects(directory):
    return sorted(Path(directory).glob("*.object"))


def test_a_module_computes(directory):
    text = adder(3) + adder(4, "four")
    module = compile_text(text, ["add", "four"], TARGET, key="k", cache_dir=directory)
    assert add(module, 39) == 42
    assert add(module, 39, "four") == 43
    assert module.cached == "no"
    assert module.target is TARGET
    assert module.ir == text
    assert 0 < module.compile_seconds < 5
    assert module.object_bytes[:4] == b"\x7fELF"
    assert module.object_bytes in objects(directory)[0].read_bytes()
    with pytest.raises(KeyError):
        module.address("three")


def test_the_second_time_it_comes_from_memory_and_then_from_disk(directory):
    first = compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    again = compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory)
    assert (first.cached, again.cached) == ("no", "memory")
    assert again.address("add") == first.address("add")
    assert again.compile_seconds == first.compile_seconds
    forget()
    reloaded = compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory)
    assert reloaded.cached == "disk"
    assert reloaded.address("add") != first.address("add")
    assert reloaded.object_bytes == first.object_bytes
    assert reloaded.compile_seconds < first.compile_seconds
    assert add(reloaded, 1) == add(first, 1) == 2


def test_text_is_written_only_to_be_compiled_or_seen(directory):
    written = []

    def write():
        written.append(1)
        return adder(5)

    first = compile_text(write, ["add"], TARGET, key="k", cache_dir=directory)
    assert add(first, 1) == 6
    assert first.ir == adder(5)
    assert len(written) == 1
    again = compile_text(write, ["add"], TARGET, key="k", cache_dir=directory)
    assert len(written) == 1
    assert again.ir == again.ir == adder(5)
    assert len(written) == 2


@pytest.mark.parametrize(
    "other",
    [
        {"key": "other"},
        {"target": Target(cpu="x86-64-v3")},
        {"target": Target(features="+sse4a")},
        {"entries": ["add", "four"]},
    ],
    ids=str,
)
def test_what_the_object_depends_on_tells_them_apart(directory, other):
    usual = {"entries": ["add"], "target": TARGET, "key": "k", "cache_dir": directory}
    text = adder(1) + adder(4, "four")
    compile_text(text, **usual)
    assert compile_text(text, **usual | other).cached == "no"
    assert len(objects(directory)) == 2


def test_versions_of_the_compiler_tell_them_apart(directory, monkeypatch):
    compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    other = ("0.99.0", *jit.compiler()[1:])
    monkeypatch.setattr(jit, "compiler", lambda: other)
    assert compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory).cached == "no"


def test_from_disk_to_a_callable_takes_no_time(directory):
    compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    seconds = []
    for _ in range(10):
        forget()
        start = time.perf_counter()
        module = compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory)
        function = module.function("add", ctypes.c_int64, ctypes.c_int64)
        seconds.append(time.perf_counter() - start)
        assert function(1) == 2
    assert min(seconds) < 0.02


def test_modules_with_the_same_names_coexist(directory):
    modules = [compile_text(adder(n), ["add"], TARGET, key=str(n), cache_dir=directory) for n in range(60)]
    assert [add(module, 100) for module in modules] == list(range(100, 160))
    symbols = {re.search(rb"attngraph_[0-9a-f]{16}_add", module.object_bytes)[0] for module in modules}
    assert len(symbols) == 60


def test_the_code_is_made_for_the_target(directory):
    text = textwrap.dedent("""
        declare <8 x float> @llvm.fma.v8f32(<8 x float>, <8 x float>, <8 x float>)
        define void @f(ptr %a) {
          %x = load <8 x float>, ptr %a
          %y = call <8 x float> @llvm.fma.v8f32(<8 x float> %x, <8 x float> %x, <8 x float> %x)
          store <8 x float> %y, ptr %a
          ret void
        }
        """)
    module = compile_text(text, ["f"], Target(cpu="x86-64-v3"), key="fma", cache_dir=directory)
    assembly = module.assembly()
    assert re.search(r"vfmadd\d+ps.*%ymm", assembly)
    assert "# %bb.0:" in assembly  # LLVM's comments
    assert re.search(r"^f: ", assembly, re.MULTILINE)
    with pytest.raises(ag.CompileError, match="calls fmaf, which it should do itself"):
        compile_text(text, ["f"], TARGET, key="fma", cache_dir=directory)
    assert len(objects(directory)) == 1


def test_a_text_for_another_machine_is_compiled_for_this_one(directory):
    text = 'target triple = "aarch64-apple-darwin"\ntarget datalayout = "e-m:o-i64:64"\n' + adder(2)
    assert add(compile_text(text, ["add"], TARGET, key="k", cache_dir=directory), 2) == 4


REJECTED = {
    "syntax": ("define void @add() { ret int }", r"expected type\s+define void @add\(\)"),
    "types": ("define void @add() { ret i32 1 }", "value doesn't match function result type"),
    "dominance": (
        "define i32 @add(i1 %c) {\n br i1 %c, label %a, label %b\na:\n %x = add i32 1, 2\n br label %b\n"
        "b:\n ret i32 %x\n}",
        "does not dominate all uses",
    ),
    "no terminator": ("define void @add() { %x = add i32 1, 2 }", "expected instruction opcode"),
    "missing entry": ("define void @other() { ret void }", "does not define 'add'"),
    "declared entry": ("declare void @add()", "does not define 'add'"),
    "private entry": (adder(1).replace("define", "define internal"), "Symbols not found"),
    "unknown function": (
        "declare void @nobody_has_this()\ndefine void @add() { call void @nobody_has_this() ret void }",
        "calls nobody_has_this",
    ),
    "null character": (adder(1) + "\0", "null character"),
    "surrogate": (adder(1) + "; \udc80", "surrogates not allowed"),
    "empty": ("", "does not define 'add'"),
}


@pytest.mark.parametrize(("text", "message"), REJECTED.values(), ids=REJECTED)
def test_a_text_that_llvm_rejects_is_an_error(directory, text, message):
    with pytest.raises(ag.CompileError, match=message) as caught:
        compile_text(text, ["add"], TARGET, key="k", cache_dir=directory)
    assert __file__ in str(caught.value)
    assert not objects(directory)
    assert add(compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory), 1) == 2


def test_a_long_message_is_cut(directory):
    phis = "".join(f" %x{n} = phi i32 [ 0, %a ]\n" for n in range(50))
    with pytest.raises(ag.CompileError) as caught:
        compile_text(f"define void @f() {{\na:\n br label %b\nb:\n{phis} br label %b\n}}", ["f"], TARGET, key="k",
                     cache_dir=directory)  # fmt: skip
    assert len(str(caught.value).splitlines()) < 12


def test_an_unknown_triple_is_an_error(directory):
    with pytest.raises(ag.CompileError, match="nonsense"):
        compile_text(adder(1), ["add"], Target(triple="nonsense-none"), key="k", cache_dir=directory)


def test_imports_are_functions_of_the_process(directory):
    text = "declare i32 @getpid()\ndefine i32 @f() {\n %x = call i32 @getpid()\n ret i32 %x\n}"
    module = compile_text(text, ["f"], TARGET, key="k", cache_dir=directory, imports=["getpid"])
    assert module.function("f", ctypes.c_int)() == os.getpid()
    assert undefined_symbols(module.object_bytes) - {"_GLOBAL_OFFSET_TABLE_", ""} == {"getpid"}


def test_what_every_process_has_may_be_called(directory):
    text = (
        "declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)\ndefine void @f(ptr %p, i64 %n) {\n"
        " call void @llvm.memset.p0.i64(ptr %p, i8 7, i64 %n, i1 false)\n ret void\n}"
    )
    module = compile_text(text, ["f"], TARGET, key="k", cache_dir=directory)
    buffer = ctypes.create_string_buffer(9)
    module.function("f", None, ctypes.c_void_p, ctypes.c_int64)(ctypes.addressof(buffer), 8)
    assert buffer.raw == b"\7" * 8 + b"\0"


def test_inline_assembly_does_not_end_the_process(directory):
    text = 'define i64 @f() {\n %x = call i64 asm "movq $$42, $0", "=r"()\n ret i64 %x\n}'
    module = compile_text(text, ["f"], TARGET, key="k", cache_dir=directory)
    assert module.function("f", ctypes.c_int64)() == 42


def test_constants_and_large_objects_are_linked(directory):
    values = ", ".join(f"i64 {n * n}" for n in range(5000))
    text = (
        f"@table = internal constant [5000 x i64] [{values}]\ndefine i64 @f(i64 %n) {{\n"
        " %p = getelementptr i64, ptr @table, i64 %n\n %x = load i64, ptr %p\n ret i64 %x\n}"
    )
    for _ in range(2):
        module = compile_text(text, ["f"], TARGET, key="k", cache_dir=directory)
        square = module.function("f", ctypes.c_int64, ctypes.c_int64)
        assert [square(n) for n in (0, 77, 4999)] == [0, 77**2, 4999**2]
        forget()


def test_a_function_keeps_its_module_alive(directory, monkeypatch):
    monkeypatch.setattr(jit, "_loaded", jit._Loaded(1))
    module = compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    made = weakref.ref(module._made)
    function = module.function("add", ctypes.c_int64, ctypes.c_int64)
    del module
    for number in range(5):  # push it out of memory
        compile_text(adder(number), ["add"], TARGET, key=str(number), cache_dir=directory)
    gc.collect()
    assert made() is not None
    assert function(41) == 42
    again = compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory)
    assert again.cached == "memory"  # though it was not held: somebody used it
    del function, again
    compile_text(adder(7), ["add"], TARGET, key="7", cache_dir=directory)
    gc.collect()
    assert made() is None


def test_memory_is_bounded_and_given_back(directory, monkeypatch):
    monkeypatch.setattr(jit, "_loaded", jit._Loaded(20))
    module = compile_text(adder(0), ["add"], TARGET, key="0", cache_dir=directory)
    names = {"add": re.search(rb"attngraph_[0-9a-f]{16}_add", module.object_bytes)[0].decode()}

    def resident():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    def load(count):
        for number in range(count):
            linked = jit.link(module.object_bytes, names, TARGET)
            jit._loaded.put(str(number), jit._Made(linked, 0.0))

    load(300)
    before = resident()
    load(2000)
    assert resident() - before < 4_000_000  # of the 8 KB each that are held while they live
    assert len(jit._loaded._held) == 20


def test_many_threads_compile_a_module_once(directory, monkeypatch):
    compiled, real = [], jit.emit_object
    monkeypatch.setattr(jit, "emit_object", lambda *arguments: (compiled.append(1), real(*arguments))[1])
    barrier, results = threading.Barrier(8), []

    def work():
        barrier.wait()
        results.append(compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(compiled) == 1
    assert sorted(result.cached for result in results) == ["memory"] * 7 + ["no"]
    assert {add(result, 1) for result in results} == {2}


def test_many_threads_compile_many_modules_and_let_go_of_them(directory, monkeypatch):
    monkeypatch.setattr(jit, "_loaded", jit._Loaded(3))
    wrong = []

    def work(seed):
        for step in range(40):
            number = (seed * 7 + step) % 12
            module = compile_text(adder(number), ["add"], TARGET, key=str(number), cache_dir=directory)
            if add(module, 100) != 100 + number:
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    "damage",
    [b"", b"foreign" * 50, None],
    ids=["empty", "foreign", "truncated"],
)
def test_a_damaged_object_is_compiled_again_and_replaced(directory, damage):
    first = compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    (path,) = objects(directory)
    path.write_bytes(path.read_bytes()[:-10] if damage is None else damage)
    forget()
    with pytest.warns(CacheWarning, match="damaged and is compiled again"):
        again = compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    assert again.cached == "no"
    assert add(again, 1) == add(first, 1) == 2
    forget()
    assert compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory).cached == "disk"


def test_an_object_that_does_not_link_is_compiled_again(directory):
    """Its checksum is right, so it is read; but it is not what this library writes."""
    compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    (path,) = objects(directory)
    cache = object_cache.ObjectCache(directory)
    for image in (b"no object", compile_unkept(adder(1), ["add"], TARGET).object_bytes):
        cache.store(path.stem, image)
        forget()
        object_cache._warned.clear()
        with pytest.warns(CacheWarning, match="damaged"):
            assert add(compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory), 1) == 2


def test_a_warning_that_is_raised_leaves_things_in_order(directory):
    Path(directory).write_text("a file where the directory should be")
    with pytest.raises(CacheWarning, match="cannot be kept"):  # pytest makes warnings errors here
        compile_text(adder(1), ["add"], TARGET, key="k", cache_dir=directory)
    assert compile_text(NEVER, ["add"], TARGET, key="k", cache_dir=directory).cached == "memory"
    assert compile_text(adder(2), ["add"], TARGET, key="l", cache_dir=directory).cached == "no"


def test_unkept_code_is_in_no_cache(directory):
    module = compile_unkept(adder(1), ["add"], TARGET)
    assert add(module, 1) == 2
    assert len(jit._loaded._living) == 0


# The rest happens in processes of their own.


def command(script, *arguments):
    prelude = f"""
        import ctypes, os, sys, threading, time
        from typing import NamedTuple
        from attngraph.engine.jit import compile_text
        class Target(NamedTuple):
            triple: str = {TARGET.triple!r}
            cpu: str = "x86-64-v2"
            features: str = ""
        def adder(constant):
            return f"define i64 @add(i64 %x) {{{{\\n  %y = add i64 %x, {{constant}}\\n  ret i64 %y\\n}}}}\\n"
        def compiled(number):
            module = compile_text(adder(number), ["add"], Target(), key=str(number), cache_dir=sys.argv[1])
            return module.function("add", ctypes.c_int64, ctypes.c_int64)
        """
    return [sys.executable, "-c", textwrap.dedent(prelude) + textwrap.dedent(script), *arguments]


def run_script(script, *arguments):
    done = subprocess.run(command(script, *arguments), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_two_processes_fill_a_cache_at_once(directory):
    script = """
        seed = int(sys.argv[2])
        counts = {"no": 0, "disk": 0}
        print("ready", flush=True)
        sys.stdin.readline()
        for step in range(40):  # the same modules as the other process, in another order
            number = (step * 7 + seed * 13) % 40
            module = compile_text(adder(number), ["add"], Target(), key=str(number), cache_dir=sys.argv[1])
            counts[module.cached] += 1
            assert module.function("add", ctypes.c_int64, ctypes.c_int64)(1000) == 1000 + number
        print(counts["no"], counts["disk"])
        """
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    children = [subprocess.Popen(command(script, directory, str(seed)), **pipes) for seed in range(2)]
    assert [child.stdout.readline() for child in children] == ["ready\n"] * 2
    for child in children:
        child.stdin.write("go\n")
        child.stdin.flush()
    ends = [child.communicate(timeout=60) for child in children]
    assert [error for _, error in ends] == ["", ""]
    counts = [tuple(map(int, output.split())) for output, _ in ends]
    assert [sum(count) for count in counts] == [40, 40]
    assert sum(compiled for compiled, _ in counts) >= 40
    assert len(objects(directory)) == 40
    assert not list(Path(directory).glob("*.unfinished"))
    for number in range(40):
        assert compile_text(NEVER, ["add"], TARGET, key=str(number), cache_dir=directory).cached == "disk"


def test_an_object_serves_the_next_process(directory):
    script = """
        module = compile_text(adder(1), ["add"], Target(), key="1", cache_dir=sys.argv[1])
        print(module.cached, compiled(1)(41))
        """
    assert run_script(script, directory) == "no 42\n"
    assert run_script(script, directory) == "disk 42\n"


def test_a_child_of_a_process_that_compiles_can_compile(directory):
    script = """
        import warnings
        # Newer Pythons warn of every fork beside threads: that is what is tried here.
        warnings.filterwarnings("ignore", ".*is multi-threaded, use of fork", DeprecationWarning)
        stop = []
        def work():
            number = 1000
            while not stop:
                number += 1
                compiled(number)
        thread = threading.Thread(target=work)
        thread.start()
        inherited = compiled(7)
        for child in range(10):
            pid = os.fork()
            if pid == 0:
                try:
                    right = inherited(1) == 8 and compiled(child)(5) == 5 + child and compiled(7)(1) == 8
                    os._exit(0 if right else 3)
                except BaseException:
                    os._exit(4)
            assert os.waitpid(pid, 0)[1] == 0
        stop.append(1)
        thread.join()
        print(compiled(2000)(1))
        """
    assert run_script(script, directory) == "2001\n"


def test_code_may_run_while_the_interpreter_ends(directory):
    script = """
        spin = '''
        define void @spin(i64 %n) {
        entry:
          br label %loop
        loop:
          %i = phi i64 [0, %entry], [%j, %loop]
          %j = add i64 %i, 1
          %more = icmp slt i64 %j, %n
          br i1 %more, label %loop, label %done
        done:
          ret void
        }'''
        module = compile_text(spin, ["spin"], Target(), key="spin", cache_dir=sys.argv[1])
        function = module.function("spin", None, ctypes.c_int64)
        threading.Thread(target=function, args=(10**12,), daemon=True).start()
        del function, module
        time.sleep(0.05)
        print("end")
        """
    assert run_script(script, directory) == "end\n"


def test_a_cache_that_cannot_be_written_is_one_warning(tmp_path):
    (tmp_path / "file").write_text("")
    script = """
        import warnings
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            print([compiled(number)(1) for number in range(3)], [w.category.__name__ for w in caught])
        """
    assert run_script(script, str(tmp_path / "file")) == "[1, 2, 3] ['CacheWarning']\n"


def test_symbols_of_other_formats_are_not_looked_for():
    assert undefined_symbols(b"MZ" + bytes(100)) == set()
    assert undefined_symbols(b"") == set()


def test_the_digest_of_a_key_is_what_the_file_is_called(directory):
    module = compile_text(adder(1), ["add"], TARGET, key="k\udc80 é", cache_dir=directory)
    (path,) = objects(directory)
    assert re.fullmatch(r"[0-9a-f]{64}\.object", path.name)
    assert f"attngraph_{path.stem[:16]}_add".encode() in module.object_bytes
    assert hashlib.sha256(module.object_bytes).digest() in path.read_bytes()[:92]
