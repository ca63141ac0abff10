import pytest
import torch

from gan.inversion.lbfgs import minimize


@pytest.fixture
def quadratics():
    """Five badly conditioned quadratics in 20 dimensions: matrices, linear terms."""
    random = torch.Generator().manual_seed(0)
    factors = torch.randn(5, 20, 20, generator=random)
    return factors @ factors.mT + 0.5 * torch.eye(20), torch.randn(5, 20, generator=random)


def quadratic(matrices, linear, points, rows):
    squares = torch.einsum("bi,bij,bj->b", points, matrices[rows], points) / 2
    return squares - (linear[rows] * points).sum(1)


def test_it_finds_the_minimum_of_every_row(quadratics):
    points, values = minimize(lambda p, r: quadratic(*quadratics, p, r), torch.zeros(5, 20), 300, 1e-7)
    solutions = torch.linalg.solve(quadratics[0], quadratics[1][..., None])[..., 0]
    torch.testing.assert_close(points, solutions, atol=0.02, rtol=0)
    torch.testing.assert_close(values, quadratic(*quadratics, points, torch.arange(5)))


def test_it_is_much_faster_than_steepest_descent_on_a_curved_valley():
    evaluations = []

    def rosenbrock(points, rows):
        evaluations.append(len(rows))
        x, y = points[:, :-1], points[:, 1:]
        return (100 * (y - x**2) ** 2 + (1 - x) ** 2).sum(1)

    start = torch.tensor([[-1.2, 1.0], [2.0, 2.0]])
    points, _ = minimize(rosenbrock, start, 300, 1e-9)
    torch.testing.assert_close(points, torch.ones(2, 2), atol=1e-2, rtol=0)
    assert sum(evaluations) < 200


def test_a_finished_row_costs_nothing_more():
    seen = torch.zeros(2, dtype=torch.long)

    def objective(points, rows):
        seen[rows] += 1
        weights = torch.where(rows[:, None] == 0, 1.0, torch.logspace(0, 4, 30))
        return (weights * (points - 1) ** 2).sum(1)

    minimize(objective, torch.zeros(2, 30), 200, 1e-6)
    assert seen[0] < seen[1] / 2


def test_a_row_does_not_depend_on_the_others(quadratics):
    def objective(points, rows):
        return quadratic(*quadratics, points, rows)

    together, _ = minimize(objective, torch.zeros(5, 20), 30, 1e-7)
    alone, _ = minimize(lambda p, r: objective(p, r + 3), torch.zeros(1, 20), 30, 1e-7)
    torch.testing.assert_close(together[3:4], alone, atol=1e-3, rtol=1e-3)
