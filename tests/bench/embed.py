"""What the embed stage costs beside a plain onnxruntime loop over the same tracks.

python tests/bench/embed.py [--tracks 24] [--minutes 2] [--rounds 3]

The loop decodes with our decoder, cuts, and runs the same graph on the same batches, in one
process. Each runs in a process of its own on one track and on all of them; the difference is the
marginal cost, which the bar is for. The graph has random weights and the cost of a small pretrained
network, 0.4 billion multiplications a segment of 3 s.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
ENV = os.environ | {
    "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(HERE)]),
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
}
RATE_HZ, SEGMENT_S, BATCH = 16_000, 3.0, 16
BAR = 0.9
VARIANTS = {"loop": "plain onnxruntime loop", "stage": "sssl embed"}
console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)


def write_graph(path):
    """Write a stack of convolutions over time, from `wave` [B, T] to `embedding` [B, 256]."""
    import onnx
    from front_ends import write_contract
    from onnx import TensorProto, helper, numpy_helper

    rng, channels, layers = np.random.default_rng(0), 256, 4
    shapes = [(channels, 1, 400), *[(channels, channels, 5)] * layers]
    strides = [160, *[1] * layers]
    constants = [numpy_helper.from_array(np.array([1], np.int64), "axis")]
    constants.append(numpy_helper.from_array(np.array([2], np.int64), "time"))
    nodes, last = [helper.make_node("Unsqueeze", ["wave", "axis"], ["mono"])], "mono"
    for number, (shape, stride) in enumerate(zip(shapes, strides, strict=True)):
        weights = rng.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32)
        constants.append(numpy_helper.from_array(weights, f"weights{number}"))
        filtered, heard = f"filtered{number}", f"heard{number}"
        nodes.append(
            helper.make_node("Conv", [last, f"weights{number}"], [filtered], strides=[stride])
        )
        nodes.append(helper.make_node("Relu", [filtered], [heard]))
        last = heard
    nodes.append(helper.make_node("ReduceMean", [last, "time"], ["embedding"], keepdims=0))
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["batch", "samples"])
    embedding = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", channels])
    graph = helper.make_graph(nodes, "bench", [wave], [embedding], constants)
    opset = [helper.make_opsetid("", 18)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    )
    onnx.checker.check_model(str(path))
    write_contract(path)


def write_music(folder, tracks, minutes):
    """Write catalogs of one track and of all, and segment both."""
    import soundfile

    from pipelines.cli import main

    rng = np.random.default_rng(0)
    wave = rng.normal(0, 0.1, round(minutes * 60 * 44_100)).astype(np.float32)
    for name, count in (("one", 1), ("all", tracks)):
        own = folder / name
        own.mkdir()
        rows = ["track_id,uri,label"]
        for number in range(count):
            path = own / f"t{number:03d}.flac"
            soundfile.write(path, np.roll(wave, 1000 * number), 44_100)
            rows.append(f"{path.stem},{path},Q{number % 4 + 1}")
        (own / "catalog.csv").write_text("\n".join(rows) + "\n")
        command = ["segment", "--catalog", str(own / "catalog.csv"), "--output", str(own / "out")]
        assert main([*command, "--sound-version", "0", "--tracks-per-part", "32"]) == 0


def loop(folder, graph):
    """Embed as one would in a notebook."""
    import onnxruntime

    from sssl.audio.decode import Decoder

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options)
    length = round(SEGMENT_S * RATE_HZ)
    for path in sorted(Path(folder).glob("*.flac")):
        wave = np.concatenate(list(Decoder(path, RATE_HZ).blocks()))
        segments = wave[: len(wave) // length * length].reshape(-1, length)
        batches = [segments[first : first + BATCH] for first in range(0, len(segments), BATCH)]
        found = np.concatenate([session.run(None, {"wave": batch})[0] for batch in batches])
        np.save(f"{path}.npy", found.astype(np.float16))


def stage(folder, graph):
    from pipelines.cli import main
    from sssl.store.folder import Store

    store = Store.open(f"{folder}/out")
    store.publish(store.latest().without("embeddings"))
    for name in ("embeddings", "_receipts/embeddings"):
        shutil.rmtree(Path(folder, "out", name), ignore_errors=True)
    command = ["embed", "--output", f"{folder}/out", "--front-end", f"onnx:{graph}"]
    assert main([*command, "--threads", "1", "--processes", "1"]) == 0


def measured(variant, folder, graph):
    from usage import measure

    return measure([sys.executable, str(HERE / "embed.py"), variant, str(folder), str(graph)], ENV)


def same_embeddings(folder):
    """Whether both found the same for a track, to the last bits of half precision."""
    from sssl.embedding.table import embeddings_of
    from sssl.store.folder import Store

    store = Store.open(f"{folder}/out")
    rows = store.read_table(store.latest().get("embeddings"))
    own = rows.filter(np.array(rows["track_id"].to_pylist()) == "t000")
    return np.allclose(embeddings_of(own), np.load(f"{folder}/t000.flac.npy"), rtol=5e-3, atol=1e-3)


def main(argv):
    if argv and argv[0] in VARIANTS:
        {"loop": loop, "stage": stage}[argv[0]](*argv[1:])
        return
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--tracks", type=int, default=24, help="default %(default)s")
    parser.add_argument(
        "--minutes", type=float, default=2.0, help="of a track; default %(default)s"
    )
    parser.add_argument("--rounds", type=int, default=3, help="turns of each; default %(default)s")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="sssl-bench-") as root:
        folder, graph = Path(root), Path(root, "net.onnx")
        write_graph(graph)
        write_music(folder, args.tracks, args.minutes)
        found = {(variant, name): [] for variant in VARIANTS for name in ("one", "all")}
        for _ in range(args.rounds):
            for variant, name in found:
                found[variant, name].append(measured(variant, folder / name, graph))
        assert same_embeddings(folder / "all")
    more = args.tracks - 1
    segments = more * int(args.minutes * 60 // SEGMENT_S)
    speeds = {}
    for variant, title in VARIANTS.items():
        cpu_s, wall_s = (
            min(getattr(u, what) for u in found[variant, "all"])
            - min(getattr(u, what) for u in found[variant, "one"])
            for what in ("cpu_s", "wall_s")
        )
        speeds[variant] = segments / cpu_s, segments / wall_s
        peak_mb = max(usage.peak_mb for usage in found[variant, "all"])
        console.print(
            f"{title:<24}{segments / cpu_s:8.1f} segments/s by CPU time,{segments / wall_s:8.1f} by"
            f" wall time, {peak_mb:.0f} MB"
        )
    for what, number in (("CPU", 0), ("wall", 1)):
        ratio = speeds["stage"][number] / speeds["loop"][number]
        met = "met" if ratio >= BAR else "missed"
        console.print(f"stage / loop, {what:<5}{ratio:5.2f}  bar >= {BAR}  {met}")


if __name__ == "__main__":
    main(sys.argv[1:])
