from reports import Page, query, read, text_of, words_of_tile

from sssl.report import health


def test_failures_are_listed_by_reason_and_partial_tracks_apart(report_html):
    four, rest = ["1 corrupt", "1 denied", "1 missing", "1 not-audio"], "2 for 2 other reasons"
    assert words_of_tile(report_html, "Failed tracks") == [
        *four,
        rest,
        "1 more is partial: truncated",
    ]


def test_formats_that_are_not_shown_are_counted(report_folder, monkeypatch):
    monkeypatch.setattr(health, "SHOWN_FORMATS", 1)
    ((shown, rest),) = query(
        report_folder,
        "with formats as (select codec, count(*) as n from ledger where decoded_s > 0 group by all)"
        " select max(n), sum(n) - max(n) from formats",
    )
    rows = Page(read(report_folder)).rows
    at = next(i for i, row in enumerate(rows) if row[0] == "and 2 more formats")
    assert (rows[at - 1][3], rows[at][1]) == (str(shown), str(rest))


def test_durations_reach_to_the_longest_track_unless_there_are_many(
    report_folder, report_html, monkeypatch
):
    assert "The longest 1%" not in text_of(report_html)
    monkeypatch.setattr(health, "FEW_TRACKS", 1)
    assert "The longest 1%" in text_of(read(report_folder))


def test_failed_tracks_come_back_only_if_asked_for(report_html):
    assert "--retry retryable" in text_of(report_html)
    assert "tries again" not in text_of(report_html)


def test_what_to_type_is_set_as_code(report_html):
    assert "Grant read access, then rerun with <code>--retry retryable</code>." in report_html
