"""Distances of sets of features, against values computed by hand."""

from __future__ import annotations

from itertools import permutations, product

import pytest
import torch

from engine.errors import UserError
from gan.metrics import distribution
from gan.metrics.distribution import frechet_distance, kid, precision_recall_density_coverage


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values)[:, None]


def normal(count: int, length: int, seed: int) -> torch.Tensor:
    return torch.randn(count, length, generator=torch.Generator().manual_seed(seed))


def test_fid_of_two_normal_distributions_on_a_line():
    # Means 0 and 3, variances 2 and 18: 3^2 + (sqrt 2 - sqrt 18)^2.
    assert frechet_distance(column(-1, 1), column(0, 6)) == pytest.approx(17)
    assert frechet_distance(column(0, 6), column(-1, 1)) == pytest.approx(17)


def test_fid_in_the_plane_adds_the_axes_where_they_are_independent():
    real = torch.tensor(list(product((-1.0, 1.0), (-2.0, 2.0))))
    fake = torch.tensor(list(product((-1.0, 3.0), (-2.0, 2.0))))
    # Along the first axis means 0 and 1, variances 4/3 and 16/3; along the second no difference.
    assert frechet_distance(real, fake) == pytest.approx(1 + 4 / 3)


def test_fid_depends_on_the_correlation_of_axes():
    real, fake = torch.tensor([[1.0, 1], [-1, -1]]), torch.tensor([[1.0, -1], [-1, 1]])
    # Covariances 2 [[1, 1], [1, 1]] and 2 [[1, -1], [-1, 1]], whose product is 0: the sum of their traces.
    assert frechet_distance(real, fake) == pytest.approx(8)


def test_fid_of_equal_sets_is_0_even_with_large_means():
    features = normal(300, 32, seed=0) + 1000
    assert 0 <= frechet_distance(features, features) < 1e-3


def mmd(real: torch.Tensor, fake: torch.Tensor) -> float:
    """The unbiased squared discrepancy of whole sets, one kernel value at a time."""

    def kernel(left: torch.Tensor, right: torch.Tensor) -> float:
        return (float(left @ right) / len(left) + 1) ** 3

    def mean(values: list[float]) -> float:
        return sum(values) / len(values)

    within = [mean([kernel(left, right) for left, right in permutations(some, 2)]) for some in (real, fake)]
    return sum(within) - 2 * mean([kernel(left, right) for left, right in product(real, fake)])


def test_kid_of_constant_sets_is_that_of_two_points():
    # k(1, 1) = 8, k(2, 2) = 125, k(1, 2) = 27.
    distance = kid(column(1, 1, 1, 1), column(2, 2, 2, 2))
    assert distance.mean == pytest.approx(8 + 125 - 2 * 27)
    assert distance.std == pytest.approx(0)


def test_kid_is_the_unbiased_discrepancy_that_its_subsets_estimate():
    real, fake = normal(40, 3, seed=0), normal(40, 3, seed=1) * 1.5 + 0.5
    distance = kid(real, fake)
    # The spread of a mean over 100 subsets is a tenth of theirs.
    assert distance.mean == pytest.approx(mmd(real, fake), abs=4 * distance.std / 10)
    assert distance.std > 0


def test_kid_of_sets_from_one_source_is_0_on_average_and_often_negative():
    distances = torch.tensor([kid(normal(60, 8, seed), normal(60, 8, seed + 100)).mean for seed in range(60)])
    assert abs(distances.mean()) < 3 * distances.std() / 60**0.5
    assert 0.3 < (distances < 0).double().mean() < 0.8


def test_kid_repeats_for_a_seed_and_leaves_the_random_state_alone():
    real, fake = normal(50, 4, seed=0), normal(50, 4, seed=1)
    before = torch.get_rng_state()
    assert kid(real, fake, seed=5) == kid(real, fake, seed=5) != kid(real, fake, seed=6)
    assert torch.equal(torch.get_rng_state(), before)


def test_neighbourhoods_on_a_line():
    # With one neighbour each real image reaches 1 far; fakes reach 4, 4, 1, 1.
    real, fake = column(0, 1, 2, 10, 11), column(0.5, 4.5, 20, 21)
    found = precision_recall_density_coverage(real, fake, k=1)
    assert found.precision == 1 / 4  # 0.5, which is near 0 and 1
    assert found.density == 2 / 4  # and so counts twice
    assert found.recall == 3 / 5  # 0, 1, 2 are within 4 of 0.5
    assert found.coverage == 2 / 5  # 0 and 1


def test_neighbourhoods_reach_to_the_kth_neighbour():
    real, fake = column(0, 1, 3, 7), column(-2.5, 2, 5, 12)
    found = precision_recall_density_coverage(real, fake, k=2)
    # Real images reach 3, 2, 3, 6; fakes 7.5, 4.5, 7, 10.
    assert found.precision == 1  # -2.5 by 0, 2 by all, 5 by 3 and 7, 12 by 7
    assert found.density == (1 + 4 + 2 + 1) / (2 * 4)
    assert found.recall == 1
    assert found.coverage == 1
    assert precision_recall_density_coverage(real, fake, k=1).coverage == 3 / 4  # 0 reaches no more than 1


def test_points_on_the_surface_of_a_neighbourhood_are_inside():
    features = normal(50, 16, seed=0) * 0.01 + 100
    found = precision_recall_density_coverage(features, features, k=3)
    assert found.precision == found.recall == found.coverage == 1
    # Each fake is in its own neighbourhood and on or in those of its neighbours: on average k + 1 of them.
    assert found.density == pytest.approx(4 / 3)


def test_few_repeated_fakes_have_high_precision_and_low_coverage():
    real = normal(200, 4, seed=0)
    found = precision_recall_density_coverage(real, normal(200, 4, seed=1)[:10].repeat(20, 1))
    whole = precision_recall_density_coverage(real, normal(200, 4, seed=1))
    assert found.precision > 0.5
    assert found.coverage < whole.coverage / 2
    assert found.recall < whole.recall / 2


def test_chunks_do_not_change_results(monkeypatch: pytest.MonkeyPatch):
    real, fake = normal(40, 4, seed=0), normal(30, 4, seed=1)
    whole = precision_recall_density_coverage(real, fake)
    monkeypatch.setattr(distribution, "ROWS", 7)
    assert precision_recall_density_coverage(real, fake) == whole


@pytest.mark.parametrize(
    ("measure", "fewest"), [(frechet_distance, 2), (kid, 4), (precision_recall_density_coverage, 6)]
)
def test_too_few_images_are_a_user_error(measure, fewest: int):
    enough, few = normal(fewest, 3, seed=0), normal(fewest - 1, 3, seed=1)
    measure(enough, enough)
    with pytest.raises(UserError, match=rf"at least {fewest} real images, not {fewest - 1}"):
        measure(few, enough)
    with pytest.raises(UserError, match=rf"at least {fewest} generated images, not {fewest - 1}"):
        measure(enough, few)
