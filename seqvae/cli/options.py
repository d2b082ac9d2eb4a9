"""Options that several verbs share, and the model and the text that they act on."""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from seqvae.bounds import LARGEST_SEED, MOST_IW_SAMPLES
from seqvae.cli import completion
from seqvae.cli.console import say
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    import torch

    from seqvae.config import Config
    from seqvae.data.corpora import DataConfig
    from seqvae.data.store import TokenStore
    from seqvae.generation.decoding import DecodeConfig
    from seqvae.textvae import TextVAE

ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="C",
        help="A YAML file, or the name of a shipped config.",
        autocompletion=completion.configs,
    ),
]
ChangesOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="A.B=C", help="Change a setting; may be repeated.", autocompletion=completion.settings
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(
        "--model",
        metavar="DIR",
        help="A run or model folder, or USER/NAME on the Hub.",
        show_default="the newest run in ./runs",
        autocompletion=completion.runs,
    ),
]
DeviceOption = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")]


def seed_option(what: str, **shown: str) -> Any:
    """``--seed N`` of a verb: any seed that a generator takes."""
    return typer.Option("--seed", metavar="N", min=0, max=LARGEST_SEED, help=what, **shown)


def iw_samples_option(what: str, **shown: str) -> Any:
    """``--iw-samples K`` of a verb."""
    return typer.Option("--iw-samples", metavar="K", min=1, max=MOST_IW_SAMPLES, help=what, **shown)


SeedOption = Annotated[int | None, seed_option("Seed of whatever is drawn.", show_default="a new one, named on stderr")]
TextColumnOption = Annotated[
    str | None,
    typer.Option("--text-column", metavar="NAME", help="Column of a table that is the text.", show_default="text"),
]
GreedyOption = Annotated[bool, typer.Option("--greedy", help="Write the likeliest token at each step.")]
BeamOption = Annotated[int | None, typer.Option("--beam", metavar="K", help="Beam search with K hypotheses.")]
UnkOption = Annotated[bool, typer.Option("--allow-unk", help="Let <unk> be written.")]
TemperatureOption = Annotated[
    float | None, typer.Option("--temperature", metavar="T", help="Draw tokens, logits divided by T.")
]
TopKOption = Annotated[
    int | None, typer.Option("--top-k", metavar="K", help="Draw tokens from the K likeliest of each step.")
]
TopPOption = Annotated[
    float | None, typer.Option("--top-p", metavar="P", help="Draw tokens from the likeliest that hold probability P.")
]
LengthOption = Annotated[
    int, typer.Option("--max-length", metavar="N", help="Most tokens in a sentence, its end counted.")
]
LabelOption = Annotated[
    str | None, typer.Option("--label", metavar="NAME", help="Label of the sentences, for a conditional model.")
]

Split = Literal["train", "valid", "test"]

_WORDS_SHOWN = 10


def load_model(path: Path | None, device: str) -> tuple["TextVAE", Path]:
    """The model that ``--model`` names, or that of the newest run (named on stderr), and its model folder."""
    from seqvae.io import pretrained
    from seqvae.training.runtime import choose_device

    folder = pretrained.model_folder(_newest_run() if path is None else path)
    return pretrained.load(folder, device=choose_device(device)), folder


def _newest_run() -> Path:
    from seqvae.training.run import newest_run

    newest = newest_run(with_model=True)
    if newest is None:
        hint = "train one: `seqvae train --config tiny.yaml`, or name a folder with `--model`"
        raise SeqVAEError("E404", "there is no model under ./runs", hint=hint)
    say(f"model    {newest}")
    return newest


def run_config(folder: Path) -> "Config | None":
    """The config of the run that a model folder lies in; None for a folder that was copied out of its run.

    Whatever else is called ``config.yaml`` beside a model is not ours.
    """
    from seqvae.config import Config
    from seqvae.training.run import CONFIG, MODEL, PROVENANCE

    folder = folder.resolve()
    is_run = folder.name == MODEL and all((folder.parent / name).is_file() for name in (CONFIG, PROVENANCE))
    return Config.from_yaml(folder.parent / CONFIG) if is_run else None


SplitOption = Annotated[
    Split | None,
    typer.Option(
        "--split",
        help="Part of the model's own data to measure on.",
        show_default="test; valid where the run has no test text",
    ),
]


def split_to_measure(folder: Path, split: Split | None, file: Path | None) -> Split:
    """``--split``, or else the test text, or the validation text of a run that has no other (said on stderr)."""
    from seqvae.data.corpora import resolve

    config = run_config(folder) if split is None and file is None else None
    if config is None or "test" in resolve(config.data, required=()):
        return split or "test"
    say("note     the run has no test text: this is its validation text, by which the weights were chosen")
    return "valid"


MeasuredOption = Annotated[
    Split | None,
    typer.Option(
        "--split",
        help="Part of the data whose numbers are taken.",
        show_default="test; valid where that alone was measured",
    ),
]


def measured_split(runs: Sequence[Path], split: Split | None) -> Split:
    """``--split``, or else test, or valid where `seqvae eval` measured that in every run and test in none."""
    if split is not None:
        return split
    kept = list(map(_measured_splits, runs))
    if "valid" in set.intersection(*kept) and "test" not in set.union(*kept):
        say("note     the validation text was measured and no test text: these are its numbers")
        return "valid"
    return "test"


def _measured_splits(run: Path) -> set[str]:
    from seqvae.io import pretrained

    try:
        return set(pretrained.evaluated_splits(pretrained.model_folder(run)))
    except SeqVAEError:  # told by what reads the numbers
        return set()


def text_settings(
    folder: Path, split: Split, file: Path | None, **reading: str | bool | None
) -> tuple["DataConfig", Split]:
    """What `read_sentences` reads: the settings of the text, and which split of it.

    Raises E214 where the folder does not tell, E220 for a training text that no disk may hold.
    """
    from seqvae.data.corpora import DataConfig

    given = {name: value for name, value in reading.items() if value is not None}
    if file is not None:
        return DataConfig(test=file, **given), "test"
    config = run_config(folder)
    if config is None:
        what = "this model folder does not say which text it belongs to"
        raise SeqVAEError("E214", what, where=str(folder), hint="name a text file with `--input FILE`")
    if split == "train":
        hint = "name another text (`--input FILE`, of explore `--corpus FILE`), or where it can be, `--split valid`"
        refuse_shards(config.data, where=str(folder), hint=hint)
    return config.data.model_copy(update=given), split


def refuse_shards(
    data: "DataConfig",
    *,
    where: str | None = None,
    hint: str = "name a text of your own: `--set data.train=FILE --set data.shards=false`",
) -> None:
    """Raises E220 where the training text is more than one disk may hold."""
    if data.shards:
        what = "the training text is dealt out by data.shards, and no verb reads it whole"
        raise SeqVAEError("E220", what, where=where, hint=hint)


COLUMN = ("--text-column",)
COLUMN_AND_LABELS = (*COLUMN, "--label-column", "--labels")


@contextlib.contextmanager
def naming_options(options: Sequence[str] = COLUMN) -> Iterator[None]:
    """Errors raised within name the ``options`` of a verb in place of the settings that they stand for."""
    try:
        yield
    except SeqVAEError as error:
        error.what, error.hint = _in_options(error.what, options), _in_options(error.hint or "", options) or None
        raise


def _in_options(text: str, options: Sequence[str]) -> str:
    if "--label-column" not in options:
        text = text.replace(" or `data.label_column`", "")
    for option in options:
        text = text.replace("data." + option.removeprefix("--").replace("-", "_"), option)
    return text


def read_sentences(
    folder: Path,
    vae: "TextVAE",
    split: Split,
    file: Path | None,
    *,
    options: Sequence[str] = COLUMN,
    **reading: str | bool | None,
) -> "TokenStore":
    """The sentences of ``file``, or of a split of the model's own data; what is remarkable goes to stderr.

    ``reading``: settings of ``data``, such as ``text_column``, in place of those of the run; None leaves them.
    ``options``: which of them the verb has as options.
    """
    from seqvae.data.store import prepare

    data, split = text_settings(folder, split, file, **reading)
    try:
        with naming_options(options):
            prepared = prepare(data, vae.tokenizer, splits=[split], classes=vae.labels)
    except SeqVAEError as error:
        if error.code == "E310" and file is not None:
            error.hint = "shorten the sentence, or take it out of the file"
        if error.code != "E220":
            raise
        hint = f"name another split, or a text file with `--input FILE`; the run was given {_given(data)}"
        raise SeqVAEError("E220", f"the run has no {split} text", where=str(folder), hint=hint) from None
    for note in prepared.notes:
        say(f"note     {note if file is None else note.replace(split, str(file), 1)}")
    return prepared.splits[split]


def labels_of_input(folder: Path, vae: "TextVAE", file: Path | None, *, otherwise: str = "") -> dict[str, str | bool]:
    """How the labels of ``file`` are read for a conditional model: as those of its run, of a file beside the text.

    Of a table, from the column that the run names. Raises E282 where there are none; ``otherwise`` ends its hint.
    """
    from seqvae.data.sources import STDIN, TextSource, has_columns

    if file is None or vae.labels is None:
        return {}
    config = run_config(folder)
    column, labels = (None, True) if config is None else (config.data.label_column, config.data.labels or True)
    hint = "write the text to a file, and its labels, a line each, into FILE.labels beside FILE.txt"
    if has_columns(str(file)):
        if column is not None:
            return {"label_column": column}
    elif str(file) != STDIN:
        source = TextSource.of(file, labels)
        if source.labels.exists() or not source.path.exists():
            return {"labels": labels}
        hint = f"write the label of each line into {source.labels}"
    what = "this model is conditional: it needs the label of each sentence"
    raise SeqVAEError("E282", what, where=str(file), hint=hint + otherwise)


def _given(data: "DataConfig") -> str:
    return ", ".join(f"data.{split}" for split in ("train", "valid", "test") if getattr(data, split) is not None)


def tell_waiting(*origins: object) -> None:
    """Say on stderr that a verb waits for text to be typed, where one of ``origins`` is ``-`` and nothing is piped."""
    if "-" in map(str, origins) and sys.stdin.isatty():
        say("input    reading lines from the terminal; Ctrl-D ends them")


def tell_unknown_words(vae: "TextVAE", texts: Sequence[str]) -> None:
    """Name on stderr the words (characters, pieces) that the model cannot know: nothing of them can come back."""
    from seqvae.types import SPECIALS, UNK

    tokenizer = vae.tokenizer
    read = (zip(tokenizer.tokens(text), tokenizer.encode(text), strict=True) for text in texts)
    unknown = dict.fromkeys(token for pairs in read for token, identity in pairs if identity == UNK)
    shown = [repr(token) for token in unknown if token != SPECIALS[UNK]]
    if shown:
        more = f" and {len(shown) - _WORDS_SHOWN} more" if len(shown) > _WORDS_SHOWN else ""
        say(f"note     {tokenizer.unit}s that the model does not know: {', '.join(shown[:_WORDS_SHOWN])}{more}")


def chosen_seed(seed: int | None) -> int:
    """``--seed``, or a new one that is named on stderr so that the result can be had again."""
    if seed is not None:
        return seed
    import secrets

    drawn = secrets.randbelow(1_000_000)
    say(f"seed     {drawn}")
    return drawn


def decoding(
    *, default: Literal["greedy", "sample"], greedy: bool, beam: int | None, allow_unk: bool, max_length: int, **drawn
) -> "DecodeConfig":
    """The decoding that the options ask for; options that contradict each other are refused."""
    from seqvae.generation.decoding import DecodeConfig

    given = {name: value for name, value in drawn.items() if value is not None}
    asked = {"greedy": greedy, "beam": beam is not None, "sample": bool(given)}
    wanted = [name for name, is_asked in asked.items() if is_asked]
    if len(wanted) > 1:
        options = {"greedy": "--greedy", "beam": "--beam", "sample": "--" + next(iter(given), "").replace("_", "-")}
        what = f"{options[wanted[0]]} and {options[wanted[1]]} contradict each other"
        raise SeqVAEError("E215", what, hint="--greedy and --beam draw nothing; leave one of the two away")
    if beam is not None:
        given["beam_size"] = beam
    strategy = wanted[0] if wanted else default
    return DecodeConfig(strategy=strategy, allow_unk=allow_unk, max_length=max_length, **given)


def drawing_generator(seed: int | None, config: "DecodeConfig") -> "torch.Generator":
    """What a decoding draws its tokens from. A seed is named on stderr only where something is drawn."""
    import torch

    return torch.Generator().manual_seed(chosen_seed(seed) if config.strategy == "sample" else 0)
