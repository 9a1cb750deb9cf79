import re

import numpy as np
import pytest
from reports import CLASSES

from sssl.metrics import Bin
from sssl.plots import charts, colors, track
from sssl.plots import timeline as timelines


def test_labels_beside_lines_keep_apart_and_in_order():
    values = np.array([0.83, 0.834, 0.6, 1.0, 0.98])
    placed = charts.spread(values, 0.08)
    assert (np.argsort(placed) == np.argsort(values)).all()
    assert np.diff(np.sort(placed)).min() > 0.08 - 1e-9
    assert placed.max() <= 1
    assert charts.spread(np.array([0.2, 0.7]), 0.08) == pytest.approx([0.2, 0.7])


def test_a_track_of_one_segment_and_one_with_a_gap_can_be_drawn():
    one = np.random.default_rng(0).normal(-40, 9, (1, 8, 94)).astype(np.float16)
    bands = {"timeline": [(0, 3, CLASSES[0])]}
    for log_mel, start_s in ((one, [0.0]), (np.concatenate([one, one]), [0.0, 9.0])):
        posterior = np.full((len(start_s), 3), 1 / 3)
        view = track.TrackView(np.array(start_s), log_mel, posterior, bands, 3.0, 16000, 512)
        assert track.draw_track("name", "alt", view, CLASSES).startswith(
            '<svg class="plot" role="img" aria-label="alt"'
        )
        edges, columns = track._columns(view)
        middle = (edges[:-1] + edges[1:]) / 2
        gap = (middle > 3.1) & (middle < 8.9)
        assert np.isnan(columns[:, gap]).all()
        assert np.isfinite(
            columns[:, ~gap & (np.abs(middle - 3) > 0.1) & (np.abs(middle - 9) > 0.1)]
        ).all()


def test_the_time_axis_of_a_track_reaches_the_end_of_its_timeline():
    one = np.zeros((1, 8, 94), np.float16)
    for timeline, end_s in (([(0, 4.5, CLASSES[0])], 4.5), ([], 3.0)):
        view = track.TrackView(
            np.zeros(1), one, np.full((1, 3), 1 / 3), {"timeline": timeline}, 3.0, 16000, 512
        )
        assert (view.heard_to_s, view.end_s) == (3.0, end_s)


def test_a_strip_shows_each_emotion_for_its_share_of_the_time():
    entries = [(0, 30, "a"), (30, 40, "b"), (40, 60, "a")]
    timeline = [
        {"start_s": s, "end_s": e, "label": name, "confidence": 0.5} for s, e, name in entries
    ]
    strip = timelines.strip(timeline, ("a", "b"))
    assert re.findall(r"M(\d+) 0h(\d+)v", strip) == [("0", "80"), ("80", "27"), ("107", "53")]
    assert "a 0:00 to 0:30, b 0:30 to 0:40" in strip


def test_text_on_a_class_colour_has_enough_contrast():
    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return np.dot(linear, [0.2126, 0.7152, 0.0722])

    for color in colors.CLASS_COLORS:
        dark, bright = sorted((luminance(color), luminance(colors.ink_on(color))))
        assert (bright + 0.05) / (dark + 0.05) >= 4.5


@pytest.mark.parametrize(
    ("seconds", "said"), [(5, "0:05"), (187.4, "3:07"), (3600, "1:00:00"), (59.6, "1:00")]
)
def test_times_read_like_a_clock(seconds, said):
    assert timelines.clock(seconds) == said


def test_a_reliability_curve_can_be_drawn_of_bins_that_are_all_right_or_all_wrong():
    drawn = charts.reliability("name", "alt", [Bin(10, 0.4, 0.0), Bin(10, 0.9, 1.0)])
    assert ">confidence</text>" in drawn
    assert ">share that is right</text>" in drawn


def test_a_band_of_few_entries_is_drawn_as_it_is():
    entries = [(0.0, 3.0, "a"), (6.0, 9.0, None)]
    assert track.blocks_of(entries, 0.0, 9.0) == entries


def test_a_band_of_many_entries_keeps_its_long_stretches_and_gaps():
    many = [(float(s), s + 3.0, "a") for s in range(0, 6000, 3)]
    late = [(9000.0, 12000.0, "b")]
    blocks = track.blocks_of(many + late, 0.0, 12000.0)
    assert [name for _, _, name in blocks] == ["a", "b"]
    for (start, end, _), (expected_start, expected_end) in zip(
        blocks, ((0, 6000), (9000, 12000)), strict=True
    ):
        assert (start, end) == pytest.approx((expected_start, expected_end), abs=12000 / 300)


def test_a_track_of_three_hours_is_drawn_with_as_many_shapes_as_a_screen_shows():
    n = 3600
    rng = np.random.default_rng(0)
    log_mel = np.full((n, 4, 2), -40, np.float16)
    log_mel[:, 0] = -20
    bands = {"timeline": [(3.0 * i, 3.0 * i + 3, CLASSES[rng.integers(3)]) for i in range(n)]}
    posterior = rng.dirichlet(np.ones(3), n)
    drawn = track.draw_track(
        "x",
        "alt",
        track.TrackView(np.arange(n) * 3.0, log_mel, posterior, bands, 3.0, 16000, 512),
        CLASSES,
    )
    assert drawn.count("<path") < 2 * track._MAX_STEPS
    assert len(drawn) < 400_000
