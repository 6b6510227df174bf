"""Compile functions with numba and cache the machine code on disk, keyed by the content of the sources.

numba's own cache does not notice a change in a function of another file, so callers would keep the old code. The cache
folder is therefore named by a hash of all sources of compiled code, the versions of numba and numpy, and the processor.
"""

import contextlib
import hashlib
import logging
from collections.abc import Callable, Iterator
from functools import cache as cache_results
from functools import lru_cache
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.ccallback import CFunc
from numba.extending import intrinsic

from metarl.system import files as cache

log = logging.getLogger("metarl")


COMPILED = ("envs", "nn")
"""Packages with compiled code."""


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return the folder of compiled code; None if it is not writable, with one warning."""
    package, digest = Path(__file__).parents[1], hashlib.sha256()
    for path in [Path(__file__), *(path for part in COMPILED for path in sorted((package / part).rglob("*.py")))]:
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    digest.update(f"{numba.__version__} {np.__version__} {llvm.get_host_cpu_name()}".encode())
    digest.update(str(sorted(llvm.get_host_cpu_features().items())).encode())
    folder = cache.directory("compiled", digest.hexdigest()[:16])
    error = cache.refusal(folder)
    if error is None:
        return folder
    _warn_not_cached(error)
    return None


def _warn_not_cached(reason: object) -> None:
    folder = cache.directory("compiled")
    cache.without(
        f"compiled code is not cached, every start compiles again: {folder} (METARL_CACHE) cannot be written: {reason}"
    )


@contextlib.contextmanager
def _cached() -> Iterator[bool]:
    """Set numba's cache folder, which it reads when a function is decorated, and restore it for other code."""
    folder, before = cache_folder(), numba.config.CACHE_DIR
    numba.config.CACHE_DIR = str(folder or "")
    try:
        yield folder is not None
    finally:
        numba.config.CACHE_DIR = before


def jit(function: Callable[..., Any], what: str = "", *, fast: bool = False) -> Any:
    """Compile at the first call, releasing the GIL.

    Args:
        function: the function.
        what: logged when it is compiled.
        fast: allow the compiler to reorder sums, for loops in SIMD; the function must not rely on NaN or infinity.
    """
    options: dict[str, Any] = {"fastmath": True, "error_model": "numpy"} if fast else {}
    with _cached() as keep:
        dispatcher = numba.njit(nogil=True, **options)(function)
        if keep:
            _keep(dispatcher, what)
        return dispatcher


@cache_results
def formula_address(function: Callable[..., Any]) -> int:
    """Compile `void function(double*, double*, double*)` now and return its address."""
    pointer = types.CPointer(types.float64)
    with _cached() as keep:  # the same as numba.cfunc, but gives access to its cache
        compiled: Any = CFunc(function, ((pointer, pointer, pointer), types.void), locals={}, options={})
        if keep:
            _keep(compiled, f"the reward {function.__name__}")
        compiled.compile()
    _compiled_formulas.append(compiled)
    address: int = compiled.address
    return address


def _keep(compiled: Any, what: str) -> None:
    """Cache compiled code on disk; log that `what` is compiled.

    Cache failures are not fatal: unreadable code is compiled again, and code that cannot be written is not cached.
    """
    try:
        compiled.enable_caching()
    except (OSError, RuntimeError) as error:  # numba tests the folder with a file: the disk may have filled up since our test
        _warn_not_cached(error)
        return
    disk_cache = compiled._cache
    load, save = disk_cache.load_overload, disk_cache.save_overload

    def load_or_recompile(*arguments: Any) -> Any:
        try:
            overload = load(*arguments)
            if overload is None and what:
                log.info("compiling %s, once", what)
            return overload
        except Exception as error:  # damaged files cause many kinds of errors
            log.warning("compiled code in the cache is damaged (%s): compiling again", type(error).__name__)
            with contextlib.suppress(OSError):
                disk_cache.flush()
            return None

    def save_or_skip(*arguments: Any) -> None:
        try:
            save(*arguments)
        except OSError as error:
            _warn_not_cached(error.strerror or error)

    disk_cache.load_overload, disk_cache.save_overload = load_or_recompile, save_or_skip


_compiled_formulas: list[Any] = []
"""Compiled formulas: their code must outlive the addresses that were handed out."""


@intrinsic
def call_with_two(typingctx: Any, function: Any, first: Any, second: Any) -> Any:
    """Call `void function(void*, void*)`, given three addresses; used for mj_step and mj_forward."""
    return types.void(types.int64, types.int64, types.int64), _call_codegen


@intrinsic
def call_with_three(typingctx: Any, function: Any, first: Any, second: Any, third: Any) -> Any:
    """Call `void function(double*, double*, double*)`, given four addresses; used for the tasks' formulas."""
    return types.void(types.int64, types.int64, types.int64, types.int64), _call_codegen


def _call_codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    pointer = ir.IntType(8).as_pointer()
    function_type = ir.FunctionType(ir.VoidType(), [pointer] * (len(args) - 1))
    target = builder.inttoptr(args[0], function_type.as_pointer())
    builder.call(target, [builder.inttoptr(argument, pointer) for argument in args[1:]])
    return context.get_dummy_value()


@intrinsic
def fetch_and_add(typingctx: Any, address: Any) -> Any:
    """Return the int64 at an address and increment it atomically; threads use it to share out work."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.int64), codegen


@intrinsic
def read_pointer(typingctx: Any, address: Any) -> Any:
    """Return the int64 at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(builder.inttoptr(args[0], ir.IntType(64).as_pointer()))

    return types.int64(types.int64), codegen


@intrinsic
def read_int(typingctx: Any, address: Any) -> Any:
    """Return the C int at an address, as int64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = builder.load(builder.inttoptr(args[0], ir.IntType(32).as_pointer()))
        return builder.sext(value, ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def doubles(typingctx: Any, address: Any) -> Any:
    """Return an address as `double*`, for `numba.carray`."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], ir.DoubleType().as_pointer())

    return types.CPointer(types.float64)(types.int64), codegen


@intrinsic
def write_int(typingctx: Any, address: Any, value: Any) -> Any:
    """Store an int64 as the C int at an address."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        builder.store(builder.trunc(args[1], ir.IntType(32)), pointer)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def call_with_state(typingctx: Any, function: Any, model: Any, data: Any, state: Any, spec: Any) -> Any:
    """Call `void function(void*, void*, double*, int)`, given four addresses; used for mj_setState and mj_getState."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer, integer = ir.IntType(8).as_pointer(), ir.IntType(32)
        function_type = ir.FunctionType(ir.VoidType(), [pointer, pointer, pointer, integer])
        target = builder.inttoptr(args[0], function_type.as_pointer())
        addresses = [builder.inttoptr(argument, pointer) for argument in args[1:4]]
        builder.call(target, [*addresses, builder.trunc(args[4], integer)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64, types.int64, types.int64), codegen


@intrinsic
def try_lock(typingctx: Any, address: Any) -> Any:
    """Set the int64 at an address from 0 to 1, atomically; return whether this thread did it."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        pointer = builder.inttoptr(args[0], word.as_pointer())
        result = builder.cmpxchg(pointer, ir.Constant(word, 0), ir.Constant(word, 1), "acquire", "monotonic")
        return builder.extract_value(result, 1)

    return types.boolean(types.int64), codegen


@intrinsic
def unlock(typingctx: Any, address: Any) -> Any:
    """Set the int64 at an address to 0, after everything that this thread wrote before."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        builder.store_atomic(ir.Constant(word, 0), builder.inttoptr(args[0], word.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64), codegen


@intrinsic
def float_of_bits(typingctx: Any, bits: Any) -> Any:
    """Return the float32 whose bits are this int32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen
