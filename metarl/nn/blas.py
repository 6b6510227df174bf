"""Multiply float32 matrices with BLAS from compiled code; called from Python, many small products wait for the interpreter."""

import ctypes
from functools import cache
from typing import Any

import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic

from metarl.system.jit import jit


@cache
def sgemm_address() -> int:
    """The address of BLAS's sgemm: torch's where it can be found, else scipy's, which has its own number of threads."""
    try:
        function = ctypes.CDLL(torch._C.__file__).sgemm_  # looks in the libraries that this one has loaded, too
    except (AttributeError, OSError):
        return int(get_cython_function_address("scipy.linalg.cython_blas", "sgemm"))
    return ctypes.cast(function, ctypes.c_void_p).value or 0


@intrinsic
def _call_sgemm(typingctx: Any, sgemm: Any, op: Any, sizes: Any, matrices: Any) -> Any:
    """Call BLAS's sgemm at an address: C += op(A) B.

    Args:
        op: the letter of op.
        sizes: m, n, k, and the lengths of the columns of A, B, C.
        matrices: addresses of A, B, C.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = ir.IntType(8).as_pointer()

        def stored(value: Any) -> Any:
            return cgutils.alloca_once_value(builder, value)

        # BLAS takes addresses; a BLAS with sizes of 32 bits reads the first half of these 64 (little-endian machines)
        m, n, k, *columns = (stored(size) for size in cgutils.unpack_tuple(builder, args[2]))
        a, b, c = (builder.inttoptr(matrix, pointer) for matrix in cgutils.unpack_tuple(builder, args[3]))
        as_it_is, one = stored(ir.Constant(ir.IntType(64), ord("N"))), stored(ir.Constant(ir.FloatType(), 1.0))
        arguments = [stored(args[1]), as_it_is, m, n, k, one, a, columns[0], b, columns[1], one, c, columns[2]]
        function_type = ir.FunctionType(ir.VoidType(), [pointer] * len(arguments))
        target = builder.inttoptr(args[0], function_type.as_pointer())
        builder.call(target, [builder.bitcast(argument, pointer) for argument in arguments])
        return context.get_dummy_value()

    word = types.int64
    return types.void(word, word, types.UniTuple(word, 6), types.UniTuple(word, 3)), codegen


@jit
def add_product(sgemm, x, weight, transposed, out):
    """out += x W', or x W; all float32 and row-major.

    Args:
        sgemm: see `sgemm_address`.
        x: (rows, inputs).
        weight: (outputs, inputs) if `transposed`, else (inputs, outputs).
        transposed: whether to multiply with the weight's transpose.
        out: (rows, outputs).

    Raises:
        ValueError: the shapes do not fit.
    """
    rows, inputs = x.shape
    outputs = out.shape[1]
    if len(out) != rows or weight.shape != ((outputs, inputs) if transposed else (inputs, outputs)):
        raise ValueError("the shapes of the product do not fit")
    # BLAS stores matrices by columns, so it sees the transpose of each: out' += op(W) x'
    sizes = outputs, rows, inputs, weight.shape[1], inputs, outputs
    _call_sgemm(sgemm, ord("T" if transposed else "N"), sizes, (weight.ctypes.data, x.ctypes.data, out.ctypes.data))
