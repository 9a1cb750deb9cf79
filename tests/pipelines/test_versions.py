"""Outputs of other versions of the program: names that stay, fields that come."""

import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pipelines.cli import main
from pipelines.stages import segment
from pipelines.stages.context import Context
from pipelines.stages.previous import Previous
from schemas.records import dump, later
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.audio.sound import sound_features
from sssl.catalog.assign import CatalogConfig
from sssl.config import ConfigError
from sssl.evaluate.planting import Planting
from sssl.presets import GUARDED, PAPER
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, generation_name
from sssl.store.seal import json_bytes, opened_json

NAMES = {
    "relabel": "7a74a9c7898c",
    "relabel as in the paper": "2685bbac069e",
    "train": "873a2429e896",
    "train as in the paper": "f3d8ce6f3126",
    "score": "7fa85f7ee8ab",
    "judge": "914a4dfe0710",
    "songs": "1ed7f9704978",
    "deal": "6bfeb9bb140b",
    "plant": "2c7d2adcf61b",
    "segment": "a28176b55e32",
}


def test_the_defaults_of_today_keep_their_generations_names():
    """A later field breaks this unless it is declared with `later`: then everybody decodes and
    trains again."""
    configs = {
        "relabel": GUARDED.relabel,
        "relabel as in the paper": PAPER.relabel,
        "train": GUARDED.train.settled(labelled_tracks=100),
        "train as in the paper": PAPER.train.settled(labelled_tracks=100),
        "score": GUARDED.score,
        "judge": GUARDED.judge,
        "songs": SongConfig(),
        "deal": CatalogConfig(),
        "plant": Planting(0.3, spans=False, seed=0),
    }
    names = {
        stage: generation_name(stage, 1, dump(config), []) for stage, config in configs.items()
    }
    # Of a folder that schema version 8 or earlier began; new ones have log-mels of bytes.
    cut = MelConfig(stored_as="float16")
    names["segment"] = generation_name(
        "segment", None, {"cut": dump(cut), "gate": dump(GateConfig())}, []
    )
    assert names == NAMES
    # Of a round that was split before there was a second opinion.
    before = dump(GUARDED.relabel.as_before)
    assert generation_name("relabel", 1, before, []) == "b64486dc7994"


@dataclass(frozen=True)
class LaterMelConfig(MelConfig):
    pre_emphasis: float = later(0.0, neutral=0.0)


@dataclass(frozen=True)
class LaterGateConfig(GateConfig):
    on_hum: str = later("keep", neutral="keep")


@dataclass(frozen=True)
class LaterSettings(segment.Settings):
    cut: MelConfig = field(default_factory=LaterMelConfig)
    gate: GateConfig = field(default_factory=LaterGateConfig)


@pytest.fixture
def output(finished, tmp_path):
    """A copy of a finished output, to change."""
    return Store.open(
        str(
            shutil.copytree(
                finished.root, tmp_path / "out", ignore=shutil.ignore_patterns("mlflow*")
            )
        )
    )


DEALT = CatalogConfig(folds=3, tracks_per_part=2)


def test_a_new_setting_at_its_neutral_value_decodes_no_track_again(output, catalog, monkeypatch):
    monkeypatch.setattr("pipelines.stages.segment.run_job", None)  # nothing to run
    published, settings = output.latest(), LaterSettings(deal=DEALT)
    assert segment.run(Context(output, published), catalog, None, settings).snapshot == published
    used = replace(settings, cut=LaterMelConfig(pre_emphasis=0.97))
    assert Previous.of(output, published, used.of_rows()).config_changed


def test_a_new_setting_at_its_neutral_value_is_no_cause_for_a_plan(
    output, catalog, monkeypatch, capfd
):
    later_rows = LaterSettings().of_rows()
    monkeypatch.setattr("pipelines.stages.settings.Settings.of_rows", lambda _: later_rows)
    assert (
        main(
            [
                "plan",
                "--catalog",
                catalog,
                "--output",
                output.root,
                "--folds",
                "3",
                "--tracks-per-part",
                "2",
            ]
        )
        == 0
    )
    said = capfd.readouterr().out
    assert "segments reused" in said
    assert "config changed" not in said


def test_a_new_folder_describes_sound_and_keeps_doing_so(output):
    published = output.latest()
    assert sound_features(output.read_table(published.get("segments"))) is not None
    again = segment.Settings(deal=DEALT).in_folder(output, published)
    new = segment.Settings().in_folder(output, Snapshot())
    assert again.sound_version == new.sound_version == 1
    assert not Previous.of(output, published, again.of_rows()).config_changed
    without = segment.Settings(deal=DEALT, sound_version=0).in_folder(output, published)
    assert Previous.of(output, published, without.of_rows()).config_changed


@pytest.fixture
def before_sound(output):
    """What is published, as it was before there was the column `sound`."""
    published = output.latest()
    config = {
        name: value for name, value in published.get("ledger").config.items() if name != "sound"
    }
    return Snapshot(tuple(replace(manifest, config=config) for manifest in published.manifests))


def test_a_folder_from_before_the_column_sound_is_decoded_again_only_for_who_asks(
    output, before_sound
):
    for asked, decodes in ((None, False), (0, False), (1, True)):
        settings = segment.Settings(deal=DEALT, sound_version=asked).in_folder(output, before_sound)
        assert Previous.of(output, before_sound, settings.of_rows()).config_changed == decodes
        assert settings.sound_version == (1 if decodes else None)


def test_a_version_of_sound_that_there_is_not_is_refused():
    with pytest.raises(ConfigError, match=r"sound.version.*2"):
        segment.Settings(sound_version=2)


def of_tomorrow(value):
    """Add a field to every object of JSON that is a record; what is by part, class or file name is
    none."""
    if isinstance(value, list):
        return [of_tomorrow(item) for item in value]
    if not isinstance(value, dict):
        return value
    changed = {
        name: item if name in NO_RECORDS else of_tomorrow(item) for name, item in value.items()
    }
    return changed | {"of_tomorrow": {"deeper": [1]}} if value.keys() & RECORD_FIELDS else changed


NO_RECORDS = ("params", "tags")
RECORD_FIELDS = {
    "schema_version", "table", "path", "part", "tables", "sha256_of_track_ids", "truth", "runs",
    "started_ms",
    "classes", "rate_hz", "silence_db", "smooth_segments", "views", "consistency", "tau",
    "gain_db", "batch_size",
    "decisive_z", "mean", "coefficients", "abstain_below", "accuracy", "std", "axis",
}  # fmt: skip


@pytest.fixture
def from_tomorrow(output):
    """An output of a later version: every record in it has a field that we do not know."""
    changed = 0
    for path in sorted(Path(output.root).rglob("*.json")):
        before = opened_json(path.read_bytes(), str(path))
        after = of_tomorrow(before)
        changed += after != before
        path.write_bytes(json_bytes(after))
    assert changed > len(output.latest().manifests)
    return output.root


@pytest.mark.parametrize(
    "command",
    [
        ["tables"],
        ["sql", "select count(*) from manifests"],
        ["report"],
        ["songs"],
        ["explain", "--track-id", "Q1_0"],
        ["export", "--format", "jams", "--to", "{out}/jams"],
        ["rollback", "--round", "0"],
        ["mlflow-sync", "--mlflow-uri", "sqlite:///{out}/../mlflow.db"],
        ["takedown", "--track-id", "Q1_0"],
        ["judge", "--round", "1", "--accept-all"],
        ["score", "--round", "0"],
    ],
    ids=lambda command: command[0],
)
def test_an_output_with_fields_of_the_future_is_read_by_every_command(
    command, from_tomorrow, tmp_path
):
    name, *flags = (word.replace("{out}", str(tmp_path)) for word in command)
    assert main([name, "--output", from_tomorrow, *flags]) == 0
