"""Datasets of the Hugging Face Hub, by name: ``hub:OWNER/NAME``, and options behind it.

``,config=C,split=S,revision=R,shard=I/N``: the last is share I, from 0, of N shares that are dealt out.

Only data files are read; a dataset that would need code of its own to be run is refused by `datasets` itself.
"""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from seqvae.data.quiet import quiet_datasets
from seqvae.data.sources import Row
from seqvae.data.spool import SpooledSource
from seqvae.data.tables import check_columns, to_row
from seqvae.errors import Location, SeqVAEError

PREFIX = "hub:"
_OPTIONS = ("config", "split", "revision", "shard")
_SPLITS = {"valid": "validation"}
_SPELLING = "write `hub:OWNER/NAME`, and behind it what is needed of `,config=C,split=S,revision=R,shard=I/N`"


def open_dataset(name: str, *, text_column: str, label_column: str | None, split: str) -> SpooledSource:
    """The rows of one split of a dataset; fetched when they are first needed. ``split`` holds where ``name`` has none.

    Raises E224 for a name that is not spelled as above; when read: E323 where it cannot be had, E320 and E321.
    """
    dataset, options = _parsed(name)
    options.setdefault("split", _SPLITS.get(split, split))
    columns = {"text_column": text_column, "label_column": label_column}
    return SpooledSource(
        name=name,
        key={"hub": dataset, **options, **columns},
        read=lambda: _rows(name, dataset, options, text_column, label_column),
        has_labels=label_column is not None,
    )


def _parsed(name: str) -> tuple[str, dict[str, str]]:
    dataset, *given = name.removeprefix(PREFIX).split(",")
    options = {}
    for item in given:
        key, equals, value = item.partition("=")
        if not equals or not value or key not in _OPTIONS or key in options:
            close = get_close_matches(key, _OPTIONS, n=1)
            guess = f"did you mean `{close[0]}`? " if close and key not in options else ""
            raise SeqVAEError("E224", f"`{item}` in {name} cannot be read", hint=guess + _SPELLING)
        options[key] = value
    share, _, shares = options.get("shard", "0/1").partition("/")
    if not (share.isdecimal() and shares.isdecimal() and int(share) < int(shares)):
        what = f"`shard={options['shard']}` in {name} is no share I/N, of N that count from 0"
        raise SeqVAEError("E224", what, hint=_SPELLING)
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", dataset):
        raise SeqVAEError("E224", f"`{dataset}` is no name of a dataset", hint=_SPELLING)
    return dataset, options


def _rows(
    name: str, dataset: str, options: dict[str, str], text_column: str, label_column: str | None
) -> Iterator[Row]:
    wanted = [text_column, *([] if label_column is None else [label_column])]
    for number, (values, classes) in enumerate(_records(name, dataset, options, wanted), 1):
        if label_column is not None and classes is not None and values[label_column] is not None:
            label = values[label_column]
            values[label_column] = classes[label] if label >= 0 else None  # as the Hub marks a row without a label
        yield to_row(name, number, values, *wanted)


def _records(
    name: str, dataset: str, options: dict[str, str], wanted: list[str]
) -> Iterator[tuple[dict[str, Any], list[str] | None]]:
    """Each row by column, and the names of the classes where the last column that is wanted has numbers of such."""
    import datasets
    from datasets.distributed import split_dataset_by_node

    try:
        with quiet_datasets() as cache:
            table = datasets.load_dataset(
                dataset,
                options.get("config"),
                split=options["split"],
                revision=options.get("revision"),
                streaming=True,
                cache_dir=None if cache is None else str(cache),
            )
            if "shard" in options:
                # Whole files, where they can be dealt out evenly; else every N-th row.
                share, shares = map(int, options["shard"].split("/"))
                table = split_dataset_by_node(table, rank=share, world_size=shares)
            names = table.column_names or list(next(iter(table), {}))
            check_columns(names, wanted, Location(name))
            feature = (table.features or {}).get(wanted[-1])
            classes = feature.names if isinstance(feature, datasets.ClassLabel) else None
            for values in table.select_columns(wanted):
                yield values, classes
    except SeqVAEError:
        raise
    except Exception as error:  # `datasets` and what it stands on raise of every kind
        first = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "check the name and the network; what was fetched before is found in the cache, and a downloaded file "
        hint += "(.parquet, .jsonl, .csv) can be named instead"
        raise SeqVAEError("E323", f"the dataset cannot be had from the Hub: {first}", where=name, hint=hint) from error
