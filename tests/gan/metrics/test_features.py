"""Feature spaces: their inputs and features, and the errors for missing or damaged weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import UserError
from gan.metrics.distribution import frechet_distance
from gan.metrics.features import (
    INCEPTION_FILE,
    FeatureSpace,
    callable_space,
    extract,
    inception_space,
    random_space,
)

RANDOM_DIGEST = "c50f6d3e"
"""Scores in the random space compare only while this stays the same."""


def pictures(count: int, side: int = 96, seed: int = 0, grain: float = 0) -> np.ndarray:
    """Coloured shapes on grounds of different shades, with a grain."""
    random = np.random.default_rng(seed)
    place = (np.arange(side) + 0.5) / side
    across, down, size = random.uniform(0.2, 0.8, (3, count, 1, 1, 1))
    colours, grounds = random.uniform(30, 225, (2, count, 3, 1, 1))
    distance = ((place - across) ** 2 + (place[:, None] - down) ** 2) / size**2
    shapes = grounds + (colours - grounds) * (1 - np.tanh(15 * (distance - 0.1))) / 2
    return (shapes + random.normal(0, grain, shapes.shape)).round().clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def space() -> FeatureSpace:
    return random_space()


def test_random_space_has_a_name_and_a_digest(space: FeatureSpace):
    assert (space.name, space.digest) == ("random", RANDOM_DIGEST)
    features = space(torch.from_numpy(pictures(3)))
    assert (features.shape, features.dtype) == ((3, space.length), torch.float32)
    assert space.length <= 512


def test_random_features_never_change(space: FeatureSpace):
    (features,) = space(torch.from_numpy(pictures(1)))
    expected = torch.tensor([-3.7603, -0.1186, -1.5631, 1.5106])
    torch.testing.assert_close(features[:4], expected, rtol=0, atol=1e-3)
    torch.testing.assert_close(features.norm(), torch.tensor(17.5878), rtol=1e-4, atol=0)


def test_features_do_not_depend_on_other_images(space: FeatureSpace):
    images = pictures(7)
    whole = extract(space, images, batch_size=7)
    for other in (extract(space, images, batch_size=2), extract(space, images[::-1].copy()).flip(0)):
        torch.testing.assert_close(other, whole, rtol=1e-4, atol=1e-4)


def test_features_hardly_depend_on_image_size(space: FeatureSpace):
    large, small = (extract(space, pictures(20, side)) for side in (192, 96))
    assert (large - small).norm() < 0.1 * (small - small.mean(0)).norm()


def test_random_features_detect_changes_of_images(space: FeatureSpace):
    images, others = pictures(200, 48, grain=8), pictures(200, 48, seed=1, grain=8)
    noise = np.random.default_rng(2).normal(0, 8, images.shape)
    done = {
        "blur": sum(np.roll(others.astype(float), step, 3) for step in (-1, 0, 1)) / 3,
        "noise": others + noise,
        "colour": others * np.array([1.15, 1, 0.85])[:, None, None],
        "few": others[:10].repeat(20, axis=0),
    }
    real = extract(space, images)
    floor = frechet_distance(real, extract(space, others))
    for name, changed in done.items():
        fake = extract(space, changed.round().clip(0, 255).astype(np.uint8))
        assert frechet_distance(real, fake) > 1.4 * floor, name


def test_random_weights_are_one_small_file_without_code():
    path = Path(sys.modules["gan.metrics.features"].__file__).with_name("random_features.npz")
    assert path.stat().st_size < 1_000_000
    with np.load(path, allow_pickle=False) as arrays:
        assert all(array.dtype == np.float16 or array.dtype == np.float32 for array in arrays.values())


def test_any_network_makes_a_space():
    space = callable_space("means", "abc", lambda images: images.double().mean((2, 3)))
    assert (space.name, space.digest, space.length) == ("means", "abc", 3)
    images = pictures(5, 32)
    features = extract(space, images, batch_size=2)
    assert features.dtype == torch.float32
    np.testing.assert_allclose(features, images.mean((2, 3)), rtol=1e-6)


def test_wrong_images_or_features_are_rejected():
    space = callable_space("means", "abc", lambda images: images.float().mean((2, 3)))
    with pytest.raises(ValueError, match="expected uint8"):
        space(torch.zeros(1, 3, 8, 8))
    with pytest.raises(ValueError, match="expected uint8"):
        space(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))
    shifty = callable_space("sides", "abc", lambda images: images[:, 0, 0].float())
    with pytest.raises(ValueError, match="expected features"):
        shifty(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))


def test_non_finite_features_are_a_user_error():
    broken = callable_space("broken", "abc", lambda images: images.float().mean((2, 3)) * float("inf"))
    with pytest.raises(UserError, match=r"broken \(digest abc\) are not all finite"):
        broken(torch.ones(1, 3, 8, 8, dtype=torch.uint8))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of random weights for the Inception network, made without the released ones."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    class Unloaded(module.FeatureExtractorInceptionV3):
        def load_state_dict(self, *_: object) -> None: ...

    path = tmp_path_factory.mktemp("weights") / INCEPTION_FILE
    torch.save({}, path)
    torch.manual_seed(0)
    torch.save(Unloaded("any", ["2048"], str(path)).state_dict(), path)
    return path


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch hub, and no way to fetch anything into it."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("a download was tried"))
    return tmp_path / "checkpoints"


def test_inception_features_from_a_file_or_from_the_cache(weights: Path, hub: Path):
    given = inception_space(weights)
    assert (given.name, given.length) == ("inception", 2048)
    hub.mkdir()
    (hub / INCEPTION_FILE).symlink_to(weights)
    cached = inception_space()
    assert given.digest == cached.digest
    images = torch.from_numpy(pictures(1, 320))
    features = given(images)
    assert (features.shape, features.dtype) == ((1, 2048), torch.float32)
    assert torch.equal(cached(images), features)
    assert features.std() > 0


def test_missing_weights_are_a_user_error_with_path_and_address(hub: Path, tmp_path: Path):
    pytest.importorskip("torch_fidelity")
    with pytest.raises(UserError, match="https://") as refused:
        inception_space()
    assert str(hub / INCEPTION_FILE) in str(refused.value)
    with pytest.raises(UserError, match=r"mine\.pth"):
        inception_space(tmp_path / "mine.pth")


def test_damaged_or_other_weights_are_a_user_error(weights: Path, hub: Path, tmp_path: Path):
    path = tmp_path / "damaged.pth"
    for content in (b"", b"no weights", b"\x80\x02J\x01", weights.read_bytes()[:100_000]):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"damaged\.pth is damaged") as refused:
            inception_space(path)
        assert "\n" not in str(refused.value)
    for other in ({}, {"weight": torch.zeros(3)}, [1, 2]):
        torch.save(other, path)
        with pytest.raises(UserError, match="contains no Inception weights"):
            inception_space(path)


class Harm:
    """Code in a file's clothes."""

    def __reduce__(self) -> tuple[object, ...]:
        return exec, ("raise SystemExit('ran')",)


def test_weights_cannot_run_code(hub: Path, tmp_path: Path):
    pytest.importorskip("torch_fidelity")
    torch.save({"weight": Harm()}, tmp_path / "harm.pth")
    with pytest.raises(UserError, match=r"harm\.pth"):
        inception_space(tmp_path / "harm.pth")


def test_missing_package_is_a_user_error_with_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    with pytest.raises(UserError, match=r"\[metrics\]"):
        inception_space()
