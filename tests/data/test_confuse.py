import json
import resource
import shutil

import av
import numpy as np
import pytest

from rlcomm.data.clips import load_clip
from rlcomm.data.confuse import confuse
from rlcomm.data.decode import decode_audio
from rlcomm.data.media import MediaError, MediaSettings
from rlcomm.data.probe import probe
from rlcomm.data.remux import replace_audio
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.sound import mix, replacement, shift
from rlcomm.data.write_media import write_audio, write_clip
from rlcomm.utils.errors import UserError

RATE = 16_000
SECONDS = 2.0


def tone(hertz, level=0.2, seconds=SECONDS):
    return (level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def loud(audio, hertz):
    """Amplitude of one tone in a sound."""
    time = np.arange(len(audio)) / RATE
    return 2 * abs(np.mean(audio * np.exp(-2j * np.pi * hertz * time)))


def packets(path):
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


@pytest.fixture
def world(tmp_path):
    """clips/duo.mp4 with the sum of stems/duo/{harp,oboe}.wav; sounds/wind.wav."""
    frames = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3), np.uint8)
    write_clip(tmp_path / "clips" / "duo.mp4", frames, 4, tone(400) + tone(1000))
    write_audio(tmp_path / "stems" / "duo" / "harp.wav", tone(400), RATE)
    write_audio(tmp_path / "stems" / "duo" / "oboe.wav", tone(1000), RATE)
    write_audio(tmp_path / "sounds" / "wind.wav", tone(2500, 0.01, 0.7), RATE)
    return tmp_path


def run(world, mode, **arguments):
    return confuse(world / "clips", world / "out", mode, progress=False, **arguments)


def official(world, name):
    return json.loads((world / "out" / "test" / f"{name}.json").read_text())


def test_muted_stem_is_silent_and_the_other_sounds_on(world):
    report = run(world, "muted", stems=world / "stems")
    assert report.clips == 2
    assert report.problems == []
    audio = {
        name: decode_audio(world / "out" / "clips" / f"duo_no_{name}.mp4", RATE) for name in ("harp", "oboe")
    }
    assert loud(audio["harp"], 400) < 0.005
    assert loud(audio["harp"], 1000) == pytest.approx(0.2, abs=0.02)
    assert loud(audio["oboe"], 1000) < 0.005
    assert loud(audio["oboe"], 400) == pytest.approx(0.2, abs=0.02)
    muted, control = official(world, "avconfuse/muted"), official(world, "avconfuse/control")
    assert muted[0] == {
        "video_id": "duo_no_harp",
        "answer": "no",
        "instruments": "harp, oboe",
        "instruments_len": "two",
        "question": "This is a video of audio corruption where some instrument sound is muted. Please "
        "answer:\n Is there a harp sound? \nYour answer can only be 'yes' or 'no'",
    }
    assert [(row["video_id"], row["answer"]) for row in control] == [
        ("duo_no_harp", "yes"),
        ("duo_no_oboe", "yes"),
    ]
    assert "Is there a oboe sound?" in control[0]["question"]
    truth = json.loads((world / "out" / "truth.json").read_text())
    assert truth["duo_no_harp"] == {
        "visible": ["harp", "oboe"],
        "audible": ["oboe"],
        "muted": "harp",
        "ambient": None,
    }
    samples = read_jsonl(world / "out" / "test" / "muted.jsonl")
    assert [(sample.question, sample.answer) for sample in samples] == [
        ("Is there a harp sound?", "no"),
        ("Is there a oboe sound?", "no"),
    ]
    assert samples[0].meta["muted"] == "harp"
    assert probe(samples[0].video).has_audio


def test_picture_is_copied_bit_by_bit(world):
    run(world, "muted", stems=world / "stems")
    run(world, "shifted", seconds=0.5)
    before = packets(world / "clips" / "duo.mp4")
    clips = sorted((world / "out" / "clips").iterdir())
    assert len(clips) == 3
    for clip in clips:
        assert packets(clip) == before
        assert np.array_equal(
            load_clip(clip, None, MediaSettings()).frames,
            load_clip(world / "clips" / "duo.mp4", None, MediaSettings()).frames,
        )


def test_muted_without_stems_silences_the_whole_track(world):
    (world / "names.json").write_text('{"duo": ["oboe", "harp"]}')
    run(world, "muted", instruments=world / "names.json")
    assert not decode_audio(world / "out" / "clips" / "duo_silent.mp4", RATE).any()
    control = decode_audio(world / "out" / "clips" / "duo_sounding.mp4", RATE)
    assert loud(control, 400) == pytest.approx(0.2, abs=0.02)
    assert [row["video_id"] for row in official(world, "avconfuse/muted")] == ["duo_silent"] * 2
    assert [row["answer"] for row in official(world, "avconfuse/control")] == ["yes"] * 2


def test_modified_replaces_everything_at_the_same_loudness(world):
    run(world, "modified", sounds=world / "sounds", instruments={"duo": ["oboe", "harp"]})
    audio = decode_audio(world / "out" / "clips" / "combined_duo_wind.mp4", RATE)
    original = decode_audio(world / "clips" / "duo.mp4", RATE)
    assert len(audio) == len(original)
    assert loud(audio, 400) < 0.005
    assert loud(audio, 1000) < 0.005
    assert np.sqrt(np.mean(audio**2)) == pytest.approx(np.sqrt(np.mean(original**2)), rel=0.05)
    assert official(world, "avconfuse/modified") == [
        {
            "video_id": "duo",
            "filename": "combined_duo_wind.mp4",
            "sound_type": "wind",
            "question": "Describe what you see and what you hear. The output format should be as follows: "
            "Based on the "
            "video...\nBased on the audio...",
            "annotation": "Based on the video, harp and oboe can be seen. Based on the audio, there is a "
            "sound of wind.",
        }
    ]


def test_shifted_sound_comes_later(world):
    click = np.zeros(round(SECONDS * RATE), np.float32)
    click[RATE // 2 : RATE // 2 + 2000] = tone(400)[:2000] * 4
    write_clip(world / "clips" / "duo.mp4", np.zeros((8, 32, 32, 3), np.uint8), 4, click)
    run(world, "shifted", seconds=0.75)
    audio = np.abs(decode_audio(world / "out" / "clips" / "duo_shift+0.75.mp4", RATE)) > 0.2
    assert np.argmax(audio) / RATE == pytest.approx(1.25, abs=0.01)
    assert official(world, "shifted") == [
        {"video_id": "duo", "filename": "duo_shift+0.75.mp4", "seconds": 0.75}
    ]


def test_truth_of_several_modes_in_one_folder(world):
    run(world, "muted", stems=world / "stems")
    run(world, "modified", sounds=world / "sounds")
    assert set(json.loads((world / "out" / "truth.json").read_text())) == {
        "duo_no_harp",
        "duo_no_oboe",
        "combined_duo_wind",
    }


@pytest.mark.parametrize("mode", ["muted", "modified", "shifted"])
def test_variants_of_other_clips_are_not_written_over(world, mode):
    more = {"muted": {"stems": world / "stems"}, "modified": {"sounds": world / "sounds"}, "shifted": {}}[
        mode
    ]
    run(world, mode, **more)
    name = "shifted" if mode == "shifted" else f"avconfuse/{mode}"
    before = official(world, name)
    run(world, mode, **more)  # the same clips again
    assert official(world, name) == before
    (world / "clips" / "duo.mp4").rename(world / "clips" / "other.mp4")
    if mode == "muted":
        (world / "stems" / "duo").rename(world / "stems" / "other")
    with pytest.raises(UserError, match="variants of clips that are not among these"):
        run(world, mode, **more)
    assert official(world, name) == before
    (world / "clips" / "duo.mp4").write_bytes((world / "clips" / "other.mp4").read_bytes())
    if mode == "muted":
        shutil.copytree(world / "stems" / "other", world / "stems" / "duo")
    run(world, mode, **more)  # all at once
    assert len(official(world, name)) == 2 * len(before)


def test_samples_file_names_clips_and_instruments(world):
    clip = str(world / "clips" / "duo.mp4")
    write_jsonl(
        world / "rows.jsonl",
        [Sample(str(k), (Turn("?", "no"),), clip, clip, meta={"visible": ["harp"]}) for k in range(2)],
    )
    report = confuse(world / "rows.jsonl", world / "out", "muted", progress=False)
    assert report.clips == 2
    assert [row["instruments"] for row in official(world, "avconfuse/muted")] == ["harp"]


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1, [0, 1, 2, 3]), (-1, [2, 3, 4, 0]), (9, [0] * 4), (-9, [0] * 4)]
)
def test_shift_by_hand(seconds, expected):
    assert shift(np.array([1, 2, 3, 4], np.float32), 1, seconds).tolist() == expected


def test_replacement_is_looped_and_never_clips():
    original = np.full(1000, 0.9, np.float32)
    sound = np.zeros(300, np.float32)
    sound[::30] = 0.5  # peaky: RMS matching alone would need samples of 4.9
    result = replacement(sound, original, 1000)
    assert len(result) == 1000
    assert np.abs(result).max() == pytest.approx(1.0)
    assert np.abs(result[700:]).max() > 0.5  # looped, not padded
    quiet = replacement(tone(400), np.zeros(RATE, np.float32), RATE)
    assert np.sqrt(np.mean(quiet**2)) == pytest.approx(0.1, rel=0.01)


def test_mix_keeps_the_level_of_the_full_mix():
    # the full mix peaks at 2, so everything is halved, also where the other stem is left out
    stems = {"a": np.ones(3, np.float32), "b": np.ones(4, np.float32)}
    assert mix(stems, "b", 4).tolist() == [0.5, 0.5, 0.5, 0]


def test_source_whose_clock_does_not_start_at_zero(world):
    # this transport stream starts at 0.5 s; picture and sound must come out at 0, in step
    source = world / "stream.ts"
    with (
        av.open(str(world / "clips" / "duo.mp4")) as reader,
        av.open(str(source), "w", format="mpegts") as writer,
    ):
        streams = [writer.add_stream_from_template(stream) for stream in reader.streams]
        for packet in reader.demux():
            if packet.dts is not None:
                packet.stream = streams[packet.stream.index]
                writer.mux(packet)
    with av.open(str(source)) as reader:
        assert reader.streams.video[0].start_time * reader.streams.video[0].time_base == 0.5
    replace_audio(source, world / "out.mp4", tone(400), RATE)
    with av.open(str(world / "out.mp4")) as reader:
        assert reader.streams.video[0].start_time == 0
    assert probe(world / "out.mp4").seconds == pytest.approx(SECONDS, abs=0.05)
    settings = MediaSettings(fps=4)
    before = load_clip(world / "clips" / "duo.mp4", source, settings)
    after = load_clip(world / "out.mp4", world / "out.mp4", settings)
    assert np.array_equal(after.frames, before.frames)
    assert np.abs(after.audio - tone(400))[200:-200].max() < 0.02
    assert np.abs(before.audio[2000:20_000] - (tone(400) + tone(1000))[2000:20_000]).max() < 0.05


def test_full_disk_leaves_the_good_file(world):
    out = world / "out.mp4"
    replace_audio(world / "clips" / "duo.mp4", out, tone(400), RATE)
    good = out.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, hard))
    try:
        for write in (
            lambda: replace_audio(world / "clips" / "duo.mp4", out, tone(500), RATE),
            lambda: write_clip(out, np.zeros((2, 32, 32, 3), np.uint8), 2, tone(500)),
        ):
            with pytest.raises(UserError, match=r"out\.mp4: could not be written .*free space"):
                write()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_bytes() == good
    assert sorted(path.name for path in world.iterdir()) == ["clips", "out.mp4", "sounds", "stems"]


def test_broken_clips_are_reported_and_the_others_made(world):
    (world / "clips" / "bad.mp4").write_bytes(b"")
    report = run(world, "shifted", seconds=0.5)
    assert report.clips == 1
    assert len(report.problems) == 1
    assert "bad.mp4: is empty" in report.problems[0]
    assert not (world / "out" / "clips" / "bad_shift+0.5.mp4").exists()


def test_a_shift_must_be_a_length_of_time(tmp_path):
    for seconds in (float("nan"), float("inf")):
        with pytest.raises(UserError, match="is no length of time"):
            confuse([tmp_path / "a.mp4"], tmp_path / "out", "shifted", seconds=seconds, progress=False)


def test_wrong_arguments_name_what_to_do(world):
    for mode, arguments, said in [
        ("silent", {}, "one of muted, modified, shifted"),
        ("modified", {}, "sounds"),
        ("muted", {}, "--instruments"),
        ("muted", {"stems": world / "none"}, "stems"),
        (
            "muted",
            {"stems": {"duo": {"harp": world / "stems" / "duo" / "harp.wav"}}},
            "at least two are needed",
        ),
        ("shifted", {"seconds": 0}, "seconds"),
        ("shifted", {"limit": 0}, "limit"),
    ]:
        with pytest.raises(UserError, match=said):
            run(world, mode, **arguments)
    with pytest.raises(UserError, match="there is no video"):
        confuse(world / "stems", world / "out", "shifted", progress=False)
    with pytest.raises(MediaError, match="no moving picture"):
        replace_audio(world / "sounds" / "wind.wav", world / "x.mp4", None, RATE)
    assert not (world / "x.mp4").exists()
