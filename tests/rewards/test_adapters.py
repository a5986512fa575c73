import dataclasses
import threading

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.rewards.adapters import completion_text, reward_functions
from rlcomm.rewards.avc import MODES
from rlcomm.steps import build
from rlcomm.utils.errors import UserError

ALL = {"format": 1.0, "arr": 1.0, "avc": 1.0, "accuracy": 0.0}
SAMPLES = [Sample("1", (Turn("harp?", "no"),), reference="ref"), Sample("2", (Turn("harp?", "yes"),))]
COMPLETIONS = [build("heard", "seen", "no"), "no tags"]
COSINES = {("heard", "ref"): 0.9, ("heard", "seen"): 0.25}


def call(functions, completions=COMPLETIONS, samples=SAMPLES):
    """The way TRL calls them, with columns it always adds."""
    return {
        function.__name__: function(
            prompts=["q"] * len(completions),
            completions=completions,
            completion_ids=[[1]] * len(completions),
            sample=samples,
            trainer_state=None,
        )
        for function in functions
    }


def test_all_rewards_of_a_batch_by_hand(stub):
    rewards = call(reward_functions(ALL, omega=0.8, embedder=stub(COSINES)))
    assert list(rewards) == ["format", "arr", "avc", "accuracy"]
    assert rewards == {"format": [1.0, 0.0], "arr": [1.0, None], "avc": [1.25, 0.0], "accuracy": [1.0, 0.0]}


def test_chat_completions_score_like_text(stub):
    functions = reward_functions(ALL, omega=0.8, embedder=stub(COSINES))
    chat = [
        [{"role": "assistant", "content": COMPLETIONS[0]}],
        [{"role": "assistant", "content": [{"type": "text", "text": COMPLETIONS[1]}]}],
    ]
    assert call(functions, chat) == call(functions)
    assert completion_text([{"role": "assistant", "content": None}]) == ""


def test_one_batched_embedding_call_serves_every_reward(fresh):
    embedder = fresh
    functions = reward_functions(ALL, omega=0.8, avc_mode="calibrated", embedder=embedder)
    samples = [Sample(str(i), (Turn("harp?", "no"),), reference=f"I hear {i} drums.") for i in range(3)]
    completions = [build(f"I hear {i} drums", "I see a drum", "no") for i in range(3)]
    call(functions, completions, samples)
    assert (embedder.model_calls, embedder.texts_embedded) == (1, 7)
    call(functions, completions, samples)
    assert embedder.model_calls == 1
    call(functions, [build("I hear a harp", "I see a drum", "no"), *completions[1:]], samples)
    assert (embedder.model_calls, embedder.texts_embedded) == (2, 8)


def test_every_text_the_scores_ask_for_was_prefetched(stub):
    for mode in MODES:
        embedder = stub({**COSINES, ("ref", "seen"): 0.5, ("wrong", "seen"): 0.5, ("seen", "sight"): 0.9})
        samples, completions = [*SAMPLES, SAMPLES[0]], [*COMPLETIONS, build("wrong", "seen", "yes")]
        samples = [dataclasses.replace(sample, sight="sight") for sample in samples]
        call(reward_functions(ALL, omega=0.8, avc_mode=mode, embedder=embedder), completions, samples)
        asked = {(one, None) for one, _, _ in embedder.asked} | {
            (two, task) for _, two, task in embedder.asked
        }
        assert asked == set(embedder.prefetched[0])


def test_a_batch_is_parsed_once_whatever_the_number_of_rewards(monkeypatch, stub):
    from rlcomm.rewards import adapters

    parsed: list[str] = []
    parse = adapters.parse
    monkeypatch.setattr(adapters, "parse", lambda text: parsed.append(text) or parse(text))
    functions = reward_functions(ALL, omega=0.8, embedder=stub(COSINES))
    call(functions)
    assert parsed == COMPLETIONS
    call(functions, COMPLETIONS[::-1], SAMPLES[::-1])
    assert parsed == COMPLETIONS + COMPLETIONS[::-1]


def test_rewards_that_were_begun_are_the_same_and_nothing_is_embedded_twice(stub):
    """The caller goes on while another thread embeds; whoever asks for a reward waits for it."""
    free, threads = threading.Event(), []

    class Slow(stub):
        def prefetch(self, pairs):
            threads.append(threading.current_thread())
            assert free.wait(60)
            super().prefetch(pairs)

    expected = call(reward_functions(ALL, omega=0.8, embedder=stub(COSINES)))
    embedder = Slow(COSINES)
    functions = reward_functions(ALL, omega=0.8, embedder=embedder)
    functions[-1].begin(COMPLETIONS, SAMPLES)
    assert not embedder.prefetched  # not waited for
    threading.Timer(0.05, free.set).start()
    assert call(functions) == expected
    assert threads[0] is not threading.current_thread()
    functions[0].begin([COMPLETIONS[1]], SAMPLES[:1])  # another batch is asked for than was begun
    assert call(functions) == expected


def test_what_goes_wrong_in_the_thread_is_told_where_the_reward_is_asked_for(stub):
    class Broken(stub):
        def prefetch(self, pairs):
            raise OSError("gone")

    functions = reward_functions(ALL, omega=0.8, embedder=Broken(COSINES))
    functions[0].begin(COMPLETIONS, SAMPLES)
    with pytest.raises(OSError, match="gone"):
        call(functions)


def test_same_completions_with_other_samples_are_scored_anew():
    functions = reward_functions({"accuracy": 1.0})
    assert call(functions)["accuracy"] == [1.0, 0.0]
    assert call(functions, [COMPLETIONS[0]] * 2)["accuracy"] == [1.0, 0.0]
    assert call(functions, [COMPLETIONS[0]] * 2, SAMPLES[::-1])["accuracy"] == [0.0, 1.0]


def test_only_the_rewards_named_and_modes_reach_the_scores():
    functions = reward_functions({"format": 1.0, "accuracy": 1.0}, format_mode="lenient")
    assert [function.__name__ for function in functions] == ["format", "accuracy"]
    loud = "Well: " + COMPLETIONS[0]
    assert call(functions, [loud, loud])["format"] == [1.0, 1.0]


@pytest.mark.parametrize(
    ("weights", "options", "says"),
    [
        ({"length": 1.0}, {}, "length"),
        ({"format": 0.0}, {}, "weight"),
        ({}, {}, "weight"),
        ({"format": 1.0}, {"format_mode": "loose"}, "loose"),
        ({"avc": 1.0}, {"avc_mode": "cosine", "embedder": object()}, "cosine"),
        ({"arr": 1.0}, {"embedder": object()}, "omega"),
        ({"avc": 1.0}, {"embedder": object(), "avc_mode": "witnessed"}, "omega"),
        ({"arr": 1.0}, {"embedder": object(), "omega": 80}, "omega"),
        ({"avc": 1.0}, {}, "embedder"),
    ],
)
def test_bad_settings_are_one_sentence(weights, options, says):
    with pytest.raises(UserError, match=says):
        reward_functions(weights, **options)


def test_missing_sample_column_is_named():
    with pytest.raises(ValueError, match="sample"):
        reward_functions({"accuracy": 1.0})[0](prompts=["q"], completions=["no"])


def test_trl_takes_the_functions_by_their_names(stub):
    from trl.trainer.utils import get_callable_name

    functions = reward_functions(ALL, omega=0.8, embedder=stub(COSINES))
    assert [get_callable_name(function) for function in functions] == ["format", "arr", "avc", "accuracy"]
