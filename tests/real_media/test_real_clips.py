"""Recorded instruments and a live band: confusing a clip changes its decoded sound and no more."""

import json

import numpy as np

from rlcomm.data.check import check
from rlcomm.data.clips import load_clip
from rlcomm.data.confuse import confuse
from rlcomm.data.decode import decode_audio
from rlcomm.data.media import MediaSettings
from rlcomm.data.probe import probe
from rlcomm.data.sample import read_jsonl
from rlcomm.data.write_media import write_audio

RATE = 16_000
WHOLE = MediaSettings(audio_seconds=None)


def correlation(a, b):
    """Of two sounds, by sample."""
    return float(np.corrcoef(a, b)[0, 1])


def test_rows_of_recorded_instruments_pass_the_check(gcompris_clips):
    assert check(gcompris_clips.rows, progress=False) == []
    rows = read_jsonl(gcompris_clips.rows)
    assert len(rows) == 2 * len(gcompris_clips.clips) + 4 * len(gcompris_clips.stems) >= 40
    assert sum(row.answer == "yes" for row in rows) == len(rows) // 2


def test_recorded_clips_have_the_announced_size(gcompris_clips):
    for clip_id, path in gcompris_clips.clips.items():
        names = gcompris_clips.visible[clip_id]
        clip = load_clip(path, path, WHOLE)
        assert clip.frames.shape == (6, 112, 112 * len(names), 3)
        assert clip.audio.shape == (3 * RATE,)
        assert 0.02 < np.sqrt(np.mean(clip.audio**2)) < 0.2
        assert probe(path).audio_rate == 44_100


def test_muting_a_stem_leaves_the_other_instrument_and_the_picture(gcompris_clips):
    for clip_id, stems in gcompris_clips.stems.items():
        original = load_clip(gcompris_clips.clips[clip_id], None, WHOLE).frames
        for muted in stems:
            path = gcompris_clips.confused / "clips" / f"{clip_id}_no_{muted}.mp4"
            clip = load_clip(path, path, WHOLE)
            (other,) = set(stems) - {muted}
            assert np.array_equal(clip.frames, original)
            assert correlation(clip.audio, decode_audio(stems[other], RATE)) > 0.98
            assert abs(correlation(clip.audio, decode_audio(stems[muted], RATE))) < 0.2


def test_clips_of_different_instruments_differ_in_sound_and_picture(gcompris_clips):
    alone = [
        load_clip(path, path, WHOLE) for clip_id, path in gcompris_clips.clips.items() if "+" not in clip_id
    ]
    for index, one in enumerate(alone):
        for other in alone[:index]:
            assert abs(correlation(one.audio, other.audio)) < 0.2
            assert np.abs(one.frames.astype(int) - other.frames).mean() > 5


def test_modified_band_keeps_the_picture_and_loses_its_sound(band_video, gcompris_clips, tmp_path):
    sounds = {name: gcompris_clips.folder / "recordings" / f"{name}.ogg" for name in ("harp", "snare_drum")}
    confuse(band_video, tmp_path, "modified", sounds=sounds, progress=False)
    rows = json.loads((tmp_path / "test" / "avconfuse" / "modified.json").read_text())
    assert [row["sound_type"] for row in rows] == ["harp", "snare_drum"]
    before = load_clip(band_video, band_video, WHOLE)
    for row in rows:
        path = tmp_path / "clips" / row["filename"]
        after = load_clip(path, path, WHOLE)
        assert np.array_equal(after.frames, before.frames)
        assert abs(len(after.audio) - len(before.audio)) < 0.05 * RATE  # looped: the recordings last 4-12 s
        length = min(len(after.audio), len(before.audio))
        assert abs(correlation(after.audio[:length], before.audio[:length])) < 0.05
        level = np.sqrt(np.mean(after.audio**2) / np.mean(before.audio**2))
        assert 0.5 < level < 1.1  # as loud, or less where that would clip
        assert np.abs(after.audio[-5 * RATE :]).max() > 0.01


def test_shifted_band_is_the_same_sound_later(band_video, tmp_path):
    confuse(band_video, tmp_path, "shifted", seconds=1.5, progress=False)
    before = decode_audio(band_video, RATE)
    after = decode_audio(tmp_path / "clips" / "demo_shift+1.5.mp4", RATE)
    late, span = round(1.5 * RATE), 30 * RATE
    assert not np.abs(after[: late - 1000]).max() > 0.005
    assert correlation(after[late : late + span], before[:span]) > 0.99
    assert correlation(after[:span], before[:span]) < 0.5


def test_swapped_sound_is_what_is_decoded_and_cached(gcompris_clips, tmp_path):
    harp, banjo = (str(gcompris_clips.clips[name]) for name in ("harp", "banjo"))
    own = load_clip(harp, harp, WHOLE, str(tmp_path))
    for _ in range(2):  # decoded, then from the cache
        swapped = load_clip(harp, banjo, WHOLE, str(tmp_path))
        assert np.array_equal(swapped.frames, own.frames)
        assert np.array_equal(swapped.audio, load_clip(banjo, banjo, WHOLE).audio)
        assert np.abs(swapped.audio - own.audio).max() > 0.1


def test_band_video_frames_cover_the_minute(band_video, tmp_path):
    clip = load_clip(band_video, band_video, MediaSettings())
    assert clip.frames.shape == (32, 144, 176, 3)
    assert 0.5 < clip.fps < 0.55
    assert clip.audio.shape == (30 * RATE,)
    write_audio(tmp_path / "a.wav", clip.audio, RATE)
    assert correlation(decode_audio(tmp_path / "a.wav", RATE), clip.audio) > 0.999
