import shutil

import pytest
from reports import Page, read

from sssl.report import audio
from sssl.report.audio import Passage
from sssl.store.folder import Store
from sssl.store.media.bucket import Bucket
from sssl.store.media.disk import Disk


def test_passages_are_runs_of_segments_that_changed_to_the_same_label():
    segments = [
        (0, "a", "a"),
        (3, "a", "b"),
        (6, "a", "b"),
        (9, "a", "c"),
        (12, "a", "a"),
        (15, None, None),
    ]
    assert audio.passages(segments, 3.0, most=5) == [
        Passage(3, 9.0, "a", "b"),
        Passage(9, 12.0, "a", "c"),
    ]


def test_the_longest_passages_are_kept_in_the_order_of_time():
    learned = "bbacccab"
    segments = [(3 * n, "a", label) for n, label in enumerate(learned)]
    kept = audio.passages(segments, 3.0, most=2)
    assert [(p.start_s, p.end_s) for p in kept] == [(0, 6.0), (9, 18.0)]
    assert kept[1].fragment == "#t=9.0,18.0"


def test_audio_is_linked_from_where_the_page_lies(tmp_path):
    song = tmp_path / "music" / "100 % & more.mp3"
    song.parent.mkdir()
    song.write_bytes(b"")
    assert (
        audio.link(Disk(str(tmp_path / "out")), str(song)) == "../music/100%20%25%20%26%20more.mp3"
    )
    assert audio.link(Disk(str(tmp_path)), f"file://{song}") == "music/100%20%25%20%26%20more.mp3"


@pytest.mark.parametrize(
    "uri", ["gs://bucket/song.mp3", "zip://song.mp3::music.zip", "{}/gone.mp3", "{}/there.wma"]
)
def test_what_a_browser_could_not_play_from_here_has_no_link(uri, tmp_path):
    (tmp_path / "there.wma").write_bytes(b"")
    assert audio.link(Disk(str(tmp_path)), uri.format(tmp_path)) is None


def test_a_page_in_a_bucket_links_no_local_file(tmp_path):
    (tmp_path / "song.mp3").write_bytes(b"")
    assert audio.link(Bucket("gs://bucket/out"), str(tmp_path / "song.mp3")) is None


def test_players_point_at_the_passages_that_changed_their_label(finished, tmp_path):
    store = Store.open(str(shutil.copytree(finished.root, tmp_path / "out")))
    html = read((store, store.latest()))
    links = [
        value
        for name, value in Page(html).attributes
        if name == "src" and not value.startswith("data:")
    ]
    assert any("#t=" in link for link in links)
    assert all((tmp_path / "out" / link.partition("#")[0]).is_file() for link in links)
    assert Page(html).tags["audio"] == len(links)


def test_files_that_are_gone_have_no_player(report_html):
    assert Page(report_html).tags["audio"] == 0
    assert ": inherited " in report_html
