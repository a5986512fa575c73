"""Rows answered by the model's own branches: who is asked what, what is kept, what is left out."""

import dataclasses
import json

import pytest

from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl
from rlcomm.reference.labels import Branches, exchanged_texts, write_labels
from rlcomm.reference.pairs import KINDS, blind_rows
from rlcomm.utils.errors import UserError
from tests.reference.recipes import recipe

HEARD, SEEN, BOTH = "Audio/Existential", "Visual/Existential", "Audio-Visual/Existential"


class Fake:
    """Answers from the file of the one sense it is given: sound 1.wav holds a harp, picture 0.mp4 a drum."""

    def __init__(self, lead=2.0):
        self.asked, self.lead = [], lead

    def ask(self, asked, labels):
        self.asked += [(row.video, row.audio, row.question, tuple(some)) for row, some in
                       zip(asked, labels, strict=True)]  # fmt: skip
        found = []
        for row in asked:
            there = {"1.wav": "harp", "0.mp4": "drum"}
            names = [there.get(str(f).split("/")[-1]) for f in (row.video, row.audio) if f]
            found.append(("yes" if any(n and n in row.question for n in names) else "no", self.lead))
        return found


def row(id, question, answer, type, picture="0.mp4", sound="1.wav", **meta):
    return Sample(id, (Turn(question, answer, type=type),), f"/{picture}", f"/{sound}", meta=meta)


def labelled(tmp_path, **keys):
    return recipe("", tmp_path / "labels.jsonl", purpose="labels", policy_model="nano_omni", **keys)


@pytest.fixture
def strange(tmp_path):
    """Exchanged rows; their own answers are those of the picture's clip, which would be wrong."""
    rows = [
        row("x0", "Is there a harp sound?", "no", HEARD),
        row("x1", "Is there a drum sound?", "yes", HEARD),
        row("x2", "Is there a drum in the entire video?", "yes", SEEN),
        row("x3", "Is this sound from the instrument in the video?", "yes", BOTH),
    ]
    write_jsonl(tmp_path / "strange.jsonl", rows)
    return str(tmp_path / "strange.jsonl")


def test_a_question_is_answered_by_the_sense_it_asks(strange, tmp_path):
    fake = Fake()
    ordinary = [row("o0", "Is there a drum sound?", "yes", HEARD, sound="0.mp4")]
    report = write_labels(ordinary, labelled(tmp_path, counterfactual=strange), fake)
    made = {r.id: r for r in read_jsonl(tmp_path / "labels.jsonl")}
    assert {id: r.answer for id, r in made.items()} == {"o0": "yes", "x0": "yes", "x1": "no", "x2": "yes"}
    assert fake.asked[0] == (None, "/1.wav", "Is there a harp sound?", ("yes", "no"))  # the sound alone
    assert fake.asked[2][:2] == ("/0.mp4", None)
    assert made["x0"].meta["label"] == {"by": "audio", "model": "nano_omni", "lead": 2.0}
    assert made["x2"].meta["label"]["by"] == "video"
    assert made["x0"].video == "/0.mp4"  # what is learned has both
    assert report["left_out"] == {"asks both senses at once": 1}
    assert report["agree"] == {"value": 1 / 3, "n": 3}
    assert json.loads((tmp_path / "labels.labels.json").read_text()) == report


def test_ordinary_rows_by_both_senses_use_no_gold_answer(strange, tmp_path):
    fake = Fake()
    ordinary = [row("o0", "What plays first?", "harp", "Audio-Visual/Temporal")]
    write_labels(ordinary, labelled(tmp_path, counterfactual=strange, ordinary_labels="joint"), fake)
    assert fake.asked[0] == ("/0.mp4", "/1.wav", "What plays first?", ())  # written freely
    made = {r.id: r for r in read_jsonl(tmp_path / "labels.jsonl")}
    assert (made["o0"].answer, made["o0"].meta["label"]["by"]) == ("no", "joint")
    write_labels(ordinary, labelled(tmp_path, counterfactual=strange, ordinary_labels="none"), fake)
    assert "o0" not in {r.id for r in read_jsonl(tmp_path / "labels.jsonl")}


def test_rows_that_have_their_answers_keep_them(strange, tmp_path):
    fake = Fake()
    write_labels([], labelled(tmp_path, counterfactual=strange, exchanged_labels="own"), fake)
    found = {r.id: r.answer for r in read_jsonl(tmp_path / "labels.jsonl")}
    assert found == {"x0": "no", "x1": "yes", "x2": "yes", "x3": "yes"}
    assert fake.asked == []


def test_labels_that_are_not_ahead_are_left_out(strange, tmp_path):
    with pytest.raises(UserError, match="ahead by less than 3 nats"):
        write_labels([], labelled(tmp_path, counterfactual=strange, label_margin=3.0), Fake())
    assert write_labels([], labelled(tmp_path, counterfactual=strange, label_margin=2.0), Fake())["rows"] == 3


def test_texts_are_exchanged_within_a_task_and_answered_without(tmp_path):
    rows = [
        row(f"t{i}", f"It says {i}.\nWhich family?", "brass", "", sound=f"{i}.wav", task=task,
            without_text="Which family?")
        for i, task in enumerate(("VSC", "VSC", "SER"))
    ]  # fmt: skip
    made = exchanged_texts(rows, seed=0)
    assert [r.question for r in made] == ["It says 1.\nWhich family?", "It says 0.\nWhich family?"]
    write_jsonl(tmp_path / "texts.jsonl", rows)
    fake = Fake()
    write_labels([], labelled(tmp_path, texts=str(tmp_path / "texts.jsonl")), fake)
    assert {q for _, _, q, _ in fake.asked} == {"Which family?"}
    found = read_jsonl(tmp_path / "labels.jsonl")
    assert {r.meta["label"]["by"] for r in found} == {"without text"}
    assert all(r.question.startswith("It says") for r in found)


def test_blind_pairs_ask_every_kind_as_often(tmp_path):
    names = [f"n{i}" for i in range(8)]

    class Even(Fake):
        """Names of even number sound in every clip, n0 to n3 are seen in every clip."""

        def ask(self, asked, labels):
            found = []
            for one in asked:
                number = int(one.question.split(" n")[1][0])
                there = number % 2 == 0 if one.video is None else number < 4
                found.append(("yes" if there else "no", 1.0))
            return found

    clips = [row(f"c{i}", "q", "a", "", f"{i}.mp4", f"{i}.mp4") for i in range(6)]
    keys = labelled(tmp_path, names=names, pairs=20)
    made = blind_rows(clips, keys, Even().ask)
    assert len(made) == len({r.id for r in made}) == 40
    assert all(r.video != r.audio for r in made)
    kinds = [(r.meta["kind"]["heard"], r.meta["kind"]["seen"]) for r in made]
    assert [kinds.count(kind) for kind in KINDS] == [10] * 4
    assert all((r.answer == "yes") == r.meta["kind"]["heard"] for r in made)
    assert blind_rows(clips, dataclasses.replace(keys, label_margin=1.5), Even().ask) == []
    assert blind_rows(clips[:1], keys, Even().ask) == []


def test_branches_ask_once_and_score_what_is_known(clip_rows, tmp_path, monkeypatch):
    model = Branches(labelled(tmp_path))
    some = clip_rows[0].without("video")
    scored = []
    real = model._scored
    monkeypatch.setattr(model, "_scored", lambda *a: scored.append(len(a[2])) or real(*a))
    twice = [some, dataclasses.replace(some, id="other")]
    first, second = model.ask(twice, [("yes", "no")] * 2)
    assert first == second
    assert first[0] in ("yes", "no")
    assert first[1] >= 0
    [(text, lead)] = model.ask([some], [()])
    assert text
    assert lead is None
    model.ask(twice, [("yes", "no")] * 2)
    assert scored == [1]
