import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
import torch
from front_ends import DIMENSION, Net, write_contract, write_module, write_onnx, write_torchscript
from rows import a_track

from sssl.embedding.contract import read_front_end
from sssl.embedding.embedder import Embedder, windows_of
from sssl.embedding.table import embeddings_of, embeddings_table, summarize_embeddings
from sssl.errors import FrontEndError

RATE_HZ, SEGMENT_S = 16_000, 3.0
WAVE = np.random.default_rng(0).normal(0, 0.1, 5 * 48_000).astype(np.float32)
START_S = np.arange(5) * SEGMENT_S
CUT = WAVE.reshape(5, 48_000)


def embed(place, wave=WAVE, start_s=START_S):
    found, reasons = Embedder(read_front_end(place), SEGMENT_S, threads=1).embed(wave, start_s)
    assert found.dtype == np.float16
    return found, reasons


def by_hand(path, output="embedding", samples=CUT):
    return onnxruntime.InferenceSession(path).run([output], {"wave": samples})[0]


def nearly(found, expected):
    np.testing.assert_allclose(found.astype(np.float32), expected, rtol=1e-3, atol=1e-4)


def test_an_onnx_graph_embeds_as_when_it_is_called_by_hand(tmp_path):
    place = write_onnx(tmp_path / "net.onnx")
    assert 40_000 < (tmp_path / "net.onnx").stat().st_size < 60_000
    found, reasons = embed(place)
    assert found.shape == (5, DIMENSION)
    assert reasons == [None] * 5
    nearly(found, by_hand(tmp_path / "net.onnx"))


def test_a_torchscript_module_embeds_as_when_it_is_called_by_hand(tmp_path):
    found, _ = embed(write_torchscript(tmp_path / "net.pt"))
    nearly(found, Net()(torch.from_numpy(CUT)).numpy())


def test_a_python_function_embeds_as_when_it_is_called_by_hand(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "nets_by_hand")
    import nets_by_hand

    found, _ = embed("module:nets_by_hand.loudness")
    nearly(found, nets_by_hand.loudness(CUT))


def test_an_output_of_a_graph_is_chosen_by_its_name_and_pooled_over_time(tmp_path):
    place = write_onnx(tmp_path / "net.onnx")
    frames = by_hand(tmp_path / "net.onnx", "frames")
    nearly(embed(f"{place}#frames")[0], frames.mean(axis=1))
    for pooling, expected in (("max", frames.max(axis=1)), ("first", frames[:, 0])):
        copied = tmp_path / f"{pooling}.onnx"
        write_onnx(copied, pooling=pooling)
        nearly(embed(f"onnx:{copied}#frames")[0], expected)


def test_a_graph_of_a_fixed_batch_is_filled_up(tmp_path):
    found, _ = embed(write_onnx(tmp_path / "two.onnx", batch=2))
    write_onnx(tmp_path / "any.onnx")
    nearly(found, by_hand(tmp_path / "any.onnx"))


def test_rows_of_a_track_do_not_depend_on_how_many_there_are(tmp_path):
    place = write_onnx(tmp_path / "net.onnx")
    wave = np.random.default_rng(1).normal(0, 0.1, 40 * 48_000).astype(np.float32)
    start_s = np.arange(40) * SEGMENT_S
    every, _ = embed(place, wave, start_s)
    nearly(every, by_hand(tmp_path / "net.onnx", samples=wave.reshape(40, -1)))


def test_windows_that_fit_into_a_segment_lie_side_by_side_and_their_mean_counts(tmp_path):
    found, _ = embed(write_onnx(tmp_path / "net.onnx", window_s=1.0))
    seconds = by_hand(tmp_path / "net.onnx", samples=WAVE.reshape(15, 16_000))
    nearly(found, seconds.reshape(5, 3, -1).mean(axis=1))


def test_a_long_window_begins_with_its_segment_or_ends_with_the_track(tmp_path):
    found, reasons = embed(write_onnx(tmp_path / "net.onnx", window_samples=10 * RATE_HZ))
    starts = (np.array([0, 3, 5, 5, 5]) * RATE_HZ).tolist()
    samples = np.stack([WAVE[start : start + 10 * RATE_HZ] for start in starts])
    nearly(found, by_hand(tmp_path / "net.onnx", samples=samples))
    assert reasons == [None] * 5


def test_a_track_shorter_than_a_window_ends_in_silence(tmp_path):
    found, _ = embed(write_onnx(tmp_path / "net.onnx", window_s=10), WAVE[:48_000], START_S[:1])
    samples = np.concatenate([WAVE[:48_000], np.zeros(7 * RATE_HZ, np.float32)])[None]
    nearly(found, by_hand(tmp_path / "net.onnx", samples=samples))


def test_windows_never_reach_beyond_a_track_that_is_long_enough():
    starts = np.arange(0, 28) * 1
    windows = windows_of(starts, 3, 10, 30)
    assert windows.shape == (28, 1)
    assert windows.max() == 20
    assert (windows[:20, 0] == starts[:20]).all()


def test_segments_of_which_the_file_has_no_more_samples_have_a_reason(tmp_path):
    found, reasons = embed(write_onnx(tmp_path / "net.onnx"), WAVE[: 3 * 48_000 - 100])
    assert reasons == [
        None,
        None,
        None,
        "truncated",
        "truncated",
    ]  # 100 samples are the resampler's
    assert np.isnan(found[3:].astype(np.float32)).all()
    assert np.isfinite(found[:3].astype(np.float32)).all()


def test_what_is_not_finite_has_a_reason(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "nets_not_finite")
    loud = WAVE.copy()
    loud[48_000:96_000] = 0.9
    _, reasons = embed("module:nets_not_finite.nan_where_loud", loud)
    assert reasons == [None, "non-finite", None, None, None]


def test_a_track_without_segments_has_no_rows(tmp_path):
    found, reasons = embed(write_onnx(tmp_path / "net.onnx"), WAVE, np.empty(0))
    assert found.shape == (0, DIMENSION)
    assert reasons == []


@pytest.mark.parametrize(
    ("written", "output", "said"),
    [
        ({"input": "samples"}, "", "has no input samples, but wave"),
        ({"layout": "BCT"}, "", "expected reals of 3 axes"),
        (
            {"samples": 160_000},
            "",
            "takes 160000 samples, by the contract it would get 48000 at 16000",
        ),
        ({}, "#logits", "has no output logits, but embedding, frames"),
        ({"sample_rate_hz": 1000, "window_samples": 50}, "", "fails: "),
    ],
)
def test_a_graph_that_does_not_take_what_its_contract_says_is_refused(
    tmp_path, written, output, said
):
    with pytest.raises(FrontEndError, match=said):
        embed(write_onnx(tmp_path / "net.onnx", **written) + output)


def test_what_is_no_graph_and_no_module_is_refused(tmp_path):
    for kind in ("onnx", "torchscript"):
        (tmp_path / "net").write_bytes(b"nothing")
        write_contract(tmp_path / "net")
        with pytest.raises(FrontEndError, match=f"{kind}:.* cannot be loaded"):
            embed(f"{kind}:{tmp_path}/net")


@pytest.mark.parametrize(
    ("function", "said"),
    [
        ("one_dimension", r"the output is float32 \[1\], expected reals \[1, D\]"),
        ("fails", "fails: ZeroDivisionError: by design"),
        ("ragged", r"for samples \[5, T\] the output, a list, makes no array: "),
        ("no_dimension", r"the output is float64 \[1, 0\], expected .* D and time 1 or more"),
        ("no_time", r"the output is float64 \[1, 0, 8\], expected .* D and time 1 or more"),
        (
            "wider_in_batches",
            "wider_in_batches: in a batch of 5 an embedding has 6 values, in a batch of 1 4;",
        ),
        (
            "narrow_in_batches",
            "in a batch of 5 an embedding has 1 values, in a batch of 1 4;",
        ),
        ("constant", "has no function constant"),
        ("nothing", "has no function nothing"),
    ],
)
def test_a_function_that_does_not_embed_is_refused(tmp_path, monkeypatch, function, said):
    monkeypatch.syspath_prepend(tmp_path)
    module = f"net_that_fails_{function}"  # of its own: an imported one outlives its folder
    write_module(tmp_path, module)
    with pytest.raises(FrontEndError, match=said):
        embed(f"module:{module}.{function}")


@pytest.mark.parametrize("function", ["ragged", "wider_in_batches"])
def test_a_check_tries_a_batch_of_two(tmp_path, monkeypatch, function):
    monkeypatch.syspath_prepend(tmp_path)
    module = f"net_in_batches_{function}"
    write_module(tmp_path, module)
    embedder = Embedder(read_front_end(f"module:{module}.{function}"), SEGMENT_S, threads=1)
    with pytest.raises(FrontEndError, match=r"batch of 2|no array"):
        embedder.check()


def test_a_tensor_in_bfloat16_is_read_as_what_it_holds(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write_module(tmp_path, "nets_in_bfloat16")
    found, reasons = embed("module:nets_in_bfloat16.in_bfloat16")
    expected, _ = embed("module:nets_in_bfloat16.loudness")
    assert reasons == [None] * 5
    np.testing.assert_allclose(found, expected, rtol=0.01)  # of 8 bits


def test_a_table_of_embeddings_reads_back_as_it_was_written():
    segments = pa.table(
        {"track_id": ["a", "a", "b"], "segment_index": pa.array([0, 1, 0], pa.int32())}
    )
    found = np.array([[1, 2], [np.nan, np.nan], [3, 4]], np.float16)
    table = embeddings_table(segments, found, [None, "missing", None], {"kind": "onnx"})
    assert pa.types.is_fixed_size_binary(table.schema.field("embedding").type)
    np.testing.assert_array_equal(embeddings_of(table), found.astype(np.float32))
    assert table["embedding"].null_count == 1
    summary = summarize_embeddings(table, [a_track("a"), a_track("b"), a_track("without segments")])
    assert (summary.tracks, summary.segments, summary.missing) == (2, 3, 1)
    assert summary.reasons == {"missing": 1}
