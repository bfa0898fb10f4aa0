"""What a rank does that does not lead: what the leader does, on its own block of the shards."""

import signal
from contextlib import suppress

from ..errors import TrainingError
from ..model import Model, Parameters, Tokenizer
from .ranks import BEGIN, Ranks
from .trainer import Trainer


def follow(ranks: Ranks, threads: int | None = None) -> None:
    """Follow the leader to the end. Ctrl-C, which every rank hears of, is the leader's to answer."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    trainer: Trainer | None = None
    for command, given in ranks.commands():
        if command == BEGIN:
            config, dtype, tokenizer, corpus, training = given
            model = Model(config, Parameters(config, dtype=dtype), Tokenizer.from_json(tokenizer))
            trainer = Trainer(model, corpus, training, threads, ranks)
            continue
        with suppress(TrainingError):  # which the leader tells
            getattr(trainer, command)(*given)
    for number, handler in before.items():
        signal.signal(number, handler)
