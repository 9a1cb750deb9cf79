"""The report in a real browser: quiet, offline, readable for everybody, quick and printable."""

import csv
import re
from itertools import product

import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from browser import A4, DESKTOP, PHONE, opened
from reports import CLASSES, Page, make_folder, query, read, sections

from sssl.evaluate.methods import METRICS, render

LARGE = 10_000
QUICK_MS = 2000
FILTERED_MS = 100
FILTER_MS = """() => [1, 2, 3, 4, 5].map(() => {
  const started = performance.now();
  document.querySelector("#songs [name=label]").click();
  document.body.offsetHeight;
  const filtered = performance.now();
  document.querySelector("#songs [name=label]").click();
  return filtered - started;
})"""
SIZES = {"desktop": DESKTOP, "phone": PHONE}


@pytest.fixture(scope="module")
def report_path(tmp_path_factory):
    """A report of three rounds, with true sections, and with audio that lies beside it."""
    root = tmp_path_factory.mktemp("browser")
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * 8000)
    soundfile.write(root / "any song.wav", noise, 8000)
    folder = make_folder(root / "out", (0.6, 0.9, 0.4), uri=f"{root}/any song.wav")
    read(folder, sections(root / "sections.csv"))
    return root / "out" / "report.html"


@pytest.fixture(scope="module")
def large_path(tmp_path_factory):
    root = tmp_path_factory.mktemp("large")
    read(make_folder(root, (0.6, 0.9), tracks=LARGE, per_part=500))
    return root / "report.html"


def test_the_page_is_quiet_and_asks_for_nothing(browser, report_path):
    with opened(browser, report_path) as found:
        assert found.page.title().startswith("Emotions of")
        assert found.complaints == []
        assert [url for url in found.requests if not url.startswith("data:")] == [
            f"file://{report_path}"
        ]


@pytest.mark.parametrize(("size", "scheme"), list(product(SIZES, ("light", "dark"))))
def test_axe_finds_no_violation(browser, report_path, size, scheme):
    with opened(browser, report_path, SIZES[size], scheme) as found:
        found.page.evaluate(
            "document.querySelectorAll('details').forEach(each => each.open = true)"
        )
        results = Axe().run(found.page)
    assert results.response["passes"]
    assert results.violations_count == 0, results.generate_report()


@pytest.mark.parametrize("size", SIZES)
def test_nothing_runs_out_of_the_page(browser, report_path, size):
    with opened(browser, report_path, SIZES[size]) as found:
        assert found.page.evaluate("document.documentElement.scrollWidth") <= SIZES[size][0]


def test_on_a_phone_only_spectrograms_and_wide_confusions_reach_beyond_the_screen(
    browser, report_path
):
    with opened(browser, report_path, PHONE) as found:
        found.page.evaluate(
            "document.querySelectorAll('details').forEach(each => each.open = true)"
        )
        wide = found.page.evaluate(
            "[...document.querySelectorAll('.scroll:not(:has(.heat, .plotted))')]"
            ".filter(each => each.scrollWidth > each.clientWidth + 1)"
            ".map(each => each.getAttribute('aria-label'))"
        )
        assert wide == []
        label = found.page.locator("#labels .cards tbody td").first
        assert label.evaluate("cell => getComputedStyle(cell, '::before').content") == '"Tracks"'


def test_a_player_starts_at_its_passage(browser, report_path):
    with opened(browser, report_path) as found:
        player = found.page.locator("audio[src*='#t=']:not([src*='#t=0.0'])").first
        start_s, end_s = map(
            float, re.search(r"#t=([\d.]+),([\d.]+)$", player.get_attribute("src")).groups()
        )
        assert start_s > 0
        at_s = player.evaluate("""async player => {
                player.muted = true;
                await player.play();
                return player.currentTime;
            }""")
        assert start_s <= at_s <= end_s
        assert found.complaints == []


def test_it_prints_whole(browser, report_path):
    with opened(browser, report_path, A4) as found:
        found.page.emulate_media(media="print")
        assert found.page.evaluate("document.documentElement.scrollWidth") <= A4[0]
        cut_off = (
            "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth >"
            " each.clientWidth + 1)"
        )
        assert found.page.evaluate(f"{cut_off}.map(each => each.getAttribute('aria-label'))") == []
        assert not found.page.locator("audio").first.is_visible()
        printed = found.page.pdf(format="A4")
    assert printed.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", printed)) > 4


def test_ten_thousand_tracks_open_in_two_seconds(browser, large_path):
    """From the click to the first picture with everything laid out; the best of three, as others
    use the machine."""
    took_ms = []
    for _ in range(3):
        with opened(browser, large_path) as found:
            took_ms.append(
                found.page.evaluate(
                    "new Promise(done => requestAnimationFrame(() => setTimeout(() =>"
                    " done(performance.now()))))"
                )
            )
            assert f"{LARGE:,} tracks" in found.page.locator(".findings").inner_text()
    assert min(took_ms) < QUICK_MS


def test_ten_thousand_tracks_are_filtered_in_a_tenth_of_a_second(browser, large_path):
    """From the click to the new layout; the best of five, as others use the machine."""
    with opened(browser, large_path) as found:
        took_ms = found.page.evaluate(FILTER_MS)
        assert status_of(found.page).startswith("All 9,9")
    assert min(took_ms) < FILTERED_MS


def test_what_is_shown_has_a_limit(large_path, report_path):
    large, small = (Page(path.read_text()) for path in (large_path, report_path))
    assert large.tags["tr"] < 300 + small.tags["tr"]
    plots = [
        sum(value == "plot" for name, value in page.attributes if name == "class")
        for page in (large, small)
    ]
    assert plots[0] <= plots[1] + 5
    assert large_path.stat().st_size < 3_000_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_violation_while_a_song_plays_and_among_ten_thousand(
    browser, report_path, large_path, scheme
):
    for path in (report_path, large_path):
        with opened(browser, path, PHONE, scheme) as found:
            if path is report_path:
                found.page.locator("#songs .play").first.click()
                assert found.page.locator("#player").is_visible()
            found.page.locator("[name=state][value=wrong]").check()
            results = Axe().run(found.page)
            assert results.violations_count == 0, results.generate_report()
            assert found.complaints == []


def shown_ids(page):
    return page.locator("#songs .browser tbody tr").evaluate_all(
        "rows => rows.map(row => row.dataset.trackId)"
    )


def status_of(page):
    return page.locator("#songs [role=status]").inner_text()


def test_the_keyboard_alone_searches_filters_sorts_and_turns_pages(browser, large_path):
    with opened(browser, large_path) as found:
        page = found.page
        everything = status_of(page)
        assert everything.startswith("All 9,9")  # but for those that failed
        first = shown_ids(page)
        page.locator("#songs input[type=search]").focus()
        page.keyboard.type("track-123")
        assert all("track-123" in track_id for track_id in shown_ids(page))
        page.keyboard.press("Tab")  # the first emotion
        page.keyboard.press("Space")
        assert set(page.locator("#songs .browser tbody .chip").all_inner_texts()) == {CLASSES[0]}
        page.locator("#songs button[type=reset]").focus()
        page.keyboard.press("Enter")
        page.wait_for_function(
            "said => document.querySelector('#songs [role=status]').textContent === said",
            arg=everything,
        )
        page.locator("#songs thead button", has_text="Confidence").focus()
        page.keyboard.press("Enter")
        assert page.locator("#songs thead th[aria-sort]").get_attribute("aria-sort") == "ascending"
        assert shown_ids(page) != first
        page.locator("#songs .pager button", has_text="Next").focus()
        page.keyboard.press("Enter")
        assert page.locator("#songs .pager span").inner_text().startswith("51 to 100 of 9,9")
        assert page.evaluate("document.activeElement.textContent") == "Next"
        assert found.complaints == []


def test_filters_show_what_the_tables_say(browser, tmp_path):
    folder = make_folder(tmp_path, (0.6, 0.9))
    read(folder)
    conditions = {
        "abstained": "abstained",
        "wrong": "track_id in (select track_id from suspects)",
        "other": "s.label <> c.label",
    }
    with opened(browser, tmp_path / "report.html") as found:
        for name, condition in conditions.items():
            box = found.page.locator(f"[name=state][value={name}]")
            box.check()
            rows = query(
                folder,
                f"select track_id from songs s join catalog c using (track_id) where {condition}",
            )
            assert sorted(shown_ids(found.page)) == sorted(track_id for (track_id,) in rows)
            box.uncheck()


def test_the_csv_has_what_is_filtered_and_no_cell_that_a_spreadsheet_would_run(browser, tmp_path):
    folder = make_folder(tmp_path, (0.6,), uri="/nowhere/=1+1 {}.flac")
    read(folder)
    with opened(browser, tmp_path / "report.html") as found:
        found.page.locator("#songs [name=label][value='1']").check()
        with found.page.expect_download() as downloaded:
            found.page.locator("#songs button[name=download]").click()
        text = downloaded.value.path().read_text(encoding="utf-8-sig")
    rows = list(csv.DictReader(text.splitlines()))
    ids = query(folder, f"select track_id from songs where label = '{CLASSES[1]}'")
    assert sorted(row["track_id"] for row in rows) == sorted(track_id for (track_id,) in ids)
    assert all(row["file"].startswith("'=1+1") for row in rows)


def test_without_script_the_first_songs_are_listed(browser, report_path):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"file://{report_path}")
    assert page.locator("#songs .without-script table").is_visible()
    assert not page.locator("#songs .filters").is_visible()
    context.close()


def test_a_song_plays_from_where_it_looks_wrong(browser, report_path):
    with opened(browser, report_path) as found:
        button = found.page.locator("#songs td .play").first
        row = button.locator("xpath=ancestor::tr")
        start_s = float(row.get_attribute("data-start-s"))
        button.click()
        player = found.page.locator("#player")
        assert player.get_attribute("data-track-id") == row.get_attribute("data-track-id")
        assert float(player.get_attribute("data-start-s")) == start_s
        found.page.wait_for_function("document.querySelector('#player audio').readyState > 0")
        assert player.locator("audio").evaluate("audio => audio.currentTime") >= start_s
        assert found.complaints == []


def test_a_cursor_moves_over_the_plot_of_the_track_that_plays(browser, report_path):
    with opened(browser, report_path) as found:
        figure = found.page.locator("figure.track").first
        at = "figure => parseFloat(figure.querySelector('.cursor').style.left)"
        figure.locator("audio").first.evaluate(
            "audio => { audio.muted = true; return audio.play(); }"
        )
        found.page.wait_for_function(
            "document.querySelector('figure.track audio').currentTime > 0.5 && "
            "document.querySelector('figure.track .cursor').style.left"
        )
        assert 7.5 < figure.evaluate(at) < 98.5
        assert found.complaints == []


@pytest.mark.parametrize(("size", "scheme"), [("desktop", "light"), ("phone", "dark")])
def test_axe_finds_no_violation_in_a_comparison_of_methods(browser, tmp_path, size, scheme):
    metrics = {metric.name: {"mean": 0.5, "standard_error": 0.01} for metric in METRICS}
    (tmp_path / "evaluation.html").write_text(
        render({"ce": metrics, "guarded": metrics}, {"folds": 5, "seeds": 3})
    )
    with opened(browser, tmp_path / "evaluation.html", SIZES[size], scheme) as found:
        results = Axe().run(found.page)
        assert found.complaints == []
    assert results.violations_count == 0, results.generate_report()
