"""The evaluator, with policies whose every number can be worked out by hand."""

import json

import pytest

from rlcomm import steps
from rlcomm.evaluation import catalog, generated
from rlcomm.evaluation.generated import Asking
from rlcomm.evaluation.records import read_records
from rlcomm.utils.errors import UserError
from tests.evaluation import fake_world as world


@pytest.fixture
def folder(tmp_path):
    return world.build(tmp_path)


def run(monkeypatch, folder, say, like=None, **options):
    policy = world.policy(monkeypatch, say, like)
    records = generated.collect(policy, folder, Asking(progress=False, **options))
    return policy, records, generated.summary(records)


def eyes_only(sample, clip, style):
    """Hears whatever it sees, and nothing without a picture: visual dominance in person."""
    seen = world.truth_of(sample)["visible"] if clip.frames is not None else []
    words = ", ".join(seen) or "nothing"
    answer = "yes" if any(name in sample.question for name in seen) else "no"
    return answer if style == "direct" else steps.build(f"I hear {words}.", f"I see {words}.", answer)


def ears(sample, clip, style):
    """Hears exactly what sounds when there is no picture, else answers from the eyes."""
    if clip.frames is not None:
        return eyes_only(sample, clip, style)
    answer = "yes" if any(name in sample.question for name in world.truth_of(sample)["audible"]) else "no"
    return answer if style == "direct" else steps.build("I hear it.", "I see nothing.", answer)


def oracle(sample, clip, style):
    known = world.truth_of(sample)
    heard = ", ".join(known["audible"] + [known["ambient"] or "nothing else"])
    return steps.build(f"I hear {heard}.", f"I see {', '.join(known['visible'])}.", sample.answer)


def test_always_no_scores_100_muted_and_0_on_the_control(monkeypatch, folder):
    _, _, row = run(monkeypatch, folder, lambda *_: "no", prompt_style="direct")
    assert row["muted_acc"] == 1.0
    assert row["control_acc"] == 0.0
    assert row["same_audio_control_acc"] == 0.0
    assert row["muted_yes_rate"] == 0.0
    assert row["sign_flip_rate"] == 0.0


def test_gibberish_is_unparsed_never_no(monkeypatch, folder):
    _, records, row = run(monkeypatch, folder, lambda *_: "piano nobody", prompt_style="steps")
    assert row["muted_acc"] == 0.0
    assert row["muted_acc_parsed"] is None
    assert row["muted_unparsed"] == 1.0
    assert row["muted_yes_rate"] == 0.0
    assert row["format_rate"] == 0.0
    assert row["hearing_exact"] == 0.0
    assert row["sign_flip_rate"] is None  # no pair of parsed answers
    assert {r["answer"] for r in records} == {None}


def test_the_oracle_is_right_everywhere(monkeypatch, folder):
    _, _, row = run(monkeypatch, folder, oracle)
    ones = (
        "muted_acc", "control_acc", "sync_acc", "same_audio_muted_acc", "format_rate", "hearing_exact",
        "seeing_exact",
    )  # fmt: skip
    assert {name: row[name] for name in ones} == dict.fromkeys(ones, 1.0)
    assert (row["modified_a_acc"], row["modified_v_acc"]) == (5.0, 5.0)
    assert row["n"]["muted_acc"] == 2
    assert row["n"]["format_rate"] == 8  # 2 muted, 2 control, 1 modified, 3 questions; joint only


def test_visual_dominance_that_the_ears_would_repair_is_a_sign_flip(monkeypatch, folder):
    def like(sample, clip):  # [yes, no]: the margins say the same as the answers
        return [-0.5, -2.0] if clip.frames is not None else [-2.0, -0.5]

    _, records, row = run(monkeypatch, folder, ears, like)
    assert (row["muted_acc"], row["muted_yes_rate"], row["control_acc"]) == (0.0, 1.0, 1.0)
    assert (row["same_audio_muted_acc"], row["same_audio_control_acc"]) == (1.0, 1.0)
    assert (row["sign_flip_rate"], row["sign_flip_rate_margin"]) == (1.0, 1.0)
    margins = {(r["benchmark"], r["view"]): r["margin"] for r in records}
    assert margins["avconfuse_muted", "joint"] == -1.5  # gold "no"
    assert margins["avconfuse_control", "joint"] == 1.5  # gold "yes"
    assert margins["music_avqa", "joint"] is None


def test_hearing_what_is_seen_is_not_exact(monkeypatch, folder):
    _, records, row = run(monkeypatch, folder, eyes_only)
    exact = {(r["benchmark"], r["video_id"]): r["hearing_exact"] for r in records if r["view"] == "joint"}
    assert exact["avconfuse_muted", "c1"] is False
    assert exact["avconfuse_modified", "c3"] is False
    assert exact["music_avqa", "c4"] is True
    assert row["hearing_exact"] == pytest.approx(3 / 8)
    assert row["hearing_exact_muted"] == 0.0
    assert row["hearing_exact_sync"] == 1.0
    assert row["seeing_exact"] == row["seeing_exact_muted"] == 1.0
    assert row["modified_a_acc"] == 0.0
    assert row["modified_v_acc"] == 5.0


def test_what_sounds_told_as_seen_is_not_seen_exactly(monkeypatch, folder):
    """Exact only where all that is visible sounds and nothing else does: the lie that a fooled AVC pays."""

    def ears_only(sample, clip, style):
        heard = ", ".join(world.truth_of(sample)["audible"])
        return steps.build(f"I hear {heard}.", f"I see {heard}.", sample.answer)

    _, records, row = run(monkeypatch, folder, ears_only)
    exact = {(r["benchmark"], r["video_id"]): r["seeing_exact"] for r in records if r["view"] == "joint"}
    assert exact["avconfuse_muted", "c1"] is False
    assert exact["music_avqa", "c4"] is True
    assert row["hearing_exact_muted"] == 1.0
    assert row["seeing_exact_muted"] == 0.0
    assert row["seeing_exact_sync"] == 1.0


def test_under_direct_there_is_no_format_and_no_hearing(monkeypatch, folder):
    _, records, row = run(monkeypatch, folder, eyes_only, prompt_style="direct")
    assert row["format_rate"] is None
    assert row["hearing_exact"] is row["seeing_exact"] is None
    assert "format_rate" not in row["ci95"]
    assert records[0]["hearing"] == records[0]["completion"]


def test_types_of_music_avqa(monkeypatch, folder):
    def say(sample, clip, style):
        return {"Is there a harp sound?": "Yes.", "What kind of musical instrument is it?": "a flute"}.get(
            sample.question, "1"
        )

    _, records, row = run(monkeypatch, folder, say, prompt_style="direct")
    assert row["sync_acc"] == pytest.approx(2 / 3)
    assert row["sync_acc_by_type"] == {
        "exist": 1.0,
        "localis": 0.0,
        "count": 1.0,
        "audio_exist": 1.0,
        "audio": 1.0,
        "visual": 0.0,
        "audio_visual": 1.0,
        "visual_localis": 0.0,
        "audio_visual_count": 1.0,
    }
    assert (
        "acc_audio_exist"
        in generated.results(records, "m", {})["decoders"]["greedy"]["benchmarks"]["music_avqa"]
    )


def test_a_clip_is_decoded_once_whatever_the_questions_and_views(monkeypatch, folder):
    policy, records, _ = run(monkeypatch, folder, oracle, batch_size=1)
    assert len(policy.model.loads) == len(set(policy.model.loads)) == 4
    assert len(records) == 12  # 4 yes/no items in two views, 4 others in one
    assert policy.model.training  # given back as it came


def test_the_audio_only_view_shows_no_picture(monkeypatch, folder):
    seen = []

    def say(sample, clip, style):
        seen.append((sample.video is None, clip.frames is None, clip.audio is not None))
        return "no"

    run(monkeypatch, folder, say, prompt_style="direct", batch_size=2)
    assert sorted(set(seen)) == [(False, False, True), (True, True, True)]


def test_batches_do_not_change_the_results(monkeypatch, folder, tmp_path):
    texts = []
    for size in (1, 3):
        policy = world.policy(monkeypatch, eyes_only)
        out = generated.evaluate(
            policy, folder, batch_size=size, records_path=tmp_path / f"{size}.jsonl", progress=False
        )
        texts.append((json.dumps(out), (tmp_path / f"{size}.jsonl").read_text()))
    assert texts[0] == texts[1]


def test_results_keep_the_contract(monkeypatch, folder, tmp_path):
    policy = world.policy(monkeypatch, eyes_only)
    out = generated.evaluate(policy, folder, records_path=tmp_path / "r.jsonl", progress=False)
    assert out["model"] == "fake"
    greedy = out["decoders"]["greedy"]
    assert set(greedy["benchmarks"]) == {"avconfuse_muted", "avconfuse_modified", "music_avqa"}
    assert greedy["settings"]["prompt_style"] == "steps"
    for found in greedy["benchmarks"].values():
        for name, metric in found.items():
            assert set(metric) == {"value", "n", "ci95", "answers"}
            assert metric["answers"] == ("label_scored" if name.endswith("_margin") else "generated")
    records = read_records(tmp_path / "r.jsonl")
    assert generated.results(records, "fake", greedy["settings"]) == out
    assert {
        "id",
        "benchmark",
        "view",
        "prompt_style",
        "completion",
        "answer",
        "gold",
        "correct",
        "format_ok",
        "hearing",
        "truth",
        "answers",
        "scores",
        "why",
    } <= set(records[0])
    assert {record["answers"] for record in records} == {"generated"}


def test_records_of_before_still_add_up(monkeypatch, folder, tmp_path):
    """Files that an older version wrote say neither how they were answered nor which set they are of."""
    records = generated.collect(world.policy(monkeypatch, eyes_only), folder, Asking(progress=False))
    new = ("answers", "set", "scores", "candidates", "condition", "pair", "groups", "task", "text_answer")
    older = [{name: value for name, value in record.items() if name not in new} for record in records]
    assert generated.summary(older) == generated.summary(records)
    assert generated.results(older, "m", {}) == generated.results(records, "m", {})


def test_records_survive_any_character(monkeypatch, folder, tmp_path):
    policy = world.policy(monkeypatch, lambda *_: "no\u2028\x85 more\nlines")
    generated.evaluate(
        policy, folder, records_path=tmp_path / "r.jsonl", prompt_style="direct", progress=False
    )
    records = read_records(tmp_path / "r.jsonl")
    assert len(records) == 12
    assert records[0]["completion"] == "no\u2028\x85 more\nlines"


def test_limit_takes_the_first_items_of_each_benchmark(monkeypatch, folder):
    _, records, _ = run(monkeypatch, folder, oracle, limit=1)
    assert len(records) == 6
    assert {r["id"] for r in records if r["view"] == "audio_only"} == {"muted-1", "control-1"}


def test_without_truth_hearing_is_not_judged(monkeypatch, folder):
    (folder / "truth.json").unlink()
    _, _, row = run(monkeypatch, folder, oracle)
    assert row["hearing_exact"] is None
    assert row["modified_v_acc"] == 5.0  # from the annotation


def test_a_muted_file_without_its_control_is_refused(folder):
    (folder / "test/avconfuse/control.json").unlink()
    with pytest.raises(UserError, match="positive control"):
        catalog.benchmarks_in(folder)


def test_a_folder_without_benchmarks_is_refused(tmp_path):
    with pytest.raises(UserError, match="holds no benchmark file"):
        catalog.benchmarks_in(tmp_path)


def test_an_unknown_prompt_style_is_refused(monkeypatch, folder):
    with pytest.raises(UserError, match="choose steps or direct"):
        run(monkeypatch, folder, oracle, prompt_style="cot")
