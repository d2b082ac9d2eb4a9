"""What to change, by what was measured: each line a setting and what it gains."""

from seqvae.models.cost import rounded_parts
from seqvae.speed import SpeedReport

WORTH = 1.1
"""A gain below this is within what such a short measurement can tell."""

MUCH_PADDING = 0.1


def advise(report: SpeedReport) -> list[str]:
    """The changes that are worth it, the largest gain first; one line that says so where there is none."""
    before = report.training.tokens_per_s
    gains = {setting: rate / before for setting, rate in report.trials.items() if rate > WORTH * before}
    lines = [_larger_gain(setting, gain) for setting, gain in sorted(gains.items(), key=lambda each: -each[1])]
    lines += _precision(report)
    if report.padding_share > MUCH_PADDING:
        lines.append(f"--set data.equal_length=true: {report.padding_share:.0%} of every batch is padding")
    if report.load is not None and report.device == "cpu" and report.load > report.threads:
        lines.append(f"other programs are at work (load {report.load:.1f}): measure again when they have ended")
    return lines or ["nothing that was tried is faster by a tenth"]


def _larger_gain(setting: str, gain: float) -> str:
    fewer = ", in fewer updates: try a higher learning rate" if setting.startswith("data.") else ""
    return f"--set {setting}: {gain:.1f} times as many tokens a second{fewer}"


def _precision(report: SpeedReport) -> list[str]:
    """bf16 is no gain where the machine has no products of it, else one by the share of what it rounds."""
    best, rounded = report.ceiling, rounded_parts(report.device)
    share = sum(part.share for part in report.parts if part.name in rounded)
    ratio = best.bf16_flops_per_s / best.fp32_flops_per_s
    if report.precision == "fp32" and ratio > 1.5:
        gain = 1 / (1 - share + share / ratio)
        if gain > WORTH:
            line = (
                f"--set train.precision=bf16: products are {ratio:.1f} times as fast, an update up to {gain:.1f} times"
            )
            return [line]
    if report.precision == "bf16" and ratio < 1:
        return [f"--set train.precision=fp32: products in bf16 run at {ratio:.0%} of the speed of fp32 here"]
    return []
