import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from schemas.records import RecordError, dump, later, load
from sssl.labels.settings import RelabelConfig
from sssl.presets import PAPER, PRESETS, Preset


@dataclass(frozen=True)
class Window:
    kind: Literal["hann", "box"] = "hann"
    length: int = 1024


@dataclass(frozen=True)
class Settings:
    name: str
    window: Window = field(default_factory=Window)
    classes: tuple[str, ...] = ("Q1", "Q2")
    limit_s: float | None = None
    files: dict[int, Window] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LaterWindow(Window):
    """`Window` as a later version has it: tapered by default, which it was not before."""

    taper: float = later(0.1, neutral=0.0)


@dataclass(frozen=True)
class LaterSettings:
    """`Settings` as a later version has them."""

    name: str
    window: LaterWindow = field(default_factory=LaterWindow)
    before: LaterWindow | None = None
    windows: tuple[LaterWindow, ...] = ()
    by_part: dict[int, LaterWindow] = field(default_factory=dict)
    scale: float = later(1.0, neutral=1.0)


def through_json(kind, record):
    return load(kind, json.loads(json.dumps(dump(record))))


def test_a_record_is_read_back_as_it_was():
    record = Settings(
        "a", Window("box", 2), ("b", "c/d"), 1.5, {3: Window(), 12: Window("box")}, {"x": [1, None]}
    )
    assert through_json(Settings, record) == record


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_read_back_as_it_was(preset):
    assert through_json(Preset, PRESETS[preset]) == PRESETS[preset]


def test_fields_that_are_unknown_are_passed_over_at_every_depth():
    values = {"name": "a", "of_tomorrow": 1, "window": {"length": 5, "of_tomorrow": []}}
    assert load(Settings, values) == Settings("a", Window("hann", 5))


def test_a_missing_field_has_its_default():
    assert load(Settings, {"name": "a"}) == Settings("a")


def test_fields_of_today_are_written_although_they_are_at_their_defaults():
    assert dump(Window()) == {"kind": "hann", "length": 1024}


def test_a_later_field_is_not_written_at_its_neutral_value():
    assert dump(LaterWindow(taper=0.0)) == dump(Window())
    assert dump(LaterWindow()) == dump(Window()) | {"taper": 0.1}
    assert dump(LaterSettings("a", LaterWindow(taper=0.0)))["window"] == dump(Window())


def test_a_record_without_a_later_field_is_read_as_what_was_done_then_not_as_the_default_of_today():
    old = dump(Window())
    neutral = LaterWindow(taper=0.0)
    assert load(LaterWindow, old) == neutral
    values = {"name": "a", "window": old, "before": old, "windows": [old], "by_part": {"3": old}}
    assert load(LaterSettings, values) == LaterSettings(
        "a", neutral, neutral, (neutral,), {3: neutral}
    )


@pytest.mark.parametrize("taper", [0.0, 0.1, 0.5])
def test_a_later_field_is_read_back_as_it_was(taper):
    record = LaterSettings("a", LaterWindow(taper=taper), LaterWindow(taper=taper), scale=taper)
    assert through_json(LaterSettings, record) == record


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({}, "Settings: object missing required field `name`"),
        ({"name": 1}, "Settings.name: expected `str`, got `int`"),
        (
            {"name": "a", "window": {"length": "5"}},
            "Settings.window.length: expected `int`, got `str`",
        ),
        (
            {"name": "a", "window": {"length": True}},
            "Settings.window.length: expected `int`, got `bool`",
        ),
        (
            {"name": "a", "window": {"kind": "round"}},
            "Settings.window.kind: invalid enum value 'round'",
        ),
        ({"name": "a", "window": 5}, "Settings.window: expected `object`, got `int`"),
        ({"name": "a", "classes": "Q1"}, "Settings.classes: expected `array`, got `str`"),
        ({"name": "a", "files": {"one": {}}}, "key in Settings.files: expected `int`, got `str`"),
        ([], "Settings: expected `object`, got `array`"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence_that_names_the_field(values, said):
    with pytest.raises(RecordError) as refused:
        load(Settings, values)
    assert str(refused.value) == said


@pytest.mark.parametrize(
    "values",
    [{"name": "a", "window": 5}, {"name": "a", "windows": {}}, {"name": "a", "by_part": []}, 5],
)
def test_what_does_not_fit_is_refused_where_fields_came_later_too(values):
    with pytest.raises(RecordError, match="LaterSettings"):
        load(LaterSettings, values)


def test_a_config_of_an_older_version_lacks_what_came_later():
    older = {name: value for name, value in dump(PAPER.relabel).items() if name != "evidence"}
    assert load(RelabelConfig, older).evidence == RelabelConfig().evidence
