"""The conflict evaluator on real clips and a real (untrained, tiny) thinker."""

import json
import shutil

import numpy as np
import pytest

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.write_media import write_clip
from rlcomm.evaluation import catalog, conflict, evaluate, runner, scored
from rlcomm.evaluation.plan import Plan
from rlcomm.evaluation.records import read_records
from rlcomm.utils.errors import UserError
from tests.evaluation import fake_world as world

MEDIA = MediaSettings(fps=2.0)
ALL = ["avconfuse_muted", "avconfuse_modified", "music_avqa", "mcr_aqa"]


@pytest.fixture(scope="module")
def policy():
    from rlcomm.omni.policy import Policy, add_fused_lm_head
    from rlcomm.orchestra.nano import nano_omni, omni_processor, train_tokenizer

    tokenizer = train_tokenizer(["Is there a harp sound? yes no I hear a flute"] * 3, vocab_size=300)
    model = nano_omni(tokenizer, seed=3)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return Policy(model.eval(), omni_processor(tokenizer), "nano")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return world.build_real(tmp_path_factory.mktemp("conflict"), fps=4.0)


def plan(**options) -> Plan:
    return Plan(**{"max_new_tokens": 4, "batch_size": 3, "media": MEDIA, **options})


def run(policy, folder, out, benchmarks=ALL, **options):
    return conflict.evaluate(
        policy, catalog.open_sets(folder, benchmarks), plan(**options), out, progress=False
    )


def written(out) -> tuple[bytes, bytes]:
    return (out / "results.json").read_bytes(), (out / "records.jsonl").read_bytes()


DECODERS = ("gacl", "aad", "acd", "cad", "vcd", "icd", "avcd", "audio_priority")


@pytest.mark.parametrize("stop", [0, 1, 4])
def test_an_interrupted_evaluation_ends_in_the_same_bytes(policy, folder, tmp_path, monkeypatch, stop):
    run(policy, folder, tmp_path / "whole", decoders=("gacl",))
    score, calls = scored._score_batch, []

    def cut(*args):
        if len(calls) == stop:
            raise KeyboardInterrupt
        calls.append(args)
        return score(*args)

    monkeypatch.setattr(scored, "_score_batch", cut)
    with pytest.raises(KeyboardInterrupt):
        run(policy, folder, tmp_path / "cut", decoders=("gacl",))
    assert not (tmp_path / "cut" / "results.json").exists()
    again = []
    monkeypatch.setattr(scored, "_score_batch", lambda *args: again.append(args) or score(*args))
    run(policy, folder, tmp_path / "cut", decoders=("gacl",))
    assert written(tmp_path / "cut") == written(tmp_path / "whole")
    assert len(again) + stop == 2 + 1 + 1 + 3  # batches of 3: 4 muted, 1 modified, 3 questions, 8 texts
    assert not (tmp_path / "cut" / "scores").exists()


def test_processes_that_share_the_batches_give_the_same_bytes(policy, folder, tmp_path, monkeypatch):
    run(policy, folder, tmp_path / "one", decoders=("gacl",))
    sets, out = catalog.open_sets(folder, ALL), tmp_path / "two"
    asked = plan(decoders=("gacl",))
    journal = runner.claim(out / "scores", policy, sets, asked.scored())
    batches = scored.batches(policy, sets, asked)
    parts = [runner.measured(policy.model, batches[rank::2], journal, progress=False) for rank in (0, 1)]
    ids = [{record["id"] for rows in part for record in rows} for part in parts]
    assert ids[0].isdisjoint(ids[1])
    run(policy, folder, out, decoders=("gacl",))
    assert written(out) == written(tmp_path / "one")


def test_scores_of_another_evaluation_are_refused(policy, folder, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(scored, "_score_batch", stop)
    with pytest.raises(KeyboardInterrupt):
        run(policy, folder, tmp_path)
    with pytest.raises(UserError, match=r"scores of another evaluation.*\(arbitrate, decoders differ\)"):
        run(policy, folder, tmp_path, decoders=("gacl",), arbitrate="video")
    with pytest.raises(KeyboardInterrupt):  # what is counted, not scored, may change
        run(policy, folder, tmp_path, budget_points=3.0)


def test_a_clip_is_decoded_once_whatever_the_items_and_decoders(policy, folder, tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(runner, "load_clip", lambda *args: opened.append(args[:2]) or load_clip(*args))
    results = run(policy, folder, tmp_path, decoders=DECODERS)
    assert len(opened) == len(set(opened)) == 2 + 1 + 1 + 2  # muted and control, modified, questions, texts
    assert set(results["decoders"]) == {"greedy", *DECODERS}


def test_swapping_the_sound_changes_the_scores(policy, folder, tmp_path):
    run(policy, folder, tmp_path / "before", ["mcr_aqa", "avconfuse_muted"], decoders=("gacl",))
    other = shutil.copytree(folder, tmp_path / "world")
    for name, wave in (("c1", 0.9), ("c2", 0.7)):
        clip = load_clip(str(folder / "clips" / f"{name}.mp4"), None, MEDIA)
        hum = np.sign(np.sin(np.arange(16000) * wave)).astype(np.float32) * 0.4
        write_clip(str(other / "clips" / f"{name}.mp4"), clip.frames, 2.0, hum)
    run(policy, other, tmp_path / "after", ["mcr_aqa", "avconfuse_muted"], decoders=("gacl",))
    rows = [
        [json.loads(line) for line in (tmp_path / name / "records.jsonl").read_text().splitlines()]
        for name in ("before", "after")
    ]
    for before, after in zip(*rows, strict=True):
        for branch, scores in before["scores"].items():
            if scores is not None:
                assert np.abs(np.subtract(scores, after["scores"][branch])).max() > 1e-4, branch


def test_what_the_evidence_branch_leaves_out(policy, folder, tmp_path):
    """Text where a question has one, else the picture; nothing where there is nothing to leave out."""
    run(policy, folder, tmp_path, ["mcr_aqa", "avconfuse_muted"], decoders=("gacl",))
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    by_id = {row["id"]: row["scores"] for row in rows}
    neutral = by_id["aqa-1-neutral"]
    assert neutral["evidence"] is None
    assert by_id["aqa-1-adversarial"]["evidence"] == pytest.approx(neutral["joint"], abs=1e-5)
    assert by_id["aqa-1-adversarial"]["joint"] != pytest.approx(neutral["joint"], abs=1e-5)
    muted = [row["scores"] for row in rows if row["set"] == "avconfuse_muted"]
    assert all(scores["evidence"] != scores["joint"] for scores in muted)


def test_free_answers(policy, folder, tmp_path):
    for mode in ("hypotheses", "tokens"):
        results = run(policy, folder, tmp_path / mode, decoders=("gacl", "aad"), gacl_mode=mode)
        assert set(results["decoders"]["gacl"]["benchmarks"]) == set(ALL)
        rows = [json.loads(line) for line in (tmp_path / mode / "records.jsonl").read_text().splitlines()]
        assert all("greedy" in row["texts"] for row in rows)
        if mode == "tokens":
            assert all(row["texts"].keys() == {"greedy", "gacl", "aad"} for row in rows)
            neutral = next(row for row in rows if row["id"] == "aqa-1-neutral")["texts"]
            assert neutral["gacl"] == neutral["greedy"]  # no evidence branch: the joint answer stands
        else:
            assert all(len(row["candidates"]) <= 2 for row in rows)


def test_step_wise_answers_are_scored_behind_each_branch_s_own_reasoning(
    policy, folder, tmp_path, monkeypatch
):
    said = iter(range(1000))
    monkeypatch.setattr(
        scored,
        "_greedy",
        lambda policy, prompts, plan: [
            f"<a-think> {n} </a-think> <answer> x" if (n := next(said)) % 3 else "nothing" for _ in prompts
        ],
    )
    run(policy, folder, tmp_path, ["mcr_aqa"], decoders=("gacl",), prompt_style="steps")
    rows = [json.loads(line) for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    joint = [row["scores"]["joint"] for row in rows]
    assert any(scores is None for scores in joint)
    assert any(scores is not None for scores in joint)
    unread = next(row for row in rows if row["scores"]["joint"] is None)
    assert unread["decoders"]["greedy"]["class"] is None  # unparsed, never a guess


def test_missing_and_unknown_benchmarks_are_named(folder, tmp_path):
    with pytest.raises(UserError, match="benchmark 'avq' is unknown"):
        catalog.open_sets(folder, ["avq"])
    with pytest.raises(UserError, match=r"SER.json.*\n.*VSC.json"):
        catalog.open_sets(folder, ["mcr"])
    (tmp_path / "own.yaml").write_text("name: mcr\nfile: x.json\n")
    with pytest.raises(UserError, match="'mcr' is a benchmark's own name"):
        catalog.open_sets(folder, [str(tmp_path / "own.yaml")])


def test_a_limit_keeps_pairs_and_both_sides_whole(folder):
    sets = catalog.open_sets(folder, ["mcr_aqa", "avconfuse_muted"], limit=1)
    assert [sample.meta["condition"] for sample in sets[0].samples] == [
        "neutral", "faithful", "adversarial", "irrelevant",
    ]  # fmt: skip
    assert [sample.meta["benchmark"] for sample in sets[1].samples] == [
        "avconfuse_muted", "avconfuse_control",
    ]  # fmt: skip


def rows_of(out) -> list[dict]:
    return [json.loads(line) for line in (out / "records.jsonl").read_text().splitlines()]


def test_labels_are_scored_behind_what_their_own_branch_wrote(policy, folder, tmp_path, monkeypatch):
    from rlcomm.omni import score

    number, asked = iter(range(1000)), []
    monkeypatch.setattr(
        scored,
        "_greedy",
        lambda policy, prompts, plan: [f"said {next(number)} <answer> x" for _ in prompts],
    )
    plain = score.candidate_scores

    def noted(model, processor, prompts, labels, *args, prefixes, **options):
        asked.extend(prefixes)
        return plain(model, processor, prompts, labels, *args, prefixes=prefixes, **options)

    monkeypatch.setattr(score, "candidate_scores", noted)
    run(policy, folder, tmp_path, ["mcr_aqa"], decoders=("gacl",), prompt_style="steps")
    assert len(set(asked)) == len(asked) == 2 * 8 - 2  # neutral items have no evidence branch
    assert all(prefix.startswith("said ") and prefix.endswith("<answer>") for prefix in asked)
    reasoning = [row["reasoning"] for row in rows_of(tmp_path)]
    assert sorted(text for texts in reasoning for text in texts.values()) == sorted(asked)


def test_chain_of_thought_thinks_before_its_labels_are_scored(policy, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(
        scored, "_greedy", lambda policy, prompts, plan: ["I hear a hum, so" for _ in prompts]
    )
    run(policy, folder, tmp_path, ["mcr_aqa"], decoders=("chain_of_thought", "ignore_text"))
    for row in rows_of(tmp_path):
        assert row["reasoning"] == {"chain_of_thought": "I hear a hum, so <answer>"}
        assert row["scores"]["chain_of_thought"] != row["scores"]["joint"]
        assert len(row["scores"]["ignore_text"]) == 2


@pytest.mark.parametrize("mode", ["hypotheses", "tokens"])
@pytest.mark.parametrize("style", ["direct", "steps"])
def test_chain_of_thought_is_read_behind_its_reasoning(policy, folder, tmp_path, monkeypatch, mode, style):
    """Trap: its answer is taken out of the tags once, and then looked for in tags again."""
    said = "<a-think> A violin? </a-think> <v-think> Nothing. </v-think> <answer> harp </answer>"
    monkeypatch.setattr(scored, "_greedy", lambda policy, prompts, plan: [said for _ in prompts])
    written = lambda model, processor, branches, *args: [said] * len(branches[0])  # noqa: E731
    monkeypatch.setattr("rlcomm.omni.branching.generate_branched", written)
    options = {"decoders": ("chain_of_thought",), "gacl_mode": mode, "prompt_style": style}
    results = run(policy, folder, tmp_path, ["mcr_aqa"], **options)
    found = results["decoders"]["chain_of_thought"]["benchmarks"]
    assert found["mcr_aqa"]["unparsed"]["value"] == 0.0
    assert found["mcr_aqa"]["acc"]["value"] == 0.5  # a harp plays in one of the two clips


def test_the_evidence_branch_gives_a_hypothesis_whoever_decides(policy, folder, tmp_path, monkeypatch):
    written = iter(range(1000))
    monkeypatch.setattr(
        scored, "_greedy", lambda policy, prompts, plan: [f"the {next(written)}" for _ in prompts]
    )
    options = {"gacl_mode": "hypotheses", "decoders": ("aad", "ignore_text")}
    run(policy, folder, tmp_path, ["mcr_aqa"], **options)
    for row in rows_of(tmp_path):
        assert len(row["candidates"]) == (1 if row["condition"] == "neutral" else 2)
        assert all(text.startswith("the ") for text in row["candidates"])  # in the branches' own words
        assert row["decoders"]["ignore_text"]["answer"] == row["texts"]["ignore_text"]
        assert row["texts"]["ignore_text"] not in row["candidates"]


def test_step_wise_hypotheses_keep_the_words_they_stood_in(policy, folder, tmp_path, monkeypatch):
    said = (
        "<a-think> I hear rain, no instrument. </a-think> <v-think> I see a cello. </v-think> "
        "<answer> a cello in the rain </answer>"
    )
    monkeypatch.setattr(scored, "_greedy", lambda policy, prompts, plan: [said for _ in prompts])
    results = run(
        policy,
        folder,
        tmp_path,
        ["avconfuse_modified"],
        decoders=("gacl", "ignore_text"),
        prompt_style="steps",
    )
    for decoder in ("greedy", "gacl", "ignore_text"):
        found = results["decoders"][decoder]["benchmarks"]["avconfuse_modified"]
        assert (found["a_acc"]["value"], found["v_acc"]["value"]) == (5.0, 5.0), decoder
    (row,) = rows_of(tmp_path)
    assert row["candidates"] == ["a cello in the rain"]
    assert row["decoders"]["gacl"]["a_acc"] == 5.0


def test_free_answers_keep_their_words_under_the_direct_prompt(policy, folder, tmp_path, monkeypatch):
    said = "Based on the video, I see a cello. Based on the audio, I hear rain."
    monkeypatch.setattr(scored, "_greedy", lambda policy, prompts, plan: [said for _ in prompts])
    results = run(policy, folder, tmp_path, ["avconfuse_modified"], decoders=("gacl", "ignore_text"))
    for decoder in ("greedy", "gacl", "ignore_text"):
        found = results["decoders"][decoder]["benchmarks"]["avconfuse_modified"]
        assert (found["a_acc"]["value"], found["v_acc"]["value"]) == (5.0, 5.0), decoder


def test_settings_reach_the_tokens(policy, folder, tmp_path, monkeypatch):
    asked = []
    rule = scored.decoders.token_rule
    monkeypatch.setattr(
        scored.decoders, "token_rule", lambda name, settings: asked.append(settings) or rule(name, settings)
    )
    run(policy, folder, tmp_path, ["mcr_aqa"], decoders=("gacl",), gacl_mode="tokens", settings={"lam": 2.0})
    assert asked
    assert all(settings == {"lam": 2.0} for settings in asked)


def test_a_sum_is_not_a_mean(policy, folder, tmp_path):
    run(policy, folder, tmp_path / "mean", ["mcr_aqa"])
    run(policy, folder, tmp_path / "sum", ["mcr_aqa"], normalise=False)
    for mean, total in zip(rows_of(tmp_path / "mean"), rows_of(tmp_path / "sum"), strict=True):
        # the tiny tokenizer needs several tokens for a label
        assert all(
            t < 1.5 * m for m, t in zip(mean["scores"]["joint"], total["scores"]["joint"], strict=True)
        )


def test_tokens_written_under_other_settings_are_not_mixed(policy, folder, tmp_path, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(scored, "_score_batch", stop)
    options = {"decoders": ("gacl",), "gacl_mode": "tokens"}
    with pytest.raises(KeyboardInterrupt):
        run(policy, folder, tmp_path, settings={"lam": 0.0}, **options)
    with pytest.raises(UserError, match=r"\(settings differ\)"):
        run(policy, folder, tmp_path, settings={"lam": 2.0}, **options)


def test_scores_without_a_plan_are_refused(policy, folder, tmp_path):
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "000000.json").write_text("[]")
    with pytest.raises(UserError, match="not the plan that says of what"):
        run(policy, folder, tmp_path)


def test_places_of_benchmarks_that_are_not_asked_are_refused(folder):
    with pytest.raises(UserError, match="benchmark_files names 'mcr', which is not among the benchmarks"):
        catalog.open_sets(folder, ["mcr_aqa"], {"mcr": "/x.json"})
    with pytest.raises(UserError, match="benchmark_media names 'mmau'"):
        catalog.open_sets(folder, ["mcr_aqa"], None, {"mmau": "/x"})


def test_what_is_said_and_what_is_scored_are_told_apart(policy, folder, tmp_path):
    """Trap: one name, the same rows, two values: a label may lead that the model would never write."""
    sets = catalog.open_sets(folder, ["avconfuse_muted"])
    path = tmp_path / "said.jsonl"
    said = evaluate(
        policy, sets, prompt_style="direct", media_settings=MEDIA, max_new_tokens=4, records_path=path,
        progress=False,
    )  # fmt: skip
    scored_ = run(policy, folder, tmp_path / "scored", ["avconfuse_muted"])
    told = [out["decoders"]["greedy"]["benchmarks"]["avconfuse_muted"] for out in (said, scored_)]
    assert told[0]["control_acc"]["answers"] == "generated"
    assert told[1]["control_acc"]["answers"] == "label_scored"
    assert told[0]["control_acc"]["n"] == told[1]["control_acc"]["n"] == 2
    assert told[0]["unparsed"]["value"] == 1.0  # an untrained model writes neither yes nor no
    assert told[1]["unparsed"]["value"] == 0.0
    written_ = {row["id"]: row for row in read_records(path) if row["view"] == "joint"}
    for row in rows_of(tmp_path / "scored"):
        own = written_[row["id"].removeprefix(f"{row['benchmark']}-")]
        assert (own["question"], own["gold"]) == (row["question"], row["gold"])
        assert own["candidates"] == row["candidates"] == ["yes", "no"]
        assert own["scores"]["joint"] == pytest.approx(row["scores"]["joint"], abs=1e-5)
        assert own["margin"] == pytest.approx(row["margins"]["joint"], abs=1e-5)
        assert (own["answers"], row["decoders"]["greedy"]["answers"]) == ("generated", "label_scored")
        assert own["class"] is None
        assert row["decoders"]["greedy"]["class"] in ("yes", "no")


CONDITIONS = ("no_audio", "silent_audio", "other_audio", "no_video", "audio_1of2", "no_media")


def test_every_score_has_its_blind_control_beside_it(policy, folder, tmp_path):
    plain = run(policy, folder, tmp_path / "plain", decoders=("gacl",))
    found = run(policy, folder, tmp_path / "blind", decoders=("gacl",), conditions=CONDITIONS)
    assert "conditions" not in plain
    assert found["decoders"] == plain["decoders"]  # the controls change no score they stand beside
    assert list(found["conditions"]) == ["full", *CONDITIONS]
    assert set(found["conditions"]["no_audio"]) == set(ALL)
    assert set(found["conditions"]["no_video"]) == set(ALL) - {"mcr_aqa"}  # nothing is seen there
    full = found["conditions"]["full"]["avconfuse_muted"]
    assert full["acc"] == plain["decoders"]["greedy"]["benchmarks"]["avconfuse_muted"]["acc"]
    rows = [json.loads(line) for line in (tmp_path / "blind" / "conditions.jsonl").read_text().splitlines()]
    assert {row["media"] for row in rows} == set(CONDITIONS)
    records = (tmp_path / "blind" / "records.jsonl").read_bytes()
    assert records == (tmp_path / "plain" / "records.jsonl").read_bytes()


def test_a_control_reaches_the_model(policy, folder, monkeypatch):
    """Trap: the condition is named in the results, and the clip is scored as it always was."""
    sets = catalog.open_sets(folder, ["mcr_aqa"])
    records = scored.collect(policy, sets, plan(conditions=CONDITIONS), progress=False)
    by_condition: dict[str, list] = {}
    for record in records:
        by_condition.setdefault(record.get("media", "full"), []).append(record["scores"]["joint"])
    assert set(by_condition) == {"full", *CONDITIONS} - {"no_video"}
    for name, scores in by_condition.items():
        assert len(scores) == 8, name
        if name != "full":
            assert scores != by_condition["full"], name
    assert by_condition["no_audio"] == by_condition["no_media"]  # the sound is all there is


def test_blind_controls_are_resumed_too(policy, folder, tmp_path, monkeypatch):
    options = {"benchmarks": ["mcr_aqa"], "conditions": ("no_audio",)}
    run(policy, folder, tmp_path / "whole", **options)
    score, calls = scored._score_batch, []

    def cut(*args):
        if len(calls) == 4:
            raise KeyboardInterrupt
        calls.append(args)
        return score(*args)

    monkeypatch.setattr(scored, "_score_batch", cut)
    with pytest.raises(KeyboardInterrupt):
        run(policy, folder, tmp_path / "cut", **options)
    again = []
    monkeypatch.setattr(scored, "_score_batch", lambda *args: again.append(args) or score(*args))
    run(policy, folder, tmp_path / "cut", **options)
    assert written(tmp_path / "cut") == written(tmp_path / "whole")
    assert len(again) == 2  # batches of 3: 8 texts, twice


def test_the_tables_show_scores_beside_their_controls(policy, folder, tmp_path):
    from rlcomm.reports import conflict as conflict_report

    results = run(
        policy, folder, tmp_path, ["avconfuse_muted", "mcr_aqa"], conditions=("no_audio", "no_video")
    )
    text = conflict_report.format_table(results)
    heads = [line.split() for line in text.splitlines() if line.endswith(("no_video", "no_audio"))]
    assert heads == [["avconfuse_muted", "full", "no_audio", "no_video"], ["mcr_aqa", "full", "no_audio"]]
    conflict_report.write_report(tmp_path / "r.html", results, read_records(tmp_path / "records.jsonl"))
    assert "With its blind control beside it" in (tmp_path / "r.html").read_text()


def test_an_unknown_condition_is_refused():
    with pytest.raises(UserError, match="conditions has 'deaf', which is no condition"):
        plan(conditions=("deaf",))
