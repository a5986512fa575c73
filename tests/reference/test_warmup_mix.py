"""Warm-up rows in a mix: exchanged rows among them, rare types repeated, direct rows replayed."""

import dataclasses
import json

import pytest

from rlcomm.config.load import load_recipe
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.data.write_media import write_audio
from rlcomm.reference import warmup
from rlcomm.utils.errors import UserError
from tests.reference.recipes import recipe

import numpy as np  # isort: skip


@pytest.fixture
def rows(tmp_path):
    """Twelve ordinary rows over four clips, and four whose sound is the next clip's."""
    for clip in range(4):
        write_audio(tmp_path / f"{clip}.wav", np.full(1600, 0.1 * clip, np.float32), 16_000)
        (tmp_path / f"{clip}.mp4").write_bytes(b"picture %d" % clip)
    ordinary = [
        Sample(
            f"r{i}", (Turn(f"Q{i // 4}", "yes" if i % 2 else "no", type="A" if i < 10 else "B"),),
            video=str(tmp_path / f"{i % 4}.mp4"), audio=str(tmp_path / f"{i % 4}.wav"),
        )
        for i in range(12)
    ]  # fmt: skip
    # Q0 of the sound of the next clip, whose own row asks the same
    strange = [
        dataclasses.replace(
            ordinary[i], id=f"x{i}", audio=ordinary[(i + 1) % 4].audio, turns=ordinary[(i + 1) % 4].turns
        )
        for i in range(4)
    ]
    write_jsonl(tmp_path / "strange.jsonl", strange)
    return ordinary


@pytest.fixture
def heard(monkeypatch):
    """What the reference was asked for; it hears the file it is given."""
    asked = []

    def write_references(samples, recipe, *, accept, **options):
        asked.extend(sample.id for sample in samples)
        filled = [
            dataclasses.replace(s, reference=f"I hear {s.audio[-5]}.", meta={**s.meta, "reference": {}})
            for s in samples
        ]
        write_jsonl(recipe.output, filled)
        return {"rows": len(samples)}

    monkeypatch.setattr(warmup, "write_references", write_references)
    return asked


def see(deaf, attempt):
    return [f"I see {row.video[-5]}." for row in deaf]


def test_exchanged_rows_tell_of_both_clips(rows, heard, tmp_path):
    keys = recipe(
        "m", tmp_path / "w.jsonl", policy_model="p", purpose="warmup",
        counterfactual=str(tmp_path / "strange.jsonl"),
    )  # fmt: skip
    report = warmup.write_warmup(rows, keys, see=see)
    made = {row.id: row for row in read_jsonl(tmp_path / "w.jsonl")}
    assert len(made) == report["written"] == 16
    assert made["x3"].turns[0].target == (
        "<a-think> I hear 0. </a-think> <v-think> I see 3. </v-think> <answer> no </answer>"
    )
    counted = json.loads((tmp_path / "w.mix.json").read_text())
    assert counted == report["mix"]
    assert (counted["rows"], counted["distinct"], counted["exchanged"], counted["replayed"]) == (16, 16, 4, 0)


def test_rows_are_drawn_repeated_and_replayed(rows, heard, tmp_path):
    keys = recipe(
        "m", tmp_path / "w.jsonl", policy_model="p", purpose="warmup", warmup_rows=20, replay_share=0.5,
        counterfactual=str(tmp_path / "strange.jsonl"), counterfactual_share=0.4, min_type_share=0.4,
    )  # fmt: skip
    report = warmup.write_warmup(rows, keys, see=see)
    made = read_jsonl(tmp_path / "w.jsonl")
    direct = [row for row in made if row.meta.get("prompt_style") == "direct"]
    reasoned = [row for row in made if row not in direct]
    assert (len(made), len(direct), report["replayed"]) == (20, 10, 10)
    assert all(row.turns[0].target is None and row.reference is None for row in direct)
    assert all(row.turns[0].target for row in reasoned)
    assert sum(row.turns[0].type == "B" for row in reasoned) == 4  # of two rows, each twice
    assert {row.id for row in reasoned if "#" in row.id} == {"r10#2", "r11#2"}
    assert sum(row.id.startswith("x") for row in reasoned) == report["mix"]["exchanged"] == 4
    assert len({row.id for row in made}) == 20
    assert set(heard) < {row.id for row in rows} | {f"x{i}" for i in range(4)}  # only what is taken is heard


def test_what_is_replayed_may_be_another_tasks_rows(rows, heard, tmp_path):
    others = [Sample(f"o{i}", (Turn("Which?", "a"),), audio=rows[0].audio) for i in range(4)]
    write_jsonl(tmp_path / "others.jsonl", others)
    keys = recipe(
        "m", tmp_path / "w.jsonl", policy_model="p", purpose="warmup", replay_share=0.25,
        replay=[str(tmp_path / "others.jsonl")],
    )  # fmt: skip
    warmup.write_warmup(rows, keys, see=see)
    made = read_jsonl(tmp_path / "w.jsonl")
    assert len(made) == 16
    assert {row.id for row in made if "prompt_style" in row.meta} == {f"direct-o{i}" for i in range(4)}


def test_without_a_mix_the_rows_are_those_given(rows, heard, tmp_path):
    keys = recipe("m", tmp_path / "w.jsonl", policy_model="p", purpose="warmup")
    assert warmup.write_warmup(rows, keys, see=see)["mix"] is None
    assert [row.id for row in read_jsonl(tmp_path / "w.jsonl")] == [row.id for row in rows]
    assert not (tmp_path / "w.mix.json").exists()


def test_a_share_of_nothing_is_refused():
    with pytest.raises(UserError, match=r"counterfactual_share is 0\.4, but counterfactual names no file"):
        load_recipe("recipes/orchestra/reference.yaml", ["--counterfactual_share", "0.4"])
