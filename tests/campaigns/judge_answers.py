"""Mutated answers of judges: bodies of responses, what the modes read in their texts, and some through a server."""

from judge_questions import about, chat
from judge_server import JudgeServer, Reply
from mixgrpo_judge.answers import NoAnswer, read_answer

from campaigns import mutations
from campaigns.told import TOLD
from mixgrpo_core.rewards.judges import (
    Adjectives,
    Answer,
    Levels,
    Rating,
    UnifiedReward2,
    UnifiedRewardScore,
    UnifiedRewardSemantic,
    YesNo,
)
from mixgrpo_core.rewards.judges.reading import share_of_first, verdict

MODES = (Rating(), UnifiedRewardScore(), UnifiedRewardSemantic(), UnifiedReward2(), Levels(), Adjectives(), YesNo())
TEXTS = (
    "Score: 7.5",
    "a (object): 1\nFinal Score: 3.5",
    "**Alignment Score (1-5):** 4\n**Coherence Score (1-5):** 3.25\n**Style Score (1-5):** 2",
    '{"alignment_score": 4.2}',
    "Yes",
    "<think>It may be 3 or 4 of 5.</think> Image 1 is clearly better than Image 2.",
    "Overall: Image 1: 0.6, Image 2: 0.4. Both images are equally good",
    "excellent",
)
LONG = (
    "*",
    " ",
    "\n",
    "\t*",
    "_ ",
    "1",
    "1.",
    "Final Score",
    "Image 1 is ",
    "<think>",
    "(",
    "Score (",
    "- 1 to ",
    "\u00a0",
)
"""What a judge that got stuck repeats."""


class JudgeAnswers:
    told = (*TOLD, NoAnswer)

    def open(self):
        self._body = b""
        self._server = JudgeServer(lambda asked: Reply(self._body, status=self._status)).__enter__()

    def write(self, folder, chance):
        words = mutations.text(chance, chance.choice(TEXTS))
        if chance.random() < 0.25:
            at = chance.randrange(len(words) + 1)
            words = words[:at] + chance.choice(LONG) * chance.choice((100, 5_000, 40_000)) + words[at:]
        words = words.encode("utf-8", "replace").decode()
        tokens = [{"token": token, "logprob": number} for token, number in (("Yes", -0.1), ("no", -2.3), ("4", -3.0))]
        body = {
            "id": "x",
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": words},
                    "logprobs": {"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": tokens}]},
                    "finish_reason": "stop",
                }
            ],
        }
        what = chance.random()
        body = mutations.value(chance, body) if what < 0.4 else body
        body = mutations.dumps(body).encode()
        (folder / "body").write_bytes(mutations.data(chance, body) if what > 0.85 else body)
        (folder / "words").write_text(words)
        (folder / "status").write_text(
            str(chance.choice((200, 200, 200, 500, 429, 404, 301, 204)) if what > 0.7 else 0)
        )

    def take(self, folder):
        body, words = (folder / "body").read_bytes(), (folder / "words").read_text()
        for answer in (Answer(words), Answer(words, {"Yes": -0.1, "4": -3.0})):
            self._read(answer)
        if status := int((folder / "status").read_text()):
            self._body, self._status = body, status
            found = chat(self._server, retries=0, timeout=5.0).ask(about([0.5], alternatives=5))
            assert all(answer.problem or answer.text.strip() or answer.first for answer in found), "neither"
            assert all(len(answer.problem) < 1500 for answer in found)
            return "asked"
        answer = read_answer(body)
        self._read(answer)
        return "read"

    def _read(self, answer):
        for mode in MODES:
            for by_probability in (False, True):
                reading = mode.read(answer, by_probability=by_probability)
                low, high = mode.expected
                assert reading.problem or low <= reading.value <= high, f"{mode}: {reading.value}"
                assert len(reading.problem) < 1500, f"{len(reading.problem)} characters"
        for reading in (verdict(answer.text), share_of_first(answer.text, "Overall")):
            assert reading.problem or 0 <= reading.value <= 1
