"""The report's tables; pure functions of the results."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from benchmarks.common.tables import MISSING, number, table
from benchmarks.kernels.backward import TOLERANCES as GRADIENT_TOLERANCES
from benchmarks.kernels.backward import Backward
from benchmarks.kernels.cases import Case
from benchmarks.kernels.encoder_share import Share
from benchmarks.kernels.parity import Parity
from benchmarks.kernels.roofline import bytes_of, operations_of
from benchmarks.kernels.speed import Speed, best_peer

PEERS = ("sdpa-flash", "sdpa-efficient", "sdpa-cudnn", "sdpa-math", "sdpa-buckets")


def parity_table(results: Sequence[Parity], kernel: Callable[[Case], str]) -> str:
    """Errors with their tolerance, the largest angle, and the kernel that ran."""
    names = list(dict.fromkeys(name for result in results for name in result.errors))

    def row(result: Parity) -> list[str]:
        errors = [
            MISSING if name not in result.errors else f"{result.errors[name]:.1e}" for name in names
        ]
        verdict = "RED: " + ", ".join(result.failed) if result.failed else "green"
        cells = [f"{result.angle:.2f}", *errors, f"{result.tolerance:.0e}", verdict]
        return [result.case.name, str(result.case.tokens), kernel(result.case), *cells]

    headers = ["case", "tokens", "kernel", "largest angle [rad]", *names, "tolerance", ""]
    return table(headers, map(row, results))


def gradient_table(errors: Mapping[Case, float]) -> str:
    """Errors of the gradients."""
    rows = (
        [case.name, f"{error:.1e}", f"{GRADIENT_TOLERANCES[case.dtype]:.0e}", verdict]
        for case, error in errors.items()
        for verdict in ["green" if error <= GRADIENT_TOLERANCES[case.dtype] else "RED: osa"]
    )
    return table(["case", "osa", "tolerance", ""], rows)


def warm_table(results: Sequence[Speed]) -> str:
    """Ratios to ``osa`` in warm memory; above 1 ``osa`` is faster."""

    def row(speed: Speed) -> list[str]:
        ratios = [number(speed.ratio(name, speed.warm)) for name in ("osa_gram", "osa_qr", *PEERS)]
        best = [number(speed.ratio(speed.peer, speed.warm, cpu)) for cpu in (False, True)]
        own = speed.warm.get("osa")
        time = number(speed.per_token("osa", speed.warm) * 1e9, ".0f")
        spread = MISSING if own is None else f"{own.spread:.0%}"
        return [speed.case.name, *best, *ratios, time, spread]

    headers = ["case", "**best sdpa**", "same, CPU time", "osa_gram", "osa_qr", *PEERS]
    return table([*headers, "osa [ns/token]", "spread"], map(row, results))


def cold_table(results: Sequence[Speed]) -> str:
    """Ratios to ``osa`` in cold memory, cold over warm times, and page faults per call."""

    def row(speed: Speed) -> list[str]:
        peer = best_peer(speed.cold)
        ratios = [number(speed.ratio(name, speed.cold)) for name in (peer, "osa_gram")]
        cells = [speed.case.name, *ratios]
        for name in ("osa", "osa_gram", peer):
            if name is None or name not in speed.cold:
                cells += [MISSING, MISSING]
                continue
            cold, warm = speed.cold[name], speed.warm[name]
            cells += [f"{cold.wall_s / warm.wall_s:.2f}", f"{warm.faults:.0f} / {cold.faults:.0f}"]
        return [*cells, number(speed.per_token("osa", speed.cold) * 1e9, ".0f")]

    pairs = [
        f"{name} {kind}"
        for name in ("osa", "osa_gram", "sdpa")
        for kind in ("cold / warm", "faults warm / cold")
    ]
    headers = ["case", "**best sdpa**", "osa_gram", *pairs, "osa cold [ns/token]"]
    return table(headers, map(row, [speed for speed in results if speed.cold]))


def roofline_table(
    results: Sequence[Speed],
    angles: Mapping[Case, float],
    copy_rate: float,
    product_rates: Mapping[str, float],
) -> str:
    """Share of the roofline that ``osa`` reaches in warm memory.

    Args:
        results: Measurements.
        angles: Largest angle of each case [rad].
        copy_rate: Copying memory [bytes/s].
        product_rates: Matrix products [operations/s], by type.
    """

    def row(speed: Speed) -> list[str]:
        case, seconds = speed.case, speed.warm["osa"].wall_s
        moved, done = bytes_of(case), operations_of(case, angles[case])
        product_rate = product_rates[case.dtype]
        floor = max(moved / copy_rate, done / product_rate)
        cells = [f"{moved / seconds / 1e9:.2f}", f"{moved / seconds / copy_rate:.1%}"]
        cells += [f"{done / seconds / 1e9:.1f}", f"{done / seconds / product_rate:.1%}"]
        bound = "copy" if moved / copy_rate > done / product_rate else "product"
        return [case.name, *cells, f"{seconds / floor:.1f}", bound]

    headers = ["case", "GB/s", "of copy", "GFLOP/s", "of product", "time / floor", "floor is"]
    return table(headers, map(row, [speed for speed in results if "osa" in speed.warm]))


def backward_table(results: Sequence[Backward]) -> str:
    """Times of forward and backward pass."""

    def row(result: Backward) -> list[str]:
        peer = result.peer
        forward, both = result.forward["osa"].wall_s, result.both["osa"].wall_s
        cells = [f"{both / forward:.2f}", f"{(both - forward) / forward:.2f}"]
        if peer is None:
            return [result.case.name, *cells, MISSING, MISSING, MISSING]
        other = result.both[peer].wall_s
        cells += [f"{other / result.forward[peer].wall_s:.2f}", f"{other / both:.2f}"]
        return [result.case.name, *cells, peer]

    headers = ["case", "osa both / forward", "osa backward / forward", "sdpa both / forward"]
    return table([*headers, "sdpa both / osa both", "sdpa is"], map(row, results))


def share_table(results: Sequence[Share]) -> str:
    """The operator's share of the encoder's time."""

    def row(share: Share) -> list[str]:
        encoder, osa = share.encoder, share.osa
        return [
            str(share.length),
            f"{osa.wall_s / encoder.wall_s:.1%}",
            f"{osa.cpu_s / encoder.cpu_s:.1%}",
            f"{osa.wall_s / share.gram.wall_s:.2f}",
            f"{encoder.wall_s / share.tokens * 1e6:.1f}",
            f"{osa.wall_s / share.tokens * 1e6:.1f}",
        ]

    headers = ["tokens", "osa / encoder", "same, CPU time", "osa / osa_gram"]
    return table([*headers, "encoder [us/token]", "osa [us/token]"], map(row, results))


def left_out(results: Sequence[Speed]) -> str:
    """Why implementations have no time, with the cases concerned."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for speed in results:
        for name, reason in speed.refused.items():
            found[name, reason].append(speed.case.name)
    lines = []
    for (name, reason), cases in found.items():
        listed = ", ".join(cases) if len(cases) <= 4 else f"{len(cases)} cases"
        lines.append(f"- {name}: {reason} ({listed})")
    return "\n".join(lines) or "Nothing."
