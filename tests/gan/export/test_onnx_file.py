import re

import pytest
import torch

from engine.png import load_png
from gan.export.onnx_file import fold_batch_norm, save_onnx
from gan.generator import generate, load_generator
from gan.latent.vectors import draw
from gan.networks import Generator
from images.tiles import to_uint8
from tests.in_process import ROOT


def test_a_network_without_batch_norm_is_the_same():
    torch.manual_seed(0)
    network = Generator((8, 7, 6, 5), 10, 48)
    with torch.no_grad():
        for name, values in network.state_dict().items():
            if "running_var" in name or name.endswith("weight"):
                values.uniform_(0.1, 1)
            elif values.is_floating_point():
                values.uniform_(-0.5, 0.5)
    network.eval()
    folded = fold_batch_norm(network)
    assert not any(isinstance(layer, torch.nn.BatchNorm2d) for layer in folded.modules())
    z = torch.rand(5, 10) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(folded(z), network(z), rtol=1e-5, atol=1e-5)
    assert any(isinstance(layer, torch.nn.BatchNorm2d) for layer in network.modules())


def test_the_model_runs_without_torch_for_any_number_of_faces(tiny_run, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip("onnxruntime", reason="needs onnxruntime to run the model")
    generator, path = load_generator(tiny_run), tmp_path / "faces.onnx"
    assert save_onnx(generator, path) < 1e-5
    session = onnxruntime.InferenceSession(path)
    for count in (1, 2, 7):
        z = draw(count, generator.latent_size, 5)
        (images,) = session.run(["images"], {"z": z})
        assert images.shape == (count, 3, 32, 32)
        exact = generate(generator.network, torch.from_numpy(z)).astype(int)
        assert abs(to_uint8(torch.from_numpy(images)).numpy().astype(int) - exact).max() <= 1
    # The lines that docs/export.md shows.
    text = (ROOT / "docs/export.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import numpy.*?)```", text, re.S)
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    assert load_png("faces.png").shape == (3, 32, 8 * 32)
    stored = path.read_bytes()
    assert b".py" not in stored  # the exporter's stack traces
    assert str(tmp_path).encode() not in stored


def test_a_model_with_other_images_is_not_written(tiny_run, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="needs onnxruntime to run the model")
    generator = load_generator(tiny_run)

    def faulty(network: Generator) -> torch.nn.Sequential:
        folded = fold_batch_norm(network)
        with torch.no_grad():
            folded[0].bias += 1
        return folded

    monkeypatch.setattr("gan.export.onnx_file.fold_batch_norm", faulty)
    with pytest.raises(RuntimeError, match="differ by"):
        save_onnx(generator, tmp_path / "faces.onnx")
    assert list(tmp_path.iterdir()) == []
