"""The settings that a run was begun with, and whether it may go on with those that it is given."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from seqvae.config import Config
from seqvae.data.corpora import full_paths, in_full
from seqvae.errors import SeqVAEError
from seqvae.io import disk
from seqvae.training.layout import CONFIG, PROVENANCE
from seqvae.training.lock import LOCK


def rooted(config: Config) -> Config:
    """The same files from wherever the run is evaluated or gone on with: their paths in full."""
    paths = {f"data.{split}": path for split, path in full_paths(config.data).items()}
    if config.train.pretrained_embeddings is not None:
        paths["train.pretrained_embeddings.path"] = in_full(config.train.pretrained_embeddings.path)
    for setting in ("model_file", "folder"):
        if (given := getattr(config.tokenizer, setting, None)) is not None:
            paths[f"tokenizer.{setting}"] = in_full(given)
    return config.replace(**paths) if paths else config


def is_unused(folder: Path) -> bool:
    """Whether nothing stands there but what a process left that was killed before the run had its config."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".tmp-") or path.name == LOCK for path in folder.iterdir())


def resumed_config(folder: Path, config: Config | None, allow_change: Sequence[str] = ()) -> Config:
    """The config to go on with: that which the run was begun with, but for the settings that may change.

    ``allow_change`` names those in which a config that is given may differ; else it must agree. Raises E211 where it
    does not, and E219 for a setting that no run can go on with another value of.
    """
    for name in allow_change:
        if not _is_changeable(name):
            hint = f"begin a new run; what may change is, in a phase too: {', '.join(CHANGEABLE)}"
            raise SeqVAEError("E219", f"`{name}` cannot change in the midst of a run", hint=hint)
    path = folder / CONFIG
    if not path.is_file():
        if config is not None and is_unused(folder):
            return config
        raise SeqVAEError("E404", "there is no run to resume", where=str(folder), hint="`ls runs` shows the runs here")
    _require_own(path)
    saved = Config.from_yaml(path)
    if config is None:
        return saved
    changed = changed_settings(saved, config)
    refused = [name for name in changed if not is_within(name, allow_change)]
    if refused:
        hint = "resume without --config and --set, or begin a new run"
        if all(map(_is_changeable, refused)):
            hint += "; `" + " ".join(f"--allow-change {name}" for name in refused) + "` goes on with the new values"
        what = f"the run was begun with other settings: {', '.join(refused[:5])}"
        raise SeqVAEError("E211", what, where=str(path), hint=hint)
    return _like(saved, config)


CHANGEABLE = (
    *("train.optimizer.lr", "train.optimizer.betas", "train.optimizer.momentum", "train.optimizer.weight_decay"),
    *("train.schedule", "train.clip_norm", "train.epochs", "train.steps", "train.patience", "train.threads"),
    *("train.validate_every", "train.save_every", "train.keep_checkpoints", "train.log_every", "train.micro_tokens"),
    *("train.on_divergence", "train.max_rollbacks", "train.rollback_lr_factor", "eval"),
)
"""Settings, and sections of them, on which neither what a checkpoint holds nor the order of the data depends. What a
phase has of its own in place of them may change as they may: its updates are counted from its start."""


def is_within(name: str, places: Sequence[str]) -> bool:
    """Whether a setting is one of ``places``, or of a section among them."""
    return any(name == place or name.startswith(f"{place}.") for place in places)


def _is_changeable(name: str) -> bool:
    return is_within(re.sub(r"^train\.phases\.\d+\.", "train.", name), CHANGEABLE)


def keep_changes(folder: Path, config: Config, step: int) -> None:
    """Make ``config`` that of the run from update ``step`` on, where it differs; provenance.json tells what changed.

    The checksum comes first: killed in between, the run has a config that it had before.
    """
    changed = changed_settings(Config.from_yaml(folder / CONFIG), config)
    if not changed:
        return
    content = config.to_yaml().encode()
    provenance = disk.read_json(folder / PROVENANCE)
    known = provenance.get("config_sha256", [disk.sha256_file(folder / CONFIG)])
    provenance["config_sha256"] = [*known, hashlib.sha256(content).hexdigest()]
    provenance["changes"] = [*provenance.get("changes", []), {"step": step, "settings": changed}]
    disk.write_json(folder / PROVENANCE, provenance)
    disk.write_bytes(folder / CONFIG, content)


def refuse_changes(folder: Path, config: Config) -> None:
    """Raises E211 where ``config`` differs from that of a finished run, but for how it is measured and its threads."""
    changed = changed_settings(Config.from_yaml(folder / CONFIG), config)
    refused = [name for name in changed if not is_within(name, ("eval", "train.threads"))]
    if refused:
        what = f"the run is finished, and was trained with other settings: {', '.join(refused[:5])}"
        hint = "begin a new run with the new values: leave --resume away"
        raise SeqVAEError("E211", what, where=str(folder), hint=hint)


def _require_own(path: Path) -> None:
    """Raises E211 for a config that was edited, or damaged, since the run was begun. Runs of seqvae 0.1 cannot tell."""
    provenance = path.parent / PROVENANCE
    known = disk.read_json(provenance) if provenance.exists() else {}
    now = disk.sha256_file(path)
    if isinstance(known, dict) and now not in known.get("config_sha256", [now]):
        raise SeqVAEError(
            "E211",
            f"{CONFIG} is not as it was when the run was begun: it was edited, or damaged",
            where=str(path),
            hint="restore it; `seqvae train --resume RUN --set A.B=C --allow-change A.B` changes a setting on the way",
        )


def changed_settings(saved: Config, given: Config) -> list[str]:
    """The settings in which they differ. A run saves the thread count that null stood for, so null agrees with any;
    its paths are full ones; how many processes tokenize, and who is told of the run, makes no difference."""
    alike = _like(saved, given).replace(**{"train.loggers": saved.train.loggers})
    return _differences(rooted(saved).model_dump(), alike.model_dump())  # of an earlier release not all were full


def _like(saved: Config, given: Config) -> Config:
    """``given`` as a run saves it."""
    given = rooted(given)
    given = given.replace(**{"data.workers": saved.data.workers})
    return given.replace(**{"train.threads": saved.train.threads}) if given.train.threads is None else given


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [found for key in keys for found in _differences(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))]
    if _are_sections(a) and _are_sections(b) and len(a) == len(b):
        return _differences(dict(enumerate(a)), dict(enumerate(b)), path)
    return [] if a == b else [path]


def _are_sections(value: Any) -> bool:
    """Whether it is a list of sections, such as phases."""
    return isinstance(value, list | tuple) and all(isinstance(each, dict) for each in value)
