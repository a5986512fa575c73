"""Controls of a clip: each changes the sense it names, and nothing else. Each test names its trap."""

import numpy as np
import pytest

from rlcomm.data import controls
from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.utils.errors import UserError
from tests.conftest import make_clip

AUDIO = ("no_audio", "silent_audio", "other_audio", "audio_1of3")
VIDEO = ("no_video", "black_video", "static_video", "other_video", "video_2of2")


def counted(frames: int = 6, samples: int = 16_000) -> Clip:
    """A clip whose frames and samples are their own numbers."""
    pictures = np.repeat(np.arange(frames, dtype=np.uint8), 12).reshape(frames, 2, 2, 3)
    return Clip(pictures, 2.0, np.arange(samples, dtype=np.float32))


@pytest.mark.parametrize("condition", AUDIO)
def test_a_control_of_the_sound_leaves_the_picture_as_it_is(condition):
    clip, other = make_clip(0), make_clip(1)
    found = controls.changed(clip, condition, other)
    assert found is not None
    assert found.frames is clip.frames
    assert found.audio is None or not np.array_equal(found.audio, clip.audio)


@pytest.mark.parametrize("condition", VIDEO)
def test_a_control_of_the_picture_leaves_the_sound_as_it_is(condition):
    clip, other = make_clip(0, 2.0), make_clip(1, 2.0)
    found = controls.changed(clip, condition, other)
    assert found is not None
    assert found.audio is clip.audio
    assert found.frames is None or not np.array_equal(found.frames, clip.frames)


def test_silence_is_a_sound_and_nothing_is_none():
    clip = make_clip(0)
    silent, none = controls.changed(clip, "silent_audio"), controls.changed(clip, "no_audio")
    assert silent is not None
    assert silent.audio is not None
    assert len(silent.audio) == len(clip.audio)
    assert not silent.audio.any()
    assert none is not None
    assert none.audio is None


def test_a_still_picture_is_the_first_frame_throughout():
    found = controls.changed(counted(), "static_video")
    assert found is not None
    assert found.frames[:, 0, 0, 0].tolist() == [0] * 6


def test_fragments_cover_the_sound_once():
    clip = counted(samples=16_001)
    for n in range(2, 6):
        parts = [controls.changed(clip, controls.fragment("audio", k, n)).audio for k in range(n)]
        assert np.array_equal(np.concatenate(parts), clip.audio)


def test_fragments_of_frames_by_hand_go_in_pairs():
    frames = {k: controls.changed(counted(6), f"video_{k}of4").frames[:, 0, 0, 0].tolist() for k in (1, 2, 4)}
    assert frames == {1: [0, 1], 2: [1, 2], 4: [4, 5]}
    assert controls.changed(counted(2), "video_5of5").frames[:, 0, 0, 0].tolist() == [1, 1]


def test_a_fragment_too_short_to_be_heard_is_widened_not_emptied():
    found = controls.changed(counted(samples=2_000), "audio_5of5")
    assert len(found.audio) == 1_600
    assert found.audio[-1] == 1_999


def test_another_clip_is_looped_or_cut_to_the_same_length():
    clip, short = counted(6, 16_000), counted(2, 7_000)
    audio = controls.changed(clip, "other_audio", short).audio
    assert len(audio) == 16_000
    assert audio[7_000] == 0
    assert len(controls.changed(clip, "other_video", counted(8)).frames) == 6


@pytest.mark.parametrize(
    ("clip", "condition"),
    [
        (Clip(None, 2.0, np.ones(16, np.float32)), "no_video"),
        (Clip(None, 2.0, np.ones(16, np.float32)), "other_video"),
        (Clip(np.zeros((1, 2, 2, 3), np.uint8), 2.0, None), "video_1of2"),
        (Clip(np.zeros((1, 2, 2, 3), np.uint8), 2.0, None), "silent_audio"),
        (Clip(None, 2.0, None), "no_media"),
        (make_clip(0), "other_audio"),  # there is no other clip
    ],
)
def test_what_changes_nothing_is_no_control(clip, condition):
    """Trap: an audio-only item under no_video would stand in the table as if it were blind."""
    assert controls.changed(clip, condition) is None


@pytest.mark.parametrize("name", ["silence", "audio_1of1", "audio_4of3", "audio_0of2", "text_1of2"])
def test_an_unknown_condition_is_refused(name):
    with pytest.raises(UserError, match=f"conditions has '{name}', which is no condition; use no_audio"):
        controls.check(["full", "audio_3of3", name])


def test_a_donor_is_never_the_clip_itself():
    """Trap: the muted item and its control are about one clip; the next item is no other clip."""
    samples = [Sample(str(i), (Turn("?", "yes"),), meta={"video_id": clip}) for i, clip in enumerate("aabbc")]
    donors = controls.donors(samples)
    assert {name: donor.meta["video_id"] for name, donor in donors.items()} == {"a": "b", "b": "c", "c": "a"}
    assert controls.donors(samples[:2]) == {}


def test_a_part_of_a_question_is_left_out_or_there_is_none():
    """Trap: a sample that has nothing else to answer from."""
    both = Sample(
        "1", (Turn("A harp plays. Which?", "harp"),), "x.mp4", "x.mp4", meta={"without_text": "Which?"}
    )
    bare = controls.without(both, "text")
    assert bare is not None
    assert (bare.question, bare.answer, bare.video) == ("Which?", "harp", "x.mp4")
    assert controls.without(bare, "text") is None
    deaf = controls.without(both, "audio")
    assert deaf is not None
    assert (deaf.audio, deaf.video) == (None, "x.mp4")
    assert controls.without(deaf, "video") is None
    assert controls.without(deaf, "audio") is None
