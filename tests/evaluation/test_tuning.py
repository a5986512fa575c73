"""Hand-worked: four rows of a conflict benchmark, scores written by hand, every number checked by hand."""

import dataclasses
import json
import math

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.evaluation import scored, tuning
from rlcomm.evaluation.benchmarks import common
from rlcomm.evaluation.catalog import Set
from rlcomm.evaluation.plan import Plan
from rlcomm.utils.errors import UserError

LABELS = ["drum", "harp"]
# row -> joint scores of drum, harp beside the faithful and the adversarial text, and those of the evidence
# branch (no text); gold is drum in all of them
ROWS = {
    # repairable: the evidence is sure (margin 2) and right, the adversarial text wins under J
    "a": {"faithful": (-0.1, -3.0), "adversarial": (-2.0, -0.5), "evidence": (-0.2, -2.2)},
    # repairable, but the evidence is weak (margin 0.2)
    "b": {"faithful": (-0.1, -3.0), "adversarial": (-2.0, -0.5), "evidence": (-0.6, -0.8)},
    # missing evidence: the evidence is wrong as well (margin -1), its answer would spoil the faithful item
    "c": {"faithful": (-0.4, -1.4), "adversarial": (-2.0, -0.5), "evidence": (-1.5, -0.5)},
    # J withstands the text
    "d": {"faithful": (-0.1, -3.0), "adversarial": (-0.3, -1.3), "evidence": (-0.2, -2.2)},
}


def world(dev: tuple[str, ...] = ()) -> tuple[Set, list[dict]]:
    samples, raw = [], []
    for row, scores in ROWS.items():
        for condition in ("neutral", "faithful", "adversarial"):
            name = f"{row}-{condition}"
            meta = {
                "video_id": row,
                "pair": row,
                "condition": condition,
                "candidates": LABELS,
                "text_answer": "harp" if condition == "adversarial" else None,
            }
            samples.append(Sample(name, (Turn("Which one plays?", "drum"),), audio="x.wav", meta=meta))
            evidence = list(scores["evidence"])
            joint = evidence if condition == "neutral" else list(scores[condition])
            branches = {"joint": joint, "evidence": None if condition == "neutral" else evidence}
            raw.append(
                {"benchmark": "toy", "set": "toy", "id": name, "candidates": LABELS, "scores": branches,
                 "texts": {}, "completions": [], "reasoning": {}}
            )  # fmt: skip
    one = Set("toy", samples, common.score, lambda rows: common.accuracies(common.of(rows, "toy")))
    return one, raw


def values(found: dict) -> dict:
    return {name: metric["value"] for name, metric in found.items()}


def count(plan: Plan) -> tuple[dict, list[dict]]:
    one, raw = world()
    return tuning.count(raw, [one], plan, "model")


def test_gacl_under_its_defaults_by_hand():
    results, records = count(Plan(decoders=("gacl",)))
    greedy = values(results["decoders"]["greedy"]["benchmarks"]["toy"])
    gacl = values(results["decoders"]["gacl"]["benchmarks"]["toy"])
    # J follows the text in a, b and c; right in d
    assert greedy["conflict_acc"] == 0.25
    assert greedy["aligned_acc"] == 1.0
    assert greedy["acc_neutral"] == 0.75  # c's evidence is wrong
    # lambda 0.5, tau 0.5. Log-softmax shifts both labels alike, so differences decide:
    # a: R = min(2/0.5, 1) = 1, alpha 0.5: J differs by 1.5 for harp, A by 2 for drum: 0.5*1.5 < 0.5*2: drum
    # b: R = 0.2/0.5 = 0.4, alpha 0.2: harp leads by 0.8*1.5 - 0.2*0.2 > 0: harp stays
    # c: adversarial: y_A = harp = y_J, no gate; faithful: R = 1, alpha 0.5: 0.5*1.0 against 0.5*1.0: a tie
    by_id = {record["id"]: record["decoders"]["gacl"] for record in records}
    assert by_id["a-adversarial"]["answer"] == "drum"
    assert by_id["a-adversarial"]["alpha"] == 0.5
    assert by_id["b-adversarial"]["answer"] == "harp"
    assert by_id["b-adversarial"]["alpha"] == pytest.approx(0.2)
    assert by_id["c-adversarial"]["gate"] is False
    assert by_id["c-faithful"]["answer"] == "drum"  # the first of equals
    assert by_id["a-neutral"]["applies"] is False  # nothing to leave out
    assert gacl["conflict_acc"] == 0.5
    assert gacl["conflict_gain"] == 0.25
    assert gacl["faithful_drop"] == 0.0
    # M_J < 0 < M_A in a and b of four
    assert greedy["sign_flip_rate"] == 0.5
    assert greedy["evidence_conflict_acc"] == 0.75


def test_influence_of_the_text_by_hand():
    results, _ = count(Plan())
    found = values(results["decoders"]["greedy"]["benchmarks"]["toy"])
    # neutral right: a, b, d. Adversarial text turns a and b: 2 of 4 rows, 2 of 3 right ones
    assert found["tir_all_adversarial"] == 0.5
    assert found["tir_given_correct_adversarial"] == pytest.approx(2 / 3)
    # faithful text turns c from wrong to right
    assert found["tir_all_faithful"] == 0.25
    assert found["tir_given_wrong_faithful"] == 1.0
    assert found["norm_acc_adversarial"] == pytest.approx(0.25 / 0.75)
    assert "mrs" not in found  # no irrelevant text was asked


def test_confidence_is_the_softmax_of_the_scores_an_answer_was_chosen_by():
    _, records = count(Plan())
    record = next(r for r in records if r["id"] == "a-adversarial")
    assert record["decoders"]["greedy"]["confidence"] == pytest.approx(1 / (1 + math.exp(-1.5)))
    assert record["margins"] == {"joint": -1.5, "evidence": 2.0}


def test_confidence_of_mean_scores_is_that_of_their_sums():
    """Scores that are means over three tokens lead by three times as much as sums; margins stay means."""
    one, raw = made(ROWS)
    for row in raw:
        row["tokens"] = {name: [3, 3] for name, scores in row["scores"].items() if scores}
    _, records = tuning.count(raw, [one], Plan(), "m")
    record = next(r for r in records if r["id"] == "a-adversarial")
    assert record["decoders"]["greedy"]["confidence"] == pytest.approx(1 / (1 + math.exp(-4.5)))
    assert record["margins"] == {"joint": -1.5, "evidence": 2.0}


def test_mean_confidence_by_condition_by_hand():
    """A row with (log of odds) x between drum and harp is sigmoid(|x|) sure of its answer."""
    one, raw = made({"1": ROWS["a"], "2": ROWS["d"]})
    for row, joint in (("1", [-0.4, -1.4]), ("2", None)):  # an answer without scores is in no mean
        meta = {"video_id": row, "pair": row, "condition": "irrelevant", "candidates": LABELS}
        one.samples.append(Sample(f"{row}-irrelevant", (Turn("Which?", "drum"),), audio="x.wav", meta=meta))
        raw.append({**raw[0], "id": f"{row}-irrelevant", "scores": {"joint": joint, "evidence": None}})
    found = tuning.count(raw, [one], Plan(), "m")[0]["decoders"]["greedy"]["benchmarks"]["toy"]

    def sure(lead):
        return 1 / (1 + math.exp(-lead))

    # faithful: both lead by 2.9; adversarial: 1.5 (for harp) and 1.0; irrelevant: 1.0, the other not scored
    assert found["mean_confidence_faithful"] == {
        "value": pytest.approx(sure(2.9), abs=1e-9), "n": 2, "ci95": [pytest.approx(sure(2.9))] * 2,
        "answers": "label_scored",
    }  # fmt: skip
    misled = found["mean_confidence_adversarial"]
    assert misled["value"] == pytest.approx((sure(1.5) + sure(1.0)) / 2, abs=1e-9)
    low, high = misled["ci95"]
    assert low == pytest.approx(sure(1.0))  # two clips: a draw may hold either alone
    assert high == pytest.approx(sure(1.5))
    assert found["mean_confidence_irrelevant"]["value"] == pytest.approx(sure(1.0), abs=1e-9)
    assert found["mean_confidence_irrelevant"]["n"] == 1
    assert "mean_confidence_neutral" not in found  # none was asked
    assert found["mean_confidence"]["value"] == pytest.approx(
        (2 * sure(2.9) + sure(1.5) + 2 * sure(1.0)) / 5, abs=1e-9
    )


def test_a_grid_is_measured_setting_by_setting():
    results, _ = count(Plan(decoders=("gacl",)))
    entry = results["decoders"]["gacl"]
    assert entry["settings"]["settings_tried"] == 12
    assert len(entry["grid"]["toy"]) == 12
    by_point = {(p["settings"]["lam"], p["settings"]["tau"]): p for p in entry["grid"]["toy"]}
    # lambda 2, tau 0.5: alpha = 0.8 in b: 0.2*1.5 - 0.8*0.2 > 0, harp stays; c-faithful: alpha 1: lost
    assert by_point[2.0, 0.5]["conflict_gain"] == 0.25
    assert by_point[2.0, 0.5]["faithful_drop"] == 0.25
    # every setting that repairs a without c costs nothing, so the area is a's quarter over the whole budget
    assert values(entry["benchmarks"]["toy"])["nauc_5"] == pytest.approx(0.25)
    assert values(entry["benchmarks"]["toy"])["frontier_5"] == 0.25


def in_dev_rows(share: float) -> set[str]:
    return {row for row in ROWS if tuning.in_dev(row, share)}


def test_settings_are_chosen_on_dev_and_reported_on_test():
    share = next(s / 100 for s in range(1, 100) if len(in_dev_rows(s / 100)) == 2)
    dev = in_dev_rows(share)
    results, records = count(Plan(decoders=("gacl",), dev_share=share))
    chosen = results["decoders"]["gacl"]["chosen"]["toy"]
    assert chosen["tried"] == 12
    assert chosen["n_dev"] == 4
    assert {r["video_id"] for r in records if r["split"] == "dev"} == dev
    assert results["decoders"]["gacl"]["benchmarks"]["toy"]["acc"]["n"] == 6  # two rows of three conditions
    assert {key: chosen["settings"][key] for key in ("lam", "tau")} in [
        {k: p["settings"][k] for k in ("lam", "tau")} for p in results["decoders"]["gacl"]["grid"]["toy"]
    ]


def test_a_decoder_without_a_feasible_setting_is_shown_as_such():
    one, raw = world()
    share = next(s / 100 for s in range(1, 100) if len(in_dev_rows(s / 100)) == 2)
    for record in raw:  # without its audio every faithful item is turned round, whatever the strength
        record["scores"]["no_audio"] = [50.0, -50.0]
    results, records = tuning.count(raw, [one], Plan(decoders=("aad",), dev_share=share), "m")
    entry = results["decoders"]["aad"]
    assert entry["chosen"]["toy"] == {"settings": None, "feasible": 0, "tried": 7, "n_dev": 4}
    assert set(entry["benchmarks"]["toy"]) == {"nauc_5", "nauc_10", "frontier_5", "frontier_10"}
    assert all("aad" not in record["decoders"] for record in records)


def test_the_same_scores_give_the_same_bytes():
    plan = Plan(decoders=("gacl", "cad"), dev_share=0.5)
    assert json.dumps(count(plan)) == json.dumps(count(plan))


def test_written_answers_are_read_and_an_empty_one_is_unparsed():
    one, raw = world()
    for record in raw:
        record["candidates"], record["scores"] = [], {"joint": None}
        record["texts"] = {"greedy": "drum" if record["id"].startswith("a") else " "}
    results, records = tuning.count(raw, [one], Plan(gacl_mode="tokens"), "m")
    found = values(results["decoders"]["greedy"]["benchmarks"]["toy"])
    assert found["acc"] == 0.25
    assert found["unparsed"] == 0.75
    assert records[0]["decoders"]["greedy"]["confidence"] is None
    assert "ece" not in found


def test_statistics_of_the_dev_split_for_zscore():
    plan = Plan(decoders=("gacl",), settings={"score_norm": "zscore"}, dev_share=0.5)
    results, _ = count(plan)
    grid = results["decoders"]["gacl"]["grid"]["toy"]
    assert {point["settings"]["score_norm"] for point in grid} == {"zscore"}
    # the joint branch's scores are spread wider than the evidence's, so its lead counts for less than in nats
    assert max(point["conflict_gain"] for point in grid) > 0


def test_a_dev_split_without_conflict_tunes_nothing():
    results, _ = count(Plan(decoders=("gacl",), dev_share=1e-9))
    assert results["decoders"]["gacl"]["chosen"]["toy"]["n_dev"] == 0
    assert results["decoders"]["gacl"]["benchmarks"]["toy"]["acc"]["n"] == 12


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"decoders": ("beam",)}, "decoder 'beam' is unknown"),
        ({"prompt_style": "loud"}, "prompt_style is 'loud'"),
        ({"gacl_mode": "both"}, "gacl_mode is 'both'"),
        ({"arbitrate": "taste"}, "arbitrate is 'taste'"),
        ({"dev_share": 1.0}, "dev_share is 1.0"),
        ({"settings": {"score_norm": "center"}}, "dev_share is 0"),
        ({"settings": {"alpha_max": 2.0}}, "alpha_max"),
    ],
)
def test_wrong_plans_are_refused(wrong, words):
    with pytest.raises(UserError, match=words):
        Plan(**wrong)


# -- what must not leak, and what must not be lost -----------------------------------------------------------


def named_sides(share: float = 0.5) -> tuple[list[str], list[str]]:
    """Two clips of the dev split and two of the test split."""
    names = [f"clip{i}" for i in range(40)]
    dev = [name for name in names if tuning.in_dev(name, share)]
    return dev[:2], [name for name in names if name not in dev][:2]


def made(rows: dict[str, dict], clip=lambda row: row, key: str = "toy") -> tuple[Set, list[dict]]:
    """A set of these rows: row -> scores of drum and harp by condition, and of the evidence; gold is drum."""
    samples, raw = [], []
    for row, scores in rows.items():
        for condition in ("faithful", "adversarial"):
            name = f"{row}-{condition}"
            meta = {"video_id": clip(row), "pair": row, "condition": condition, "candidates": LABELS}
            samples.append(Sample(name, (Turn("Which one plays?", "drum"),), audio="x.wav", meta=meta))
            branches = {"joint": list(scores[condition]), "evidence": list(scores["evidence"])}
            raw.append(
                {"benchmark": key, "set": key, "id": name, "candidates": LABELS, "scores": branches,
                 "texts": {}, "completions": [], "reasoning": {}}
            )  # fmt: skip
    return Set(key, samples, common.score, lambda found: common.accuracies(common.of(found, key))), raw


def test_nothing_of_the_test_items_enters_the_choice():
    dev, test = named_sides()
    # dev: harp leads by 0.5, the evidence says drum by 0.4: R = 0.8 at tau 0.5, so lambda 1 repairs
    # (0.8 * 0.4 > 0.2 * 0.5) and lambda 0.5 does not (0.4 * 0.4 < 0.6 * 0.5)
    easy = {"faithful": (-0.1, -3.0), "adversarial": (-1.0, -0.5), "evidence": (-0.5, -0.9)}
    # test: the evidence is wrong by 1, so lambda 1 turns the faithful item (drum by 1) round: alpha 1
    hard = {"faithful": (-0.4, -1.4), "adversarial": (-2.0, -0.5), "evidence": (-1.5, -0.5)}
    one, raw = made({**dict.fromkeys(dev, easy), **dict.fromkeys(test, hard)})
    results, _ = tuning.count(raw, [one], Plan(decoders=("gacl",), dev_share=0.5), "m")
    chosen = results["decoders"]["gacl"]["chosen"]["toy"]
    assert (chosen["settings"]["lam"], chosen["settings"]["tau"]) == (1.0, 0.5)
    found = results["decoders"]["gacl"]["benchmarks"]["toy"]
    assert found["faithful_drop"]["value"] == 1.0  # the price is paid on test, and shown
    assert found["faithful_drop"]["n"] == 2
    assert found["conflict_gain"]["value"] == 0.0


def test_what_the_recipe_fixes_holds_for_every_setting_tuned_over():
    plan = Plan(decoders=("gacl",), settings={"alpha_max": 0.25}, dev_share=0.5)
    one, raw = made({row: ROWS["a"] for row in (*named_sides()[0], *named_sides()[1])})
    grid = tuning.count(raw, [one], plan, "m")[0]["decoders"]["gacl"]["grid"]["toy"]
    assert len(grid) == 12
    assert {point["settings"]["alpha_max"] for point in grid} == {0.25}
    assert {point["conflict_gain"] for point in grid} == {0.0}  # 0.25 * 2 < 0.75 * 1.5


def test_dev_statistics_are_of_dev_items(monkeypatch):
    dev, test = named_sides()
    one, raw = made({**dict.fromkeys(dev, ROWS["a"]), **dict.fromkeys(test, ROWS["c"])})
    seen = []
    fit = tuning.gacl.fit_stats
    monkeypatch.setattr(tuning.gacl, "fit_stats", lambda rows: seen.append(list(rows)) or fit(rows))
    tuning.count(raw, [one], Plan(decoders=("gacl",), settings={"score_norm": "zscore"}, dev_share=0.5), "m")
    joint, evidence = seen
    assert joint == [list(ROWS["a"][c]) for _ in dev for c in ("faithful", "adversarial")]
    assert evidence == [list(ROWS["a"]["evidence"])] * 4


def test_statistics_are_not_asked_for_where_no_dev_item_has_both_branches():
    one, raw = made({row: ROWS["a"] for row in (*named_sides()[0], *named_sides()[1])})
    for record in raw:
        record["scores"]["evidence"] = None
    plan = Plan(decoders=("gacl",), settings={"score_norm": "zscore"}, dev_share=0.5)
    assert tuning.count(raw, [one], plan, "m")[0]["decoders"]["gacl"]["chosen"]["toy"]["applies"] is False


def test_intervals_draw_whole_clips():
    rows = {str(i): ROWS["a"] if i % 2 else ROWS["d"] for i in range(6)}
    apart, raw = made(rows)
    together, _ = made(rows, clip=lambda row: "the same")
    for one, width in ((apart, 0.2), (together, 0.0)):
        found = tuning.count(raw, [one], Plan(decoders=("gacl",)), "m")[0]["decoders"]["greedy"]
        for name in ("conflict_acc", "sign_flip_rate"):
            low, high = found["benchmarks"]["toy"][name]["ci95"]
            assert (high - low > width) if width else (high == low)


def test_macro_means_weigh_benchmarks_alike():
    one, raw = made({"1": ROWS["a"], "2": ROWS["d"]})  # joint right on 1 of 2 adversarial items
    two, more = made({"3": ROWS["d"]}, key="other")  # on 1 of 1
    macro = tuning.count([*raw, *more], [one, two], Plan(decoders=("gacl",)), "m")[0]["decoders"]
    assert macro["greedy"]["macro"]["all"]["conflict_acc"]["value"] == 0.75
    assert macro["gacl"]["macro"]["all"]["conflict_acc"]["value"] == 1.0  # a is repaired
    assert macro["gacl"]["macro"]["all"]["nauc_5"]["value"] == pytest.approx((0.5 + 0.0) / 2)
    assert macro["gacl"]["macro"]["all"]["frontier_5"]["value"] == pytest.approx((0.5 + 0.0) / 2)
    assert "mcr" not in macro["gacl"]["macro"]


def test_a_decoder_has_a_mean_over_the_benchmarks_it_applies_to_beside_every_other_one():
    sets, raw = [], []
    for key, rows in (("one", {"1": ROWS["a"]}), ("two", {"2": ROWS["d"]}), ("far", {"3": ROWS["a"]})):
        one, more = made(rows, key=key)
        for record in more:
            record["id"] = f"{key}-{record['id']}"
            record["scores"]["noisy_video"] = None if key == "far" else [-1.0, -1.0]
        one.samples[:] = [dataclasses.replace(s, id=f"{key}-{s.id}") for s in one.samples]
        sets.append(one)
        raw += more
    found = tuning.count(raw, sets, Plan(decoders=("gacl", "vcd")), "m")[0]["decoders"]
    assert set(found["vcd"]["macro"]) == {"one+two"}
    assert set(found["greedy"]["macro"]) == set(found["gacl"]["macro"]) == {"one+two", "all"}
    assert found["greedy"]["macro"]["one+two"]["conflict_acc"]["value"] == 0.5  # a wrong, d right
    assert found["greedy"]["macro"]["all"]["conflict_acc"]["value"] == pytest.approx(1 / 3)
    assert found["vcd"]["macro"]["one+two"]["conflict_acc"]["ci95"] is not None


def test_a_decoder_that_lacks_its_branches_everywhere_does_not_apply():
    results, records = count(Plan(decoders=("vcd", "gacl")))
    entry = results["decoders"]["vcd"]
    assert entry["chosen"]["toy"]["applies"] is False
    assert values(entry["benchmarks"]["toy"]) == {"applies": 0.0}
    assert entry["macro"] == {}
    assert all("vcd" not in record["decoders"] for record in records)
    assert values(results["decoders"]["gacl"]["benchmarks"]["toy"])["applies"] == pytest.approx(8 / 12)


def test_a_branch_that_never_answers_is_there_all_the_same():
    """Under the step prompt a branch may write no answer: unparsed, not inapplicable."""
    one, raw = made({"1": ROWS["a"]})
    for record in raw:
        record["scores"] = {"joint": None, "evidence": None, "ignore_text": None}
        record["reasoning"] = {"joint": "hm", "evidence": "hm", "ignore_text": "hm"}
    plan = Plan(decoders=("gacl", "ignore_text"), prompt_style="steps")
    results, records = tuning.count(raw, [one], plan, "m")
    for name in ("greedy", "gacl", "ignore_text"):
        found = values(results["decoders"][name]["benchmarks"]["toy"])
        assert found["unparsed"] == 1.0, name
        assert "applies" not in found
    assert all(r["decoders"]["ignore_text"]["answer"] is None for r in records)


@pytest.mark.parametrize("style", ["direct", "steps"])
def test_two_branches_without_a_hypothesis_are_there_all_the_same(monkeypatch, style):
    """Neither writes an answer, so nothing is scored: unparsed; only the item without evidence is apart."""
    one, raw = made({"1": ROWS["a"]})
    said = "" if style == "direct" else "<a-think> hm"
    monkeypatch.setattr(scored, "_greedy", lambda policy, prompts, plan: [said for _ in prompts])
    plan = Plan(decoders=("gacl", "aad", "ignore_text"), gacl_mode="hypotheses", prompt_style=style)
    items = [{"joint": "p", "evidence": "p", "no_audio": "p", "ignore_text": "p"} for _ in raw]
    items[1] = {**items[1], "evidence": None}
    for record, item in zip(raw, items, strict=True):
        record.update(candidates=[], completions=[], scores=dict.fromkeys(item))
    scored._add_hypotheses(None, raw, items, plan)
    results, _ = tuning.count(raw, [one], plan, "m")
    found = {name: entry["benchmarks"]["toy"] for name, entry in results["decoders"].items()}
    assert [metrics["unparsed"]["value"] for metrics in found.values()] == [1.0] * 4
    assert found["gacl"]["applies"]["value"] == 0.5
    assert all("applies" not in found[name] for name in ("greedy", "aad", "ignore_text"))


def test_answers_without_a_verdict_are_in_no_calibration():
    one, raw = made({"1": ROWS["d"]})

    def score(sample, reading):
        fields = common.score(sample, reading)
        return {**fields, "correct": None if sample.id == "1-adversarial" else fields["correct"]}

    unjudged = dataclasses.replace(one, score=score)
    found = tuning.count(raw, [unjudged], Plan(), "m")[0]["decoders"]["greedy"]["benchmarks"]["toy"]
    assert found["ece"]["n"] == 1


def test_what_is_right_without_a_sense():
    one, raw = made({"1": ROWS["a"], "2": ROWS["d"]})
    for record in raw:  # the blind answer is drum for row 1, harp for row 2
        record["scores"]["no_audio"] = [-0.1, -3.0] if record["id"].startswith("1") else [-3.0, -0.1]
    results, _ = tuning.count(raw, [one], Plan(decoders=("aad",)), "m")
    found = values(results["decoders"]["greedy"]["benchmarks"]["toy"])
    # full: right on both faithful items and on 2-adversarial; none: right on both items of row 1
    assert found["r_tp_audio"] == pytest.approx(2 / 3)
    assert found["ts_audio"] == 0.25  # 1-faithful
    assert found["an_audio"] == 0.5  # both of row 2
    assert found["ah_audio"] == 0.25  # 1-adversarial
    assert found["un_audio"] == 0.0


def test_an_open_question_says_nothing_about_reliance_on_a_sense():
    """Trap: no verdict is taken for "wrong with and without the sound", and the blind choice is one between
    answers that were written with the sound."""
    one, raw = made({"1": ROWS["a"], "2": ROWS["d"]})
    for record in raw:
        record["scores"]["no_audio"] = [-0.1, -3.0]
    open_ones = [dataclasses.replace(s, meta={**s.meta, "candidates": []}) for s in one.samples[2:]]
    for record in raw[2:]:
        record["completions"] = list(record["candidates"])
    mixed = dataclasses.replace(one, samples=[*one.samples[:2], *open_ones])
    plan = Plan(decoders=("aad",))
    found = tuning.count(raw, [mixed], plan, "m")[0]["decoders"]["greedy"]["benchmarks"]["toy"]
    assert found["un_audio"] == {"value": 0.0, "n": 2, "ci95": [0.0, 0.0], "answers": "label_scored"}
    assert found["ts_audio"]["value"] == found["ah_audio"]["value"] == 0.5
    unanswered = dataclasses.replace(one, samples=[dataclasses.replace(s, meta={}) for s in one.samples])
    for record in raw:
        record["completions"] = list(record["candidates"])
    found = tuning.count(raw, [unanswered], plan, "m")[0]["decoders"]["greedy"]["benchmarks"]["toy"]
    assert not any(name.endswith("_audio") for name in found)


def test_one_candidate_alone_is_no_confidence():
    """Both branches write the same: one hypothesis, whose softmax is 1 however unsure they are."""
    one, raw = made({"1": ROWS["a"]})
    raw[0].update(candidates=["drum"], completions=["drum"], scores={"joint": [-5.0], "evidence": [-7.0]})
    results, records = tuning.count(raw, [one], Plan(decoders=("gacl",)), "m")
    assert records[0]["decoders"]["gacl"]["answer"] == "drum"
    assert records[0]["decoders"]["gacl"]["confidence"] is None
    assert records[1]["decoders"]["gacl"]["confidence"] is not None
    assert results["decoders"]["gacl"]["benchmarks"]["toy"]["ece"]["n"] == 1


def test_two_answers_that_cannot_be_read_are_scored_each_by_itself():
    """Trap: under the step prompt an answer may be missing and the hearing part still be judged."""
    one, raw = made({"1": ROWS["a"]})

    def score(sample, reading):
        heard = {"a_acc": float(len(reading.hearing)), "v_acc": 0.0, "why": ""}
        return {**common.score(sample, reading), **heard}

    for record in raw:
        record["texts"] = {
            "greedy": "<a-think> ab </a-think>",
            "ignore_text": "<a-think> abcde </a-think>",
        }
    plan = Plan(decoders=("ignore_text",), prompt_style="steps")
    _, records = tuning.count(raw, [dataclasses.replace(one, score=score)], plan, "m")
    told = records[0]["decoders"]
    assert (told["greedy"]["a_acc"], told["ignore_text"]["a_acc"]) == (2.0, 5.0)
