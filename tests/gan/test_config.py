import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import UserError
from engine.settings import MAX_WIDTH, changed, flag, settings_tables, to_json
from gan.config import (
    BETA1,
    IMAGE_SIZES,
    NETWORK_SETTINGS,
    RESUMABLE,
    Settings,
    check,
    from_json,
    preset_settings,
)

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
PATHS = st.lists(st.text("ab ä顔", min_size=1), min_size=1, max_size=3).map(lambda parts: Path(*parts))
COUNTS = st.integers(1, 10**9)
POSITIVE = st.floats(0, 1e9, exclude_min=True)
DECAYS = st.floats(0, 1, exclude_max=True)
WIDTHS = st.tuples(*[st.integers(1, MAX_WIDTH)] * 4)
VALID = st.builds(
    Settings,
    folder=st.none() | NAMES,
    name=st.none() | NAMES,
    output=PATHS,
    cache=PATHS,
    preset=st.sampled_from([None, "quick", "evening", "textbook"]),
    steps=st.none() | st.integers(1, 10**9),
    minutes=st.none() | POSITIVE,
    batch_size=st.integers(1, 10**6).map(lambda packs: 4 * packs),
    image_size=st.sampled_from(IMAGE_SIZES),
    seed=st.integers(0, 2**63 - 1),
    device=st.sampled_from(["auto", "cpu", "cuda", "mps"]),
    precision=st.sampled_from(["auto", "float32", "bfloat16"]),
    workers=st.none() | st.integers(0, 64),
    held_out=st.floats(0, 0.5),
    generator_widths=WIDTHS,
    discriminator_widths=WIDTHS,
    latent_size=st.integers(1, MAX_WIDTH),
    pack=st.sampled_from([1, 2, 4]),
    normalisation=st.sampled_from(["batch", "layer", "none"]),
    head_scale=POSITIVE,
    learning_rate=POSITIVE,
    beta2=DECAYS,
    flip=st.booleans(),
    augmentation=st.sampled_from(["none", "always", "adaptive"]),
    negatives=st.floats(0, 0.5),
    ema_half_life=st.floats(0, 1e9),
    log_every=COUNTS,
    sample_every=COUNTS,
    score_every=COUNTS,
    checkpoint_every=COUNTS,
    keep=COUNTS,
)


def refusal(function: Callable, argument: object) -> str:
    """The one line with which a function refuses its argument."""
    with pytest.raises(UserError) as error:
        function(argument)
    message = str(error.value)
    assert "\n" not in message
    return message


def edited(**values) -> dict:
    """The settings in config.json after someone edited it."""
    return json.loads(json.dumps({**to_json(Settings()), **values}))


def test_the_preset_evening():
    evening = preset_settings("evening")
    check(evening)
    assert (evening.image_size, evening.batch_size, evening.latent_size) == (96, 48, 100)
    assert evening.generator_widths == (512, 256, 128, 64)
    assert evening.discriminator_widths == (64, 128, 256, 512)
    assert (evening.learning_rate, BETA1) == (1e-4, 0.5)
    assert evening.flip


def test_the_preset_quick_is_evening_with_narrower_networks_and_smaller_batches():
    quick, evening = preset_settings("quick"), preset_settings("evening")
    same = dict.fromkeys(("preset", "generator_widths", "discriminator_widths", "batch_size"))
    assert replace(quick, **{name: getattr(evening, name) for name in same}) == evening
    for name in ("generator_widths", "discriminator_widths"):
        assert all(np.less(getattr(quick, name), getattr(evening, name)))
    assert quick.batch_size == 32


def test_the_preset_textbook_is_the_textbook_form():
    textbook, evening = preset_settings("textbook"), preset_settings("evening")
    assert (textbook.normalisation, textbook.head_scale, textbook.beta2) == ("batch", 1, 0.999)
    assert (textbook.augmentation, textbook.negatives, textbook.ema_half_life) == ("none", 0, 0)
    assert textbook.batch_size == 96
    same = ("generator_widths", "image_size", "learning_rate", "flip")
    assert [getattr(textbook, name) for name in same] == [getattr(evening, name) for name in same]


@pytest.mark.parametrize(
    ("size", "nearest"),
    [
        *((100, "96 or 112"), (16, "32"), (300, "256"), (0, "32"), (-96, "32"), (31, "32"), (257, "256")),
        *((33, "32 or 48"), (47, "32 or 48"), (255, "240 or 256"), (104, "96 or 112"), (95, "80 or 96")),
    ],
)
def test_an_invalid_size_is_refused_with_the_nearest_valid_ones(size, nearest):
    message = refusal(check, replace(Settings(), image_size=size))
    assert message.startswith("--image-size ")
    assert message.endswith(f"not {size}; nearest: {nearest}")


def test_every_multiple_of_16_from_32_to_256_is_valid():
    for size in (32, 48, 64, 80, 96, 112, 128, 144, 160, 176, 192, 208, 224, 240, 256):
        check(replace(Settings(), image_size=size))


NAN, INFINITY = float("nan"), float("inf")
OUT_OF_RANGE = {
    "batch_size": (1, 0, -5, 33),
    "seed": (-1, 2**63),
    "steps": (-1, 0),
    "minutes": (0, -1.0, NAN, INFINITY),
    "workers": (-1,),
    "held_out": (-0.1, 0.6, NAN),
    "latent_size": (0, -100, MAX_WIDTH + 1),
    "pack": (0, -2, 17),
    "generator_widths": ((250, 150, 0, 54), (-1, 1, 1, 1), (1, 1, MAX_WIDTH + 1, 1)),
    "discriminator_widths": ((64, 128, 256, 0),),
    "head_scale": (0, -1, NAN, INFINITY),
    "learning_rate": (0, -1e-4, NAN, INFINITY),
    "beta2": (-0.1, 1, NAN),
    "negatives": (-0.1, 0.6, NAN),
    "ema_half_life": (-1, NAN, INFINITY),
    "log_every": (0, -1),
    "sample_every": (0, -1),
    "score_every": (0, -1),
    "checkpoint_every": (0, -1),
    "keep": (0, -1),
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in OUT_OF_RANGE.items() for value in values]
)
def test_a_value_out_of_range_is_refused_with_its_flag(name, value):
    message = refusal(check, replace(Settings(), **{name: value}))
    assert message.startswith(f"{flag(name)} must be ")
    shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
    assert f", not {shown}" in message


def test_the_bounds_of_ranges_are_valid():
    check(
        replace(
            Settings(), batch_size=2, seed=0, steps=1, workers=0, beta2=0.0,
            ema_half_life=0.0, log_every=1, sample_every=1, score_every=1, checkpoint_every=1,
            keep=1, held_out=0.0,
            latent_size=1, generator_widths=(1, 1, 1, 1), discriminator_widths=(1, 1, 1, 1),
        )
    )  # fmt: skip


@given(VALID)
def test_settings_survive_a_round_trip_through_json(settings):
    check(settings)
    loaded = from_json(json.loads(json.dumps(to_json(settings))))
    assert loaded == settings
    for field in fields(Settings):
        assert type(getattr(loaded, field.name)) is type(getattr(settings, field.name))


def test_an_integer_is_valid_for_a_float():
    settings = from_json(edited(minutes=15, ema_half_life=0))
    assert (settings.minutes, settings.ema_half_life) == (15.0, 0.0)
    assert type(settings.minutes) is float


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("steps", "many"), ("steps", 1.5), ("steps", True), ("seed", None), ("flip", 1), ("flip", "yes")),
        *(("learning_rate", "fast"), ("learning_rate", True), ("learning_rate", 10**400), ("name", 7)),
        *(
            ("preset", "heavy"),
            ("preset", ["light"]),
            ("device", None),
            ("normalisation", ["batch"]),
            ("cache", 3),
        ),
        *(("generator_widths", wrong) for wrong in ([250, 150, 90], [1, 2, 3, "x"], [1, 2, 3, 4.5])),
        *(("generator_widths", wrong) for wrong in ("abcd", 5, {"a": 1})),
        *(("augmentation", 3), ("augmentation", "colour"), ("augmentation", None)),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(name, value):
    assert f"setting {name}" in refusal(from_json, edited(**{name: value}))


def test_a_file_with_a_value_out_of_range_is_refused():
    assert "--image-size must be" in refusal(from_json, edited(image_size=100))


EARLIER = {
    "plain": False, "accumulate": 1, "sync_batch_norm": True, "cuda_graph": False, "memory_share": 0.5,
    "updates": "simultaneous", "beta1": 0.5, "weight_decay": 0.0, "augmentation": ["translation"],
    "augmentation_target": 0.7, "histogram_every": 100,
}  # fmt: skip
"""Settings in the config.json of an earlier version that no longer exist."""


def test_settings_of_an_earlier_version_are_upgraded():
    assert from_json(edited(**EARLIER)) == Settings()
    assert from_json(edited(**EARLIER | {"augmentation_target": 0.0})).augmentation == "always"
    assert from_json(edited(**EARLIER | {"augmentation": []})).augmentation == "none"
    presets = {"quick": "quick", "light": None, "paper": None, "plain": "textbook", "night": "evening"}
    for before, now in presets.items():
        assert from_json(edited(**EARLIER | {"preset": before})).preset == now
    assert from_json(edited(**EARLIER | {"plain": True, "preset": "light"})).preset == "textbook"
    first = edited(**EARLIER)
    del first["negatives"], first["augmentation_target"], first["accumulate"]
    assert from_json(first) == replace(Settings(), negatives=0.0, augmentation="always")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("updates", "separate"), ("accumulate", 2), ("weight_decay", 0.1), ("beta1", 0.9)),
        *(("augmentation", ["colour"]), ("augmentation_target", 0.5), ("sync_batch_norm", False)),
        *(("augmentation", [["translation"]]), ("augmentation_target", [])),  # edited by hand
    ],
)
def test_a_setting_that_is_no_longer_supported_is_refused(name, value):
    assert "which is no longer supported" in refusal(from_json, edited(**EARLIER | {name: value}))


def test_unknown_and_missing_settings_are_refused_by_name():
    assert refusal(from_json, edited(colour_of_the_sky="blue")).endswith("differs in: colour_of_the_sky")
    values = edited()
    del values["beta2"], values["seed"]
    assert refusal(from_json, values).endswith("differs in: beta2, seed")


def test_every_setting_is_either_resumable_or_affects_results():
    resumable = replace(
        Settings(), folder="x", name="y", output=Path("z"), cache=Path("c"),
        steps=1, minutes=2.0, device="cpu", workers=3, log_every=7, sample_every=8,
        score_every=12, checkpoint_every=9, keep=11,
    )  # fmt: skip
    assert changed(Settings(), resumable, RESUMABLE) == []
    assert changed(Settings(), Settings(), RESUMABLE) == []
    affecting = {
        "batch_size": 94, "image_size": 32, "seed": 1, "precision": "float32", "latent_size": 99,
        "generator_widths": (1, 1, 1, 1), "discriminator_widths": (1, 1, 1, 1), "normalisation": "none",
        "pack": 4, "head_scale": 0.5, "learning_rate": 2e-4, "beta2": 0.9,
        "flip": False, "augmentation": "always", "ema_half_life": 5.0, "preset": "quick", "held_out": 0.1,
        "negatives": 0.1,
    }  # fmt: skip
    for name, value in affecting.items():
        assert changed(Settings(), replace(resumable, **{name: value}), RESUMABLE) == [name]
    assert {field.name for field in fields(Settings)} == RESUMABLE | affecting.keys()
    assert not RESUMABLE & affecting.keys()
    assert set(NETWORK_SETTINGS) <= affecting.keys()


def test_flags_are_written_with_hyphens():
    assert flag("image_size") == "--image-size"


def test_the_settings_tables_have_a_row_for_every_setting():
    rows = []
    for table, title in zip(settings_tables(Settings).split("\n\n"), Settings.GROUPS, strict=True):
        heading, rule, *table_rows = table.splitlines()
        assert heading == f"| {title} options | default | meaning |"
        assert rule == "|---|---|---|"
        rows += table_rows
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert all(len(row) == 3 for row in cells)
    names = ["`FOLDER`", *(f"`{flag(field.name)}`" for field in fields(Settings)[1:])]
    assert sorted(name for name, _, _ in cells) == sorted(names)
    assert all(meaning.endswith(".") or meaning.endswith(".)") for _, _, meaning in cells)
    defaults = {name: default for name, default, _ in cells}
    assert defaults["`--image-size`"] == "`96`"
    assert defaults["`--learning-rate`"] == "`0.0001`"
    assert defaults["`--generator-widths`"] == "`512 256 128 64`"
    assert defaults["`--flip`"] == "`on`"
    assert defaults["`--output`"] == "`outputs`"
    assert defaults["`--name`"] == ""
    meanings = {name: meaning for name, _, meaning in cells}
    assert meanings["`--image-size`"] == "Side of the images in pixels: a multiple of 16 from 32 to 256."
    assert meanings["`--latent-size`"] == "Values in a latent vector, each uniform in [-1, 1]."


def test_there_are_at_most_32_settings():
    assert len(fields(Settings)) <= 32
