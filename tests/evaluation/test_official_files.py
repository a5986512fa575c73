"""Every benchmark file in its official format: a good one, one with several faults, and metrics by hand."""

import json

import pytest

from rlcomm.cli import main
from rlcomm.data.sample import Sample, Turn, read_jsonl
from rlcomm.evaluation import influence, metrics
from rlcomm.evaluation.benchmarks import (
    alme,
    avconfuse,
    avhbench,
    avqa,
    cmm,
    common,
    custom,
    mcr,
    mmar,
    mmau,
    music_avqa,
    omnibench,
)
from rlcomm.evaluation.records import Reading
from rlcomm.utils.errors import UserError


def lay(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def save(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(lines if path.suffix == ".jsonl" else json.dumps(rows), encoding="utf-8")
    return path


def say(module, sample, answer):
    return module.score(sample, Reading(answer or "", answer, "", ""))


def records(module, name, samples, answers):
    """The records that a runner makes: its own fields and those of the score."""
    return [
        {
            "benchmark": name,
            "id": sample.id,
            "video_id": sample.meta["video_id"],
            "view": "joint",
            "gold": sample.answer,
            **say(module, sample, answer),
        }
        for sample, answer in zip(samples, answers, strict=True)
    ]


def values(found):
    return {name: metric["value"] for name, metric in found.items()}


def refusal(read, *arguments, **keywords):
    with pytest.raises(UserError) as error:
        read(*arguments, **keywords)
    return str(error.value)


# ------------------------------------------------------------------------------------------------- AVQA


def avqa_row(**changes):
    return {
        "id": 1139,
        "video_name": "clip_000006",
        "video_id": 1395,
        "question_text": "How many animals are there in the video?",
        "multi_choice": ["3", "One", "4", "2"],
        "answer": 3,
        "question_relation": "Both",
        "question_type": "Which",
        **changes,
    }


def test_avqa(tmp_path):
    lay(tmp_path, "clip_000006.mp4")
    path = save(tmp_path / "val_qa.json", [avqa_row(), avqa_row(id=1140, question_relation="Sound")])
    first, second = avqa.read(path, tmp_path)
    assert first.audio == first.video == str(tmp_path / "clip_000006.mp4")
    assert (first.answer, common.candidates(first)) == ("2", ("3", "One", "4", "2"))
    assert say(avqa, first, "D")["correct"]
    # "1" and "One" are one spelling: the option that is named, and not the first letter that fits
    assert say(avqa, first, "1")["class"] == "One"
    found = values(avqa.score_metrics(records(avqa, "avqa", [first, second], ["two", "3"])))
    assert found == {"acc": 0.5, "unparsed": 0.0, "acc_both": 1.0, "acc_sound": 0.0, "acc_which": 0.5}


def test_avqa_faults(tmp_path):
    path = save(tmp_path / "val_qa.json", [avqa_row(answer=4), avqa_row(id=2, video_name="gone")])
    message = refusal(avqa.read, path, tmp_path)
    assert "row 1, field 'answer'" in message
    assert "row 2, field 'video_name': there is no file gone.mp4" in message


# --------------------------------------------------------------------------------------------- AVHBench


def avh(video_id, task, text, label):
    return {"video_id": video_id, "task": task, "text": text, "label": label}


A2V, V2A = "Audio-driven Video Hallucination", "Video-driven Audio Hallucination"


def test_avhbench(tmp_path):
    lay(tmp_path, "00191.mp4", "00192_swap.mp4")
    path = save(
        tmp_path / "QA.json",
        [
            avh("00191", V2A, "Is the couch making sound in the audio?", "No"),
            avh("00191", V2A, "Is the man making sound in the audio?", "Yes"),
            avh("00191", V2A, "Is the dog making sound in the audio?", "Yes"),
            avh("00191", A2V, "Is the man visible in the video?", "Yes"),
            avh("00192_swap", "AV Matching", "Are the contexts of audio and visual content matching?", "No"),
            avh("00192_swap", "AV Captioning", "Describe what you see and hear.", "A man sleeps."),
        ],
    )
    samples = avhbench.read(path, tmp_path)
    assert samples[0].answer == "no"
    assert common.candidates(samples[0]) == ("yes", "no")
    assert samples[4].video == str(tmp_path / "00192_swap.mp4")
    assert (samples[5].answer, common.candidates(samples[5])) == ("A man sleeps.", ())
    got = records(
        avhbench,
        "avhbench",
        samples,
        ["Yes, it is.", "yes", "there is a piano and no dog", "Yes", "no", "A man."],
    )
    assert got[2]["class"] is None
    assert (got[5]["correct"], got[5]["class"], got[5]["parsed"]) == (None, None, True)
    found = avhbench.score_metrics(got)
    by_hand = {
        "acc": 3 / 5,
        "unparsed": 1 / 5,
        "yes_rate": 3 / 5,
        "acc_audio_driven": 1.0,
        "acc_video_driven": 1 / 3,
        "acc_matching": 1.0,
        "yes_rate_video_driven": 2 / 3,
        "unparsed_video_driven": 1 / 3,
        "acc_mean_2": (1 + 1 / 3) / 2,
        "acc_mean_3": (1 + 1 / 3 + 1) / 3,
    }
    assert {name: found[name]["value"] for name in by_hand} == pytest.approx(by_hand, abs=1e-12)
    low, high = found["acc_mean_3"]["ci95"]
    assert 0 <= low <= found["acc_mean_3"]["value"] <= high <= 1
    assert "acc_mean_3" not in avhbench.score_metrics(got[:4])


def judgement(task, gold, given, clip="c"):
    return {
        "benchmark": "avhbench",
        "view": "joint",
        "video_id": clip,
        "task": task,
        "gold": gold,
        "class": given,
        "parsed": given is not None,
        "correct": given == gold,
    }


def test_avhbench_precision_recall_and_f1_by_hand():
    rows = [
        # audio-driven: TP 2, FP 1, FN 1, TN 0
        *[judgement("audio_driven", "yes", given) for given in ("yes", "yes", "no")],
        judgement("audio_driven", "no", "yes"),
        # video-driven: TP 1, FP 0, FN 1 (unparsed); the unparsed no counts nowhere
        *[judgement("video_driven", "yes", given) for given in ("yes", None)],
        judgement("video_driven", "no", None),
        # matching: always no
        *[judgement("matching", gold, "no") for gold in ("yes", "no")],
        judgement("captioning", "A man.", None),
    ]
    found = avhbench.score_metrics(rows)
    by_hand = {
        "precision_audio_driven": 2 / 3,
        "recall_audio_driven": 2 / 3,
        "f1_audio_driven": 2 / 3,
        "precision_video_driven": 1.0,
        "recall_video_driven": 1 / 2,
        "f1_video_driven": 2 / 3,
        "precision_matching": None,
        "recall_matching": 0.0,
        "f1_matching": 0.0,
        # over all: TP 3, FP 1, FN 3
        "precision": 3 / 4,
        "recall": 3 / 6,
        "f1": 6 / 10,
    }
    assert {name: found[name]["value"] for name in by_hand} == pytest.approx(by_hand, abs=1e-12)
    assert (found["precision"]["n"], found["recall"]["n"], found["f1"]["n"]) == (4, 6, 7)
    assert "f1_captioning" not in found


def test_the_mean_of_the_tasks_has_the_interval_of_whole_clips():
    rows = [
        judgement(task, "yes", "yes" if (i % 2 == 0) == (task == "audio_driven") else "no", f"c{i}")
        for i in range(40)
        for task in ("audio_driven", "video_driven")
    ]
    # whatever clips are drawn, one task wins what the other loses: the mean of both is 0.5 without a doubt
    found = avhbench.score_metrics(rows)["acc_mean_2"]
    assert found["value"] == pytest.approx(0.5)
    assert found["ci95"] == pytest.approx([0.5, 0.5])
    assert found["n"] == 80


def test_avhbench_faults(tmp_path):
    lay(tmp_path, "1.mp4")
    path = save(
        tmp_path / "QA.json",
        [avh("1", V2A, "?", "Maybe"), avh("2", "AV Guessing", "?", "Yes"), avh("1", A2V, "", "No")],
    )
    message = refusal(avhbench.read, path, tmp_path)
    for part in (
        "row 1, field 'label': must be \"yes\" or \"no\", this is 'Maybe'",
        "row 2, field 'task': 'AV Guessing'",
        "row 2, field 'video_id': there is no file 2.mp4",
        "row 3, field 'text': is empty",
    ):
        assert part in message


# -------------------------------------------------------------------------------------------------- CMM


def cmm_row(answer, **changes):
    return {
        "category": "over-reliance_unimodal_priors",
        "sub_category": "overrely_visual_ignore_audio",
        "modality": "visual+audio",
        "granularity": "event-level",
        "correlation_type": None,
        "video_path": "./reorg_raw_files/o/a.mp4",
        "audio_path": "./reorg_raw_files/o/a.wav",
        "question": "Did you hear barking in the audio?",
        "answer": answer,
        **changes,
    }


def test_cmm(tmp_path):
    lay(tmp_path, "reorg_raw_files/o/a.mp4", "reorg_raw_files/o/a.wav", "reorg_raw_files/b.wav")
    heard = {
        "category": "inter-modality_spurious_correlation",
        "sub_category": "audio-language",
        "modality": "audio",
        "granularity": "object-level",
        "video_path": "None",  # so it stands in the official file
        "audio_path": "./reorg_raw_files/b.wav",
    }
    seen = {
        "sub_category": "visual-language",
        "modality": "visual",
        "audio_path": None,
        "question": "Did you see a tree in the video? Answer with yes or no.",
    }
    path = save(
        tmp_path / "all_data_final_reorg.json",
        [cmm_row("yes"), cmm_row("no"), cmm_row("no", **heard), cmm_row("yes", **seen)],
    )
    samples = cmm.read(path, tmp_path)
    folder = tmp_path / "reorg_raw_files"
    assert (samples[0].video, samples[0].audio) == (str(folder / "o/a.mp4"), str(folder / "o/a.wav"))
    assert (samples[2].video, samples[2].audio) == (None, str(folder / "b.wav"))
    assert (samples[3].video, samples[3].audio) == (str(folder / "o/a.mp4"), None)
    assert samples[0].question == "Did you hear barking in the audio? Answer with yes or no."
    assert samples[3].question == seen["question"]
    assert samples[0].meta["pair"] == samples[1].meta["pair"] != samples[3].meta["pair"]
    found = values(cmm.score_metrics(records(cmm, "cmm", samples, ["Yes.", "yes, barking", "No", "a tree"])))
    assert (found["acc"], found["pa"], found["hr"], found["yes_rate"], found["unparsed"]) == (
        0.5,
        0.5,
        0.5,
        0.5,
        0.25,
    )
    assert (found["pa_overrely_visual_ignore_audio"], found["hr_overrely_visual_ignore_audio"]) == (1.0, 0.0)
    assert found["hr_audio_language"] == 1.0
    assert "pa_audio_language" not in found
    assert found["acc_event_level"] == pytest.approx(1 / 3)


def test_cmm_faults(tmp_path):
    lay(tmp_path, "reorg_raw_files/o/a.mp4")
    path = save(
        tmp_path / "cmm.json",
        [cmm_row("yes"), cmm_row("perhaps", modality="smell"), cmm_row("no", video_path="None")],
    )
    message = refusal(cmm.read, path, tmp_path)
    for part in (
        "row 1, field 'audio_path': there is no file ./reorg_raw_files/o/a.wav",
        "row 2, field 'answer'",
        "row 2, field 'modality': 'smell'",
        "row 3, field 'video_path': is missing",
    ):
        assert part in message


# ------------------------------------------------------------------------------------------- MMAU, MMAR


def mmau_row(identity, **changes):
    return {
        "id": identity,
        "audio_id": f"./test-mini-audios/{identity}.wav",
        "question": "Who speaks?",
        "choices": ["Man", "Woman", "Child", "Robot"],
        "answer": "Man",
        "dataset": "AudioSet",
        "task": "sound",
        "split": "test-mini",
        "category": ["Reasoning"],
        "sub-category": "Acoustic Source Inference",
        "difficulty": "easy",
        **changes,
    }


def test_mmau(tmp_path):
    lay(tmp_path, *(f"test-mini-audios/{name}.wav" for name in "abc"))
    path = save(
        tmp_path / "mmau-test-mini.json",
        [
            mmau_row("a"),
            # an option that stands there twice, as in the official file; and a list written as JSON
            mmau_row("b", choices='["Man", "Woman", "Man", "Robot"]', difficulty="hard"),
            # a letter that is an option is that option, not the option of that letter
            mmau_row("c", choices=["G", "C", "D", "A"], answer="A", task="music"),
        ],
    )
    samples = mmau.read(path, tmp_path)
    assert samples[0].video is None
    assert samples[0].audio == str(tmp_path / "test-mini-audios/a.wav")
    assert common.candidates(samples[1]) == ("Man", "Woman", "Robot")
    assert samples[2].answer == "A"
    got = records(mmau, "mmau", samples, ["(a) man", "C", "A"])
    assert [r["correct"] for r in got] == [True, False, True]
    assert got[1]["class"] == "Robot"  # the third of the options shown
    found = values(mmau.score_metrics(records(mmau, "mmau", samples, ["Man", None, "G"])))
    assert found == {
        "acc": pytest.approx(1 / 3),
        "unparsed": pytest.approx(1 / 3),
        "acc_easy": 0.5,
        "acc_hard": 0.0,
        "acc_music": 0.0,
        "acc_sound": 0.5,
    }


def test_mmau_faults(tmp_path):
    lay(tmp_path, "test-mini-audios/a.wav", "test-mini-audios/b.wav")
    unanswered = mmau_row("a")  # a row of the test split
    del unanswered["answer"]
    path = save(
        tmp_path / "mmau.json",
        [
            unanswered,
            mmau_row("b", answer="Dog", choices="Man or Woman"),
            mmau_row("b", answer="Dog"),
            mmau_row("z"),
        ],
    )
    message = refusal(mmau.read, path, tmp_path)
    for part in (
        "row 1, field 'answer': is missing",
        "row 2, field 'choices': must be a list",
        "row 3, field 'answer': 'Dog' is none of the 4 options",
        "row 4, field 'audio_id': there is no file ./test-mini-audios/z.wav in",
    ):
        assert part in message
    twice = refusal(mmau.read, save(tmp_path / "twice.json", [mmau_row("a"), mmau_row("a")]), tmp_path)
    assert "has the id 'a' of row 1 again" in twice


def mmar_row(identity, **changes):
    return {
        "id": identity,
        "audio_path": f"./audio/{identity}.wav",
        "question": "Is there too little food?",
        "choices": ["Too little", "Too much"],
        "answer": "Too little",
        "modality": "mix-sound-speech",
        "category": "Semantic Layer",
        "sub-category": "Content Analysis",
        "language": None,
        "thinking": "He said it with scorn.",
        "cue": ["tone of voice"],
        "rubric": [{"name": "cue"}],
        **changes,
    }


def test_mmar(tmp_path):
    lay(tmp_path, "audio/x_00-01.wav", "audio/y.wav")
    path = save(
        tmp_path / "MMAR-meta.jsonl",
        # an empty option, as in the official file
        [mmar_row("x_00-01", choices=["Too little", "Too much", ""]), mmar_row("y", modality="music")],
    )
    samples = mmar.read(path, tmp_path)
    assert samples[0].audio == str(tmp_path / "audio/x_00-01.wav")
    assert samples[0].options == ("Too little", "Too much")
    assert "scorn" not in json.dumps([s.to_json() for s in samples])
    found = values(mmar.score_metrics(records(mmar, "mmar", samples, ["B", "A. Too little"])))
    assert found == {
        "acc": 0.5,
        "unparsed": 0.0,
        "acc_mix_sound_speech": 0.0,
        "acc_music": 1.0,
        "acc_semantic_layer": 0.5,
    }


def test_mmar_faults(tmp_path):
    path = tmp_path / "MMAR-meta.jsonl"
    (tmp_path / "audio").mkdir()
    path.write_text(json.dumps(mmar_row("x", choices=["one"])) + "\n{broken\n")
    message = refusal(mmar.read, path, tmp_path)
    for part in (
        "row 1, field 'choices': must hold at least two",
        "row 1, field 'answer'",
        "row 1, field 'audio_path'",
        "row 2: is not valid JSON",
    ):
        assert part in message


# -------------------------------------------------------------------------------------------- OmniBench


def omni_row(index, **changes):
    return {
        "task type": "Action and Activity",
        "audio type": "Sound Event",
        "question": "What are the men doing?\n",
        "audio content": "a secret of the sound",
        "image content": "a secret of the picture",
        "audio_path": "2_009.mp3",
        "image_path": "2_009.png",
        "index": index,
        "answer": "They sing.",
        "options": ["They row.", "They sing.", "They eat.", "They sleep."],
        **changes,
    }


def test_omnibench(tmp_path):
    lay(tmp_path, "mm_data/audio/2_009.mp3", "mm_data/image/2_009.png")
    path = save(tmp_path / "batch.jsonl", [omni_row(0), omni_row(1, **{"audio type": "speech"})])
    samples = omnibench.read(path, tmp_path / "mm_data")
    first = samples[0]
    assert (first.id, first.question) == ("0", "What are the men doing?")
    assert first.video == str(tmp_path / "mm_data/image/2_009.png")
    assert first.audio == str(tmp_path / "mm_data/audio/2_009.mp3")
    assert "secret" not in json.dumps(first.to_json())
    found = values(omnibench.score_metrics(records(omnibench, "omnibench", samples, ["B.", "they row"])))
    assert found == {
        "acc": 0.5,
        "unparsed": 0.0,
        "acc_action_and_activity": 0.5,
        "acc_sound_event": 1.0,
        "acc_speech": 0.0,
    }


def test_omnibench_faults(tmp_path):
    lay(tmp_path, "2_009.mp3")
    path = save(tmp_path / "batch.jsonl", [omni_row(0), omni_row(1, question=" ", options=None)])
    message = refusal(omnibench.read, path, tmp_path)
    for part in (
        "row 1, field 'image_path': there is no file 2_009.png",
        "row 2, field 'question': is empty",
        "row 2, field 'options': is missing",
    ):
        assert part in message


# ------------------------------------------------------------------------------------------------ MCR-BENCH


def mcr_row(name, gt, **changes):
    return {
        "audio": f"audio/{name}.wav",
        "gt": gt,
        "faithful": f"A person makes this sound: {gt}.",
        "adversarial": "Somebody has to Sneeze.",
        "irrelevant": "Rain falls on a tin roof.",
        "neutral": "Which vocal sound is this?",
        **changes,
    }


def test_mcr(tmp_path):
    root = tmp_path / "MCR-BENCH"
    lay(root, "VSC/audio/1.wav", "VSC/audio/2.wav")
    path = save(root / "VSC/VSC.json", [mcr_row("1", "Cough"), mcr_row("2", "throat clearing")])
    for media_dir in (None, root, root / "VSC"):
        samples = mcr.read(path, media_dir)
        assert samples[0].audio == str(root / "VSC/audio/1.wav")
    assert [s.meta["condition"] for s in samples] == ["neutral", "faithful", "adversarial", "irrelevant"] * 2
    assert {s.meta["pair"] for s in samples[:4]} == {"vsc-1"}
    assert all(s.audio == samples[0].audio and s.video is None for s in samples[:4])
    adversarial = samples[2]
    assert adversarial.question == (
        "Description of the audio: Somebody has to Sneeze.\nWhich vocal sound is this?"
    )
    assert adversarial.meta["task"] == "VSC"
    assert adversarial.meta["text_answer"] == "Sneeze"
    assert common.candidates(adversarial) == mcr.VOCAL_SOUNDS
    assert adversarial.meta["without_text"] == samples[0].question == "Which vocal sound is this?"
    assert samples[4].answer == "Throat clearing"
    got = records(
        mcr,
        "mcr_vsc",
        samples,
        ["cough", "Cough.", "sneeze", "a hiccup", "Sigh", "Throat Clearing", "sneeze", None],
    )
    assert got[2]["class"] == got[2]["text_answer"] == "Sneeze"
    assert got[3]["class"] == "hiccup"  # none of the labels, but an answer that can be compared
    assert (got[7]["class"], got[7]["parsed"]) == (None, False)
    assert [r["pair"] for r in got] == ["vsc-1"] * 4 + ["vsc-2"] * 4
    found = values(mcr.score_metrics(got, "VSC"))
    assert found == {
        "acc": 3 / 8,
        "unparsed": 1 / 8,
        "acc_neutral": 0.5,
        "acc_faithful": 1.0,
        "acc_adversarial": 0.0,
        "acc_irrelevant": 0.0,
    }
    assert mcr.score_metrics(got, "SER") == {}


def test_mcr_labels_of_the_file(tmp_path):
    lay(tmp_path, "audio/1.wav", "audio/2.wav", "audio/3.wav")
    rows = [mcr_row("1", "struck"), mcr_row("2", "Blown"), mcr_row("3", "blown.")]
    vsc = mcr.read(save(tmp_path / "VSC.json", rows), tmp_path)
    assert common.candidates(vsc[0]) == ("struck", "Blown")
    assert vsc[8].answer == "Blown"
    rows = [
        # a description that already holds the question is the prompt
        mcr_row("1", "yes", neutral="Is it raining?", adversarial="It is dry. Is it  raining?"),
        mcr_row("2", "rain", options=["rain", "wind"], adversarial_answer="Wind"),
        mcr_row("3", "no", adversarial="yes, certainly"),
    ]
    aqa = mcr.read(save(tmp_path / "x.json", rows), tmp_path, task="AQA")
    assert aqa[2].question == "It is dry. Is it  raining?"
    assert common.candidates(aqa[0]) == ("yes", "rain", "no")
    assert (common.candidates(aqa[6]), aqa[6].meta["text_answer"]) == (("rain", "wind"), "wind")
    # in AQA a word of the description is no claim: "no" stands in many of them
    assert aqa[10].meta["text_answer"] is None
    assert all("claimed" not in s.meta for s in aqa)


def test_mcr_rows_to_train_on(tmp_path):
    """Every text of a row, none without; what a limit keeps is in the file's order."""
    lay(tmp_path, "audio/1.wav", "audio/2.wav")
    path = save(tmp_path / "VSC.json", [mcr_row("1", "Cough"), mcr_row("2", "Sigh")])
    rows = mcr.training_rows(path, tmp_path)
    assert [row.meta["condition"] for row in rows] == ["faithful", "adversarial", "irrelevant"] * 2
    assert [row.answer for row in rows] == ["Cough"] * 3 + ["Sigh"] * 3
    assert mcr.training_rows(path, tmp_path, 4) == rows[:4]
    assert "limit: 0 rows would leave nothing" in refusal(mcr.training_rows, path, tmp_path, 0)
    out = tmp_path / "rows.jsonl"
    assert main(["data", "import", "mcr", str(path), "--media_dir", str(tmp_path), "--out", str(out)]) == 0
    assert [row.question for row in read_jsonl(out)] == [row.question for row in rows]


def test_mcr_claims_are_whole_words(tmp_path):
    lay(tmp_path, "1.wav", "2.wav", "3.wav")
    rows = [
        mcr_row("1", "joy", audio="1.wav", adversarial="He sounds enjoyable, in anger."),
        mcr_row("2", "anger", audio="2.wav", adversarial="Overjoyed and angered."),
        mcr_row("3", "fear", audio="3.wav", adversarial="Joy, or anger?"),
    ]
    samples = mcr.read(save(tmp_path / "SER.json", rows))
    assert [s.meta["text_answer"] for s in samples[2::4]] == ["anger", None, None]


def test_mcr_faults(tmp_path):
    path = save(
        tmp_path / "SER.json",
        [
            mcr_row("1", "joy", neutral=""),
            {"audio": "audio/2.wav"},
            mcr_row("3", "joy", options=["fear", "anger"]),
        ],
    )
    message = refusal(mcr.read, path)
    for part in (
        "row 1, field 'neutral': is empty",
        "row 1, field 'audio': there is no file audio/1.wav",
        "row 2, field 'gt': is missing",
        "row 2, field 'irrelevant': is missing",
        "row 3, field 'gt': 'joy' is none of the options",
    ):
        assert part in message
    assert "no task of MCR-BENCH" in refusal(mcr.read, save(tmp_path / "data.json", []))


# ----------------------------------------------------------------------------------------------------- ALME


def alme_row(identity, **question):
    return {
        "stimulus_id": identity,
        "audio_path": f"en/clips/{identity}.mp3",
        "ref_text": "I waited two hours.",
        "conflict_text": "I waited ten hours.",
        "language": "EN",
        "question": {
            "question_text": "How many hours?",
            "choices": ["ten", "two"],
            "correct_answer": "two",
            "flip_type": "number_swap",
            **question,
        },
    }


def test_alme(tmp_path):
    lay(tmp_path, *(f"en/clips/s{i}.mp3" for i in range(4)))
    rows = [alme_row(f"s{i}") for i in range(4)]
    rows[3]["language"] = "DE"
    path = save(tmp_path / "stimuli.jsonl", rows)
    samples = alme.read(path, tmp_path)
    assert [s.meta["condition"] for s in samples[:3]] == ["neutral", "faithful", "adversarial"]
    neutral, faithful, adversarial = samples[:3]
    assert neutral.question == "How many hours?"
    assert "two hours" in faithful.question
    assert "ten hours" not in faithful.question
    assert "ten hours" in adversarial.question
    assert adversarial.meta["without_text"] == "How many hours?"
    assert (adversarial.answer, adversarial.meta["text_answer"]) == ("two", "ten")
    assert common.candidates(adversarial) == ("ten", "two")
    assert {s.meta["pair"] for s in samples[:3]} == {"s0"}
    only = alme.read(path, tmp_path, conditions=["adversarial"])
    got = records(alme, "alme", only, ["ten", "2", "A", "twelve"])
    found = values(alme.score_metrics(got))
    assert found == {
        "unparsed": 0.25,
        "acc_adversarial": 0.25,
        "tdr": pytest.approx(2 / 3),
        "acc_conflict_de": 0.0,
        "tdr_de": None,
        "acc_conflict_en": pytest.approx(1 / 3),
        "tdr_en": pytest.approx(2 / 3),
        "acc_conflict_number_swap": 0.25,
        "tdr_number_swap": pytest.approx(2 / 3),
    }
    everything = records(alme, "alme", samples, ["two"] * 12)
    assert values(alme.score_metrics(everything))["tdr"] == 0.0


def test_the_text_dominance_of_alme_is_that_of_the_sides():
    rows = [
        # a third answer and an unparsed one take no side, even where the text claims nothing known
        {"class": "ten", "text_answer": "ten", "correct": False, "parsed": True},
        {"class": "ten", "text_answer": "ten", "correct": False, "parsed": True},
        {"class": "two", "text_answer": "ten", "correct": True, "parsed": True},
        {"class": "six", "text_answer": "ten", "correct": False, "parsed": True},
        {"class": None, "text_answer": None, "correct": False, "parsed": False},
    ]
    more = {"benchmark": "alme", "view": "joint", "condition": "adversarial", "groups": None}
    rows = [row | more | {"video_id": f"c{i // 2}"} for i, row in enumerate(rows)]
    found = alme.score_metrics(rows)["tdr"]
    sides = ["text", "text", "audio", None, None]
    assert found["value"] == pytest.approx(2 / 3)
    assert found == influence.text_dominance(sides, [row["video_id"] for row in rows])


def test_alme_speaks_other_languages(tmp_path):
    lay(tmp_path, "en/clips/z.mp3")
    row = alme_row("z", question_text="几个小时？", choices=["十", "二"], correct_answer="二")
    (sample,) = alme.read(save(tmp_path / "s.jsonl", [row]), tmp_path, conditions=["adversarial"])
    assert say(alme, sample, "二。")["correct"]
    assert say(alme, sample, "十")["class"] == sample.meta["text_answer"] == "十"


def test_alme_faults(tmp_path):
    lay(tmp_path, "en/clips/a.mp3", "en/clips/b.mp3")
    broken = alme_row("b")
    broken["question"] = "How many?"
    gone = alme_row("c")
    del gone["conflict_text"]
    path = save(tmp_path / "s.jsonl", [alme_row("a", correct_answer="six"), broken, gone])
    message = refusal(alme.read, path, tmp_path)
    for part in (
        "row 1, field 'question.correct_answer': 'six'",
        "row 2, field 'question': must be an object",
        "row 3, field 'conflict_text': is missing",
        "row 3, field 'audio_path': there is no file en/clips/c.mp3",
    ):
        assert part in message
    assert "conditions" in refusal(alme.read, path, tmp_path, conditions=["text_only"])


# --------------------------------------------------------------------------------------------------- custom


def describe(folder, text, rows):
    save(folder / "birds.jsonl", rows)
    path = folder / "birds.yaml"
    path.write_text(text)
    return path


def test_a_set_of_ones_own(tmp_path):
    lay(tmp_path, "clips/1.wav", "clips/2.mp4")
    rows = [
        {"q": "Which bird?", "label": "Robin", "wav": "1.wav", "condition": "adversarial", "pair": 7},
        {"q": "Which bird?", "label": "wren", "wav": "2.mp4", "video": "2.mp4", "type": "Far away"},
    ]
    text = (
        "name: birds\nfile: birds.jsonl\nmedia_dir: clips\ncandidates: [robin, wren]\n"
        "fields: {question: q, answer: label, audio: wav}\n"
    )
    samples = custom.read(describe(tmp_path, text, rows))
    assert [s.id for s in samples] == ["birds-1", "birds-2"]
    assert (samples[0].answer, samples[0].video, samples[0].meta["pair"]) == ("robin", None, "7")
    assert samples[1].video == samples[1].audio == str(tmp_path / "clips/2.mp4")
    assert common.candidates(samples[0]) == ("robin", "wren")
    found = values(custom.score_metrics(records(custom, "birds", samples, ["a robin", "owl"]), "birds"))
    assert found == {"acc": 0.5, "unparsed": 0.0, "acc_adversarial": 1.0, "acc_far_away": 0.0}
    assert custom.score_metrics([], "birds") == {}


def test_yaml_reads_yes_as_true(tmp_path):
    lay(tmp_path, "1.wav")
    rows = [{"question": "A wren?", "answer": answer, "audio": "1.wav"} for answer in ("Yes", "no", "no")]
    text = "name: wrens\nfile: birds.jsonl\nmetric: yes_no\n"
    for more in ("", "candidates: [yes, no]\n", "candidates: [no, yes]\n"):
        samples = custom.read(describe(tmp_path, text + more, rows))
        assert set(common.candidates(samples[0])) == {"yes", "no"}
        got = records(custom, "wrens", samples, ["Yes, one.", "No, none.", "yes"])
        found = values(custom.score_metrics(got, "wrens"))
        assert (found["pa"], found["hr"]) == (1.0, 0.5)
        assert found["yes_rate"] == pytest.approx(2 / 3)


def test_options_and_gold_answers_as_candidates(tmp_path):
    lay(tmp_path, "1.wav")
    row = {"question": "?", "audio": "1.wav"}
    rows = [{**row, "answer": "B", "options": ["A. owl", "B. wren"]}, {**row, "answer": "tit"}]
    samples = custom.read(describe(tmp_path, "name: b\nfile: birds.jsonl\ncandidates: answers\n", rows))
    assert (samples[0].answer, common.candidates(samples[0])) == ("wren", ("owl", "wren"))
    assert common.candidates(samples[1]) == ("wren", "tit")
    samples = custom.read(describe(tmp_path, "name: b\nfile: birds.jsonl\n", rows))
    assert common.candidates(samples[1]) == ()
    assert say(custom, samples[1], "The tit")["correct"]


def test_candidates_of_a_row_are_not_shown(tmp_path):
    lay(tmp_path, "1.wav")
    row = {"question": "Owl or wren?", "audio": "1.wav"}
    rows = [
        {**row, "answer": "wren", "labels": ["owl", "Wren"]},
        {**row, "answer": "tit", "labels": '["tit", "robin"]'},
        {**row, "answer": "tit"},
    ]
    text = "name: b\nfile: birds.jsonl\ncandidates: [tit, rook]\nfields: {candidates: labels}\n"
    samples = custom.read(describe(tmp_path, text, rows))
    assert [common.candidates(s) for s in samples] == [("owl", "Wren"), ("tit", "robin"), ("tit", "rook")]
    assert [s.answer for s in samples] == ["Wren", "tit", "tit"]
    assert all(s.options == () for s in samples)
    assert say(custom, samples[0], "a wren")["correct"]
    assert say(custom, samples[0], "Owl.")["class"] == "owl"


def test_faults_of_the_candidates_of_a_row(tmp_path):
    lay(tmp_path, "1.wav")
    row = {"question": "?", "audio": "1.wav", "answer": "owl"}
    rows = [
        {**row, "candidates": ["wren", "tit"]},
        {**row, "candidates": ["owl", "owl"]},
        {**row, "candidates": "owl"},
        {**row, "candidates": ["owl", "tit"], "options": ["owl", "tit"]},
    ]
    message = refusal(custom.read, describe(tmp_path, "name: b\nfile: birds.jsonl\n", rows))
    for part in (
        "row 1, field 'answer': 'owl' is none of the candidates wren, tit",
        "row 2, field 'candidates': must be two different labels or more",
        "row 3, field 'candidates': must be a list",
        "row 4, field 'candidates': and 'options' are both given",
    ):
        assert part in message
    rows = [{**row, "answer": "yes", "candidates": ["owl", "wren"]}]
    text = "name: b\nfile: birds.jsonl\nmetric: yes_no\n"
    assert "must be yes and no" in refusal(custom.read, describe(tmp_path, text, rows))


def test_faults_of_the_description(tmp_path):
    text = "name: My Birds\nfiles: birds.jsonl\nmetric: bleu\nfields: {sound: wav}\ncandidates: [robin]\n"
    message = refusal(custom.read, describe(tmp_path, text, []))
    for part in ("'files': is unknown", "'file'", "'name'", "'metric'", "'fields.sound'", "'candidates'"):
        assert part in message
    for text in ("- a\n", "name: [\n"):
        assert "birds.yaml" in refusal(custom.read, describe(tmp_path, text, []))
    text = "name: b\nfile: birds.jsonl\nmetric: yes_no\ncandidates: [robin, wren]\n"
    assert "must be yes and no" in refusal(custom.read, describe(tmp_path, text, []))


def test_faults_of_the_rows(tmp_path):
    lay(tmp_path, "1.wav")
    rows = [
        {"q": "?", "answer": "owl", "audio": "1.wav"},
        {"q": "?", "answer": "wren", "condition": "wrong"},
        {"answer": "wren", "audio": "2.wav"},
    ]
    text = "name: b\nfile: birds.jsonl\nfields: {question: q}\ncandidates: [robin, wren]\n"
    message = refusal(custom.read, describe(tmp_path, text, rows))
    for part in (
        "row 1, field 'answer': 'owl' is none of the candidates",
        "row 2, field 'audio': is missing, and so is 'video'",
        "row 2, field 'condition': 'wrong'",
        "row 3, field 'q': is missing",
        "row 3, field 'audio': there is no file 2.wav",
    ):
        assert part in message


# --------------------------------------------------------------------------------------------------- common


def test_a_file_without_rows_is_no_benchmark(tmp_path):
    assert "has no rows" in refusal(mmau.read, save(tmp_path / "mmau.json", []), tmp_path)


def labelled(labels, gold, options=()):
    return Sample("1", (Turn("?", gold, options),), meta={} if options else {"candidates": list(labels)})


@pytest.mark.parametrize(
    "labels",
    [
        ("C minor", "C# minor"),
        ("50", "50%"),
        ("4:4", "4/4"),
        ("2", "two", "Two"),  # one after normalisation, and still three labels
        ("don't", "dont", "the dont"),
    ],
)
@pytest.mark.parametrize("shown", [True, False])
def test_labels_that_are_nearly_alike_are_told_apart(labels, shown):
    for gold in labels:
        sample = labelled(labels, gold, labels if shown else ())
        for label in labels:
            assert common.named(label, labels) == label
            fields = common.score(sample, Reading(label, label, "", ""))
            assert (fields["class"], fields["correct"]) == (label, label == gold)


def test_an_answer_that_fits_several_labels_names_none():
    assert common.named("Two.", ("2", "two")) is None
    assert common.named("Two.", ("2", "three")) == "2"
    fields = common.score(labelled(("2", "two"), "two"), Reading("Two.", "Two.", "", ""))
    assert (fields["class"], fields["correct"]) == ("2", False)  # an answer, but none of the labels


def test_a_clip_has_one_name_in_all_benchmarks(tmp_path):
    lay(tmp_path, "c.7.mp4", "a/c.7.wav", "a/c.7.mp3", "a/c.7.png")
    muted = {"video_id": "c.7.mp4", "question": "?", "answer": "no"}
    asked = {"video_id": "c.7.mp4", "question_id": 1, "question_content": "?", "anser": "yes"}
    alme_one = alme_row("s") | {"audio_path": "a/c.7.mp3"}
    omni_one = omni_row(0, audio_path="a/c.7.mp3", image_path="a/c.7.png")
    cmm_one = cmm_row("yes", video_path="c.7.mp4", audio_path="a/c.7.wav")
    own = [{"question": "?", "answer": "owl", "audio": "a/c.7.wav"}]
    rows = {
        avconfuse.read_muted: muted,
        music_avqa.read: asked,
        avqa.read: avqa_row(video_name="c.7.mp4"),
        avhbench.read: avh("c.7.mp4", V2A, "?", "no"),
        cmm.read: cmm_one,
        mmau.read: mmau_row("1", audio_id="./a/c.7.wav"),
        mmar.read: mmar_row("1", audio_path="./a/c.7.wav"),
        omnibench.read: omni_one,
        alme.read: alme_one,
    }
    found = {read.__module__: read(save(tmp_path / "x.json", [row]), tmp_path) for read, row in rows.items()}
    found["mcr"] = mcr.read(save(tmp_path / "SER.json", [mcr_row("1", "joy", audio="a/c.7.wav")]), tmp_path)
    found["own"] = custom.read(describe(tmp_path, "name: b\nfile: birds.jsonl\n", own))
    names = {name: {sample.meta["video_id"] for sample in samples} for name, samples in found.items()}
    assert names == {key: {"c.7"} for key in found}


def test_the_name_of_a_clip():
    assert common.clip_name("en/clips/x_1.mp3") == "x_1"
    assert common.clip_name("x.1.mp4") == "x.1"
    assert common.clip_name(None) == ""


def test_pa_and_hr_are_those_of_the_judgements():
    judged = [("yes", "yes"), ("yes", None), ("yes", "no"), ("no", "no"), ("no", None)]
    rows = [
        {"video_id": str(i), "gold": gold, "class": given, "correct": given == gold}
        for i, (gold, given) in enumerate(judged)
    ]
    found = common.perception(rows, "_x")
    golds, classes = zip(*judged, strict=True)
    clips = [row["video_id"] for row in rows]
    assert values(found) == {"pa_x": pytest.approx(1 / 3), "hr_x": 0.5}
    assert (found["pa_x"]["n"], found["hr_x"]["n"]) == (3, 2)
    assert found["pa_x"] == metrics.perception_accuracy(golds, classes, clips)
    assert found["hr_x"] == metrics.hallucination_resistance(golds, classes, clips)
    assert list(common.perception(rows[:3])) == ["pa"]
    with pytest.raises(ValueError, match="gold 0 is 'maybe'"):
        common.perception([rows[0] | {"gold": "maybe"}])


def test_every_record_carries_what_the_metrics_need():
    sample = Sample("1", (Turn("?", "yes"),), meta={"candidates": ["yes", "no"], "condition": "neutral"})
    fields = common.score(sample, Reading("no", "no", "", ""))
    assert fields == {
        "class": "no",
        "parsed": True,
        "correct": False,
        "type": None,
        "task": None,
        "condition": "neutral",
        "pair": None,
        "groups": None,
        "text_answer": None,
        "candidates": ["yes", "no"],
        "why": "no, and the answer is yes",
    }
