"""`rlcomm bench gacl` on short clips: every form scores the same, ratios are those of the times."""

import json

import pytest

from rlcomm.bench import gacl as bench
from rlcomm.cli import main
from tests.cli.test_cli import told


def test_every_form_gives_the_scores_of_the_others(monkeypatch):
    """Trap: a cheap form that leaves something out."""
    plain, calls = bench.branch_scores, []

    def noted(*args):
        calls.append(plain(*args))
        return calls[-1]

    monkeypatch.setattr(bench, "branch_scores", noted)
    bench.gacl("nano_omni", seconds=2.0, items=2, rounds=1)
    assert len(calls) == 2 * (1 + 1 + 2)  # the first round warms up
    joint, shared, apart, evidence = calls[4:]
    for i in range(2):
        assert len(shared[i]) == 2
        assert shared[i][0] == pytest.approx(joint[i][0], abs=1e-4)
        assert apart[i][0] == pytest.approx(joint[i][0], abs=1e-4)
        assert shared[i][1] == pytest.approx(evidence[i][0], abs=1e-4)
        assert shared[i][1] != pytest.approx(joint[i][0], abs=1e-3)  # the text is out of the evidence


def test_ratios_are_those_of_the_times(tmp_path, capsys):
    path = tmp_path / "gacl.json"
    options = ["--seconds", "2", "--items", "1", "--rounds", "1", "--json", str(path)]
    assert main(["bench", "gacl", *options]) == 0
    found = json.loads(path.read_text())
    forms = found["forms"]
    assert list(forms) == ["joint", "gacl", "unshared"]
    assert (found["items"], found["labels"], found["rounds"]) == (1, 4, 1)
    for entry in forms.values():
        assert entry["total_s"] == pytest.approx(entry["encode_s"] + entry["score_s"])
        for part in ("score", "total"):
            assert entry[f"ratio_{part}"] == pytest.approx(entry[f"{part}_s"] / forms["joint"][f"{part}_s"])
    table = capsys.readouterr().out.splitlines()
    assert f"{found['prompt_tokens']} tokens" in table[0]
    assert [line.split()[0] for line in table[3:]] == list(forms)  # behind the heads and their rule
    shown = [f"{forms['gacl'][name]:.2f}" for name in ("ratio_score", "ratio_total")]
    assert table[4].split()[4:] == shown


def test_labels_and_words_are_as_many_as_asked_for(monkeypatch):
    """Trap: labels that are the same twice, or words that reach one branch alone."""
    given, prompts = [], []
    monkeypatch.setattr(
        bench, "branch_scores", lambda *args: (prompts.append(args[2]), given.append(args[3]))
    )
    found = bench.gacl("nano_omni", seconds=1.0, items=1, rounds=1, labels=9, text_tokens=150)
    assert (found["labels"], found["text_tokens"]) == (9, 150)
    assert all(len(set(names)) == 9 for call in given for names in call)
    short = bench.gacl("nano_omni", seconds=1.0, items=1, rounds=1, labels=9)["text_tokens"]
    calls = len(prompts) // 2
    for long, brief in zip(prompts[:calls], prompts[calls:], strict=True):
        for one, other in zip(long[0], brief[0], strict=True):
            assert len(one) - len(other) == pytest.approx(150 - short, abs=1)  # "?" and a line end may be one


@pytest.mark.parametrize("given", ["items", "rounds", "labels"])
def test_nothing_to_measure_is_one_sentence(capsys, given):
    words = told(capsys, "bench", "gacl", f"--{given}", "0")
    assert f"{given} is 0, which is nothing to measure; give " in words
