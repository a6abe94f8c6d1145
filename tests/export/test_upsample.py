"""Resize by whole factors repeats each element, whatever way says so; all else is refused by name."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_files import ForeignFile, weights
from onnx import helper
from run_qonnx import run_qonnx

from bitproof.export.importer import normalize
from bitproof.export.integer import run
from bitproof.export.lower import lower_file
from bitproof.export.lowering import origins_of
from bitproof.export.lowering.upsample import REPEATING
from bitproof.export.qonnx_float64 import QonnxFloat64Executor
from bitproof.pipeline import Codes, InputError

CODES = np.random.default_rng(1).integers(0, 16, size=(20, 24))
RESIZE_MODES = ("asymmetric", "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners")
ROUNDINGS = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")


FLOOR = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


def network(op: str, *inputs: object, attributes: dict[str, str], opset: int = 19) -> onnx.ModelProto:
    """Return codes of 2 x 3 x 4, resized by *op*, and a convolution of them."""
    file = ForeignFile(opset=opset)
    given = ["" if value is None else file.constant(*value) for value in inputs]  # type: ignore[misc]
    codes = file.quant("input", 1.0, 4, signed=0)
    wide = f"t{len(file.nodes)}"
    file.nodes.append(helper.make_node(op, [codes, *given], [wide], **attributes))
    kernel = file.quant(file.constant(weights((2, 2, 2, 2), 1)), 0.25, 4, narrow=1)
    return file.model(file.add("Conv", wide, kernel), ["N", 2, 3, 4], None)


def lowered(model: onnx.ModelProto, folder: Path) -> Codes:
    folder.mkdir(exist_ok=True)
    onnx.save_model(normalize(model), folder / "model.onnx")
    found = lower_file(folder / "model.onnx").model
    assert found.output_scale == 0.25
    return run(found, CODES)


def in_binary64(folder: Path) -> Codes:
    """Return what the file in *folder* gives in the evaluation that shares nothing with the lowering."""
    result = lower_file(folder / "model.onnx")
    return QonnxFloat64Executor(onnx.load(folder / "model.onnx"), result.model, origins_of(result))(CODES)


def gold(model: onnx.ModelProto) -> Codes:
    values = run_qonnx(model, CODES.astype(np.float32).reshape(-1, 2, 3, 4))
    return (values.reshape(len(CODES), -1) * 4).astype(np.int64)


@pytest.mark.parametrize(("way", "rounding"), list(product(RESIZE_MODES, ROUNDINGS)))
def test_every_way_that_is_taken_gives_what_onnxruntime_gives(tmp_path: Path, way: str, rounding: str) -> None:
    for factors in ((2.0, 3.0), (5.0, 1.0), (4.0, 7.0)):
        ways = {"mode": "nearest", "coordinate_transformation_mode": way, "nearest_mode": rounding}
        model = network("Resize", None, ([1.0, 1.0, *factors],), attributes=ways)
        if (way, rounding) in REPEATING:
            np.testing.assert_array_equal(lowered(model, tmp_path), gold(model), strict=True)
            np.testing.assert_array_equal(in_binary64(tmp_path), gold(model), strict=True)
        else:
            with pytest.raises(InputError, match=f"mode = 'nearest', '{way}', '{rounding}'; supported: the nearest"):
                lowered(model, tmp_path)


@pytest.mark.parametrize("opset", [9, 10, 13])
def test_old_opsets_and_sizes_mean_the_same(tmp_path: Path, opset: int) -> None:
    if opset < 11:
        model = network(
            "Upsample" if opset < 10 else "Resize", ([1.0, 1.0, 2.0, 3.0],), opset=opset, attributes={"mode": "nearest"}
        )
    else:
        model = network(
            "Resize", None, None, ([1, 2, 6, 12], np.int64), opset=opset, attributes={"mode": "nearest", **FLOOR}
        )
    same = network("Resize", None, ([1.0, 1.0, 2.0, 3.0],), attributes={"mode": "nearest", **FLOOR})
    np.testing.assert_array_equal(lowered(model, tmp_path / "a"), gold(same), strict=True)
    other = network("Resize", None, ([1.0, 1.0, 3.0, 2.0],), attributes={"mode": "nearest", **FLOOR})
    assert gold(other).shape != gold(same).shape or (gold(other) != gold(same)).any()


@pytest.mark.parametrize(
    ("factors", "mode", "said"),
    [
        (
            [1.0, 1.0, 1.5, 2.0],
            "nearest",
            r"factors \[1.0, 1.5, 2.0\] for \(N, 2, 3, 4\); supported: whole ones from 1 to 64",
        ),
        ([1.0, 2.0, 1.0, 2.0], "nearest", r"factors \[2.0, 1.0, 2.0\] for"),
        ([1.0, 1.0, 2.0, 2.0], "linear", "mode = 'linear', 'asymmetric', 'floor'; supported: the nearest element"),
    ],
)
def test_other_factors_and_modes_are_refused(tmp_path: Path, factors: list[float], mode: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        lowered(network("Resize", None, (factors,), attributes={"mode": mode, **FLOOR}), tmp_path)
