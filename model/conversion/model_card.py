"""The card of a converted model: what it is, how it was made, what was measured to which length."""

from __future__ import annotations

from collections.abc import Mapping

from osa.model.config import EncoderConfig
from osa.model.conversion.report import Report

NEAR = 0.9
"""Agreement with the teacher below which it does not take its place."""
AGREEMENTS = {
    "cosine": "cosine with the teacher's weights of ids",
    "explained": "share of the variance of the teacher's logits that is explained",
    "rank_correlation": "rank correlation with the teacher's logits",
    "same_label": "texts with the teacher's label first",
}
HEADER = ("| | teacher | converted |", "|---|---|---|")


def model_card(
    teacher: str,
    config: EncoderConfig,
    facts: Mapping[str, object],
    report: Report,
    controls: Mapping[str, Report],
) -> str:
    """Markdown.

    Args:
        teacher: Name of the teacher.
        config: Of the student.
        facts: How it was made.
        report: What it is worth.
        controls: What the same takes without a part.
    """
    lines = [
        f"# {teacher}, linear in length",
        "",
        f"Converted by `osa convert`: softmax attention was replaced by completed Orthogonal "
        f"Self-Attention in {config.num_layers} layers, all else stayed. " + _place(report),
        "",
        *HEADER,
        *_agreement(report),
    ]
    if report.retrieval:
        found = report.retrieval
        of = f"recall at 1 of {found['passages']:.0f}"
        if "candidates" in found:
            of = f"first of {found['candidates']:.0f}, {found['passages']:.0f} times"
        lines.append(
            f"| a passage by one of its sentences, {of} "
            f"| {found['teacher']:.1f} | {found['student']:.1f} |"
        )
    for name, scores in report.sts.items():
        lines.append(f"| {name} | {scores['teacher']:.2f} | {scores['student']:.2f} |")
    if report.sts:
        mean = {
            side: sum(scores[side] for scores in report.sts.values()) / len(report.sts)
            for side in ("teacher", "student")
        }
        lines.append(f"| mean of these | {mean['teacher']:.2f} | {mean['student']:.2f} |")
    lines += _lengths(report)
    lines += _long(report)
    lines += ["", "| tokens of a text | CPU time of the teacher over its own |", "|---|---|"]
    lines += [f"| {length} | {value:.2f} |" for length, value in report.speed.items()]
    lines += _widths(report)
    for name, control in controls.items():
        kind, value = _first(control)
        told = "not measured" if value is None else f"{kind} {value:.4f}"
        lines += ["", f"Control, {name}: {told}" + _sts(control) + "."]
    lines += ["", "Made with: " + ", ".join(f"{name} {value}" for name, value in facts.items())]
    return "\n".join([*lines, "", _limits(config, report), ""])


def far(report: Report) -> str | None:
    """A warning that the student is far from its teacher; None where it is near."""
    kind, value = _first(report)
    if value is None:
        return "nothing was held out to compare it with its teacher on: 40 texts are enough"
    if value >= NEAR:
        return None
    what = "scores" if report.scores else "vectors"
    return f"its {what} are far from the teacher's, {kind} {value:.2f}"


def _first(report: Report) -> tuple[str, float | None]:
    """The agreement that says most, by its name."""
    return next(iter(report.scores.items()), ("cosine", report.cosine))


def _agreement(report: Report) -> list[str]:
    if _first(report)[1] is None:
        return []
    if not report.scores:
        return [f"| cosine with the teacher's vectors, held-out texts | 1 | {report.cosine:.4f} |"]
    return [
        f"| {AGREEMENTS[name]}, held-out texts | 1 | {value:.4f} |"
        for name, value in report.scores.items()
    ]


def _lengths(report: Report) -> list[str]:
    rows = [f"| {length} | {value:.3f} |" for length, value in _by_length(report).items()]
    name = _first(report)[0]
    title = "cosine with the teacher" if name == "cosine" else AGREEMENTS[name]
    return ["", f"| tokens | {title} |", "|---|---|", *rows] if rows else []


def _by_length(report: Report) -> dict[str, float]:
    return report.scores_by_length or report.cosine_by_length


def _place(report: Report) -> str:
    warning = far(report)
    if _first(report)[1] is None:
        return f"Beware: {warning}."
    if report.scores:
        near = "Its scores take the teacher's place, as far as the figures below go."
        return near if warning is None else f"Beware: {warning}. More updates bring them nearer."
    if not report.widths and warning is not None:
        return (
            f"Its vectors are far from the teacher's (mean cosine {report.cosine:.2f}): an index "
            "of these is of no use with it. More updates, or more texts, bring it nearer."
        )
    if not report.widths:
        return (
            "It takes the teacher's place beside its vectors: an index of them stays valid, as far "
            "as the cosines below go."
        )
    return (
        "Its vectors were turned onto their principal axes, so that the first of their numbers may "
        "be taken alone: cosines below are of vectors before that, and an index of the teacher's "
        "vectors has to be made anew."
    )


def _long(report: Report) -> list[str]:
    if not report.long:
        return []
    return [
        "",
        "Texts longer than the teacher reads, against its vectors of their segments:",
        "",
        "| tokens | texts | segments within the text | the whole, with the mean of the segments |",
        "|---|---|---|---|",
        *(
            f"| {length} | {found['texts']:.0f} | {found['parts']:.3f} | {found['whole']:.3f} |"
            for length, found in report.long.items()
        ),
    ]


def _widths(report: Report) -> list[str]:
    if not report.widths:
        return []
    scored = any("sts" in found for found in report.widths.values())
    lines = ["", "| dimensions | share of the squared length |", "|---|---|"]
    if scored:
        lines = [
            "",
            "| dimensions | share of the squared length | mean of STS |",
            "|---|---|---|",
        ]
    for width, found in report.widths.items():
        share = f"{found['share']:.3f}" if "share" in found else ""
        lines.append(f"| {width} | {share} |" + (f" {found['sts']:.2f} |" if scored else ""))
    return lines


def _sts(report: Report) -> str:
    if not report.sts:
        return ""
    mean = sum(scores["student"] for scores in report.sts.values()) / len(report.sts)
    return f", mean of STS {mean:.2f}"


def _limits(config: EncoderConfig, report: Report) -> str:
    measured = [*_by_length(report), *report.long]
    longest = measured[-1].partition("-")[2] if measured else ""
    told = f"Measured up to {longest} tokens" if longest else "Not measured on texts"
    return (
        f"{told}; it reads up to {config.max_seq_len}. What the teacher "
        "gets wrong, such as negation and who does what to whom, it gets wrong as well."
    )
