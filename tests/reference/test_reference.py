"""The reference's reasoning, with a tiny random Qwen2-Audio (what it says is noise, how it is run is not)."""

import dataclasses
import gc
import json
from types import SimpleNamespace

import numpy as np
import pytest

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from transformers import Qwen2AudioForConditionalGeneration, WhisperFeatureExtractor

from rlcomm.config.load import load_recipe
from rlcomm.config.reference import SIGHT_PROMPT
from rlcomm.data.media import MediaError
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.write_media import write_audio, write_clip
from rlcomm.omni.encode import user_text
from rlcomm.orchestra.nano import nano_audio, nano_omni, omni_processor, train_tokenizer
from rlcomm.orchestra.questions import SEE
from rlcomm.reference import audio_model, partial, rows
from rlcomm.reference.audio_model import encode, split_audio
from rlcomm.reference.prompts import reference_prompt, speaks_of_sight
from rlcomm.reference.rows import hearing_exact, write_references
from rlcomm.reference.sights import policy_sight, sights, write_sights
from rlcomm.reference.warmup import write_warmup
from rlcomm.utils.errors import UserError
from tests.reference.recipes import recipe

RATE, WINDOW = 16_000, 2


@pytest.fixture(scope="session")
def hearer():
    """(model, processor) of a random Qwen2-Audio that hears 2 s at a time."""
    words = (
        reference_prompt("Is there a drum sound?", "no") + " <a-think> I hear a drum and a flute. </a-think> "
    )
    tokenizer = train_tokenizer([words] * 4, vocab_size=400)
    model, processor = nano_audio(tokenizer, layers=1, window=WINDOW)
    return model.eval(), processor


@pytest.fixture(scope="session")
def folder(hearer, tmp_path_factory):
    path = tmp_path_factory.mktemp("hearer")
    for part in hearer:
        part.save_pretrained(path)
    return str(path)


@pytest.fixture
def samples(tmp_path):
    rows = []
    for index, seconds in enumerate((1.0, 0.5, 5.0)):
        time = np.arange(int(seconds * RATE)) / RATE
        write_audio(
            tmp_path / f"{index}.wav",
            0.3 * np.sin(2 * np.pi * (200 + 300 * index) * time).astype(np.float32),
            RATE,
        )
        rows.append(
            Sample(
                f"r{index}",
                (Turn("Is there a drum sound?", "no"),),
                audio=str(tmp_path / f"{index}.wav"),
                meta={"audible": ["drum"]},
            )
        )
    return rows


@pytest.fixture
def says(monkeypatch):
    """Puts words into the model's mouth: `says[prompt part] = text`, and lists what was asked."""

    class Mouth(dict):
        def __init__(self):
            super().__init__()
            self.asked = []

    mouth = Mouth()

    def write(self, audios, prompts, seeds, sampling):
        mouth.asked.append(
            [(len(audio), prompt, seed) for audio, prompt, seed in zip(audios, prompts, seeds, strict=True)]
        )
        text = mouth.get("text", "<a-think> I hear a drum. </a-think>")
        return [
            text(prompt, seed) if callable(text) else text
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    monkeypatch.setattr(audio_model.AudioModel, "write", write)
    return mouth


def run(samples, folder, out, **options):
    return write_references(samples, recipe(folder, out, max_new_tokens=12, **options), progress=False)


# what the model is given


def test_prompt_tells_question_options_and_gold_answer_and_asks_for_the_tags():
    prompt = reference_prompt("Which one?", "harp", ("drum", "harp"))
    assert "Which one?\nA. drum\nB. harp\nThe answer is: harp\n" in prompt
    assert prompt.endswith("<a-think> </a-think>.")


@pytest.mark.parametrize(("seconds", "parts"), [(0.5, 1), (2.0, 1), (2.001, 2), (4.0, 2), (5.0, 3)])
def test_split_loses_nothing_and_has_no_crumbs(seconds, parts):
    audio = np.random.default_rng(0).standard_normal(int(seconds * RATE)).astype(np.float32)
    split = split_audio(audio, RATE, WINDOW)
    assert len(split) == parts
    assert max(map(len, split)) <= WINDOW * RATE
    assert max(map(len, split)) - min(map(len, split)) <= 1
    np.testing.assert_array_equal(np.concatenate(split), audio)


def test_a_very_short_sound_still_has_two_audio_tokens(hearer):
    model, processor = hearer
    inputs = encode(processor, [np.ones(16, np.float32)], ["what?"])
    assert (inputs["input_ids"] == model.config.audio_token_index).sum() == 2
    assert model(**inputs).logits.isfinite().all()


def test_decisive_sound_in_the_last_second_reaches_the_encoder(hearer):
    """5 s, a window of 2 s, a tone in the last second only. The extractor alone would cut it away."""
    model, processor = hearer
    audio = np.zeros(5 * RATE, np.float32)
    audio[-RATE:] = 0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)
    silent = np.zeros_like(audio)

    cut = processor.feature_extractor([audio], sampling_rate=RATE, return_tensors="pt")["input_features"]
    cut_silent = processor.feature_extractor([silent], sampling_rate=RATE, return_tensors="pt")[
        "input_features"
    ]
    assert torch.equal(cut, cut_silent)  # the trap

    given: list[torch.Tensor] = []
    hook = model.model.audio_tower.register_forward_hook(lambda module, args, out: given.append(args[0]))
    with torch.no_grad():
        heard = model(**encode(processor, [audio], ["what?"])).logits[0, -1]
        unheard = model(**encode(processor, [silent], ["what?"])).logits[0, -1]
    hook.remove()
    assert [len(items) for items in given] == [3, 3]
    different = [not torch.equal(one, other) for one, other in zip(*given, strict=True)]
    assert different == [False, False, True]
    assert (heard - unheard).abs().max() > 1e-3

    inputs = encode(processor, [audio], ["what?"])
    assert inputs["feature_attention_mask"].sum() == pytest.approx(
        500, abs=3
    )  # 5 s of 10 ms frames, all of them
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text.count("<|audio_bos|>") == 3


def test_real_window_is_thirty_seconds(hearer):
    _, processor = hearer
    processor = type(processor)(
        feature_extractor=WhisperFeatureExtractor(feature_size=32),
        tokenizer=processor.tokenizer,
        chat_template=processor.chat_template,
    )
    inputs = encode(processor, [np.zeros(61 * RATE, np.float32), np.zeros(30 * RATE, np.float32)], ["a", "b"])
    assert inputs["input_features"].shape == (3 + 1, 32, 3000)


def test_only_the_sound_is_ever_opened(samples, folder, tmp_path, monkeypatch):
    opened = []
    load = rows.load_clip
    monkeypatch.setattr(
        rows, "load_clip", lambda video, audio, *rest: opened.append(video) or load(video, audio, *rest)
    )
    shown = [dataclasses.replace(sample, video=str(tmp_path / "not there.mp4")) for sample in samples]
    run(shown, folder, tmp_path / "out.jsonl")
    assert opened == [None] * 3


# sampling


def test_row_sampler_draws_from_the_nucleus_with_the_right_frequencies():
    """p = (0.5, 0.3, 0.2) at temperature 1, top_p 0.7: tokens 0 and 1 remain, with 5/8 and 3/8."""
    scores = torch.tensor([[0.5, 0.3, 0.2]]).log()
    sampler = audio_model.RowSampler([1], temperature=1.0, top_p=0.7)
    drawn = [int(sampler(torch.empty(0), scores.clone()).argmax()) for _ in range(2000)]
    assert 2 not in drawn
    assert np.mean(np.array(drawn) == 0) == pytest.approx(5 / 8, abs=0.035)  # three standard errors


def test_row_sampler_temperature_and_forbidden_tokens():
    """At temperature 0.5, p = (0.6, 0.4) becomes 0.36 : 0.16 = 9 : 4."""
    scores = torch.tensor([[0.6, 0.4, 9.0]])
    scores[0, :2] = scores[0, :2].log()
    sampler = audio_model.RowSampler([1], temperature=0.5, top_p=1.0, forbidden=[2])
    drawn = [int(sampler(torch.empty(0), scores.clone()).argmax()) for _ in range(2000)]
    assert np.mean(np.array(drawn) == 0) == pytest.approx(9 / 13, abs=0.035)
    assert set(drawn) == {0, 1}
    greedy = audio_model.RowSampler([1], temperature=0.0, top_p=1.0, forbidden=[2])
    assert {int(greedy(torch.empty(0), scores.clone()).argmax()) for _ in range(20)} == {0}


def texts(path):
    return {sample.id: (sample.reference, sample.meta["reference"]["failed"]) for sample in read_jsonl(path)}


def test_a_row_says_the_same_whatever_stands_beside_it(samples, folder, tmp_path):
    for name, order, options in (
        ("three", samples, {"batch_size": 3}),
        ("one", samples, {"batch_size": 1}),
        ("turned", samples[::-1], {"batch_size": 2}),
        ("other", samples, {"seed": 1}),
    ):
        run(order, folder, tmp_path / f"{name}.jsonl", attempts=1, temperature=2.0, top_p=1.0, **options)
    three = texts(tmp_path / "three.jsonl")
    assert three == texts(tmp_path / "one.jsonl") == texts(tmp_path / "turned.jsonl")
    assert three != texts(tmp_path / "other.jsonl")
    assert len({str(text) for text in three.values()}) == 3


def test_media_tokens_are_never_written(samples, folder, hearer, tmp_path, monkeypatch):
    written = []
    generate = Qwen2AudioForConditionalGeneration.generate

    def keep(self, input_ids, **kwargs):
        ids = generate(self, input_ids=input_ids, **kwargs)
        written.append(ids[:, input_ids.shape[1] :])
        return ids

    monkeypatch.setattr(Qwen2AudioForConditionalGeneration, "generate", keep)
    write_references(
        samples,
        recipe(folder, tmp_path / "out.jsonl", max_new_tokens=60, temperature=9.0, top_p=1.0, attempts=2),
        progress=False,
    )
    tokenizer = hearer[1].tokenizer
    forbidden = set(tokenizer.all_special_ids) - {tokenizer.eos_token_id, tokenizer.pad_token_id}
    seen = {token for ids in written for token in ids.flatten().tolist()}
    assert len(seen) > 100
    assert not seen & forbidden


# the file


def test_reference_and_provenance_of_every_row(samples, folder, tmp_path, says):
    out = tmp_path / "out.jsonl"
    report = run([*samples, Sample("deaf", samples[0].turns)], folder, out, batch_size=2)
    rows = read_jsonl(out)
    assert [row.id for row in rows] == ["r0", "r1", "r2", "deaf"]
    assert [row.reference for row in rows] == ["I hear a drum."] * 3 + [None]
    meta = rows[2].meta["reference"]
    assert meta["model"] == folder
    assert meta["revision"].startswith("local-")
    assert meta["sampling"] == {
        "temperature": 0.5,
        "top_p": 0.95,
        "max_new_tokens": 12,
        "attempts": 3,
        "seed": 0,
    }
    assert (meta["parts"], meta["attempt"], meta["failed"]) == (3, 1, None)
    assert len({row.meta["reference"].get("inputs_hash") for row in rows}) == 4
    assert len({row.meta["reference"]["prompt_hash"] for row in rows}) == 1
    assert rows[3].meta["reference"]["failed"] == "no audio"
    assert rows[0].meta["audible"] == ["drum"]
    assert report | {"seconds": 0} == {
        "rows": 4,
        "computed": 3,
        "reused": 0,
        "shared": 0,
        "with_reference": 3,
        "failed": [],
        "no_audio": ["deaf"],
        "split": 1,
        "hearing_exact": {"value": 1.0, "n": 3},
        "seconds": 0,
        "model": folder,
        "revision": meta["revision"],
        "out": str(out),
    }
    assert [len(batch) for batch in says.asked] == [2, 1]
    assert not (tmp_path / "out.jsonl.partial").exists()


def test_unreadable_texts_are_tried_again_and_then_recorded(samples, folder, tmp_path, says):
    seeds = []

    def mumble(prompt, seed):
        seeds.append(seed)
        return "<a-think> I hear a drum. </a-think>" if len(seeds) == 5 else "I hear a drum."

    says["text"] = mumble
    report = run(samples, folder, tmp_path / "out.jsonl")
    rows = {row.id: row for row in read_jsonl(tmp_path / "out.jsonl")}
    assert report["failed"] == ["r0", "r2"]
    assert report["with_reference"] == 1
    assert (rows["r1"].reference, rows["r1"].meta["reference"]["attempt"]) == ("I hear a drum.", 2)
    assert (rows["r0"].reference, rows["r0"].meta["reference"]["failed"]) == (None, "I hear a drum.")
    assert len(set(seeds)) == 3 + 3 + 2
    assert report["hearing_exact"] == {"value": 1 / 3, "n": 3}  # a row that failed heard nothing


@pytest.mark.parametrize(
    ("change", "redone"),
    [
        (lambda rows: rows, []),
        (lambda rows: rows[::-1], []),
        (lambda rows: [dataclasses.replace(rows[0], meta={"note": 1}, video="x.mp4"), *rows[1:]], []),
        (
            lambda rows: [
                dataclasses.replace(rows[0], turns=(Turn("Is there a drum sound?", "yes"),)),
                *rows[1:],
            ],
            ["r0"],
        ),
        (
            lambda rows: [
                rows[0],
                dataclasses.replace(rows[1], turns=(Turn("Is there a harp sound?", "no"),)),
                rows[2],
            ],
            ["r1"],
        ),
        # the same sound asked the same, of another picture: one text
        (lambda rows: [*rows, dataclasses.replace(rows[0], id="new", video="y.mp4")], []),
        (lambda rows: [*rows, dataclasses.replace(rows[0], id="new", audio=rows[1].audio)], []),
        (lambda rows: rows[:1], []),
    ],
)
def test_only_rows_whose_inputs_changed_are_done_again(samples, folder, tmp_path, says, change, redone):
    out = tmp_path / "out.jsonl"
    run(samples, folder, out)
    says.asked.clear()
    says["text"] = "<a-think> new </a-think>"
    rows = change(samples)
    report = run(rows, folder, out)
    assert sum(map(len, says.asked)) == report["computed"] == len(redone)
    assert [row.id for row in read_jsonl(out) if row.reference == "new"] == redone
    assert [row.id for row in read_jsonl(out)] == [row.id for row in rows]


def test_a_sound_asked_the_same_is_heard_once(samples, folder, tmp_path, says):
    """Twins of one sound: their pictures differ, what is heard cannot."""
    says["text"] = lambda prompt, seed: f"<a-think> {seed} </a-think>"
    rows = [*samples, *(dataclasses.replace(row, id=f"twin-{row.id}", video="x.mp4") for row in samples)]
    report = run(rows, folder, tmp_path / "out.jsonl")
    assert sum(map(len, says.asked)) == report["computed"] == report["shared"] == 3
    made = read_jsonl(tmp_path / "out.jsonl")
    assert [row.reference for row in made[:3]] == [row.reference for row in made[3:]]
    assert len({row.reference for row in made}) == 3


def test_other_sound_other_sampling_or_other_model_is_done_again(samples, folder, tmp_path, says, hearer):
    out = tmp_path / "out.jsonl"
    run(samples, folder, out)
    write_audio(samples[1].audio, np.zeros(RATE, np.float32), RATE)
    assert run(samples, folder, out)["computed"] == 1
    assert run(samples, folder, out, temperature=0.6)["computed"] == 3
    assert run(samples, folder, out, temperature=0.6, media_audio_seconds=1.0)["computed"] == 3
    assert run(samples, folder, out, temperature=0.6, media_audio_seconds=1.0, media_fps=9.0)["computed"] == 0
    model, processor = hearer
    other = tmp_path / "other"
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
        model.save_pretrained(other)
        model.lm_head.weight[0, 0] -= 1
    processor.save_pretrained(other)
    assert run(samples, str(other), out, temperature=0.6, media_audio_seconds=1.0)["computed"] == 3


def test_interrupted_run_goes_on_where_it_stopped(samples, folder, tmp_path, says):
    out = tmp_path / "out.jsonl"

    def stop(prompt, seed):
        if len(says.asked) == 3:
            raise KeyboardInterrupt
        return "<a-think> be\u2028fore </a-think>"  # a line end to str.splitlines, not to JSON Lines

    says["text"] = stop
    with pytest.raises(KeyboardInterrupt):
        run(samples, folder, out, batch_size=1)
    assert not out.exists()
    partial = tmp_path / "out.jsonl.partial"
    with partial.open("a") as stream:
        stream.write('{"id": "r2", "reference": "torn')  # the process died in the middle of a line
    says["text"] = "<a-think> after </a-think>"
    report = run(samples, folder, out, batch_size=1)
    assert [row.reference for row in read_jsonl(out)] == ["be\u2028fore", "be\u2028fore", "after"]
    assert (report["computed"], report["reused"]) == (1, 2)
    assert not partial.exists()


def test_nothing_to_do_loads_no_model(samples, folder, tmp_path, says, monkeypatch):
    run(samples, folder, tmp_path / "out.jsonl")
    monkeypatch.setattr(rows, "AudioModel", None)
    assert run(samples, folder, tmp_path / "out.jsonl")["computed"] == 0


def test_model_is_freed_before_the_function_returns(samples, folder, tmp_path, hearer):
    def alive():
        gc.collect()
        return sum(isinstance(thing, Qwen2AudioForConditionalGeneration) for thing in gc.get_objects())

    before = alive()
    run(samples[:1], folder, tmp_path / "out.jsonl")
    assert alive() == before


def test_a_full_disk_keeps_what_was_there(samples, folder, tmp_path, says, monkeypatch):
    out = tmp_path / "out.jsonl"
    run(samples, folder, out)
    good = out.read_text()

    def full(*args):
        raise UserError("disk full")

    monkeypatch.setattr(partial, "write_jsonl", full)
    with pytest.raises(UserError, match="disk full"):
        run(samples, folder, out, temperature=0.9)
    assert out.read_text() == good
    monkeypatch.undo()
    assert run(samples, folder, out, temperature=0.9)["reused"] == 3  # out of the partial file


@pytest.mark.parametrize(
    ("options", "says_what"),
    [
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"batch_size": 0}, "batch_size"),
        ({"attempts": 0}, "attempts"),
        ({"dtype": "int8"}, "dtype"),
    ],
)
def test_bad_settings_are_one_sentence(samples, folder, tmp_path, options, says_what):
    with pytest.raises(UserError, match=says_what):
        run(samples, folder, tmp_path / "out.jsonl", **options)


def test_bad_models_rows_and_clips_are_named(samples, folder, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="r0"):
        run([samples[0], samples[0]], folder, tmp_path / "out.jsonl")
    with pytest.raises(UserError, match=r"runs/nowhere"):
        run(samples, "runs/nowhere", tmp_path / "out.jsonl")
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(UserError, match="bert"):
        run(samples, str(tmp_path / "bert"), tmp_path / "out.jsonl")
    with pytest.raises(MediaError, match=r"gone\.wav"):
        run(
            [dataclasses.replace(samples[0], audio=str(tmp_path / "gone.wav"))],
            folder,
            tmp_path / "out.jsonl",
        )
    assert not (tmp_path / "out.jsonl").exists()


def test_hearing_exact_by_hand():
    def row(id, audible, text, **meta):
        return Sample(id, (Turn("q", "a"),), audio="x.wav", reference=text, meta={"audible": audible, **meta})

    rows = [
        row("exact", ["drum", "flute"], "I hear a flute and a drum."),
        row("too few", ["drum", "flute"], "I hear a drum."),
        row("too many", ["drum"], "I hear a drum and a flute."),
        row("silence", [], "I hear nothing."),
        row("ambient", [], "I hear rain.", ambient="rain"),
        row("failed", ["drum"], None),
        Sample("unknown", (Turn("q", "a"),), audio="x.wav", reference="I hear a drum."),
        Sample("no sound", (Turn("q", "a"),), meta={"audible": []}),
    ]
    assert hearing_exact(rows) == {"value": 3 / 6, "n": 6}
    assert hearing_exact(rows[6:]) == {"value": None, "n": 0}


# another try


def test_a_second_run_tries_the_failed_rows_again_with_other_seeds(samples, folder, tmp_path, says):
    """Trap: the failure is reused, and Step-RR never gets the row."""
    out, seeds = tmp_path / "out.jsonl", []

    def mumble(prompt, seed):
        seeds.append(seed)
        return "I hear a drum."

    says["text"] = mumble
    run(samples[:2], folder, out, attempts=2)
    assert [row.meta["reference"]["attempt"] for row in read_jsonl(out)] == [2, 2]
    report = run(samples[:2], folder, out, attempts=3)
    assert (report["computed"], report["reused"], report["failed"]) == (2, 0, ["r0", "r1"])
    assert [row.meta["reference"]["attempt"] for row in read_jsonl(out)] == [5, 5]
    assert len(set(seeds)) == len(seeds) == 2 * 5
    says["text"] = "<a-think> I hear a drum. </a-think>"
    says.asked.clear()
    assert run(samples, folder, out, attempts=1)["failed"] == []
    assert [row.meta["reference"]["attempt"] for row in read_jsonl(out)] == [6, 6, 1]
    assert run(samples, folder, out, attempts=4)["computed"] == 0  # how often is no matter to a good row


def test_a_second_run_does_not_ask_a_greedy_model_again(samples, folder, tmp_path, says):
    says["text"] = "I hear a drum."
    run(samples, folder, tmp_path / "out.jsonl", temperature=0.0)
    assert run(samples, folder, tmp_path / "out.jsonl", temperature=0.0)["computed"] == 0


def test_a_second_run_that_is_cut_off_goes_on_like_any_other(samples, folder, tmp_path, says):
    """What failed again before the cut is finished; what was not reached is still to be tried again."""
    out = tmp_path / "out.jsonl"
    says["text"] = "I hear a drum."
    run(samples, folder, out, attempts=1)

    def stop(prompt, seed):
        if len(says.asked) == 3:
            raise KeyboardInterrupt
        return "I hear a drum."

    says.asked.clear()
    says["text"] = stop
    with pytest.raises(KeyboardInterrupt):
        run(samples, folder, out, attempts=1, batch_size=1)
    says["text"] = "<a-think> I hear a drum. </a-think>"
    assert run(samples, folder, out, attempts=1, batch_size=1)["computed"] == 1
    found = read_jsonl(out)
    assert [row.reference for row in found] == [None, None, "I hear a drum."]
    assert [row.meta["reference"]["attempt"] for row in found] == [2, 2, 2]


# warm-up rows


@pytest.fixture
def shown(samples, tmp_path):
    """Five rows, each with a clip of its own but r3, which has none."""
    for i in range(5):
        (tmp_path / f"{i}.mp4").write_bytes(f"clip {i}".encode())
    return [
        Sample(
            f"r{i}", (Turn(f"Q{i}", "no"),), audio=samples[0].audio,
            video=None if i == 3 else str(tmp_path / f"{i}.mp4"),
        )
        for i in range(5)
    ]  # fmt: skip


def test_warmup_rows_are_made_of_what_each_sense_says_alone(samples, shown, folder, tmp_path, says):
    said = {
        "Q0": "<a-think> I hear a drum. </a-think>",
        "Q1": "<a-think> I see a drum. </a-think>",
        "Q2": "drum",
        "Q3": "<a-think> I hear a harp. </a-think>",
        "Q4": "<a-think> I hear a harp. </a-think>",
    }
    says["text"] = lambda prompt, seed: said[prompt.split("\n")[1]]
    asked = []

    def see(deaf, attempt):
        assert gc.collect() >= 0
        asked.append([(row.id, row.audio, attempt) for row in deaf])
        return ["" if row.id == "r4" else "I see a harp." for row in deaf]

    keys = recipe(folder, tmp_path / "warmup.jsonl", max_failed_share=0.8)
    report = write_warmup(shown, keys, see=see, progress=False)

    assert asked[0] == [(f"r{i}", None, 0) for i in (0, 1, 2, 4)]  # the eyes are deaf
    assert asked[1:] == [[("r4", None, 1)], [("r4", None, 2)]]
    made = read_jsonl(tmp_path / "warmup.jsonl")
    assert [row.id for row in made] == ["r0"]
    assert made[0].turns[0].target == (
        "<a-think> I hear a drum. </a-think> <v-think> I see a harp. </v-think> <answer> no </answer>"
    )
    assert made[0].reference == "I hear a drum."
    assert made[0].audio == samples[0].audio
    reasons = {row["id"]: row["reason"] for row in report["rejected"]}
    assert list(reasons) == ["r1", "r2", "r3", "r4"]
    assert "'see'" in reasons["r1"]
    assert "heard" in reasons["r2"]
    assert "there is no picture" in reasons["r3"]
    assert "nothing was said of the picture" in reasons["r4"]
    assert report["rejected"][0]["a_think"] == "I see a drum."
    listed = [json.loads(line) for line in (tmp_path / "warmup.rejected.jsonl").read_text().splitlines()]
    assert listed == report["rejected"]
    assert (report["written"], report["out"]) == (1, keys.output)
    assert len(says.asked[0]) == 5
    assert [len(batch) for batch in says.asked[1:]] == [2, 2]  # r1 and r2, twice more


def test_a_second_warmup_asks_for_the_rows_that_failed_alone(shown, folder, tmp_path, says):
    says["text"] = lambda prompt, seed: (
        "<a-think> I see a drum. </a-think>" if "Q1" in prompt else "<a-think> I hear a drum. </a-think>"
    )
    keys = recipe(folder, tmp_path / "warmup.jsonl", max_failed_share=0.8)
    write_warmup(shown, keys, see=lambda deaf, n: [row.id.strip("r4") for row in deaf], progress=False)
    says.asked.clear()
    says["text"] = "<a-think> I hear a drum. </a-think>"
    asked = []

    def see(deaf, attempt):
        asked.extend((row.id, attempt) for row in deaf)
        return ["A harp." for _ in deaf]

    report = write_warmup(shown, keys, see=see, progress=False)
    assert [prompt.split("\n")[1] for batch in says.asked for _, prompt, _ in batch] == ["Q1"]
    assert asked == [("r4", 3)]
    assert [row["id"] for row in report["rejected"]] == ["r3"]


def test_too_many_failed_warmup_rows_are_one_sentence(shown, folder, tmp_path, says):
    says["text"] = lambda prompt, seed: "drum" if "Q2" in prompt else "<a-think> I hear a drum. </a-think>"
    options = dict(see=lambda deaf, n: ["A harp."] * len(deaf), progress=False)
    with pytest.raises(UserError) as error:
        write_warmup(shown, recipe(folder, tmp_path / "w.jsonl"), **options)
    assert "2 of 5 rows gave no warm-up row, more than max_failed_share 0.1" in str(error.value)
    assert not (tmp_path / "w.jsonl").exists()
    assert (tmp_path / "w.rejected.jsonl").read_text().count("\n") == 2
    assert write_warmup(shown, recipe(folder, tmp_path / "w.jsonl", max_failed_share=0.4), **options)


def test_sights_are_written_once_for_each_picture_and_made_anew_for_another(tmp_path):
    """A sight that outlives its clip or its witness would be paid for years."""
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    out = tmp_path / "train.jsonl"
    rows = [
        Sample(f"{name}{i}", (Turn("q", "no"),), str(tmp_path / f"{name}.mp4"), str(tmp_path / f"{name}.mp4"))
        for name in "ab"
        for i in range(2)
    ]
    deaf = Sample("c0", (Turn("q", "no"),), audio=str(tmp_path / "a.mp4"))
    asked = []

    def see(samples, attempt):
        asked.append([(sample.id, sample.audio) for sample in samples])
        return [f"I see {sample.id[0]}." for sample in samples]

    def again(**keys):
        kept = sights(out)
        write_jsonl(out, [*rows, deaf])  # as write_references writes it: without them
        asked.clear()
        return write_sights(out, see, recipe("nano_audio", out, **{"policy_model": "eyes", **keys}), kept)

    assert again() == 4
    assert asked == [[("a0", None), ("b0", None)]]  # without their sound, each picture once
    found = read_jsonl(out)
    assert [sample.sight for sample in found] == ["I see a."] * 2 + ["I see b."] * 2 + [None]
    assert len(found[0].meta["sight"].pop("inputs_hash")) == 40
    assert found[0].meta["sight"] == {
        "model": "eyes", "question": SIGHT_PROMPT, "attempt": 1, "failed": None,
    }  # fmt: skip
    again()
    assert asked == []
    (tmp_path / "b.mp4").write_bytes(b"another clip")
    again()
    assert asked == [[("b0", None)]]
    for keys in ({"policy_model": "other eyes"}, {"sight_prompt": "What is it?"}, {"media_fps": 1.0}):
        again(**keys)
        assert asked == [[("a0", None), ("b0", None)]]


def test_sights_that_failed_are_tried_again_and_the_others_are_not(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.mp4").write_bytes(name.encode())
    out, asked, said = tmp_path / "train.jsonl", [], {"a": "A harp.", "b": " "}
    rows = [Sample(name, (Turn("q", "no"),), str(tmp_path / f"{name}.mp4")) for name in "ab"]

    def see(samples, attempt):
        asked.append(([sample.id for sample in samples], attempt))
        return [said[sample.id] for sample in samples]

    def again():
        kept = sights(out)
        write_jsonl(out, rows)
        asked.clear()
        return write_sights(out, see, recipe("nano_audio", out, attempts=2), kept)

    assert again() == 1
    assert asked == [(["a", "b"], 0), (["b"], 1)]
    meta = read_jsonl(out)[1].meta["sight"]
    assert (meta["attempt"], meta["failed"]) == (2, "nothing was said")
    assert again() == 1
    assert asked == [(["b"], 2), (["b"], 3)]
    said["b"] = "A drum."
    assert again() == 2
    assert asked == [(["b"], 4)]
    assert read_jsonl(out)[1].sight == "A drum."


def test_policy_sight_looks_without_hearing(hearer, tmp_path):
    tokenizer = hearer[1].tokenizer
    nano_omni(tokenizer, layers=1).save_pretrained(tmp_path / "policy")
    omni_processor(tokenizer).save_pretrained(tmp_path / "policy")
    frames = np.random.default_rng(0).integers(0, 255, (2, 4, 56, 56, 3), np.uint8)
    rows = []
    for index in range(2):
        write_clip(tmp_path / f"{index}.mp4", frames[index], 4.0, np.zeros(RATE, np.float32))
        rows.append(
            Sample(f"r{index}", (Turn("Is there a drum sound?", "no"),), video=str(tmp_path / f"{index}.mp4"))
        )

    def see(attempt=0, **keys):
        keys = {"media_height": 56, "media_width": 56, "sight_max_new_tokens": 4, **keys}
        keys["policy_model"] = str(tmp_path / "policy")
        return policy_sight(recipe("nano_audio", tmp_path / "out.jsonl", **keys))(rows, attempt)

    greedy = see()
    assert len(greedy) == 2
    assert greedy == see(seed=1)
    assert greedy != see(sight_prompt="flute?")
    sampled = [see(attempt, temperature=2.0, top_p=1.0) for attempt in (1, 1, 2)]
    assert sampled[0] == sampled[1] != sampled[2]
    assert greedy not in sampled


def test_a_witness_is_asked_for_a_description_and_nothing_else(hearer, tmp_path, monkeypatch):
    """Trap: `Answer with a word or a phrase.` behind it, as behind every direct question."""
    asked = []
    monkeypatch.setattr("rlcomm.reference.sights.encode", lambda *args, text: asked.append(text))
    monkeypatch.setattr("rlcomm.reference.sights.generate", lambda model, processor, prompts, **_: [["x"]])
    monkeypatch.setattr(
        "rlcomm.reference.sights.load_policy", lambda *_, **__: SimpleNamespace(model=0, processor=0)
    )
    monkeypatch.setattr("rlcomm.reference.sights.load_clip", lambda *_: None)
    rows = [Sample("r0", (Turn("Is there a drum sound?", "no"),), video="clip.mp4")]
    policy_sight(recipe("nano_audio", tmp_path / "out.jsonl"))(rows, 0)
    assert asked == [SIGHT_PROMPT]
    assert "Describe" in SIGHT_PROMPT
    assert "word or a phrase" not in SIGHT_PROMPT


def test_orchestras_recipe_asks_its_miniature_as_it_was_trained():
    keys = load_recipe("recipes/orchestra/reference.yaml", [])
    assert keys.sight_prompt == user_text(Turn(SEE, ""), "direct")


def test_warmup_without_any_usable_row_is_an_error(samples, folder, tmp_path, says):
    (tmp_path / "x.mp4").write_bytes(b"clip")
    says["text"] = "<a-think> the video shows a drum </a-think>"
    with pytest.raises(UserError, match="speaks of what is seen"):
        write_warmup(
            [dataclasses.replace(row, video=str(tmp_path / "x.mp4")) for row in samples],
            recipe(folder, tmp_path / "w.jsonl", max_failed_share=1.0),
            see=lambda rows, attempt: ["I see a drum."] * len(rows),
            progress=False,
        )
    assert not (tmp_path / "w.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("I hear a drum and a flute.", None),
        ("A loud horn, then silence.", None),
        ("The overlooked seesaw squeaks.", None),
        ("I can see a drum", "see"),
        ("The musician in the video plays", "video"),
        ("a VISIBLE drum", "VISIBLE"),
        ("The drum on the left is louder", "on the left"),
        ("It looks like a drum", "looks"),
    ],
)
def test_words_of_sight(text, word):
    assert speaks_of_sight(text) == word
