"""Random functions of scalars: two floats and two integers, with branches and loops, as Python functions."""

from hypothesis import strategies as st

FLOAT_CONSTANTS = ["0.0", "0.1", "-1.5", "3.0", "1e-3", "1e30"]
INTEGER_CONSTANTS = ["0", "1", "-1", "2", "3", "7", "-8", "100"]


@st.composite
def floats(draw, depth, indices):
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(["x", "y", *FLOAT_CONSTANTS]))
    kind = draw(st.sampled_from(["binary", "binary", "call", "choice", "integer", "negative"]))
    one = draw(floats(depth - 1, indices))
    if kind == "binary":
        return f"({one} {draw(st.sampled_from(['+', '-', '*', '/']))} {draw(floats(depth - 1, indices))})"
    if kind == "call":
        name = draw(st.sampled_from(["min", "max", "abs", "math.floor", "math.sqrt"]))
        if name in ("min", "max"):
            return f"{name}({one}, {draw(floats(depth - 1, indices))})"
        # what has no root is NaN, and what has no integer is left open
        return f"float({name}({one}))" if name == "abs" else f"np.{name[5:]}({one})"
    if kind == "choice":
        return f"({one} if {draw(conditions(depth - 1, indices))} else {draw(floats(depth - 1, indices))})"
    return f"float({draw(integers(depth - 1, indices))})" if kind == "integer" else f"(-{one})"


@st.composite
def integers(draw, depth, indices):
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return draw(st.sampled_from(["n", "m", *indices, *INTEGER_CONSTANTS]))
    one, two = draw(integers(depth - 1, indices)), draw(integers(depth - 1, indices))
    operation = draw(st.sampled_from(["+", "-", "*", "//", "%", "&", "^", "abs", "if"]))
    if operation == "abs":
        return f"abs({one})"
    if operation == "if":
        return f"({one} if {draw(conditions(depth - 1, indices))} else {two})"
    return f"({one} {operation} {two})"


@st.composite
def conditions(draw, depth, indices):
    kind = draw(st.sampled_from(["floats", "integers", "both"] if depth else ["floats", "integers"]))
    if kind == "both":
        word = draw(st.sampled_from(["and", "or", "and not"]))
        return f"({draw(conditions(depth - 1, indices))} {word} {draw(conditions(depth - 1, indices))})"
    sides = floats if kind == "floats" else integers
    relation = draw(st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
    return f"({draw(sides(depth, indices))} {relation} {draw(sides(depth, indices))})"


@st.composite
def blocks(draw, depth, indices, in_loop):
    lines = []
    for _ in range(draw(st.integers(1, 3))):
        kinds = ["x", "y", "n", "m"] + (["if", "if", "for"] if depth else []) + (["leave"] if in_loop else [])
        kind = draw(st.sampled_from(kinds))
        if kind in ("x", "y"):
            lines.append(f"{kind} = {draw(floats(2, indices))}")
        elif kind in ("n", "m"):
            lines.append(f"{kind} = {draw(integers(2, indices))}")
        elif kind == "leave":
            word = draw(st.sampled_from(["break", "continue", "return x"]))
            lines += [f"if {draw(conditions(1, indices))}:", f"    {word}"]
        elif kind == "if":
            lines += [f"if {draw(conditions(1, indices))}:", *indented(draw(blocks(depth - 1, indices, in_loop)))]
            if draw(st.booleans()):
                lines += ["else:", *indented(draw(blocks(depth - 1, indices, in_loop)))]
        else:
            index = f"i{len(indices)}"
            lines.append(f"for {index} in range({draw(st.sampled_from([2, 5, 40]))}):")
            lines += indented(draw(blocks(depth - 1, [*indices, index], True)))
    return lines


def indented(lines):
    return [f"    {line}" for line in lines]


@st.composite
def programs(draw):
    """The source of a function ``program(x, y, n, m)`` that returns a float."""
    body = draw(blocks(2, [], False))
    return "\n".join(["def program(x, y, n, m):", *indented([*body, f"return {draw(floats(2, []))}"])])
