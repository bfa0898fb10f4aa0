"""Every command that writes, on a disk that is really full: none of its pages are left, or one, or two, ..."""

import errno
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from handgrad.files import CHECKSUMS_FILE, PART, check_together
from handgrad.learn import EXERCISES
from handgrad.training import RECORD_FILE, read_metrics
from handgrad.training.metrics import METRICS_FILE, Metrics

from ..cli.conftest import Cli, Result
from ..interop.folders import LLAMA, write_folder
from . import model_folders, require_same, start
from .conftest import TEXT, Unbroken

PAGE = 4096
FILLER = "filler"
FULL = os.strerror(errno.ENOSPC)


class Disk:
    """A file system in memory, which can be filled up to so many pages, or so many files."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def leave(self, what: str, number: int) -> None:
        status = os.statvfs(self.root)
        if what == "pages":
            free = status.f_bavail * status.f_bsize - number * PAGE
            with (self.root / FILLER).open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, free)
        else:
            (self.root / FILLER).mkdir()
            for name in range(status.f_favail - 1 - number):
                (self.root / FILLER / str(name)).touch()

    def free(self) -> None:
        filler = self.root / FILLER
        shutil.rmtree(filler) if filler.is_dir() else filler.unlink()

    def content(self) -> dict[str, bytes]:
        """All files by name, but for locks and the filler."""
        paths = {str(path.relative_to(self.root)): path for path in self.root.rglob("*") if path.is_file()}
        return {name: path.read_bytes() for name, path in paths.items() if not name.endswith(".lock")}

    def restore(self, content: dict[str, bytes]) -> None:
        """Nothing but these files."""
        for path in self.root.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for name, data in content.items():
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            (self.root / name).write_bytes(data)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    root = tmp_path / "disk"
    root.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m,nr_inodes=200", "none", str(root)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no command to mount a file system")
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.strip()}")
    yield Disk(root)
    subprocess.run(["umount", "--lazy", str(root)], check=True)


def shortages(generator: random.Random, stride: int) -> Iterator[int]:
    """None, one and two; then some up to where it suffices."""
    number = -1
    while True:
        number += 1 if number < 2 else generator.randint(1, stride)
        yield number


def refused(result: Result, disk: Disk) -> str:
    """The file that the one line names, and says to be one for which there was no room."""
    assert result.status == 1
    match = re.fullmatch(
        rf"handgrad: ({disk.root}\S*): {FULL}(; \S+ keeps the checkpoint of step \d+)?\n", result.errors
    )
    assert match, result.errors
    return match[1]


# train


@pytest.mark.parametrize("what", ["pages", "files"])
def test_a_run_meets_a_full_disk_and_goes_on_when_there_is_room(
    what: str, disk: Disk, cli: Cli, generator: random.Random, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When it begins, at any of its writes, and when it is resumed, on the same disk or one that is fuller still."""
    monkeypatch.setattr("handgrad.training.run.loss_plot", lambda entries, title: b" " * 3 * PAGE)
    run = disk.root / "run"
    begin, resume = [*unbroken.begin, "--out", run], ["train", "--resume", run]
    named = set()
    for number in shortages(generator, 20):
        disk.leave(what, number)
        result = cli(*begin)
        disk.free()
        if result.status == 0:
            require_same(run, unbroken.essence)
            break
        named.add(Path(refused(result, disk)).name)
        require_whole(run)
        if (run / RECORD_FILE).exists():
            disk.leave(what, generator.randrange(number + 1))
            result = cli(*resume)
            disk.free()
            if result.status:
                refused(result, disk)
            require_whole(run)
        result = cli(*(resume if (run / RECORD_FILE).exists() else begin))
        assert (result.status, result.errors) == (0, "")
        require_same(run, unbroken.essence)
        shutil.rmtree(run)
    print(f"{what}: {number} suffice; there was no room for {', '.join(sorted(named))}")
    assert len(named) > 2


def require_whole(run: Path) -> None:
    """Models are whole or not there, nothing is left half-written, and no line of the metrics is torn."""
    assert not list(run.rglob(f"*{PART}"))
    for folder in model_folders(run) if run.exists() else ():
        if (folder / CHECKSUMS_FILE).exists():
            check_together(folder)
        elif folder.name != "previous":  # of which what is there is taken away before it is made anew
            assert not (folder / "config.json").exists()
    metrics = run / METRICS_FILE
    lines = metrics.read_bytes().splitlines(keepends=True) if metrics.exists() else []
    assert len(read_metrics(run)) == len(lines)


@pytest.mark.parametrize(
    ("pages", "name"), [*enumerate(["data.txt", "data.txt", "training.json", "config.json", "tokenizer.json"])]
)
def test_a_text_that_there_is_no_room_for_is_read_again(
    pages: int, name: str, disk: Disk, cli: Cli, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard input, which the run keeps: what begins it is given once more."""
    monkeypatch.setattr("handgrad.training.record.read_standard_input", lambda: TEXT.encode() * 4)
    arguments = ["-" if argument == unbroken.begin[2] else argument for argument in unbroken.begin]
    arguments += ["--steps", "1", "--out", str(disk.root / "run")]
    disk.leave("pages", pages)
    assert refused(cli(*arguments), disk) == str(disk.root / "run" / name)
    assert disk.content().keys() == {FILLER}
    disk.free()
    assert cli(*arguments).status == 0


def test_a_line_of_the_metrics_is_there_or_its_loss_is_told(disk: Disk) -> None:
    """Also one that goes over the end of the last page."""
    numbers = dict.fromkeys(("loss", "gradient_norm", "learning_rate", "seconds", "tokens_per_second"), 1.0)
    disk.leave("pages", 2)
    metrics, told = Metrics(disk.root, 0), ""
    for step in count(1):
        try:
            metrics.append({"step": step, **numbers})
        except OSError as error:
            told = str(error)
            break
    assert told == f"[Errno {errno.ENOSPC}] {FULL}: '{disk.root / METRICS_FILE}'"
    assert [entry["step"] for entry in read_metrics(disk.root)] == list(range(1, step))


def test_a_run_can_be_looked_at_where_nothing_can_be_written(disk: Disk, cli: Cli, unbroken: Unbroken) -> None:
    run = disk.root / "run"
    shutil.copytree(unbroken.run, run)
    for what in ("files", "pages"):
        disk.leave(what, 0)
        before = disk.content()
        for command in ("info", "evaluate", "generate", "watch"):
            result = cli(command, run)
            assert (result.status, result.errors) == (0, ""), command
        assert disk.content() == before
        disk.free()


# other commands


@pytest.mark.parametrize(
    ("command", "other", "stride"),
    [
        ("export {model} --out {disk}/exported", "", 2),
        ("trace {run} --text thecat --out {disk}/trace.safetensors", "--text thedog", 20),
        ("kit {disk}/kit --layers silu", "--seed 1", 12),
        ("explore {run} --text thecat --html {disk}/page.html", "--text thedog", 300),
        ("learn start {disk}/course", "", 10),
        ("learn grade {course} --only chain_rule --json {disk}/grades.json", "--seed 1", 1),
        ("learn grade {course} --only chain_rule --csv {disk}/grades.csv", "--seed 1", 1),
    ],
)
def test_a_command_meets_a_full_disk_and_succeeds_when_there_is_room(
    command: str,
    other: str,
    stride: int,
    disk: Disk,
    cli: Cli,
    generator: random.Random,
    unbroken: Unbroken,
    tmp_path: Path,
) -> None:
    """`other`: an option of the same command, whose files are there before, and stay until the new ones are whole."""
    model = write_folder(tmp_path / "model", LLAMA)
    places = {"disk": disk.root, "run": unbroken.run, "model": model, "course": tmp_path / "course"}
    if "{course}" in command:
        assert cli("learn", "start", places["course"]).status == 0
    arguments = command.format(**places).split()
    assert cli(*arguments).status == 0
    new, before = disk.content(), dict[str, bytes]()
    disk.restore(before)
    if other:
        assert cli(*arguments, *other.split()).status == 0
        before = disk.content()
    for tried, pages in enumerate(shortages(generator, stride)):
        disk.restore(before)
        disk.leave("pages", pages)
        result = cli(*arguments)
        disk.free()
        found = disk.content()
        if result.status == 0:
            break
        refused(result, disk)
        assert found.keys() >= before.keys()
        for name, data in found.items():
            assert data in (before.get(name), new[name]), name
        if tried % 4 == 0:
            assert cli(*arguments).status == 0
            assert disk.content() == new
    assert found == new
    print(f"{command.split()[0]}: {tried} numbers of pages were too few, {pages} suffice")
    assert tried


# the course


def test_what_cannot_be_written_in_a_course_leaves_it_as_it_was(
    disk: Disk, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check` and `hint` show what they have to all the same."""
    assert cli("learn", "start", disk.root / "course").status == 0
    monkeypatch.chdir(disk.root / "course")
    first = EXERCISES[0]
    Path(first.file).write_text(first.solved, encoding="utf-8")
    before = disk.content()
    for what in ("pages", "files"):
        disk.leave(what, 0)
        for command, found in ((f"check {first.name}", "✓"), ("hint", "hint 1 of 3")):
            result = cli("learn", *command.split())
            assert (result.status, result.errors) == (0, "")
            assert found in result.output
            said = f"your progress could not be written down: .*{FULL}: '.*progress.json.*'"
            assert re.search(said, " ".join(result.output.split())), result.output
        result = cli("learn", "reset", first.name)
        assert result.status == 1
        assert re.fullmatch(rf"handgrad: \S+: {FULL}\n", result.errors)
        disk.free()
        assert disk.content() == before
    for pages in (1, 2):  # there is room for what the reader had, and not for the new file
        disk.leave("pages", pages)
        result = cli("learn", "reset", first.name)
        disk.free()
        assert Path(first.file).read_text(encoding="utf-8") == (first.unsolved if result.status == 0 else first.solved)
    assert cli("learn", "reset", first.name).status == 0
    assert Path("kept", f"{first.file}.1").read_text(encoding="utf-8") == first.solved


# standard output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize(
    "command", ["--version", "--help", "check --layer linear", "generate {run}", "info {run}", "watch {run}"]
)
def test_standard_output_is_named_where_it_is_full(
    command: str, cli: Cli, unbroken: Unbroken, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file, or the shell's `> /dev/full`; with a buffer, it may be found out only at the end."""
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123
        monkeypatch.setattr(sys, "stdout", full)
        result = cli(*command.format(run=unbroken.run).split())
    assert (result.status, result.errors) == (1, f"handgrad: standard output: {FULL}\n")


@pytest.mark.parametrize("command", ["--version", "generate run --tokens 3000"])
def test_who_has_read_enough_ends_a_command_quietly(command: str, unbroken: Unbroken) -> None:
    with start(*command.split(), folder=unbroken.run.parent) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        errors = process.stderr.read()
    assert (process.returncode, errors) == (1, "")
