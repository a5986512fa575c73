"""A judge model's scores take the place of the keyword judge's, and a malformed judgement is no score."""

import pytest

from rlcomm.cli import main
from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation import judge_model, judged, tuning
from rlcomm.evaluation.benchmarks import avconfuse
from rlcomm.evaluation.catalog import KINDS, Set
from rlcomm.evaluation.judge import Judgement
from rlcomm.evaluation.plan import Plan

SAID = "Based on the video, I see a harp. Based on the audio, I hear rain."


@pytest.fixture
def asked(monkeypatch) -> list[judge_model.Item]:
    """What the judge is asked; item 2 gets a malformed judgement."""
    items: list[judge_model.Item] = []

    def judge_all(some, model, cache_path, **options):
        items.extend(some)
        return [
            Judgement(None, None, "malformed judgement: ?") if item.id == "2" else Judgement(4.0, 3.0, "fine")
            for item in some
        ]

    monkeypatch.setattr(judge_model, "judge_all", judge_all)
    return items


def record(number: str, **fields) -> dict:
    return {
        "benchmark": avconfuse.MODIFIED, "view": "joint", "id": number, "video_id": number,
        "prompt_style": "direct", "question": "What do you see and hear?", "gold": SAID, "completion": SAID,
        "answer": SAID, "hearing": SAID, "seeing": SAID, "a_acc": 5.0, "v_acc": 5.0, "why": "",
        "parsed": True, **fields,
    }  # fmt: skip


def test_records_are_scored_anew_and_the_halves_are_told_apart(asked):
    other = record("1", benchmark="music_avqa")
    found = judged.judge_records([record("1"), other, record("2")], "judge", "cache.jsonl")
    assert (asked[0].heard, asked[0].seen) == ("I hear rain.", "I see a harp.")
    assert [r["a_acc"] for r in found] == [4.0, 5.0, None]
    metrics = avconfuse.modified_metrics(found)
    assert metrics["a_acc"]["value"] == 4.0
    assert metrics["a_acc"]["n"] == 1
    assert metrics["malformed"]["value"] == 0.5
    assert "malformed" not in avconfuse.modified_metrics([record("1")])


def test_step_wise_answers_give_their_own_segments(asked):
    judged.judge_records(
        [record("1", prompt_style="steps", completion="...", hearing="rain", seeing="a harp")], "judge", "c"
    )
    assert (asked[0].heard, asked[0].seen) == ("rain", "a harp")


def test_every_answer_of_any_decoder_is_judged_once(asked):
    kind = KINDS["avconfuse_modified"]
    meta = {"video_id": "a", "sound_type": "rain", "visible": ["harp"]}
    samples = [Sample(n, (Turn("What?", SAID),), "x.mp4", "x.mp4", meta=meta) for n in ("1", "2")]
    one = Set("avconfuse_modified", samples, kind.score, kind.count)
    raw = [
        {
            "benchmark": "avconfuse_modified", "set": "avconfuse_modified", "id": n,
            "candidates": [SAID, "x"],
            "scores": {"joint": [-1.0, -2.0], "evidence": [-2.0, -1.0]}, "texts": {"greedy": SAID},
            "completions": [SAID, "x"], "reasoning": {},
        }
        for n in ("1", "2")
    ]  # fmt: skip
    before, _ = tuning.count(raw, [one], Plan(), "m")
    assert before["decoders"]["greedy"]["benchmarks"]["avconfuse_modified"]["a_acc"]["value"] == 5.0
    rejudged = judged.judge_set(one, raw, "direct", "judge", "cache.jsonl")
    assert len(asked) == 4  # two answers an item
    after, _ = tuning.count(raw, [rejudged], Plan(), "m")
    found = after["decoders"]["greedy"]["benchmarks"]["avconfuse_modified"]
    assert found["a_acc"]["value"] == 4.0
    assert found["malformed"]["value"] == 0.5


def test_a_judge_without_an_endpoint_is_refused_before_anything_is_asked(tmp_path, monkeypatch, capsys):
    for name in ("RLCOMM_JUDGE_BASE_URL", "OPENAI_BASE_URL", "RLCOMM_JUDGE_API_KEY", "OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    code = main(
        ["eval", "recipes/orchestra/eval.yaml", "--eval_data", str(tmp_path), "--judge_model", "gpt",
         "--output_dir", str(tmp_path / "out")]
    )  # fmt: skip
    assert code == 2
    assert "RLCOMM_JUDGE_BASE_URL" in capsys.readouterr().err
    assert not (tmp_path / "out" / "records.jsonl").exists()
