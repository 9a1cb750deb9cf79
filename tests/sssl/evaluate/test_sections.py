import pandas as pd
import pytest

from sssl.errors import CatalogError
from sssl.evaluate.sections import read_sections, true_labels


def test_the_section_that_covers_the_middle_of_a_segment_names_it():
    sections = pd.DataFrame(
        [("a", 0.0, 10.0, "Q1"), ("a", 10.0, 20.0, "Q2"), ("b", 0.0, 4.0, "Q3")],
        columns=["track_id", "start_s", "end_s", "true_label"],
    )
    rows = pd.DataFrame(
        [("a", 0.0), ("a", 8.0), ("a", 9.0), ("b", 0.0), ("b", 3.0), ("c", 0.0)],
        columns=["track_id", "start_s"],
    )
    assert true_labels(rows, sections, 3.0).fillna("-").tolist() == [
        "Q1",
        "Q1",
        "Q2",
        "Q3",
        "-",
        "-",
    ]


@pytest.mark.parametrize("value", ["0:30", "n/a", "", "inf"])
def test_a_time_that_is_no_number_is_a_sentence(tmp_path, value):
    (tmp_path / "truth.csv").write_text(
        f"track_id,start_s,end_s,true_label,,\na,0,3,Q1,,\na,{value},6,Q2,,\n"
    )
    with pytest.raises(
        CatalogError, match=r"track 'a' has start_s .* expected seconds as a number"
    ):
        read_sections(str(tmp_path / "truth.csv"), ("Q1", "Q2"))


def test_a_label_that_is_no_class_is_a_sentence_and_none_at_all_is_none(tmp_path):
    (tmp_path / "truth.csv").write_text(
        "track_id,start_s,end_s,true_label\na,0,3,Q1\na,3,6,\na,6,9,q2\n"
    )
    path = str(tmp_path / "truth.csv")
    with pytest.raises(CatalogError, match="track 'a' has true_label 'q2', expected one of Q1, Q2"):
        read_sections(path, ("Q1", "Q2"))
    assert read_sections(path, ("Q1", "q2"))["true_label"].fillna("-").tolist() == ["Q1", "-", "q2"]


def test_a_track_or_a_class_may_be_called_as_what_others_take_for_no_value(tmp_path):
    path = tmp_path / "truth.csv"
    path.write_text("track_id,start_s,end_s,true_label\nNA,0,3,None\nnull,3,6,\n")
    found = read_sections(str(path), ("None", "Q2"))
    assert found["track_id"].tolist() == ["NA", "null"]
    assert found["true_label"].fillna("-").tolist() == ["None", "-"]
