"""``seqvae doctor``."""

from dataclasses import asdict

from seqvae.cli.console import emit_json, emit_lines, run_verb
from seqvae.cli.options import JsonOption
from seqvae.errors import SeqVAEError


@run_verb()
def doctor(json: JsonOption = False) -> None:
    """Check this installation: versions, devices, threads, precision, cache, variables and disk.

    Each check is ok, a warning or failed, with the next step; the exit code is 0 unless one failed.
    """
    from seqvae.health import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not json:
            emit_lines([f"{finding.status:<8} {finding.name:<11} {finding.found}"])
            emit_lines([f"{'':<20} next: {finding.next}"] if finding.next else [])
    failed = [finding.name for finding in findings if finding.status == "failed"]
    if json:
        emit_json({"ok": not failed, "checks": [asdict(finding) for finding in findings]})
    if failed:
        what = f"{len(failed)} of {len(findings)} checks failed: {', '.join(failed)}"
        raise SeqVAEError("E268", what, hint="each names its next step above")
