"""`rlcomm bench gacl` on short clips: every form scores the same, ratios are those of the times."""

import json

import pytest

from rlcomm.bench import gacl as bench
from rlcomm.cli import main


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
    assert [line.split()[0] for line in table[2:]] == list(forms)
    shown = [f"{forms['gacl'][name]:.2f}" for name in ("ratio_score", "ratio_total")]
    assert table[3].split()[4:] == shown
