import re
from collections import Counter
from dataclasses import asdict, replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from pipelines import judge, relabel, segment, songs
from pipelines.io import Job
from schemas import Catalog, Status
from sssl import plots, report
from sssl.catalog import CatalogConfig, commit_catalog
from sssl.cut import CutTrack, _Cut, ledger_row, segments_table
from sssl.features import MelConfig
from sssl.judge import JudgeConfig
from sssl.presets import GUARDED, PAPER
from sssl.relabel import RelabelConfig
from sssl.score import score_counts, scores_table
from sssl.sql import connect
from sssl.store import Manifest, Snapshot, Store
from sssl.truth import wrong_segments

CLASSES = ("calm & slow", "happy <3", "never")
CUT = MelConfig(mels=8, segment_s=3.0, hop_s=3.0)
PARTS, TRACKS_PER_PART = 2, 14
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


def catalog_rows(held_out):
    """Tracks of two classes by turns; the third class never occurs. One of them is called like a script."""
    names = [f"track-{i:02d}" for i in range(PARTS * TRACKS_PER_PART - 1)] + [SCRIPT]
    return [
        Catalog(
            track_id=name,
            uri=f"/nowhere/{i}.flac",
            label=CLASSES[i % 2],
            split="test" if held_out and i % 4 < 2 and i < 24 else "train",
            group_id=name,
            fold=0,
            expected_s=None,
            locked=False,
            part=i // TRACKS_PER_PART,
            source_fingerprint=None,
        )
        for i, name in enumerate(sorted(names))
    ]


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
    cut = _Cut(np.arange(segments, dtype=np.int32), log_mel, np.full(segments, -20, np.float32))
    return CutTrack(replace(row, decoded_s=3.0 * segments + 0.5, codec=("flac", "mp3", "opus")[seed % 3]), cut)


def posteriors_of(tracks, segments, accuracy, seed):
    """Posteriors that peak at the track's label for `accuracy` of the tracks; in every fifth segment at the other."""
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


def score(store, snapshot, round, accuracy, settings):
    """Commit a model and the scores that it is made to give."""
    inputs = [snapshot.get("catalog"), snapshot.get("segments"), snapshot.get("labels", round)]
    model = store.commit(
        Manifest(
            table="models",
            generation=f"model{round}",
            stage="train",
            round=round,
            config=asdict(settings),
            parents=tuple(sorted(m.ref for m in inputs)),
            files={0: store.write_file(f"models/model{round}/model.safetensors", b"", rows=1)},
            summary={"model_id": f"m{round}"},
        )
    )
    snapshot = snapshot.add(model)
    job = Job.of(store, "score", ("scores",), asdict(GUARDED.score), [*inputs[:2], model], round)
    receipts = []
    for ref in job.list_parts():
        tracks, segments = job.tracks(ref), job.read(ref, "segments", ["track_id", "segment_index"])
        posteriors = posteriors_of(tracks, segments, accuracy, ref.part)
        scores = scores_table(segments, posteriors, tracks, CLASSES, round, f"m{round}")
        receipts.append(job.write(ref.part, {"scores": scores}, score_counts(scores, tracks, CLASSES)))
    return snapshot.add(*job.commit(receipts))


def make_folder(root, accuracies, held_out=True, defects=True, separation=None, settings=GUARDED.train):
    """Make an output folder by the real stages, with made-up audio and models; one round for each accuracy."""
    store = Store.open(str(root), create=True)
    rows = catalog_rows(held_out)
    catalog = commit_catalog(store, rows, CatalogConfig(classes=CLASSES))
    job = Job.of(store, "segment", ("segments", "ledger"), {"cut": asdict(CUT), "toolchain": {}}, [catalog])
    receipts = []
    for part in range(PARTS):
        tracks = [row for row in rows if row.part == part]
        cuts = [cut_of(track, i, defects) for i, track in enumerate(tracks)]
        receipts.append(segment.write_part(job, part, tracks, [cut.ledger for cut in cuts], segments_table(cuts, CUT)))
    snapshot = Snapshot().add(catalog)
    for manifest in job.commit(receipts):
        snapshot = snapshot.add(manifest)
    for round, accuracy in enumerate(accuracies):
        split = RelabelConfig(min_separation=separation)
        snapshot = relabel.run(store, snapshot, relabel.Config(store.root, round, settings=split), ())
        if not judge.has_nothing_to_split(snapshot.get("labels", round)):
            snapshot = score(store, snapshot, round, accuracy, settings)
        snapshot = judge.run(store, snapshot, judge.Config(store.root, round, settings=JudgeConfig()))
    return store, songs.run(store, snapshot, songs.Config(store.root), ())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A warm-up, an accepted and a rejected round, with all sorts of tracks."""
    return make_folder(tmp_path_factory.mktemp("out"), (0.6, 0.9, 0.4))


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """Sections: each track is what its catalog label says for 9 s, then the other class."""
    sections = [
        {"track_id": row.track_id, "start_s": start_s, "end_s": end_s, "true_label": label}
        for row in catalog_rows(held_out=True)
        for start_s, end_s, label in ((0, 9, row.label), (9, 60, CLASSES[1 - CLASSES.index(row.label)]))
    ]
    path = tmp_path_factory.mktemp("truth") / "sections.csv"
    pd.DataFrame(sections).to_csv(path, index=False)
    return str(path)


@pytest.fixture(scope="module")
def html(folder, truth):
    return read(folder, truth)


def read(folder, truth=None):
    store, snapshot = folder
    assert report.write_report(store, snapshot, truth) == store.url("report.html")
    return store.read_bytes("report.html").decode()


class Page(HTMLParser):
    """What a browser would make of the page: attributes, text, tiles, and tags that were not closed in order."""

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
        if not words or not self.open:
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


def test_the_summary_says_what_the_tables_say(folder, html):
    tiles = Page(html).tiles
    ((tracks, labelled, abstained, segments, failed, partial),) = query(
        folder,
        "select (select count(*) from catalog), (select count(*) from songs), (select count_if(abstained) from songs), "
        "(select count(*) from segments), (select count_if(status = 'failed') from ledger), "
        "(select count_if(status = 'partial') from ledger)",
    )
    ((confident, noisy, relabelled),) = query(
        folder,
        "select count_if(partition = 'confident'), count_if(partition = 'noisy'), count_if(l.label <> inherited_label) "
        "from accepted_labels l join catalog using (track_id) where split = 'train'",
    )
    (warm_up, accepted) = query(
        folder, "select heldout_accuracy, heldout_tracks from rounds where accepted order by round"
    )
    ((published,),) = query(
        folder, "select avg((s.label = c.label)::int) from songs s join catalog c using (track_id) where split = 'test'"
    )
    assert tiles["Tracks labelled"] == [str(labelled), f"of {tracks} in the catalog"]
    assert tiles["Abstained"][0] == str(abstained)
    assert tiles["Failed tracks"][0] == str(failed)
    assert (failed, partial) == (6, 1)
    assert tiles["Segments of 3.0 s"][0] == str(segments)
    said = (
        f"of {accepted[1]} tracks; by the model’s mean posterior {accepted[0]:.1%}, after the warm-up {warm_up[0]:.1%}"
    )
    assert tiles["Published label, held out"] == [f"{published:.1%}", said]
    share, said = tiles["Noisy segments"]
    assert share == f"{noisy / (confident + noisy):.1%}"
    assert re.findall(r"\d+", said) == [str(noisy), str(relabelled)]
    assert noisy


def test_each_round_has_a_row_with_its_verdict(folder, html):
    rows = [row for row in Page(html).rows if len(row) == 9 and row[0] in ("0", "1", "2")]
    assert [(row[0], row[1]) for row in rows] == [("0", "accepted"), ("1", "accepted"), ("2", "rejected")]
    table = query(folder, "select confident, noisy, relabelled from rounds order by round")
    assert [tuple(row[5:8]) for row in rows] == [tuple(map(str, row)) for row in table]
    accuracies = [f"{a:.3f}" for (a,) in query(folder, "select heldout_accuracy from rounds order by round")]
    better = f"better: {accuracies[0]} → {accuracies[1]}"
    assert [row[8] for row in rows] == [
        "warm-up",
        better,
        f"held-out accuracy fell from {accuracies[1]} to {accuracies[2]}",
    ]


def test_failures_are_listed_by_reason_and_partial_tracks_apart(html):
    four, rest = ["1 corrupt", "1 denied", "1 missing", "1 not-audio"], "2 for 2 other reasons"
    assert words_of_tile(html, "Failed tracks") == [*four, rest, "1 more is partial: truncated"]


def test_the_published_label_is_compared_with_the_plain_mean(folder, html):
    ((songs, means),) = query(
        folder,
        "with plain as (select track_id, arg_max(name, p) as label from (select track_id, name, avg(probabilities[i]) "
        f"as p from accepted_scores, (select unnest({list(CLASSES)}) as name, unnest([1, 2, 3]) as i) group by all) "
        "group by track_id) select count_if(s.label = c.label), count_if(p.label = c.label) "
        "from songs s join plain p using (track_id) join catalog c using (track_id) where split = 'test'",
    )
    gained = report.summary(report.Source.of(*folder))["gained"]
    assert gained == songs - means
    said = (
        f"{abs(gained)} track{'s' * (abs(gained) != 1)} {'more' if gained > 0 else 'fewer'} than"
        if gained
        else "as many as"
    )
    assert f"{said} by the plain mean posterior" in text_of(html)


def test_an_accuracy_that_did_not_move_is_not_called_better(tmp_path):
    html = read(make_folder(tmp_path, (0.8, 0.8)))
    assert [row[8] for row in Page(html).rows if len(row) == 9 and row[0] == "1"] == ["not worse (0.833)"]


def test_a_round_with_nothing_to_split_is_stopped_and_not_rejected(tmp_path):
    html = read(make_folder(tmp_path, (0.8, 0.2), separation=99.0))
    (row,) = [row for row in Page(html).rows if len(row) == 9 and row[0] == "1"]
    assert (row[1], row[8]) == (
        "stopped: nothing to split",
        "no noisy segment, nothing trained",
    )
    assert ("class", "badge neutral") in Page(html).attributes
    assert ("class", "badge bad") not in Page(html).attributes
    assert "Self-learning found nothing to split, so the warm-up’s labels and model stand" in text_of(html)


def test_confidence_is_called_calibrated_only_where_members_left_tracks_out(tmp_path, html):
    html_of_one = read(make_folder(tmp_path, (0.8,), settings=PAPER.train))
    assert "is calibrated" in text_of(html)
    assert "is not calibrated" in text_of(html_of_one)
    assert "is calibrated" not in text_of(html_of_one)


def test_cross_fitting_is_promised_in_full_for_the_warm_up_only(html, tmp_path):
    assert "in full that holds for round 0 only" in text_of(html)
    assert "in full" not in text_of(read(make_folder(tmp_path, (0.8,))))


def test_the_interval_says_what_it_leaves_out(html, tmp_path):
    warm_up = text_of(read(make_folder(tmp_path, (0.8,))))
    optimistic = "The same tracks decide whether a round is accepted, so this is slightly optimistic"
    assert optimistic in text_of(html)
    assert optimistic not in warm_up
    for text in (text_of(html), warm_up):
        assert "interval takes them as independent, although some may share an artist" in text


def test_noisy_segments_and_posteriors_are_of_different_models(html):
    text = text_of(html)
    assert "The posterior is that of the model after round 1; noisy is what the split made before" in text
    assert "on the losses of round 0" in text


def test_formats_that_are_not_shown_are_counted(folder, monkeypatch):
    monkeypatch.setattr(report, "SHOWN_FORMATS", 1)
    ((shown, rest),) = query(
        folder,
        "with formats as (select codec, count(*) as n from ledger where decoded_s > 0 group by all) "
        "select max(n), sum(n) - max(n) from formats",
    )
    rows = Page(read(folder)).rows
    at = next(i for i, row in enumerate(rows) if row[0] == "and 2 more formats")
    assert (rows[at - 1][3], rows[at][1]) == (str(shown), str(rest))


def test_durations_reach_to_the_longest_track_unless_there_are_many(folder, html, monkeypatch):
    assert "The longest 1%" not in text_of(html)
    monkeypatch.setattr(report, "FEW_TRACKS", 1)
    assert "The longest 1%" in text_of(read(folder))


def test_failed_tracks_come_back_only_if_asked_for(html):
    assert "--retry retryable" in text_of(html)
    assert "tries again" not in text_of(html)


def test_histograms_of_losses_name_their_axes(html):
    assert html.count(">log-odds against the label</text>") == html.count(">segments</text>") > 1


def test_labels_beside_lines_keep_apart_and_in_order():
    values = np.array([0.83, 0.834, 0.6, 1.0, 0.98])
    placed = plots.spread(values, 0.08)
    assert (np.argsort(placed) == np.argsort(values)).all()
    assert np.diff(np.sort(placed)).min() > 0.08 - 1e-9
    assert placed.max() <= 1
    assert plots.spread(np.array([0.2, 0.7]), 0.08) == pytest.approx([0.2, 0.7])


def test_a_rejected_round_leaves_the_labels_of_the_accepted_one(html):
    assert "the labels and the model of round 1 stand" in " ".join(Page(html).text)
    assert 'id="loss1-0-' in html
    assert 'id="loss2-figure' in html
    assert 'id="loss2-0-' not in html


def test_the_histogram_counts_each_loss_that_was_split(folder):
    source = report.Source.of(*folder)
    counts = report.loss_counts(source, 1, "logit")
    by_class = query(
        folder,
        "select inherited_label, count_if(partition = 'confident'), count_if(partition = 'noisy') from labels "
        "join catalog using (track_id) where labels.round = 1 and split = 'train' group by all order by 1",
    )
    assert counts.sum(axis=2).tolist() == [[c, n] for _, c, n in by_class] + [[0, 0]]


def test_the_flow_is_that_of_the_labels_table(folder):
    _, snapshot = folder
    flow = report.flow_of(snapshot.get("labels", 1).summary, CLASSES)
    pairs = query(
        folder,
        "select inherited_label, l.label, count(*) from accepted_labels l join catalog using (track_id) "
        "where split = 'train' group by all",
    )
    assert {(CLASSES[i], CLASSES[j], flow[i, j]) for i, j in np.argwhere(flow)} == set(pairs)


def test_truth_is_measured(folder, truth, html):
    found = wrong_segments(*folder, truth)
    values = {row[0]: row[1] for row in Page(html).rows if len(row) == 3}
    assert values["ROC AUC of the loss"] == f"{found.auc:.3f}"
    assert values["Precision of the noisy partition"] == f"{found.precision:.1%}"
    assert values["Recall of the noisy partition"] == f"{found.recall:.1%}"
    assert values["Wrong segments put right"] == str(found.relabelled_right)
    assert values["Right segments made wrong"] == str(found.relabelled_wrong)
    assert values["Segment accuracy before"] == f"{found.segment_accuracy_before:.1%}"
    assert values["Segment accuracy after"] == f"{found.segment_accuracy_after:.1%}"


def test_the_cost_of_relabelling_is_told_with_its_gain(folder, truth, html):
    found = wrong_segments(*folder, truth)
    net = found.relabelled_right - found.relabelled_wrong
    assert found.relabelled_wrong > 0
    assert net / found.segments == pytest.approx(found.segment_accuracy_after - found.segment_accuracy_before)
    closer = {
        1: "the labels are closer to the truth",
        -1: "the labels are further from the truth",
        0: "nothing was gained",
    }
    assert f"made {found.relabelled_wrong} right ones wrong: {closer[np.sign(net)]}" in text_of(html)
    assert "These true labels were never used in training" in text_of(html)


def test_nothing_is_loaded_from_elsewhere(html):
    for name, value in Page(html).attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("#", "data:image/png;base64,")), value
    assert "://" not in html
    assert "@import" not in html
    assert Page(html).tags["script"] == 0


def test_what_the_catalog_says_is_text_and_never_markup(html):
    assert SCRIPT not in html
    assert SCRIPT in Page(html).text
    assert f"no {SCRIPT} here" in Page(html).text
    assert "happy <3" in Page(html).text
    assert not {name for name, _ in Page(html).attributes} & {"onload", "onclick"}


def test_the_page_parses_and_has_no_identifier_twice(html):
    page = Page(html)
    assert (page.unbalanced, page.open) == ([], [])
    identifiers = Counter(value for name, value in page.attributes if name == "id")
    assert [name for name, count in identifiers.items() if count > 1] == []
    assert {value[1:] for name, value in page.attributes if name == "href" and value[0] == "#"} <= set(identifiers)


def test_every_plot_has_a_text_and_every_table_a_caption(html):
    page = Page(html)
    assert page.tags["caption"] == page.tags["table"]
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert page.tags["svg"] <= len([label for label in labels if label])


def test_the_same_tables_make_the_same_page(folder, truth, html):
    assert read(folder, truth) == html


def test_without_truth_nothing_is_said_about_it(folder):
    html = read(folder)
    assert "Against true sections" not in html
    assert "ROC AUC" not in html


def test_only_the_first_songs_and_failures_are_listed(folder, monkeypatch):
    monkeypatch.setattr(report, "SHOWN_SONGS", 4)
    monkeypatch.setattr(report, "SHOWN_FAILURES", 1)
    source = report.Source.of(*folder)
    ids = [track_id for (track_id,) in query(folder, "select track_id from songs order by 1 limit 4")]
    assert [song["track_id"] for song in report.labels(source)["songs"]] == ids
    assert [row["track_id"] for row in report.health(source)["affected"]] == ["track-03"]


def test_the_tracks_shown_are_the_extremes(folder):
    chosen = report.chosen_tracks(report.Source.of(*folder))
    ranked = query(folder, "select track_id from songs where segments >= 4 order by confidence, track_id")
    assert len(chosen) == report.SHOWN_TRACKS
    least = [track_id for track_id, why in chosen.items() if why == "least confident"]
    noisy = [track_id for track_id, why in chosen.items() if why == "largest share of noisy segments"]
    assert least == [track_id for (track_id,) in ranked if track_id not in noisy][:2]


def test_a_run_without_held_out_tracks_or_failures_or_rounds(tmp_path):
    html = read(make_folder(tmp_path, (0.8,), held_out=False, defects=False))
    text = " ".join(Page(html).text)
    assert "No track is held out" in text
    assert "There was no round of self-learning" in text
    assert words_of_tile(html, "Failed tracks") == ["0 more are partial"]
    assert "What went wrong" not in text
    assert "nan" not in text.split()


def test_a_run_whose_rounds_were_all_rejected(tmp_path):
    html = read(make_folder(tmp_path, (0.8, 0.2)))
    assert "none was accepted" in " ".join(Page(html).text)
    assert 'id="loss1-figure' in html
    assert 'id="flow-' not in html


def test_settings_that_differ_from_the_preset_are_named(folder, html):
    assert report.nearest_preset(report.Source.of(*folder)) == ("guarded", ["min_separation None"])


def test_a_track_of_one_segment_and_one_with_a_gap_can_be_drawn():
    one = np.random.default_rng(0).normal(-40, 9, (1, 8, 94)).astype(np.float16)
    bands = {"timeline": [(0, 3, CLASSES[0])]}
    for log_mel, start_s in ((one, [0.0]), (np.concatenate([one, one]), [0.0, 9.0])):
        posterior = np.full((len(start_s), 3), 1 / 3)
        view = plots.TrackView(np.array(start_s), log_mel, posterior, bands, 3.0, 16000, 512)
        assert plots.track("name", "alt", view, CLASSES).startswith('<svg class="plot" role="img" aria-label="alt"')
        edges, columns = plots._columns(view, start_s[-1] + 3.0)
        middle = (edges[:-1] + edges[1:]) / 2
        gap = (middle > 3.1) & (middle < 8.9)
        assert np.isnan(columns[:, gap]).all()
        assert np.isfinite(columns[:, ~gap & (np.abs(middle - 3) > 0.1) & (np.abs(middle - 9) > 0.1)]).all()


def test_a_strip_shows_each_emotion_for_its_share_of_the_time():
    entries = [(0, 30, "a"), (30, 40, "b"), (40, 60, "a")]
    timeline = [{"start_s": s, "end_s": e, "label": name, "confidence": 0.5} for s, e, name in entries]
    strip = plots.strip(timeline, ("a", "b"))
    assert re.findall(r"M(\d+) 0h(\d+)v", strip) == [("0", "80"), ("80", "27"), ("107", "53")]
    assert "a 0:00 to 0:30, b 0:30 to 0:40" in strip


def test_text_on_a_class_colour_has_enough_contrast():
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for color in plots.CLASS_COLORS:
        dark, bright = sorted((luminance(color), luminance(plots.ink_on(color))))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


def test_wilson_s_interval_is_the_one_in_the_books():
    # Newcombe (1998), Statistics in Medicine 17, method 3: 81 of 263.
    assert report.wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert report.wilson(None, 0) is None


@pytest.mark.parametrize(("seconds", "said"), [(5, "0:05"), (187.4, "3:07"), (3600, "1:00:00"), (59.6, "1:00")])
def test_times_read_like_a_clock(seconds, said):
    assert plots.clock(seconds) == said
