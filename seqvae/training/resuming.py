"""The settings that a run was begun with, and whether it may go on with those that it is given."""

from pathlib import Path
from typing import Any

from seqvae.config import Config
from seqvae.data.corpora import full_paths
from seqvae.errors import SeqVAEError
from seqvae.io import storage
from seqvae.training.layout import CONFIG, PROVENANCE
from seqvae.training.lock import LOCK


def rooted(config: Config) -> Config:
    """The same files from wherever the run is evaluated or gone on with: their paths in full."""
    paths = {f"data.{split}": path for split, path in full_paths(config.data).items()}
    if config.train.pretrained_embeddings is not None:
        vectors = config.train.pretrained_embeddings.path.expanduser().resolve()
        paths["train.pretrained_embeddings.path"] = vectors
    for setting in ("model_file", "folder"):
        if (given := getattr(config.tokenizer, setting, None)) is not None:
            paths[f"tokenizer.{setting}"] = given.expanduser().resolve()
    return config.replace(**paths) if paths else config


def is_unused(folder: Path) -> bool:
    """Whether nothing stands there but what a process left that was killed before the run had its config."""
    if not folder.is_dir():
        return not folder.exists()
    return all(path.name.startswith(".tmp-") or path.name == LOCK for path in folder.iterdir())


def resumed_config(folder: Path, config: Config | None) -> Config:
    """The config that the run was begun with; one that is given must agree with it."""
    path = folder / CONFIG
    if not path.is_file():
        if config is not None and is_unused(folder):
            return config
        raise SeqVAEError("E404", "there is no run to resume", where=str(folder), hint="`ls runs` shows the runs here")
    _require_own(path)
    saved = Config.from_yaml(path)
    if config is not None:
        changed = changed_settings(saved, config)
        if changed:
            raise SeqVAEError(
                "E211",
                f"the run was begun with other settings: {', '.join(changed[:5])}",
                where=str(path),
                hint="resume without --config and --set, or begin a new run",
            )
    return saved if config is None else saved.replace(**{"train.loggers": config.train.loggers})


def _require_own(path: Path) -> None:
    """Raises E211 for a config that was edited, or damaged, since the run was begun. Runs of seqvae 0.1 cannot tell."""
    provenance = path.parent / PROVENANCE
    known = storage.read_json(provenance) if provenance.exists() else {}
    now = storage.sha256_file(path)
    if isinstance(known, dict) and known.get("config_sha256", now) != now:
        raise SeqVAEError(
            "E211",
            f"{CONFIG} is not as it was when the run was begun: it was edited, or damaged",
            where=str(path),
            hint="restore it, or begin a new run with what you want: `seqvae train --config FILE`",
        )


def changed_settings(saved: Config, given: Config) -> list[str]:
    """The settings in which they differ. A run saves the thread count that null stood for, so null agrees with any;
    its paths are full ones; how many processes tokenize and who is told of the run make no difference."""
    given = rooted(given)
    given = given.replace(**{"data.workers": saved.data.workers, "train.loggers": saved.train.loggers})
    if given.train.threads is None:
        given = given.replace(**{"train.threads": saved.train.threads})
    return _differences(saved.model_dump(), given.model_dump())


def _differences(a: Any, b: Any, path: str = "") -> list[str]:
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(a.keys() | b.keys())
        return [found for key in keys for found in _differences(a.get(key), b.get(key), f"{path}.{key}".lstrip("."))]
    return [] if a == b else [path]
