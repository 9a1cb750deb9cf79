import csv
import shutil

import pandas as pd
import pytest
from data_sets import DYNAMIC, MAKERS, STATIC, make_4q, make_deam, make_emomusic, make_pmemo, write

from sssl.catalog.assign import CatalogConfig
from sssl.catalog.read import read_catalog
from sssl.datasets.published import CLASSES, classify, import_set, sections
from sssl.errors import CatalogError

NAMES = list(MAKERS)


def column(found, name):
    """A column of the catalog by track."""
    return dict(zip(found.catalog["track_id"], found.catalog[name], strict=True))


def spans(found):
    return list(found.truth.itertuples(index=False, name=None))


def replace(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "4q",
            dict(
                zip(
                    [f"MT000000000{n}" for n in range(1, 6)],
                    ["Q1", "Q2", "Q3", "Q4", ""],
                    strict=True,
                )
            ),
        ),
        ("pmemo", {"1": "Q1", "4": "Q2", "5": "Q3", "9": "Q4", "12": "", "20": ""}),
        ("emomusic", {"2": "Q1", "3": "Q2", "4": "Q3", "5": "Q4", "7": ""}),
        ("deam", {"2": "Q1", "3": "Q2", "1001": "Q3", "2001": "Q4"}),
    ],
)
def test_quadrants_follow_the_signs_of_valence_and_arousal(name, expected, tmp_path):
    assert column(import_set(name, MAKERS[name](tmp_path), "quadrant"), "label") == expected


@pytest.mark.parametrize("name", NAMES)
def test_the_folder_above_will_do_as_well(name, tmp_path):
    root = MAKERS[name](tmp_path)
    below, above = import_set(name, root, "quadrant"), import_set(name, tmp_path, "quadrant")
    pd.testing.assert_frame_equal(below.catalog, above.catalog)


@pytest.mark.parametrize("name", NAMES)
def test_a_track_is_named_once_and_its_uri_is_its_file(name, tmp_path):
    found = import_set(name, MAKERS[name](tmp_path), "quadrant")
    assert found.catalog["track_id"].is_unique
    for track_id, uri in column(found, "uri").items():
        assert uri.startswith(str(tmp_path))
        assert uri.endswith(f"/{track_id}.mp3")


@pytest.mark.parametrize("name", ["pmemo", "emomusic", "deam"])
@pytest.mark.parametrize("task", CLASSES)
def test_labels_and_sections_have_the_classes_of_the_task(name, task, tmp_path):
    found = import_set(name, MAKERS[name](tmp_path), task)
    assert set(found.catalog["label"]) - {""} <= set(CLASSES[task])
    assert set(found.truth["true_label"]) <= set(CLASSES[task])


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("quadrant", ["Q1", "Q2", "Q3", "Q4", "", "", "", "", "", ""]),
        (
            "valence",
            [
                "positive",
                "negative",
                "negative",
                "positive",
                "positive",
                "negative",
                "",
                "",
                "",
                "positive",
            ],
        ),
        ("arousal", ["high", "high", "low", "low", "", "", "high", "low", "", ""]),
    ],
)
def test_a_point_on_an_axis_has_no_class_where_that_axis_divides(task, labels):
    nan = float("nan")
    plane = [
        (1, 1),
        (-1, 1),
        (-1, -1),
        (1, -1),
        (1, 0),
        (-1, 0),
        (0, 1),
        (0, -1),
        (0, 0),
        (0.1, nan),
    ]
    assert classify(pd.DataFrame(plane, columns=["valence", "arousal"]), task).tolist() == labels


def test_a_track_at_the_midpoint_keeps_its_label_in_the_task_of_the_other_axis(tmp_path):
    root = make_pmemo(tmp_path)  # clip 12 has arousal 0.5
    labels = {task: column(import_set("pmemo", root, task), "label")["12"] for task in CLASSES}
    assert labels == {
        "quadrant": "", "valence": "positive", "arousal": "", "valence-arousal": "",
    }  # fmt: skip
    assert {task: import_set("pmemo", root, task).undecided for task in CLASSES} == {
        "quadrant": 1, "valence": 0, "arousal": 1, "valence-arousal": 1,
    }  # fmt: skip


def test_a_quadrant_gives_the_signs_of_both_axes(tmp_path):
    root = make_4q(tmp_path)
    assert list(column(import_set("4q", root, "valence"), "label").values()) == [
        "positive", "negative", "negative", "positive", "",
    ]  # fmt: skip
    assert list(column(import_set("4q", root, "arousal"), "label").values()) == [
        "high",
        "high",
        "low",
        "low",
        "",
    ]


def test_annotated_tracks_without_file_and_files_without_annotation_are_rows_and_counted(tmp_path):
    found = import_set("4q", make_4q(tmp_path), "quadrant")
    uris, labels = column(found, "uri"), column(found, "label")
    assert (found.missing, found.unannotated, found.undecided) == (1, 1, 0)
    assert uris["MT0000000003"] == str(tmp_path / "MER_audio_taffc_dataset/Q3/MT0000000003.mp3")
    assert labels["MT0000000003"] == "Q3"
    assert labels["MT0000000005"] == ""


def test_flattened_folders_give_the_same_labels(tmp_path):
    root = make_4q(tmp_path)
    before = column(import_set("4q", root, "quadrant"), "label")
    (root / "all").mkdir()
    for path in sorted(root.glob("Q?/*.mp3")):
        path.rename(root / "all" / path.name)
    after = import_set("4q", root, "quadrant")
    assert column(after, "label") == before
    assert column(after, "uri")["MT0000000004"] == str(root / "all/MT0000000004.mp3")


def test_a_quadrant_that_does_not_exist_is_no_label(tmp_path):
    root = make_4q(tmp_path)
    replace(root / "panda_dataset_taffc_annotations.csv", "MT0000000002,Q2", "MT0000000002,Q5")
    found = import_set("4q", root, "quadrant")
    assert column(found, "label")["MT0000000002"] == ""
    assert found.undecided == 1


def test_groups_are_artists_in_any_encoding(tmp_path):
    groups = list(column(import_set("4q", make_4q(tmp_path), "quadrant"), "group_id").values())
    assert groups[0] == groups[1]
    assert groups[0].startswith("Ren")
    assert groups[2:] == ['Crosby, "Stills" & Nash', "Fourth", "Fifth"]


def test_tabs_and_commas_around_artists_do_not_part_them(tmp_path):
    groups = column(import_set("emomusic", make_emomusic(tmp_path), "quadrant"), "group_id")
    assert groups["2"] == groups["3"] == "The Troubadours, Inc."
    assert groups["4"] == "Band 4"


def test_a_track_without_static_labels_still_has_its_artist(tmp_path):
    assert (
        column(import_set("pmemo", make_pmemo(tmp_path), "quadrant"), "group_id")["20"] == "Lorde"
    )


def test_the_sets_of_the_challenge_become_the_split(tmp_path):
    found = import_set("emomusic", make_emomusic(tmp_path), "quadrant")
    assert column(found, "split") == {
        "2": "train",
        "3": "train",
        "4": "train",
        "5": "test",
        "7": "test",
    }


@pytest.mark.parametrize("name", ["4q", "pmemo", "deam"])
def test_sets_without_a_split_leave_it_empty(name, tmp_path):
    assert set(import_set(name, MAKERS[name](tmp_path), "quadrant").catalog["split"]) == {""}


def test_artists_of_deam_come_from_three_differently_named_files(tmp_path):
    found = import_set("deam", make_deam(tmp_path), "quadrant")
    assert column(found, "group_id") == {
        "2": "Nobody",
        "3": "Nobody",
        "1001": "Someone",
        "2001": "Anyone",
    }
    assert len(found.remarks) == 1


def test_deam_without_its_metadata_is_imported_and_says_what_that_means(tmp_path):
    root = make_deam(tmp_path)
    shutil.rmtree(root / "metadata")
    found = import_set("deam", root, "quadrant")
    assert set(found.catalog["group_id"]) == {""}
    assert "one artist may be both in training and in testing" in found.remarks[1]


@pytest.mark.parametrize("name", ["emomusic", "deam"])
def test_the_overlap_of_emomusic_and_deam_is_said(name, tmp_path):
    assert "never train on one" in import_set(name, MAKERS[name](tmp_path), "quadrant").remarks[0]


def test_a_value_holds_for_the_half_second_before_it_and_equal_neighbours_merge(tmp_path):
    found = import_set("pmemo", make_pmemo(tmp_path), "quadrant")
    # 16.5 is not annotated, so nothing is known from 16.0 to 16.5; at 17.5 arousal is at its
    # midpoint.
    assert spans(found) == [
        ("1", 14.5, 15.5, "Q1"),
        ("1", 15.5, 16.0, "Q2"),
        ("1", 16.5, 17.0, "Q2"),
    ]


def test_samples_in_columns_become_sections(tmp_path):
    found = import_set("emomusic", make_emomusic(tmp_path), "quadrant")
    assert spans(found) == [
        ("2", 14.5, 15.5, "Q1"), ("2", 15.5, 16.0, "Q2"), ("3", 14.5, 15.0, "Q4"),
        ("3", 15.5, 16.0, "Q1"),
    ]  # fmt: skip


def test_rows_of_deam_that_are_shorter_or_longer_than_the_header_are_read(tmp_path):
    found = import_set("deam", make_deam(tmp_path), "quadrant")
    assert spans(found) == [("2", 14.5, 15.5, "Q1"), ("2001", 14.5, 17.0, "Q4")]


def test_an_axis_that_is_annotated_alone_still_gives_its_sections(tmp_path):
    root = make_deam(tmp_path)
    arousal = root / "DEAM_Annotations" / DYNAMIC / "arousal.csv"
    replace(arousal, "2,0.2,0.3\n", "")
    assert spans(import_set("deam", root, "valence"))[0] == ("2", 14.5, 15.5, "positive")
    assert "2" not in set(import_set("deam", root, "quadrant").truth["track_id"])


def test_sections_of_a_track_never_overlap_and_neighbours_differ():
    time_s = [15 + n / 2 for n in range(60)]
    wave = [1.0 if n // 7 % 2 else -1.0 for n in range(60)]
    frames = pd.DataFrame(
        {"track_id": "a", "time_s": time_s, "valence": wave, "arousal": 1.0}
    ).sample(frac=1, random_state=0)
    found = sections(frames, "quadrant")
    assert (found["start_s"].to_numpy()[1:] == found["end_s"].to_numpy()[:-1]).all()
    assert (found["true_label"].to_numpy()[1:] != found["true_label"].to_numpy()[:-1]).all()
    assert (found["start_s"].iloc[0], found["end_s"].iloc[-1]) == (14.5, 44.5)


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("pmemo", ["annotations/dynamic_annotations.csv"]),
        (
            "emomusic",
            ["annotations/arousal_cont_average.csv", "annotations/valence_cont_average.csv"],
        ),
    ],
)
def test_without_annotations_over_time_there_is_no_truth(name, gone, tmp_path):
    root = MAKERS[name](tmp_path)
    for path in gone:
        (root / path).unlink()
    assert import_set(name, root, "quadrant").truth is None


def test_a_set_without_annotations_over_time_has_no_truth(tmp_path):
    assert import_set("4q", make_4q(tmp_path), "quadrant").truth is None


@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("4q", "panda_dataset_taffc_annotations.csv"),
        ("4q", "panda_dataset_taffc_metadata.csv"),
        ("pmemo", "chorus"),
        ("pmemo", "annotations/static_annotations.csv"),
        ("pmemo", "metadata.csv"),
        ("emomusic", "clips_45seconds"),
        ("emomusic", "annotations/static_annotations.csv"),
        ("emomusic", "annotations/arousal_cont_average.csv"),
        ("emomusic", "songs_info.csv"),
        ("deam", "DEAM_audio/MEMD_audio"),
        ("deam", f"DEAM_Annotations/{STATIC}_2000_2058.csv"),
        ("deam", f"DEAM_Annotations/{DYNAMIC}/arousal.csv"),
    ],
)
def test_what_is_not_there_is_named(name, gone, tmp_path):
    path = MAKERS[name](tmp_path) / gone
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(CatalogError, match=rf"{tmp_path}.*: expected .*{path.name} in it or below"):
        import_set(name, tmp_path, "quadrant")


def test_a_folder_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(
        CatalogError, match=r"nowhere: expected panda_dataset_taffc_annotations.csv in it or below"
    ):
        import_set("4q", tmp_path / "nowhere", "quadrant")


def test_a_folder_with_two_sets_is_refused_where_their_files_have_one_name(tmp_path):
    make_pmemo(tmp_path)
    make_emomusic(tmp_path)
    with pytest.raises(
        CatalogError,
        match=r"several annotations/static_annotations.csv.*give the folder of one set",
    ):
        import_set("emomusic", tmp_path, "quadrant")


def test_another_sets_folder_is_refused_with_its_columns(tmp_path):
    root = make_pmemo(tmp_path)
    (root / "chorus").rename(root / "clips_45seconds")
    write(root / "songs_info.csv", "song_id,Artist,Mediaeval 2013 set\n1,x,development\n")
    with pytest.raises(
        CatalogError, match=r"column song_id is missing; it has musicId, Arousal\(mean\)"
    ):
        import_set("emomusic", root, "quadrant")


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        ("pmemo", "annotations/static_annotations.csv", "4,0.7,0.2", "4,0.7,-0.2",
        "has valence -0.2, expected 0 to 1"),
        ("emomusic", "annotations/static_annotations.csv", "3,6,", "3,0.6,",
        "has arousal 0.6, expected 1 to 9"),
    ],
)  # fmt: skip
def test_a_rescaled_set_is_refused_as_its_midpoint_is_elsewhere(
    name, file, old, new, message, tmp_path
):
    root = MAKERS[name](tmp_path)
    replace(root / file, old, new)
    with pytest.raises(CatalogError, match=message):
        import_set(name, root, "quadrant")


def test_a_value_that_is_no_number_is_no_label(tmp_path):
    root = make_emomusic(tmp_path)
    replace(root / "annotations/static_annotations.csv", "3,6,1,4.1,1", "3,n/a,1,4.1,1")
    found = import_set("emomusic", root, "quadrant")
    assert column(found, "label")["3"] == ""
    assert found.undecided == 2


def test_a_track_that_is_annotated_twice_is_refused(tmp_path):
    root = make_pmemo(tmp_path)
    replace(root / "annotations/static_annotations.csv", "4,0.7,0.2", "4,0.7,0.2\n4,0.1,0.2")
    with pytest.raises(CatalogError, match="track '4' is annotated more than once"):
        import_set("pmemo", root, "quadrant")


def test_an_empty_file_is_refused_by_name(tmp_path):
    root = make_pmemo(tmp_path)
    (root / "metadata.csv").write_text("")
    with pytest.raises(CatalogError, match=r"cannot read .*metadata.csv"):
        import_set("pmemo", root, "quadrant")


def test_converted_copies_are_taken_only_where_the_mp3_is_gone(tmp_path):
    root = make_pmemo(tmp_path)
    for clip in ("1", "4"):
        write(root / "chorus" / "wav" / f"{clip}.wav", b"audio")
    (root / "chorus" / "4.mp3").unlink()
    write(root / "chorus" / "._5.mp3", b"left by an archive")
    uris = column(import_set("pmemo", root, "quadrant"), "uri")
    assert len(uris) == 6
    assert uris["1"] == str(root / "chorus/1.mp3")
    assert uris["4"] == str(root / "chorus/wav/4.wav")


def test_layouts_are_what_the_readers_of_csv_take_them_for(tmp_path):
    """A plain reader finds as many cells as names in a row, but for the files of DEAM that are
    ragged."""
    for name, make in MAKERS.items():
        for path in make(tmp_path / name).rglob("*.csv"):
            rows = list(csv.reader(path.read_text("latin-1").splitlines()))
            ragged = "dynamic (per" in str(path) or path.name == "metadata_2014.csv"
            assert ragged or len(set(map(len, rows))) == 1, path


@pytest.mark.parametrize(
    ("name", "track_id", "place"),
    [
        ("pmemo", "1", (0.8, 0.6)),
        ("pmemo", "12", (0.2, 0.0)),
        ("deam", "2", (0.225, 0.275)),
    ],
)
def test_numbers_go_from_minus_one_to_one(name, track_id, place, tmp_path):
    found = import_set(name, MAKERS[name](tmp_path), "valence-arousal")
    assert (column(found, "valence")[track_id], column(found, "arousal")[track_id]) == place
    assert found.catalog["label"].equals(import_set(name, tmp_path, "quadrant").catalog["label"])


def test_a_set_of_quadrants_has_no_numbers_to_give(tmp_path):
    with pytest.raises(
        CatalogError, match="4q has quadrants and no numbers of valence and arousal"
    ):
        import_set("4q", make_4q(tmp_path), "valence-arousal")


def test_an_artist_in_both_sets_of_the_challenge_is_held_out(tmp_path):
    root = make_emomusic(tmp_path)
    info = root / "songs_info.csv"
    info.write_text(info.read_text().replace("Band 5", "Band 4"))
    found = import_set("emomusic", root, "quadrant")
    split = column(found, "split")
    assert split == {"2": "train", "3": "train", "4": "test", "5": "test", "7": "test"}
    assert found.remarks[1].startswith("1 artist has clips in both sets of the challenge: 1 clip")
    found.catalog.to_csv(tmp_path / "emomusic.csv", index=False)
    dealt = read_catalog(str(tmp_path / "emomusic.csv"), None, CatalogConfig())
    rows = dealt.select(["group_id", "split"]).drop_null().to_pylist()
    assert {row["split"] for row in rows if row["group_id"] == "Band 4"} == {"test"}
