import numpy as np
import pytest

from engine.errors import UserError
from faces.recognition.recognizer import load_recognizer
from gan.latent.directions import Directions
from gan.latent.gaussian import to_gaussian
from gan.latent.vectors import draw
from lab.direction_report import table
from lab.direction_search import search
from lab.finding import Found
from lab.scorers import Scorer, classifier_scorer, join, other_pixel_scorer, pixel_scorer
from tests.lab.conftest import BACKGROUND, GLASSES, SKIN, DrawingGenerator


@pytest.fixture(scope="module")
def scorers(glasses_runs):
    finder, checker = (classifier_scorer(load_recognizer(run)) for run in glasses_runs)
    return join([pixel_scorer(), finder]), join([other_pixel_scorer(), checker])


@pytest.fixture(scope="module")
def found(drawing, scorers) -> Found:
    return search(drawing, *scorers, count=300, faces=12, random=10)


def test_glasses_appear_and_the_other_classifier_says_so(drawing: DrawingGenerator, found, glasses_runs):
    directions = Directions("", found.directions)
    z = draw(40, drawing.latent_size, 3)
    bare = z[to_gaussian(z)[:, GLASSES] < 0][:12]
    with_glasses = directions.move(bare, {"glasses": 2.5})
    assert abs(with_glasses).max() <= 1
    # By the labels with which the faces are drawn ...
    assert (to_gaussian(with_glasses)[:, GLASSES] > 0.5).mean() > 0.8
    # ... and by the classifier that the direction was not found with.
    recognizer = load_recognizer(glasses_runs[1])
    before, after = (recognizer.probabilities(drawing.images(one))[:, 0] for one in (bare, with_glasses))
    assert recognizer.classes[0] == "glasses"
    assert (before > 0.5).mean() < 0.3
    assert (after > 0.5).mean() > 0.7


def test_directions_are_the_known_factors(found):
    for name, factor in (("glasses", GLASSES), ("background", BACKGROUND)):
        assert abs(found.directions[name].vector[factor]) > 0.9, name


def test_scores_say_what_a_direction_does(found):
    for name in ("glasses", "background"):
        scores = found.directions[name].scores
        assert scores["effect"] > 1
        assert scores["leak"] < 0.6 * scores["random_leak"]
        assert scores["agreement"] > 0.7
        assert 0 <= scores["realism"] <= 1
        assert scores["identity"] is None
    assert found.directions["background"].scores["monotone"] >= 0.9
    assert found.directions["glasses"].scores["checker"].startswith("classifier 0002")
    assert found.directions["glasses"].source.startswith("classifier 0001")
    assert found.directions["background"].scores["checker"] == "other pixels"
    lines = table(found.directions).splitlines()
    assert len(lines) == 1 + len(found.directions)
    assert len({line.index("pixels") for line in lines if "pixels" in line}) == 1


def test_a_regression_stands_in_for_a_missing_scorer(drawing, scorers):
    finder, _ = scorers
    found = search(drawing, finder, other_pixel_scorer(), kept=(), count=200, faces=4, random=2)
    scores = found.directions["glasses"].scores
    assert scores["checker"] == "random features"
    assert 0.3 < scores["agreement"] < 1
    assert scores["effect"] > 0.5
    # Pale skin is bright.
    assert found.directions["brightness"].vector[SKIN] < -0.8


def test_an_attribute_that_nothing_changes_has_no_direction(drawing):
    dice = np.random.default_rng(0)
    noise = Scorer(("luck",), ("luck",), ("dice",), lambda images: dice.normal(size=(len(images), 1)))
    finder = join([pixel_scorer().named(["background"]), noise])
    found = search(drawing, finder, other_pixel_scorer(), count=250, faces=3, random=1)
    assert list(found.directions) == ["background"]
    assert found.missing == ["luck"]
    assert found.explained["luck"] < 0.02


def test_mistakes_are_refused(drawing, scorers):
    finder, checker = scorers
    with pytest.raises(UserError, match=r"two attributes are named glasses: .* --by NAME=RUN"):
        search(drawing, join([finder, finder.named(["glasses"])]), checker)
    with pytest.raises(UserError, match="no attribute smile to keep; there are brightness, warmth"):
        search(drawing, finder, checker, kept=["smile"])
