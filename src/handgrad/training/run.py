"""A run: a folder that one process trains in, that others may watch, and that can go on wherever it was broken off."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from ..errors import ConfigError, HandgradError, TrainingError
from ..files import (
    CHECKSUMS_FILE,
    LOCK_FILE,
    flush_folder,
    naming,
    read_file,
    remove_parts,
    require_folder,
    take_lock,
    write_atomically,
)
from ..model import CONFIG_FILE, Model
from .checkpoint import FILES, PREVIOUS, Best, damage_of, load_checkpoint, newest_whole, save_checkpoint
from .config import RECORD_FILE
from .memory import refuse_what_does_not_fit
from .metrics import METRICS_FILE, SAMPLE_FILE, Metrics, samples, to_entry
from .nonfinite import first_non_finite_parameter
from .plot import PLOT_FILE, loss_plot
from .ranks import Ranks
from .recipe import Recipe
from .record import KEPT_FILE, Data, Record, init_of, load_init, new_record, read_data_again, read_record, versions
from .trainer import Progress, Trainer, fresh_trainer

RUNS = "runs"
"""Where runs go that are given no folder."""
BEST = "best"
KEPT = "kept"
PATIENCE = 1.0
"""Seconds to wait for a lock, which a watcher may hold for a moment."""
SAVE_EVERY = 60.0
"""Seconds between checkpoints, besides those at evaluations."""
SHARE_OF_SAVING = 0.05
"""Of a run's time at most, where checkpoints are so large that a minute is too often."""
SAMPLE_TOKENS = 300
QUIET = 60.0
"""Seconds without a step after which a run that cannot be locked counts as ended."""


class Run:
    """A trainer with its folder. Only one process at a time can have it; `close` lets it go.

    run/config.json, model.safetensors, tokenizer.json   the model
        optimizer.safetensors, training.json             what else it takes to go on; what made it
        checksums.sha256                                 of these five
        best/                                            the model with the lowest validation loss
        previous/                                        the checkpoint before the last
        kept/0/, kept/150/, ...                          the fresh model, and that of every evaluation, by step
        metrics.jsonl, loss.svg, sample.txt              how it went
    """

    def __init__(
        self,
        folder: Path,
        record: Record,
        trainer: Trainer,
        lock: FileLock,
        best: Best | None = None,
        saved: bool = False,
    ) -> None:
        """`best` and `saved`: the best evaluation so far, and whether a checkpoint has this state."""
        self.folder = folder
        self.record = record
        self.trainer = trainer
        self.metrics = Metrics(folder, trainer.optimizer.steps)
        self.best = best
        self.notes: list[str] = []
        """What was found damaged or different, where the run goes on all the same."""
        self._saved_step = self.step if saved else -1
        self._saved_at, self._saving_took = time.monotonic(), 0.0
        self._lock = lock
        if self.metrics.entries:
            trainer.seconds = float(self.metrics.entries[-1]["seconds"])

    @property
    def step(self) -> int:
        """Updates made so far."""
        return self.trainer.optimizer.steps

    @property
    def complete(self) -> bool:
        """Whether all its updates are made."""
        return self.step >= self.trainer.config.steps

    def train(self) -> Iterator[Progress]:
        """Make the updates that are left, tell of each, and keep the folder up to date.

        Where numbers stop being finite, or a file cannot be written, a `TrainingError` says which and where; the last
        checkpoint stays.
        """
        try:
            if self.step == 0:  # its checkpoint was there first: who goes on from that keeps it again
                self._keep()
            for progress in self.trainer.run():
                if progress.validation is not None:
                    self._tell(progress)
                    if self.best is None or progress.validation.loss < self.best.loss:
                        self.best = Best(progress.step, progress.validation.loss)
                        self.trainer.model.save(self.folder / BEST)
                    self._keep()
                    self.save()
                else:
                    self.metrics.append(to_entry(progress))
                    if time.monotonic() - self._saved_at > max(SAVE_EVERY, self._saving_took / SHARE_OF_SAVING):
                        self.save()
                yield progress
        except (TrainingError, OSError) as error:
            why = f"{error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
            if self._saved_step >= 0:
                why += f"; {self.folder} keeps the checkpoint of step {self._saved_step:,}"
            raise TrainingError(why) from None

    def save(self) -> None:
        """Write a checkpoint, unless the last one is of this step; weights that are not finite are refused."""
        if self._saved_step == self.step:
            return
        if culprit := first_non_finite_parameter(self.trainer.model):
            raise TrainingError(f"step {self.step:,}: after it {culprit}")
        start = time.monotonic()
        self.metrics.flush()
        save_checkpoint(self.folder, self.record, self.trainer, self.best)
        self._saved_step = self.step
        self._saved_at = time.monotonic()
        self._saving_took = self._saved_at - start

    def close(self) -> None:
        """Let go of the folder, so that another process may go on with the run; this saves nothing."""
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _keep(self) -> None:
        """Keep the model as it is now; before the checkpoint of its step, so that who goes on from that lacks none."""
        if self.trainer.config.keep:
            kept = self.folder / KEPT
            self.trainer.model.save(kept / str(self.step))
            with naming(kept):
                flush_folder(kept)

    def _tell(self, progress: Progress) -> None:
        """The metrics of an evaluation, a sample of what the model writes now, and the picture of the losses."""
        sample = self.trainer.model.generate(tokens=SAMPLE_TOKENS, seed=self.trainer.config.seed)
        self.metrics.append(to_entry(progress, sample))
        write_atomically(self.folder / SAMPLE_FILE, samples(self.metrics.entries))
        write_atomically(self.folder / PLOT_FILE, loss_plot(self.metrics.entries, str(self.folder)))


def create_run(
    folder: Path | None,
    preset: str,
    recipe: Recipe,
    data: Data,
    threads: int | None = None,
    init: tuple[Path, Model] | None = None,
    ranks: Ranks | None = None,
) -> Run:
    """A fresh run in a folder that holds none: the next free one of runs/1, runs/2, ... where none is given.

    `init`: a model to start from, which is trained in place, and its folder.
    """
    started = init_of(*init) if init else None
    trainer = fresh_trainer(recipe, data.text, threads, init[1] if init else None, ranks)
    refuse_what_does_not_fit(trainer.model, trainer.config, trainer.ranks)
    folder = folder or _next_free_folder()
    refuse_a_run(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = _locked(folder)
    try:
        refuse_a_run(folder)
        if (folder / KEPT_FILE).exists() and read_file(folder / KEPT_FILE) != data.kept:
            raise HandgradError(f"{folder}: holds other files; a run wants a folder of its own")
        remove_parts(folder)
        try:
            record = new_record(preset, recipe, data, started)
            if data.kept is not None:
                write_atomically(folder / KEPT_FILE, data.kept)
            write_atomically(folder / RECORD_FILE, record.to_bytes())
            run = Run(folder, record, trainer, lock)
            run.save()  # a folder that cannot hold a checkpoint is found out before the work, not after
        except OSError:
            for name in (*FILES, CHECKSUMS_FILE, KEPT_FILE):
                (folder / name).unlink(missing_ok=True)
            raise
        return run
    except BaseException:
        lock.release()
        raise


def refuse_a_run(folder: Path) -> None:
    """Refuse a folder in which no run can begin. One that was killed before its record was there may have left its
    text, beside its lock."""
    if folder.exists() and not folder.is_dir():
        raise HandgradError(f"{folder}: not a folder")
    if any((folder / name).exists() for name in (CONFIG_FILE, RECORD_FILE)):
        raise HandgradError(f"{folder}: holds a run already; choose another --out, or go on with --resume {folder}")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    left = {KEPT_FILE} if LOCK_FILE in names else set()
    if any(not name.startswith(".") for name in names - left):
        raise HandgradError(f"{folder}: holds other files; a run wants a folder of its own")


def resume_run(
    folder: Path, sources: Sequence[str] = (), threads: int | None = None, ranks: Ranks | None = None
) -> Run:
    """The run in this folder, as it was at its last whole checkpoint; `sources`: where its text has moved to."""
    require_folder(folder)
    if not any((folder / name).exists() for name in (RECORD_FILE, PREVIOUS)):
        raise HandgradError(f"{folder}: holds no run to resume ({RECORD_FILE} is missing)")
    if run_of(folder) not in (folder, None):
        raise HandgradError(f"{folder}: is a checkpoint of the run above it, which is the one to resume")
    lock = _locked(folder)
    try:
        for place in (folder, folder / PREVIOUS, folder / BEST, *(folder / KEPT).glob("*")):
            remove_parts(place)
        checkpoint, damage = newest_whole(folder)
        record = read_record(checkpoint or folder)
        try:
            data = read_data_again(record, folder, sources)
        except HandgradError as error:
            raise ConfigError(f"{error}; if the text has moved, --data tells where it is") from None
        record = record._replace(sources=data.sources)
        if checkpoint is None:  # broken off before the first one: from the beginning
            init = load_init(record.init) if record.init else None
            run = Run(folder, record, fresh_trainer(record.recipe, data.text, threads, init, ranks), lock)
            run.save()
            return run
        trainer, best = load_checkpoint(checkpoint, record, data.text, threads, ranks)
        run = Run(folder, record, trainer, lock, best, saved=True)
        if damage is not None:
            run.notes.append(f"{damage}; going on from the checkpoint before it")
        if best is not None and (damage := damage_of(folder / BEST, ())) is not None:
            run.best = None  # so that the next evaluation writes it anew
            then = "the run is complete" if run.complete else "the next evaluation writes the best weights anew"
            run.notes.append(f"{damage}; {then}")
        if len(run.metrics.entries) != run.step:
            run.notes.append(f"{run.metrics.path}: lacks some of the steps up to {run.step:,}; the run itself does not")
        if record.made_by != versions():
            made_by = ", ".join(f"{name} {version}" for name, version in record.made_by.items())
            run.notes.append(f"{folder}: was made by {made_by}; the last bits of the numbers may differ here")
        return run
    except BaseException:
        lock.release()
        raise


def run_of(folder: Path) -> Path | None:
    """The folder of the run that a model's folder belongs to: itself, or the one above its best, previous and kept."""
    place = folder.resolve()
    above = ((place.parent, place.name in (BEST, PREVIOUS)), (place.parent.parent, place.parent.name == KEPT))
    runs = (*(run for run, inside in above if inside), folder)
    return next((run for run in runs if (run / RECORD_FILE).exists()), None)


def kept_models(folder: Path) -> dict[int, Path]:
    """The folders of the models that a run has kept, by step and in that order; a half-written one is none yet."""
    whole = (path.parent for path in (folder / KEPT).glob(f"*/{CHECKSUMS_FILE}") if path.is_file())
    kept = {int(path.name): path for path in whole if path.name.isdecimal() and path.name == str(int(path.name))}
    return dict(sorted(kept.items()))


def is_being_trained(folder: Path) -> bool:
    """Whether a process is at work in this folder."""
    if not (folder / LOCK_FILE).exists():
        return False
    try:
        with FileLock(folder / LOCK_FILE, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # somebody else's folder, or a read-only one: then by whether it goes on telling
        metrics = folder / METRICS_FILE
        return metrics.exists() and time.time() - metrics.stat().st_mtime < QUIET


def _locked(folder: Path) -> FileLock:
    return take_lock(folder, "another process is training this run", PATIENCE)


def newest_run(folder: Path = Path(RUNS)) -> Path | None:
    """Of runs/1, runs/2, ... the one with the highest number that holds a model; None where there is none."""
    numbered = [path for path in folder.glob("*") if path.name.isdecimal() and (path / CONFIG_FILE).exists()]
    return max(numbered, key=lambda path: int(path.name), default=None)


def _next_free_folder() -> Path:
    """runs/1, or the first number after it that is free, made at once so that no other run takes it."""
    number = 1
    while True:
        folder = Path(RUNS, str(number))
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
