"""The review page in a real browser: by keyboard alone, every answer in the file, nothing to
complain of."""

import csv
import threading
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from axe_playwright_python.sync_playwright import Axe
from browser import DESKTOP, PHONE
from reports import CLASSES, make_folder

from sssl.report.source import Source
from sssl.review.answers import Answers, by_track
from sssl.review.listening import Listening
from sssl.review.queue import make_queue
from sssl.review.server import Application, listen, server_of
from sssl.review.session import Session
from sssl.songs.settings import SongConfig
from sssl.store.removals import hash_id

RATE_HZ = 8000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Tables with passages that look wrong and songs that abstain, all of the same sound."""
    root = tmp_path_factory.mktemp("review")
    noise = np.random.default_rng(0).normal(0, 0.1, 30 * RATE_HZ)
    soundfile.write(root / "any song.wav", noise, RATE_HZ)
    made = make_folder(
        root / "out",
        (0.6, 0.9),
        uri=f"{root}/any song.wav",
        song_config=SongConfig(abstain_below=0.95),
    )
    return Source.of(*made)


@contextmanager
def served(source, path):
    """Serve a review of what has no answer in a file yet; gives its address and its queue."""
    answers = Answers(path, CLASSES)
    queue = make_queue(source, by_track(answers.standing()))
    listening = Listening()
    removed = set()
    with listen(0) as opened:
        application = Application(
            Session(queue, answers, "ann", lambda: removed), listening, opened.getsockname()[1]
        )
        server = server_of(application, opened)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield SimpleNamespace(
                url=application.url, queue=queue, answers=answers, removed=removed
            )
        finally:
            server.shutdown()
            thread.join()
            listening.close()


@pytest.fixture
def review(folder, tmp_path):
    with served(folder, tmp_path / "corrections.csv") as review:
        yield review


@contextmanager
def opened(browser, url, size=DESKTOP, scheme="light"):
    """Open a window, with what it complains about."""
    viewport = dict(zip(("width", "height"), size, strict=True))
    context = browser.new_context(viewport=viewport, color_scheme=scheme)
    window = SimpleNamespace(page=context.new_page(), complaints=[])
    window.page.on("console", lambda message: window.complaints.append(message.text))
    window.page.on("pageerror", lambda error: window.complaints.append(str(error)))
    window.page.goto(url)
    yield window
    context.close()


def told(page, text):
    """Wait until the page says that something is written down."""
    page.wait_for_function(
        "text => document.querySelector('.told').textContent.includes(text)", arg=text
    )


def rows(review):
    if not review.answers.path.exists():
        return []
    with open(review.answers.path, newline="") as file:
        return [tuple(row)[:5] for row in list(csv.reader(file))[1:]]


def shown(page):
    return page.locator("#card-title").inner_text()


def first(review, kind):
    return next(item for item in review.queue.items if item.kind == kind)


def other_class(label):
    return next(place for place, name in enumerate(CLASSES) if name != label)


def seconds(value):
    return np.format_float_positional(np.float32(value), trim="-")


def test_a_track_that_is_taken_down_while_the_page_is_open_is_said_to_be(browser, review):
    track_id = review.queue.items[0].track_id
    with opened(browser, review.url) as window:
        page = window.page
        assert shown(page) == track_id
        review.removed.add(hash_id(track_id))
        page.keyboard.press("a")
        page.wait_for_function("() => document.querySelector('h2').textContent === 'Taken down'")
        assert "this track was taken down" in page.locator(".failed").inner_text()
        assert not page.locator("audio").is_visible()
        assert not page.locator("[name=accept]").is_visible()
        assert not page.locator("audio").get_attribute("src")
        gone = [item for item in review.queue.items if item.track_id == track_id]
        assert page.locator(".queue li button:disabled").count() == len(gone)
        page.keyboard.press("s")
        page.wait_for_function("() => document.querySelector('h2').textContent !== 'Taken down'")
        assert shown(page) != track_id
        assert page.locator("audio").is_visible()
        assert all("400" in complaint for complaint in window.complaints)  # the answer was refused
    assert rows(review) == []


def test_the_keyboard_alone_accepts_corrects_and_takes_back(browser, review):
    passage, song = review.queue.items[:2]
    assert (passage.kind, song.kind) == ("passage", "song")
    where = (passage.track_id, seconds(passage.start_s), seconds(passage.end_s))
    with opened(browser, review.url) as window:
        page = window.page
        assert shown(page) == passage.track_id
        page.keyboard.press("a")
        told(page, f"is {passage.label}. Written down.")
        assert shown(page) == song.track_id
        wrong = other_class(song.label)
        page.keyboard.press(str(wrong + 1))
        told(page, f"{song.track_id}, the whole song, is {CLASSES[wrong]}. Written down.")
        page.keyboard.press("u")
        told(page, "the whole song, is taken back")
        assert shown(page) == song.track_id
        page.keyboard.press("u")
        told(page, f"{passage.track_id}, ")
        assert shown(page) == passage.track_id
        other = other_class(passage.label)
        page.keyboard.press(str(other + 1))
        told(page, f"is {CLASSES[other]}. Written down.")
        assert window.complaints == []
    assert rows(review) == [
        (*where, passage.label, "ann"),
        (song.track_id, "", "", CLASSES[wrong], "ann"),
        (song.track_id, "", "", "", "ann"),
        (*where, "", "ann"),
        (*where, CLASSES[other], "ann"),
    ]
    standing = {(one.key, one.label) for one in review.answers.standing()}
    assert standing == {((passage.track_id, passage.start_s, passage.end_s), CLASSES[other])}


def test_keys_that_are_pressed_faster_than_answers_are_written_lose_none(browser, review):
    with opened(browser, review.url) as window:
        for _ in range(8):
            window.page.keyboard.press("a")
        for _ in range(100):
            window.page.wait_for_timeout(100)
            if len(rows(review)) == 8:
                break
        assert window.complaints == []
    assert len({row[:3] for row in rows(review)}) == 8


def test_a_passage_of_a_song_is_marked_where_it_plays(browser, review):
    song = first(review, "song")
    with opened(browser, review.url) as window:
        page = window.page
        page.locator(".queue li button", has_text="song").first.click()
        assert shown(page) == song.track_id
        page.wait_for_function("() => document.querySelector('audio').readyState > 0")
        page.evaluate("document.querySelector('audio').currentTime = 1.5")
        page.keyboard.press("[")
        page.evaluate("document.querySelector('audio').currentTime = 4.5")
        page.keyboard.press("]")
        page.keyboard.press("1")
        told(page, f"{song.track_id}, 0:02 to 0:05, is {CLASSES[0]}. Written down.")
        assert window.complaints == []
    ((track_id, start_s, end_s, label, _),) = rows(review)
    assert (track_id, label) == (song.track_id, CLASSES[0])
    assert float(start_s) == pytest.approx(1.5, abs=0.5)
    assert float(end_s) == pytest.approx(4.5, abs=0.5)


def test_a_whole_song_is_corrected_from_one_of_its_passages(browser, review):
    passage = first(review, "passage")
    with opened(browser, review.url) as window:
        window.page.keyboard.press("w")
        window.page.keyboard.press("2")
        told(window.page, f"{passage.track_id}, the whole song, is {CLASSES[1]}.")
    assert rows(review) == [(passage.track_id, "", "", CLASSES[1], "ann")]


def test_an_answer_for_a_song_names_the_passages_that_it_answers_too(browser, review):
    items = review.queue.items
    with_passages = {item.track_id for item in items if item.kind == "passage"}
    place = next(
        number
        for number, item in enumerate(items)
        if item.kind == "song" and item.track_id in with_passages
    )
    with opened(browser, review.url) as window:
        window.page.locator(".queue li button").nth(place).click()
        assert shown(window.page) == items[place].track_id
        window.page.keyboard.press("1")
        told(window.page, "a passage that sounds different needs an answer of its own")
        assert window.complaints == []


def test_a_passage_without_an_end_is_not_written(browser, review):
    with opened(browser, review.url) as window:
        window.page.locator("[name=end]").fill("")
        window.page.locator("#card-title").focus()
        window.page.keyboard.press("a")
        window.page.wait_for_function("() => document.querySelector('.failed').textContent")
        assert (
            "a passage has a start, and an end after it"
            in window.page.locator(".failed").inner_text()
        )
    assert rows(review) == []


def test_a_passage_plays_from_its_start_to_its_end(browser, folder, tmp_path):
    with served(folder, tmp_path / "corrections.csv") as review:
        place, passage = next(
            (place, item)
            for place, item in enumerate(review.queue.items)
            if item.kind == "passage" and item.start_s > 0
        )
        with opened(browser, review.url) as window:
            page = window.page
            page.evaluate("document.querySelector('audio').muted = true")
            page.locator(f".queue li button[data-place='{place}']").click()
            page.wait_for_function("() => !document.querySelector('audio').paused")
            page.evaluate("document.querySelector('audio').playbackRate = 8")
            assert page.evaluate("document.querySelector('audio').currentTime") >= passage.start_s
            page.wait_for_function("() => document.querySelector('audio').paused", timeout=20_000)
            at_s = page.evaluate("document.querySelector('audio').currentTime")
            assert passage.end_s <= at_s < passage.end_s + 4
            assert window.complaints == []


def test_two_windows_lose_no_answer_and_see_each_others(browser, review):
    one_item, other_item = review.queue.items[:2]
    with opened(browser, review.url) as one, opened(browser, review.url) as other:
        one.page.keyboard.press("a")
        told(one.page, "Written down.")
        other.page.keyboard.press("s")
        assert shown(other.page) == other_item.track_id
        other.page.keyboard.press("a")
        told(other.page, "Written down.")
        told(one.page, "Written down.")
        one.page.evaluate("window.dispatchEvent(new Event('focus'))")
        one.page.wait_for_function(
            "() => document.querySelector('li:nth-child(2)').textContent.includes('answered')"
        )
        assert one.complaints == other.complaints == []
    assert [row[0] for row in rows(review)] == [one_item.track_id, other_item.track_id]


def test_a_review_goes_on_where_it_was_left(browser, folder, tmp_path):
    path = tmp_path / "corrections.csv"
    with served(folder, path) as review, opened(browser, review.url) as window:
        window.page.keyboard.press("a")
        told(window.page, "Written down.")
    with served(folder, path) as review, opened(browser, review.url) as window:
        buttons = window.page.locator(".queue li button")
        assert "answered" in buttons.first.inner_text()
        assert buttons.nth(0).get_attribute("aria-current") is None
        said = window.page.locator(".progress").inner_text()
        assert said.endswith(f"of {len(review.queue.items)} have an answer")
        assert not said.startswith("0 ")
        buttons.first.click()
        window.page.locator(".said button").first.click()
        told(window.page, "is taken back")
        assert "answered" not in buttons.first.inner_text()
    assert review.answers.standing() == []


def test_a_server_that_is_gone_is_said_and_nothing_is_lost_silently(browser, folder, tmp_path):
    with served(folder, tmp_path / "corrections.csv") as review:
        context = browser.new_context()
        page = context.new_page()
        page.goto(review.url)
    page.keyboard.press("a")
    page.wait_for_function("() => document.querySelector('.failed').textContent")
    assert "Not written: sssl review does not answer" in page.locator(".failed").inner_text()
    assert rows(review) == []
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_violation_before_and_after_an_answer(browser, review, size, scheme):
    with opened(browser, review.url, size, scheme) as window:
        page = window.page
        page.locator("details").evaluate("each => each.open = true")
        for _ in range(2):
            results = Axe().run(page)
            assert results.violations_count == 0, results.generate_report()
            page.keyboard.press("a")
            told(page, "Written down.")
            page.keyboard.press("k")
            page.wait_for_selector(".said li")
        assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
        assert window.complaints == []
