import json
import math

import pytest
from front_ends import CONTRACT, write_module, write_onnx

from sssl.embedding.contract import Contract, parse_contract, parse_reference, read_front_end
from sssl.embedding.settings import EmbedConfig
from sssl.errors import FrontEndError


def test_a_front_end_is_named_by_its_kind_its_place_and_an_output():
    found = parse_reference("onnx:gs://bucket/clap.onnx#embedding")
    assert (found.kind, found.place, found.output) == ("onnx", "gs://bucket/clap.onnx", "embedding")
    assert found.contract == "gs://bucket/clap.onnx.json"
    assert parse_reference("torchscript:net#1.pt").place == "net#1.pt"
    assert parse_reference("onnx:clap.onnx").output is None


def test_a_local_file_whose_name_has_a_hash_is_that_file(tmp_path):
    (tmp_path / "a#b.onnx").touch()
    assert parse_reference(f"onnx:{tmp_path}/a#b.onnx").output is None


def test_a_contract_lies_beside_signed_weights():
    found = parse_reference("onnx:https://host/clap.onnx?signature=secret")
    assert found.contract == "https://host/clap.onnx.json?signature=secret"
    assert "secret" not in str(found)


@pytest.mark.parametrize("text", ["clap.onnx", "hub:clap", "onnx:", "module:loudness"])
def test_what_names_no_front_end_is_refused(text):
    with pytest.raises(FrontEndError, match="expected"):
        parse_reference(text)


def test_a_misspelt_kind_shows_no_secret():
    with pytest.raises(FrontEndError) as refused:
        parse_reference("onx:https://user:word@host/clap.onnx?X-Sig=secret")
    assert "onx:https://host" in str(refused.value)
    assert "word" not in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_package_that_fails_while_it_is_imported_is_named(tmp_path, monkeypatch):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/__init__.py").write_text("raise RuntimeError('no licence file')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(FrontEndError, match=r"module:broken\.sub\.embed: no licence file"):
        read_front_end("module:broken.sub.embed")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"sample_rate": 16000}, "sample_rate is no field of a contract; is sample_rate_hz meant"),
        ({"license": "MIT"}, "license is no field of a contract; is licence meant"),
        ({"window_s": 1, "window_samples": 2}, "give window_s or window_samples, not both"),
        ({"window_s": 0}, "window_s is 0.0, expected 0.01 to 600.0 seconds"),
        ({"window_s": math.inf}, "window_s is inf, expected 0.01 to 600.0 seconds"),
        ({"window_s": math.nan}, "window_s is nan, expected 0.01 to 600.0 seconds"),
        ({"window_s": 1e300}, r"window_s is 1e\+300, expected 0.01 to 600.0 seconds"),
        ({"window_s": 0.00001}, "window_s is 1e-05, expected 0.01 to 600.0 seconds"),
        ({"window_samples": 1}, "window_samples is 1, expected 160 to 9,600,000 samples at 16000"),
        ({"window_samples": 10**9}, "window_samples is 1000000000, expected 160 to 9,600,000"),
        ({"sample_rate_hz": -1}, "sample_rate_hz is -1, expected 1,000 to 768,000 Hz"),
        ({"sample_rate_hz": 10**8}, "sample_rate_hz is 100000000, expected 1,000 to 768,000 Hz"),
        ({"sample_rate_hz": "16 kHz"}, "Contract.sample_rate_hz: expected `int`"),
        ({"pooling": "median"}, "Contract.pooling"),
        ({"layout": "TB"}, "Contract.layout"),
        ({"licence": " "}, "licence is empty"),
    ],
)
def test_a_wrong_contract_is_a_sentence_that_names_the_field(fields, said):
    with pytest.raises(FrontEndError, match=f"^clap.json: {said}"):
        parse_contract(json.dumps(CONTRACT | fields).encode(), "clap.json")


@pytest.mark.parametrize("name", CONTRACT)
def test_a_contract_has_to_say_sample_rate_and_licence(name):
    values = {key: value for key, value in CONTRACT.items() if key != name}
    with pytest.raises(FrontEndError, match=f"{name} is missing"):
        parse_contract(json.dumps(values).encode(), "clap.json")


@pytest.mark.parametrize(("data", "said"), [(b"{", "is no JSON"), (b"[]", "expected an object")])
def test_a_contract_that_is_no_object_is_refused(data, said):
    with pytest.raises(FrontEndError, match=said):
        parse_contract(data, "clap.json")


def test_weights_and_contracts_that_are_not_there_are_named(tmp_path):
    with pytest.raises(FrontEndError, match=f"contract of .* there is no {tmp_path}/a.onnx.json"):
        read_front_end(f"onnx:{tmp_path}/a.onnx")
    (tmp_path / "a.onnx.json").write_text(json.dumps(CONTRACT))
    with pytest.raises(FrontEndError, match=f"weights of .* there is no {tmp_path}/a.onnx$"):
        read_front_end(f"onnx:{tmp_path}/a.onnx")
    with pytest.raises(FrontEndError, match="no module nowhere; is it on PYTHONPATH"):
        read_front_end("module:nowhere.embed")


def test_embeddings_are_named_after_weights_and_what_of_the_contract_decides_numbers(tmp_path):
    for name, fields in (("a", {}), ("b", {"licence": "ISC", "source": "somewhere", "name": "B"})):
        (tmp_path / name).mkdir()
        write_onnx(tmp_path / name / "net.onnx", **fields)
    write_onnx(tmp_path / "c.onnx", pooling="max")
    write_onnx(tmp_path / "d.onnx", seed=1)
    a, b, c, d = (
        read_front_end(f"onnx:{tmp_path}/{path}").of_rows()
        for path in ("a/net.onnx", "b/net.onnx", "c.onnx", "d.onnx")
    )
    assert a == b
    assert a != c
    assert a != d
    assert read_front_end(f"onnx:{tmp_path}/a/net.onnx#frames").of_rows() != a


def test_a_function_is_named_by_the_source_of_its_module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "nets_of_contract")
    found = read_front_end("module:nets_of_contract.loudness")
    assert found.of_rows()["function"] == "nets_of_contract.loudness"
    assert found.name == "nets_of_contract.loudness"


def test_weights_that_changed_since_they_were_named_are_refused(tmp_path):
    found = read_front_end(write_onnx(tmp_path / "net.onnx"))
    write_onnx(tmp_path / "net.onnx", seed=1)
    with pytest.raises(FrontEndError, match="not those of before"):
        found.weights()


@pytest.mark.parametrize(
    ("licence", "commercial", "forbids"),
    [
        ("Apache-2.0", None, False),
        ("CC-BY-NC-4.0", None, True),
        ("CC BY-NC-SA 4.0", None, True),
        ("for non-commercial use", None, True),
        ("non commercial use only", None, True),
        ("CC-BY-NC-4.0", True, False),  # somebody bought them
        ("ours", False, True),
        ("NCSA", None, False),
    ],
)
def test_a_licence_that_says_nc_forbids_commercial_use(licence, commercial, forbids):
    assert Contract(16000, licence, commercial=commercial).forbids_commercial_use == forbids


def test_non_commercial_weights_need_to_be_accepted(tmp_path):
    place = write_onnx(tmp_path / "net.onnx", licence="CC-BY-NC-4.0", name="MERT")
    said = "MERT: licence CC-BY-NC-4.0, non-commercial; give --accept-licence"
    with pytest.raises(FrontEndError, match=said):
        EmbedConfig(place).admitted()
    assert EmbedConfig(place, accept_licence=True).admitted().name == "MERT"
    write_onnx(tmp_path / "free.onnx")
    assert EmbedConfig(f"onnx:{tmp_path}/free.onnx").admitted().licence == "licence MIT"
