"""The parameters of a drawn face, which are also its labels, and their random distributions."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from engine.errors import UserError

HAIR_STYLES = (
    "bald", "buzz", "receding", "short", "quiff", "curly", "afro",
    "fringe", "bob", "long", "wavy", "bun", "ponytail",
)  # fmt: skip
BEARDS = ("none", "stubble", "moustache", "goatee", "full")
GLASSES = ("none", "round", "oval", "square")
HATS = ("none", "beanie", "cap", "brimmed", "headscarf")

_CHOICES = {"hair_style": HAIR_STYLES, "beard": BEARDS, "glasses": GLASSES, "hat": HATS}
_FROM_ZERO = {
    "skin_tone", "freckles", "age", "eye_colour", "lip_colour", "lashes",
    "hair_lightness", "hair_redness", "hair_grey", "hair_dye", "hair_dye_hue", "beard_length",
    "mouth_open", "eye_opening", "light_strength",
    "background_hue", "background_lightness", "background_saturation", "background_direction",
    "clothes_hue", "clothes_lightness", "glasses_colour", "hat_hue", "hat_lightness",
}  # fmt: skip


class _Validated:
    """Rejects values outside a field's range."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES:
                if value not in _CHOICES[field.name]:
                    names = ", ".join(_CHOICES[field.name])
                    raise UserError(f"{field.name} is {value!r}; choose one of {names}")
            elif field.name == "number":
                if value < 0:
                    raise UserError(f"a person's number is {value}; it must be 0 or more")
            else:
                low = 0 if field.name in _FROM_ZERO else -1
                if not low <= value <= 1:
                    raise UserError(f"{field.name} is {value}; it must be from {low} to 1")


@dataclasses.dataclass(frozen=True)
class Person(_Validated):
    """The permanent traits of a drawn person.

    Numbers are from -1 to 1 with 0 the average (narrow to wide, small to large, low to high), unless a range
    is given.

    Raises:
        UserError: a value is outside its range.
    """

    number: int = 0  # identity; also seeds freckles and curls
    skin_tone: float = 0.3  # 0 very light to 1 very dark
    skin_warmth: float = 0.0  # -1 rosy to 1 golden
    freckles: float = 0.0  # 0 to 1
    age: float = 0.2  # 0 to 1: the lines of the face
    head_width: float = 0.0
    jaw_width: float = 0.0
    chin_length: float = 0.0
    cheek_fullness: float = 0.0
    ear_size: float = 0.0
    eye_size: float = 0.0
    eye_spacing: float = 0.0
    eye_slant: float = 0.0  # outer corners, down to up
    eye_roundness: float = 0.0
    eye_colour: float = 0.3  # 0 to 1: dark brown, brown, hazel, green, blue, grey
    brow_thickness: float = 0.0
    brow_arch: float = 0.0
    nose_length: float = 0.0
    nose_width: float = 0.0
    mouth_width: float = 0.0
    lip_fullness: float = 0.0
    lip_colour: float = 0.2  # 0 the skin's own to 1 bright red
    lashes: float = 0.4  # 0 to 1
    hair_style: str = "short"
    hair_lightness: float = 0.3  # 0 black to 1 blond
    hair_redness: float = 0.2  # 0 to 1
    hair_grey: float = 0.0  # 0 to 1
    hair_dye: float = 0.0  # 0 to 1
    hair_dye_hue: float = 0.0  # 0 to 1, in turns
    hair_volume: float = 0.0
    hair_length: float = 0.0
    hair_parting: float = 0.4  # left to right
    beard: str = "none"
    beard_length: float = 0.3  # 0 to 1


@dataclasses.dataclass(frozen=True)
class Scene(_Validated):
    """What varies between images of a person: expression, pose, light, background and clothes.

    Numbers are from -1 to 1, unless a range is given; left and right are the viewer's.

    Raises:
        UserError: a value is outside its range.
    """

    smile: float = 0.3  # sad to smiling
    mouth_open: float = 0.0  # 0 to 1
    brow_raise: float = 0.0
    eye_opening: float = 0.8  # 0 sleepy to 1 wide
    gaze: float = 0.0  # left to right
    turn: float = 0.0  # left to right, 23 degrees each
    nod: float = 0.0  # up to down, 9 degrees each
    tilt: float = 0.0  # to the left or right shoulder, 7 degrees each
    zoom: float = 0.0  # 4 % each
    shift_x: float = 0.0  # 2 % of the side each
    shift_y: float = 0.0
    light_side: float = -0.5  # from the left to from the right
    light_strength: float = 0.5  # 0 even to 1 strong
    light_warmth: float = 0.0  # cold to warm
    background_hue: float = 0.6  # 0 to 1, in turns
    background_lightness: float = 0.6  # 0 to 1
    background_saturation: float = 0.5  # 0 to 1
    background_direction: float = 0.2  # 0 to 1, in turns
    clothes_hue: float = 0.1  # 0 to 1, in turns
    clothes_lightness: float = 0.5  # 0 to 1
    neckline: float = 0.0  # high to deep
    glasses: str = "none"
    glasses_colour: float = 0.0  # 0 to 1: black, brown, gold, blue, red
    hat: str = "none"
    hat_hue: float = 0.0  # 0 to 1, in turns
    hat_lightness: float = 0.5  # 0 to 1


@dataclasses.dataclass(frozen=True)
class Face:
    """A drawn face: a person in a scene. Its image depends on nothing else."""

    person: Person
    scene: Scene

    def labels(self) -> dict[str, int | float | str]:
        """All values by name: `person` (the number), then the traits, then the scene."""
        traits = dict(vars(self.person))
        return {"person": traits.pop("number"), **traits, **vars(self.scene)}


@functools.lru_cache(maxsize=16)
def sample_person(seed: int, number: int) -> Person:
    """Sample person `number` of a seed, reproducibly.

    Traits that are correlated in people (dark skin and dark hair, age and grey hair) are correlated here, and
    each is spread smoothly over its range.
    """
    rng = _generator(seed, 0, number)
    tone, age = rng.beta(1.1, 1.5), rng.beta(1.4, 2.8)
    # A latent variable that correlates some traits; not a label, because no trait depends on it alone.
    femininity = np.clip(rng.normal(rng.choice((-0.55, 0.55)), 0.35), -1, 1)
    long_haired = femininity > rng.normal(0, 0.25)
    style = _hair_style(rng, long_haired, tone, age)
    lightness = _unit(rng.beta(1.3, 1.6) * (1 - 0.95 * tone) ** 0.8 + rng.normal(0.03, 0.03))
    grey = _unit(max(age - 0.45, 0) * rng.uniform(0, 3.2))
    dyed = rng.random() < 0.09
    beard = (
        "none"
        if femininity > 0 or rng.random() < 0.38
        else str(rng.choice(BEARDS[1:], p=(0.28, 0.16, 0.2, 0.36)))
    )
    return Person(
        number=number,
        skin_tone=_unit(tone),
        skin_warmth=_bell(rng),
        freckles=_unit(rng.beta(0.5, 2.5) * (1.2 - tone)) if rng.random() < 0.45 else 0.0,
        age=_unit(age),
        head_width=_bell(rng),
        jaw_width=_around(-0.4 * femininity, rng),
        chin_length=_around(-0.15 * femininity, rng),
        cheek_fullness=_bell(rng),
        ear_size=_bell(rng),
        eye_size=_around(0.2 * femininity, rng),
        eye_spacing=_bell(rng),
        eye_slant=_bell(rng),
        eye_roundness=_bell(rng),
        eye_colour=_unit(rng.beta(0.9, 1.1) * (1 - 0.8 * tone**0.7) ** 1.1),
        brow_thickness=_around(-0.35 * femininity, rng),
        brow_arch=_around(0.2 * femininity, rng),
        nose_length=_bell(rng),
        nose_width=_around(0.45 * (tone - 0.4), rng),
        mouth_width=_bell(rng),
        lip_fullness=_around(0.25 * femininity + 0.4 * (tone - 0.4), rng),
        lip_colour=_unit(rng.beta(1.6, 2.4) if femininity > 0 else rng.beta(1.2, 9)),
        lashes=_unit(rng.beta(4, 2.5) if femininity > 0 else rng.beta(1.6, 5)),
        hair_style=style,
        hair_lightness=lightness,
        hair_redness=_unit(rng.beta(1.2, 2.6)),
        hair_grey=grey,
        hair_dye=_unit(rng.beta(3, 1.5)) if dyed else 0.0,
        hair_dye_hue=_unit(rng.random()) if dyed else 0.0,
        hair_volume=_bell(rng),
        hair_length=_bell(rng),
        hair_parting=_bell(rng),
        beard=beard,
        beard_length=_unit(rng.beta(1.8, 2.6)),
    )


def sample_scene(seed: int, index: int) -> Scene:
    """Sample the scene of image `index` of a seed, reproducibly, with colours in harmony."""
    rng = _generator(seed, 1, index)
    background = rng.random()
    # Analogous, split-complementary and complementary hues.
    clothes, hat = (
        (background + rng.choice((0.08, 0.33, 0.5, 0.67, 0.92)) + rng.normal(0, 0.03)) % 1 for _ in range(2)
    )
    smile = _around(0.40, rng)
    return Scene(
        smile=smile,
        mouth_open=_unit(rng.beta(1.2, 3.0)) if rng.random() < 0.3 + 0.25 * smile else 0.0,
        brow_raise=_bell(rng),
        eye_opening=_unit(rng.beta(5, 2)),
        gaze=_bell(rng),
        turn=_bell(rng, 2.0),
        nod=_bell(rng),
        tilt=_bell(rng),
        zoom=_bell(rng),
        shift_x=_bell(rng),
        shift_y=_bell(rng),
        light_side=_signed(rng.choice((-1, 1)) * rng.beta(2.5, 1.6)),
        light_strength=_unit(rng.beta(2.2, 2.0)),
        light_warmth=_bell(rng),
        background_hue=_unit(background),
        background_lightness=_unit(rng.beta(1.7, 1.5)),
        background_saturation=_unit(rng.beta(2.2, 2.0)),
        background_direction=_unit(rng.random()),
        clothes_hue=_unit(clothes),
        clothes_lightness=_unit(rng.beta(1.5, 1.5)),
        neckline=_bell(rng),
        glasses=str(rng.choice(GLASSES, p=(0.76, 0.09, 0.07, 0.08))),
        glasses_colour=_unit(rng.beta(0.8, 1.5)),
        hat=str(rng.choice(HATS, p=(0.84, 0.05, 0.04, 0.04, 0.03))),
        hat_hue=_unit(hat),
        hat_lightness=_unit(rng.beta(1.7, 1.7)),
    )


def sample_face(seed: int, index: int, faces_per_person: int = 1) -> Face:
    """Sample face `index` of a seed, reproducibly and independently of the number of faces.

    Faces 0 to `faces_per_person` - 1 show person 0, the next ones person 1, and so on.

    Raises:
        UserError: the seed or index is negative, or `faces_per_person` is less than 1.
    """
    if faces_per_person < 1:
        raise UserError(f"faces per person is {faces_per_person}; it must be 1 or more")
    person, scene = sample_person(seed, index // faces_per_person), sample_scene(seed, index)
    if person.beard != "none" and scene.hat == "headscarf":
        scene = dataclasses.replace(scene, hat="beanie")
    return Face(person, scene)


def _generator(*key: int) -> np.random.Generator:
    if min(key) < 0:
        raise UserError(f"seed {key[0]}, number {key[-1]}: both must be 0 or more")
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def _hair_style(rng: np.random.Generator, long_haired: bool, tone: float, age: float) -> str:
    weights = dict.fromkeys(HAIR_STYLES, 0.0)
    if long_haired:
        weights |= {
            "fringe": 1.2,
            "bob": 1.2,
            "long": 1.5,
            "wavy": 1.5,
            "bun": 0.9,
            "ponytail": 0.8,
            "short": 0.25,
        }
        weights |= {"curly": 0.3 + 0.5 * tone, "afro": 0.1 + 1.6 * tone**2}
    else:
        weights |= {
            "short": 2.0,
            "quiff": 1.2,
            "buzz": 0.8,
            "bald": 0.25 + 0.6 * age,
            "receding": 2.2 * age**2,
        }
        weights |= {"curly": 0.9, "afro": 0.1 + 0.7 * tone**2, "long": 0.2, "bun": 0.15}
    chances = np.array(list(weights.values()))
    return str(rng.choice(HAIR_STYLES, p=chances / chances.sum()))


# Rounded, so that the labels in the CSV are exactly those drawn.


def _signed(value: float) -> float:
    return round(min(max(float(value), -1.0), 1.0), 4)


def _unit(value: float) -> float:
    return round(min(max(float(value), 0.0), 1.0), 4)


def _bell(rng: np.random.Generator, peak: float = 2.6) -> float:
    return _signed(2 * rng.beta(peak, peak) - 1)


def _around(mean: float, rng: np.random.Generator) -> float:
    """A bell-shaped distribution over [-1, 1] with this mean."""
    return _signed(2 * rng.beta(2.6 * (1 + mean), 2.6 * (1 - mean)) - 1)
