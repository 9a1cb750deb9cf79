"""What a catalog of others may not have us open."""

import pyarrow as pa
import pytest

from pipelines.cli import main
from sssl.catalog.assign import CatalogConfig
from sssl.catalog.read import read_tracks
from sssl.catalog.trust import check_uris, without_plain
from sssl.errors import CatalogError


@pytest.mark.parametrize(
    "uri",
    [
        "reference::s3://bucket/refs.json",
        "simplecache::https://example.org/a.mp3",
        "FILECACHE::gs://bucket/a.mp3",
        "zip://a.mp3::simplecache::gs://bucket/a.zip",
        "reference://a",
        "http://169.254.169.254/computeMetadata/v1/",
        "http://2852039166/latest",
        "http://0xa9fea9fe/latest",
        "http://[fe80::1%25eth0]/a.mp3",
        "http://[::ffff:169.254.169.254]/a.mp3",
        "https://metadata.google.internal./computeMetadata/v1/",
        "https://user:pass@METADATA/a.mp3",
        "http://100.100.100.200/a.mp3",
        "zip://a.mp3::http://169.254.169.254/a.zip",
        "zip://a.mp3::http://169.254.169.254/a.zip::gs://bucket/b",
        "dir://etc/passwd::file:///::https://example.org/x",
        "http://\u2460\u2465\u2468.254.169.254/a.mp3",
        "http://169\u3002254\u3002169\u3002254/a.mp3",
        "http://[::169.254.169.254]/a.mp3",
        "http://[64:ff9b::a9fe:a9fe]/a.mp3",
        "http://[2002:a9fe:a9fe::1]/a.mp3",
        "http://168.63.129.16/a.mp3",
    ],
)
def test_no_catalog_names_what_hides_its_place_or_hands_out_credentials(uri):
    for allowed in ((), ("http://", "https://", "/")):
        with pytest.raises(CatalogError, match="may never name"):
            check_uris(["/a.mp3", uri], "catalog.csv", allowed)


@pytest.mark.parametrize(
    "uri",
    ["/music/a::b.mp3", "music/reference.mp3", "gs://bucket/a.mp3", "https://example.org/a.mp3", "zip://a.mp3::/music/a.zip",
     "cached: live.mp3", "music/x::cached:y.mp3", "http://[bad/x.mp3", "http://a\0b/x.mp3",
     "/music/a\0b.mp3",
     "http://[2001:db8::1]/a.mp3", "http://127.0.0.1:8000/a.mp3", "/music/169.254.169.254/a.mp3", "file:///music/reference::a.mp3"],
)  # fmt: skip
def test_ordinary_files_may_be_named(uri):
    check_uris([uri], "catalog.csv", ())


def test_a_catalog_from_elsewhere_names_no_file_of_this_machine():
    check_uris(["gs://bucket/a.mp3"], "gs://bucket/catalog.csv", ())
    for uri in ("/etc/passwd", "file:///etc/passwd", "zip://a::/etc/a.zip"):
        with pytest.raises(CatalogError, match="on this machine, and the catalog is not"):
            check_uris(["gs://bucket/a.mp3", uri], "gs://bucket/catalog.csv", ())
    check_uris(["/music/a.mp3"], "gs://bucket/catalog.csv", ("/music", "gs://bucket"))


def test_allowed_places_hold_whatever_links_and_dots_are_on_the_way(tmp_path):
    music, other = tmp_path / "music", tmp_path / "music2"
    music.mkdir()
    other.mkdir()
    (music / "link").symlink_to(other)
    (other / "b.mp3").touch()
    (music / "b.mp3").symlink_to(other / "b.mp3")
    check_uris([f"{music}/a.mp3", f"file://{music}/b c.mp3"], "catalog.csv", (str(music),))
    for uri in (
        f"{other}/a.mp3",
        f"{music}/../music2/a.mp3",
        f"{music}/link/a.mp3",
        f"{music}/b.mp3",
        "gs://bucket/a.mp3",
        f"{music}/a\0b",
    ):
        with pytest.raises(CatalogError, match="below none of --allow-uri"):
            check_uris([uri], "catalog.csv", (str(music),))


def test_allowed_urls_are_folders_not_beginnings():
    allowed = ("gs://bucket/music", "https://example.org/")
    check_uris(["gs://bucket/music/a.mp3", "https://example.org/a.mp3?x=1"], "catalog.csv", allowed)
    check_uris(["zip://a.mp3::gs://bucket/music/a.zip"], "catalog.csv", allowed)
    for uri in (
        "gs://bucket/music2/a.mp3",
        "gs://bucket/music/%2e%2e/a.mp3",
        "https://example.org.evil/a.mp3",
        "/a.mp3",
    ):
        with pytest.raises(CatalogError, match="below none of"):
            check_uris([uri], "catalog.csv", allowed)


def test_the_first_refused_files_are_named_without_their_secrets():
    uris = [f"https://name:SECRET@example.org/{n}.mp3?sig=SECRET" for n in range(7)]
    with pytest.raises(
        CatalogError,
        match=r"7 of its files are below none .*: https://example.org/0.mp3, .*, \.\.\.$",
    ) as error:
        check_uris(uris, "catalog.csv", ("/music",))
    assert "SECRET" not in str(error.value)


def test_whom_we_trust_names_no_catalog(tmp_path):
    (tmp_path / "c.csv").write_text(f"track_id,uri\na,{tmp_path}/a.wav\n")
    limited = CatalogConfig(allow_uri=(str(tmp_path),))
    assert read_tracks(str(tmp_path / "c.csv"), None, limited).equals(
        read_tracks(str(tmp_path / "c.csv"), None, CatalogConfig())
    )


def test_labels_do_not_say_where_the_audio_lies(tmp_path):
    (tmp_path / "c.csv").write_text(f"track_id,uri\na,{tmp_path}/a.wav\n")
    (tmp_path / "labels.csv").write_text("track_id,label,uri\na,Q1,/etc/passwd\n")
    tracks = read_tracks(str(tmp_path / "c.csv"), str(tmp_path / "labels.csv"), CatalogConfig())
    assert tracks["uri"].to_pylist() == [f"{tmp_path}/a.wav"]


def test_plan_and_label_refuse_in_a_sentence(tmp_path, capsys):
    catalog = tmp_path / "c.csv"
    catalog.write_text("track_id,uri\na,http://169.254.169.254/a.wav\n")
    for command in (
        ["plan", "--catalog", str(catalog), "--output", str(tmp_path / "out")],
        ["label", "--model", "x", str(catalog)],
    ):
        assert main(command) == 1
        assert "may never name" in " ".join(capsys.readouterr().err.split())
    catalog.write_text("track_id,uri\na,/elsewhere/a.wav\n")
    assert (
        main(
            [
                "plan",
                "--catalog",
                str(catalog),
                "--output",
                str(tmp_path / "out"),
                "--allow-uri",
                str(tmp_path),
            ]
        )
        == 1
    )
    assert "below none of --allow-uri" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    "given",
    ["foo://x.mp3", "http://[bad/a.mp3", "zip://a.mp3::file:///a.zip::https://example.org/"],
)
def test_what_is_no_address_is_a_sentence(given, tmp_path, capsys):
    assert main(["label", "--model", str(tmp_path), given]) == 1
    assert main(["plan", "--catalog", given, "--output", str(tmp_path / "out")]) == 1
    assert "Traceback" not in capsys.readouterr().err


def test_what_needs_no_look_is_what_a_look_would_let_pass(tmp_path):
    plain = ["gs://music/a.mp3", "s3://music/a::b.mp3", "s3://music/a.mp3", "/music/a.mp3"]
    others = [
        "http://169.254.169.254/a",
        "zip://a.mp3::gs://music/a.zip",
        "cached::gs://m/a.mp3",
        "a",
    ]
    uris = pa.chunked_array([pa.array([*plain, *others])])
    assert without_plain(uris, str(tmp_path)).to_pylist() == ["s3://music/a::b.mp3", *others]
    assert without_plain(uris, "gs://b/c.csv").to_pylist() == [
        "s3://music/a::b.mp3", "/music/a.mp3", *others,
    ]  # fmt: skip
    check_uris(plain, str(tmp_path), ())
