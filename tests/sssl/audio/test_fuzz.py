import av
import pytest
from audio_files import CONTAINERS, NEEDS_ITS_END
from fuzz import MUTATIONS, SOURCE_S, broken_promises, cut, describe, write_mutants, write_sources
from rows import a_track

from sssl.audio.cut import cut_track
from sssl.audio.integrity import GateConfig
from sssl.audio.mel import MelConfig

SHARES = (0.5, 0.9)


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def ledger_of(tmp_path):
    def run(data, expected_s=None):
        path = tmp_path / "audio"
        path.write_bytes(data)
        track = a_track(uri=str(path), label=None, expected_s=expected_s)
        return cut_track(track, MelConfig(), GateConfig()).ledger

    return run


def test_whatever_is_done_to_a_file_its_ledger_row_tells(sources, tmp_path):
    mutants = write_mutants(sources, 7 * len(MUTATIONS), seed=0, folder=tmp_path / "mutants")
    outcomes = cut(mutants, tmp_path)
    assert [describe(outcome) for outcome in outcomes if list(broken_promises(outcome))] == []


def test_the_same_seed_makes_the_same_files(sources, tmp_path):
    once, again, other = (
        [mutant.path.read_bytes() for mutant in write_mutants(sources, 40, seed, tmp_path / name)]
        for seed, name in ((0, "once"), (0, "again"), (1, "other"))
    )
    assert once == again != other


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("name", CONTAINERS)
@pytest.mark.parametrize(
    "expected_s", [None, SOURCE_S], ids=["container alone", "with the catalog"]
)
def test_a_cut_file_is_marked(sources, ledger_of, name, share, expected_s):
    data = sources[name].read_bytes()
    ledger = ledger_of(data[: round(len(data) * share)], expected_s)
    needs_its_end = CONTAINERS[name][-1] is NEEDS_ITS_END
    assert (ledger.status, ledger.reason) == (
        ("failed", "corrupt") if needs_its_end else ("partial", "truncated")
    )


@pytest.mark.parametrize("name", ["aac", "mp3 VBR without Xing", "mp3 without Xing"])
def test_only_the_catalog_notices_a_cut_between_two_frames(sources, ledger_of, name):
    with av.open(str(sources[name])) as container:
        middle = [packet.pos for packet in container.demux(audio=0) if packet.size][200]
    data = sources[name].read_bytes()[:middle]
    assert ledger_of(data).reason is None
    assert ledger_of(data, SOURCE_S).reason == "truncated"
