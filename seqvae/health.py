"""What `seqvae doctor` looks at: each check is ok, a warning or failed, and the last two name the next step."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

import seqvae
from seqvae.errors import SeqVAEError
from seqvae.io import disk, manifests, storage
from seqvae.training.lock import is_held, locked

NEEDED = (
    *("numpy", "datasets", "huggingface-hub", "sentencepiece", "rich", "typer", "pydantic", "PyYAML", "safetensors"),
    *("sacrebleu", "jaxtyping", "pooch", "scikit-learn", "scipy", "Jinja2"),
)
EXTRAS = {
    "matplotlib": "plots",
    "starlette": "explore",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "torchtext": "torchtext",
    "onnxruntime": "onnx",
    "umap": "umap",
}
"""Optional package: the extra that brings it."""
VARIABLES = ("SEQVAE_CACHE", "SEQVAE_DATA", "SEQVAE_DEBUG")

OLDEST_PYTHON, OLDEST_TORCH = (3, 11), (2, 10)
LITTLE_ROOM, NO_ROOM = 2e9, 200e6
"""Bytes: a warning, and a failure."""
MATMUL_S = 0.5
"""Seconds that each kind of product is timed."""
_SIZE = 512


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check: what was looked at, how it stands, what was found, and the next step where it is not well."""

    name: str
    status: Literal["ok", "warning", "failed"] = "ok"
    found: str
    next: str | None = None


def examine(environ: Mapping[str, str] | None = None, folder: Path = Path()) -> Iterator[Finding]:
    """All checks in turn, each as soon as it is done. ``environ`` defaults to that of the process.

    ``folder`` is where runs are written; where it is not there yet, the one above it that is.
    """
    folder = existing(folder)
    environ = os.environ if environ is None else environ
    yield Finding(name="seqvae", found=seqvae.__version__)
    yield python()
    torch_finding = torch_version()
    yield torch_finding
    yield libraries()
    yield extras()
    if torch_finding.status != "failed":
        yield devices()
        yield threads(environ)
        yield arithmetic()
        yield determinism()
    yield cache()
    yield variables(environ)
    yield room(folder)
    yield writing(folder)


def existing(folder: Path) -> Path:
    """``folder``, or the nearest above it that is there."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())


def python() -> Finding:
    found = f"{platform.python_version()} · {platform.platform()}"
    if sys.version_info < OLDEST_PYTHON:
        return Finding(name="python", status="failed", found=found, next="install Python 3.11 or later")
    return Finding(name="python", found=found)


def torch_version() -> Finding:
    try:
        import torch
    except (ImportError, OSError) as error:
        hint = "install it for this machine: https://pytorch.org/get-started/locally/"
        return Finding(name="torch", status="failed", found=f"cannot be imported: {error}", next=hint)
    if tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2]) < OLDEST_TORCH:
        return Finding(name="torch", status="failed", found=torch.__version__, next="pip install -U torch")
    return Finding(name="torch", found=torch.__version__)


def libraries(needed: tuple[str, ...] = NEEDED) -> Finding:
    """What seqvae cannot do without, by version."""
    found, missing = [], []
    for name in needed:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        hint = "install seqvae again, with what it needs: `pip install -U seqvae`"
        return Finding(name="libraries", status="failed", found=f"missing: {', '.join(missing)}", next=hint)
    return Finding(name="libraries", found=" · ".join(found))


def extras() -> Finding:
    there = [name for name in EXTRAS if importlib.util.find_spec(name) is not None]
    absent = [f"{name} ([{EXTRAS[name]}])" for name in EXTRAS if name not in there]
    parts = [f"there: {', '.join(there)}" if there else "none there"]
    parts += [f"not there, and needed by nothing but the extra in brackets: {', '.join(absent)}"] if absent else []
    return Finding(name="extras", found="; ".join(parts))


def devices(nvidia: Path = Path("/dev/nvidiactl")) -> Finding:
    import torch

    from seqvae.training.runtime import choose_device, gains_from_bf16

    names = [f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(torch.cuda.device_count())]
    names += ["mps"] if torch.backends.mps.is_available() else []
    chosen = choose_device("auto")
    kind = "bf16" if gains_from_bf16(chosen) else "fp32"
    found = " · ".join([*names, "cpu"]) + f"; `auto` takes {chosen} and trains in {kind}"
    if nvidia.exists() and not names:
        hint = "this PyTorch does not see the NVIDIA GPU here: install a CUDA build, https://pytorch.org/get-started"
        return Finding(name="devices", status="warning", found=found, next=hint)
    return Finding(name="devices", found=found)


def threads(
    environ: Mapping[str, str], *, cores: int | None = None, load: float | None = None, chosen: int | None = None
) -> Finding:
    """Threads, and how they wait for each other. Waiting threads that spin take a busy processor from those at work."""
    if chosen is None:
        import torch

        chosen = torch.get_num_threads()
    if cores is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if load is None:
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    policy, spin = environ.get("OMP_WAIT_POLICY", ""), environ.get("GOMP_SPINCOUNT", "")
    found = f"{chosen} on {cores} cores, load {load:.1f}; OMP_WAIT_POLICY={policy or '(unset)'}"
    found += f" GOMP_SPINCOUNT={spin}" if spin else ""
    busy = load > cores
    spins = policy.upper() == "ACTIVE" or (spin.isdecimal() and int(spin) > 100_000) or spin.upper() == "INFINITY"
    if busy and spins and chosen > 1:
        hint = "threads that spin while they wait are many times slower on a busy machine: `unset OMP_WAIT_POLICY "
        hint += "GOMP_SPINCOUNT` (seqvae then chooses), or train with `--set train.threads=1`"
        return Finding(name="threads", status="warning", found=found, next=hint)
    if chosen > cores:
        hint = f"more threads than cores wait for each other: `--set train.threads={cores}`"
        return Finding(name="threads", status="warning", found=found, next=hint)
    if busy:
        hint = "other programs keep the processor busy; training will be slower than its estimates"
        return Finding(name="threads", status="warning", found=found, next=hint)
    return Finding(name="threads", found=found)


def arithmetic(seconds: float = MATMUL_S) -> Finding:
    """Products of matrices on the chosen device: whether they are right, and how fast, in fp32 and in bf16."""
    import torch

    from seqvae.machine import matrix_flops_per_s
    from seqvae.training.runtime import choose_device, gains_from_bf16

    device = choose_device("auto")
    a = torch.randn(_SIZE, _SIZE, generator=torch.Generator().manual_seed(0))
    wrong = (a.to(device) @ a.to(device)).cpu().sub(a.double() @ a.double()).abs().max().item()
    if not wrong < 0.5:  # TF32 rounds to about 0.05 here; NaN is wrong as well
        hint = "the device computes wrong products: try `--set train.device=cpu`, then the driver"
        return Finding(name="arithmetic", status="failed", found=f"off by {wrong:.3g} on {device}", next=hint)
    fp32, bf16 = (matrix_flops_per_s(device, kind, seconds) / 1e9 for kind in (torch.float32, torch.bfloat16))
    shown = ", ".join(f"{name} {rate:,.{0 if rate >= 10 else 1}f}" for name, rate in (("fp32", fp32), ("bf16", bf16)))
    found = f"{device}: {shown} billion operations a second"
    by_rule, by_clock = gains_from_bf16(device), bf16 > 1.5 * fp32
    advice = "bf16" if by_clock else "fp32"
    if by_rule != by_clock:
        hint = (
            f"`train.precision=auto` takes {'bf16' if by_rule else 'fp32'} here: try `--set train.precision={advice}`"
        )
        return Finding(name="arithmetic", status="warning", found=found, next=hint)
    return Finding(name="arithmetic", found=f"{found}; train in {advice}")


def determinism(updates: int = 3) -> Finding:
    """Whether the same seed gives the same bits: a small model is trained twice, as training would here."""
    from seqvae.training.runtime import choose_device

    device = choose_device("auto")
    first, second = (_trained_bits(device, updates) for _ in range(2))
    if first != second:
        hint = "runs of one seed will differ here, and a resumed run from one that was not stopped; try "
        ways = {"cpu": "train.threads=1", "cuda": "train.deterministic=true"}
        hint += f"`--set {ways.get(device.type, 'train.device=cpu')}`"
        return Finding(name="determinism", status="warning", found=f"two trainings differ on {device}", next=hint)
    return Finding(name="determinism", found=f"{updates} updates, twice: the same bits on {device}")


def _trained_bits(device, updates: int) -> list[bytes]:
    """The weights of a small model after some updates from a fixed seed; random states are left as they were."""
    import torch

    from seqvae.models.vae import ModelConfig, SeqVAE
    from seqvae.objectives.base import Objective
    from seqvae.types import EOS, Batch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        model = SeqVAE(ModelConfig(latent_dim=16), vocab_size=500).to(device)
        tokens = torch.randint(EOS + 2, 500, (32, 20))
        tokens[:, 0], tokens[:, -1] = 1, EOS
        batch = Batch(tokens=tokens, lengths=torch.full((32,), 20), rows=torch.arange(32)).to(device)
        objective, noise = Objective(model, ()), torch.Generator(device).manual_seed(0)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for step in range(updates):
            optimizer.zero_grad()
            loss, _ = objective(batch, step, noise)
            loss.backward()
            optimizer.step()
        return [parameter.detach().cpu().numpy().tobytes() for parameter in model.parameters()]


def cache(folder: Path | None = None) -> Finding:
    """Whether prepared text can be kept, and how much of it there is."""
    from seqvae.data.cache import user_cache

    folder = user_cache() if folder is None else folder
    hint = "set SEQVAE_CACHE to a folder of yours: `export SEQVAE_CACHE=~/seqvae-cache`"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".tmp-"):
            pass
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror or error}"
        return Finding(name="cache", status="failed", found=found, next=hint)
    return Finding(name="cache", found=f"{folder}, {_in_words(_size(folder))}; it can be deleted at any time")


def _size(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                total += os.lstat(os.path.join(parent, name)).st_size
    return total


def variables(environ: Mapping[str, str]) -> Finding:
    """The variables of the environment that seqvae reads, and those that it would have to be misspelt for."""
    given = {name: value for name, value in sorted(environ.items()) if name.startswith("SEQVAE_")}
    found = " ".join(f"{name}={value}" for name, value in given.items()) or "none of " + ", ".join(VARIABLES)
    for name in given:
        if name not in VARIABLES:
            near = get_close_matches(name, VARIABLES, n=1)
            hint = f"{name} is not read" + (f"; did you mean {near[0]}?" if near else "")
            return Finding(name="variables", status="warning", found=found, next=hint)
    data = given.get("SEQVAE_DATA")
    if data and not disk.expanded(data).is_dir():
        hint = "SEQVAE_DATA names no folder: it should hold one folder for each corpus, such as ptb/"
        return Finding(name="variables", status="warning", found=found, next=hint)
    return Finding(name="variables", found=found)


def room(folder: Path = Path(), free: float | None = None) -> Finding:
    """Room for runs in the working directory."""
    free = shutil.disk_usage(folder).free if free is None else free
    found = f"{_in_words(free)} free in {folder.resolve()}"
    if free < LITTLE_ROOM:
        status = "failed" if free < NO_ROOM else "warning"
        hint = "a run takes some 10 MB to 1 GB: free some room, or begin runs elsewhere by `--out`"
        return Finding(name="disk", status=status, found=found, next=hint)
    return Finding(name="disk", found=found)


def writing(folder: Path = Path(), size: int = 2**20) -> Finding:
    """A folder of ``size`` bytes written, flushed, renamed, replaced and read back where runs are kept, as checkpoints
    are; and whether the file system has locks, by which a run is kept to one process."""
    content = [os.urandom(size), os.urandom(size)]
    try:
        with disk.storage_errors(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".doctor-") as place:
            began = time.perf_counter()
            for each in content:
                with storage.atomic_folder(Path(place, "checkpoint")) as temporary:
                    (temporary / "weights").write_bytes(each)
            took = (time.perf_counter() - began) / len(content)
            manifests.verify(Path(place, "checkpoint"))
            same = Path(place, "checkpoint", "weights").read_bytes() == content[-1]
            with locked(Path(place)):
                guarded = is_held(Path(place))
    except (SeqVAEError, OSError) as error:
        what = error.what if isinstance(error, SeqVAEError) else error.strerror
        hint = "name a folder of yours that runs are to be written to: `seqvae doctor FOLDER`"
        return Finding(name="run folder", status="failed", found=f"{folder.resolve()}: {what}", next=hint)
    found = f"{folder.resolve()}: {size / 1e6:.0f} MB written, flushed and renamed in {1000 * took:.0f} ms"
    if not same:
        hint = "the disk does not give back what was written: keep runs elsewhere by `--out`"
        return Finding(name="run folder", status="failed", found=f"{found}, and read back changed", next=hint)
    if not guarded:
        hint = "begin no second training in the folder of a run while one goes on: nothing would refuse it here"
        return Finding(name="run folder", status="warning", found=f"{found}; the disk has no locks", next=hint)
    return Finding(name="run folder", found=f"{found}, and read back the same")


def _in_words(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
