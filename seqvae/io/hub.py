"""Models on the Hugging Face Hub: ``user/name``, or ``user/name@revision``, fetched into the cache and pushed.

A repository of the Hub holds a model folder at its top. Of it, the files of its manifest are fetched and nothing else;
they are a model folder like any other from there on, checked against the manifest before it is used.
"""

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from seqvae.data.cache import kept, user_cache
from seqvae.data.lines import file_lines
from seqvae.data.quiet import quiet_hub
from seqvae.errors import SeqVAEError
from seqvae.io import card, manifests, storage

PREFIX = "hub:"
MAIN = "main"
KINDS = frozenset({".safetensors", ".json", ".model", ".md"})
"""Endings of the files that a model folder has. None of them is run, and none is a pickle."""

TIMEOUT_S = 15
"""For the first answer of the Hub. Later ones are asked for again by huggingface_hub itself."""

_NAME = re.compile(rf"(?:{PREFIX})?(?P<name>\w[\w.-]*/\w[\w.-]*)(?:@(?P<revision>[^@\s]+))?")
_COMMIT = re.compile("[0-9a-f]{40}")
_OWN_FOLDERS = ("runs",)
_AWAY = ("E437", "E440")
"""What is said where the Hub cannot be reached, or does not work."""
_SPELLING = "write `user/name`, or `user/name@revision` with a branch, a tag or a commit of it"
_LOG_IN = "log in with `hf auth login`, or set HF_TOKEN to a token of https://huggingface.co/settings/tokens"

_logger = logging.getLogger("seqvae")


@dataclass(frozen=True)
class Reference:
    """A model of the Hub, and which state of it."""

    name: str
    revision: str = MAIN

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}"


def is_reference(path: Path) -> bool:
    """Whether ``path`` speaks of the Hub: ``hub:user/name`` does; ``user/name`` only where no folder can be meant.

    A folder wins: that of this name, and the one that would be in a ``user`` folder which is here.
    """
    text = path.as_posix()
    if text.startswith(PREFIX):
        return True
    owner = text.partition("/")[0]
    return bool(_NAME.fullmatch(text)) and owner not in _OWN_FOLDERS and not (path.exists() or Path(owner).exists())


def reference(text: str, revision: str | None = None) -> Reference:
    """``user/name``, ``user/name@revision`` or either behind ``hub:``. Raises E432 for what is spelled otherwise."""
    found = _NAME.fullmatch(text)
    if not found:
        raise SeqVAEError("E432", f"`{text}` is no name of a model on the Hub", hint=_SPELLING)
    if revision and found["revision"] and revision != found["revision"]:
        raise SeqVAEError(
            "E432", f"`{text}` and revision {revision!r} name two revisions", hint="leave one of them out"
        )
    return Reference(found["name"], revision or found["revision"] or MAIN)


def fetch(asked: Reference) -> Path:
    """The folder in the cache with a model of the Hub, whole; logs the commit that it is of.

    A revision that moves is resolved to a commit first; where the Hub cannot be reached, to the one that was fetched
    last. The files lie in huggingface_hub's own cache and, without its links, in ours.

    Errors (SeqVAEError): E432 to E437 and E440 where the Hub does not give it, E438 where it is no model of seqvae,
    E439 where it lists files that no model has, E401 where they are not what its manifest says.
    """
    with _asking(asked):
        commit = _commit(asked)
    pinned = Reference(asked.name, commit)
    folder = kept(
        _place() / asked.name.replace("/", "--") / commit, lambda new: _fill(new, pinned), lambda whole: whole
    )
    _logger.info(f"model    {asked.name} at commit {commit}")
    return folder


def origin(folder: Path) -> str | None:
    """``user/name@commit`` of a folder that `fetch` gave; None for another."""
    if folder.parent.parent != _place():
        return None
    return str(Reference(folder.parent.name.replace("--", "/"), folder.name))


def _place() -> Path:
    return user_cache() / "hub"


def _commit(asked: Reference) -> str:
    """The commit that a revision names now, or named when the Hub was last reached."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    if _COMMIT.fullmatch(asked.revision) and (_place() / asked.name.replace("/", "--") / asked.revision).is_dir():
        return asked.revision
    try:
        # This fails at once where there is no network, and what follows tries for half a minute.
        HfApi().model_info(asked.name, revision=asked.revision, timeout=TIMEOUT_S)
        # Asked for by the revision, and not by its commit, it is found again without a network.
        manifest = hf_hub_download(asked.name, manifests.MANIFEST, revision=asked.revision)
    except Exception as error:
        if _refusal(error, asked).code not in _AWAY:
            raise
        manifest = try_to_load_from_cache(asked.name, manifests.MANIFEST, revision=asked.revision)
        if not isinstance(manifest, str):
            raise
        _logger.info("note     the Hub cannot be reached: this is what was fetched before")
    return Path(manifest).parent.name


def _fill(folder: Path, pinned: Reference) -> None:
    """Put the files that the manifest names into ``folder``, as they are on the Hub."""
    fetched = [_get(pinned, manifests.MANIFEST, folder)]
    for name in manifests.names(folder):
        if PurePosixPath(name).suffix not in KINDS:
            what = f"the model lists `{name}`, and no file of a model is of that kind"
            hint = "it was not fetched; do not trust this model, and tell its owner"
            raise SeqVAEError("E439", what, where=str(pinned), hint=hint)
        fetched.append(_get(pinned, name, folder))
    # The page is there to be read and edited on the Hub: what it says changes nothing that is loaded.
    wrong = list(manifests.faults(folder, editable=[card.FILE]))
    if wrong:
        for path in fetched:  # or the same bytes would come out of huggingface_hub's cache the next time
            with suppress(OSError):
                path.resolve().unlink()
                path.unlink()
        hint = "run again to fetch it anew; where that does not help, its owner has to push it again"
        raise SeqVAEError("E401", f"what was fetched is not whole: {wrong[0].what}", where=str(pinned), hint=hint)


def _get(pinned: Reference, name: str, folder: Path) -> Path:
    """Fetch one file and put it into ``folder``, as a file of its own; returns where huggingface_hub keeps it."""
    from huggingface_hub import hf_hub_download

    with _asking(pinned):
        source = Path(hf_hub_download(pinned.name, name, revision=pinned.revision))
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)  # no second copy on the disk
    except OSError:
        shutil.copyfile(source, target)
    return source


def push(
    folder: Path,
    name: str,
    *,
    private: bool | None = None,
    commit_message: str | None = None,
    revision: str | None = None,
    page: Path | None = None,
) -> str:
    """Push a whole model folder in one commit, and return ``user/name@commit``.

    The repository is made where there is none. ``private``: of a new one; None leaves it to the account. ``revision``
    is a branch, made where there is none. ``page``: Markdown that becomes the model card in place of the folder's
    README.md; pictures that it shows go with it. Files of a model that was there before are removed.

    Errors (SeqVAEError): E301 to E305 for a page that is no text, E401 and E402 for a folder that is not whole, E432
    for a name that is none, E436 without a token that may write, E437 and E440 where the Hub is out of reach.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    target = reference(name, revision)
    manifests.verify(folder, editable=[card.FILE])
    page = page or folder / card.FILE
    text = "".join(f"{line}\n" for _, line in file_lines(page, str(page)))
    with tempfile.TemporaryDirectory() as above, _asking(target, writing=True):
        staged = Path(above) / "model"
        with storage.atomic_folder(staged) as copy:
            for file in set(manifests.names(folder)) - {card.FILE}:
                (copy / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / file, copy / file)
            (copy / card.FILE).write_text(card.for_hub(text, target.name), encoding="utf-8")
        api = HfApi()
        api.create_repo(target.name, private=private, exist_ok=True)
        if target.revision != MAIN:
            api.create_branch(target.name, branch=target.revision, exist_ok=True)
        files = {name: staged / name for name in (*manifests.names(staged), manifests.MANIFEST)}
        files |= _pictures(text, page.parent)
        old = _of_a_model(api.list_repo_files(target.name, revision=target.revision)) - files.keys()
        done = api.create_commit(
            target.name,
            [
                *(CommitOperationDelete(path_in_repo=file) for file in sorted(old)),
                *(CommitOperationAdd(path_in_repo=name, path_or_fileobj=file) for name, file in files.items()),
            ],
            commit_message=commit_message or "Model of seqvae",
            revision=target.revision,
        )
    return str(Reference(target.name, done.oid))


def _pictures(text: str, folder: Path) -> dict[str, Path]:
    """The pictures that a page shows and that lie below its folder, by their links."""
    links = re.findall(r"!\[[^]]*\]\(([^)\s:]+)\)", text)
    inside = [link for link in links if ".." not in link and not link.startswith(("/", "\\"))]
    return {link: folder / link for link in inside if (folder / link).is_file()}


def _of_a_model(names: list[str]) -> set[str]:
    return {name for name in names if name.startswith("tokenizer/") or re.fullmatch(r"eval(-.+)?\.\w+", name)}


@contextmanager
def _asking(about: Reference, *, writing: bool = False) -> Iterator[None]:
    """What the Hub, the network or huggingface_hub answer becomes an error that says what to do."""
    try:
        with quiet_hub():
            yield
    except SeqVAEError:
        raise
    except Exception as error:  # of every kind, and of another library from one release of huggingface_hub to the next
        raise _refusal(error, about, writing=writing) from error


def _refusal(error: Exception, about: Reference, *, writing: bool = False) -> SeqVAEError:
    from huggingface_hub import errors

    status = getattr(getattr(error, "response", None), "status_code", None)
    first = next(iter(filter(None, str(getattr(error, "server_message", None) or error).splitlines())), "")
    about_page = f"https://huggingface.co/{about.name}"
    match error:
        case errors.HFValidationError():
            return SeqVAEError("E432", f"`{about.name}` is no name of a model on the Hub", hint=_SPELLING)
        case errors.GatedRepoError():
            hint = f"ask for access at {about_page}, then {_LOG_IN}"
            return SeqVAEError("E435", f"`{about.name}` is only for those whom its owner lets in", hint=hint)
        case errors.LocalTokenNotFoundError():
            return SeqVAEError("E436", "the Hub wants to know who you are", where=about.name, hint=_LOG_IN)
        case errors.RepositoryNotFoundError() if not writing:
            what = f"there is no folder `{about.name}` here and no such model on the Hub, unless it is private"
            return SeqVAEError("E433", what, hint=f"check the name; for a private model {_LOG_IN}")
        case errors.RevisionNotFoundError():
            what = f"`{about.name}` has no revision `{about.revision}`"
            return SeqVAEError("E434", what, hint=f"see {about_page}/commits/main, or leave the revision out")
        case errors.HfHubHTTPError() if status in (401, 403):
            what = f"the Hub does not let you {'write to' if writing else 'read'} `{about.name}`: {first}"
            return SeqVAEError("E436", what, hint=f"{_LOG_IN}{', one that may write' if writing else ''}")
        case errors.EntryNotFoundError() if not isinstance(error, errors.LocalEntryNotFoundError):
            what = f"`{about.name}` holds no whole model of seqvae"
            return SeqVAEError("E438", what, where=str(about), hint="push one with `seqvae push user/name`")
        case errors.HfHubHTTPError():
            return SeqVAEError(
                "E440", f"the Hub answers with {status}: {first}", where=str(about), hint="try again later"
            )
        case errors.OfflineModeIsEnabled() if writing:
            hint = "unset HF_HUB_OFFLINE where there is a network, and run again"
            return SeqVAEError("E437", "nothing was pushed: HF_HUB_OFFLINE forbids to ask the Hub", hint=hint)
        case errors.OfflineModeIsEnabled():
            what = f"`{about}` was not fetched before, and HF_HUB_OFFLINE forbids to ask the Hub for it"
            return SeqVAEError("E437", what, hint="unset HF_HUB_OFFLINE where there is a network, or name a folder")
    hint = "check the network; a model that was fetched before is found without one, and a folder always"
    return SeqVAEError("E437", f"the Hub cannot be asked for `{about}`: {first}", hint=hint)
