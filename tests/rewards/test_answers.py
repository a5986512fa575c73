"""What people and models write for an answer, and what must not be taken for one."""

import time

import pytest

from rlcomm.data.sample import Sample, Turn
from rlcomm.rewards import accuracy
from rlcomm.rewards.options import option
from rlcomm.rewards.yes_no import yes_no
from rlcomm.steps import build, parse

OPTIONS = ("drum", "violin", "harp")

# One answer between bars; ⏎ is a new line.
SECOND = r"""
B | b | (B) | （B） | [b] | B. | B) | B: | B、 | Ｂ | **B** | __B__ | `B` | "B" | 「B」 | <b>B</b> | $B$
\(B\) | \boxed{B} | $\boxed{B}$ | \boxed{\text{B}} | \boxed{B. violin} | \text{violin} | <answer>B</answer>
violin | a violin | The violin. | *violin* | "violin" | Violin! | B violin | b violin | B. violin | B.violin
B) violin | (B) violin | B: violin | B、violin | B - violin | **B.** violin | **B. violin** | violin (B)
the violin (option B) | Violin [B]. | B, the violin | Option B: violin | The answer is B | The answer is B.
the answer is (b) | The answer is: B | The answer is **B**. | Answer: B | answer - B
The answer is \boxed{B}. | The correct answer is B. violin | My final answer is B | The correct option is B
ANSWER: B | The answer is violin. | The answer is the violin. | The answer is a violin.
The right choice would be B | So the answer is B. | Therefore, the answer is (B) violin. | I choose B
I would go with B. | I'd pick option B | It is B. | It's the violin. | This is a violin | Option B
option (b) | Choice B. | The option B | B is correct. | B is the correct answer
The violin is the right answer. | B is the answer | Option B seems best | B because the bow is heard.
B, since no drum is heard | The answer is B because C is silent. | I hear a bow. The answer is B.
First I listened, so the answer is B. | The answer is B. I hear it. | B. violin⏎The bow is heard.
B⏎⏎A is wrong, no drum is heard. | I hear strings.⏎Answer: B | 选项B | 选项 B | 选B | 我选B。 | 我选择 B
应该选B | 答案是B | 答案：B | 答案为B。 | 正确答案是 B | B选项 | B项 | 正确选项是B | B是正确答案
因此，答案是B | 因此选B。 | 答案选B | B，因为听到了弓。 | 【B】 | 听到了弓。答案是B。 | 答えはB
答えはBです | 正解はB | 정답은 B입니다 | 정답: B | 답은 B | Die Antwort ist B | Antwort: B | B ist richtig.
Die richtige Antwort ist (B) | B, weil man sie hört | La réponse est B. | Réponse : B
La bonne réponse est B | B est correcte | Respuesta: B | La respuesta es la B | La respuesta es B
La respuesta correcta es B. | La risposta è B | A resposta é B | Ответ: B
"""
NONE_OF_THEM = r"""
A violin is heard | A man plays it | I hear something | B or C | A or B | (A) or (B) | B/C | B & C | B and C
B, C | AB | A, B, C | I can't tell whether B or C | I can't tell whether the answer is B.
The answer is B or C | The answer is either B or C. | The answer is not B | The answer isn't B. | not B
B is not correct | B is wrong | B ist falsch | 不是B | 答案不是B | 我不选B | B不正确 | B或C
我不知道选B还是C | I am not sure, maybe B. | Maybe B | B? or C? | 可能是B | 不确定，B | No idea. | Nothing
None of them | unknown | A. violin | B. drum | B drum | C - drum | violin (A) | The answer is A. violin
Option C: violin | \boxed{A. violin} | The answer is A. The answer is B.
The answer is B. No wait, the answer is C. | 答案是A。答案是B。 | B⏎The answer is C. | The answer is a
It is a | It is | The answer is | Answer: | B# | B% | B+C | E | Z | option E | \boxed{} | \boxed{B, C}
viola | violins or harps | The answer is viola. | drum violin | drum and violin | the violin and the harp
I heard B play
"""


def cases(table: str) -> list[str]:
    return [
        case.strip().replace("⏎", "\n") for line in table.strip().splitlines() for case in line.split(" | ")
    ]


@pytest.mark.parametrize("answer", cases(SECOND))
def test_it_names_the_second_option(answer):
    assert option(answer, OPTIONS) == 1


@pytest.mark.parametrize("answer", cases(NONE_OF_THEM))
def test_it_names_no_option(answer):
    assert option(answer, OPTIONS) is None


@pytest.mark.parametrize(
    "answer", ["鼓", "A、鼓", "A.鼓", "A", "（A）鼓", "选A", "答案是鼓。", "我选A、鼓", "**鼓**"]
)
@pytest.mark.parametrize(
    "options", [("鼓", "竖琴"), ("A、鼓", "B、竖琴"), ("Ａ．鼓", "Ｂ．竖琴"), ("（A）鼓", "（B）竖琴")]
)
def test_options_with_letters_of_their_own(answer, options):
    assert option(answer, options) == 0
    assert option(answer.replace("鼓", "竖琴").translate({ord("A"): "B", ord("Ａ"): "Ｂ"}), options) == 1
    assert option("B、鼓", options) is None


def test_an_option_is_itself_whatever_it_looks_like():
    options = ("The answer is B", "maybe", "It is a", "B or C", "No idea", "because")
    for index, text in enumerate(options):
        assert option(text, options) == index


HEARD = "Is there a violin sound?"
YES = """
yes | Yes. | YES! | **Yes** | Yes it is | Yes, it is. | "yes" | The answer is yes. | Answer: Yes
yes because I hear it | \\boxed{yes} | It is: yes | Yes, there is a violin sound. | There is a violin sound.
I hear a violin. | A violin is heard. | The violin is sounding. | There is.
A violin can be heard in the video. | 是 | 是的。 | 有 | 有，听得到。 | 有小提琴声 | 对 | 答案是：是
Ja, man hört sie. | oui | Sí. | はい | 네 | да
"""
NO = """
no | No. | NO | **No** | No, it is silent. | 'no' | The answer is no. | Answer: **No** | \\boxed{no}
\\boxed{\\text{No}} | There is no violin sound. | No violin sound. | There isn't a violin sound.
There is not any violin sound. | No violin is heard | I can't hear a violin. | I do not hear a violin
I cannot hear any violin in the clip. | The violin is not sounding. | The violin isn't playing.
No sound is heard. | No instrument is heard. | It isn't. | There is not. | No music. | 没有 | 没有。 | 不是
没有，听不到。 | 没有小提琴声。 | 否 | Nein, es ist still. | Non | いいえ | 아니요 | нет
"""
NEITHER = """
No idea. | No clue | No answer | no comment | No information | not sure | I am not sure. | I can't tell.
I don't know | I can't tell whether there is a violin sound. | Unclear. | none | piano | nope? | yes or no
Yes and no | yes/no | No, yes. | Yes... no. | Maybe | Possibly yes? | Is there a violin sound?
There is no drum sound. | There is a drum sound. | A drum is heard. | There is not no violin sound.
There is no violin sound or there is. | There is a violin. | I see a violin. | The violin is visible
A violin and a drum are heard. | Nothing | No drum is heard. | No other sound is heard. | No, I can't tell.
| ... | know | nothing | 不知道 | 不确定 | 没有把握 | 没有鼓声 | 有鼓声 | 有没有 | 可能有 | 对不起 | 是不是
"""


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (answer, said)
        for table, said in ((YES, "yes"), (NO, "no"), (NEITHER, None))
        for answer in cases(table)
    ],
)
def test_what_is_said_to_a_yes_no_question(answer, expected):
    question = "视频里有小提琴的声音吗？" if any("\u4e00" <= char <= "\u9fff" for char in answer) else HEARD
    assert yes_no(answer, question) == expected
    for gold in ("yes", "no"):
        assert accuracy.verdict(answer, gold, question=question) == (expected, gold == expected)
        assert accuracy.verdict(answer, gold, ("Yes", "No"), question=question).right == (gold == expected)
        assert accuracy.verdict(answer, gold, labels=("no", "yes"), question=question) == (
            expected,
            gold == expected,
        )


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("Is the violin louder than the drum?", "The violin is louder than the drum.", "yes"),
        ("Is the violin louder than the drum?", "The drum is louder than the violin.", None),
        ("Is the violin louder than the drum?", "The violin is not louder than the drum.", "no"),
        ("Is the violin louder than the drum?", "The violin is heard.", None),
        ("Is the violin in the video always playing?", "The violin is always playing.", "yes"),
        ("Is the violin in the video always playing?", "The violin is playing.", None),
        ("Is the violin in the video always playing?", "The violin is not always playing.", "no"),
        ("Is there no violin sound?", "There is no violin sound.", None),
        ("Is a violin visible?", "A violin is visible.", "yes"),
        ("Is a violin visible?", "No violin can be heard.", None),
        ("", "There is no violin sound.", "no"),
        ("", "There is a violin sound.", "yes"),
        ("", "The drum is louder than the violin.", None),
    ],
)
def test_a_statement_answers_what_was_asked(question, answer, expected):
    assert yes_no(answer, question) == expected


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("2", "2.0", True),
        ("two", "2.0", True),
        ("2.0", "two", True),
        ("2.00", "2", True),
        ("2.50", "2.5", True),
        ("2.05", "2.5", False),
        ("20", "2.0", False),
        ("1.0.0", "1", False),
        ("The answer is two.", "2", True),
        ("**Two**", "2", True),
        (r"\boxed{2}", "2", True),
        ("It's a violin.", "violin", True),
        ("答案是小提琴。", "小提琴", True),
        ("two or three", "2", False),
        ("The answer is two or three.", "2", False),
        ("There are two pianos", "2", False),
        ("not two", "2", False),
    ],
)
def test_open_answers(answer, gold, right):
    assert accuracy.matches(answer, gold) is right


@pytest.mark.parametrize(
    "filling",
    [" ", ".", "# ", "% ", "/ ", ": ", " .", "B. ", "no ", "(", "\\boxed{", "is correct ", "because ", "\n"],
)
def test_long_answers_take_milliseconds(filling):
    """16k characters took 7 to 15 s."""
    text = (filling * 16000)[:16000]
    start = time.process_time()
    accuracy.normalise(text)
    option(text, OPTIONS)
    yes_no(text, HEARD)
    assert time.process_time() - start < 1.0


@pytest.mark.parametrize(
    "answer", ["No, it is silent.", "**No**", "There is no violin sound.", "No idea.", "yes"]
)
def test_a_completion_is_rewarded_for_what_its_answer_says(answer):
    sample = Sample("1", (Turn(HEARD, "no"),))
    said = accuracy.judge(answer, sample)
    assert accuracy.score(parse(build("I hear it.", "I see it.", answer)), sample) == float(said.right)
    assert said.right == (answer not in ("No idea.", "yes"))
