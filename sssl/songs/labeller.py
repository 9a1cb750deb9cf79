"""Labelling a file as the pipeline labels a track of its catalog, with a published model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from schemas import Catalog, Song, records
from schemas.summaries import of_today
from sssl.arrays import mean_of_models
from sssl.audio.cut import CutTrack, cut_track
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.catalog.read import new_track
from sssl.errors import Unlabelled
from sssl.model.ensemble import Model, load
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig
from sssl.songs.classifier import SongModel
from sssl.songs.settings import SongConfig
from sssl.songs.song import SongMaker
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, loaded
from sssl.store.rounds import in_use


@dataclass(frozen=True)
class Labeller:
    """The models in use, with the settings that their catalog was cut, scored and labelled with."""

    models: tuple[Model, ...]
    mel: MelConfig
    gate: GateConfig
    score: ScoreConfig
    maker: SongMaker
    sound_version: int | None = None
    """Of the measures that the songs go by; None where they go by the levels of bands."""

    def cutter(self) -> Callable[[Catalog], CutTrack]:
        """Return what decodes and cuts a track as the model needs it, for processes of their own."""
        return partial(cut_track, mel=self.mel, gate=self.gate, sound=self.sound_version)

    def label(self, uri: str, fold: int | None = None, split: str | None = None) -> Song:
        """Decode, cut, score and label a file by what has not seen the labels of a fold and of a split; without them as
        new music is labelled.

        Raises:
            Unlabelled: the file is broken, silent, too short, or gave no usable posterior.
        """
        cut = self.cutter()(new_track(uri, uri))
        song = self.song(cut, fold, split)
        if cut.ledger.reason:
            warnings.warn(f"{uri}: {cut.ledger.reason} ({cut.ledger.detail})", stacklevel=3)
        return song

    def song(self, cut: CutTrack, fold: int | None = None, split: str | None = None) -> Song:
        """Score and label a track that was cut, as `label` does.

        Raises:
            Unlabelled: nothing of it could be cut, or there is no usable posterior.
        """
        track_id = cut.ledger.track_id
        if cut.segments is None:
            raise Unlabelled(track_id, cut.ledger.reason or "", cut.ledger.detail)
        index, log_mel = cut.segments.segment_index, cut.segments.log_mel
        sound = cut.segments.sound_db if cut.segments.sound is None else cut.segments.sound
        own = fold if fold is not None else -1 if self.score.average_members else 0
        folds = np.full(len(index), own)
        found = [posteriors(model, log_mel, folds, self.score, threads=1) for model in self.models]
        probabilities = mean_of_models([one.astype(np.float64) for one in found])
        finite = np.isfinite(probabilities).all(axis=1)
        if not finite.any():
            raise Unlabelled(track_id, "non-finite", "the model gave no usable posterior")
        of = "train" if split is None and fold is not None else split
        start_s = np.asarray(index[finite] * self.mel.start_distance_s, np.float64)
        return self.maker.song(track_id, probabilities[finite], sound[finite].astype(np.float64), start_s, of, fold)


def labeller_of(store: Store, snapshot: Snapshot) -> Labeller:
    """Load what labels a file, once a snapshot.

    Raises:
        StoreError: the folder has no songs yet.
    """
    return _load(store, tuple(manifest.ref for manifest in snapshot.manifests))


@dataclass(frozen=True)
class Recipe:
    """What a labeller is made from: the path in the store of each model's weights, and settings that JSON can hold."""

    weights: tuple[str, ...]
    settings: dict[str, Any]

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> Recipe:
        """Collect the recipe of the models in use.

        Raises:
            StoreError: the folder has no songs yet.
        """
        songs, segments = snapshot.get("songs"), snapshot.get("segments")
        used = in_use(store, snapshot)
        settings = {
            "cut": segments.config["cut"],
            "gate": segments.config["gate"],
            "score": snapshot.get("scores", used.last.round).config,
            "sound_version": segments.config.get("sound"),
            "songs": songs.config,
            "song_model": records.dump(songs.about(SongModel)),
            "classes": list(snapshot.catalog.classes),
            "round": used.last.round,
            "model_id": used.model_id,
        }
        return cls(tuple(snapshot.get("models", row.round).files[0].path for row in used.rounds), settings)


@dataclass(frozen=True)
class _Settings:
    """The settings of a recipe, read back."""

    cut: MelConfig
    gate: GateConfig
    score: ScoreConfig
    songs: SongConfig
    song_model: SongModel
    classes: tuple[str, ...]
    round: int
    model_id: str
    sound_version: int | None = None


def make_labeller(weights: Sequence[bytes], settings: dict[str, Any]) -> Labeller:
    """Make a labeller from the content of each model's file and the settings of its recipe.

    Raises:
        StoreError: the settings are damaged, or a file is no model of ours.
    """
    fitted = settings.get("song_model")
    if isinstance(fitted, dict):
        fitted = of_today(fitted, settings.get("classes", ()))
    found = loaded(_Settings, settings | {"song_model": fitted}, "what the model was logged with")
    maker = SongMaker(
        model=found.song_model,
        settings=found.songs,
        classes=found.classes,
        segment_s=found.cut.segment_s,
        round=found.round,
        model_id=found.model_id,
    )
    return Labeller(tuple(map(load, weights)), found.cut, found.gate, found.score, maker, found.sound_version)


@lru_cache(maxsize=4)
def _load(store: Store, refs: tuple[str, ...]) -> Labeller:
    snapshot = Snapshot(tuple(map(store.named, refs)))
    recipe = Recipe.of(store, snapshot)
    files = {file.path: file for model in snapshot.of("models") for file in model.files.values()}
    return make_labeller([store.read_file(files[path]) for path in recipe.weights], recipe.settings)
