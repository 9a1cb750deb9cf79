import os
import zipfile

import aiohttp
import fsspec
import pytest
from rows import a_track

import sssl.catalog.fingerprints as module
from schemas import Catalog, to_arrow
from sssl.catalog.fingerprints import MISSING, fingerprint, with_fingerprints
from sssl.catalog.plan import AgainConfig, Cause, causes_of, known_tracks


def table(**prints):
    rows = [a_track(i, uri=f"store://{i}", source_fingerprint=known) for i, known in prints.items()]
    return to_arrow(Catalog, rows)


def cause(before, now, **again):
    known = known_tracks(table(a=before), None)
    return causes_of(table(a=now), known, False, AgainConfig(**again)).to_pylist()


def test_nothing_equals_a_file_of_which_nothing_is_known():
    assert cause("etag:1", "etag:1") == [Cause.UNCHANGED]
    assert cause("etag:1", "etag:2") == [Cause.SOURCE]
    assert cause(None, None) == cause(None, "etag:1") == cause("etag:1", None) == [Cause.UNKNOWN]
    assert cause(MISSING, MISSING) == [Cause.UNCHANGED]
    assert cause("etag:1", MISSING) == cause(MISSING, "etag:1") == [Cause.SOURCE]


@pytest.mark.parametrize(
    ("info", "found"),
    [
        ({"size": 3, "mtime": 5.5}, "size:3 mtime:5.5"),
        ({"size": 3, "Last-Modified": "now"}, "size:3 mtime:now"),
        ({"size": 3, "ETag": '"1"'}, 'etag:"1"'),
        ({"size": 3, "CRC": 7}, "crc:7 size:3"),
        ({"size": 3}, None),
        ({"size": 3, "ETag": "", "mtime": None}, None),
        ({"size": None, "Last-Modified": "now"}, None),
    ],
)
def test_a_part_of_an_identity_is_no_fingerprint(info, found, monkeypatch):
    class Storage:
        def info(self, path):
            return info

    monkeypatch.setattr(module, "file_system", lambda url: (Storage(), url))
    assert fingerprint("store://a") == found


def test_a_file_replaced_by_one_of_the_same_length_has_another_fingerprint(tmp_path):
    local, linked, archive = tmp_path / "Re::Start.wav", tmp_path / "link.wav", tmp_path / "a.zip"
    linked.symlink_to(local)
    memory = fsspec.filesystem("memory")

    def write(content):
        local.write_text(content)
        os.utime(local, (ord(content), ord(content)))
        with zipfile.ZipFile(archive, "w") as made:
            made.writestr("a.wav", content)
        memory.pipe_file("/prints/a.wav", content.encode())

    uris = [
        str(local),
        f"file://{local}",
        str(linked),
        f"zip://a.wav::{archive}",
        "memory://prints/a.wav",
    ]
    write("1")
    before = [fingerprint(uri) for uri in uris]
    write("2")
    assert all(before)
    assert all(one != other for one, other in zip(before, map(fingerprint, uris), strict=True))


def test_links_in_a_large_folder_have_the_fingerprints_of_what_they_lead_to(tmp_path):
    (tmp_path / "links").mkdir()
    for n in range(300):
        (tmp_path / f"{n}.wav").write_text("1")
        (tmp_path / "links" / f"{n}.wav").symlink_to(tmp_path / f"{n}.wav")
    os.utime(tmp_path / "7.wav", (7, 7))
    rows = [a_track(f"t{n}", uri=f"{tmp_path}/links/{n}.wav") for n in range(300)]
    found = with_fingerprints(to_arrow(Catalog, rows))["source_fingerprint"].to_pylist()
    assert found == [fingerprint(f"{tmp_path}/{n}.wav") for n in range(300)]


@pytest.mark.parametrize("status", [403, 500, None])
def test_a_look_up_that_fails_keeps_what_was_known_and_says_so(status, monkeypatch):
    class Storage:
        def info(self, path):
            if path == "store://gone":
                raise FileNotFoundError(path)
            if status is None:
                raise TimeoutError
            error = aiohttp.ClientResponseError(None, (), status=status)
            raise FileNotFoundError(path) from error  # as fsspec's HTTP calls all that goes wrong

    monkeypatch.setattr(module, "file_system", lambda url: (Storage(), url))
    before = to_arrow(
        Catalog,
        [
            a_track("known", uri="store://known", source_fingerprint="etag:1"),
            a_track("moved", uri="store://elsewhere", source_fingerprint="etag:2"),
            a_track("gone", uri="store://gone", source_fingerprint="etag:3"),
        ],
    )
    said = []
    tracks = table(known=None, moved=None, new=None, gone=None)
    found = with_fingerprints(tracks, before, said.append)["source_fingerprint"].to_pylist()
    assert found == ["etag:1", None, None, MISSING]
    assert said == [
        "no answer from the storage of 1 file, taken for unchanged: known",
        "no answer from the storage of 2 files that nothing is known of: moved, new",
    ]


def test_a_uri_that_nothing_reads_is_no_reason_to_try_each_time():
    assert fingerprint("nowhere://a.wav") == "unsupported-uri"


@pytest.mark.parametrize(
    "uri",
    ["/nowhere/a.wav", "/dev/null/a.wav", "/a\0b.wav", "/" + 300 * "a", "memory://nowhere/a.wav"],
)
def test_a_file_that_is_not_there_has_a_word_instead(uri):
    """So that nothing is tried again at each run that is known to lead nowhere."""
    assert fingerprint(uri) == MISSING


def test_a_link_to_itself_leads_nowhere(tmp_path):
    (tmp_path / "a.wav").symlink_to("a.wav")
    assert fingerprint(f"{tmp_path}/a.wav") == MISSING
