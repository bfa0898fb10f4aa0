"""What a shell offers for the values of options and arguments.

Each takes what was typed so far. Where nothing that is known begins with it, the shell offers files.
"""

from collections.abc import Iterable
from pathlib import Path


def runs(typed: str) -> list[str]:
    """The runs in runs/."""
    return _beginning([path.as_posix() for path in _runs()], typed)


def models(typed: str) -> list[str]:
    """The runs in runs/; of one that is named already, its models too."""
    found = _runs()
    for run in [run for run in found if typed.startswith(f"{run.as_posix()}/")]:
        found += sorted({path.parent for path in run.rglob("config.json")} - {run})
    return _beginning([path.as_posix() for path in found], typed)


def _runs() -> list[Path]:
    return sorted(path.parent for path in Path("runs").glob("*/training.json"))


def presets(typed: str) -> list[str]:
    from ..training import PRESETS

    return _beginning(PRESETS, typed)


def assignments(typed: str) -> list[str]:
    """The fields for --set, with the sign after them."""
    from ..training import field_meanings

    return _beginning([f"{name}=" for name in field_meanings()], typed)


def layers(typed: str) -> list[str]:
    """The cases of the check."""
    from ..proof import all_cases

    return _beginning(all_cases(), typed)


def kit_layers(typed: str) -> list[str]:
    """Those of the kit, after a comma too."""
    from ..proof import KIT

    return _after_comma(KIT, typed)


def exercises(typed: str) -> list[str]:
    from ..learn import EXERCISES

    return _beginning([exercise.name for exercise in EXERCISES], typed)


def exercises_with_commas(typed: str) -> list[str]:
    from ..learn import EXERCISES

    return _after_comma([exercise.name for exercise in EXERCISES], typed)


def _beginning(names: Iterable[str], typed: str) -> list[str]:
    return [name for name in names if name.startswith(typed)]


def _after_comma(names: Iterable[str], typed: str) -> list[str]:
    before = typed[: typed.rfind(",") + 1]
    return [before + name for name in names if (before + name).startswith(typed)]
