"""An answer is scored by its own tokens: what is nearly sure behind every answer tells none of them apart."""

import math

import pytest
import torch

from rlcomm.decoding import decoders
from rlcomm.omni.labels import label_ids, label_tokens
from rlcomm.omni.score import branch_scores, candidate_scores
from tests.conftest import make_prompt
from tests.trainers.plain import plain


def test_a_label_keeps_its_end_where_another_begins_like_it(policy):
    tokenizer = policy.processor.tokenizer
    one, ten, two = (tokenizer(text)["input_ids"] for text in ("1", "10", "2"))
    assert ten[: len(one)] == one
    end = tokenizer.eos_token_id
    assert label_ids(tokenizer, ["1", "10", "2"]) == [[*one, end], ten, two]
    assert label_ids(tokenizer, ["1", "2"]) == [one, two]
    assert label_ids(tokenizer, ["1", "1"]) == [one, one]  # equal ones are told apart by nothing
    assert label_tokens(tokenizer, ["1", "10", "2"]) == [len(one) + 1, len(ten), len(two)]
    closing = tokenizer(" </answer>")["input_ids"]
    assert label_ids(tokenizer, ["1", "10"], " </answer>") == [[*one, closing[0]], ten]
    assert label_ids(tokenizer, [""]) == [[end]]


@pytest.mark.parametrize("labels", [["yes", "no", "drum and flute"], ["1", "10", "100", "two"]])
@pytest.mark.parametrize("normalise", [True, False])
def test_scores_are_those_of_a_plain_forward_over_the_labels_own_tokens(policy, labels, normalise):
    prompt, tokenizer = make_prompt(policy, 0), policy.processor.tokenizer
    expected = []
    for label in labels:
        ids = tokenizer(label)["input_ids"]
        longer = [other for other in labels if other != label and other.startswith(label)]
        logps = plain(policy, prompt, [*ids, *([tokenizer.eos_token_id] if longer else [])])[0]
        expected.append((logps.mean() if normalise else logps.sum()).item())
    with torch.no_grad():
        single = candidate_scores(policy.model, policy.processor, [prompt], [labels], normalise)[0]
        tree = branch_scores(policy.model, policy.processor, [[prompt]], [labels], normalise)[0][0]
    assert single == pytest.approx(expected, abs=1e-5)
    assert tree == pytest.approx(expected, abs=1e-5)


def test_how_sure_an_answer_is_goes_by_sums_and_not_by_means():
    """Means -0.5 over 4 tokens and -1.5 over 2: as sums -2 and -3, so the first is sigmoid(1) sure."""
    choice = decoders.choose("greedy", {"joint": [-0.5, -1.5]}, tokens={"joint": [4, 2]})
    assert choice.prediction == 0
    assert choice.confidence == pytest.approx(1 / (1 + math.exp(-1)))
    assert decoders.choose("greedy", {"joint": [-2.0, -3.0]}).confidence == pytest.approx(choice.confidence)


def test_gacl_is_as_sure_as_its_mix_of_the_sums():
    """Lambda 1, tau 0.5: the margin of A is 1, so R = 1 and alpha = 1: A's own sums, -1 against -4."""
    scores = {"joint": [-1.5, -0.5], "evidence": [-0.5, -1.5]}
    tokens = {"joint": [2, 3], "evidence": [2, 3]}
    choice = decoders.choose("gacl", scores, {"lam": 1.0, "tau": 0.5}, tokens=tokens)
    assert (choice.prediction, choice.alpha) == (0, 1.0)
    assert choice.confidence == pytest.approx(1 / (1 + math.exp(-3.5)))  # sums -1 and -4.5
    half = decoders.choose("gacl", scores, {"lam": 0.75, "tau": 0.5}, tokens=tokens)
    # log-softmaxed sums: J of (-3, -1.5), A of (-1, -4.5); mixed at 0.75 their lead is -0.375 + 2.625
    assert half.confidence == pytest.approx(1 / (1 + math.exp(-(0.25 * -1.5 + 0.75 * 3.5))))


def test_avcds_gate_reads_the_entropy_of_the_answers():
    """Means of 10 tokens that differ by 0.3 look undecided (0.68 nats); the answers differ by 3 (0.19)."""
    branches = ("joint", "no_media", "no_video", "no_audio")
    scores = {name: [-1.0, -1.3] for name in branches} | {"no_audio": [-1.3, -0.5]}
    tokens = {name: [10, 10] for name in branches}
    shut = decoders.choose("avcd", scores, tokens=tokens)
    assert shut.scores == pytest.approx(decoders.choose("greedy", scores, tokens=tokens).scores)
    open_ = decoders.choose("avcd", scores)
    assert open_.scores != pytest.approx(shut.scores)


def test_what_a_plausibility_cut_takes_away_is_not_believed():
    scores = {"joint": [-0.1, -5.0], "noisy_video": [-0.1, -5.0]}
    choice = decoders.choose("vcd", scores, {"a": 1.0, "b": 0.1}, tokens={n: [1, 1] for n in scores})
    assert choice.confidence == 1.0
