"""Numbers and verdicts in what a judge wrote. What is not there, or out of range, is nothing: no 0 and no guess.

An answer is foreign text: every pattern here takes time in proportion to its length. So runs that a pattern may divide
in several ways are bounded, or of one blank only, which `_conclusion` sees to.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

LONGEST = 50_000
"""Characters that are read of an answer, its last ones: judges are asked for 4,096 tokens at most."""
_NUMBER = r"[-+]?\d{1,20}(?:\.\d{1,40})?(?:e[-+]?\d{1,3})?"
_ENDS = r"(?![\d.,]*\d|\s*(?:-|\u2013|to)\s*\d)"  # not the start of 1.2.3, of 3,5 or of a range 1-5
_MARKS = r"[\"'*_`]{0,8}"
_BLANKS = re.compile(r"(\s)\s+")
_THOUGHT = re.compile(r"<(/?)think>", re.IGNORECASE)
_BETTER = re.compile(
    r"\bimage\s*([12])\W{0,3}\s(?:is|looks)\s+(?:(?!not\b)\w+\s+)?(?:better|superior|preferred|preferable)",
    re.IGNORECASE,
)
_EQUAL = re.compile(r"\bequally good\b|\bboth images are equal|\bit is a tie\b", re.IGNORECASE)
_NEGATION = re.compile(r"\bnot\b|n['\N{RIGHT SINGLE QUOTATION MARK}]t\b", re.IGNORECASE)


@dataclass(frozen=True)
class Reading:
    """A value, or why there is none."""

    value: float = math.nan
    problem: str = ""


def labelled_number(text: str, label: str, low: float, high: float) -> Reading:
    """The number in ``low..high`` behind ``label``, the last one if the judge repeats itself.

    ``Final Score: 3.5``, ``**Alignment Score (1-5):** 4``, ``Score: 7/10``, ``{"alignment_score": 4.2}``
    """
    text = _conclusion(text)
    found = re.findall(
        rf"(?<!\w){_spaced(label)}{_MARKS}\s*(?:\([^()\n]{{0,20}}\))?{_MARKS}\s*(?:[:=]|\bis\b)[\s\"'*_`]*[\[(]?"
        rf"({_NUMBER}){_ENDS}{_MARKS}(?:\s*(?:/|out of)\s*({_NUMBER}))?",
        text,
        re.IGNORECASE,
    )
    if not found:
        return Reading(problem=f"expected {label!r} and a number, found {excerpt(text)}")
    number, of = found[-1]
    if of and float(of) != high:
        return Reading(problem=f"expected {label!r} out of {high:g}, found it out of {of}")
    if not low <= float(number) <= high:
        return Reading(problem=f"expected {label!r} in {low:g}..{high:g}, found {number}")
    return Reading(float(number))


def lone_word(text: str, words: Sequence[str]) -> Reading:
    """The place in ``words`` of the one that the text begins with, else of the only one in it."""
    text = _conclusion(text)
    bare = [re.compile(rf"(?<![\w.]){re.escape(word)}(?!\w|\.\d)", re.IGNORECASE) for word in words]
    found = [place for place, pattern in enumerate(bare) if pattern.match(text.lstrip("\"'*_`( \n"))]
    if not found and not _NEGATION.search(text):
        found = [place for place, pattern in enumerate(bare) if pattern.search(text)]
    if len(found) != 1:
        return Reading(problem=f"expected one of {', '.join(words)}, found {excerpt(text)}")
    return Reading(float(found[0]))


def verdict(text: str) -> Reading:
    """1 where image 1 is said to be better, 0 where image 2 is, 1/2 where both are equal. The last verdict counts."""
    text = _conclusion(text)
    wins = [(match.start(), 1.0 if match[1] == "1" else 0.0) for match in _BETTER.finditer(text)]
    ties = [(match.start(), 0.5) for match in _EQUAL.finditer(text)]
    if not wins and not ties:
        return Reading(problem=f"expected 'Image 1 is better', 'Image 2 is better' or a tie, found {excerpt(text)}")
    return Reading(max(wins + ties)[1])


def share_of_first(text: str, label: str) -> Reading:
    """The share of image 1 in the two numbers under ``label``, which are in 0..1 and sum to 1."""
    text = _conclusion(text)
    found = re.findall(
        rf"{_spaced(label)}\W*image\s*1\W*?({_NUMBER}){_ENDS}\W+image\s*2\W*?({_NUMBER}){_ENDS}", text, re.IGNORECASE
    )
    if not found:
        return Reading(problem=f"expected {label!r} of image 1 and image 2, found {excerpt(text)}")
    one, two = map(float, found[-1])
    if not (0 <= one <= 1 and 0 <= two <= 1 and abs(one + two - 1) < 0.05):
        return Reading(problem=f"expected {label!r} of two images that sum to 1, found {one:g} and {two:g}")
    return Reading(one / (one + two))


def excerpt(text: str, length: int = 80) -> str:
    """The end of an answer, where its conclusion should be, on one line."""
    line = " ".join(text.split())
    return repr(line if len(line) <= length else "..." + line[-length:])


def without_thoughts(text: str) -> str:
    """Without what a model thought aloud. Thoughts that never end are all that follows; their beginning may be missing,
    for some templates write it."""
    said: list[str] = []
    start, thinking = 0, False
    for mark in _THOUGHT.finditer(text):
        if mark[1]:
            said = said if thinking else []
            start, thinking = mark.end(), False
        elif not thinking:
            said.append(text[start : mark.start()])
            thinking = True
    return "".join(said if thinking else [*said, text[start:]])


def _conclusion(text: str) -> str:
    """What is read of an answer: its end, without thoughts and with one blank for many."""
    return _BLANKS.sub(r"\1", without_thoughts(text)[-LONGEST:])


def _spaced(label: str) -> str:
    return r"[\s_]+".join(re.escape(word) for word in label.split())
