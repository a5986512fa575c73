"""Media as people have them: late, short, held, changing, tagged, junk behind; each kind in several forms."""

import shutil
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from rlcomm.data.check import check
from rlcomm.data.clips import load_clip
from rlcomm.data.confuse import confuse
from rlcomm.data.decode import decode_audio, decode_frames
from rlcomm.data.media import MediaError, MediaSettings
from rlcomm.data.probe import probe
from rlcomm.data.sample import Sample, Turn, write_jsonl
from rlcomm.data.write_media import write_audio

RATE = 16_000
MEDIA = Path(__file__).parent / "media"
WHOLE = MediaSettings(fps=2.0, max_frames=64, audio_seconds=None)
SOUND = {"mp4": "aac", "mkv": "aac", "webm": "libopus", "mov": "pcm_s16le", "avi": "pcm_s16le"}
PICTURE = {"webm": "libvpx"}


def tone(seconds: float, at: float, rate: int = 48_000) -> np.ndarray:
    """Silence with one second of 440 Hz that begins at `at`."""
    time = np.arange(round(seconds * rate)) / rate
    return (0.5 * np.sin(2 * np.pi * 440 * time) * ((time >= at) & (time < at + 1))).astype(np.float32)


def write(
    path: Path,
    seconds: float = 6.0,
    fps: int = 10,
    sound: float | None = 6.0,
    *,
    picture_at: float = 0.0,
    sound_at: float = 0.0,
    gap: tuple[float, float] = (0.0, 0.0),
    at: float = 3.0,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A clip whose grey rises by 10 a frame of 0.5 s, and whose sound has one second of tone from `at` on."""
    kind = path.suffix[1:]
    with av.open(str(path), "w") as container:
        container.metadata.update(metadata or {})
        video = container.add_stream(PICTURE.get(kind, "libx264"), rate=fps)
        video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = None
        if sound is not None:
            audio = container.add_stream(SOUND[kind], rate=48_000)
            audio.layout = "mono"
        for time in (index / fps for index in range(round(seconds * fps))):
            grey = np.full((64, 96, 3), 30 + 10 * int(time * 2), np.uint8)
            frame = av.VideoFrame.from_ndarray(grey, format="rgb24")
            frame.pts, frame.time_base = round((time + picture_at) * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        for packet in video.encode(None):
            container.mux(packet)
        if audio is not None and sound is not None:
            samples = tone(sound, at)
            for start in range(0, len(samples), 960):
                if gap[0] <= start / 48_000 < gap[1]:
                    continue
                part = av.AudioFrame.from_ndarray(
                    samples[None, start : start + 960], format="fltp", layout="mono"
                )
                part.sample_rate, part.pts = 48_000, start + round(sound_at * 48_000)
                part.time_base = Fraction(1, 48_000)
                container.mux(audio.encode(part))
            container.mux(audio.encode(None))
    return path


def heard(audio: np.ndarray) -> list[int]:
    """The half seconds in which the tone is."""
    halves = [audio[i : i + RATE // 2] for i in range(0, len(audio) - RATE // 4, RATE // 2)]
    return [number for number, part in enumerate(halves) if np.sqrt(np.mean(part**2)) > 0.2]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "mov"])
@pytest.mark.parametrize(("pictures", "sounds"), [(6.0, 3.0), (3.0, 6.0), (2.0, 8.0)])
def test_a_track_may_end_before_the_other(tmp_path, kind, pictures, sounds):
    clip = write(tmp_path / f"a.{kind}", pictures, sound=sounds, at=2.0)
    found = load_clip(clip, clip, WHOLE)
    assert found.frames is not None
    assert found.audio is not None
    assert abs(len(found.frames) - 2 * pictures) <= 1
    assert len(found.audio) / RATE == pytest.approx(sounds, abs=0.06)
    assert heard(found.audio) == [4, 5]


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
@pytest.mark.parametrize("late", [0.5, 2.0])
def test_a_late_sound_has_silence_in_front(tmp_path, kind, late):
    clip = write(tmp_path / f"a.{kind}", sound_at=late, at=2.0)
    audio = decode_audio(clip, RATE)
    assert heard(audio) == [4 + int(2 * late), 5 + int(2 * late)]
    assert len(audio) / RATE == pytest.approx(6 + late, abs=0.06)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "mov"])
def test_a_late_picture_leaves_the_sound_before_it(tmp_path, kind):
    clip = write(tmp_path / f"a.{kind}", picture_at=3.0, at=1.0)
    found = load_clip(clip, clip, WHOLE)
    assert found.audio is not None
    assert found.frames is not None
    assert heard(found.audio) == [2, 3]
    greys = [int(frame.mean()) for frame in found.frames]
    assert greys[:6] == [0] * 6  # black, as players show it
    assert greys[6] == pytest.approx(30, abs=3)
    assert greys[8] == pytest.approx(50, abs=3)


@pytest.mark.parametrize(("kind", "gap"), [("mp4", (1.0, 2.5)), ("mkv", (1.0, 2.5)), ("mkv", (0.5, 0.8))])
def test_a_gap_in_the_sound_stays_where_it_is(tmp_path, kind, gap):
    clip = write(tmp_path / f"a.{kind}", gap=gap, at=4.0)
    assert heard(decode_audio(clip, RATE)) == [8, 9]


@pytest.mark.parametrize(
    ("name", "greys"),
    [("hold.mp4", [33, 44, 52, 62, 72, 80] + [90] * 14), ("slide.mkv", [33] * 2 + [52] * 18)],
)
def test_a_held_last_frame_and_a_variable_rate(name, greys):
    """A screen recording whose picture stands still from 3 s on; two slides under 10 s of music."""
    frames, rate = decode_frames(MEDIA / name, WHOLE)
    assert rate == 2.0
    assert [float(frame.mean()) for frame in frames] == pytest.approx(greys, abs=2)


def test_a_picture_whose_size_changes_midway_keeps_the_first():
    frames, _ = decode_frames(MEDIA / "size.webm", WHOLE)
    assert frames.shape == (12, 64, 96, 3)


@pytest.mark.parametrize(
    ("suffix", "codec", "format_"),
    [
        ("aac", "aac", "adts"),
        ("mp3", "libmp3lame", "mp3"),
        ("ts", "aac", "mpegts"),
        ("ogg", "libopus", "ogg"),
    ],
)
def test_sounds_whose_length_is_only_estimated_are_whole(tmp_path, suffix, codec, format_):
    path = tmp_path / f"a.{suffix}"
    options = {"write_xing": "0"} if format_ == "mp3" else {}
    quiet_then_loud = np.concatenate([np.zeros(48_000 * 4), tone(4, 1)]).astype(np.float32)
    with av.open(str(path), "w", format=format_, options=options) as container:
        stream = container.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(quiet_then_loud[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            container.mux(packet)
    audio = decode_audio(path, RATE)
    assert len(audio) / RATE == pytest.approx(8, abs=0.15)
    assert heard(audio) == [10, 11]
    assert probe(path).seconds == pytest.approx(8, abs=0.2)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "avi"])
def test_tags_in_another_encoding_are_no_obstacle(tmp_path, kind):
    clip = write(tmp_path / f"a.{kind}", 2.0, sound=2.0, at=1.0, metadata={"title": "TITLE_"})
    data = clip.read_bytes()
    assert b"TITLE_" in data
    clip.write_bytes(data.replace(b"TITLE_", "小提".encode("gbk") + b"\xd0\xff"))
    assert heard(decode_audio(clip, RATE)) == [2, 3]
    assert len(decode_frames(clip, WHOLE)[0]) == 4


@pytest.mark.parametrize("other", [{"rate": 44_100}, {"channels": 2}])
def test_a_stream_of_sound_that_changes_midway(tmp_path, other):
    parts = []
    for number, settings in enumerate(({}, other)):
        path = tmp_path / f"{number}.mp3"
        rate, channels = settings.get("rate", 48_000), settings.get("channels", 1)
        with av.open(str(path), "w", format="mp3", options={"write_xing": "0", "id3v2_version": "0"}) as out:
            stream = out.add_stream("libmp3lame", rate=rate)
            stream.layout = "stereo" if channels == 2 else "mono"
            samples = np.repeat(tone(2, 1, rate)[None], channels, axis=0)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts = rate, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
        parts.append(path.read_bytes())
    joined = tmp_path / "a.mp3"
    joined.write_bytes(b"".join(parts))
    audio = decode_audio(joined, RATE)
    assert len(audio) / RATE == pytest.approx(4, abs=0.4)
    assert np.abs(audio).max() > 0.4


@pytest.mark.parametrize("kind", ["mkv", "webm"])
def test_a_download_that_stopped_halfway_is_refused(tmp_path, kind):
    """The size of the whole was reserved, the second half is zeros."""
    clip = write(tmp_path / f"a.{kind}", 10.0, sound=10.0)
    data = clip.read_bytes()
    clip.write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    for decode in (lambda: decode_audio(clip, RATE), lambda: decode_frames(clip, WHOLE)):
        with pytest.raises(
            MediaError, match=r"cut off or damaged: its (audio|video) ends after [\d.]+ of 10\."
        ):
            decode()


def test_a_sound_that_ends_before_its_header_says_is_refused(tmp_path):
    flac = tmp_path / "a.flac"
    with av.open(str(flac), "w") as out:
        stream = out.add_stream("flac", rate=48_000)
        stream.layout = "mono"
        noise = np.random.default_rng(0).standard_normal(48_000 * 8).astype(np.float32)
        frame = av.AudioFrame.from_ndarray((noise * 3000).astype(np.int16)[None], format="s16", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    assert len(decode_audio(flac, RATE)) == 8 * RATE
    flac.write_bytes(flac.read_bytes()[: flac.stat().st_size // 2])
    with pytest.raises(
        MediaError, match=r"a\.flac: is cut off or damaged: its audio ends after 4\.\d\d of 8"
    ):
        decode_audio(flac, RATE)


@pytest.mark.parametrize("place", ["behind", "before"])
def test_junk_around_an_mp3_is_passed_over(tmp_path, place):
    path = tmp_path / "a.mp3"
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libmp3lame", rate=48_000)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(tone(4, 1)[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    junk = b"APETAGEX" + np.random.default_rng(0).integers(0, 255, 3000, np.uint8).tobytes()
    path.write_bytes(path.read_bytes() + junk if place == "behind" else junk + path.read_bytes())
    audio = decode_audio(path, RATE)
    assert heard(audio)[:2] in ([2, 3], [2])
    assert len(audio) / RATE == pytest.approx(4, abs=0.3)


def test_the_default_track_is_heard(tmp_path):
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as out:
        streams = [out.add_stream("aac", rate=48_000) for _ in range(2)]
        for stream in streams:
            stream.layout = "mono"
        streams[0].disposition = av.stream.Disposition(0)
        streams[1].disposition = av.stream.Disposition.default
        for stream, loud in zip(streams, (0.0, 1.0), strict=True):
            frame = av.AudioFrame.from_ndarray(tone(3, 1)[None] * loud, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 48_000, 0
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
    assert heard(decode_audio(path, RATE)) == [2, 3]


@pytest.mark.parametrize(
    "patch",
    [
        lambda data: data[:4] + (len(data)).to_bytes(4, "little") + data[8:],  # 8 too many
        lambda data: (
            data[:4] + (0x7FFFF024).to_bytes(4, "little") + data[8:40] + b"\x00\xf0\xff\x7f" + data[44:]
        ),
        lambda data: data[:4] + b"\xff" * 4 + data[8:40] + b"\xff" * 4 + data[44:],
        lambda data: data[:4] + b"\x00" * 4 + data[8:],
        lambda data: data[:-1],
    ],
)
def test_wav_headers_of_other_writers(tmp_path, patch):
    path = tmp_path / "a.wav"
    write_audio(path, tone(3, 1, RATE), RATE)
    path.write_bytes(patch(path.read_bytes()))
    assert heard(decode_audio(path, RATE)) == [2, 3]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("codec", ["pcm_f32le", "pcm_f64le"])
def test_samples_that_are_no_numbers_are_refused(tmp_path, value, codec):
    samples = tone(2, 0.5)
    samples[30_000] = value
    path = tmp_path / "a.wav"
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=48_000)
        stream.layout = "mono"
        kind = {"pcm_f32le": ("flt", np.float32), "pcm_f64le": ("dbl", np.float64)}[codec]
        frame = av.AudioFrame.from_ndarray(samples[None].astype(kind[1]), format=kind[0], layout="mono")
        frame.sample_rate, frame.pts = 48_000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    with pytest.raises(MediaError, match=r"a\.wav: its sound holds samples that are no numbers"):
        decode_audio(path, RATE)


def test_playlists_and_odd_names_lead_nowhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    clip = write(tmp_path / "a.mp4", 2.0, sound=2.0, at=1.0)
    for name in ("http:a.mp4", "concat:a|b.mp4", "a%03d.mp4", "-i.mp4"):
        shutil.copy(clip, name)
        assert heard(decode_audio(name, RATE)) == [2, 3]
    for name, text in (
        ("list.mp4", f"ffconcat version 1.0\nfile '{clip}'\n"),
        ("live.mp4", f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{clip}\n#EXT-X-ENDLIST\n"),
    ):
        Path(name).write_text(text)
        with pytest.raises(MediaError, match="cannot be decoded"):
            decode_audio(name, RATE)


def test_a_picture_too_wide_for_any_processor(tmp_path):
    import PIL.Image

    PIL.Image.new("RGB", (2010, 10)).save(tmp_path / "a.png")
    with pytest.raises(MediaError, match=r"a\.png: its picture is 2010 x 10 pixels"):
        decode_frames(tmp_path / "a.png", WHOLE)
    frames, _ = decode_frames(tmp_path / "a.png", MediaSettings(height=56, width=56))
    assert frames.shape == (1, 56, 56, 3)


def test_a_cache_entry_that_lost_its_sound_is_decoded_anew(tmp_path):
    clip = write(tmp_path / "a.mp4", 2.0, sound=2.0, at=1.0)
    whole = load_clip(clip, clip, WHOLE, str(tmp_path / "cache"))
    (entry,) = (tmp_path / "cache").glob("*.npz")
    for kept in ({"fps": 2.0, "frames": whole.frames}, {"fps": 2.0, "frames": whole.frames, "audio": 0.5}):
        np.savez(entry, **kept)
        again = load_clip(clip, clip, WHOLE, str(tmp_path / "cache"))
        assert again.audio is not None
        assert whole.audio is not None
        assert np.array_equal(again.audio, whole.audio)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("mkv", {"seconds": 3.0}),
        ("mp4", {"picture_at": 2.0}),
        ("webm", {}),
        ("mkv", {"metadata": {"title": "x"}}),
    ],
)
def test_confuse_keeps_the_picture_as_it_was(tmp_path, kind, options):
    same_picture(write(tmp_path / f"a.{kind}", **options), tmp_path / "out")


@pytest.mark.parametrize("name", ["hold.mp4", "slide.mkv", "size.webm", "av1.mp4", "mj.mov"])
def test_confuse_keeps_what_is_copied_and_what_is_encoded_anew(tmp_path, name):
    """Held frames, another size midway, AV1, a camera on its side with the full range of colours."""
    same_picture(MEDIA / name, tmp_path / "out")


def same_picture(clip: Path, out: Path) -> None:
    before, _ = decode_frames(clip, WHOLE)
    confuse([clip], out, "shifted", seconds=1.0, progress=False)
    (made,) = (out / "clips").iterdir()
    after, _ = decode_frames(made, WHOLE)
    assert after.shape[1:] == before.shape[1:]
    assert abs(len(before) - len(after)) <= 2
    shared = min(len(before), len(after))
    assert np.abs(before[:shared].mean(axis=(2, 3)) - after[:shared].mean(axis=(2, 3))).max() < 8


def test_confuse_leaves_out_a_second_clip_of_one_name(tmp_path):
    for kind in ("mp4", "mkv"):
        write(tmp_path / f"a.{kind}", 2.0, sound=2.0)
    report = confuse(tmp_path, tmp_path / "out", "shifted", progress=False)
    assert report.clips == 1
    assert "clip a: a.mp4 has the name of a.mkv" in str(report)


@pytest.mark.parametrize("name", ["late.mkv", "short.mp4", "empty.mp4", "list.mp4"])
def test_what_check_calls_fine_is_read(tmp_path, name):
    clip = tmp_path / name
    if name == "late.mkv":
        write(clip, sound_at=2.0)
    elif name == "short.mp4":
        write(clip, sound=2.0)
    else:
        clip.write_text("" if name == "empty.mp4" else "ffconcat version 1.0\n")
    rows = tmp_path / "rows.jsonl"
    write_jsonl(rows, [Sample("1", (Turn("Is there a harp sound?", "no"),), str(clip), str(clip))])
    found = [line for line in check(rows, progress=False) if not line.startswith("note")]
    try:
        load_clip(clip, clip, MediaSettings())
        readable = True
    except MediaError:
        readable = False
    assert readable == (not found)
