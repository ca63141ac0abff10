"""A trained generator as an ONNX model, which runs without torch and without this project."""

from __future__ import annotations

import copy
import io
import logging
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.errors import missing_extra
from engine.files import atomic_write
from engine.runs import report_write_errors
from gan.generator import LoadedGenerator
from gan.latent.vectors import draw
from gan.networks import Generator

INPUT, OUTPUT = "z", "images"
CHECKED = 16
"""Faces of which the model's images are compared with torch's."""
MAX_ERROR = 1e-4
"""Largest difference in pixel values, which lie in [-1, 1]."""


def save_onnx(generator: LoadedGenerator, path: Path) -> float:
    """Write a generator as an ONNX model, once onnxruntime has reproduced its images.

    The model maps z, float32 [B, latent_size], to images, float32 [B, 3, S, S] in [-1, 1], for any B.

    Args:
        generator: any, on the CPU.
        path: the file to write, or to replace.

    Returns:
        The largest difference between a pixel value of onnxruntime and of torch.

    Raises:
        UserError: onnx, onnxscript or onnxruntime is not installed, or the file cannot be written.
        RuntimeError: the images differ by more than `MAX_ERROR`.
    """
    try:
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise missing_extra("an .onnx file needs", "export", error) from error
    network = fold_batch_norm(generator.network)
    z = torch.from_numpy(draw(CHECKED, generator.latent_size, generator.seed))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with redirect_stdout(io.StringIO()):  # the exporter reports its progress there
        program = torch.onnx.export(
            network,
            (z,),
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            verbose=False,
        )
    for node in program.model.graph.all_nodes():
        node.metadata_props.clear()  # the exporter's stack traces, with paths of this machine
    model = program.model_proto.SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (images,) = session.run([OUTPUT], {INPUT: z.numpy()})
    with torch.no_grad():
        error = float(np.abs(images - generator.network(z).numpy()).max())
    if error > MAX_ERROR:
        raise RuntimeError(f"onnxruntime's images differ by {error:.2g} from torch's")
    with report_write_errors(path), atomic_write(path) as temporary:
        temporary.write_bytes(model)
    return error


def fold_batch_norm(generator: Generator) -> nn.Sequential:
    """The same network in evaluation mode, with batch norm's scale and shift as part of the weights.

    Returns:
        A network from z, float32 [B, latent_size], to images [B, 3, S, S].
    """
    generator = copy.deepcopy(generator).eval()
    norm, *layers = generator.layers
    assert isinstance(norm, nn.BatchNorm2d)
    positions = generator.first_shape[1] * generator.first_shape[2]
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    shift = norm.bias - norm.running_mean * scale
    project = nn.Linear(generator.latent_size, len(generator.project.weight))
    project.weight.data = generator.project.weight * scale.repeat_interleave(positions)[:, None]
    project.bias.data = shift.repeat_interleave(positions)
    folded: list[nn.Module] = [project, nn.Unflatten(1, generator.first_shape)]
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = fuse_conv_bn_eval(folded[-1], layer, transpose=True)
        else:
            folded.append(layer)
    return nn.Sequential(*folded).requires_grad_(requires_grad=False).eval()
