import os

import av
import fsspec
import pytest

from sssl.audio.decode import _CONTAINERS
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.listing import AUDIO_SUFFIXES, list_audio
from sssl.catalog.read import read_catalog
from sssl.errors import CatalogError
from sssl.urls import local_path


def touch(folder, *names):
    for name in names:
        path = os.path.join(os.fsencode(folder), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb"):
            pass


def ids_of(url):
    return list_audio(str(url))[0]["track_id"].to_pylist()


def remarks_on(url):
    return " ".join(list_audio(str(url))[1])


def test_what_the_decoder_reads_is_listed():
    # Where FFmpeg knows no suffix of a container, the one that people use is its name.
    named = {"aiff": "aif", "asf": "wma", "matroska": "mka", "ogg": "opus"}
    for container in _CONTAINERS.split(","):
        suffixes = {named.get(container, container), *av.ContainerFormat(container, "r").extensions}
        assert {f".{suffix}" for suffix in suffixes} & set(AUDIO_SUFFIXES), container


def test_suffixes_are_read_in_any_case_and_others_are_counted(tmp_path):
    touch(tmp_path, "a.WAV", "b.Tta", "c.jpg", "d.JPG", "e.cue", "README")
    assert ids_of(tmp_path) == ["a.WAV", "b.Tta"]
    assert "no suffix of audio: 4 (.jpg 2, none 1, .cue 1)" in remarks_on(tmp_path)


def test_names_with_several_dots_are_music_and_hidden_ones_are_counted(tmp_path):
    touch(
        tmp_path, "..And Justice/1.mp3", "....mp3", ".trash/2.mp3", "._3.mp3", "a/.b.mp3", "c.mp3"
    )
    touch(tmp_path, "...c.sssl-0123.mp3")  # what a kill left of writing `..c.mp3`
    assert ids_of(tmp_path) == ["....mp3", "..And Justice/1.mp3", "c.mp3"]
    assert "hidden: 4 (" in remarks_on(tmp_path)
    assert ".trash" in remarks_on(tmp_path)


def test_a_folder_without_anything_else_has_no_remarks(tmp_path):
    touch(tmp_path, "a.mp3")
    assert remarks_on(tmp_path) == ""


def test_a_name_that_is_not_utf8_is_a_track_like_others(tmp_path):
    touch(tmp_path, "a.mp3", b"caf\xe9/\xff.mp3", "100%25.mp3")
    table, remarks = list_audio(str(tmp_path))
    assert table["track_id"].to_pylist() == ["100%25.mp3", "a.mp3", r"caf\xe9/\xff.mp3"]
    paths = [local_path(uri) for uri in table["uri"].to_pylist()]
    assert all(map(os.path.exists, paths))
    assert len(set(paths)) == 3
    assert remarks == [rf"{tmp_path}: 1 name not UTF-8, spelt out in ids: caf\xe9/\xff.mp3"]
    assert len(read_catalog(str(tmp_path), None, CatalogConfig())) == 3


def test_linked_folders_are_entered_once_and_never_in_a_circle(tmp_path):
    music, elsewhere = tmp_path / "music", tmp_path / "elsewhere"
    touch(music, "a/1.mp3", "b/2.mp3")
    touch(elsewhere, "3.mp3", "deep/4.mp3")
    (music / "0-up").symlink_to("..")
    (music / "a" / "self").symlink_to(".")
    (music / "b" / "a again").symlink_to("../a")
    (music / "z").symlink_to(elsewhere)
    (elsewhere / "back").symlink_to(music)
    assert ids_of(music) == [
        "0-up/elsewhere/3.mp3",
        "0-up/elsewhere/deep/4.mp3",
        "a/1.mp3",
        "b/2.mp3",
    ]
    remarks = remarks_on(music)
    assert "folders that are listed already, by another name: 5 (" in remarks
    assert "b/a again" in remarks


def test_a_link_to_the_catalog_s_folder_leads_into_it(tmp_path):
    touch(tmp_path / "real", "1.mp3")
    (tmp_path / "link").symlink_to("real")
    assert ids_of(tmp_path / "link") == ids_of(f"{tmp_path}/link/*.mp3") == ["1.mp3"]


def test_pipes_and_devices_are_no_tracks(tmp_path):
    touch(tmp_path, "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "null.wav").symlink_to("/dev/null")
    for catalog in (tmp_path, f"{tmp_path}/*.wav"):
        assert ids_of(catalog) == ["a.wav"]
        assert "pipes or devices: 2 (null.wav, pipe.wav)" in remarks_on(catalog)


def test_links_to_files_that_are_gone_are_tracks_that_are_missing(tmp_path):
    (tmp_path / "gone.mp3").symlink_to("nowhere.mp3")
    (tmp_path / "self.mp3").symlink_to("self.mp3")
    assert ids_of(tmp_path) == ["gone.mp3", "self.mp3"]


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    touch(tmp_path, "a.mp3", "closed/b.mp3")

    def scandir(path, scandir=os.scandir):
        if str(path).endswith("closed"):
            raise PermissionError(path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scandir)  # permissions do not stop root
    assert ids_of(tmp_path) == ["a.mp3"]
    assert "folders that cannot be read: 1 (closed)" in remarks_on(tmp_path)


def test_a_glob_goes_through_links_and_counts_what_it_names(tmp_path):
    touch(tmp_path / "music", "a/1.mp3", "a/cover.jpg", "2.mp3", "a/deep/3.mp3", "b.mp3/4.mp3")
    touch(tmp_path / "elsewhere", "5.mp3")
    (tmp_path / "music" / "link").symlink_to("../elsewhere")
    assert ids_of(f"{tmp_path}/music/*/*.mp3") == ["a/1.mp3", "b.mp3/4.mp3", "link/5.mp3"]
    assert ids_of(f"{tmp_path}/music/[ab]/*") == ["a/1.mp3"]
    assert "(.jpg 1)" in remarks_on(f"{tmp_path}/music/[ab]/*")
    assert "folders, which `/**` after the pattern would enter: 3 (a, b.mp3, link)" in remarks_on(
        f"{tmp_path}/music/*"
    )
    assert len(ids_of(f"{tmp_path}/music/**")) == 5


def test_a_catalog_of_one_file_has_its_name(tmp_path):
    touch(tmp_path, "a.mp3")
    fsspec.filesystem("memory").pipe_file("/one/b.mp3", b"1")
    assert ids_of(tmp_path / "a.mp3") == ["a.mp3"]
    assert ids_of("memory://one/b.mp3") == ["b.mp3"]


def test_a_folder_elsewhere_is_listed_and_counted_alike(tmp_path):
    fs = fsspec.filesystem("memory")
    for name in ("a.mp3", "..b/c.WMA", ".trash/d.mp3", "e.jpg", "f/.g.mp3"):
        fs.pipe_file(f"/listed/{name}", b"1")
    assert ids_of("memory://listed") == ["..b/c.WMA", "a.mp3"]
    assert "no suffix of audio: 1 (.jpg 1); hidden: 2 (.trash/d.mp3, f/.g.mp3)" in remarks_on(
        "memory://listed"
    )
    assert ids_of("memory://listed/*.mp3") == ["a.mp3"]


def test_a_folder_without_music_says_what_it_has(tmp_path):
    touch(tmp_path, "cover.jpg", ".hidden.mp3")
    with pytest.raises(
        CatalogError, match=r"no tracks; expected .* no suffix of audio: 1 \(\.jpg 1\); hidden: 1"
    ):
        read_catalog(str(tmp_path), None, CatalogConfig())


@pytest.mark.parametrize("url", ["/nowhere/at/all", "nowhere://music", "/nowhere/*/a.mp3"])
def test_a_folder_that_is_not_there_is_a_sentence(url):
    with pytest.raises(CatalogError, match=r"no such file or folder|cannot list|no tracks"):
        read_catalog(url, None, CatalogConfig())
