"""Copy what training reads into shuffled shards, where it does not fit into memory.

sssl shards --output OUTPUT --round R [flags] [-- beam options]

`sssl train` does so, too, where it finds none; this is for doing it on many machines before one
with a GPU begins.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Annotated

import apache_beam as beam
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.beam.earlier import known_counts, read_manifest
from pipelines.beam.execute import run_job
from pipelines.beam.job import Job, PartRef
from pipelines.beam.transforms import CommitParts, ListParts, SplitDone
from pipelines.stages.command import StageCommand
from pipelines.stages.context import Context
from pipelines.stages.material import Material
from pipelines.stages.settings_file import IN_FILE, Source
from pipelines.stages.standing import find_earlier, learned_stands
from pipelines.stages.weights import initial_weights, named_by_content
from pipelines.terminal.console import console
from schemas.records import dump
from schemas.summaries import LedgerSummary, ShardsSummary
from sssl.audio.mel import MelConfig
from sssl.catalog.committed import read_labelled, read_part
from sssl.errors import StoreError
from sssl.model.settings import TrainConfig
from sssl.model.shards.make import (
    OF_FEATURES,
    OF_LABELS,
    Sharding,
    examples_table,
    labelled_rows,
    shard_table,
    summarize_examples,
)
from sssl.store.folder import Store
from sssl.store.layout import ref_of_manifest
from sssl.store.manifest import Manifest, PartFile, Receipt
from sssl.store.rounds import has_nothing_to_split, last_accepted

_CHUNK = 8
"""Segments of a track in a layer where an epoch takes all layers: two bags of four."""
_READERS = 8


@dataclass(frozen=True)
class Config:
    """Copy labelled features into shuffled shards, and what a round teaches of them."""

    output: str
    """Output folder of the relabel stage."""
    round: int
    """Round whose labels are taught."""
    source: Source = field(default_factory=Source)
    settings: Annotated[TrainConfig, IN_FILE] = field(default_factory=TrainConfig)


@dataclass(frozen=True)
class ShardJob(Job):
    """A job whose parts are shards. `before` names an earlier generation of them, if there is one:
    a shard stands while the labelled tracks of its parts, and their features, are as they were."""

    sharding: Sharding = Sharding(1, 1, 1)
    bag: int = 1
    before: str | None = None

    def list_parts(self) -> Iterator[PartRef]:
        """List the shards that are not taken over, with the files of their labelled parts."""
        rows = "features" if self.stage == "shards" else "labels"
        files = self.input(rows).files
        made = self.shards_made()
        labelled = labelled_by_part(self.store, self.inputs["catalog"])
        of_shard: dict[int, dict[str, PartFile]] = defaultdict(dict)
        for part in sorted(labelled):
            shard = part // self.sharding.parts
            of_shard[shard][str(part)] = files[part]
        standing = self.standing()
        for shard in range(self.parts):
            if shard in standing:
                continue
            own = of_shard[shard]
            if made:
                own["shard"] = made[shard]
            yield PartRef(shard, own)

    def shards_made(self) -> Mapping[int, PartFile]:
        """Return the files of shards that are an input."""
        if "shards" not in self.inputs:
            return {}
        return self.input("shards").files

    def standing(self) -> dict[int, Receipt]:
        """Return the receipts of shards that are taken over, by reference."""
        if self.before is None:
            return {}
        refs = self.inputs["catalog"], self.inputs["features"]
        return _standing(self.store, self.before, *refs, self.sharding.parts)


def build(root: beam.Pipeline, job: ShardJob) -> None:
    """Wire the pipeline, in which each element is a shard."""
    states = root | ListParts(job) | SplitDone(job)
    write = write_shard if job.stage == "shards" else write_examples
    (states.done, states.todo | beam.Map(write, job)) | CommitParts(job)


def write_shard(ref: PartRef, job: ShardJob) -> Receipt:
    """Write the labelled rows of a shard's parts."""
    catalog = job.input("catalog")
    labelled = {}
    for part, file in _parts_of(ref):
        tracks = read_part(job.store, catalog, part)
        train = [track.track_id for track in tracks if track.split == "train"]
        features = job.store.read_part(file, list(OF_FEATURES))
        labelled[part] = labelled_rows(features, train)
    cut = job.input("features").settings(MelConfig, "cut")
    table = shard_table(labelled, job.sharding, cut)
    summary = ShardsSummary(segments=len(table))
    return job.write(ref.part, {"shards": table}, summary)


def write_examples(ref: PartRef, job: ShardJob) -> Receipt:
    """Write what a round teaches of a shard's rows."""
    shard = job.store.read_part(ref.files["shard"], ["layer", "part", "row", "track_id"])
    parts = _parts_of(ref)

    def read_labels(part: tuple[int, PartFile]) -> tuple[int, pa.Table]:
        number, file = part
        return number, job.store.read_part(file, list(OF_LABELS))

    with ThreadPoolExecutor(_READERS) as threads:  # for their latency, where they lie in a bucket
        labels = dict(threads.map(read_labels, parts))
    catalog = job.input("catalog")
    folds = {}
    for part, _ in parts:
        for track in read_part(job.store, catalog, part):
            folds[track.track_id] = track.fold
    table = examples_table(shard, labels, folds, job.classes)
    summary = summarize_examples(table, job.classes, job.bag)
    return job.write(ref.part, {"examples": table}, summary)


def _parts_of(ref: PartRef) -> list[tuple[int, PartFile]]:
    """List the parts of a shard with their files."""
    return [(int(name), file) for name, file in ref.files.items() if name != "shard"]


def trained_on(context: Context, round: int) -> dict[str, Manifest]:
    """Return the tables that the model of a round is trained on."""
    snapshot = context.snapshot
    inputs = {"catalog": snapshot.get("catalog"), "features": snapshot.features}
    inputs["labels"] = snapshot.get("labels", round)
    if round:
        parent = last_accepted(context.store, snapshot, before=round)
        inputs["models"] = snapshot.get("models", parent.round)
    return inputs


def settle_for_round(
    context: Context, asked: TrainConfig, inputs: Mapping[str, Manifest], round: int
) -> TrainConfig:
    """Return the settings as they are for the labelled tracks that there are.

    What follows the size of the catalog unmakes nothing: a published model that stands, or a
    training that was begun, keeps to its epochs and to the way in which it reads its rows.
    """
    store = context.store
    settled = Material.of(context.snapshot).settled(asked)
    others = asked.begun_as(settled)
    for published in context.published.of("models"):
        made_with = published.settings(TrainConfig)
        kept = {name: getattr(made_with, name) for name in asked.left_open()}
        others.append(replace(settled, **kept))
    for other in others:
        planned = Manifest.plan("models", "train", dump(other), inputs.values(), round)
        earlier = find_earlier(context, planned, inputs)
        stands = earlier is not None and learned_stands(context, earlier, inputs)
        if other != settled and (stands or store.names(planned.ref)):
            return other
    return settled


def make_shards(context: Context, round: int, settings: TrainConfig) -> tuple[Manifest, Manifest]:
    """Copy labelled features to shards, unless they are there, and write what a round teaches of
    them; return the manifests of both."""
    store = context.store
    snapshot = context.snapshot
    catalog = snapshot.get("catalog")
    dealt = snapshot.catalog
    ledger = snapshot.about("segments", LedgerSummary)
    cut = snapshot.features.settings(MelConfig, "cut")
    chunk = settings.track_segments or _CHUNK
    sharding = Sharding.of(ledger, dealt.parts, cut.log_mel_bytes, chunk)
    count = sharding.shards(dealt.parts)

    def run_one(
        planned: Manifest, inputs: Mapping[str, Manifest], before: str | None = None
    ) -> Manifest:
        refs = {name: manifest.ref for name, manifest in inputs.items()}
        job = ShardJob(
            store, (planned,), refs, count, dealt.classes,
            sharding=sharding, bag=settings.bag, before=before,
        )  # fmt: skip
        (made,) = run_job(job, lambda root: build(root, job), context.beam_args)
        return made

    copied = {"catalog": catalog, "features": snapshot.features}
    planned = Manifest.plan("shards", "shards", dump(sharding), copied.values())
    shards = run_one(planned, copied, _newest(store, planned))
    taught = {"catalog": catalog, "labels": snapshot.get("labels", round), "shards": shards}
    config = dump(sharding) | {"bag": settings.bag}
    planned = Manifest.plan("examples", "examples", config, taught.values(), round)
    return shards, run_one(planned, taught)


@lru_cache(maxsize=4)
def labelled_by_part(store: Store, catalog: str) -> dict[int, tuple[str, ...]]:
    """Return the labelled train tracks of the parts that have any."""
    rows = read_labelled(store, read_manifest(store, catalog), ["part", "track_id", "split"])
    train = rows.filter(pc.equal(rows["split"], "train"))
    parts = train["part"].to_pylist()
    track_ids = train["track_id"].to_pylist()
    found: dict[int, list[str]] = defaultdict(list)
    for part, track_id in zip(parts, track_ids, strict=True):
        found[part].append(track_id)
    return {part: tuple(sorted(ids)) for part, ids in found.items()}


def _newest(store: Store, planned: Manifest) -> str | None:
    """Return the newest other generation of shards that are laid out alike."""
    alike = []
    for path in store.find(planned.table):
        ref = ref_of_manifest(path)
        if not ref or ref == planned.ref:
            continue
        manifest = store.manifest_if_whole(ref)
        if manifest is not None and manifest.config == planned.config:
            alike.append(manifest)
    if not alike:
        return None
    # By name, too, so that of two of the same time it is always the same one.
    newest = max(alike, key=lambda manifest: (manifest.created_at, manifest.ref))
    return newest.ref


@lru_cache(maxsize=2)
def _standing(
    store: Store, before: str, catalog: str, features: str, parts: int
) -> dict[int, Receipt]:
    """Return the receipts of the shards that stand, of an earlier generation."""
    shards = read_manifest(store, before)
    try:
        parents = {ref.partition("/")[0]: read_manifest(store, ref) for ref in shards.parents}
    except StoreError:
        return {}  # a vacuum or a takedown deleted what they were made from
    then = labelled_by_part(store, parents.pop("catalog").ref)
    now = labelled_by_part(store, catalog)
    (had_features,) = parents.values()  # `features`, or `segments` of an early schema version
    old = had_features.files
    new = read_manifest(store, features).files
    changed = set()
    for part in then.keys() | now.keys():
        has_same_tracks = then.get(part) == now.get(part)
        if not has_same_tracks or old[part].sha256 != new[part].sha256:
            changed.add(part // parts)
    lost = store.lost(shards)
    unchanged = {shard: file for shard, file in shards.files.items() if shard not in changed}
    stand = {shard: file for shard, file in unchanged.items() if file.path not in lost}
    receipts = {}
    for shard, counts in known_counts(store, before, stand).items():
        receipts[shard] = Receipt(shard, {"shards": stand[shard]}, counts)
    return receipts


def run(context: Context, round: int, settings: TrainConfig) -> None:
    """Run the stage, if the training of the round will read shards; nothing of it is for
    readers."""
    if has_nothing_to_split(context.snapshot, round):
        console.print("nothing to split: no shards")
        return
    # As training does it, which finds the model, and its shards, by what comes of this.
    asked = named_by_content(settings, initial_weights(settings, round))
    inputs = trained_on(context, round)
    settled = settle_for_round(context, asked, inputs, round)
    why_not = _why_none(context, round, asked, settled, inputs)
    if why_not is None:
        make_shards(context, round, settled)
    else:
        console.print(f"{why_not}: no shards")


def _why_none(
    context: Context,
    round: int,
    asked: TrainConfig,
    settled: TrainConfig,
    inputs: Mapping[str, Manifest],
) -> str | None:
    """Say why a round that is trained on `inputs` with `settled` settings needs no shards; None if
    it does."""
    if settled.shards == "never":
        if Material.of(context.snapshot).settled(asked).shards == "never":
            return "labelled features fit into memory (memory_gb)"
        return "the model that is there, or was begun, reads the tables of parts"
    planned = Manifest.plan("models", "train", dump(settled), inputs.values(), round)
    earlier = find_earlier(context, planned, inputs)
    stands = earlier is not None and learned_stands(context, earlier, inputs)
    if stands or context.store.committed(planned) is not None:
        return "the model of the round is there"
    return None


main = StageCommand(
    "shards",
    Config,
    lambda context, config: run(context, config.round, config.settings),
    of_settings=lambda given: {"settings": given.method.train},
).main
