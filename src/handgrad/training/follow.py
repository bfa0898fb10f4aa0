"""What a rank does that does not lead: what the leader does, on its own block of the shards."""

import signal
from contextlib import suppress

from ..errors import TrainingError
from ..model import Model, Parameters, Tokenizer
from .ranks import BEGIN, Alone
from .trainer import Trainer


def follow(ranks: Alone, threads: int | None = None) -> None:
    """Follow the leader to the end. Ctrl-C, which every rank hears of, is the leader's to answer."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    trainer: Trainer | None = None
    for command, given in ranks.commands():
        if command == BEGIN:
            config, tokenizer, corpus, training = given
            model = Model(config, Parameters(config), Tokenizer.from_json(tokenizer))
            trainer = Trainer(model, corpus, training, threads, ranks)
            continue
        with suppress(TrainingError):  # which the leader tells
            getattr(trainer, command)(*given)
