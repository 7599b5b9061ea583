"""How sure one can be of a model that learned from few recordings."""
from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import pandas as pd

_DOUBTFUL = 0.3  # confidence of a recording's own word by that of the answer; below it a person should listen
_CONFUSED = 2  # recordings of a word taken for the same other one, from which on this is reported


@dataclass(frozen=True)
class OwnWords:
    """Answers to recordings that were left out of training in turn.

    Args:
        keywords: words to spot.
        answers: one row per recording: `path`, `label`, `answer`, `confidence` of the answer, `own`: that of the label.
        found: share of keywords that were answered correctly, and its 95 % interval; None if none could be left out.
        others_taken: share of other words, also left out in turn, that were answered with a keyword. `rarity` was
            chosen on the same words.
        rarity: how many times rarer than in training keywords are assumed to be.
        named: whether it is known who speaks in each recording.
        by_speaker: whether all recordings of a speaker were left out together, not one by one.
        synthetic: whether only synthetic voices speak.
        curve: one row per number of `recordings` of each keyword: the share `found` after training on so many.
    """

    keywords: tuple[str, ...]
    answers: pd.DataFrame
    found: Optional[tuple[float, float, float]]
    others_taken: Optional[float]
    rarity: float
    named: bool
    by_speaker: bool
    synthetic: bool
    curve: pd.DataFrame

    @property
    def figures(self) -> dict[str, float]:
        """Final figures for a tracker: `left_out_found`, `left_out_others_taken`; empty where nothing was left out."""
        if self.found is None or self.others_taken is None:
            return {}
        return {"left_out_found": self.found[0], "left_out_others_taken": self.others_taken}

    @property
    def unasked(self) -> tuple[str, ...]:
        """Keywords of which no recording could be left out."""
        return tuple(word for word in self.keywords if not (self.answers["label"] == word).any())

    def per_word(self) -> pd.DataFrame:
        """One row per keyword: recordings, share found, and what it was most often taken for instead."""
        return pd.DataFrame([self._row(word, rows) for word, rows in self._of_keywords().groupby("label", sort=False)])

    def doubtful(self) -> pd.DataFrame:
        """Recordings of keywords that a model trained on the others takes for something else, the worst first."""
        rows = self._of_keywords()
        doubt = rows["own"] / rows["confidence"]
        return rows.assign(doubt=doubt)[doubt < _DOUBTFUL].sort_values("doubt")[["path", "label", "answer", "own"]]

    def _of_keywords(self) -> pd.DataFrame:
        return self.answers[self.answers["label"].isin(self.keywords)]

    def _row(self, word: object, rows: pd.DataFrame) -> dict[str, object]:
        wrong = rows.loc[rows["answer"] != rows["label"], "answer"].value_counts()
        return {"word": word, "recordings": len(rows), "found": float((rows["answer"] == rows["label"]).mean()),
                "taken for": wrong.index[0] if len(wrong) else "", "times": int(wrong.iloc[0]) if len(wrong) else 0}


def summary_text(own: OwnWords) -> str:
    """Say how sure one can be, in lines for a terminal."""
    if own.found is None or own.others_taken is None:
        return ("how sure the model is cannot be measured: record each word at least twice, better ten times, by "
                "several people")
    found, low, high = own.found
    who = "by people it had not heard" if own.by_speaker else "by the same voice"
    if not own.named:
        who = "by voices that it may have heard (not every recording names its speaker)"
    if own.synthetic:
        who = "by synthetic voices it had not heard (people are harder)"
    lines = [f"recordings left out in turn: {found:.0%} of the keywords {who} are found (95% interval {low:.0%} to "
             f"{high:.0%}), {own.others_taken:.1%} of other words are taken for a keyword"]
    for row in own.per_word().itertuples(index=False):
        word, _, share, instead, times = row
        confused = f"   taken for {instead} {times} times: choose another word for one of the two"
        lines.append(f"  {word:<16}{share:6.0%}" + confused * (instead in own.keywords and times >= _CONFUSED))
    if own.unasked:
        lines.append(f"not measured, as no recording of it could be left out: {', '.join(own.unasked)}; record it at "
                     "least twice, better ten times, by several people")
    doubtful = own.doubtful()
    if len(doubtful):
        lines.append("listen to these again, they sound like something else: " + ", ".join(
            f"{row.path} ({row.answer})" for row in doubtful.head(5).itertuples()))
    return "\n".join(lines)
