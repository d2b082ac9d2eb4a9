"""Edit distance between token sequences, many pairs at once."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

_PAIRS_TOGETHER = 256

Tokens = Sequence[int]


def edit_distance(
    sources: Sequence[Tokens], outputs: Sequence[Tokens], *, substitution: int = 1
) -> Int[np.ndarray, " P"]:
    """Fewest insertions, deletions and substitutions of a token that turn each output into its source.

    Levenshtein 1966. ``substitution`` is what replacing a token costs; at 2 it is a deletion and an insertion.
    """
    # Pairs of like length together, so that little of a block is padding.
    order = sorted(range(len(sources)), key=lambda i: (len(sources[i]), len(outputs[i])))
    distances = np.zeros(len(sources), dtype=np.int64)
    for start in range(0, len(order), _PAIRS_TOGETHER):
        some = order[start : start + _PAIRS_TOGETHER]
        distances[some] = _block([sources[i] for i in some], [outputs[i] for i in some], substitution)
    return distances


def _block(sources: list[Tokens], outputs: list[Tokens], substitution: int) -> Int[np.ndarray, " P"]:
    """Row by row through the table of Wagner and Fischer 1974, for all pairs side by side.

    Insertions along a row are a running minimum, once the row's own cost of 1 for each step is taken off.
    """
    a, b = _padded(sources, -1), _padded(outputs, -2)
    source_lengths, output_lengths = (np.array([len(each) for each in group]) for group in (sources, outputs))
    pairs, steps = np.arange(len(sources)), np.arange(b.shape[1] + 1)
    row = np.tile(steps, (len(sources), 1))
    found = row[pairs, output_lengths].copy()
    for i in range(a.shape[1]):
        replaced = row[:, :-1] + np.where(a[:, i : i + 1] == b, 0, substitution)
        first = np.full((len(sources), 1), i + 1)
        row = np.concatenate([first, np.minimum(row[:, 1:] + 1, replaced)], axis=1)
        row = np.minimum.accumulate(row - steps, axis=1) + steps
        ended = source_lengths == i + 1
        found[ended] = row[pairs[ended], output_lengths[ended]]
    return found


def _padded(sequences: list[Tokens], fill: int) -> Int[np.ndarray, "P L"]:
    table = np.full((len(sequences), max(map(len, sequences))), fill, dtype=np.int64)
    for line, sequence in zip(table, sequences, strict=True):
        line[: len(sequence)] = sequence
    return table


def normalised_edit_distance(sources: Sequence[Tokens], outputs: Sequence[Tokens]) -> Float[np.ndarray, " P"]:
    """Edit distance over the length of the longer of the two: 0 for equal sequences, 1 where nothing agrees."""
    longer = np.array([max(len(a), len(b), 1) for a, b in zip(sources, outputs, strict=True)])
    return edit_distance(sources, outputs) / longer


def rouge_l(sources: Sequence[Tokens], outputs: Sequence[Tokens]) -> Float[np.ndarray, " P"]:
    """F1 of the longest common subsequence: 2 LCS / (both lengths), 0 to 1 (ROUGE-L of Lin 2004 with beta = 1).

    Two empty sequences are equal: 1. The LCS follows from the edit distance without substitutions.
    """
    both = np.array([len(a) + len(b) for a, b in zip(sources, outputs, strict=True)])
    return 1 - edit_distance(sources, outputs, substitution=2) / np.maximum(both, 1)
