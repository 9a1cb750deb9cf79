"""Labelling a file as the pipeline labels a track of its catalog, with a published model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from schemas import Catalog, Song, records
from schemas.summaries import of_today
from sssl.arrays import Floats, mean_of_models
from sssl.audio.cut import CutTrack, cut_track
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig
from sssl.catalog.read import new_track
from sssl.embedding.decoding import CutWithWave, cut_with_wave
from sssl.embedding.embedder import Embedder
from sssl.embedding.settings import Origin, Remembered
from sssl.errors import Unlabelled
from sssl.model.ensemble import Model, load
from sssl.model.score import posteriors
from sssl.model.settings import ScoreConfig
from sssl.runtime.machine import cores
from sssl.songs.classifier import SongModel
from sssl.songs.settings import SongsMade
from sssl.songs.song import SongMaker
from sssl.store.folder import Store
from sssl.store.manifest import Snapshot, loaded
from sssl.store.rounds import in_use
from sssl.urls import without_secrets


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
    embedder: Embedder | None = None
    """Of the front-end that the songs go by, if they go by one."""
    timeline_to_end: bool = False
    """Whether timelines last until their tracks end, as in the catalog's songs."""
    waves: TemporaryDirectory[str] | None = None
    """Where samples for it lie until they are embedded."""

    def cutter(self) -> Callable[[Catalog], CutTrack]:
        """Return what decodes and cuts a track as the model needs it, for processes of their
        own."""
        if self.embedder is None or self.waves is None:
            return partial(cut_track, mel=self.mel, gate=self.gate, sound=self.sound_version)
        return partial(
            cut_with_wave,
            mel=self.mel,
            gate=self.gate,
            sound=self.sound_version,
            rate_hz=self.embedder.rate_hz,
            folder=self.waves.name,
        )

    def label(self, uri: str, fold: int | None = None, split: str | None = None) -> Song:
        """Decode, cut, score and label a file by what has not seen the labels of a fold and of a
        split; without them as new music is labelled.

        Raises:
            Unlabelled: the file is broken, silent, too short, or gave no usable posterior.
        """
        cut = self.cutter()(new_track(uri, uri))
        song = self.song(cut, fold, split)
        if cut.ledger.reason:
            shown = without_secrets(uri)
            warnings.warn(f"{shown}: {cut.ledger.reason} ({cut.ledger.detail})", stacklevel=3)
        return song

    def song(self, cut: CutTrack, fold: int | None = None, split: str | None = None) -> Song:
        """Score and label a track that was cut, as `label` does.

        Raises:
            Unlabelled: nothing of it could be cut, or there is no usable posterior.
        """
        track_id = cut.ledger.track_id
        shown = without_secrets(track_id)  # of a file that is in no catalog it is the URI
        if cut.segments is None:
            raise Unlabelled(shown, cut.ledger.reason or "", cut.ledger.detail)
        embedding = self._embedding(cut)
        index = cut.segments.segment_index
        log_mel = cut.segments.log_mel
        sound = cut.segments.sound_db if cut.segments.sound is None else cut.segments.sound
        # Without a fold no member has seen the track: all of them score it, or the first one.
        own = fold if fold is not None else -1 if self.score.average_members else 0
        folds = np.full(len(index), own)
        found = [posteriors(model, log_mel, folds, self.score, threads=1) for model in self.models]
        probabilities = mean_of_models([one.astype(np.float64) for one in found])
        # As in the pipeline, a segment that a model gives no posterior is left out.
        finite = np.isfinite(probabilities).all(axis=1)
        if not finite.any():
            raise Unlabelled(shown, "non-finite", "the model gave no usable posterior")
        of = "train" if split is None and fold is not None else split
        start_s = np.asarray(index[finite] * self.mel.start_distance_s, np.float64)
        return self.maker.song(
            track_id,
            probabilities[finite],
            sound[finite].astype(np.float64),
            start_s,
            of,
            fold,
            None if embedding is None else embedding[finite],
            decoded_s=cut.ledger.decoded_s if self.timeline_to_end else None,
        )

    def _embedding(self, cut: CutTrack) -> Floats | None:
        """Return the embeddings [N, D] of a track's segments, NaN where there are none; None where
        no front-end counts."""
        if self.embedder is None or cut.segments is None:
            return None
        assert isinstance(cut, CutWithWave)
        index = cut.segments.segment_index.astype(np.float64)
        # NaN is an opinion of nothing, which the song's classifier can do without.
        if cut.wave is None or cut.wave.reason is not None:
            return np.full((len(index), self.embedder.dimension), np.nan)
        with cut.wave.samples() as samples:
            found, _ = self.embedder.embed(samples, index * self.mel.start_distance_s)
        return found.astype(np.float64)


def labeller_of(
    store: Store, snapshot: Snapshot, front_end: str | None = None, accept_licence: bool = False
) -> Labeller:
    """Load what labels a file, once a snapshot; `front_end` says where that of its songs is now,
    `accept_licence` that it may have become non-commercial since.

    Raises:
        StoreError: the folder has no songs yet.
        FrontEndError: the songs go by a front-end that is not at hand, or may not be used.
    """
    refs = tuple(manifest.ref for manifest in snapshot.manifests)
    return _load(store, refs, front_end, accept_licence)


@dataclass(frozen=True)
class Recipe:
    """What a labeller is made from: the path in the store of each model's weights, and settings
    that JSON can hold."""

    weights: tuple[str, ...]
    settings: dict[str, Any]

    @classmethod
    def of(cls, store: Store, snapshot: Snapshot) -> Recipe:
        """Collect the recipe of the models in use.

        Raises:
            StoreError: the folder has no songs yet.
        """
        songs = snapshot.get("songs")
        segments = snapshot.get("segments")
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
        for embeddings in snapshot.of("embeddings"):
            if embeddings.ref in songs.parents:
                remembered = Remembered.of(embeddings.about(Origin), embeddings.config)
                settings["front_end"] = records.dump(remembered)
        return cls(
            tuple(snapshot.get("models", row.round).files[0].path for row in used.rounds), settings
        )


@dataclass(frozen=True)
class _Settings:
    """The settings of a recipe, read back."""

    cut: MelConfig
    gate: GateConfig
    score: ScoreConfig
    songs: SongsMade
    song_model: SongModel
    classes: tuple[str, ...]
    round: int
    model_id: str
    sound_version: int | None = None
    front_end: Remembered | None = None


def make_labeller(
    weights: Sequence[bytes],
    settings: dict[str, Any],
    front_end: str | None = None,
    accept_licence: bool = False,
) -> Labeller:
    """Make a labeller from the content of each model's file and the settings of its recipe;
    `front_end` says where that of its songs is now, `accept_licence` that it may have become
    non-commercial since.

    Raises:
        StoreError: the settings are damaged, or a file is no model of ours.
        FrontEndError: the songs go by a front-end that is not at hand, or may not be used.
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
    labeller = Labeller(
        tuple(map(load, weights)),
        found.cut,
        found.gate,
        found.score,
        maker,
        found.sound_version,
        timeline_to_end=found.songs.timeline_to_end,
    )
    if found.front_end is None:
        return labeller
    allowed = found.front_end.found(front_end, accept_licence)
    embedder = Embedder(allowed, found.cut.segment_s, cores())
    return replace(labeller, embedder=embedder, waves=TemporaryDirectory(prefix="sssl-label-"))


@lru_cache(maxsize=4)
def _load(
    store: Store, refs: tuple[str, ...], front_end: str | None, accept_licence: bool
) -> Labeller:
    snapshot = Snapshot(tuple(map(store.named, refs)))
    recipe = Recipe.of(store, snapshot)
    files = {file.path: file for model in snapshot.of("models") for file in model.files.values()}
    weights = [store.read_file(files[path]) for path in recipe.weights]
    return make_labeller(weights, recipe.settings, front_end, accept_licence)
