"""Draw pictures of scenes offscreen; `Painter` is used for rendering environments and videos.

This module imports mujoco inside functions, because mujoco chooses its OpenGL at import and fails if that OpenGL is
missing.
"""

from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from metarl.errors import UserError

if TYPE_CHECKING:
    from metarl.envs.rendering.scene import Scene
from metarl.envs.rendering.opengl import use_backend

DEFAULT_CAMERA = "side"
CAMERAS = (DEFAULT_CAMERA, "topview", "corner", "corner2", "corner3", "corner4", "behindGripper", "gripperPOV")
"""Available cameras. "side" is metarl's own: robot, hand and objects large, seen from the robot's right. The others exist in
all models of Meta-World."""

GOAL_RADIUS = 0.05
"""Radius of the sphere drawn at the goal, metres; reach counts as solved within it."""
GOAL_COLOUR = (0.1, 0.95, 0.25, 0.45)

MAX_PIXELS = 4096
_MAX_GEOMS = 2000  # the largest model has about 120, and the goal is one more


def check_view(width: int, height: int, camera: str) -> None:
    """Raise `UserError` if a painter cannot be made with these arguments."""
    if camera not in CAMERAS:
        raise UserError(f"unknown camera {camera!r}. There are: {', '.join(CAMERAS)}")
    if not (16 <= width <= MAX_PIXELS and 16 <= height <= MAX_PIXELS):
        raise UserError(f"pictures must be 16 to {MAX_PIXELS} pixels wide and high, not {width} x {height}")


class _Stage(NamedTuple):
    """MuJoCo objects for drawing one model; the drawing context lives in the painter's OpenGL context."""

    model_file: str
    model: Any
    data: Any
    context: Any
    geoms: Any


class Painter:
    """Draws scenes of any models. Use it in one thread, and close it or use it as a context manager.

    Pictures do not depend on what was drawn before: there is one OpenGL context, made current before each use, and in it one
    drawing context, for the current model, freed while the OpenGL context is current. (MuJoCo's own Renderer frees its
    textures and meshes in whichever context is current, and so corrupts other renderers.)
    """

    def __init__(
        self,
        width: int = 320,
        height: int = 240,
        camera: str = DEFAULT_CAMERA,
        depth: bool = False,
        backend: str | None = None,
    ) -> None:
        """Open an OpenGL context.

        Args:
            width: width of the pictures, pixels.
            height: height of the pictures, pixels.
            camera: one of `CAMERAS`.
            depth: draw distances instead of colours.
            backend: see `use_backend`.

        Raises:
            UserError: unknown camera, size out of range, or no working backend.
        """
        check_view(width, height, camera)
        self.width, self.height, self.camera, self.depth = width, height, camera, depth
        self._models: dict[str, tuple[Any, Any]] = {}
        self._stage: _Stage | None = None
        self._gl: Any = None
        self._gl = use_backend(backend)(width, height)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the OpenGL context; repeated calls are allowed."""
        if self._gl is not None:
            self._gl.make_current()
            self._leave_stage()
            self._gl.free()
            self._gl = None

    def draw(self, scene: "Scene") -> np.ndarray:
        """Draw the scene, upright, with a green translucent sphere at the goal.

        Returns:
            A new array: uint8 (height, width, 3), or with `depth` float32 (height, width): metres along the camera's axis,
            without the sphere.

        Raises:
            ValueError: the painter is closed.
        """
        if self._gl is None:
            raise ValueError("this painter is closed")
        import mujoco

        self._gl.make_current()
        stage = self._enter_stage(scene.model_file)
        model, data, geoms = stage.model, stage.data, stage.geoms
        model.body_pos[:], model.site_pos[:] = scene.body_pos, scene.site_pos
        mujoco.mj_setState(model, data, scene.state, mujoco.mjtState.mjSTATE_INTEGRATION)
        mujoco.mj_forward(model, data)
        camera = _camera(model, self.camera)
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, camera, everything, geoms)
        if not self.depth:
            _add_sphere(geoms, scene.goal)
        view = mujoco.MjrRect(0, 0, self.width, self.height)
        mujoco.mjr_render(view, geoms, stage.context)
        if self.depth:
            picture = np.empty((self.height, self.width), np.float32)
            mujoco.mjr_readPixels(None, picture, view, stage.context)
            picture = _metres(picture, geoms.camera[0])
        else:
            picture = np.empty((self.height, self.width, 3), np.uint8)
            mujoco.mjr_readPixels(picture, None, view, stage.context)
        # OpenGL returns the lowest row first. An upside-down camera (its y axis points down: Meta-World's corner cameras)
        # needs half a turn, both axes flipped, so only the columns remain to be flipped.
        upside_down = camera.fixedcamid >= 0 and data.cam_xmat[camera.fixedcamid].reshape(3, 3)[2, 1] < -1e-6
        return np.ascontiguousarray(picture[:, ::-1] if upside_down else picture[::-1])

    def _enter_stage(self, model_file: str) -> _Stage:
        """Make the model current (about 0.4 s for another model, 0.15 s more on first use)."""
        if self._stage is not None and self._stage.model_file == model_file:
            return self._stage
        import mujoco

        from metarl.envs.rendering.scene import load_model

        self._leave_stage()
        if model_file not in self._models:
            model = load_model(model_file)
            model.vis.global_.offwidth, model.vis.global_.offheight = self.width, self.height
            # A quarter of the pixels of the model's shadow map: a third faster on a CPU, and it looks the same.
            model.vis.quality.shadowsize = 2048
            self._models[model_file] = model, mujoco.MjData(model)
        model, data = self._models[model_file]
        context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._stage = _Stage(model_file, model, data, context, mujoco.MjvScene(model, maxgeom=_MAX_GEOMS))
        return self._stage

    def _leave_stage(self) -> None:
        if self._stage is not None:
            self._stage.context.free()
            self._stage = None


def _camera(model: Any, name: str) -> Any:
    """Return the camera of this name: the model's, or metarl's own "side" (lengths in metres, angles in degrees)."""
    import mujoco

    camera = mujoco.MjvCamera()
    if name == "side":
        camera.type = mujoco.mjtCamera.mjCAMERA_FREE
        camera.lookat[:] = 0.0, 0.55, 0.2
        camera.distance, camera.azimuth, camera.elevation = 1.4, 147.0, -25.0
    else:
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = model.camera(name).id
    return camera


def _add_sphere(geoms: Any, centre: np.ndarray) -> None:
    """Add the goal's sphere, with some emission so that it is visible in shadow."""
    import mujoco

    size, turn, colour = np.array([GOAL_RADIUS, 0.0, 0.0]), np.eye(3).ravel(), np.array(GOAL_COLOUR)
    geom = geoms.geoms[geoms.ngeom]
    mujoco.mjv_initGeom(geom, mujoco.mjtGeom.mjGEOM_SPHERE, size, np.asarray(centre, float), turn, colour)
    geom.emission = 0.5
    geoms.ngeom += 1


def _metres(depth: np.ndarray, camera: Any) -> np.ndarray:
    """Convert the depth buffer, in which the far plane is 0 and the near plane 1, to distances."""
    # z = n f / (n + d (f - n))
    near, far = camera.frustum_near, camera.frustum_far
    return (near * far / (near + depth.astype(np.float64) * (far - near))).astype(np.float32)
