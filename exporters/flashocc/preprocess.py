"""From a camera frame to the inputs of a FlashOcc model file, from its self-description alone.

Images are resized by ``network width / camera width`` with Pillow's antialiased bicubic filter
(a = -0.5, support widened by 1/scale, 8-bit rounding between the passes) and cropped to the lowest
rows: the reference that official weights were trained with. Other bicubic filters cost accuracy.

``ModelSpec.geometry`` of a FlashOcc model file, written by :func:`describe_geometry`:

| key          | value                                                                          |
|--------------|--------------------------------------------------------------------------------|
| ``view``     | image size, stride and depth bins                                              |
| ``grid``     | BEV and occupancy ranges                                                       |
| ``rig``      | the rig that is baked in, as in ``rig.json``; absent for ``--rig input``       |
| ``capacity`` | sizes of the rig tables that are inputs; absent where a rig is baked in        |
| ``pooling``  | which form the pooling took and why, where a rig is baked in                   |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from exporters.errors import MissingRequirementError, UserError
from exporters.flashocc.config import PLANE_MEAN, PLANE_STD
from exporters.flashocc.geometry import Grid, View, cell_indices, cells_moved, image_augmentation
from exporters.flashocc.pooling import Capacity, column_tables
from exporters.flashocc.rig import CameraFrame, Rig
from exporters.modelfile import InputSpec, ModelSpec
from exporters.spans import COPIES, RESIZE, TABLES, span

if TYPE_CHECKING:
    from types import ModuleType

Array = NDArray[Any]


def prepare(frame: CameraFrame, spec: ModelSpec) -> dict[str, Array]:
    """The model's inputs for one frame: images, and the rig tables where the model takes them.

    A model that resizes itself (``--input camera``) gets the pictures as they are. A model with a
    baked rig gets images alone, also where the frame's rig differs from it;
    :func:`rig_mismatch` says by how much.

    Raises:
        UserError: a camera is missing, an image has another size than its camera, or the rig needs
            more room than the model's tables have.
    """
    images = _images_input(spec)
    cameras = tuple(images.details["cameras"])
    rig = frame.rig.ordered(cameras)
    pictures = [_image(frame, name) for name in cameras]
    if "camera_size" in images.details:
        seen = [_of_size(picture, images, frame.name) for picture in pictures]
    else:
        view = View.from_json(spec.geometry["view"])
        seen = [resize_and_crop(picture, view) for picture in pictures]
    with span(COPIES):
        stack = np.stack(seen)
    inputs: dict[str, Array] = {
        images.name: normalise(stack) if images.dtype == "float32" else stack
    }
    if "capacity" in spec.geometry:
        inputs |= rig_tables(rig, spec)
    return inputs


def rig_tables(rig: Rig, spec: ModelSpec) -> dict[str, Array]:
    """The rig tables that a ``--rig input`` model takes, for this rig at this moment.

    Raises:
        UserError: the rig needs more room than the model's tables have; names the camera.
    """
    capacity = Capacity.from_json(spec.geometry["capacity"])
    view, grid = _view_and_grid(spec)
    with span(TABLES):
        return column_tables(cell_indices(rig, view, grid), grid, capacity, rig.names).named()


def rig_mismatch(rig: Rig, spec: ModelSpec) -> float:
    """Share of the frustum points that fall into another cell than in the model's baked rig.

    0 for a model whose rig is an input. A car of the same calibration gives 0.01 at walking speed
    and 0.44 at 33 km/h, since it moves by a cell between the first and the last shutter; another
    vehicle's calibration gives 0.7 and more.
    """
    if "rig" not in spec.geometry:
        return 0.0
    baked = Rig.from_json(spec.geometry["rig"], source="the model's rig")
    view, grid = _view_and_grid(spec)
    ours = cell_indices(rig.ordered(baked.names), view, grid)
    return cells_moved(ours, cell_indices(baked, view, grid))


def describe_geometry(
    view: View,
    grid: Grid,
    *,
    rig: Rig | None = None,
    capacity: Capacity | None = None,
    pooling: str = "",
) -> dict[str, Any]:
    """``ModelSpec.geometry`` of a model with a baked ``rig`` or with tables of ``capacity``."""
    geometry: dict[str, Any] = {"view": view.to_json(), "grid": grid.to_json()}
    if rig is not None:
        geometry["rig"] = rig.to_json()
    if capacity is not None:
        geometry["capacity"] = capacity.to_json()
    if pooling:
        geometry["pooling"] = pooling
    return geometry


def resize_and_crop(image: NDArray[np.uint8], view: View) -> NDArray[np.uint8]:
    """uint8 RGB ``[height, width, 3]`` of any size to ``[*view.image_size, 3]``."""
    pillow = _pillow()
    height, width = view.image_size
    camera_height, camera_width = image.shape[:2]
    _, left, top = image_augmentation(camera_width, camera_height, view)
    with span(RESIZE):
        resized = pillow.fromarray(image).resize(
            (width, top + height), resample=pillow.Resampling.BICUBIC
        )
        return np.asarray(resized.crop((left, top, left + width, top + height)))


def camera_size(rig: Rig) -> tuple[int, int]:
    """Height and width of the pictures of all cameras.

    Raises:
        UserError: they have different sizes, and cannot lie in one array.
    """
    sizes = {camera.name: (camera.height, camera.width) for camera in rig.cameras}
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{name} {h}x{w}" for name, (h, w) in sizes.items())
        raise UserError(
            f"--input camera takes pictures of one size, the rig has {listed}",
            fix="Resize before the network: --input uint8",
        )
    return next(iter(sizes.values()))


def normalise(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """uint8 RGB ``[N, H, W, 3]`` to float32 planes B, G, R ``[N, 3, H, W]``, as weights expect."""
    with span(RESIZE):
        planes = images[..., ::-1].astype(np.float32)
        mean, std = np.array(PLANE_MEAN, np.float32), np.array(PLANE_STD, np.float32)
        return np.ascontiguousarray(((planes - mean) / std).transpose(0, 3, 1, 2))


def _images_input(spec: ModelSpec) -> InputSpec:
    for item in spec.inputs:
        if item.semantics == "camera-images":
            return item
    raise UserError(f"{spec.variant} has no input of camera images")


def _view_and_grid(spec: ModelSpec) -> tuple[View, Grid]:
    return View.from_json(spec.geometry["view"]), Grid.from_json(spec.geometry["grid"])


def _image(frame: CameraFrame, name: str) -> NDArray[np.uint8]:
    if name not in frame.images:
        raise UserError(
            f"{frame.name} has no image of camera {name}",
            fix=f"It has {sorted(frame.images)}; the model needs all of its cameras",
        )
    image = frame.images[name]
    camera = next(camera for camera in frame.rig.cameras if camera.name == name)
    if image.shape != (camera.height, camera.width, 3) or image.dtype != np.uint8:
        raise UserError(
            f"{frame.name}: the image of camera {name} is {image.dtype} {list(image.shape)}, "
            f"its rig says uint8 [{camera.height}, {camera.width}, 3]",
            fix="Intrinsics belong to the original image: give that image, or correct the rig",
        )
    return image


def _of_size(picture: NDArray[np.uint8], images: InputSpec, name: str) -> NDArray[np.uint8]:
    height, width = images.details["camera_size"]
    if picture.shape[:2] != (height, width):
        found = "x".join(str(side) for side in picture.shape[:2])
        raise UserError(
            f"{name} has pictures of {found}, the model takes {height}x{width} and resizes itself",
            fix="Export for these cameras (--rig FILE --input camera), or with --input uint8",
        )
    return picture


def _pillow() -> ModuleType:
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingRequirementError(
            "Pillow is not installed; camera images cannot be resized without it",
            fix="pip install 'edgeport[export]'",
        ) from error
    return Image
