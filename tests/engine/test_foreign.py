import pytest

from attngraph.engine.foreign import Foreign, called, calls, may_raise, read
from attngraph.engine.foreign_text import ForeignError

HEAD = "define noundef i32 @f(ptr noalias captures(none) initializes((0, 8)) %retptr, ptr %excinfo, double %arg.x)"


def function(*lines, head=HEAD):
    return "\n".join([f"{head} local_unnamed_addr #0 {{", *lines, "}", "", "attributes #0 = { nounwind }"])


def body(*lines):
    return read(function("B0:", *lines), "f")


END = ("  store double %r, ptr %retptr, align 8", "  ret i32 0")


def test_what_is_read():
    foreign = body(
        "  %c = fcmp nnan ogt double %arg.x, 5.000000e-01 ; a remark",
        '  %"$s" = select i1 %c, double %arg.x, double 0x7FF0000000000000, !prof !0',
        '  %r = tail call fast double @llvm.fabs.f64(double noundef %"$s") #1',
        *END,
    )
    assert isinstance(foreign, Foreign)
    assert foreign.arguments == {"%arg.x": "double"}
    compare, select, call, store = foreign.blocks["%B0"].body
    assert (compare.op, compare.detail, compare.operands) == ("fcmp", "ogt", ("%arg.x", "5.000000e-01"))
    assert select.operands == ("%c", "%arg.x", "0x7FF0000000000000")
    assert (call.detail, call.operands) == ("llvm.fabs.f64", ('%"$s"',))
    assert (store.op, store.operands) == ("store", ("%r",))


def test_a_switch_is_read():
    foreign = body(
        "  %n = fptosi double %arg.x to i64",
        "  switch i64 %n, label %B1 [",
        "    i64 1, label %B2",
        "    i64 -5, label %B1",
        "  ]",
        "",
        "B2:                                               ; preds = %B0",
        "  br label %B1",
        "",
        "B1:                                               ; preds = %B2, %B0, %B0",
        "  %r = phi double [ 1.000000e+00, %B2 ], [ %arg.x, %B0 ], [ %arg.x, %B0 ]",
        *END,
    )
    assert foreign.blocks["%B0"].branch.cases == (("1", "%B2"), ("-5", "%B1"))
    assert foreign.blocks["%B0"].branch.targets == ("%B2", "%B1")
    assert foreign.blocks["%B1"].phis[0].blocks == ("%B2", "%B0")
    assert foreign.region.steps == ["%B0", "%B2", "%B1"]


REFUSED = [
    (["  %r = call double @gamma(double %arg.x)"], "gamma"),
    (["  %r = load double, ptr %p"], "load"),
    (["  %r = frem double %arg.x, 2.000000e+00"], "frem"),
    (["  %b = bitcast double %arg.x to i64", "  %r = sitofp i64 %b to double"], "bits"),
    (["  %v = fadd <2 x double> %a, %b"], "<2"),
    (["  %r = fadd fp128 %a, %b"], "fp128"),
    (["  %r = fadd double %arg.x, 0xK3FFF8000000000000000"], "number"),
    (["  store double %arg.x, ptr %other"], "store"),
    (["  %r = fadd double"], "unpack"),
    ([f"  %r{n} = fadd double %arg.x, %arg.x" for n in range(2000)], "too many"),
]


@pytest.mark.parametrize(("lines", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_has_no_form_for_vectors_is_refused(lines, words):
    with pytest.raises(ForeignError, match=words):
        body(*lines, *END)


def loop(stop):
    return [
        "  br label %B1",
        "B1:                                               ; preds = %B1, %B0",
        "  %n = phi i64 [ 0, %B0 ], [ %next, %B1 ]",
        "  %y = phi double [ %arg.x, %B0 ], [ %half, %B1 ]",
        "  %half = fmul double %y, 5.000000e-01",
        "  %next = add nuw nsw i64 %n, 1",
        f"  %c = {stop}",
        "  br i1 %c, label %B2, label %B1, !llvm.loop !0",
        "B2:                                               ; preds = %B1",
        "  store double %half, ptr %retptr, align 8",
        "  ret i32 0",
    ]


def test_a_loop_of_as_many_rounds_for_all_is_read():
    foreign = body(*loop("icmp eq i64 %next, 100"))
    assert [inner.header for inner in foreign.region.loops()] == ["%B1"]
    assert not foreign.has_varying_loops


def test_a_loop_that_depends_on_an_argument_is_known():
    assert body(*loop("fcmp olt double %half, 1.000000e+00")).has_varying_loops


def test_a_function_that_is_not_there():
    with pytest.raises(ForeignError, match="does not define g"):
        read(function("B0:", "  ret i32 0"), "g")


def test_exceptions_are_seen():
    assert not may_raise(function("B0:", "  ret i32 0"), "f")
    assert may_raise(function("B0:", "  ret i32 1"), "f")
    merged = ["B0:", "  br label %B1", "B1:", "  %s = phi i32 [ {}, %B0 ], [ 0, %B2 ]", "  ret i32 %s"]
    assert not may_raise(function(*merged).replace("{}", "0"), "f")
    assert may_raise(function(*merged).replace("{}", "-1"), "f")
    assert may_raise(function("B0:", "  %s = call i32 @g()", "  ret i32 %s"), "f")


def test_functions_from_outside():
    text = (
        "declare double @tanh(double) #1\ndeclare i64 @llvm.abs.i64(i64, i1 immarg)\ndeclare noalias ptr @malloc(i64)"
    )
    assert calls(text) == {"tanh", "malloc"}


@pytest.mark.parametrize(
    ("callee", "name"),
    [
        ("expf", "exp"),
        ("erf", "erf"),
        ("erff", "erf"),
        ("llvm.exp.f64", "exp"),
        ("llvm.smax.i64", "smax"),
        ("lgamma", None),
        ("llvm.powi.f64.i32", None),
        ("_ZN5local", None),
    ],
)
def test_names_of_functions(callee, name):
    assert called(callee) == name
