"""A corpus of SMILES-like strings, made by a grammar of our own: chains, branches, rings, double bonds, charges.

    python -m benchmarks.smiles --out data/smiles --rows 50000 --seed 0

writes ``train.txt`` (that many lines), ``valid.txt`` and ``test.txt`` (a tenth each); no line comes twice. The notation
is that of Weininger (1988). Valences are kept; no other chemistry stands behind the molecules.
``benchmarks.smiles_check`` reads such strings and knows nothing of this file.
"""

import argparse
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

Choice = TypeVar("Choice")

ATOMS = {"C": 66, "N": 16, "O": 14, "S": 4}
"""Atoms inside a chain, by weight."""

FREE = {"C": 2, "N": 1, "O": 0, "S": 0}
"""Bonds that such an atom has left for branches."""

LINKS = {"C(=O)N": 6, "C(=O)O": 4, "S(=O)(=O)": 2, "C=C": 4, "C#C": 1, "[NH2+]": 1}
"""Groups inside a chain: entered at the first atom, left from the last one outside parentheses."""

ENDS = {
    "C": 10, "O": 8, "N": 6, "F": 6, "Cl": 4, "Br": 2, "C#N": 3, "C(F)(F)F": 2, "C(=O)O": 5, "C(=O)[O-]": 3,
    "[N+](=O)[O-]": 3, "[NH3+]": 3, "S(=O)(=O)N": 2,
}  # fmt: skip
"""What a chain or a branch ends with."""

AROMATIC = {"c c c c c c": 10, "c c c c c n": 3, "c c c n c n": 2, "c c c c s": 2, "c c c c o": 2, "c c c c [nH]": 2}
"""Aromatic rings, atom by atom."""

FUSED = {"c{0}ccc{1}ccccc{1}c{0}": 3, "c{0}ccc{1}[nH]ccc{1}c{0}": 2, "c{0}ccc{1}ncccc{1}c{0}": 2}
"""Two aromatic rings that share a side; they end a chain."""


class Writer:
    """Writes molecules, one for each call of `molecule`."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._open: set[int] = set()
        """Digits of the rings that are not closed yet: a ring inside another takes a digit of its own."""

    def molecule(self) -> str:
        """A chain of two to eight units, most often five."""
        return self._chain(self._random.randint(1, 4) + self._random.randint(1, 4), depth=0)

    def _chain(self, units: int, depth: int) -> str:
        """Units one after another, each with a single bond to the one before; the last is an end."""
        return "".join([*(self._unit(depth) for _ in range(units - 1)), self._end(depth)])

    def _unit(self, depth: int) -> str:
        kind = self._choose({"atom": 64, "link": 14, "aromatic": 13, "ring": 9})
        if kind == "link":
            return self._choose(LINKS)
        if kind == "atom" or depth > 1:
            return self._atom(depth)
        return self._aromatic(depth) if kind == "aromatic" else self._ring(depth)

    def _end(self, depth: int) -> str:
        kind = self._choose({"group": 70, "aromatic": 20, "fused": 10})
        if kind == "group" or depth > 1:
            return self._choose(ENDS)
        if kind == "aromatic":
            return self._aromatic(depth)
        with self._digit() as outer, self._digit() as inner:
            return self._choose(FUSED).format(outer, inner)

    def _atom(self, depth: int) -> str:
        atom = self._choose(ATOMS)
        if FREE[atom] == 2 and self._happens(0.12):
            return f"{atom}(=O)"
        return atom + "".join(self._branch(depth) for _ in range(FREE[atom]) if self._happens(0.16))

    def _branch(self, depth: int) -> str:
        return f"({self._chain(1 if self._happens(0.7) else 2, depth + 1)})"

    def _aromatic(self, depth: int) -> str:
        """A ring turned so that it is entered and left at a carbon; carbons between may have a branch."""
        ring = self._choose(AROMATIC).split()
        turns = [ring[i:] + ring[:i] for i in range(len(ring)) if ring[i] == ring[i - 1] == "c"]
        first, *between, last = self._random.choice(turns)
        with self._digit() as digit:
            inside = (atom + self._branch(depth) if atom == "c" and self._happens(0.1) else atom for atom in between)
            return f"{first}{digit}{''.join(inside)}{last}{digit}"

    def _ring(self, depth: int) -> str:
        """A saturated ring of three to seven atoms, entered and left at a carbon; perhaps one double bond in it."""
        between = ["C"] * (self._choose({3: 1, 5: 4, 6: 6, 7: 1}) - 2)
        with self._digit() as digit:
            if len(between) > 2 and self._happens(0.2):
                between[1] = "=C"
            elif len(between) > 2 and self._happens(0.5):
                between[self._random.randrange(1, len(between))] = self._random.choice("NOS")
            if self._happens(0.2):
                between[0] = f"C{self._branch(depth)}"
            return f"C{digit}{''.join(between)}C{digit}"

    @contextmanager
    def _digit(self) -> Iterator[int]:
        """The lowest ring digit that is free, taken while the ring is open."""
        digit = next(number for number in range(1, 10) if number not in self._open)
        self._open.add(digit)
        yield digit
        self._open.remove(digit)

    def _choose(self, weights: Mapping[Choice, int]) -> Choice:
        return self._random.choices(list(weights), list(weights.values()))[0]

    def _happens(self, probability: float) -> bool:
        return self._random.random() < probability


def molecules(count: int, seed: int) -> list[str]:
    """``count`` different strings, the same for the same seed."""
    writer, found = Writer(seed), dict[str, None]()
    while len(found) < count:
        found[writer.molecule()] = None
    return list(found)


def write(folder: Path, rows: int, seed: int) -> None:
    """The three splits: ``rows`` lines to train on, a tenth of that to validate and to test."""
    sizes = {"train": rows, "valid": max(1, rows // 10), "test": max(1, rows // 10)}
    lines = iter(molecules(sum(sizes.values()), seed))
    folder.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        text = "".join(f"{next(lines)}\n" for _ in range(size))
        (folder / f"{split}.txt").write_text(text, encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--rows", type=int, default=50_000, help="lines to train on")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    write(arguments.out, arguments.rows, arguments.seed)


if __name__ == "__main__":
    main()
