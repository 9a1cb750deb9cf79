"""The demo's last words say what came out, and why."""

from pipelines.commands.demo import abstentions
from sssl.songs.threshold import Threshold


def test_summary_says_what_the_threshold_is_and_what_shows_it():
    said = abstentions(
        2, Threshold(0.531, 0.8, left_out_tracks=89, tracks_above=88, right_above=82, precision_low=0.872)
    )
    assert said == (
        "2 tracks, with a confidence below 0.53 or unlike anything labelled. "
        "Above it the label is right for 82 of 88 tracks left "
        "out of the fit, which shows a precision of 0.872 (--wanted-precision 0.8)"
    )


def test_summary_says_why_all_tracks_abstain():
    said = abstentions(113, Threshold(None, 0.8, left_out_tracks=89, tracks_above=0, right_above=0, precision_low=None))
    assert said == "113 tracks: 89 tracks left out of the fit cannot show --wanted-precision 0.8"


def test_one_track_is_a_track():
    few = Threshold(None, 0.8, left_out_tracks=1, tracks_above=0, right_above=0, precision_low=None)
    assert abstentions(1, few) == "1 track: 1 track left out of the fit cannot show --wanted-precision 0.8"
