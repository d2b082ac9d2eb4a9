"""Several processes that train together: ``python ranks.py FOLDER PROCESSES PORT``.

Each goes through every scenario below, and writes what it came to into ``FOLDER/<scenario>.<rank>.json``. They are
forked once all is imported, and get the environment that torchrun makes.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from signal import SIGTERM
from typing import Any
from unittest import mock

import datasets
import torch
import torch._dynamo  # what the first optimizer would import in each process
from training_toys import (
    NO_DROPOUT,
    WORDS,
    Events,
    StopsAt,
    bytes_of,
    last_checkpoint,
    phase_of,
    sentences,
    toy_trainer,
)

import seqvae
from seqvae.config import Config
from seqvae.data.store import prepare
from seqvae.errors import SeqVAEError
from seqvae.io import disk, storage
from seqvae.objectives.adversarial import AdversarialConfig
from seqvae.objectives.aggressive import AggressiveConfig
from seqvae.objectives.base import Strategy, StrategyConfig
from seqvae.objectives.registry import strategy_types
from seqvae.objectives.word_dropout import WordDropoutConfig
from seqvae.training import phases as phases_module
from seqvae.training.distributed import World, joined
from seqvae.training.trainer import Trainer

QUIET = {"model": NO_DROPOUT, "train": {"epochs": 2, "monitor": "rec", "optimizer": {"name": "sgd", "lr": 0.3}}}
"""Sums over sentences without noise: any number of processes makes the same updates."""
CHANGES = {"once": {}, "summed": {"train": {"accumulate": 3}}}
RESET = {"train": {"phases": [{"name": "one", "epochs": 1}, {"name": "two", "epochs": 1, "reset": ["encoder"]}]}}
NOISY = {"train": {"steps": 11, "validate_every": 4}}
FAMILIES = ("batchnorm", "delta", "iaf", "vmf")


class HookConfig(StrategyConfig):
    name: str = "hook"


class Quiet(Strategy):
    """No noise, while the KL keeps its weight."""

    def noise_scale(self, step):
        return 0.0


def quiet_trainer(folder: Path, changes: dict[str, Any], world: World | None = None) -> Trainer:
    train = QUIET["train"] | changes.get("train", {})
    several = "phases" in train
    sections = {"model": QUIET["model"], "train": train}
    phases = None if several else [phase_of(folder, HookConfig(), **sections)]
    if several:
        sections["objective"] = {"strategies": [{"name": "autoencoder"}]}
    return toy_trainer(folder, phases=phases, world=world, **sections)


def use(hook: type[Strategy]) -> None:
    """Phases with a `HookConfig` have this strategy."""
    phases_module.build_strategy = lambda c: hook(c) if isinstance(c, HookConfig) else BUILD(c)


BUILD = phases_module.build_strategy


def digest(trainer: Trainer) -> str:
    """Of everything that ranks must have alike: weights, those of methods, and what their optimizers keep."""
    tensors = bytes_of(trainer.model) | {f"s.{name}": value for name, value in bytes_of(trainer.objective).items()}
    for name, optimizer in trainer.optimizers.items():
        for index, state in optimizer.state_dict()["state"].items():
            tensors |= {f"o.{name}.{index}.{key}": bytes_of({"x": torch.as_tensor(v)})["x"] for key, v in state.items()}
    return hashlib.sha256(b"".join(name.encode() + tensors[name] for name in sorted(tensors))).hexdigest()


def trajectory(world: World, folder: Path) -> Any:
    """Runs that any number of processes makes alike: what was logged, and the rows of this rank."""
    found = {}
    use(Quiet)
    for name, changes in (CHANGES | {"reset": RESET}).items():
        trainer = quiet_trainer(folder / name, changes, world)
        assert trainer.fit()
        plan = [rows.tolist() for rows in trainer.task.plan(0)]
        found[name] = {"events": trainer.task.observe.timeless(), "plan": plan, "digest": digest(trainer)}
    return found


def methods(world: World, folder: Path) -> Any:
    """A few noisy steps of every method, and of the families: what each ends with."""
    quick = {"aggressive": {"inner_steps": 3, "window": 2}, "semi_amortised": {"steps": 2}}
    needed = {"beta": {"beta": 0.5}}
    found = {}
    for name, strategy in strategy_types().items():
        config = strategy.Config(**quick.get(name, {}) | needed.get(name, {}))
        # A language model leaves the networks that methods have for z without a gradient.
        for latent in (3, 0) if strategy.build is not Strategy.build else (3,):
            changes = {"model": {"latent_dim": latent}, "train": {"steps": 3}}
            place = folder / f"{name}-{latent}"
            trainer = toy_trainer(place, phases=[phase_of(place, config, **changes)], world=world, **changes)
            assert trainer.fit()
            found[place.name] = digest(trainer)
    for family in FAMILIES:
        posterior = {"family": family} | ({"delta_nats": 0.5} if family == "delta" else {})
        changes = {"model": {"posterior": posterior}, "train": {"steps": 4, "validate_every": 3}}
        trainer = toy_trainer(folder / family, world=world, **changes)
        assert trainer.fit()
        found[family] = digest(trainer)
    return found


def resets(world: World, folder: Path) -> Any:
    """A method, and the start of a phase, draw a part anew, from random states that differ between the ranks; the
    averages of weights and the best ones of the phase."""

    class Resets(Strategy):
        def after_update(self, loop, terms):
            loop.reset("decoder")

    use(Resets)
    changes = {"train": {"steps": 2}}
    trainer = toy_trainer(folder, phases=[phase_of(folder, HookConfig(), **changes)], world=world, **changes)
    assert trainer.fit()
    phases = [{"name": "one", "steps": 2}, {"name": "two", "steps": 3, "reset": ["decoder"]}]
    averaged = toy_trainer(folder / "averaged", world=world, train={"phases": phases, "average_decay": 0.9})
    assert averaged.fit()
    kept = averaged.average.tensors() | {f"best.{name}": value for name, value in averaged.best.items()}
    return [digest(trainer), hashlib.sha256(b"".join(bytes_of(kept)[name] for name in sorted(kept))).hexdigest()]


def resumed(world: World, folder: Path) -> Any:
    """A noisy run, whole; and one that a signal to the last rank stops, taken up again."""

    class Stops(Strategy):
        def before_update(self, loop):
            if loop.step == 5 and world.rank == world.size - 1:
                loop.stop.received = SIGTERM

    configs = [WordDropoutConfig(rate=0.3), AggressiveConfig(inner_steps=3, window=2), AdversarialConfig(hidden=4)]

    def trainer(name: str, *more: StrategyConfig) -> Trainer:
        place = folder / name
        return toy_trainer(place, phases=[phase_of(place, *configs, *more, **NOISY)], world=world, **NOISY)

    use(Stops)
    first = trainer("cut", HookConfig())
    finished = first.fit()
    stopped_at = first.progress.step
    use(Strategy)
    torch.manual_seed(99 + world.rank)
    world.told(lambda: "rank 0 has written its checkpoint")
    second = trainer("cut", HookConfig())
    assert second.fit(last_checkpoint(first))
    whole = trainer("whole", HookConfig())
    assert whole.fit()
    return {
        "stopped": [finished, stopped_at, str(first.stopped_by)],
        "digests": [digest(second), digest(whole)],
        "events": [[*first.task.observe.timeless(), *second.task.observe.timeless()], whole.task.observe.timeless()],
    }


def diverged(world: World, folder: Path) -> Any:
    """The last rank alone has a loss that is not finite, with and without a finite gradient."""
    found = []
    for bad in (lambda z: z.mean() * float("nan"), lambda z: float("inf"), lambda z: (z.sum() * 0).sqrt()):

        class Bad(Strategy):
            def penalty(self, terms, batch, step, generator, bad=bad):
                return bad(terms.z) if step == 2 and world.rank == world.size - 1 else 0.0

        use(Bad)
        changes = {"train": {"steps": 9}}
        trainer = toy_trainer(folder, phases=[phase_of(folder, HookConfig(), **changes)], world=world, **changes)
        try:
            trainer.fit()
        except SeqVAEError as error:
            found.append([error.code, trainer.progress.step, digest(trainer)])
    return found


def written(world: World, folder: Path) -> Any:
    """A whole run, in which every rank but the first may not write; stopped, to be resumed by another number."""
    events = Events()
    config = Config.from_yaml(folder.parent / "quiet.yaml")
    with ExitStack() as stack:
        writers = [(storage, "atomic_folder"), (storage, "recover"), (disk, "write_bytes"), (disk, "write_json")]
        for module, name in writers if world.rank > 0 else ():
            stack.enter_context(mock.patch.object(module, name, side_effect=AssertionError("this rank has written")))
        run = seqvae.train(config, out=folder / "stopped", observers=[StopsAt(6)])
        other = seqvae.train(config.replace("train.loggers=[tensorboard]"), out=folder / "whole", observers=[events])
        again = seqvae.train(config, resume=folder / "whole", observers=[events])
    return {"run": [run.finished, str(run.signal), other.finished, again.finished], "events": events}


def other_world(world: World, folder: Path) -> Any:
    """Goes on with what another number of processes was stopped in."""
    events = Events()
    run = seqvae.train(resume=folder.parent / "other", observers=[events])
    return {"finished": run.finished, "notes": [event["text"] for event in events.of("note")]}


def refused(world: World, folder: Path) -> Any:
    """Codes of mistakes, and whether anything was left behind."""
    config = Config.from_yaml(folder.parent / "quiet.yaml")
    mistakes: list[Callable[[], Any]] = [
        lambda: seqvae.train(config.replace(**{"data.batch_size": world.size - 1}), out=folder / "a"),
        lambda: seqvae.train(config.replace(**{"data.batch_tokens": 6}), out=folder / "b"),
        lambda: seqvae.train(config.replace(**{"data.train": "-"}), out=folder / "c"),
        lambda: seqvae.train(config.replace(**{"train.seed": world.rank}), out=folder / "d"),
        lambda: world.require_same({"files": "same", "hats": str(min(world.rank, 1))}),
    ]
    found = []
    for mistake in mistakes:
        try:
            mistake()
        except SeqVAEError as error:
            found.append([error.code, error.what])
    return {"refused": found, "left": sorted(path.name for path in folder.glob("*"))}


FILES = (10, 9, 7, 5)
"""Sentences in the files of a dataset that is dealt out: two processes get whole files, three every third sentence."""


def dealt(world: World, folder: Path) -> Any:
    """Each process reads its share of a dataset; a run that was stopped, and a whole one."""
    text = sentences(sum(FILES), seed=7)
    starts = [sum(FILES[:number]) for number in range(len(FILES))]

    def rows(files):
        for start, count in files:
            yield from ({"text": line} for line in text[start : start + count])

    files = {"files": list(zip(starts, FILES, strict=True))}
    datasets.load_dataset = lambda *_, **__: datasets.IterableDataset.from_generator(rows, gen_kwargs=files)
    if world.rank == 0:
        WORDS.save(folder.parent / "words")
    world.told(lambda: "the vocabulary is there")
    changes = {"train": "hub:some/thing", "shards": True, "batch_size": 6}
    config = Config.from_yaml(folder.parent / "quiet.yaml").replace(
        **{f"data.{name}": value for name, value in changes.items()},
        tokenizer={"name": "saved", "folder": folder.parent / "words"},
    )
    store = prepare(config.data.of_rank(world.rank, world.size), config.tokenizer).splits["train"]
    events = Events()
    stopped = seqvae.train(config, out=folder / "cut", observers=[StopsAt(4)])
    seqvae.train(resume=folder / "cut")
    seqvae.train(config, out=folder / "whole", observers=[events])
    refused = []
    for change in ({"data.batch_size": world.size + 1}, {"tokenizer": {"name": "word"}}):
        try:
            seqvae.train(config.replace(**change), out=folder / "refused")
        except SeqVAEError as error:
            refused.append([error.code, error.what])
    return {
        "rows": [store[row].tolist() for row in range(len(store))],
        "text": [WORDS.encode(line) for line in text],
        "stopped": not stopped.finished,
        "notes": [event["text"] for event in events.of("note")],
        "refused": refused,
    }


def lost(world: World, folder: Path) -> Any:
    """The last rank dies in an update; what the others are told."""

    class Dies(Strategy):
        def after_update(self, loop, terms):
            if loop.step == 2 and world.rank == world.size - 1:
                os._exit(0)

    use(Dies)
    changes = {"train": {"steps": 9}}
    with joined():
        toy_trainer(folder, phases=[phase_of(folder, HookConfig(), **changes)], world=world, **changes).fit()


SCENARIOS = {
    2: (trajectory, methods, resets, resumed, diverged, written, refused, dealt),
    3: (trajectory, resumed, diverged, other_world, refused, dealt),
}
"""By the number of processes: what three tell no more than two do is left to these."""


def go_through(folder: Path) -> None:
    code = None
    try:
        with joined() as world:
            for scenario in SCENARIOS[world.size]:
                use(Strategy)
                found = scenario(world, folder / scenario.__name__)
                path = folder / f"{scenario.__name__}.{world.rank}.json"
                path.write_text(json.dumps(disk.jsonable(found)), encoding="utf-8")
            lost(world, folder / "lost")
    except SeqVAEError as error:
        code = error.code
    (folder / f"lost.{world.rank}.json").write_text(json.dumps(code), encoding="utf-8")


def main(folder: Path, size: int, port: int) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "SEQVAE_CACHE": str(folder / "cache")}
    os.environ |= {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size)}
    children = []
    for rank in range(size):
        children.append(os.fork())
        if children[-1] == 0:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            go_through(folder)
            return
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
