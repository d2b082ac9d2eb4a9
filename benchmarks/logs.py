"""A corpus of log lines of an invented service, with planted anomalies in its test split.

    python -m benchmarks.logs --out data/logs --rows 50000 --seed 0

writes ``train.txt`` (that many normal lines), ``valid.txt`` (a tenth, normal) and ``test.txt`` (a fifth, with 15
anomalies in 1,000 lines); beside it, line by line, ``test.labels`` (0 normal, 1 anomaly) and ``test.kind.labels``
(``normal``, or how the line was spoilt). A line is ``LEVEL component: message``; timestamps are dropped, as they are
before such text is modelled. Addresses are from the ranges kept for documentation (RFC 5737), and no log is quoted.
"""

import argparse
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")

NETWORKS = ("192.0.2", "198.51.100", "203.0.113")

PATHS = (
    "/v1/orders",
    "/v1/orders/new",
    "/v1/items",
    "/v1/items/search",
    "/v1/users/me",
    "/v1/cart",
    "/health",
    "/login",
)

FIELDS: dict[str, Callable[[random.Random], str]] = {
    "id": lambda r: f"{r.randrange(16**4):04x}",
    "ip": lambda r: f"{r.choice(NETWORKS)}.{r.randint(1, 254)}",
    "path": lambda r: r.choice(PATHS),
    "ms": lambda r: f"{r.choice((1, 2, 3, 5, 8, 12, 20, 35, 60, 90))}ms",
    "seconds": lambda r: f"{r.choice((1, 2, 5, 10, 30, 60))}s",
    "count": lambda r: str(r.choice((1, 2, 3, 4, 5, 8, 16, 32, 64, 100))),
    "percent": lambda r: f"{r.randint(1, 99)}%",
    "user": lambda r: f"user{r.randint(1, 60)}",
    "table": lambda r: r.choice(("orders", "items", "users", "sessions", "invoices")),
    "queue": lambda r: r.choice(("mail", "invoice", "search", "export")),
    "file": lambda r: f"/srv/data/{r.choice(('export', 'backup', 'upload'))}-{r.randint(1, 40)}.csv",
    "shard": lambda r: f"shard-{r.randint(1, 8)}",
    "ok": lambda r: r.choice(("200", "200", "200", "201", "204")),
    "bad": lambda r: r.choice(("500", "502", "503")),
}  # fmt: skip
"""How the value of each field is drawn."""


@dataclass(frozen=True)
class Template:
    """A message of one component, always at the same level; ``weight`` is how common it is."""

    component: str
    level: str
    message: str
    weight: int

    @property
    def fields(self) -> list[str]:
        return [word.split("}")[0] for word in self.message.split("{")[1:]]


TEMPLATES = [
    Template(component, level, message, weight)
    for component, messages in {
        "gateway": [
            ("INFO", "request {id} from {ip} to {path} gave {ok} in {ms}", 30),
            ("INFO", "connection from {ip} opened on {shard}", 8),
            ("DEBUG", "connection from {ip} closed after {seconds}", 8),
            ("WARN", "request {id} from {ip} to {path} is slow at {seconds}", 3),
            ("ERROR", "request {id} from {ip} to {path} gave {bad} in {ms}", 2),
            ("WARN", "rate limit of {count} requests reached by {ip}", 2),
        ],
        "auth": [
            ("INFO", "{user} signed in from {ip}", 10),
            ("INFO", "{user} signed out after {seconds}", 6),
            ("WARN", "wrong password of {user} from {ip} on attempt {count}", 3),
            ("DEBUG", "token {id} of {user} renewed for {seconds}", 8),
            ("ERROR", "key store cannot be reached after {count} attempts", 1),
        ],
        "store": [
            ("DEBUG", "query on {table} read {count} rows in {ms}", 14),
            ("INFO", "{count} rows of {table} written to {shard}", 8),
            ("WARN", "lock on {table} held for {seconds} by transaction {id}", 2),
            ("ERROR", "transaction {id} on {table} rolled back after {ms}", 1),
            ("INFO", "replica {shard} is {count} rows behind", 3),
        ],
        "worker": [
            ("INFO", "job {id} taken from queue {queue}", 10),
            ("INFO", "job {id} of queue {queue} done in {seconds}", 10),
            ("WARN", "job {id} of queue {queue} put back after {count} attempts", 2),
            ("DEBUG", "queue {queue} holds {count} jobs", 6),
            ("INFO", "file {file} written with {count} rows", 4),
        ],
        "monitor": [
            ("DEBUG", "disk of {shard} is {percent} full", 6),
            ("INFO", "backup {file} finished in {seconds}", 2),
            ("WARN", "memory of {shard} at {percent}", 2),
            ("ERROR", "no heartbeat of {shard} for {seconds}", 1),
        ],
    }.items()
    for level, message, weight in messages
]

SIGNS = "abcdefghijklmnopqrstuvwxyz0123456789#@!?*~^"


class Logs:
    """Writes lines, normal ones and anomalies, all from one seed."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self._kinds = (self.wrong_level, self.other_component, self.swapped_fields, self.truncated, self.noise)

    def normal(self) -> str:
        return self._line(self._template())

    def anomaly(self) -> tuple[str, str]:
        """(kind, line): each kind as often as the others."""
        kind = self._random.choice(self._kinds)
        return kind.__name__, kind()

    def wrong_level(self) -> str:
        """A message at a level that it never has."""
        template = self._template()
        return self._line(template, level=self._random.choice([each for each in LEVELS if each != template.level]))

    def other_component(self) -> str:
        """A message of one component under the name of another."""
        template = self._template()
        names = sorted({each.component for each in TEMPLATES} - {template.component})
        return self._line(template, component=self._random.choice(names))

    def swapped_fields(self) -> str:
        """Two fields of different kinds with each other's values."""
        template = self._template(lambda each: len(set(each.fields)) > 1)
        one, other = self._random.sample(range(len(template.fields)), 2)
        while template.fields[one] == template.fields[other]:
            one, other = self._random.sample(range(len(template.fields)), 2)
        values = self._values(template)
        values[one], values[other] = values[other], values[one]
        return _written(template, values)

    def truncated(self) -> str:
        """A line that breaks off within its message."""
        template = self._template()
        line = self._line(template)
        head = len(f"{template.level} {template.component}: ")
        return line[: self._random.randint(head + 2, len(line) - 3)].rstrip()

    def noise(self) -> str:
        """A line with three to eight characters of its message replaced."""
        template = self._template()
        line = list(self._line(template))
        head = len(f"{template.level} {template.component}: ")
        places = self._random.sample(range(head, len(line)), min(self._random.randint(3, 8), len(line) - head))
        for place in places:
            line[place] = self._random.choice([sign for sign in SIGNS if sign != line[place]])
        return "".join(line)

    def _template(self, fits: Callable[[Template], bool] = lambda template: True) -> Template:
        fitting = [template for template in TEMPLATES if fits(template)]
        return self._random.choices(fitting, [template.weight for template in fitting])[0]

    def _values(self, template: Template) -> list[str]:
        return [FIELDS[name](self._random) for name in template.fields]

    def _line(self, template: Template, *, level: str | None = None, component: str | None = None) -> str:
        return _written(template, self._values(template), level=level, component=component)


def _written(
    template: Template, values: Sequence[str], *, level: str | None = None, component: str | None = None
) -> str:
    first, *rest = template.message.split("{")
    message = first + "".join(value + part.split("}", 1)[1] for value, part in zip(values, rest, strict=True))
    return f"{level or template.level} {component or template.component}: {message}"


def write(folder: Path, rows: int, seed: int, anomalies: float) -> None:
    """The splits and the labels of the test split; the count of anomalies is exact, their places are drawn."""
    logs, places = Logs(seed), random.Random(seed + 1)
    folder.mkdir(parents=True, exist_ok=True)
    _save(folder / "train.txt", [logs.normal() for _ in range(rows)])
    _save(folder / "valid.txt", [logs.normal() for _ in range(max(1, rows // 10))])
    size = max(1, rows // 5)
    planted = set(places.sample(range(size), max(1, round(anomalies * size))))
    test = [logs.anomaly() if row in planted else ("normal", logs.normal()) for row in range(size)]
    _save(folder / "test.txt", [line for _, line in test])
    _save(folder / "test.labels", [str(int(kind != "normal")) for kind, _ in test])
    _save(folder / "test.kind.labels", [kind for kind, _ in test])


def _save(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder")
    parser.add_argument("--rows", type=int, default=50_000, help="lines to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--anomalies", type=float, default=0.015, help="share of the test lines that are anomalies")
    arguments = parser.parse_args(argv)
    write(arguments.out, arguments.rows, arguments.seed, arguments.anomalies)


if __name__ == "__main__":
    main()
