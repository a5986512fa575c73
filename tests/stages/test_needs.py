"""Rows without what a stage needs of them: left out, counted, listed; too many are refused."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

from rlcomm.data.sample import Sample, Turn, write_jsonl
from rlcomm.stages.needs import LEFT_OUT, needed, usable
from rlcomm.utils.errors import UserError
from tests.stages.conftest import changed


def recipe_of(**keys):
    return SimpleNamespace(
        **{"dataset": "rows.jsonl", "max_failed_share": 0.1, "prompt_style": "steps", **keys}
    )


RL = dict(rewards=["format", "arr", "avc"], avc_mode="witnessed")


def row(i, **fields):
    fields = {"reference": "I hear a drum.", "sight": "A harp.", **fields}
    return Sample(f"r{i}", (Turn("q", "no", target=fields.pop("target", "t")),), **fields)


@pytest.mark.parametrize(
    ("keys", "fields"),
    [
        (dict(), ["target"]),
        (dict(prompt_style="direct"), []),
        (dict(rewards=["format", "accuracy"], avc_mode="witnessed"), []),
        (dict(rewards=["arr"], avc_mode="similarity"), ["reference"]),
        (dict(rewards=["avc"], avc_mode="similarity"), []),
        (dict(rewards=["avc"], avc_mode="calibrated"), ["reference"]),
        (RL, ["sight", "reference"]),
    ],
)
def test_what_a_recipe_needs(keys, fields):
    assert needed(recipe_of(**keys)) == fields


def test_few_rows_are_left_out_each_with_its_reason():
    rows = [row(i) for i in range(30)]
    rows[4] = row(4, reference=None, meta={"reference": {"failed": "a drum\nwithout tags"}})
    rows[9] = row(9, sight=None, meta={"sight": {"failed": "nothing was said"}})
    rows[20] = row(20, reference=None)
    kept, others = usable(recipe_of(**RL), rows)
    assert [sample.id for sample in kept] == [f"r{i}" for i in range(30) if i not in (4, 9, 20)]
    assert others == [
        {"row": 5, "id": "r4", "field": "reference", "reason": "a drum without tags"},
        {"row": 10, "id": "r9", "field": "sight", "reason": "nothing was said"},
        {"row": 21, "id": "r20", "field": "reference", "reason": "never written"},
    ]


@pytest.mark.parametrize(("share", "fine"), [(0.1, True), (0.09, False), (0.0, False), (1.0, True)])
def test_the_share_is_a_bound(share, fine):
    rows = [row(i, reference=None if i == 3 else "I hear a drum.") for i in range(10)]
    recipe = recipe_of(**RL, max_failed_share=share)
    if fine:
        assert len(usable(recipe, rows)[0]) == 9
        return
    with pytest.raises(UserError) as error:
        usable(recipe, rows)
    assert str(error.value) == (
        "rows.jsonl, row 4, field reference: is missing (never written), and 1 of 10 rows lack what is "
        f"needed, more than max_failed_share {share:g} allows: the rewards compare with it; run `rlcomm "
        "reference RECIPE` on this file, which tries failed rows again, and train on what it writes."
    )


def test_no_row_at_all_is_refused_whatever_the_share():
    with pytest.raises(UserError, match="field target: is missing"):
        usable(recipe_of(max_failed_share=1.0), [row(0, target=None)])


def test_a_row_asked_directly_needs_no_target_and_is_none_for_rewards():
    rows = [row(i) for i in range(9)] + [row(9, target=None, meta={"prompt_style": "direct"})]
    assert usable(recipe_of(), rows) == (rows, [])
    kept, [other] = usable(recipe_of(**RL), rows)
    assert kept == rows[:9]
    assert (other["id"], other["field"]) == ("r9", "meta.prompt_style")
    with pytest.raises(UserError, match=r"field meta\.prompt_style: is another .*no reasoning to reward"):
        usable(recipe_of(**RL, max_failed_share=0.0), rows)


@pytest.mark.parametrize("stage", ["sft", "step_rr", "ans_co"])
def test_a_stage_trains_on_the_others(stage, recipe, rows, clip_rows, tmp_path, capsys):
    """One row without a reference ended Step-RR, Ans-CO and the pipeline."""
    from rlcomm.cli import main

    lacks = dict(target=None) if stage == "sft" else dict(reference=None)
    bad = changed(clip_rows[1], target=None) if stage == "sft" else dataclasses.replace(clip_rows[1], **lacks)
    write_jsonl(rows, [clip_rows[0], bad, *clip_rows[2:]])
    keys = {} if stage == "sft" else {"rewards": ["format", "arr"]}
    keys |= {"ansco_target": "gold"} if stage == "ans_co" else {}
    path = recipe(stage, max_failed_share=0.2, max_steps=1, **keys)
    assert main(["train", path]) == 0
    assert f"1 of {len(clip_rows)} rows are left out" in capsys.readouterr().out
    [listed] = (tmp_path / "run" / LEFT_OUT).read_text().splitlines()
    assert json.loads(listed)["id"] == clip_rows[1].id
    facts = json.loads((tmp_path / "run" / "stage.json").read_text())
    assert stage == "sft" or facts["rows"] == len(clip_rows) - 1
