"""``seqvae doctor``."""

from seqvae.cli.console import run_verb
from seqvae.cli.findings import show_findings
from seqvae.cli.options import JsonOption


@run_verb()
def doctor(json: JsonOption = False) -> None:
    """Check this installation: versions, devices, threads, precision, cache, variables and disk.

    Each check is ok, a warning or failed, with the next step; the exit code is 0 unless one failed.
    """
    from seqvae.health import examine

    show_findings(examine(), kind="checks", code="E268", as_json=json)
