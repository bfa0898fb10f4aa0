"""Files that are there whole, or are what they were before; and what is wrong with one that is read."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import handgrad
from handgrad.errors import ConfigError, DamagedError, HandgradError
from handgrad.files import (
    CHECKSUMS_FILE,
    check_together,
    check_unless_being_written,
    decode_utf8,
    naming,
    read_file,
    read_json_object,
    read_text_file,
    read_toml,
    remove_parts,
    write_atomically,
    write_together,
)
from handgrad.model import Model, ModelConfig, Tokenizer, initial_parameters

OLD = {"a.txt": b"old a", "b.bin": bytes(range(256)), "empty": b""}
NEW = {"a.txt": b"new a", "b.bin": b"\xff" * 5000, "empty": b"no more"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files that were written together."""
    path = tmp_path / "folder"
    path.mkdir()
    write_together(path, OLD)
    return path


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_files_are_written_with_their_checksums(folder: Path) -> None:
    found = content(folder)
    checksums = found.pop(CHECKSUMS_FILE).decode()
    assert found == OLD
    assert checksums == "".join(f"{hashlib.sha256(data).hexdigest()}  {name}\n" for name, data in OLD.items())
    check_together(folder)
    check_together(folder, OLD)


def test_files_that_are_written_again_take_the_place_of_the_old(folder: Path) -> None:
    (folder / "other").write_text("stays")
    write_together(folder, NEW)
    check_together(folder, NEW)
    found = content(folder)
    del found[CHECKSUMS_FILE]
    assert found == NEW | {"other": b"stays"}


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="the command sha256sum is missing")
def test_the_checksums_can_be_checked_without_us(folder: Path) -> None:
    def check() -> int:
        command = ["sha256sum", "--check", "--strict", "--quiet", CHECKSUMS_FILE]
        return subprocess.run(command, cwd=folder, capture_output=True, check=False).returncode

    assert check() == 0
    (folder / "a.txt").write_bytes(b"damaged")
    assert check() == 1


def test_all_is_flushed_to_the_disk_before_anything_takes_its_place(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then one file after the other, the checksums last, and the folder itself."""
    did: list[str] = []
    fsync, replace = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        did.append("flush")
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        did.append(Path(target).name)
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", replaced)
    write_together(folder, NEW)
    assert did == [*["flush"] * 4, *NEW, CHECKSUMS_FILE, "flush"]


def failing(call: int, function: Callable[..., Any], number: int = errno.ENOSPC) -> Callable[..., Any]:
    """The function, but from its n-th call on the disk is full."""
    calls = 0

    def full(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= call:
            raise OSError(number, os.strerror(number))
        return function(*arguments, **options)

    return full


@pytest.mark.parametrize("call", [1, 2, 3, 4])
def test_a_full_disk_leaves_the_old_files_and_no_parts(
    call: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(call, os.fsync))
        with pytest.raises(OSError, match="No space left on device") as raised:
            write_together(folder, NEW)
    assert raised.value.errno == errno.ENOSPC
    assert raised.value.filename == str(folder / [*NEW, CHECKSUMS_FILE][call - 1])
    assert content(folder) == before
    check_together(folder, OLD)


def test_a_disk_that_is_full_at_the_last_flush_is_told_with_a_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is in its place by then; that it lasts is not certain."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(5, os.fsync, errno.EIO))
        with pytest.raises(OSError, match="error") as raised:
            write_together(folder, NEW)
    assert str(raised.value.filename).startswith(str(folder))
    check_together(folder, NEW)
    assert set(content(folder)) == {*NEW, CHECKSUMS_FILE}


@pytest.mark.parametrize("call", [2, 3, 4])
def test_files_of_which_some_took_their_places_are_told_from_a_whole(
    call: int, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(call, os.replace, errno.EIO))
        with pytest.raises(OSError, match="error") as raised:
            write_together(folder, NEW)
    assert raised.value.filename == str(folder / [*NEW, CHECKSUMS_FILE][call - 1])
    assert raised.value.filename2 is None
    assert set(content(folder)) == {*OLD, CHECKSUMS_FILE}
    with pytest.raises(DamagedError, match=r"a.txt: differs from its checksum in checksums.sha256"):
        check_together(folder)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_whatever_breaks_a_write_off_leaves_no_parts(
    error: type[BaseException], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = content(folder)

    def broken_off(descriptor: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken_off)
        with pytest.raises(error):
            write_together(folder, NEW)
    assert content(folder) == before


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        write_together(tmp_path / "nowhere", NEW)
    assert raised.value.filename == str(tmp_path / "nowhere" / "a.txt")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


@pytest.mark.parametrize(
    ("written", "found"), [("größer\n", "größer\n".encode()), (b"\x00\xff", b"\x00\xff"), ("", b"")]
)
def test_one_file_is_written_whole(written: str | bytes, found: bytes, tmp_path: Path) -> None:
    """Whoever has the old file open, or linked, keeps it."""
    path, link = tmp_path / "file", tmp_path / "link"
    path.write_bytes(b"old")
    os.link(path, link)
    write_atomically(path, written)
    assert content(tmp_path) == {"file": found, "link": b"old"}


def test_one_file_on_a_full_disk_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(1, os.fsync))
        with pytest.raises(OSError, match="No space left") as raised:
            write_atomically(path, b"new")
    assert raised.value.filename == str(path)
    assert content(tmp_path) == {"file": b"old"}


def test_two_who_write_one_file_at_once_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([n]) * 10_000 for n in range(4)]

    def write(one: bytes) -> None:
        for _ in range(20):
            write_atomically(path, one)

    threads = [threading.Thread(target=write, args=(one,)) for one in contents]
    for thread in threads:
        thread.start()
    seen = set()
    while any(thread.is_alive() for thread in threads):
        if path.exists():
            seen.add(path.read_bytes())
    for thread in threads:
        thread.join()
    assert seen | {path.read_bytes()} <= set(contents)
    assert list(content(tmp_path)) == ["file"]


@pytest.mark.parametrize("name", OLD)
def test_a_damaged_file_is_named(name: str, folder: Path) -> None:
    data = bytearray((folder / name).read_bytes() or b"\x00")
    data[-1] ^= 1
    (folder / name).write_bytes(data)
    for names in ([], [name], list(OLD)):
        with pytest.raises(DamagedError) as raised:
            check_together(folder, names)
        assert str(raised.value).startswith(f"{folder / name}: differs from its checksum in {CHECKSUMS_FILE}")


@pytest.mark.parametrize("name", OLD)
def test_a_missing_file_is_named(name: str, folder: Path) -> None:
    (folder / name).unlink()
    with pytest.raises(HandgradError) as raised:
        check_together(folder)
    assert str(raised.value) == f"{folder / name}: no such file"


def test_a_file_that_has_to_be_listed_and_is_not_is_named(folder: Path) -> None:
    with pytest.raises(DamagedError) as raised:
        check_together(folder, ["a.txt", "z", "weights"])
    assert str(raised.value) == f"{folder / CHECKSUMS_FILE}: does not list weights"


def test_without_checksums_nothing_is_vouched_for(folder: Path) -> None:
    (folder / CHECKSUMS_FILE).unlink()
    with pytest.raises(HandgradError) as raised:
        check_together(folder)
    assert str(raised.value) == f"{folder / CHECKSUMS_FILE}: no such file"


DIGEST = hashlib.sha256(b"secret").hexdigest()


@pytest.mark.parametrize(
    "listed",
    [
        f"{DIGEST}  ../secret\n",
        f"{DIGEST}  sub/secret\n",
        f"{DIGEST}  /etc/hostname\n",
        f"{DIGEST}  ..\\secret\n",
        f"{DIGEST}  ..\n",
        f"{DIGEST}  .\n",
        f"{DIGEST}  \n",
        f"{DIGEST} secret\n",
        f"{DIGEST[:-1]}  a.txt\n",
        f"{DIGEST.replace(DIGEST[0], 'g')}  a.txt\n",
        f"{DIGEST}  secret\n\nmore\n",
        "garbage\n",
        "\x00\n",
        "",
        "\n",
        b"\xff\xfe\x00",
    ],
)
def test_checksums_that_are_none_are_refused_and_lead_nowhere(listed: str | bytes, folder: Path) -> None:
    """Also an empty list: a file that lost its content vouches for nothing."""
    for path in (folder.parent / "secret", folder / "secret"):
        path.write_bytes(b"secret")
    (folder / CHECKSUMS_FILE).write_bytes(listed if isinstance(listed, bytes) else listed.encode())
    with pytest.raises(HandgradError) as raised:
        check_together(folder)
    assert str(raised.value).startswith(str(folder))
    assert "\n" not in str(raised.value)


def test_checksums_with_windows_line_ends_are_read(folder: Path) -> None:
    path = folder / CHECKSUMS_FILE
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    check_together(folder, OLD)


def test_a_model_whose_checksums_do_not_list_its_weights_is_refused(tmp_path: Path) -> None:
    """Such as a list that was cut at a line's end."""
    tokenizer = Tokenizer.of_characters("ab")
    config = ModelConfig(layers=1, heads=1, width=4, hidden=4, context=4, vocabulary=2)
    Model(config, initial_parameters(config), tokenizer).save(tmp_path)
    handgrad.load(tmp_path)
    path = tmp_path / CHECKSUMS_FILE
    kept = [line for line in path.read_text().splitlines(keepends=True) if "model.safetensors" not in line]
    assert len(kept) == 2
    path.write_text("".join(kept))
    with pytest.raises(HandgradError, match=r"checksums.sha256: does not list model.safetensors"):
        handgrad.load(tmp_path)


def test_who_reads_what_another_writes_looks_twice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []

    def finished_meanwhile(seconds: float) -> None:
        waited.append(seconds)
        write_together(folder, NEW)

    monkeypatch.setattr("handgrad.files.time.sleep", finished_meanwhile)
    check_unless_being_written(folder)
    assert waited == []
    (folder / "a.txt").write_bytes(NEW["a.txt"])  # the first of the new files has taken its place
    check_unless_being_written(folder, patience=0.25)
    assert waited == [0.25]


def test_checksums_that_are_gone_at_the_second_look_vouch_for_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("handgrad.files.time.sleep", lambda seconds: (folder / CHECKSUMS_FILE).unlink(missing_ok=True))
    (folder / "a.txt").write_bytes(b"damaged")
    with pytest.raises(HandgradError, match=r"checksums.sha256: no such file"):
        check_unless_being_written(folder)


def test_a_folder_that_changes_all_the_time_is_not_waited_for_for_ever(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = iter(range(1000))

    def changed(seconds: float) -> None:
        (folder / CHECKSUMS_FILE).write_text(f"{next(looks):064x}  a.txt\n")

    monkeypatch.setattr("handgrad.files.time.sleep", changed)
    (folder / "a.txt").write_bytes(b"damaged")
    with pytest.raises(DamagedError, match=r"a.txt: differs"):
        check_unless_being_written(folder)
    assert next(looks) < 20


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such files")
def test_devices_and_pipes_are_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path("/dev/zero"), tmp_path / "pipe"):
        with pytest.raises(HandgradError, match=r": not a file$"):
            read_file(path)


def test_what_stays_damaged_is_refused_at_the_second_look(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("handgrad.files.time.sleep", waited.append)
    (folder / "a.txt").write_bytes(b"damaged")
    with pytest.raises(DamagedError, match=r"a.txt: differs"):
        check_unless_being_written(folder)
    assert len(waited) == 1


def test_a_folder_without_checksums_is_taken_as_it_is(tmp_path: Path) -> None:
    check_unless_being_written(tmp_path)
    check_unless_being_written(tmp_path / "nowhere")


def test_parts_are_removed_and_nothing_else(folder: Path) -> None:
    kept = {"a.part": b"", "part": b"", ".hidden": b"", ".a.partly": b"", "x.1-2.part.txt": b""}
    for name in (*kept, ".a.txt.1-2.part", ".checksums.sha256.99-1.part"):
        (folder / name).touch()
    before = content(folder)
    remove_parts(folder)
    del before[".a.txt.1-2.part"], before[".checksums.sha256.99-1.part"]
    assert content(folder) == before
    remove_parts(folder / "nowhere")


def test_a_part_left_by_a_write_that_was_killed_is_one_that_is_removed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as by the system: nothing cleans up."""
    before = content(folder)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing(2, os.fsync))
        patch.setattr(Path, "unlink", lambda path, missing_ok=False: None)
        with pytest.raises(OSError, match="No space"):
            write_together(folder, NEW)
    assert len(content(folder)) == len(before) + 2
    remove_parts(folder)
    assert content(folder) == before


def test_an_error_within_names_the_file() -> None:
    with pytest.raises(OSError, match="No space") as raised, naming(Path("wanted")):
        raise OSError(errno.ENOSPC, "No space", "part", None, "target")
    assert (raised.value.errno, raised.value.filename, raised.value.filename2) == (errno.ENOSPC, "wanted", None)
    assert str(raised.value) == "[Errno 28] No space: 'wanted'"
    with pytest.raises(ValueError, match=r"^other$"), naming(Path("wanted")):
        raise ValueError("other")


def test_a_file_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\xef\xbb\xbfgr\xc3\xb6\r\n\x00")
    assert read_file(path) == b"\xef\xbb\xbfgr\xc3\xb6\r\n\x00"
    assert read_text_file(path) == "grö\r\n\x00"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path / "nowhere" / "file", "no such file"),
        (tmp_path, "is a folder"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        with pytest.raises(HandgradError) as raised:
            read_file(path)
        assert str(raised.value) == f"{path}: {reason}"


def test_bytes_that_are_not_utf8_are_told_with_their_place() -> None:
    assert decode_utf8("\ufeffä".encode(), "here") == "ä"
    with pytest.raises(HandgradError, match=r"^here: not UTF-8 \(byte 2\)$"):
        decode_utf8(b"ab\xe4", "here")


def test_a_json_object_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(b'\xef\xbb\xbf {"a": [1, null, "\xc3\xa4"]}\r\n')
    assert read_json_object(path) == {"a": [1, None, "ä"]}


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (b"", "not JSON: Expecting value"),
        (b"{", "not JSON: Expecting property name"),
        (b"{'a': 1}", "not JSON: Expecting property name"),
        (b'{"a": 1} {}', "not JSON: Extra data"),
        (b"[" * 200_000, "not JSON: "),
        (b'{"a": ' + b"9" * 10_000 + b"}", "not JSON: "),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b'"text"', "not a JSON object"),
        (b'{"a": "\xe4"}', "not UTF-8 (byte 7)"),
        (None, "no such file"),
    ],
)
def test_what_is_no_json_object_is_told(written: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    if written is not None:
        path.write_bytes(written)
    with pytest.raises(HandgradError) as raised:
        read_json_object(path)
    assert str(raised.value).startswith(f"{path}: {message}")
    assert "\n" not in str(raised.value)
    assert isinstance(raised.value, ConfigError) or written is None or b"\xe4" in written


def test_names_of_any_kind_are_listed(tmp_path: Path) -> None:
    files = {"größer 漢字 .txt": b"1", " ": b"2", "a  b": b"3", "-": b"4", json.dumps({"a": 1}): b"5"}
    write_together(tmp_path, files)
    check_together(tmp_path, files)


@pytest.mark.parametrize(
    "written",
    [
        "a",
        "a = 1\na = 2",
        "a = " + "[" * 5000,
        "a = " + "9" * 5000,
        "a = 0x" + "f" * 5000,
        "a = [0x" + "f" * 5000 + "]",
    ],
)
def test_what_is_no_toml_is_told(written: str, tmp_path: Path) -> None:
    """Also what the parser gives up at, and a number that Python would not write."""
    path = tmp_path / "file.toml"
    path.write_text(written)
    with pytest.raises(ConfigError, match=r"^\S+file.toml: not TOML: .*$"):
        read_toml(path)
