"""A tiny network with the interface of a YuNet, which detects pure red as a face."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

BOX = (48.0, 40.0)
"""Width and height in pixels of each face, around the red square."""

POINTS = ((-10.0, -6.0), (10.0, -4.0), (2.0, 4.0), (-8.0, 12.0), (8.0, 12.0))
"""Keypoints relative to the red square: the person's right eye, left eye, nose, mouth corners."""


def save_tiny_yunet(path: Path) -> None:
    """Save it as an ONNX file; cells of 8 pixels that are entirely red have a face at their centre."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights, outputs = [], [], []
    for stride in (8, 16, 32):
        red = np.zeros((1, 3, stride, stride), np.float32)
        if stride == 8:
            # Red minus blue and green, averaged over the cell: only pure red reaches 1.
            red[:, :2], red[:, 2] = -1 / (255 * 64), 1 / (255 * 64)
        box = [0.5, 0.5, math.log(BOX[0] / stride), math.log(BOX[1] / stride)]
        points = [(offset / stride) + 0.5 for point in POINTS for offset in point]
        heads = {
            "cls": (red, [0.0]),
            "obj": (red, [0.0]),
            "bbox": (np.zeros((4, 3, stride, stride), np.float32), box),
            "kps": (np.zeros((10, 3, stride, stride), np.float32), points),
        }
        for head, (weight, bias) in heads.items():
            name = f"{head}_{stride}"
            weights += [
                numpy_helper.from_array(weight, f"{name}_weight"),
                numpy_helper.from_array(np.array(bias, np.float32), f"{name}_bias"),
                numpy_helper.from_array(np.array([1, -1, len(bias)]), f"{name}_shape"),
            ]
            nodes += [
                helper.make_node(
                    "Conv",
                    ["input", f"{name}_weight", f"{name}_bias"],
                    [f"{name}_cells"],
                    kernel_shape=[stride, stride],
                    strides=[stride, stride],
                ),
                helper.make_node("Transpose", [f"{name}_cells"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]),
            ]
            shape = [1, (640 // stride) ** 2, len(bias)]
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 3, 640, 640])
    graph = helper.make_graph(nodes, "tiny", [source], outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def save_other_network(path: Path) -> None:
    """Save an ONNX network that is not a face detector."""
    from onnx import TensorProto, helper

    node = helper.make_node("Relu", ["input"], ["output"])
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 32, 32]) for name in ("input", "output")
    ]
    graph = helper.make_graph([node], "other", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())
