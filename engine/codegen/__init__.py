"""Code generation: from the kernel language to LLVM IR, written as text.

``target`` knows the CPUs; ``llvm`` writes instructions in SSA form; ``math`` and ``transpose`` are
built on it. No optimisation pipeline runs on what is written here: what a kernel should not do
twice is not written twice. Only LLVM's code generation follows, which is most of the time a
compilation takes.
"""
