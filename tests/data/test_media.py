"""Every kind of file has one defined outcome (the table at the head of rlcomm.data.decode)."""

import dataclasses
import multiprocessing
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from rlcomm.data import clips
from rlcomm.data.clips import cache_key, load_clip
from rlcomm.data.decode import decode_audio
from rlcomm.data.media import MediaError, MediaSettings, expected
from rlcomm.data.probe import Probe, probe
from rlcomm.data.write_media import write_audio, write_clip
from rlcomm.utils.errors import UserError

RATE = 16_000


def tone(seconds=2.0, rate=RATE, hertz=440.0, start=0.0):
    """A tone of amplitude 0.5 that starts after `start` seconds."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * hertz * time) * (time >= start)).astype(np.float32)


def grey(count=8, height=32, width=48, step=30):
    """Frame k is uniformly grey with the value k * step, so a decoded frame tells its number."""
    return np.stack([np.full((height, width, 3), k * step, np.uint8) for k in range(count)])


def encode(
    path,
    *,
    frames=None,
    fps=4,
    video="libx264",
    pixels="yuv420p",
    audio=None,
    rate=RATE,
    channels=1,
    codec="aac",
    delay=0.0,
    rotation=0,
    options=None,
):
    """A file as other tools write it: any codec, rate, channels, a late sound, a rotated picture."""
    with av.open(str(path), "w", options=options or {}) as container:
        if frames is not None:
            picture = container.add_stream(video, rate=fps, options={"crf": "10"})
            picture.height, picture.width, picture.pix_fmt = *frames.shape[1:3], pixels
            if rotation:
                picture.set_display_rotation(rotation)
        if audio is not None:
            sound = container.add_stream(codec, rate=rate)
            sound.layout = "mono" if channels == 1 else "stereo"
        if frames is not None:
            for index, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, fps)
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        if audio is not None:
            block = np.ascontiguousarray(np.broadcast_to(audio, (channels, audio.shape[-1])), np.float32)
            frame = av.AudioFrame.from_ndarray(block, format="fltp", layout=sound.layout.name)
            frame.sample_rate, frame.pts, frame.time_base = rate, round(delay * rate), Fraction(1, rate)
            for packet in [*sound.encode(frame), *sound.encode(None)]:
                container.mux(packet)
    return str(path)


@pytest.fixture
def clip(tmp_path):
    path = str(tmp_path / "clip.mp4")
    write_clip(path, grey(), 4, tone())
    return path


# ------------------------------------------------------------------------------------------ what comes out


def test_written_clip_comes_back_at_the_right_time(clip):
    # 8 frames at 4 fps are 2 s; at 2 fps the frames of 0, 0.5, 1 and 1.5 s are number 0, 2, 4 and 6
    found = load_clip(clip, clip, MediaSettings(fps=2))
    assert found.frames.shape == (4, 32, 48, 3)
    assert found.frames.dtype == np.uint8
    assert found.fps == 2
    assert np.allclose(found.frames.mean(axis=(1, 2, 3)), [0, 60, 120, 180], atol=3)
    assert found.audio.dtype == np.float32
    assert found.audio.shape == (2 * RATE,)
    # no shift by the encoder's priming (1024 samples would be a quarter turn of phase and more)
    assert np.abs(found.audio - tone())[200:-200].max() < 0.05
    assert probe(clip) == Probe(True, True, 2.0, 48, 32, 4.0, RATE)
    assert np.abs(decode_audio(clip, RATE)).max() == pytest.approx(0.5, abs=0.05)


def test_same_input_gives_the_same_bytes(tmp_path, clip):
    write_clip(tmp_path / "again.mp4", grey(), 4, tone())
    assert (tmp_path / "again.mp4").read_bytes() == Path(clip).read_bytes()


def test_frames_of_a_long_clip_cover_all_of_it(clip):
    # 2 s at 4 fps would be 8 frames; 4 are allowed, so one every 0.5 s, at the true rate 2
    found = load_clip(clip, None, MediaSettings(fps=4, max_frames=4))
    assert found.fps == 2
    assert found.audio is None
    assert np.allclose(found.frames.mean(axis=(1, 2, 3)), [0, 60, 120, 180], atol=3)


def test_odd_frame_count_repeats_the_last_frame(tmp_path):
    # 1.5 s at 2 fps are 3 frames: 0, 0.5 and 1 s; temporal patches take two at a time
    write_clip(tmp_path / "a.mp4", grey(6), 4, None)
    found = load_clip(tmp_path / "a.mp4", None, MediaSettings(fps=2))
    assert np.allclose(found.frames.mean(axis=(1, 2, 3)), [0, 60, 120, 120], atol=3)


def test_a_single_frame_video_has_two_frames(tmp_path):
    write_clip(tmp_path / "a.mp4", grey(1), 2, None)
    assert load_clip(tmp_path / "a.mp4", None, MediaSettings()).frames.shape[0] == 2


def test_policy_hears_the_first_seconds_or_all(clip):
    whole = load_clip(None, clip, MediaSettings(audio_seconds=None)).audio
    first = load_clip(None, clip, MediaSettings(audio_seconds=0.7)).audio
    assert whole.shape == (2 * RATE,)
    assert first.shape == (round(0.7 * RATE),)
    assert np.allclose(first, whole[: len(first)], atol=1e-6)


def test_sizes(tmp_path, clip):
    def shape(**settings):
        return load_clip(clip, None, MediaSettings(**settings)).frames.shape[1:3]

    assert shape() == (32, 48)
    assert shape(height=56, width=84) == (56, 84)
    assert shape(height=16) == (16, 24)
    assert shape(width=12) == (8, 12)
    assert shape(max_pixels=32 * 48 // 4) == (16, 24)


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 1), (48_000, 2), (8_000, 2), (22_050, 1)])
@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.wav", "pcm_s16le"), ("a.flac", "flac")])
def test_odd_rates_and_channels_give_16_khz_mono(tmp_path, rate, channels, name, codec):
    sound = tone(rate=rate)
    if codec == "aac":
        path = encode(tmp_path / name, frames=grey(), audio=sound, rate=rate, channels=channels)
    else:
        block = np.repeat((sound * 32767).astype(np.int16)[:, None], channels, axis=1).reshape(1, -1)
        path = str(tmp_path / name)
        with av.open(path, "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.layout = "mono" if channels == 1 else "stereo"
            frame = av.AudioFrame.from_ndarray(block, format="s16", layout=stream.layout.name)
            frame.sample_rate, frame.pts = rate, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                container.mux(packet)
    audio = load_clip(None, path, MediaSettings()).audio
    assert audio.shape == (2 * RATE,)
    # the same level and phase as at 16 kHz: a sqrt(2) downmix or a late start would show
    assert np.abs(audio - tone())[800:-800].max() < 0.06


def test_stereo_is_averaged(tmp_path):
    left = np.stack([tone(), np.zeros(2 * RATE, np.float32)])
    path = encode(tmp_path / "a.mp4", audio=left, channels=2)
    assert np.abs(decode_audio(path, RATE)).max() == pytest.approx(0.25, abs=0.03)


def test_sound_that_starts_late_is_heard_late(tmp_path):
    path = encode(tmp_path / "late.mp4", frames=grey(), audio=tone(1.0), delay=0.5)
    audio = decode_audio(path, RATE)
    assert np.abs(audio[: round(0.49 * RATE)]).max() < 0.01
    assert np.abs(audio[round(0.51 * RATE) :]).max() > 0.4
    assert len(audio) == pytest.approx(1.5 * RATE, abs=1100)


def test_odd_sizes(tmp_path):
    # H.264 with full colour can be odd; 4:2:0, which browsers play, is padded by one row and column
    images = grey(4, 33, 57)
    full = encode(tmp_path / "full.mp4", frames=images, pixels="yuv444p")
    assert load_clip(full, None, MediaSettings()).frames.shape == (2, 33, 57, 3)
    write_clip(tmp_path / "padded.mp4", images, 4, None)
    assert load_clip(tmp_path / "padded.mp4", None, MediaSettings()).frames.shape == (2, 34, 58, 3)


def test_rotated_phone_clip_stands_upright(tmp_path):
    images = np.zeros((4, 32, 48, 3), np.uint8)
    images[:, :, 24:] = 255  # right half white; a quarter turn counterclockwise puts it on top
    found = load_clip(encode(tmp_path / "r.mp4", frames=images, rotation=90), None, MediaSettings()).frames
    assert found.shape == (2, 48, 32, 3)
    assert found[:, :20].mean() > 240
    assert found[:, 28:].mean() < 15


# ------------------------------------------------------------------------------------------ what is missing


def test_no_audio_track_is_an_error_or_silence(tmp_path):
    write_clip(tmp_path / "mute.mp4", grey(), 4, None)
    path = tmp_path / "mute.mp4"
    assert not probe(path).has_audio
    with pytest.raises(MediaError, match=r"mute\.mp4: has no audio track.*missing_audio: silence"):
        load_clip(path, path, MediaSettings())
    silence = load_clip(path, path, MediaSettings(missing_audio="silence")).audio
    assert silence.shape == (2 * RATE,)
    assert not silence.any()
    assert load_clip(path, path, MediaSettings(missing_audio="silence", audio_seconds=0.5)).audio.shape == (
        RATE // 2,
    )


def test_silent_audio_is_a_sound_like_any_other(tmp_path):
    write_clip(tmp_path / "a.mp4", grey(), 4, np.zeros(2 * RATE, np.float32))
    audio = load_clip(None, tmp_path / "a.mp4", MediaSettings()).audio
    assert audio.shape == (2 * RATE,)
    assert not audio.any()
    assert not decode_audio(tmp_path / "a.mp4", RATE).any()


def test_audio_only_file_is_heard_but_has_no_picture(tmp_path):
    path = tmp_path / "a.wav"
    write_audio(path, tone(), RATE)
    assert np.abs(load_clip(None, path, MediaSettings()).audio - tone()).max() < 1e-4
    with pytest.raises(MediaError, match=r"a\.wav: has no picture \(an audio-only file\)"):
        load_clip(path, None, MediaSettings())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.bmp", "a.webp"])
def test_image_file_is_one_frame(tmp_path, name):
    image = np.zeros((33, 57, 3), np.uint8)
    image[:, :28] = [200, 30, 30]
    Image.fromarray(image).save(tmp_path / name)
    found = load_clip(tmp_path / name, None, MediaSettings())
    assert found.frames.shape == (1, 33, 57, 3)
    assert np.allclose(found.frames[0, 10, 5], [200, 30, 30], atol=12)
    assert probe(tmp_path / name).seconds == 0.0


@pytest.mark.parametrize("streams", ["picture", "sound"])
@pytest.mark.parametrize("kept", [10, 400, 0.5, 0.95, -1])
def test_cut_off_mp4_is_an_error_wherever_it_is_cut(tmp_path, clip, kept, streams):
    # faststart puts the header first, so ffmpeg itself would decode what is left without a word
    whole = Path(clip).read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(whole[: round(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(MediaError, match=r"cut\.mp4: is cut off"):
        load_clip(
            path if streams == "picture" else None, path if streams == "sound" else None, MediaSettings()
        )


@pytest.mark.parametrize(
    ("name", "video", "codec"), [("a.mkv", "libx264", "pcm_s16le"), ("a.wav", None, "pcm_s16le")]
)
def test_cut_off_files_of_other_kinds(tmp_path, name, video, codec):
    path = tmp_path / name
    if name == "a.wav":
        write_audio(path, tone(4), RATE)
    else:
        encode(path, frames=np.random.default_rng(0).integers(0, 255, (16, 64, 64, 3), np.uint8))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(MediaError, match="is cut off"):
        load_clip(path if video else None, None if video else path, MediaSettings())


def test_what_is_no_media_is_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("hello\n" * 100)
    for name, said in [
        ("empty.mp4", "is empty (zero bytes)"),
        ("text.mp4", "cannot be decoded"),
        ("missing.mp4", "does not exist"),
        (".", "is a folder"),
    ]:
        for arguments in [(tmp_path / name, None), (None, tmp_path / name)]:
            with pytest.raises(MediaError) as error:
                load_clip(*arguments, MediaSettings())
            assert said in str(error.value)
            assert str(tmp_path / name) in str(error.value)
            assert isinstance(error.value, UserError)


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"max_frames": 3},
        {"max_frames": 0},
        {"height": 0},
        {"audio_seconds": 0},
        {"missing_audio": "zeros"},
        {"max_pixels": 0},
        {"sampling_rate": -1},
        {"width": -2},
    ],
)
def test_settings_out_of_range_name_the_setting(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        MediaSettings(**wrong)


# ------------------------------------------------------------------------------------------ cache


def test_cache_gives_what_decoding_gives_without_decoding(tmp_path, clip, monkeypatch):
    settings, cache = MediaSettings(), tmp_path / "cache"
    fresh = load_clip(clip, clip, settings, cache)
    monkeypatch.setattr(clips, "_decode", lambda *_: pytest.fail("decoded although it is cached"))
    again = load_clip(clip, clip, settings, cache)
    assert np.array_equal(fresh.frames, again.frames)
    assert np.array_equal(fresh.audio, again.audio)
    assert fresh.fps == again.fps
    assert len(list(cache.iterdir())) == 1


def test_cache_key_follows_content_and_every_setting(tmp_path, clip):
    settings = MediaSettings()
    keys = {cache_key(clip, clip, settings), cache_key(clip, None, settings), cache_key(None, clip, settings)}
    changed = {
        "fps": 1.0,
        "max_frames": 8,
        "height": 28,
        "width": 28,
        "max_pixels": 99,
        "audio_seconds": None,
        "sampling_rate": 8000,
        "missing_audio": "silence",
    }
    assert set(changed) == {field.name for field in dataclasses.fields(MediaSettings)}
    keys |= {
        cache_key(clip, clip, dataclasses.replace(settings, **{name: value}))
        for name, value in changed.items()
    }
    assert len(keys) == 3 + len(changed)

    copy = tmp_path / "copy.mp4"
    copy.write_bytes(Path(clip).read_bytes())
    assert cache_key(copy, copy, settings) == cache_key(clip, clip, settings)
    write_clip(copy, grey(), 4, tone(hertz=500))
    assert cache_key(copy, copy, settings) != cache_key(clip, clip, settings)


def test_changed_file_of_the_same_name_is_decoded_anew(tmp_path):
    path, cache = tmp_path / "a.wav", tmp_path / "cache"
    write_audio(path, tone(1), RATE)
    before = load_clip(None, path, MediaSettings(), cache).audio
    write_audio(path, -tone(1), RATE)
    os.utime(path, ns=(1, 1))
    after = load_clip(None, path, MediaSettings(), cache).audio
    assert np.allclose(before, -after, atol=1e-4)
    assert np.abs(after).max() > 0.4


def test_damaged_cache_entry_is_replaced(tmp_path, clip):
    cache = tmp_path / "cache"
    fresh = load_clip(clip, clip, MediaSettings(), cache)
    entry = next(cache.iterdir())
    for damage in (b"", b"not an archive", entry.read_bytes()[:1000]):
        entry.write_bytes(damage)
        assert np.array_equal(load_clip(clip, clip, MediaSettings(), cache).frames, fresh.frames)
    assert entry.stat().st_size > 1000


def _load_many(clips, cache):
    return [
        float(load_clip(path, path, MediaSettings(), cache).audio.sum()) for path in clips for _ in range(3)
    ]


def test_cache_under_processes_at_once(tmp_path):
    clips = []
    for index in range(6):
        clips.append(str(tmp_path / f"{index}.mp4"))
        write_clip(clips[-1], grey(2), 2, tone(1.0, hertz=300 + 50 * index))
    cache = str(tmp_path / "cache")
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        first, second = pool.starmap(_load_many, [(clips, cache), (clips, cache)])
    assert first == second == _load_many(clips, None)
    names = os.listdir(cache)
    assert len(names) == 6
    assert all(name.endswith(".npz") and not name.startswith(".") for name in names)


@pytest.mark.parametrize(
    "settings",
    [
        MediaSettings(),
        MediaSettings(fps=5.0),  # an odd number of frames
        MediaSettings(fps=30.0, max_frames=4),
        MediaSettings(height=28),
        MediaSettings(width=40, height=30),
        MediaSettings(max_pixels=1_000, audio_seconds=0.5),
    ],
)
def test_what_a_clip_will_give_is_known_before_it_is_decoded(settings, clip_rows):
    """`rlcomm doctor` sizes prompts by this: a frame more or less is hundreds of tokens."""
    path = clip_rows[0].video
    clip, found = load_clip(path, path, settings), probe(path)
    frames, width, height, samples = expected(found.seconds, found.width, found.height, settings)
    assert clip.frames.shape == (frames, height, width, 3)
    assert abs(samples - len(clip.audio)) <= 160  # the header's length is rounded to frames of sound
    assert expected(found.seconds, None, None, settings)[:3] == (0, 0, 0)
