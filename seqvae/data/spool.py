"""Rows that another library reads, kept in the cache as JSON lines: fetched once, then read as often as needed."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from seqvae.data.cache import kept, sweep, user_cache
from seqvae.data.sources import Row, Source
from seqvae.io import disk, manifests

FILE_NAME = "rows.jsonl"


@dataclass(frozen=True, kw_only=True)
class SpooledSource(Source):
    """What ``read`` gives, read when it is first needed; ``key`` names the entry of the cache.

    What has been fetched stays as it is, whatever becomes of its origin: a resumed run sees the same rows, also
    without a network. To have it anew, delete the folder.
    """

    key: Mapping[str, object]
    read: Callable[[], Iterable[Row]]
    has_labels: bool

    @property
    def labelled(self) -> bool:
        return self.has_labels

    @cached_property
    def folder(self) -> Path:
        """The entry of the cache, made if need be."""
        name = hashlib.sha256(json.dumps(dict(self.key), sort_keys=True).encode()).hexdigest()
        sweep(user_cache() / "spooled")
        return kept(user_cache() / "spooled" / name, self._write, lambda folder: folder)

    def _write(self, folder: Path) -> None:
        disk.write_json(folder / "source.json", dict(self.key))
        with (folder / FILE_NAME).open("w", encoding="utf-8", newline="\n") as file:
            for row in self.read():
                file.write(json.dumps([row.text, row.label, row.joined], ensure_ascii=False) + "\n")

    def identity(self) -> dict[str, object]:
        digest = manifests.recorded_sha256(self.folder, FILE_NAME)
        return {"sha256": digest, "part": self.part, "fraction": self.fraction}

    def _all_rows(self) -> Iterator[Row]:
        with (self.folder / FILE_NAME).open("rb") as file:
            for number, line in enumerate(file, 1):
                text, label, joined = json.loads(line)
                yield Row(number, text, label, joined)
