"""Backends and cameras; pictures are upright and independent of each other."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from builders.scenes import need_backend, play, scene_of, upstream_env

from metarl.envs.rendering import opengl
from metarl.envs.rendering import painter as drawing
from metarl.envs.rendering.opengl import find_backend, use_backend
from metarl.envs.rendering.painter import CAMERAS, Painter
from metarl.envs.rendering.scene import Scene, assets, load_model
from metarl.errors import UserError


@pytest.fixture(scope="module")
def reach() -> Scene:
    need_backend()
    env = upstream_env("reach-v3")
    play(env, 12)
    return scene_of(env)


@pytest.fixture(scope="module")
def drawer() -> Scene:
    need_backend()
    return scene_of(upstream_env("drawer-open-v3"))


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Forget the backend found earlier, and the environment variables that choose one."""
    find_backend.cache_clear()
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", "MUJOCO_EGL_DEVICE_ID", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    yield monkeypatch
    find_backend.cache_clear()


def with_goal(scene: Scene, goal: np.ndarray) -> Scene:
    return Scene(scene.model_file, scene.state, scene.body_pos, scene.site_pos, goal)


def viewpoint(scene: Scene, camera: str) -> tuple[Any, Any, np.ndarray, np.ndarray]:
    """Model and data, and MuJoCo's position and direction (unit vector) of the camera."""
    model = load_model(scene.model_file)
    data = mujoco.MjData(model)
    mujoco.mj_setState(model, data, scene.state, mujoco.mjtState.mjSTATE_INTEGRATION)
    mujoco.mj_forward(model, data)
    geoms = mujoco.MjvScene(model, maxgeom=2000)
    view, all_ = drawing._camera(model, camera), mujoco.mjtCatBit.mjCAT_ALL
    mujoco.mjv_updateScene(model, data, mujoco.MjvOption(), None, view, all_, geoms)
    eyes = geoms.camera
    return model, data, (eyes[0].pos + eyes[1].pos) / 2, np.array(eyes[0].forward, float)


@pytest.fixture(scope="module")
def small(reach: Scene) -> Iterator[Painter]:
    with Painter(96, 72) as painter:
        yield painter


@pytest.mark.parametrize("camera", CAMERAS)
def test_pictures_are_upright_and_not_mirrored(reach: Scene, small: Painter, camera: str) -> None:
    _, _, eye, forward = viewpoint(reach, camera)
    # "Up" in the picture is the sky, or, if the camera looks straight down, the direction away from the robot.
    up = np.array([0.0, 1.0, 0.0]) if forward[2] < -0.9 else np.array([0.0, 0.0, 1.0])
    right = np.cross(forward, up)
    small.camera = camera
    nowhere = small.draw(with_goal(reach, np.array([0.0, 0.0, -9.0]))).astype(int)

    def sphere_position(goal: np.ndarray) -> np.ndarray:
        """Row and column of the goal's sphere: the mean of the pixels that it changes."""
        changed = np.abs(small.draw(with_goal(reach, goal)) - nowhere).max(axis=2) > 20
        assert changed.sum() > 10
        return np.argwhere(changed).mean(axis=0)

    # Near the camera, where nothing hides the sphere (the table is close below the gripper).
    middle = eye + (0.2 if camera == "gripperPOV" else 0.35) * forward
    row, column = sphere_position(middle)
    assert sphere_position(middle + 0.08 * up)[0] < row - 4
    assert sphere_position(middle - 0.08 * up)[0] > row + 4
    assert sphere_position(middle + 0.08 * right)[1] > column + 4
    assert nowhere.std() > 15  # a picture, not one colour


def test_every_model_has_every_camera() -> None:
    shared = {path: path.read_text() for path in (assets()).rglob("*.xml")}
    for camera in set(CAMERAS) - {"side"}:
        homes = [path.name for path, text in shared.items() if f'name="{camera}"' in text and "<camera" in text]
        assert homes, camera
        for path, text in shared.items():
            if path.parent.name == "sawyer_xyz":
                assert any(home in text for home in homes), (camera, path.name)


def test_the_side_camera_looks_down_on_the_table(reach: Scene) -> None:
    _, _, eye, forward = viewpoint(reach, "side")
    middle = np.array([0.0, 0.55, 0.2])
    np.testing.assert_allclose(eye + 1.4 * forward, middle, atol=0.02)  # 1.4 m away
    assert np.degrees(np.arcsin(forward[2])) == pytest.approx(-25, abs=0.5)
    assert eye[0] > 0.5  # from the right of the robot, which stands behind the table


def test_pictures_do_not_depend_on_earlier_pictures(reach: Scene, drawer: Scene) -> None:
    with Painter(160, 120) as painter:
        first, other, again = painter.draw(reach), painter.draw(drawer), painter.draw(reach)
        assert first.dtype == np.uint8
        assert first.shape == (120, 160, 3)
        assert np.array_equal(first, again)
        assert np.abs(first.astype(int) - other).mean() > 3
        assert np.array_equal(painter.draw(drawer), other)
        # A second painter, opened and closed in between, changes nothing.
        with Painter(64, 64) as second:
            second.draw(drawer)
        assert np.array_equal(painter.draw(drawer), other)
        assert np.array_equal(painter.draw(reach), first)


def test_the_goal_is_green(reach: Scene, small: Painter) -> None:
    small.camera = "side"

    def greens(scene: Scene) -> int:
        red, green, blue = np.moveaxis(small.draw(scene).astype(int), 2, 0)
        return int(((green > red + 40) & (green > blue + 40)).sum())

    assert greens(reach) > 15
    assert greens(with_goal(reach, np.array([0.0, 0.0, -9.0]))) == 0


def test_depth_is_in_metres(reach: Scene) -> None:
    model, data, eye, forward = viewpoint(reach, "topview")
    hit = np.zeros(1, np.int32)
    visible = np.array([1, 1, 1, 0, 0, 0], np.uint8)
    expected = mujoco.mj_ray(model, data, eye, forward, visible, 1, -1, hit)
    with Painter(65, 65, "topview", depth=True) as painter:
        depth = painter.draw(reach)
    assert depth.dtype == np.float32
    assert depth.shape == (65, 65)
    assert depth[32, 32] == pytest.approx(expected, abs=0.01)


def test_wrong_arguments(reach: Scene) -> None:
    with pytest.raises(UserError, match=r"unknown camera 'corner5'. There are: side, .*corner4"):
        Painter(camera="corner5")
    with pytest.raises(UserError, match=r"unknown camera 'xyz'. There are: side, topview"):
        Painter(camera="xyz")
    with pytest.raises(UserError, match="pixels"):
        Painter(width=100_000)
    painter = Painter(32, 32)
    painter.close()
    painter.close()
    with pytest.raises(ValueError, match="closed"):
        painter.draw(reach)


def test_the_renderer_of_mujoco_draws(reach: Scene) -> None:
    use_backend()
    model = load_model(reach.model_file)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, 48, 64) as renderer:
        renderer.update_scene(data)
        assert renderer.render().max() > 50


def backend_error() -> str:
    with pytest.raises(UserError) as caught:
        find_backend()
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_no_backend_says_what_to_install(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(opengl, "_draws", lambda backend: False)
    assert "apt-get install -y libosmesa6" in backend_error()
    environment.setenv("MUJOCO_GL", "egl")
    assert "apt-get install -y libegl1" in backend_error()
    environment.setenv("MUJOCO_GL", "glfw")
    assert "apt-get install -y libosmesa6" in backend_error()


def test_a_backend_that_fails_names_one_that_works(environment: pytest.MonkeyPatch) -> None:
    environment.setattr(opengl, "_draws", lambda backend: backend == "osmesa")
    assert find_backend() == "osmesa"
    find_backend.cache_clear()
    environment.setenv("MUJOCO_GL", "egl")
    assert "MUJOCO_GL=osmesa, which works" in backend_error()


def test_a_missing_display(environment: pytest.MonkeyPatch) -> None:
    need_backend()
    works = find_backend()
    find_backend.cache_clear()
    environment.setenv("MUJOCO_GL", "glfw")
    assert f"MUJOCO_GL={works}, which works" in backend_error()


@pytest.mark.parametrize(("value", "part"), [("bogus", "not a backend"), ("off", "unset it")])
def test_other_values_of_mujoco_gl(environment: pytest.MonkeyPatch, value: str, part: str) -> None:
    environment.setenv("MUJOCO_GL", value)
    assert part in backend_error()


@pytest.mark.parametrize("device", ["99", "first"])
def test_a_missing_egl_device(environment: pytest.MonkeyPatch, device: str) -> None:
    if not opengl._draws("egl"):
        pytest.skip("EGL does not work here")
    environment.setenv("MUJOCO_GL", "egl")
    environment.setenv("MUJOCO_EGL_DEVICE_ID", device)
    message = backend_error()
    assert f"MUJOCO_EGL_DEVICE_ID={device}" in message
    assert "0" in message.replace(device, "")


def test_mujoco_imports_with_any_mujoco_gl() -> None:
    # Load the module alone, because metarl.envs imports mujoco.
    spec = importlib.util.find_spec("metarl.envs.rendering.opengl")
    assert spec is not None
    path = Path(str(spec.origin))
    code = (
        "import importlib.util, os, sys\n"
        f"spec = importlib.util.spec_from_file_location('drawing', {str(path)!r})\n"
        "drawing = importlib.util.module_from_spec(spec)\n"
        "sys.modules['drawing'] = drawing\n"
        "spec.loader.exec_module(drawing)\n"
        "mujoco = drawing.import_mujoco()\n"
        "mujoco.MjData(mujoco.MjModel.from_xml_string('<mujoco/>'))\n"
        "print(os.environ['MUJOCO_GL'])"
    )
    environment = os.environ | {"MUJOCO_GL": "bogus"}
    process = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert process.stdout.strip() == "bogus", process.stderr
