"""Whether a string is sound SMILES (Weininger 1988): a parser, written apart from what makes the strings.

It builds the graph of the atoms and then looks at the bonds of each. It does not ask whether aromatic rings can be
written with alternating double bonds, nor whether a molecule could exist.

>>> problem("c1ccccc1C(=O)[O-]") is None
True
>>> problem("C1CC(C")
'a branch is not closed'
"""

import re
from dataclasses import dataclass, field

ORGANIC = {"B": (3,), "C": (4,), "N": (3,), "O": (2,), "P": (3, 5), "S": (2, 4, 6)}
HALOGENS = {name: (1,) for name in ("F", "Cl", "Br", "I")}
VALENCES = ORGANIC | HALOGENS
"""Bonds that an atom without charge may have, implicit hydrogens counted."""

AROMATIC = "bcnops"
ORDERS = {"-": 1, "=": 2, "#": 3}

_TOKEN = re.compile(
    r"\[(?P<isotope>\d+)?(?P<inside>[A-Z][a-z]?|[bcnops])(?P<hydrogens>H\d?)?(?P<charge>\+\d?|-\d?)?\]"
    r"|(?P<atom>Cl|Br|[BCNOPSFI]|[bcnops])|(?P<bond>[-=#])|(?P<ring>\d|%\d\d)|(?P<open>\()|(?P<close>\))"
)


@dataclass
class Atom:
    """An atom and, by the number of the neighbour, the order of each bond."""

    symbol: str
    hydrogens: int = 0
    charge: int = 0
    bracket: bool = False
    bonds: dict[int, int] = field(default_factory=dict)

    @property
    def aromatic(self) -> bool:
        return self.symbol.islower()


class _Unsound(Exception):
    pass


def problem(text: str) -> str | None:
    """What is wrong with a string, or None: unknown signs, branches, rings, bonds, too many bonds at an atom."""
    try:
        atoms = parse(text)
    except _Unsound as error:
        return str(error)
    for number, atom in enumerate(atoms):
        found = _bond_problem(atom, atoms)
        if found:
            return f"atom {number + 1} ({atom.symbol}): {found}"
    return None


def is_valid(text: str) -> bool:
    return problem(text) is None


def parse(text: str) -> list[Atom]:
    """The atoms of one molecule with their bonds."""
    if not text:
        raise _Unsound("there is no atom")
    atoms: list[Atom] = []
    rings: dict[str, tuple[int, int | None]] = {}
    branches: list[int] = []
    last: int | None = None
    bond: int | None = None
    opened = False
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise _Unsound(f"cannot be read at {text[place : place + 5]!r}")
        place = token.end()
        if token["bond"]:
            if bond is not None or last is None:
                raise _Unsound("a bond does not stand between two atoms")
            bond = ORDERS[token["bond"]]
        elif token["open"]:
            if last is None or bond is not None or opened:
                raise _Unsound("a branch does not begin at an atom")
            branches.append(last)
        elif token["close"]:
            if opened:
                raise _Unsound("a branch is empty")
            if not branches:
                raise _Unsound("a branch is closed that was not opened")
            if bond is not None:
                raise _Unsound("a bond leads to no atom")
            last = branches.pop()
        elif token["ring"]:
            if last is None or opened:
                raise _Unsound("a ring digit does not follow an atom")
            _close_ring(atoms, rings, token["ring"].lstrip("%"), last, bond)
            bond = None
        else:
            atoms.append(_atom(token))
            if last is not None:
                _connect(atoms, last, len(atoms) - 1, bond)
            last, bond = len(atoms) - 1, None
        opened = bool(token["open"]) or (opened and bool(token["bond"]))
    if branches:
        raise _Unsound("a branch is not closed")
    if rings:
        raise _Unsound(f"ring {min(rings)} is not closed")
    if bond is not None:
        raise _Unsound("a bond leads to no atom")
    return atoms


def _atom(token: re.Match) -> Atom:
    if token["atom"]:
        return Atom(token["atom"])
    symbol, hydrogens, charge = token["inside"], token["hydrogens"], token["charge"]
    if symbol not in VALENCES and symbol not in AROMATIC:
        raise _Unsound(f"[{symbol}] is no atom that is known here")
    return Atom(
        symbol,
        hydrogens=0 if hydrogens is None else int(hydrogens[1:] or 1),
        charge=0 if charge is None else int(charge[0] + (charge[1:] or "1")),
        bracket=True,
    )


def _close_ring(
    atoms: list[Atom], rings: dict[str, tuple[int, int | None]], digit: str, last: int, bond: int | None
) -> None:
    if digit not in rings:
        rings[digit] = (last, bond)
        return
    first, order = rings.pop(digit)
    if None not in (order, bond) and order != bond:
        raise _Unsound(f"the two ends of ring {digit} have different bonds")
    _connect(atoms, first, last, bond if order is None else order)


def _connect(atoms: list[Atom], a: int, b: int, order: int | None) -> None:
    if a == b or b in atoms[a].bonds:
        raise _Unsound("a ring closes on the atom itself or on its neighbour")
    atoms[a].bonds[b] = atoms[b].bonds[a] = order or 1


def _bond_problem(atom: Atom, atoms: list[Atom]) -> str | None:
    bonds = sum(atom.bonds.values()) + atom.hydrogens
    if atom.aromatic:
        around = sum(atoms[other].aromatic for other in atom.bonds)
        if around < 2:
            return "an aromatic atom outside an aromatic ring"
        # Two bonds along the ring, and one out of it; that of a carbon may be double.
        most = {"o": 2, "s": 2}.get(atom.symbol, 4 if 2 in atom.bonds.values() and atom.symbol == "c" else 3)
        return f"{bonds} bonds" if bonds > most else None
    allowed = VALENCES[atom.symbol]
    if atom.charge:
        # A charge adds a bond to nitrogen, oxygen and sulphur, or takes one away; carbon and boron have one less.
        gain = atom.charge if atom.symbol in ("N", "O", "P", "S", *HALOGENS) else -abs(atom.charge)
        allowed = tuple(valence + gain for valence in allowed)
    return f"{bonds} bonds" if bonds > max(allowed) else None
