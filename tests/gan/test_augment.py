import pytest
import torch

from gan.augment import POLICIES, amounts_needed, augment, colour, cutout, flip_half, translation

SIZES = (32, 48, 96, 256)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def amounts(count: int, width: int | None = None, seed: int = 0) -> torch.Tensor:
    return torch.rand(*((count,) if width is None else (count, width)), generator=seeded(seed))


def noise(count: int = 6, size: int = 32, seed: int = 9, dtype=torch.float32) -> torch.Tensor:
    return torch.rand(count, 3, size, size, generator=seeded(seed), dtype=dtype) * 2 - 1


def test_about_half_are_mirrored_and_exactly():
    images = noise(1, 8).repeat(1000, 1, 1, 1)
    flipped = flip_half(images, amounts(1000))
    mirrored = torch.tensor([torch.equal(image, images[0].flip(2)) for image in flipped])
    kept = torch.tensor([torch.equal(image, images[0]) for image in flipped])
    assert (mirrored ^ kept).all()
    assert 430 < mirrored.sum() < 570  # 500 within 4.4 deviations


def test_flips_keep_the_type():
    levels = torch.arange(12, dtype=torch.uint8).view(1, 3, 1, 4)
    done = flip_half(levels.repeat(50, 1, 1, 1), amounts(50))
    assert done.dtype == torch.uint8
    assert {tuple(row.flatten().tolist()) for row in done[:, 0]} == {(0, 1, 2, 3), (3, 2, 1, 0)}


@pytest.mark.parametrize(("kind", "width"), [*POLICIES.values(), (flip_half, None)])
def test_every_kind_keeps_the_shape_and_follows_its_amounts_alone(kind, width):
    images = noise(8)
    first = kind(images, amounts(8, width, 1))
    assert torch.equal(first, kind(images, amounts(8, width, 1)))
    assert first.shape == images.shape
    assert not torch.equal(first, kind(images, amounts(8, width, 2)))
    assert torch.equal(images, noise(8))


@pytest.mark.parametrize(("kind", "width"), POLICIES.values())
def test_each_image_follows_its_own_amounts(kind, width):
    images = noise(1).repeat(8, 1, 1, 1)
    changed = kind(images, amounts(8, width))
    alike = [(changed[i] == changed[j]).all() for i in range(8) for j in range(i)]
    assert sum(alike) <= 1  # two of 8 shifts may agree
    for row in range(8):
        alone = kind(images[row : row + 1], amounts(8, width)[row : row + 1])
        torch.testing.assert_close(alone[0], changed[row])


@pytest.mark.parametrize("names", [*((name,) for name in POLICIES), tuple(POLICIES)])
def test_gradients_pass_through(names):
    images = noise(3, 16, dtype=torch.float64).requires_grad_()
    drawn = amounts(3, amounts_needed(names))
    done = augment(images, names, drawn)
    assert done.requires_grad
    # Each augmentation is linear in the image but for a constant, so differences equal the gradient.
    direction, towards = noise(3, 16, 1, torch.float64), noise(3, 16, 2, torch.float64)
    (gradient,) = torch.autograd.grad((done * towards).sum(), images)
    moved = augment(images.detach() + direction, names, drawn)
    difference = ((moved - done.detach()) * towards).sum()
    assert gradient.any()
    assert (gradient * direction).sum().item() == pytest.approx(difference.item(), rel=1e-9)


def test_no_policy_changes_nothing_and_needs_nothing():
    images = noise()
    assert amounts_needed(()) == 0
    assert augment(images, (), amounts(6, 0)) is images


def test_policies_are_applied_in_turn_each_by_its_own_amounts():
    images, drawn = noise(), amounts(6, 5)
    expected = cutout(colour(images, drawn[:, :3]), drawn[:, 3:])
    assert torch.equal(augment(images, ("colour", "cutout"), drawn), expected)


@pytest.mark.parametrize("size", SIZES)
def test_the_largest_amount_is_the_largest_shift(size):
    """The largest number below 1 must not become one pixel more, beyond what was padded."""
    image = torch.ones(2, 3, size, size)
    most = torch.tensor([[0.0, 0.0], [1 - 2**-24] * 2])
    near, far = translation(image, most)
    assert near.sum() == far.sum() == 3 * (size - size // 8) ** 2


@pytest.mark.parametrize("size", SIZES)
def test_translation_shifts_by_whole_pixels_and_brings_in_grey(size):
    reach = size // 8
    rows, columns = set(), set()
    count = 40 if size > 64 else 400
    row = torch.arange(1, size + 1).float() / 1000
    # Every pixel tells where it was; none is 0.
    down, across = row[:, None].expand(size, size), row[None].expand(size, size)
    image = torch.stack([down, across, torch.ones(size, size)])
    for moved in translation(image[None].repeat(count, 1, 1, 1), amounts(count, 2)):
        inside = moved[2] == 1
        assert not moved[:, ~inside].any()
        down = _shift(inside.any(1), moved[0].amax(1), size)
        right = _shift(inside.any(0), moved[1].amax(0), size)
        assert inside.sum() == (size - abs(down)) * (size - abs(right))
        expected = torch.zeros_like(image)
        ins, outs = zip(_overlap(down, size), _overlap(right, size), strict=True)
        expected[:, ins[0], ins[1]] = image[:, outs[0], outs[1]]
        assert torch.equal(moved, expected)
        rows.add(down)
        columns.add(right)
    for shifts in (rows, columns):
        assert max(map(abs, shifts)) <= reach
        if count == 400:
            assert shifts == set(range(-reach, reach + 1))


def _shift(inside: torch.Tensor, values: torch.Tensor, size: int) -> int:
    """By how much a line that held 0.001, 0.002, ... was moved."""
    place = int(inside.nonzero()[0])
    return place + 1 - round(float(values[place]) * 1000)


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Where what stays in the picture is, after and before the shift."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(max(-shift, 0), size - max(shift, 0))


@pytest.mark.parametrize("size", SIZES)
def test_cutout_greys_one_square_of_half_the_side(size):
    images = torch.ones(60, 3, size, size)
    areas = []
    for image in cutout(images, amounts(60, 2)):
        hidden = image == 0
        assert (hidden | (image == 1)).all()
        assert torch.equal(hidden[0], hidden[1])
        assert torch.equal(hidden[0], hidden[2])
        height, width = int(hidden[0].any(1).sum()), int(hidden[0].any(0).sum())
        assert hidden[0].sum() == height * width  # one full rectangle, cut off at the border at most
        assert size // 4 <= height <= size // 2
        assert size // 4 <= width <= size // 2
        areas.append(height * width)
    assert max(areas) == (size // 2) ** 2


def test_cutout_reaches_every_place():
    hidden = cutout(torch.ones(400, 3, 32, 32), amounts(400, 2)).eq(0).float().mean((0, 1))
    assert hidden.min() > 0.03
    assert hidden[8:24, 8:24].mean() == pytest.approx(0.25, abs=0.05)


def test_colour_leaves_the_relations_it_should():
    images = noise(300, 8, dtype=torch.float64)
    done = colour(images, amounts(300, 3))

    def parts(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Mean of the picture, its grey picture around that, its colours around that."""
        grey = x.mean(1, keepdim=True)
        mean = grey.mean((2, 3), keepdim=True)
        return mean.flatten(), grey - mean, x - grey

    mean, grey, tint = parts(images)
    new_mean, new_grey, new_tint = parts(done)
    brightness = new_mean - mean
    contrast = (new_grey * grey).sum((1, 2, 3)) / grey.square().sum((1, 2, 3))
    both = (new_tint * tint).sum((1, 2, 3)) / tint.square().sum((1, 2, 3))
    saturation = both / contrast
    # The grey picture and the colours keep their form, each by one factor.
    torch.testing.assert_close(new_grey, grey * contrast.view(-1, 1, 1, 1))
    torch.testing.assert_close(new_tint, tint * both.view(-1, 1, 1, 1))
    for values, low, high in ((brightness, -0.5, 0.5), (contrast, 0.5, 1.5), (saturation, 0, 2)):
        assert low <= values.min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < values.max() <= high
        assert values.mean().item() == pytest.approx((low + high) / 2, abs=0.1 * (high - low))
    correlations = torch.corrcoef(torch.stack([brightness, contrast, saturation]))
    assert (correlations - torch.eye(3)).abs().max() < 0.2
