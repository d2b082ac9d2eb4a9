"""Checks as they are shown: a line each, with the next step where one is not well."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING

from seqvae.cli.console import emit_json, emit_lines
from seqvae.errors import SeqVAEError

if TYPE_CHECKING:
    from seqvae.health import Finding


def show_findings(
    findings: "Iterable[Finding]", *, kind: str, code: str, as_json: bool, numbered: bool = False
) -> None:
    """Each finding as soon as it is there, or all as one JSON object with a list named ``kind`` (checks, steps).

    Raises ``code`` where one failed.
    """
    found: list[Finding] = []
    for number, finding in enumerate(findings, 1):
        found.append(finding)
        if not as_json:
            lead = f"{number:>2}  " if numbered else ""
            emit_lines([f"{lead}{finding.status:<8} {finding.name:<11} {finding.found}"])
            emit_lines([f"{'':<{len(lead) + 20}} next: {finding.next}"] if finding.next else [])
    failed = [finding.name for finding in found if finding.status == "failed"]
    if as_json:
        emit_json({"ok": not failed, kind: [asdict(finding) for finding in found]})
    if failed:
        what = f"{len(failed)} of {len(found)} {kind} failed: {', '.join(failed)}"
        raise SeqVAEError(code, what, hint="each names its next step above")
