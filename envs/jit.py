"""Compile functions with numba and cache the machine code on disk, keyed by the content of the sources.

numba's own cache does not notice a change in a function of another file, so callers would keep the old code. The cache
folder is therefore named by a hash of all the engine's sources, the versions of numba and numpy, and the processor.
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


@lru_cache(maxsize=1)
def cache_folder() -> Path | None:
    """Return the folder of compiled code; None if it is not writable, with one warning."""
    envs = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(envs.rglob("*.py")):
        digest.update(str(path.relative_to(envs)).encode() + path.read_bytes())
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


def jit(function: Callable[..., Any], what: str = "") -> Any:
    """Compile at the first call, releasing the GIL; log that `what` is compiled."""
    with _cached() as keep:
        dispatcher = numba.njit(nogil=True)(function)
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
