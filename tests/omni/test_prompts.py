"""Prompts prepared by worker processes: the same prompts, made elsewhere, earlier, and not too many."""

import dataclasses
import os
import time
from pathlib import Path

import pytest
import torch

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaError, MediaSettings
from rlcomm.omni import prompts as prompts_module
from rlcomm.omni.prompts import Prompts
from rlcomm.utils.errors import UserError

PATIENCE = 30.0  # seconds; a forked worker answers in a fraction of one


@pytest.fixture
def make(policy):
    """Builds `Prompts` and ends its workers with the test."""
    made = []

    def build(**options) -> Prompts:
        made.append(Prompts(policy, MediaSettings(), "steps", **options))
        return made[-1]

    yield build
    for prompts in made:
        prompts.close()


@pytest.fixture
def decoded(tmp_path, monkeypatch):
    """{name of a clip: ids of the processes that decoded it}, written by whoever does."""
    folder = tmp_path / "decoded"
    folder.mkdir()

    def spy(video, *arguments):
        (folder / f"{Path(video).stem}-{os.getpid()}").touch()
        return load_clip(video, *arguments)

    monkeypatch.setattr(prompts_module, "load_clip", spy)

    def read() -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for path in folder.iterdir():
            clip, process = path.name.split("-")
            found.setdefault(clip, []).append(int(process))
        return found

    return read


def wait(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.02)


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_row_may_be_asked_in_its_own_style(make, clip_rows, policy):
    """Direct rows beside the three segments, in one file: each has the instruction of its own style."""
    direct = dataclasses.replace(clip_rows[0], meta={**clip_rows[0].meta, "prompt_style": "direct"})
    prompts = make()
    told = policy.processor.tokenizer.decode
    assert "Answer with a word or a phrase." in told(prompts(direct).ids)
    assert "<a-think>" not in told(prompts(direct).ids)
    assert "<a-think>" in told(prompts(clip_rows[0]).ids)


def test_a_second_question_about_a_clip_is_encoded_behind_its_media(make, clip_rows, decoded):
    """The clip is decoded and processed once; the media tensors are the same objects, by which scoring sees
    that the rows share them."""
    other = dataclasses.replace(
        clip_rows[0], turns=(dataclasses.replace(clip_rows[0].turns[0], question="Which one plays?"),)
    )
    prompts, alone = make(), make()
    first, second, expected = prompts(clip_rows[0]), prompts(other), alone(other)
    assert len(decoded()["0"]) == 1
    assert second is prompts(other)
    assert torch.equal(second.ids, expected.ids)
    assert torch.equal(second.positions, expected.positions)
    assert second.next_position == expected.next_position
    for key, value in first.media.items():
        assert second.media[key] is value
        assert torch.equal(value, expected.media[key])
    without = prompts(clip_rows[0].without("audio"))  # another clip: the same picture, unheard
    assert without.media.keys() != first.media.keys()


def test_prompts_of_workers_equal_those_of_the_main_process(make, clip_rows):
    here, elsewhere = make(), make(workers=2)
    elsewhere.expect(clip_rows)
    for sample in reversed(clip_rows):  # and in whatever order they are asked for
        expected, found = here(sample), elsewhere(sample)
        assert torch.equal(found.ids, expected.ids)
        assert torch.equal(found.positions, expected.positions)
        assert found.next_position == expected.next_position
        assert found.media.keys() == expected.media.keys()
        for key, value in expected.media.items():
            assert found.media[key].dtype == value.dtype
            assert torch.equal(found.media[key], value)
        assert elsewhere(sample) is found  # one object a prompt: scoring knows a group by it


def test_expected_clips_are_decoded_in_other_processes_before_they_are_asked_for(make, clip_rows, decoded):
    prompts = make(workers=2)
    prompts.expect(clip_rows[:3])
    wait(lambda: len(decoded()) == 3)
    for sample in clip_rows[:3]:
        prompts(sample)
    prompts(clip_rows[3])  # announced by nobody
    by = decoded()
    assert [len(by[name]) for name in "0123"] == [1, 1, 1, 1]  # once each
    assert os.getpid() not in by["0"] + by["1"] + by["2"]
    assert by["3"] == [os.getpid()]


def test_without_workers_nothing_is_decoded_ahead(make, clip_rows, decoded):
    prompts = make()
    prompts.expect(clip_rows)
    assert decoded() == {}
    prompts(clip_rows[0])
    assert decoded() == {"0": [os.getpid()]}


def test_a_worker_runs_ahead_by_its_share_and_no_further(make, clip_rows, decoded):
    prompts = make(workers=1, ahead=2)
    prompts.expect(clip_rows)
    wait(lambda: len(decoded()) == 2)
    time.sleep(0.3)
    assert len(decoded()) == 2  # six are expected, but memory is promised for two
    prompts(clip_rows[0])
    wait(lambda: len(decoded()) == 3)
    time.sleep(0.3)
    assert sorted(decoded()) == ["0", "1", "2"]  # in the order in which they were announced


def test_a_prompt_in_memory_is_not_made_again(make, clip_rows, decoded):
    prompts = make(workers=1)
    first = prompts(clip_rows[0])
    prompts.expect([clip_rows[0], clip_rows[1], clip_rows[1]])
    prompts(clip_rows[1])
    assert prompts(clip_rows[0]) is first
    assert {name: len(by) for name, by in decoded().items()} == {"0": 1, "1": 1}


def test_a_broken_clip_is_named_in_the_same_words_and_only_when_it_is_asked_for(make, clip_rows, tmp_path):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(Path(str(clip_rows[1].video)).read_bytes()[:500])
    rows = [clip_rows[0], dataclasses.replace(clip_rows[1], video=str(broken), audio=str(broken))]
    with pytest.raises(MediaError) as here:
        make()(rows[1])
    prompts = make(workers=2)
    prompts.expect(rows)
    prompts(rows[0])
    with pytest.raises(MediaError) as elsewhere:
        prompts(rows[1])
    assert str(elsewhere.value) == str(here.value)
    assert str(broken) in str(here.value)
    assert "\n" not in str(elsewhere.value)


def test_a_killed_worker_is_spoken_of(make, clip_rows, monkeypatch):
    monkeypatch.setattr(prompts_module, "load_clip", lambda *_: os._exit(9))
    prompts = make(workers=1)
    prompts.expect(clip_rows[:1])
    with pytest.raises(UserError, match="dataloader_num_workers is 1, and one of these workers was killed"):
        prompts(clip_rows[0])


def test_closing_ends_the_workers_and_new_ones_can_be_had(make, clip_rows, decoded):
    prompts = make(workers=1)
    prompts.expect(clip_rows[:1])
    prompts(clip_rows[0])
    (worker,) = decoded()["0"]
    prompts.close()
    wait(lambda: not alive(worker))
    prompts.expect(clip_rows[1:2])
    prompts(clip_rows[1])
    assert decoded()["1"] not in ([worker], [os.getpid()])


def test_workers_end_with_a_main_process_that_was_killed(make, clip_rows, decoded):
    """Otherwise every killed run would leave processes behind that wait for work for ever."""
    main = os.fork()
    if main == 0:
        try:
            prompts = make(workers=1)
            prompts.expect(clip_rows[:1])
            prompts(clip_rows[0])
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(main, 0)
    (worker,) = decoded()["0"]
    assert worker != main
    wait(lambda: not alive(worker))
