"""Output folders made by the real stages of made-up audio and models, and what a browser makes of
their report."""

from collections import Counter
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
from rows import a_track

from pipelines.beam.job import Job
from pipelines.stages import judge, relabel, segment, songs
from pipelines.stages.context import Context
from pipelines.stages.previous import TABLES, PartBefore
from schemas import Catalog, Status, to_arrow
from schemas.summaries import LedgerSummary
from schemas.views import PLACES
from sssl.audio.cut import CutTrack, _Cut, ledger_row
from sssl.audio.mel import MelConfig, as_stored
from sssl.audio.sound import sound_db
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.committed import commit_catalog
from sssl.labels.acceptance import JudgeConfig
from sssl.labels.evidence import EvidenceConfig
from sssl.labels.settings import RelabelConfig
from sssl.model.scores import scores_table, summarize_scores
from sssl.presets import GUARDED
from sssl.report.page import write_report
from sssl.songs.settings import SongConfig
from sssl.store.folder import Store
from sssl.store.manifest import Manifest, Snapshot
from sssl.store.rounds import has_nothing_to_split
from sssl.store.sql import connect

CLASSES = ("calm & slow", "happy <3", "never")
CUT = MelConfig(mels=8, segment_s=3.0, hop_s=3.0)
TRACKS, TRACKS_PER_PART = 28, 14
JUDGING = JudgeConfig()
HALF = SongConfig(abstain_below=0.5)
SCRIPT = "<script>alert(1)</script>"
DEFECTS = {
    "track-03": ("corrupt", 0),
    "track-05": ("truncated", 2),
    "track-07": ("denied", 0),
    "track-11": ("not-audio", 0),
    "track-15": ("silent", 0),
    "track-19": ("unavailable", 0),
    "track-20": ("missing", 0),
}


def catalog_rows(
    held_out, tracks=TRACKS, per_part=TRACKS_PER_PART, uri="/nowhere/{}.flac", locked=()
):
    """Tracks of two classes by turns; the third class never occurs. One of them is called like a
    script. The labels of those that are `locked` are."""
    names = [f"track-{i:02d}" for i in range(tracks - 1)] + [SCRIPT]
    return [
        a_track(
            name,
            uri=uri.format(i),
            label=CLASSES[i % 2],
            split="test" if held_out and i % 4 < 2 and i % TRACKS < 24 else "train",
            part=i // per_part,
            fold=i // 4 % 4,
            locked=name in locked,
        )
        for i, name in enumerate(sorted(names))
    ]


def with_numbers(track, seed):
    """A track with a place in its quadrant."""
    valence, arousal = np.multiply(
        PLACES[track.label], np.random.default_rng(seed).uniform(0.2, 0.9, 2)
    ).tolist()
    return replace(track, valence=valence, arousal=arousal)


def cut_of(track, seed, defects):
    """A cut track: 1 to 9 segments of noise, or what its defect leaves."""
    reason, segments = DEFECTS.get(track.track_id, (None, 1)) if defects else (None, 1)
    segments = segments if reason else 1 + seed % 9
    if not segments:
        return CutTrack(ledger_row(track, Status.FAILED, reason, f"no {SCRIPT} here"))
    rng = np.random.default_rng(seed)
    log_mel = rng.normal(-40, 10, (segments, *CUT.shape)).astype(np.float16)
    status = Status.PARTIAL if reason else Status.OK
    row = ledger_row(track, status, reason, "decoded a part" if reason else None, segments=segments)
    levels = np.full(segments, -20, np.float32), log_mel.mean(axis=2)
    cut = _Cut(
        np.arange(segments, dtype=np.int32), as_stored(log_mel, CUT), *levels, sound_db(log_mel)
    )
    return CutTrack(
        replace(row, decoded_s=3.0 * segments + 0.5, codec=("flac", "mp3", "opus")[seed % 3]), cut
    )


def posteriors_of(tracks, segments, accuracy, seed):
    """Posteriors that peak at the track's label for `accuracy` of the tracks; in every fifth
    segment at the other."""
    rng = np.random.default_rng(seed)
    label = {t.track_id: CLASSES.index(t.label) for t in tracks}
    fails = {t.track_id for t in tracks[round(accuracy * len(tracks)) :]}
    found = []
    for track_id, index in zip(*segments.to_pydict().values(), strict=True):
        wrong = (track_id in fails) != (index % 5 == 4)
        p = 1 / (1 + np.exp(-rng.normal(2.5, 0.6)))
        row = np.full(len(CLASSES), (1 - p) / (len(CLASSES) - 1))
        row[label[track_id] ^ wrong] = p
        found.append(row)
    return np.array(found, np.float32)


def score(store, snapshot, round, accuracy, settings, seed):
    """Commit a model and the scores that it is made to give."""
    inputs = [snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("labels", round)]
    members = inputs[0].summary["folds"] if settings.cross_fit else 1
    labelled = snapshot.about("segments", LedgerSummary).labelled_train_tracks
    model = store.commit(
        Manifest(
            table="models",
            generation=f"model{round}",
            stage="train",
            round=round,
            config=asdict(settings.settled(labelled)),
            parents=tuple(sorted(m.ref for m in inputs)),
            files={
                0: store.write_file(f"models/model{round}/model.safetensors", b"", rows=members)
            },
            summary={"model_id": f"m{round}"},
        )
    )
    snapshot = snapshot.add(model)
    job = Job.of(store, "score", ("scores",), asdict(GUARDED.score), [*inputs[:2], model], round)
    receipts = []
    for ref in job.list_parts():
        tracks, segments = job.tracks(ref), job.read(ref, "segments", ["track_id", "segment_index"])
        posteriors = posteriors_of(tracks, segments, accuracy, seed + ref.part)
        scores = scores_table(segments, posteriors, tracks, CLASSES, round, f"m{round}")
        receipts.append(
            job.write(ref.part, {"scores": scores}, summarize_scores(scores, tracks, CLASSES))
        )
    return snapshot.add(*job.commit(receipts))


def make_folder(
    root,
    accuracies,
    held_out=True,
    defects=True,
    separation=None,
    settings=GUARDED.train,
    song_config=HALF,
    seeds=(0, 0, 0),
    judging=JUDGING,
    task="classes",
    **of_catalog,
):
    """Make an output folder by the real stages, with made-up audio and models; one round for each
    accuracy, whose posteriors are drawn with its seed. With another task than classes tracks have
    numbers on the sides of their quadrants."""
    store = Store.open(str(root), create=True)
    rows = catalog_rows(held_out, **of_catalog)
    if task != "classes":
        rows = [with_numbers(row, seed) for seed, row in enumerate(rows)]
    config = CatalogConfig(classes=CLASSES, task=task)
    catalog = commit_catalog(store, to_arrow(Catalog, rows), config)
    job = Job.of(store, "segment", TABLES, {"cut": asdict(CUT), "toolchain": {}}, [catalog])
    receipts = []
    for part in range(rows[-1].part + 1):
        tracks = [row for row in rows if row.part == part]
        cuts = [cut_of(track, i, defects) for i, track in enumerate(tracks)]
        made = segment.merge(tracks, cuts, PartBefore(store, False), segment.Settings(cut=CUT))
        receipts.append(segment.write_part(job, part, tracks, *made))
    context = Context(store, Snapshot()).add(catalog, *job.commit(receipts))
    for round, (accuracy, seed) in enumerate(zip(accuracies, seeds, strict=False)):
        split = RelabelConfig(
            min_separation=separation, evidence=EvidenceConfig(min_agreement=None)
        )
        context = relabel.run(context, round, split)
        if not has_nothing_to_split(context.snapshot, round):
            context = context.on(
                score(store, context.snapshot, round, accuracy, settings, 100 * seed)
            )
        context = judge.run(context, round, judging)
    return store, songs.run(context, song_config).snapshot


def sections(path):
    """Write true sections: each track is what its catalog label says for 9 s, then the other
    class."""
    rows = [
        {"track_id": row.track_id, "start_s": start_s, "end_s": end_s, "true_label": label}
        for row in catalog_rows(held_out=True)
        for start_s, end_s, label in (
            (0, 9, row.label),
            (9, 60, CLASSES[1 - CLASSES.index(row.label)]),
        )
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return str(path)


def read(folder, truth=None):
    store, snapshot = folder
    assert write_report(store, snapshot, truth) == store.url("report.html")
    return store.read_bytes("report.html").decode()


class Page(HTMLParser):
    """What a browser would make of the page: attributes, text, tiles, and tags that were not closed
    in order."""

    VOID = frozenset({"meta", "br", "img", "link", "input", "hr"})

    def __init__(self, html):
        super().__init__()
        self.open, self.unbalanced, self.attributes, self.tags = [], [], [], Counter()
        self.text, self.tiles, self.rows = [], {}, []
        self._term = None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append((tag, dict(attrs).get("class")))
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td") and self.rows:
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.tags[tag] += 1
        self.attributes += attrs

    def handle_endtag(self, tag):
        if not self.open or self.open.pop()[0] != tag:
            self.unbalanced.append((tag, self.getpos()))

    def handle_data(self, data):
        words = " ".join(data.split())
        if not words or not self.open or self.open[-1][0] == "script":
            return
        self.text.append(words)
        inside = [tag for tag, _ in self.open]
        if self.open[-1][0] == "dt":
            self._term = words
        elif self.open[-1] == ("dd", "number"):
            self.tiles[self._term] = [words]
        elif ("dd", "aside") in self.open:
            self.tiles[self._term].append(words)
        if ("td" in inside or "th" in inside) and self.rows:
            self.rows[-1][-1] = f"{self.rows[-1][-1]} {words}".strip()


def text_of(html):
    return " ".join(Page(html).text)


def words_of_tile(html, name):
    return Page(html).tiles[name][1:]


def query(folder, sql):
    return connect(*folder).execute(sql).fetchall()
