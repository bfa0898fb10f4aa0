"""Prepared data: texts of any size as tokens on the disk, and training that reads them from there."""

from .folder import Plan, Prepared, make_plan, prepare
from .inputs import refuse_rows
from .learning import Told
from .manifest import (
    MANIFEST_FILE,
    PROGRESS_FILE,
    Manifest,
    check_prepared,
    is_prepared,
    prepared_among,
    read_manifest,
    require_manifest,
)
from .text import PreparedText
from .tokenizing import Interrupted
from .tokens import MappedTokens

__all__ = [
    "MANIFEST_FILE",
    "PROGRESS_FILE",
    "Interrupted",
    "Manifest",
    "MappedTokens",
    "Plan",
    "Prepared",
    "PreparedText",
    "Told",
    "check_prepared",
    "is_prepared",
    "make_plan",
    "prepare",
    "prepared_among",
    "read_manifest",
    "refuse_rows",
    "require_manifest",
]
