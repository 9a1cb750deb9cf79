import subprocess

from pipelines.cli import main
from sssl.urls import without_secrets


def test_a_uri_s_signature_and_a_server_s_password_are_kept_out(tmp_path, capfd):
    """The catalog keeps the URI, since workers need it; nothing else repeats it."""
    secret = "SIGNATURE123"
    catalog = tmp_path / "c.csv"
    catalog.write_text(f"track_id,uri,label\na,{tmp_path}/none.wav?sig={secret},Q1\n")
    output = tmp_path / "o"
    assert main(["segment", "--catalog", str(catalog), "--output", str(output)]) == 3
    found = subprocess.run(
        ["grep", "-rl", secret, str(output)], capture_output=True, text=True, check=False
    ).stdout
    assert {path.split("/")[-3] for path in found.split()} <= {"catalog"}
    assert secret not in "".join(capfd.readouterr())


def test_urls_go_to_mlflow_without_password_and_query():
    assert without_secrets("https://me:pass@host/c.csv?sig=X") == "https://host/c.csv"
    assert without_secrets("gs://bucket/a?b") == "gs://bucket/a"
    assert without_secrets("/local/what?.csv") == "/local/what?.csv"
    assert without_secrets("https://host?sig=X") == "https://host"
    assert (
        without_secrets("zip://c.csv::https://me:pass@host/c.zip?sig=X")
        == "zip://c.csv::https://host/c.zip"
    )
