import numpy as np
import pytest
import torch

from gan.generator import load_generator
from gan.latent.directions import Direction, Directions
from gan.latent.leading import mean_gram, sefa
from gan.latent.regression import eigenvectors
from gan.latent.vectors import draw

STEP = 0.05


@pytest.fixture(scope="module")
def generator(tiny_run):
    return load_generator(tiny_run)


def change(generator, vector: np.ndarray) -> float:
    """Mean squared change of images by a small step along a direction."""
    directions = Directions("", {"one": Direction(vector, "")})
    z = draw(20, 100, 7)
    with torch.no_grad():
        before, after = (
            generator.network(torch.from_numpy(directions.move(z, {"one": strength})))
            for strength in (0, STEP)
        )
    return float((after - before).square().sum((1, 2, 3)).mean() / STEP**2)


def test_the_first_eigenvector_changes_images_most(generator):
    gram = mean_gram(generator, count=20, seed=7)
    vectors, shares = eigenvectors(gram)
    assert shares[0] > 2 / 100
    first, last = change(generator, vectors[0]), change(generator, vectors[-1])
    random = np.random.default_rng(0).normal(size=(5, 100))
    others = [change(generator, row / np.linalg.norm(row)) for row in random]
    assert first > 1.3 * max(others)
    assert last < min(others)
    # The Jacobian is by differences ten times as wide.
    assert first == pytest.approx(vectors[0] @ gram @ vectors[0], rel=0.15)


def test_sefa_is_the_gram_of_the_normalised_projection(generator):
    matrix, network = sefa(generator), generator.network
    norm = network.layers[0]

    def features(z: np.ndarray) -> torch.Tensor:
        projected = network.project(torch.from_numpy(z)).view(-1, *network.first_shape)
        return norm(projected).flatten(1)

    start, end = draw(2, 100, 0)
    with torch.no_grad():
        expected = float((features(end[None]) - features(start[None])).square().sum())
    step = (end - start).astype(float)
    assert step @ matrix @ step == pytest.approx(expected, rel=1e-4)
