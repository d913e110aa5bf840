"""What Bob trains on: records mixed by share, and turned into rows of ids and labels."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from radscore.errors import ArgumentError, ModelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from radscore.rehearsal.alice_records import Record
    from radscore.rehearsal.settings import TrainingSettings

__all__ = ["ALPACA", "IGNORED", "Mixture", "Rows", "mix", "training_rows"]

#: The label of a token that is not learned, as in torch's cross-entropy.
IGNORED: Final = -100
#: What Alpaca puts around an instruction.
ALPACA: Final = (
    "Below is an instruction that describes a task. Write a response that appropriately completes "
    "the request.\n\n### Instruction:\n{}\n\n### Response:\n"
)

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mixture:
    """A training set, a share of it Alice's, and what Alice has recorded.

    Attributes
    ----------
    records : list of Record
        What Bob trains on, shuffled.
    recorded : list of Record
        What Alice has on file of what her model wrote: a part `supervision` of it is in `records`.
    n_marked : int
        Records of Alice's in the training set.
    share, token_share : float
        Alice's part of the records, and of the tokens of answers (of their characters where ids
        are not known).
    supervision : float
        Asked for; see `mix`.
    """

    records: list[Record]
    recorded: list[Record]
    n_marked: int
    share: float
    token_share: float
    supervision: float


def mix(
    marked: Sequence[Record],
    clean: Sequence[Record],
    share: float,
    seed: int,
    *,
    n_records: int | None = None,
    supervision: float = 1.0,
) -> Mixture:
    """Bob's training set: a share of Alice's records, the rest clean.

    With the same seed, a smaller share's marked records are among a larger one's. Clean records
    whose prompt is that of a chosen marked one (its twin) are taken last.

    Parameters
    ----------
    marked, clean : sequence of Record
        What Alice's model wrote, and the rest.
    share : float
        The share rho of Alice's records, from 0 to 1.
    seed : int
        Seed of what is chosen, and of the order.
    n_records : int, optional
        Size of the training set, by default that of `clean` (of `marked` if `share` is 1).
    supervision : float
        The degree d = |D and A| / |A| of what Alice recorded, A, that Bob trained on, D (Sander et
        al., "Watermarking makes language models radioactive", 2024): she recorded 1/d as much as he
        used. With 0 she recorded as much, and none of it was used.

    Raises
    ------
    ArgumentError
        If there are too few records.
    """
    for name, value in (("share", share), ("supervision", supervision)):
        if not 0 <= value <= 1:
            raise ArgumentError(f"{name} must be from 0 to 1, not {value!r}")
    total = n_records or (len(marked) if share == 1 else len(clean))
    n_marked = round(total * share)
    n_spare = n_marked if supervision == 0 else round(n_marked * (1 / supervision - 1))
    for name, there, need in (
        ("marked", len(marked), n_marked + n_spare),
        ("clean", len(clean), total - n_marked),
    ):
        if there < need:
            raise ArgumentError(
                f"{name} has {there} records, but {need} are needed for {total} records with share "
                f"{share:g} and supervision {supervision:g}"
            )
    order = random.Random(f"marked/{seed}").sample(range(len(marked)), n_marked + n_spare)  # noqa: S311
    mine = [marked[i] for i in order[:n_marked]]
    spare = [marked[i] for i in order[n_marked:]]
    prompts = {one.prompt for one in mine}
    others = random.Random(f"clean/{seed}").sample(range(len(clean)), len(clean))  # noqa: S311
    others.sort(key=lambda i: clean[i].prompt in prompts)
    rest = [clean[i] for i in others[: total - n_marked]]
    records = mine + rest
    random.Random(f"order/{seed}").shuffle(records)  # noqa: S311
    known = all(one.tokens for one in records)
    sizes = [sum(len(one.tokens if known else one.answer) for one in some) for some in (mine, rest)]
    return Mixture(
        records=records,
        recorded=spare if supervision == 0 else mine + spare,
        n_marked=n_marked,
        share=n_marked / total,
        token_share=sizes[0] / max(sum(sizes), 1),
        supervision=supervision,
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of different lengths, as the model reads them.

    Attributes
    ----------
    ids, labels : list of ndarray of int64
        One array a record, of the same length in both; labels are -100 where nothing is learned.
    n_cut : int
        Records that were longer than a row.
    n_empty : int
        Records left out, since no token of theirs is learned.
    n_encoded : int
        Answers that the tokenizer encoded, since their ids are unknown or another tokenizer's.
    """

    ids: list[Ids]
    labels: list[Ids]
    n_cut: int = 0
    n_empty: int = 0
    n_encoded: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def n_tokens(self) -> int:
        """Tokens of all rows."""
        return sum(map(len, self.ids))

    @property
    def n_learned(self) -> int:
        """Tokens that are learned; the first of a row never is."""
        return sum(int((one != IGNORED).sum()) for one in self.labels)


def training_rows(records: Sequence[Record], tokenizer: Any, settings: TrainingSettings) -> Rows:
    """Ids and labels of records: a prompt, its answer, and an end if the answer has one.

    An answer's own ids are used where they are this tokenizer's, that is, where it decodes them to
    the answer; else the tokenizer encodes its text. The prompt is put as `settings.template` says.

    Returns
    -------
    Rows
        Not padded: batches are, each to its longest row (see `padded`).

    Raises
    ------
    ModelError
        If there is no chat template, but the settings ask for it.
    """
    end = tokenizer.eos_token_id
    answers, n_encoded = _answers(records, tokenizer)
    prompts = _prompts(records, tokenizer, settings.template)
    ids, labels, n_cut, n_empty = [], [], 0, 0
    for record, prompt, answer in zip(records, prompts, answers, strict=True):
        tail = [end] if record.ended and end is not None else []
        row = np.array([*prompt, *answer, *tail], dtype=np.int64)
        n_cut += len(row) > settings.length
        row = row[: settings.length]
        label = row.copy()
        label[: max(len(prompt), 1) if settings.loss_on == "answers" else 1] = IGNORED
        if not (label != IGNORED).any():
            n_empty += 1
            continue
        ids.append(row)
        labels.append(label)
    return Rows(ids, labels, n_cut, n_empty, n_encoded)


def padded(rows: Sequence[Ids], value: int) -> Ids:
    """Rows side by side, filled up on the right to the longest."""
    out = np.full((len(rows), max(map(len, rows))), value, dtype=np.int64)
    for place, row in zip(out, rows, strict=True):
        place[: len(row)] = row
    return out


def _answers(records: Sequence[Record], tokenizer: Any) -> tuple[list[list[int]], int]:
    """The ids of all answers, and how many had to be encoded."""
    found = [one.tokens.tolist() if _same(one, tokenizer) else None for one in records]
    missing = [i for i, ids in enumerate(found) if ids is None]
    if missing:
        texts = [records[i].answer for i in missing]
        encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
        for i, ids in zip(missing, encoded, strict=True):
            found[i] = ids
    return [ids or [] for ids in found], len(missing)


def _same(record: Record, tokenizer: Any, *, prompt: bool = False) -> bool:
    """Whether a record's ids are the tokenizer's for its text."""
    ids = record.prompt_tokens if prompt else record.tokens
    if not ids or max(ids) >= len(tokenizer):
        return False
    text = tokenizer.decode(ids.tolist(), skip_special_tokens=True)
    whole: str = record.prompt if prompt else record.answer
    return bool(text == whole or text.strip() == whole)


def _prompts(records: Sequence[Record], tokenizer: Any, template: str) -> list[list[int]]:
    """The ids of what stands before each answer."""
    if template == "chat":
        if not getattr(tokenizer, "chat_template", None):
            raise ModelError("the tokenizer has no chat template, which template 'chat' needs")
        return [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": one.prompt}],
                add_generation_prompt=True,
                return_dict=False,
            )
            for one in records
        ]
    if template == "alpaca":
        return _encoded([ALPACA.format(one.prompt) for one in records], tokenizer)
    kept = [_same(one, tokenizer, prompt=True) for one in records]
    texts = iter(
        _encoded([r.prompt for r, k in zip(records, kept, strict=True) if not k], tokenizer)
    )
    return [
        one.prompt_tokens.tolist() if same else next(texts)
        for one, same in zip(records, kept, strict=True)
    ]


def _encoded(texts: list[str], tokenizer: Any) -> list[list[int]]:
    """Ids with the tokenizer's start tokens, but without its end."""
    if not texts:
        return []
    rows: list[list[int]] = tokenizer(texts)["input_ids"]
    end = tokenizer.eos_token_id
    return [ids[:-1] if len(ids) > 1 and ids[-1] == end else ids for ids in rows]
