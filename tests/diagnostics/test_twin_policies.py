"""What answers that ignore a sense earn on twins, by hand."""

import dataclasses

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.diagnostics import audit, twin_policies
from rlcomm.rewards import adapters

WEIGHTS = {"format": 0.0, "accuracy": 1.0, "consistency": 1.0}
MEND = {
    "never_changes": "answers differ",
    "always_changes": "stays the same",
    "by_picture": "sound is exchanged",
    "by_sound": "picture is exchanged",
}


def clip(name: str, answer: str, **fields) -> Sample:
    row = Sample(name, (Turn("Is there a harp sound?", answer),), f"{name}.mp4", f"{name}.mp4")
    return dataclasses.replace(row, **{"reference": "I hear it.", "sight": "I see it.", **fields})


def exchanged(id: str, picture: str, sound: str, answer: str, twin: str) -> Sample:
    return clip(id, answer, video=f"{picture}.mp4", audio=f"{sound}.mp4", meta={"twin": twin})


def rows() -> list[Sample]:
    """Three pairs: the sound changes and so does the answer; it changes and the answer stays; the picture
    changes, and the question is of the sound."""
    return [
        clip("a", "yes", meta={"twin": "a2"}), exchanged("a2", "a", "b", "no", "a"), clip("b", "no"),
        clip("c", "no", meta={"twin": "c2"}), exchanged("c2", "c", "b", "no", "c"),
        exchanged("d2", "b", "d", "yes", "d"), clip("d", "yes", meta={"twin": "d2"}),
    ]  # fmt: skip


def scores() -> dict:
    return twin_policies.scores(rows(), *adapters.reward_functions({"consistency": 1.0}))


def test_answers_by_hand():
    samples = rows()
    among = twin_policies.pairs(samples)
    assert [(p.id, q.id) for p, q in among] == [("a", "a2"), ("c", "c2"), ("d", "d2")]  # own sound first
    expected = {
        "never_changes": [("yes", "yes"), ("no", "no"), ("yes", "yes")],
        "always_changes": [("yes", "no"), ("no", "yes"), ("yes", "no")],
        "by_picture": [("yes", "yes"), ("no", "no"), ("yes", "no")],
        "by_sound": [("yes", "no"), ("no", "no"), ("yes", "yes")],
    }
    for name, said in expected.items():
        assert twin_policies.answers(name, samples, among) == said


def test_scores_by_hand():
    found = scores()
    assert (found["pairs"], found["changing"]) == (3, pytest.approx(1 / 3))
    earned = {name: one["consistency"] for name, one in found["policies"].items()}
    assert earned == pytest.approx(
        {"never_changes": 2 / 3, "always_changes": 1 / 3, "by_picture": 1 / 3, "by_sound": 1.0}
    )
    assert found["policies"]["never_changes"]["accuracy"] == pytest.approx(5 / 6)
    assert found["policies"]["always_changes"]["accuracy"] == pytest.approx(4 / 6)


def test_a_pair_whose_own_clips_are_unknown_says_nothing_of_a_sense():
    found = twin_policies.scores(
        [row for row in rows() if row.id in ("a", "a2")], *adapters.reward_functions({"consistency": 1.0})
    )
    assert found["policies"]["by_sound"] == {"pairs": 0, "accuracy": None, "consistency": None}
    assert found["policies"]["by_picture"]["pairs"] == 1
    assert found["policies"]["always_changes"]["consistency"] == 1.0


@pytest.mark.parametrize("name", twin_policies.MEANING)
def test_who_is_paid_like_the_honest_is_named_with_how_to_mix_the_pairs(name):
    policies = {other: {"pairs": 4, "consistency": 0.9 if other == name else 0.5} for other in MEND}
    [said] = twin_policies.findings({"changing": 0.25, "policies": policies}, 0.8)
    assert said.startswith(f"{name} (")
    assert MEND[name] in said


def audited(samples, weights):
    decided = audit.decided_by(
        weights, samples, format_mode="strict", avc_mode="similarity", omega=0.9, embedder="none"
    )
    return audit.audit(samples, adapters.reward_functions(weights), decided, progress=False)


def test_the_audit_holds_them_where_a_reward_reads_twins():
    found = audited(rows(), WEIGHTS)
    assert found["twins"] == scores()
    assert found["honest"]["total"] == 1.0  # of one row; the pairs stand apart
    assert any(said.startswith("by_sound (") and "picture is exchanged" in said for said in found["findings"])
    table = audit.format_table(found)
    assert "on twins" in table
    assert "never_changes" in table
    without = audited(rows(), {"format": 0.0, "accuracy": 1.0})
    assert "twins" not in without
    assert "on twins" not in audit.format_table(without)


def test_other_pairs_are_another_audit():
    def name(samples, weights=WEIGHTS):
        decided = audit.decided_by(
            weights, samples, format_mode="strict", avc_mode="similarity", omega=0.9, embedder="none"
        )
        return audit.fingerprint(decided)

    other = [dataclasses.replace(row, meta={}) for row in rows()]
    assert name(rows()) != name(other)
    assert name(rows(), {"accuracy": 1.0}) == name(other, {"accuracy": 1.0})  # rewards that do not read them
