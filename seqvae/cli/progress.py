"""What long verbs show on stderr: a table that grows with a bar under it on a terminal, plain lines elsewhere."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from seqvae.cli.console import emit_lines, narration, say
from seqvae.io.disk import jsonable

if TYPE_CHECKING:
    from rich.progress import Progress

    from seqvae.data.catalogue import ProgressBar
    from seqvae.data.progress import Told
    from seqvae.evaluation.likelihood import OnProgress

Observer = Callable[[Mapping[str, Any]], None]


@contextlib.contextmanager
def training_display(*, as_json: bool) -> Iterator[list[Observer]]:
    """Observers for ``train``: plain lines on stderr, a live bar where stderr is a terminal, JSON lines on stdout."""
    from seqvae.training.loggers import PlainLog

    observers: list[Observer] = [_while_it_lasts(_print_json, "stdout")] if as_json else []
    if not narration().is_terminal:
        yield [*observers, _while_it_lasts(PlainLog(sys.stderr), "stderr")]
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    name, now = TextColumn("{task.description}", markup=False), TextColumn("{task.fields[now]}")
    columns = (name, BarColumn(), MofNCompleteColumn(), now)
    # Rich would send what is printed on stdout to stderr, to keep it above the bar; but that is data.
    progress = Progress(*columns, console=narration(), transient=True, redirect_stdout=False)
    with contextlib.ExitStack() as stack:
        stack.callback(_stop, progress)
        progress.start()
        yield [*observers, _while_it_lasts(LiveTable(progress), "the terminal")]


def _stop(progress: "Progress") -> None:
    with contextlib.suppress(OSError):
        progress.stop()


def _while_it_lasts(observer: Observer, place: str) -> Observer:
    """``observer``, dropped where its pipe or terminal is gone: what a run learns outlives who watches it."""
    lasts = True

    def observe(event: Mapping[str, Any]) -> None:
        nonlocal lasts
        if not lasts:
            return
        try:
            observer(event)
        except OSError as error:
            lasts = False
            say(f"note     nothing more is shown on {place} ({error.strerror or error}); the run goes on")

    return observe


@contextlib.contextmanager
def evaluation_display(sentences: int) -> Iterator["OnProgress | None"]:
    """What ``evaluate`` reports its progress to: a bar where stderr is a terminal, else nothing."""
    if not narration().is_terminal:
        yield None
        return
    from rich.progress import Progress

    with Progress(console=narration(), transient=True) as progress:
        bar = progress.add_task("evaluating", total=sentences)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


@contextlib.contextmanager
def preparing_display(workers: int | None) -> Iterator["Told"]:
    """What preparing reports to: a line that changes where stderr is a terminal, else one every ten seconds."""
    from seqvae.data.progress import Told

    if not narration().is_terminal:
        yield Told(say, workers=workers)
        return
    from rich.progress import Progress, SpinnerColumn, TextColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False))
    with Progress(*columns, console=narration(), transient=True) as progress:
        line = progress.add_task("preparing")
        yield Told(lambda text: progress.update(line, description=text), workers=workers, every_s=0.1)


@contextlib.contextmanager
def download_bar() -> Iterator["Callable[[], ProgressBar] | None"]:
    """What makes the bar of each file of a download, where stderr is a terminal; else nothing."""
    if not narration().is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    with Progress(
        BarColumn(), DownloadColumn(), TimeRemainingColumn(), console=narration(), transient=True
    ) as progress:
        yield lambda: _DownloadBar(progress)


class _DownloadBar:
    """One file of a download, as pooch reports it."""

    def __init__(self, progress: "Progress"):
        self._progress, self._task = progress, progress.add_task("", total=None)

    @property
    def total(self) -> int:
        return int(self._progress.tasks[self._task].total or 0)

    @total.setter
    def total(self, size: int) -> None:
        self._progress.update(self._task, total=size)

    def update(self, size: int) -> None:
        self._progress.advance(self._task, size)

    def reset(self) -> None:
        self._progress.reset(self._task)

    def close(self) -> None:
        self._progress.stop_task(self._task)


def _print_json(event: Mapping[str, Any]) -> None:
    emit_lines([json.dumps(jsonable(event), ensure_ascii=False)])


class LiveTable:
    """Rows of validation above a bar that says where training stands."""

    def __init__(self, progress: "Progress"):
        from seqvae.training.loggers import Rows

        self._progress, self._rows = progress, Rows()
        self._bar = progress.add_task("", total=None, now="", start=False)

    def __call__(self, event: Mapping[str, Any]) -> None:
        from rich.text import Text

        from seqvae.training.loggers import duration

        for line in self._rows.render(event, train_rows=False):
            self._progress.console.print(Text(line, style="bold" if line.endswith(" best") else ""))
        if event["event"] in ("phase", "resume"):
            self._progress.start_task(self._bar)
            self._progress.update(self._bar, description=event["name"], total=event["total_steps"])
        if "step" in event:
            self._progress.update(self._bar, completed=event["step"])
        if event["event"] == "train":
            left = self._rows.seconds_left(event["step"])
            now = f"rec {event['rec_nats']:.2f}  kl {event['kl_nats']:.2f}  beta {event['kl_weight']:.2f}"
            now += f"  {event['tokens_per_s']:,.0f} tok/s" + ("" if left is None else f"  {duration(left)} left")
            self._progress.update(self._bar, now=now)
