from reports import CLASSES, Page, make_folder, query, read, text_of

from sssl.presets import PAPER
from sssl.report import health, quality, summary, tracks
from sssl.report.browse import songs
from sssl.report.source import Source
from sssl.songs.settings import SongConfig


def test_the_published_label_is_compared_with_the_plain_mean(report_folder, report_html):
    ((songs, means),) = query(
        report_folder,
        "with plain as (select track_id, arg_max(name, p) as label from (select track_id, name,"
        f" avg(probabilities[i]) as p from accepted_scores, (select unnest({list(CLASSES)}) as"
        " name, unnest([1, 2, 3]) as i) group by all) group by track_id) select count_if(s.label ="
        " c.label), count_if(p.label = c.label) from songs s join plain p using (track_id) join"
        " catalog c using (track_id) where split = 'test'",
    )
    gained = summary.context(Source.of(*report_folder))["gained"]
    assert gained == songs - means
    said = (
        f"{abs(gained)} track{'s' * (abs(gained) != 1)} {'more' if gained > 0 else 'fewer'} than"
        if gained
        else "as many as"
    )
    assert f"{said} by the plain mean posterior" in text_of(report_html)


def test_confidence_is_called_calibrated_only_where_members_left_tracks_out(in_memory, report_html):
    html_of_one = read(make_folder(in_memory, (0.8,), settings=PAPER.train))
    assert "is calibrated" in text_of(report_html)
    assert "is not calibrated" in text_of(html_of_one)
    assert "is calibrated" not in text_of(html_of_one)


def test_the_interval_says_what_it_leaves_out(report_html, in_memory):
    warm_up = text_of(read(make_folder(in_memory, (0.8,))))
    optimistic = "These tracks were used for the verdict on a round, so this is slightly optimistic"
    assert optimistic in text_of(report_html)
    assert optimistic not in warm_up
    for text in (text_of(report_html), warm_up):
        assert "interval takes them as independent, although some may share an artist" in text


def test_only_the_first_songs_and_failures_are_listed(report_folder, monkeypatch):
    monkeypatch.setattr(songs, "LISTED_SONGS", 4)
    monkeypatch.setattr(health, "SHOWN_FAILURES", 1)
    source = Source.of(*report_folder)
    ids = [
        track_id
        for (track_id,) in query(report_folder, "select track_id from songs order by 1 limit 4")
    ]
    assert [song["track_id"] for song in songs.listed(source)] == ids
    assert [row["track_id"] for row in health.context(source)["affected"]] == ["track-03"]


def test_the_tracks_shown_are_the_extremes(report_folder):
    chosen = tracks.chosen_tracks(Source.of(*report_folder))
    ranked = query(
        report_folder,
        "select track_id from songs where segments >= 4 order by confidence, track_id",
    )
    assert len(chosen) in (
        5,
        6,
    )  # two of a kind, or fewer where there are fewer tracks with noisy segments
    least = [track_id for track_id, why in chosen.items() if why == "least confident"]
    noisy = [
        track_id for track_id, why in chosen.items() if why == "largest share of noisy segments"
    ]
    assert least == [track_id for (track_id,) in ranked if track_id not in noisy][:2]


def test_a_given_threshold_is_told_with_what_it_is_worth(report_folder, report_html):
    found = report_folder[1].get("songs").summary["threshold"]
    text = text_of(report_html)
    assert "The threshold of 0.500 was given" in text
    share = found["right_above"] / found["tracks_above"]
    assert (
        f"{found['tracks_above']} lie above it and {found['right_above']} of those are right:"
        f" {share:.1%}" in text
    )
    assert (
        f"at least {found['precision_low']:.1%} with 95% confidence, if tracks are independent"
        in text
    )


def test_a_threshold_for_a_wanted_precision_is_told_with_its_reason(in_memory):
    folder = make_folder(in_memory, (0.9,), song_config=SongConfig(wanted_precision=0.6))
    found = folder[1].get("songs").summary["threshold"]
    text = text_of(read(folder))
    assert found["precision_low"] >= 0.6
    assert (
        f"The threshold of {found['abstain_below']:.3f} is the lowest for which left-out train"
        " tracks show at least 60%" in text
    )
    ((abstained,),) = query(
        folder, f"select count_if(confidence < {found['abstain_below']} or unlike) from songs"
    )
    assert Page(read(folder)).tiles["Abstained"][0] == str(abstained)


def test_where_no_threshold_is_shown_to_do_all_songs_abstain_and_the_page_says_so(in_memory):
    folder = make_folder(in_memory, (0.9,), song_config=SongConfig(wanted_precision=0.99))
    text = text_of(read(folder))
    assert query(folder, "select count(*) from songs where not abstained") == [(0,)]
    assert "All of them abstain: no confidence shows 99% right labels by" in text
    assert (
        "a lower --wanted-precision or a threshold of your own ( --abstain-below ) change that"
        in text
    )
    assert "lies below" not in text


def test_a_reliability_curve_is_of_held_out_tracks_else_of_train_tracks_that_were_left_out(
    report_folder, monkeypatch
):
    text = text_of(read(report_folder))
    assert "Too few labelled tracks for a reliability curve" in text
    ((held_out,),) = query(
        report_folder,
        "select count(*) from songs join catalog using (track_id) where split = 'test'",
    )
    left_out = report_folder[1].get("songs").summary["threshold"]["left_out_tracks"]
    assert held_out < left_out
    monkeypatch.setattr(quality, "FEWEST_FOR_CURVE", left_out)
    assert (
        f"{left_out} train tracks that were left out of the fit (too few are held out), in"
        in text_of(read(report_folder))
    )
    monkeypatch.setattr(quality, "FEWEST_FOR_CURVE", held_out)
    assert f"{held_out} held-out tracks, in 1 bin" in text_of(read(report_folder))


def test_the_reliability_curve_says_its_numbers(report_folder, monkeypatch):
    monkeypatch.setattr(quality, "FEWEST_FOR_CURVE", 1)
    ((confidence, accuracy),) = query(
        report_folder,
        "select avg(confidence), avg((s.label = c.label)::int) from songs s join catalog c using"
        " (track_id) where split = 'test'",
    )
    labels = [value for name, value in Page(read(report_folder)).attributes if name == "aria-label"]
    assert f"Reliability curve: {accuracy:.0%} right at a confidence of {confidence:.0%}" in labels


def test_labels_of_humans_are_no_hits_of_the_model(in_memory, monkeypatch):
    locked = [f"track-{number:02d}" for number in (0, 1, 2, 4, 6)]
    folder = make_folder(
        in_memory, (0.9,), song_config=SongConfig(wanted_precision=0.99), locked=locked
    )
    text = text_of(read(folder))
    assert "All of them but those whose label a listener gave or the catalog locks abstain" in text
    assert "All songs but those whose label a listener gave or the catalog locks abstain" in text
    source = Source.of(*folder)
    shown = tracks.chosen_tracks(source)
    surest = [track_id for track_id, why in shown.items() if why == "most confident"]
    assert surest
    assert not set(surest) & set(locked)
    ((by_model,),) = query(
        folder,
        "select count(*) from songs join catalog using (track_id) where split = 'test' and not"
        " locked",
    )
    monkeypatch.setattr(quality, "FEWEST_FOR_CURVE", 1)
    assert quality.reliability_curve(source)["tracks"] == by_model
