"""Find an OpenGL backend that works, also on machines without a display."""

import importlib
import os
import subprocess
import sys
from functools import lru_cache
from typing import Any

from metarl.errors import UserError

PACKAGES = {"egl": "libegl1", "osmesa": "libosmesa6"}
"""Backends that need no display, in the order of trial, with their Debian packages."""
_OFF = ("disable", "disabled", "off", "false", "0")
_DISPLAY = ("enable", "enabled", "on", "true", "1", "glx", "glfw")  # mujoco's names for the display's own OpenGL

_PROBE = """
import mujoco
ball = "<mujoco><worldbody><light pos='0 0 3'/><geom size='1' rgba='1 1 1 1'/></worldbody></mujoco>"
model = mujoco.MjModel.from_xml_string(ball)
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 32, 32) as renderer:
    renderer.update_scene(data)
    print("drawn" if renderer.render().max() > 50 else "black", flush=True)
"""
_COUNT_DEVICES = "from mujoco.egl import egl_ext; print(len(egl_ext.eglQueryDevicesEXT()))"


@lru_cache(maxsize=1)
def find_backend() -> str:
    """Find an OpenGL backend that works: "egl", "osmesa" or, only if `MUJOCO_GL` asks for it, "glfw".

    If `MUJOCO_GL` is set, it decides; else the first of EGL and OSMesa that draws a picture. Each is tried in a separate
    process (about a second), because a failing OpenGL can terminate or corrupt the process that tries it.

    Raises:
        UserError: no backend works, `MUJOCO_GL` names one that does not, or the GPU `MUJOCO_EGL_DEVICE_ID` does not exist.
            The message is one line and says what to install or set.
    """
    requested = os.environ.get("MUJOCO_GL", "").lower().strip()
    if not requested:
        for backend in PACKAGES:
            if _draws(backend):
                return backend
        raise UserError(f"no OpenGL backend works here: apt-get install -y {PACKAGES['osmesa']}")
    if requested in _OFF:
        raise UserError(f"MUJOCO_GL={requested} switches rendering off: unset it, or set it to egl or osmesa")
    backend = "glfw" if requested in _DISPLAY else requested
    if backend == "glfw" or backend in PACKAGES:
        if _draws(backend):
            return backend
        fault = f"MUJOCO_GL={requested} does not work here"
    else:
        fault = f"MUJOCO_GL={requested} is not a backend that mujoco knows"
    for other in PACKAGES:
        if other != backend and _draws(other):
            raise UserError(f"{fault}: unset it or set MUJOCO_GL={other}, which works")
    osmesa = PACKAGES["osmesa"]
    if backend == "osmesa":
        raise UserError(f"{fault}: apt-get install -y {osmesa}")
    other_way = f"apt-get install -y {osmesa} and unset MUJOCO_GL"
    if backend == "egl":
        raise UserError(f"{fault}: apt-get install -y {PACKAGES['egl']} (and your GPU's driver), or {other_way}")
    raise UserError(f"{fault}: {other_way}")


def _draws(backend: str) -> bool:
    """Try the backend in another process; return whether it draws a picture that is not black."""
    if _try(_PROBE, backend) == "drawn":
        return True
    device = os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if backend == "egl" and device is not None:
        count = int(_try(_COUNT_DEVICES, backend) or 0)
        if count and device.strip() not in map(str, range(count)):
            valid = "0 is the only one" if count == 1 else f"they go from 0 to {count - 1}"
            raise UserError(f"there is no EGL device MUJOCO_EGL_DEVICE_ID={device}: {valid}")
    return False


def _try(code: str, backend: str) -> str:
    """Return the output of the code in a Python process with this backend; "" if it fails."""
    command = [sys.executable, "-P", "-c", code]
    environment = os.environ | variables(backend)
    try:
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return process.stdout.strip() if process.returncode == 0 else ""


def variables(backend: str) -> dict[str, str]:
    """Return the environment with which a process draws with this backend, whenever it imports mujoco."""
    # mujoco refuses EGL and OSMesa if PYOPENGL_PLATFORM names something else, whoever set it.
    return {"MUJOCO_GL": backend} | ({"PYOPENGL_PLATFORM": backend} if backend in PACKAGES else {})


def use_backend(backend: str | None = None) -> type[Any]:
    """Make mujoco draw with this backend in this process, also in `mujoco.Renderer` and if already imported.

    Args:
        backend: result of `find_backend`, in this process or its parent; None: find it.

    Returns:
        The class of OpenGL contexts, constructed with `(width, height)` in pixels.

    Raises:
        UserError: no backend works (see `find_backend`), or this process has already loaded another OpenGL.
    """
    backend = backend or find_backend()
    os.environ.update(variables(backend))
    try:
        import mujoco
        from mujoco import gl_context

        context: type[Any] = importlib.import_module(f"mujoco.{backend}").GLContext
    except (ImportError, AttributeError) as error:
        # The probe passed, so the obstacle is in this process.
        raise UserError(f"this process has loaded an OpenGL other than {backend}: set MUJOCO_GL={backend}") from error
    # Both names are bound when mujoco is imported; mujoco.Renderer looks up the first when it is constructed.
    gl_context.GLContext = mujoco.GLContext = context
    return context


def import_mujoco() -> Any:
    """Import mujoco even if `MUJOCO_GL` names a missing OpenGL, which only drawing needs."""
    try:
        import mujoco
    except Exception:
        # mujoco.gl_context fails at import, in as many ways as there are libraries to miss.
        requested = os.environ.get("MUJOCO_GL")
        os.environ["MUJOCO_GL"] = "disabled"
        try:
            import mujoco
        finally:
            if requested is None:
                del os.environ["MUJOCO_GL"]
            else:
                os.environ["MUJOCO_GL"] = requested
    return mujoco
