import numpy as np
import pytest

from engine.png import from_pillow, load_png, save_png, to_pillow
from gan.latent.vectors import draw
from images.decode import decode, decode_full
from lab import crops
from lab.crops import FaceFinder, Framing, measure_framing
from tests.faces.photos import photo
from tests.in_process import succeed
from tests.small_generator import small_generator

pytest.importorskip("cv2", reason="needs the extra 'photos'")


class DrawnGenerator:
    """Stands for a generator of drawn faces, whose crops have a margin."""

    def __init__(self, generator):
        self.generator = generator

    def __getattr__(self, name):
        return getattr(self.generator, name)

    def images(self, z):
        return np.stack([photo(number, side=96, width=112, height=112)[0] for number in range(len(z))])


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    return small_generator(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def finder(generator):
    """Finds faces for the generator of drawn faces."""
    return FaceFinder(DrawnGenerator(generator))


def test_photos_are_cropped_by_the_rules_of_the_prepared_training_folder(tmp_path):
    source = tmp_path / "photos"
    for number, tilt in ((0, 0.0), (2, 14.0)):
        save_png(source / f"{number}.png", photo(number, tilt=tilt)[0])
    out = tmp_path / "out"
    succeed("prepare_faces.py", source, out, "--workers", 0, "--form", "png", "--enlarge", 1.5, "--size", 64)
    finder = FaceFinder(small_generator(tmp_path / "run", folder=str(out / "faces")))
    assert finder.framing is None
    for number in (0, 2):
        (face,) = finder(decode_full(source / f"{number}.png"))
        assert np.array_equal(face.crop, decode(out / "faces" / f"{number}.png-0.png", 32))
        left, _, right, _ = face.box
        assert (left + right) / 2 == pytest.approx(110, abs=8)


def test_damaged_rules_are_reported(tmp_path):
    folder = tmp_path / "out" / "faces"
    folder.mkdir(parents=True)
    (tmp_path / "out" / "prepare.json").write_text('{"rules": {"enlarge": 100}}')
    with pytest.raises(Exception, match=r"prepare\.json cannot be read"):
        FaceFinder(small_generator(tmp_path / "run", folder=str(folder)))


def test_elsewhere_the_framing_is_that_of_the_generators_own_faces(generator, finder):
    assert finder.notes == []
    image = DrawnGenerator(generator).images(draw(3, 10, 0))[2]
    large = from_pillow(to_pillow(image).resize((300, 300)))
    canvas = np.full((3, 500, 700), 90, np.uint8)
    canvas[:, 120:420, 250:550] = large
    (face,) = finder(canvas)
    # The crop is what the generator's image is, up to the detector's error.
    expected = from_pillow(to_pillow(image).resize((32, 32)))
    shifted = [np.abs(np.roll(expected, step, 2).astype(int) - face.crop).mean() for step in (-4, 0, 4)]
    assert shifted[1] < min(shifted[0], shifted[2])
    assert shifted[1] < 30


def test_without_faces_in_its_images_the_default_framing_is_used_and_said(generator):
    finder = FaceFinder(generator)
    assert finder.framing == Framing()
    assert "could not be found" in finder.notes[0]


def test_the_framing_places_a_box_where_it_was_measured():
    square = Framing(0.4, 0.6, 2.0).square((100.0, 50.0, 140.0, 90.0), 0.0)
    assert square.side == 80
    np.testing.assert_allclose(square.to_fractions((120, 70)), (0.4, 0.6))
    tilted = Framing(0.4, 0.6, 2.0).square((100.0, 50.0, 140.0, 90.0), 30.0)
    np.testing.assert_allclose(tilted.to_fractions((120, 70)), (0.4, 0.6))


def test_the_face_counts_most_and_what_is_outside_the_photo_hardly(generator, finder):
    image, _ = photo(1, side=150, width=150, height=150)
    (face,) = finder(image[:, 20:, :])
    centre = face.weights[12:24, 12:20]
    assert centre.min() > 0.9
    assert crops.INVISIBLE < face.weights[-4:, :2].max() < 0.5
    whole = FaceFinder(generator, whole_image=True)(image)[0]
    assert whole.box is None
    assert (whole.weights == 1).all()


def test_a_whole_image_is_its_centre_square(generator, tmp_path):
    save_png(tmp_path / "wide.png", photo(1)[0])
    (face,) = FaceFinder(generator, whole_image=True)(load_png(tmp_path / "wide.png"))
    assert np.abs(face.crop.astype(int) - decode(tmp_path / "wide.png", 32)).max() <= 1


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_face_in_a_rotated_photo_is_cropped_upright_and_boxed_where_it_is(finder, rotation):
    image, _ = photo(3, side=140)
    (upright,) = finder(image)
    turned = np.ascontiguousarray(np.rot90(image, rotation // 90, (1, 2)))
    (face,) = finder(turned)
    assert np.abs(face.crop.astype(int) - upright.crop).mean() < 25
    inside = np.zeros(image.shape[1:], bool)
    left, top, right, bottom = map(round, upright.box)
    inside[max(top, 0) : bottom, max(left, 0) : right] = True
    left, top, right, bottom = map(round, face.box)
    found = np.zeros(turned.shape[1:], bool)
    found[max(top, 0) : bottom, max(left, 0) : right] = True
    expected = np.rot90(inside, rotation // 90)
    assert (found & expected).sum() / (found | expected).sum() > 0.7


def test_the_framing_is_measured_by_the_median(generator):
    boxes = iter([[], *[[(20.0, 30.0, 100.0, 110.0)]] * 20, *[[(0.0, 0.0, 160.0, 160.0)]] * 5])

    class Found:
        def __init__(self, box):
            self.box = box

    framing = measure_framing(generator, lambda image: [Found(box) for box in next(boxes, [])])
    assert framing == Framing(60 / 160, 70 / 160, 2.0)
