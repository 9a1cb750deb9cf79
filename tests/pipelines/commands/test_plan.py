import pyarrow as pa
import pytest
from rows import a_track

from pipelines.commands.plan import changed_labelled, scoring
from schemas import Catalog, to_arrow


def catalog(**labels):
    return to_arrow(Catalog, [a_track(name, label=label) for name, label in labels.items()])


def with_column(table, name, values):
    at = table.schema.get_field_index(name)
    return table.set_column(at, name, pa.array(values, table.schema.field(at).type))


def test_labelled_tracks_that_are_new_gone_or_changed_are_counted():
    before = catalog(a="Q1", b="Q2", c="Q3", d=None)
    assert changed_labelled(before, before) == 0
    assert changed_labelled(catalog(a="Q1", b="Q2", c="Q3", e=None), before) == 0
    assert changed_labelled(catalog(a="Q1", b="Q3", e="Q4", d="Q1"), before) == 4  # b, c, e, d
    assert changed_labelled(before, catalog(x=None)) == 3


@pytest.mark.parametrize("name", ["source_fingerprint", "uri"])
def test_a_labelled_track_with_another_file_has_changed(name):
    before = catalog(a="Q1", b="Q2")
    assert (
        changed_labelled(with_column(before, name, ["other", before[name][1].as_py()]), before) == 1
    )


def test_a_correction_changes_a_labelled_track():
    before = catalog(a="Q1", b="Q2")
    said = [{"start_s": 1.0, "end_s": 2.0, "label": "Q2"}]
    fields = {f.name for f in before.schema.field("corrections").type.value_type}
    corrected = with_column(before, "corrections", [[{n: said[0].get(n) for n in fields}], None])
    assert changed_labelled(corrected, before) == 1


def test_a_plan_says_what_is_scored_and_why():
    assert scoring(10, 10, 0, False) == "scored: all 10 tracks, as no model is published yet"
    assert scoring(10, 2, 0, True).startswith("scored: the 2 decoded, by the published model")
    assert scoring(10, 2, 1, True).startswith("scored: all 10 tracks by a new model if it trains")
