import re
from collections import Counter

from reports import SCRIPT, Page, make_folder, query, read, words_of_tile

from sssl.report import summary
from sssl.report.source import Source


def test_nothing_is_loaded_from_elsewhere(report_html):
    for name, value in Page(report_html).attributes:
        if name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            assert value.startswith(("#", "data:image/png;base64,")), value
    assert "://" not in report_html.replace("memory://report", "where the output folder lies")
    assert "@import" not in report_html


def test_what_the_catalog_says_is_text_and_never_markup(report_html):
    assert SCRIPT not in report_html
    assert SCRIPT in Page(report_html).text
    assert f"no {SCRIPT} here" in Page(report_html).text
    assert "happy <3" in Page(report_html).text
    assert not {name for name, _ in Page(report_html).attributes} & {"onload", "onclick"}


def test_the_page_parses_and_has_no_identifier_twice(report_html):
    page = Page(report_html)
    assert (page.unbalanced, page.open) == ([], [])
    identifiers = Counter(value for name, value in page.attributes if name == "id")
    assert [name for name, count in identifiers.items() if count > 1] == []
    assert {
        value[1:] for name, value in page.attributes if name == "href" and value[0] == "#"
    } <= set(identifiers)


def test_every_plot_has_a_text_and_every_table_a_caption(report_html):
    page = Page(report_html)
    assert page.tags["caption"] == page.tags["table"]
    labels = [value for name, value in page.attributes if name == "aria-label"]
    assert page.tags["svg"] <= len([label for label in labels if label])


def test_the_same_tables_make_the_same_page(report_folder, report_truth, report_html):
    assert read(report_folder, report_truth) == report_html


def test_the_summary_says_what_the_tables_say(report_folder, report_html):
    tiles = Page(report_html).tiles
    ((tracks, labelled, abstained, segments, failed, partial),) = query(
        report_folder,
        "select (select count(*) from catalog), (select count(*) from songs), (select"
        " count_if(abstained) from songs), (select count(*) from segments), (select count_if(status"
        " = 'failed') from ledger), (select count_if(status = 'partial') from ledger)",
    )
    ((confident, noisy, relabelled),) = query(
        report_folder,
        "select count_if(partition = 'confident'), count_if(partition = 'noisy'), count_if(l.label"
        " <> inherited_label) from labels l join catalog using (track_id) where split = 'train' and"
        " round = 2",
    )
    warm_up, accepted = query(
        report_folder,
        "select heldout_accuracy, heldout_tracks from rounds where accepted order by round",
    )
    ((published,),) = query(
        report_folder,
        "select avg((s.label = c.label)::int) from songs s join catalog c using (track_id) where"
        " split = 'test'",
    )
    assert tiles["Tracks labelled"] == [str(labelled), f"of {tracks} in the catalog"]
    assert tiles["Abstained"][0] == str(abstained)
    assert tiles["Failed tracks"][0] == str(failed)
    assert (failed, partial) == (6, 1)
    assert tiles["Segments of 3.0 s"][0] == str(segments)
    said = (
        f"of {accepted[1]} tracks; by the model’s mean posterior {accepted[0]:.1%}, after the"
        f" warm-up {warm_up[0]:.1%}"
    )
    assert tiles["Published label, held out"] == [f"{published:.1%}", said]
    share, said = tiles["Segments that look wrong"]
    assert share == f"{noisy / (confident + noisy):.1%}"
    assert re.findall(r"\d+", said) == [str(noisy), str(relabelled)]
    assert noisy


def test_settings_that_differ_from_the_preset_are_named(report_folder, report_html):
    named = ["min_agreement None", "min_separation None"]
    assert summary.nearest_preset(Source.of(*report_folder)) == ("guarded", named)


def test_settings_that_follow_from_the_number_of_tracks_are_no_difference(finished):
    named = summary.nearest_preset(Source.of(finished, finished.latest()))[1]
    assert not [name for name in named if name.startswith("plain_from")]


def test_a_run_without_held_out_tracks_or_failures_or_rounds(in_memory):
    html = read(make_folder(in_memory, (0.8,), held_out=False, defects=False))
    text = " ".join(Page(html).text)
    assert "No track is held out" in text
    assert "there was no round of self-learning after the warm-up" in text
    assert words_of_tile(html, "Failed tracks") == ["0 more are partial"]
    assert "What went wrong" not in text
    assert "nan" not in text.split()
