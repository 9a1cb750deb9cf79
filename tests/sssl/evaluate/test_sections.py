import pandas as pd

from sssl.evaluate.sections import true_labels


def test_the_section_that_covers_the_middle_of_a_segment_names_it():
    sections = pd.DataFrame(
        [("a", 0.0, 10.0, "Q1"), ("a", 10.0, 20.0, "Q2"), ("b", 0.0, 4.0, "Q3")],
        columns=["track_id", "start_s", "end_s", "true_label"],
    )
    rows = pd.DataFrame(
        [("a", 0.0), ("a", 8.0), ("a", 9.0), ("b", 0.0), ("b", 3.0), ("c", 0.0)], columns=["track_id", "start_s"]
    )
    assert true_labels(rows, sections, 3.0).fillna("-").tolist() == ["Q1", "Q1", "Q2", "Q3", "-", "-"]
