"""Prepared data as a text to train on."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Literal

from ...errors import ConfigError, DamagedError, counted
from ...files import read_file
from ...model import TOKENIZER_FILE, Tokenizer
from ..corpus import Passage
from ..recipe import TokenizerConfig
from .manifest import DTYPES, read_manifest
from .tokens import MappedTokens

EXCERPT = 1 << 14
"""Tokens."""


class PreparedText:
    """The tokens of a folder that `handgrad data prepare` made; see `corpus.Text`. They stay on the disk."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)

    @property
    def sha256(self) -> str:
        """Of all that training reads, as the manifest has it."""
        return self.manifest.sha256

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The one that made the tokens; a `DamagedError` where its file is another by now."""
        path = self.folder / TOKENIZER_FILE
        if hashlib.sha256(read_file(path)).hexdigest() != self.manifest.tokenizer.sha256:
            raise DamagedError(f"{path}: not the tokenizer that made the tokens beside it")
        tokenizer = Tokenizer.load(path)
        if tokenizer.vocabulary != self.manifest.tokenizer.vocabulary:
            raise DamagedError(
                f"{path}: {counted(tokenizer.vocabulary, 'token')}, {self.manifest.tokenizer.vocabulary:,} listed"
            )
        return tokenizer

    def make_tokenizer(self, config: TokenizerConfig) -> Tokenizer:
        """The tokenizer that made the tokens; a `ConfigError` where the settings ask for another."""
        if config.tokenizer != "data":
            raise ConfigError(f"tokenizer: {config.tokenizer!r}, but the prepared data in {self.folder} have their own")
        return self.tokenizer

    def learn_from(self, tokenizer: Tokenizer) -> MappedTokens:
        """The tokens to learn from; a `ConfigError` where they are those of another tokenizer."""
        return self._mapped(tokenizer, "training")

    def held_out(self, tokenizer: Tokenizer) -> Passage:
        """The held-out tokens, and what they stand for; a `ConfigError` where they are those of another tokenizer."""
        part = self.manifest.held_out
        tokens = self._mapped(tokenizer, "held_out")
        return Passage(tokens, part.characters - part.first_characters, part.bytes - part.first_bytes)

    def _mapped(self, tokenizer: Tokenizer, part: Literal["training", "held_out"]) -> MappedTokens:
        if tokenizer is not self.tokenizer and tokenizer.to_json() != self.tokenizer.to_json():
            raise ConfigError(
                f"{self.folder}: its tokens are not those of the model's tokenizer; prepare the text with "
                "--tokenizer and the model's folder"
            )
        shards = self.manifest.shards(self.folder, part)
        return MappedTokens(shards, DTYPES[self.manifest.dtype], self.tokenizer.vocabulary)

    def excerpt(self) -> str:
        """Some of what is held out."""
        return self.tokenizer.decode(self.held_out(self.tokenizer).tokens[:EXCERPT])
