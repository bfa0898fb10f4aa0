"""Training steps on the same processors by threads and by ranks of MPI, and what many machines would make of it."""

from collections.abc import Mapping
from functools import partial
from statistics import median
from typing import NamedTuple

from . import step
from .plan import Turn
from .rounds import Contest
from .sizes import SIZES

PYTORCH = "PyTorch eager"
MEASURED = ("seconds", "exchanging", "sent")


def contest(name: str, rounds: int, processors: int) -> Contest:
    return Contest(
        f"scaling {name}",
        contenders(processors),
        partial(step.prepare, size=SIZES[name], rounds=rounds, threads=processors),
        difference,
        step.AGREE,
        "losses and norms of gradients",
    )


def contenders(processors: int) -> dict[str, str]:
    """One thread alone; all processors, by each number of ranks that divides them; and the peer."""
    found = {"1 thread": "benchmarks.with_handgrad:step_on_one_thread"}
    ranks = 1
    while processors % ranks == 0 and ranks <= processors:
        threads = processors // ranks
        name = _many(threads, "thread") if ranks == 1 else _many(ranks, "rank")
        name += f" of {_many(threads, 'thread')}" if ranks > 1 < threads else ""
        found[name] = "benchmarks.with_handgrad:step" + (f"@{ranks}" if ranks > 1 else "")
        ranks *= 2
    return found | {PYTORCH: "benchmarks.with_torch:eager_step"}


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count > 1)}"


def difference(turns: Mapping[str, list[Turn]]) -> float | None:
    """That of steps; but threads and ranks must not differ in a bit."""
    mine = [played for name, played in turns.items() if name != PYTORCH]
    for played in mine[1:]:
        for one, other in zip(mine[0], played, strict=True):
            if (one["losses"], one["norms"]) != (other["losses"], other["norms"]):
                return float("inf")
    return step.difference(turns)


class Exchange(NamedTuple):
    """What ranks spend on each other in a step: medians of the turns."""

    step: float
    """Seconds of the whole step."""
    seconds: float
    """Of it, to hand data over and to wait for it, and so for the slower of the ranks."""
    sent: float
    """Bytes that rank 0 sends."""
    ranks: int
    weights: int
    """Bytes."""
    parts: int
    """Of the model, each of which travels by itself."""

    @property
    def least(self) -> float:
        """Bytes that a rank cannot do without: others' shares of the gradient go out, and its share of the weights to
        all others."""
        return 2 * (self.ranks - 1) / self.ranks * self.weights


def exchanges(turns: Mapping[str, list[Turn]]) -> dict[str, Exchange]:
    return {
        name: Exchange(*(median(turn[field] for turn in played[1:]) for field in MEASURED), **played[0]["exchange"])
        for name, played in turns.items()
        if "exchange" in played[0]
    }


class Network(NamedTuple):
    name: str
    latency: float
    """Seconds that a message takes, however short."""
    bandwidth: float
    """Bytes a second out of a machine, and as many into it."""


NETWORKS = (
    Network("1 Gbit/s, TCP", 50e-6, 0.117e9),
    Network("10 Gbit/s, TCP", 30e-6, 1.17e9),
    Network("100 Gbit/s, InfiniBand", 2e-6, 11.5e9),
)
"""Usual latencies; of the bandwidth what headers leave, 92 to 94 %."""
MACHINES = (2, 4, 8, 16, 32, 64)
BACKWARD = 2 / 3
"""The share of the computing in which gradients can travel: twice as many products as in the forward pass."""


def projected(exchange: Exchange, machines: int, network: Network, overlapped: bool) -> float:
    r"""A projection: the seconds of a step on many machines, each with as many sequences as the one that was measured.

    $$ t = c + h + \max(0,\, h - \tfrac{2}{3}\, c), \qquad h = (m - 1)\, (p\, \ell + \frac{n}{m\, W}) $$

    with c seconds of computing, m machines, p parts of the model, the latency $\ell$, n bytes of weights and the
    bandwidth W. Each part goes to its m - 1 other owners, message after message (Hockney's model): h seconds for the
    gradients, and as many for the weights. Where gradients travel wholly while the backward pass computes
    (`overlapped`), only what outlasts that counts; else $t = c + 2 h$.
    """
    computing = exchange.step - exchange.seconds
    each = exchange.parts * network.latency + exchange.weights / machines / network.bandwidth
    half = (machines - 1) * each
    return computing + half + (max(0.0, half - BACKWARD * computing) if overlapped else half)


def efficiency(exchange: Exchange, machines: int, network: Network, overlapped: bool) -> float:
    """Of the computing of so many machines, the share that is not lost to waiting."""
    return (exchange.step - exchange.seconds) / projected(exchange, machines, network, overlapped)
