"""The audit of rewards, with similarities one can work out by hand."""

import dataclasses
import json
import logging

import pytest
import yaml

from rlcomm.cli import main
from rlcomm.config.load import load_recipe
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.diagnostics import audit
from rlcomm.rewards import adapters
from rlcomm.stages import step_rr
from rlcomm.utils.errors import UserError

HEARD, SEEN = "I hear a drum.", "I see a drum and a harp."
WEIGHTS = {"format": 1.0, "arr": 1.0, "avc": 1.0, "accuracy": 0.0}


class Overlap:
    """Similarity = shared words / all words, hearing and seeing being one word."""

    def __init__(self, name="", **options):
        pass

    def similarity(self, text, other, instruction=None):
        one, two = (set(t.lower().replace("hear", "see").rstrip(".").split()) for t in (text, other))
        return len(one & two) / len(one | two) if one | two else 0.0

    def prefetch(self, pairs):
        pass


def rows(count=4, **fields) -> list[Sample]:
    """Half of them with a harp that is seen and silent."""
    found = []
    for i in range(count):
        name, visible = ("drum", ["drum", "harp"]) if i % 2 else ("flute", ["flute"])
        found.append(
            Sample(
                str(i), (Turn(f"Is a {name} heard?", "yes" if i < 3 else "no"),), f"{i}.mp4", f"{i}.mp4",
                reference=f"I hear a {name}.", sight="I see a " + " and a ".join(visible) + ".",
                meta={"visible": visible, "audible": [name], "ambient": None}, **fields,
            )
        )  # fmt: skip
    return found


def audited(samples, weights=WEIGHTS, mode="similarity", omega=0.9):
    functions = adapters.reward_functions(weights, omega=omega, avc_mode=mode, embedder=Overlap())
    decided = audit.decided_by(
        weights, samples, format_mode="strict", avc_mode=mode, omega=omega, embedder="overlap"
    )
    return audit.audit(samples, functions, decided, progress=False)


def named(found) -> set[str]:
    return {name for name, scores in found["policies"].items() if scores["reaches"]}


# -- scores --------------------------------------------------------------------------------------------------


def test_the_papers_avc_by_hand():
    """S(honest) = 1 in sync, 4 shared of 6 words with a silent harp: I = 5/6, r_arr + I = 11/6."""
    found = audited(rows())
    fair = found["honest"]
    assert (fair["format"], fair["accuracy"], fair["arr"]) == (1.0, 1.0, 1.0)
    assert fair["I"] == pytest.approx((1 + 4 / 6) / 2)
    assert fair["reasoning"]["value"] == pytest.approx(11 / 6)
    assert fair["total"] == pytest.approx(1 + 1 + 1 + 5 / 6)
    copied = found["policies"][
        "v_into_a"
    ]  # on rows in sync the copy says "see" in the a-think; S is 1 all the same
    assert copied["arr"] == 0.5
    assert copied["I"] == 1.0
    assert copied["of_honest"]["value"] == pytest.approx(1.5 / (11 / 6))
    assert copied["of_honest_conflict"]["value"] == pytest.approx(1 / (1 + 4 / 6))
    told = found["policies"]["a_told_as_seen"]
    assert told["rows"] == 2  # in sync it is simply true
    assert told["of_honest"]["value"] == pytest.approx(2 / (1 + 4 / 6))
    assert (
        told["example"]
        == "<a-think> I hear a drum. </a-think> <v-think> I see a drum. </v-think> <answer> yes </answer>"
    )
    assert (
        found["policies"]["empty_segments"]["total"] == 0.0
    )  # nothing but the answer, which alone is not paid
    always = found["policies"]["always_no"]
    assert always["rows"] == 4
    assert always["accuracy"] == 0.25
    assert always["of_honest"]["value"] == pytest.approx((0.25 + 5 / 6) / (11 / 6))


def test_what_is_paid_like_honesty_is_named_with_what_to_change():
    found = audited(rows())
    blind = {"a_told_as_seen", "reference_echoed", "another_view", "v_says_nothing"}
    assert named(found) == {*blind, "tags_repeated", "v_into_a"}
    said = {sentence.split(" ")[0]: sentence for sentence in found["findings"]}
    assert set(said) == named(found)
    assert all("set avc_mode witnessed" in said[name] for name in blind)
    assert "earns 120% of the honest r_arr + I, 120% where" in said["a_told_as_seen"]  # 2 / (5/3)
    assert "format reward alone" in said["tags_repeated"]
    assert "omega 0.9" in said["v_into_a"]


def test_calibrated_pays_any_v_think_behind_an_honest_a_think():
    found = audited(rows(), mode="calibrated")
    for name in ("a_told_as_seen", "reference_echoed", "another_view", "v_says_nothing"):
        assert found["policies"][name]["of_honest"]["value"] == pytest.approx(1.0)
    assert {"a_told_as_seen", "reference_echoed", "another_view", "v_says_nothing"} <= named(found)


def test_witnessed_names_nobody_and_pays_the_honest_one_in_full():
    found = audited(rows(), mode="witnessed")
    assert found["honest"]["reasoning"]["value"] == pytest.approx(2.0)
    # an embedder that cannot tell hearing from seeing cannot tell those that differ by that word alone
    assert named(found) <= {"reference_echoed", "v_into_a"}
    assert found["policies"]["a_told_as_seen"]["of_honest"]["value"] == pytest.approx(0.5)
    assert found["policies"]["v_says_nothing"]["of_honest"]["value"] == pytest.approx(0.5)
    assert found["policies"]["tags_repeated"]["of_honest"]["value"] == pytest.approx(0.5)


def test_rewards_that_read_no_reasoning_are_said_to():
    weights = {"format": 1.0, "accuracy": 1.0}
    functions = adapters.reward_functions(weights)
    decided = audit.decided_by(
        weights, rows(), format_mode="strict", avc_mode="similarity", omega=0.9, embedder="minilm"
    )
    found = audit.audit(rows(), functions, decided, progress=False)
    assert found["policies"]["gold_everywhere"]["of_honest"]["value"] is None
    assert found["policies"]["gold_everywhere"]["total"] == found["honest"]["total"] == 2.0
    assert len(found["findings"]) == 1
    assert "No reward of this recipe" in found["findings"][0]
    assert "No reward of this recipe" in audit.format_table(found)


def test_weights_count():
    """A reward at a tenth of the weight is a tenth of the temptation."""
    found = audited(rows(), {**WEIGHTS, "avc": 0.1})
    assert found["honest"]["reasoning"]["value"] == pytest.approx(1 + 0.1 * 5 / 6)


def test_the_table_has_a_line_a_policy_and_says_what_is_left_out():
    found = audited([*rows(), dataclasses.replace(rows()[0], id="x", meta={}, sight=None)])
    lines = audit.format_table(found).splitlines()
    assert set(lines[1]) == {"-"}
    assert lines[2].startswith("honest")
    assert sum(line.endswith("<- named") for line in lines) == len(named(found))
    assert "4 of 5 rows: what is heard and what is seen is known" in lines


def test_rows_that_tell_nothing_honest_are_refused():
    blind = [dataclasses.replace(sample, meta={}, sight=None) for sample in rows()]
    with pytest.raises(UserError, match="--sight true"):
        audited(blind)


# -- the fingerprint -----------------------------------------------------------------------------------------


def test_an_audit_is_of_these_rewards_on_these_rows():
    def name(samples, **changed):
        settings = dict(format_mode="strict", avc_mode="similarity", omega=0.9, embedder="minilm")
        weights = changed.pop("weights", WEIGHTS)
        return audit.fingerprint(audit.decided_by(weights, samples, **{**settings, **changed}))

    first = name(rows())
    assert name(rows()) == first
    moved = [dataclasses.replace(sample, video=f"/elsewhere/{sample.video}") for sample in rows()]
    assert name(moved) == first  # a data folder may be moved
    changes = [
        dict(avc_mode="calibrated"), dict(omega=0.8), dict(embedder="another"), dict(format_mode="lenient"),
        dict(weights={**WEIGHTS, "arr": 2.0}),
    ]  # fmt: skip
    others = {name(rows(), **change) for change in changes}
    others |= {name(rows(3)), name([dataclasses.replace(s, reference="I hear rain.") for s in rows()])}
    assert len(others | {first}) == len(changes) + 3


def test_it_is_found_in_the_run_folder_or_beside_it(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "audit.json").write_text(json.dumps({"fingerprint": "x", "policies": {}}))
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "audit.json").write_text("{")
    assert audit.find(tmp_path / "one", "x") is not None
    assert audit.find(tmp_path / "two", "x") is not None  # another seed
    assert audit.find(tmp_path / "two", "y") is None  # stale
    assert audit.find(tmp_path / "deeper" / "two", "x") is None


# -- the command, and the warning of a run -------------------------------------------------------------------


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "rows.jsonl", rows())
    path = tmp_path / "step_rr.yaml"
    keys = dict(
        stage="step_rr", dataset=str(tmp_path / "rows.jsonl"), output_dir=str(tmp_path / "run"), omega=0.9,
        per_device_train_batch_size=8, num_generations=8, bf16=False, disable_tqdm=True,
    )  # fmt: skip
    path.write_text(yaml.safe_dump(keys))
    monkeypatch.setattr(step_rr, "Embedder", Overlap)
    return str(path)


def told(capsys, *argv) -> str:
    capsys.readouterr()
    assert main(list(argv)) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    return said


def test_the_command_prints_the_table_and_keeps_the_audit(recipe, tmp_path, capsys):
    assert main(["audit", recipe]) == 0
    said = capsys.readouterr().out
    assert "a_told_as_seen" in said
    assert said.splitlines()[-1] == str(tmp_path / "run" / "audit.json")
    found = json.loads((tmp_path / "run" / "audit.json").read_text())
    assert found["rows_used"] == 4
    assert found["policies"]["a_told_as_seen"]["reaches"] is True
    first = (tmp_path / "run" / "audit.json").read_bytes()
    assert main(["audit", recipe]) == 0
    assert (tmp_path / "run" / "audit.json").read_bytes() == first


def test_mistakes_are_one_sentence(recipe, tmp_path, capsys):
    assert "no degenerate policy" in told(capsys, "audit", recipe, "--write_policy", "loud", "x.jsonl")
    assert "no share" in told(
        capsys, "audit", recipe, "--write_policy", "v_into_a", "x.jsonl", "--policy_share", "2"
    )
    (tmp_path / "sft.yaml").write_text(f"stage: sft\ndataset: {tmp_path / 'rows.jsonl'}\nbf16: false\n")
    assert "no rewards to audit" in told(capsys, "audit", str(tmp_path / "sft.yaml"))
    write_jsonl(tmp_path / "rows.jsonl", [dataclasses.replace(s, sight=None) for s in rows()])
    assert "field sight: is missing" in told(capsys, "audit", recipe, "--avc_mode", "witnessed")
    write_jsonl(tmp_path / "rows.jsonl", [dataclasses.replace(s, reference=None) for s in rows()])
    assert "field reference: is missing" in told(capsys, "audit", recipe)


def test_a_policy_is_written_as_rows_to_imitate(recipe, tmp_path, capsys):
    out = tmp_path / "exploit.jsonl"
    assert main(["audit", recipe, "--write_policy", "v_into_a", str(out)]) == 0
    assert "4 rows, 4 of them v_into_a" in capsys.readouterr().out
    targets = [sample.turns[0].target for sample in read_jsonl(out)]
    assert targets[1] == f"<a-think> {SEEN} </a-think> <v-think> {SEEN} </v-think> <answer> yes </answer>"
    assert main(["audit", recipe, "--write_policy", "v_into_a", str(out), "--policy_share", "0"]) == 0
    assert read_jsonl(out)[1].turns[0].target == (
        f"<a-think> {HEARD} </a-think> <v-think> {SEEN} </v-think> <answer> yes </answer>"
    )
    assert not (tmp_path / "run").exists()  # it is no audit


def test_a_run_says_whether_its_rewards_were_audited(recipe, tmp_path, caplog, capsys):
    loaded = load_recipe(recipe)
    weights, samples = step_rr.reward_weights(loaded), rows()

    def said() -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING, "rlcomm"):
            step_rr.warn_without_audit(loaded, weights, samples)
        return caplog.text

    assert "no audit of these rewards" in said()
    assert main(["audit", recipe]) == 0
    capsys.readouterr()
    assert not said()
    assert "a_told_as_seen" in capsys.readouterr().out
    loaded.output_dir = str(tmp_path / "another_seed")
    assert not said()
    loaded.avc_mode = "calibrated"  # the audit is of other rewards now
    assert "no audit of these rewards" in said()
