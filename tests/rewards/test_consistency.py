"""Consistency by hand: both twins right, and nothing else."""

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.rewards import consistency
from rlcomm.rewards.adapters import reward_functions, trl_rewards
from rlcomm.steps import build, parse
from rlcomm.utils.errors import UserError

HEARD = Sample("p", (Turn("Is there a harp sound?", "yes"),))
SILENT = Sample("q", (Turn("Is there a harp sound?", "no"),))


def says(*answers: str) -> list[str]:
    return [build("I hear a harp.", "I see a harp.", answer) for answer in answers]


@pytest.mark.parametrize(
    ("answer", "others", "earned"),
    [
        ("yes", ["no"], 1.0),  # both right
        ("yes", ["no", "yes", "yes", "yes"], 0.25),
        ("yes", ["no", "No.", "yes", "maybe"], 0.5),
        ("yes", ["yes", "yes"], 0.0),  # never changes
        ("no", ["no", "no"], 0.0),  # never changes
        ("no", ["yes", "yes"], 0.0),  # always changes, both wrong
        ("no", ["no"], 0.0),  # not worse than its twin, and wrong
    ],
)
def test_joint_success(answer, others, earned):
    [steps], rest = map(parse, says(answer)), [parse(text) for text in says(*others)]
    assert consistency.score(steps, HEARD, rest, SILENT) == earned


def test_reasoning_that_follows_the_sound_earns_nothing_without_the_answers():
    p, q = (parse(build(f"I hear {heard}.", "I see a harp.", "yes")) for heard in ("a harp", "nothing"))
    assert consistency.score(p, HEARD, [q], SILENT) == consistency.score(q, SILENT, [p], HEARD) == 0.0


def test_an_answer_that_is_missing_is_wrong():
    missing, right = parse("I hear a harp."), parse(says("yes")[0])
    assert consistency.score(missing, HEARD, [parse(says("no")[0])], SILENT) == 0.0
    assert consistency.score(right, HEARD, [missing], SILENT) == 0.0


def test_twins_that_share_an_answer_are_paid_for_it():
    steps = parse(says("yes")[0])
    assert consistency.score(steps, HEARD, [steps, steps], HEARD) == 1.0


def test_the_function_pays_twins_of_a_batch_and_does_not_apply_to_other_rows():
    [reward] = reward_functions({"consistency": 1.0})
    assert reward.__name__ == "consistency"
    completions = [*says("yes", "no"), *says("no", "yes"), *says("yes")]
    chat = [[{"role": "assistant", "content": text}] for text in completions]
    samples = [HEARD, HEARD, SILENT, SILENT, HEARD]
    for given in (completions, chat):
        first, second = (HEARD, given[:2]), (SILENT, given[2:4])
        twin = [second, second, first, first, None]
        found = reward(prompts=[""] * 5, completions=given, sample=samples, twin=twin, trainer_state=None)
        assert found == [0.5, 0.0, 0.5, 0.0, None]
    assert reward(prompts=[""] * 5, completions=completions, sample=samples) == [None] * 5


def test_a_plain_trainer_has_no_twins_to_give():
    with pytest.raises(UserError, match="a plain trainer does not gather"):
        trl_rewards("accuracy", "consistency")
    assert [f.__name__ for f in trl_rewards("accuracy", "format")] == ["format", "accuracy"]
