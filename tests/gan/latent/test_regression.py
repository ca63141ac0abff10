import numpy as np
import pytest

from gan.latent.regression import difference_of_means, eigenvectors, orthonormal, project_out, regress, unit

SIZE = 20


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def test_regression_finds_the_direction_of_any_monotone_score():
    u, truth = normal(4000, SIZE), unit(normal(SIZE, seed=1))
    noise = normal(4000, seed=2)
    scores = np.stack([3 * u @ truth + noise, np.tanh(3 * u @ truth), u @ truth > 1, noise], 1).astype(float)
    regression = regress(u, scores)
    cosines = [unit(weights) @ truth for weights in regression.weights]
    assert min(cosines[:3]) > 0.99
    assert 0.87 < regression.explained[0] < 0.93
    assert abs(regression.explained[3]) < 0.02
    assert regress(u, np.ones((4000, 1))).explained.tolist() == [0]


def test_regression_with_fewer_faces_than_values():
    u = normal(10, SIZE)
    assert np.isfinite(regress(u, u[:, :1]).weights).all()


def test_projection_is_orthogonal_and_nearest():
    vector, others = normal(SIZE), normal(3, SIZE, seed=1)
    rest = project_out(vector, others)
    assert abs(others @ rest).max() < 1e-9
    assert np.linalg.norm(rest) == pytest.approx(1)
    assert rest @ vector > 0
    # Dependent and repeated directions remove nothing more.
    assert np.allclose(project_out(vector, np.concatenate([others, others, [others[0] + others[1]]])), rest)
    assert np.allclose(project_out(vector, np.empty((0, SIZE))), unit(vector))
    assert project_out(vector, np.stack([vector, others[0]])) is None
    assert project_out(np.zeros(SIZE), others) is None


def test_eigenvectors_are_ordered_and_have_a_sign():
    vectors, shares = eigenvectors(np.diag([1.0, 5, 4]))
    assert np.allclose(vectors, np.eye(3)[[1, 2, 0]])
    assert np.allclose(shares, [0.5, 0.4, 0.1])


def test_few_chosen_faces_use_the_leading_subspace():
    gram = np.diag([10.0] * 8 + [0.1] * 92)
    truth = unit(np.r_[normal(8, seed=3), np.zeros(92)])
    u = normal(2000, 100)
    order = np.argsort(u @ truth)
    plus, minus = u[order[-10:]], u[order[:10]]
    direction = difference_of_means(plus, minus, gram)
    assert direction @ truth > 0.95
    assert direction @ truth > unit(plus.mean(0) - minus.mean(0)) @ truth + 0.05
    assert difference_of_means(plus, plus, gram) is None


def test_dependent_vectors_add_nothing_to_an_orthonormal_basis():
    first, second = np.eye(5)[0], np.eye(5)[1]
    basis = orthonormal(np.stack([2 * first, first, -first]))
    np.testing.assert_allclose(np.abs(basis), first[None], atol=1e-12)
    basis = orthonormal(np.stack([first, first + second, second]))
    np.testing.assert_allclose(basis.T @ basis, np.diag([1, 1, 0, 0, 0]), atol=1e-12)
