"""Reading and writing files: against the peer's file system calls, and what the peer
does not promise: all or nothing, symlinks, modes, unfinished commits."""

from __future__ import annotations

import os
import pathlib
import stat
import subprocess
import sys
import threading

import fsspec
import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from llama_index.core.storage.kvstore import SimpleKVStore as PeerKVStore

from pannier import _core, _files
from pannier.errors import CommitError, JournalError, OutcomeUnknownError

STAGED = ".pannier-00000000-{:016x}.tmp"


@pytest.fixture(autouse=True)
def in_tmp(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def write(path, data: bytes = b"{}", fs=None, **kwargs) -> None:
    _files.write_files([(path, data)], os.path.dirname(path), fs, **kwargs)


def own(directory=".") -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(".pannier-")]


def result(function, *args):
    """What a call gives: ("ok", value), or how its exception looks from outside."""
    try:
        return ("ok", function(*args))
    except Exception as e:
        return (builtin_of(e), getattr(e, "errno", None), getattr(e, "filename", None))


def builtin_of(e: Exception) -> type:
    """The built-in exception class that somebody would catch e by."""
    return next(c for c in type(e).__mro__ if c.__module__ == "builtins")


# ---- paths as the peer takes them ----

PATHS = [
    "x.json",
    "./x.json",
    "dir/sub/x.json",
    "dir//sub/./x.json",
    "dir/../up/x.json",
    "~/x.json",
    "file:///{tmp}/url/x.json",
    "file://{tmp}/url/x.json",
    "local://{tmp}/url2/x.json",
    "{tmp}/abs/x.json",
    "with space/ü\n%.json",
    "surrogate\udc80.json",
    pathlib.PurePosixPath("p/x.json"),
    pathlib.PurePosixPath("p.json"),
]
BAD_PATHS = ["", "dir/", "dir", "file.json/x.json", "file.json/x/y.json", "/proc/nope/x.json", "nul\0.json"]


@pytest.mark.parametrize("path", PATHS, ids=[repr(p) for p in PATHS])
@pytest.mark.parametrize("fs", [None, LocalFileSystem(), LocalFileSystem(auto_mkdir=True)], ids=["none", "fs", "mkdir"])
def test_files_end_where_the_peer_puts_them(path, fs, tmp_path) -> None:
    if isinstance(path, str):
        path = path.replace("{tmp}", str(tmp_path).lstrip("/") if "///" in path else str(tmp_path))
    peer = PeerKVStore()
    peer.put("a", {"b": 1})
    peer.persist(path, fs)
    theirs = sorted((root, tuple(files)) for root, _, files in os.walk(tmp_path) if files)
    for root, files in theirs:
        for name in files:
            os.unlink(os.path.join(root, name))
    write(path, b"mine", fs)
    assert sorted((root, tuple(files)) for root, _, files in os.walk(tmp_path) if files) == theirs
    assert _files.exists(path, fs) is True
    assert bytes(_files.read_file(path, fs)) == b"mine" == (fs or LocalFileSystem()).cat_file(path)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_reading_fails_as_the_peer_does(path) -> None:
    os.mkdir("dir")
    pathlib.Path("file.json").write_text("{}")
    fs = fsspec.filesystem("file")
    assert result(_files.read_file, path) == result(lambda p: fs.open(p, "rb").read(), path)
    assert result(_files.read_file, path, fs) == result(lambda p: fs.open(p, "rb").read(), path)
    with pytest.raises(Exception) as ours:
        _files.read_file(path)
    with pytest.raises(Exception) as theirs:
        fs.open(path, "rb")
    assert str(ours.value) == str(theirs.value)
    assert _files.exists(path) == fs.exists(path)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_writing_fails_with_the_class_and_errno_of_the_peer(path) -> None:
    os.mkdir("dir")
    pathlib.Path("file.json").write_text("{}")
    ours, theirs = result(write, path), result(PeerKVStore().persist, path)
    assert ours[:2] == theirs[:2] and theirs[0] != "ok"
    assert sorted(os.listdir()) == ["dir", "file.json"] and os.listdir("dir") == []


def test_missing_file_names_the_absolute_path(tmp_path) -> None:
    with pytest.raises(FileNotFoundError) as e:
        _files.read_file("no.json")
    assert e.value.filename == str(tmp_path / "no.json")


def test_a_large_file_comes_whole() -> None:
    data = os.urandom(9_000_000)
    write("big", data)
    text = _files.read_file("big")
    assert memoryview(text).nbytes == len(data) and bytes(text) == data


def test_devices_and_pipes_are_written_not_replaced() -> None:
    write("/dev/null", b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    os.mkfifo("fifo")
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.append(pathlib.Path("fifo").read_bytes()))
    reader.start()
    write("fifo", b"through")
    reader.join()
    assert got == [b"through"] and stat.S_ISFIFO(os.stat("fifo").st_mode)


# ---- several files ----


def test_files_below_and_beside_the_directory(tmp_path) -> None:
    items = [
        ("top/a.json", b"a"),
        ("top/sub/deep/b.json", b"b"),
        ("top/../beside.json", b"c"),
        (str(tmp_path / "elsewhere/d.json"), b"d"),
        ("top/./a.json", b"the last counts"),
    ]
    _files.write_files(items, "top")
    assert pathlib.Path("top/a.json").read_bytes() == b"the last counts"
    assert pathlib.Path("top/sub/deep/b.json").read_bytes() == b"b"
    assert pathlib.Path("beside.json").read_bytes() == b"c"
    assert pathlib.Path("elsewhere/d.json").read_bytes() == b"d"
    assert own("top") == own(".") == own("top/sub/deep") == own("elsewhere") == []


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x"), b""])
def test_any_buffer_is_taken(data) -> None:
    write("f", data)
    assert pathlib.Path("f").read_bytes() == bytes(data)
    write("g", _files.read_file("f"))
    assert pathlib.Path("g").read_bytes() == bytes(data)


def test_commit_files_argument_errors() -> None:
    with pytest.raises(TypeError):
        _core.commit_files("d", [("d/a", "text")])
    with pytest.raises(TypeError):
        _core.commit_files("d", ["d/a"])
    with pytest.raises(TypeError):
        _core.commit_files("d", 5)
    with pytest.raises(ValueError, match="does not lie in"):
        _core.commit_files("d", [("e/a", b"x")])
    for bad in ("d/../e", "d/a/../b", "d/.pannier-commit"):
        with pytest.raises(ValueError, match="not a file name inside"):
            _core.commit_files("d", [("d/ok", b"x"), (bad, b"x")])
    with pytest.raises(ValueError, match="twice"):
        _core.commit_files("d", [("d/a", b"x"), ("d//a", b"y")])
    with pytest.raises(ValueError):
        _core.commit_files("d", [])
    with pytest.raises(ValueError, match="null"):
        _core.commit_files("d\0", [("d/a", b"x")])
    assert not os.path.exists("d")


def test_a_failing_file_leaves_all_as_they_were() -> None:
    _files.write_files([("d/a", b"1"), ("d/b", b"1")], "d")
    os.mkdir("d/c")
    with pytest.raises(IsADirectoryError) as e:
        _files.write_files([("d/a", b"2"), ("d/b", b"2"), ("d/c", b"2")], "d")
    assert isinstance(e.value, CommitError) and not isinstance(e.value, OutcomeUnknownError)
    assert e.value.filename == os.path.abspath("d/c") and "Is a directory" in str(e.value)
    assert sorted(os.listdir("d")) == ["a", "b", "c"]
    assert pathlib.Path("d/a").read_bytes() == pathlib.Path("d/b").read_bytes() == b"1"


def test_modes_and_symlinks_are_kept() -> None:
    os.mkdir("real")
    pathlib.Path("real/a").write_text("old")
    os.chmod("real/a", 0o604)
    os.mkdir("d")
    os.symlink("../real/a", "d/a")
    _files.write_files([("d/a", b"new"), ("d/b", b"new")], "d")
    assert os.readlink("d/a") == "../real/a"
    assert pathlib.Path("real/a").read_bytes() == b"new"
    assert stat.S_IMODE(os.stat("real/a").st_mode) == 0o604
    assert own("d") == own("real") == []


def test_in_place_keeps_inode_and_hard_links() -> None:
    _files.write_files([("d/a", b"first, and longer"), ("d/b", b"1")], "d")
    os.link("d/a", "d/a2")
    inode = os.stat("d/a").st_ino
    _files.write_files([("d/a", b"second"), ("d/new", b"2")], "d", in_place=True)
    assert os.stat("d/a").st_ino == inode
    assert pathlib.Path("d/a2").read_bytes() == b"second"
    _files.write_files([("d/a", b"third")], "d")
    assert pathlib.Path("d/a2").read_bytes() == b"second"
    assert own("d") == []


NO_PERMISSION = """
import os, sys
sys.path[:0] = {path!r}
import fsspec.implementations.local
from pannier import _files
from pannier.errors import CommitError
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
for directory, name in (("closed", "a"), ("open", "guarded")):
    for in_place in (False, True):
        try:
            _files.write_files([(f"{{directory}}/a", b"2"), (f"{{directory}}/{{name}}", b"2")], directory, None, in_place)
        except PermissionError as e:
            assert isinstance(e, CommitError) and e.filename.endswith(f"{{directory}}/{{name}}"), e
        else:
            raise AssertionError(directory)
        assert open(f"{{directory}}/a", "rb").read() == b"1"
    assert [n for n in os.listdir(directory) if n.startswith(".pannier")] == []
print("fine")
"""


def run_without_permissions(script: str, tmp_path) -> str:
    for parent in [tmp_path, *tmp_path.parents]:
        if parent != pathlib.Path("/") and parent.stat().st_uid == os.geteuid() and os.geteuid() == 0:
            parent.chmod(parent.stat().st_mode | 0o055)
    done = subprocess.run(
        [sys.executable, "-c", script.format(path=[p for p in sys.path if p])], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_permissions_are_respected(tmp_path) -> None:
    for directory in ("closed", "open"):
        _files.write_files([(f"{directory}/a", b"1"), (f"{directory}/guarded", b"1")], directory)
    os.chmod("closed/a", 0o666)
    os.chmod("open/a", 0o666)
    os.chmod("open/guarded", 0o444)
    os.chmod("open", 0o777)
    os.chmod("closed", 0o555)
    try:
        assert run_without_permissions(NO_PERMISSION, tmp_path) == "fine"
    finally:
        os.chmod("closed", 0o755)


# ---- unfinished commits ----


def journal(entries: list[tuple[str, bytes]], directory: str = "d", verb: str = "rename") -> None:
    """Leaves a directory as a commit does that is killed before its first rename."""
    lines = ["pannier-commit 1\n"]
    for i, (name, data) in enumerate(entries):
        path = pathlib.Path(directory, name)
        old = f"{path.stat().st_size}:{path.stat().st_mtime_ns}" if path.exists() else "-"
        pathlib.Path(directory, STAGED.format(i)).write_bytes(data)
        lines.append(f"{verb} {crc32c(data):08x} {len(data)} {old} {STAGED.format(i)} {name}\n")
    text = "".join(lines)
    pathlib.Path(directory, ".pannier-commit").write_text(f"{text}end {len(entries)} {crc32c(text.encode()):08x}\n")


def crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@pytest.fixture
def cut(in_tmp):
    """d/a and d/b of old, and a commit of a, b and c that was killed after its journal."""
    _files.write_files([("d/a", b"old a"), ("d/b", b"old b")], "d")
    journal([("a", b"new a"), ("b", b"new b"), ("c", b"new c")])


@pytest.mark.parametrize("renamed", [[], ["a"], ["a", "b"], ["b"], ["a", "b", "c"]], ids=str)
def test_reading_one_file_finishes_the_commit(cut, renamed) -> None:
    for name in renamed:
        os.rename("d/" + STAGED.format("abc".index(name)), "d/" + name)
    assert bytes(_files.read_file("d/b")) == b"new b"
    assert sorted(os.listdir("d")) == ["a", "b", "c"]
    assert [pathlib.Path("d", n).read_bytes() for n in "abc"] == [b"new a", b"new b", b"new c"]


def test_recover_tells_whether_there_was_something(cut) -> None:
    assert _files.recover("d", read_only=True) is True
    assert pathlib.Path("d/a").read_bytes() == b"old a"
    assert _core.pending("d") == ["a", "b", "c"]
    assert _files.recover("d") is True
    assert _files.recover("d") is False and _core.pending("d") == []
    assert pathlib.Path("d/a").read_bytes() == b"new a"
    assert _files.recover("nowhere") is False
    assert _files.recover("d", fsspec.filesystem("memory")) is False


def test_read_only_reading_changes_nothing(cut) -> None:
    before = sorted(os.listdir("d"))
    for name in "abc":
        assert bytes(_files.read_file(f"d/{name}", read_only=True)) == b"new " + name.encode()
    assert sorted(os.listdir("d")) == before


def test_listing_and_existence_see_the_commit(cut) -> None:
    assert _files.exists("d/c") and not _files.exists("d/x")
    assert sorted(_files.listdir("d")) == ["a", "b", "c"]
    assert own("d") == []


READ_ONLY_DIRECTORY = """
import os, sys
sys.path[:0] = {path!r}
import fsspec.implementations.local
from pannier import _files
if os.geteuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
assert _files.exists("d/c") and not _files.exists("d/x")
assert sorted(_files.listdir("d")) == ["a", "b", "c"]
print(*[bytes(_files.read_file("d/" + n)).decode() for n in "abc"])
"""


def test_a_read_only_directory_is_read_through_its_journal(cut, tmp_path) -> None:
    os.rename("d/" + STAGED.format(0), "d/a")
    os.chmod("d", 0o555)
    try:
        assert run_without_permissions(READ_ONLY_DIRECTORY, tmp_path) == "new a new b new c"
    finally:
        os.chmod("d", 0o755)
    assert pathlib.Path("d/b").read_bytes() == b"old b"


def test_a_load_does_not_write_through_symlinks(in_tmp) -> None:
    os.mkdir("d")
    os.mkdir("far")
    pathlib.Path("far/a").write_bytes(b"old a")
    os.symlink("../far/a", "d/a")
    journal([("a", b"new a"), ("b", b"new b")])
    os.rename("d/" + STAGED.format(0), "far/" + STAGED.format(0))
    assert bytes(_files.read_file("d/a")) == b"new a" and bytes(_files.read_file("d/b")) == b"new b"
    assert pathlib.Path("far/a").read_bytes() == b"old a" and not os.path.exists("d/b")
    assert _files.exists("d/b") and sorted(_files.listdir("d")) == ["a", "b"]
    write("d/c", b"c")
    assert pathlib.Path("far/a").read_bytes() == b"new a" and pathlib.Path("d/b").read_bytes() == b"new b"
    assert own("d") == own("far") == [] and os.path.islink("d/a")


def test_a_persist_finishes_the_commit_before_it(cut) -> None:
    write("d/b", b"newer b")
    assert sorted(os.listdir("d")) == ["a", "b", "c"]
    assert pathlib.Path("d/a").read_bytes() == b"new a" and pathlib.Path("d/b").read_bytes() == b"newer b"


def test_in_place_commit_is_finished_from_a_torn_file(in_tmp) -> None:
    _files.write_files([("d/a", b"old a"), ("d/b", b"old b")], "d")
    journal([("a", b"new a"), ("b", b"new b")], verb="copy")
    pathlib.Path("d/a").write_bytes(b"ne")
    assert bytes(_files.read_file("d/b")) == b"new b" and pathlib.Path("d/a").read_bytes() == b"new a"
    assert own("d") == []


def test_a_file_somebody_else_wrote_meanwhile_is_not_overwritten(cut) -> None:
    pathlib.Path("d/b").write_bytes(b"precious")
    for call in (lambda: _files.read_file("d/a"), lambda: _files.recover("d"), lambda: write("d/x")):
        with pytest.raises(JournalError, match="d/b: the file was changed by somebody else.*delete the journal"):
            call()
    assert pathlib.Path("d/b").read_bytes() == b"precious" and pathlib.Path("d/a").read_bytes() == b"old a"
    os.unlink("d/.pannier-commit")
    write("d/x")
    assert sorted(os.listdir("d")) == ["a", "b", "x"]
    assert pathlib.Path("d/a").read_bytes() == b"old a"


@pytest.mark.parametrize("text", [b"", b"junk", b"pannier-commit 1\n", b"pannier-commit 2\nx\n"])
def test_a_damaged_journal_is_an_error_that_names_it(cut, text) -> None:
    pathlib.Path("d/.pannier-commit").write_bytes(text)
    with pytest.raises(JournalError, match=r"\.pannier-commit"):
        _files.read_file("d/a")
    assert pathlib.Path("d/a").read_bytes() == b"old a" and len(own("d")) == 4


def test_a_damaged_staged_file_is_an_error_that_names_it(cut) -> None:
    pathlib.Path("d", STAGED.format(1)).write_bytes(b"new B")
    with pytest.raises(JournalError, match=STAGED.format(1)):
        _files.read_file("d/a")
    assert pathlib.Path("d/a").read_bytes() == b"old a" and len(own("d")) == 4


def test_leftovers_of_killed_persists_go_with_the_next(in_tmp) -> None:
    os.mkdir("d")
    pathlib.Path("d", STAGED.format(7)).write_bytes(b"x")
    pathlib.Path("d/.pannier-mine").write_bytes(b"not ours to remove")
    write("d/a")
    assert sorted(os.listdir("d")) == [".pannier-mine", "a"]
    pathlib.Path("d", STAGED.format(7)).write_bytes(b"x")
    assert _core.sweep("d") == 1 and _core.sweep("d") == 0 and _core.sweep("nowhere") == 0


def test_the_example_of_the_format_document_is_a_valid_journal(in_tmp) -> None:
    document = pathlib.Path(__file__).parents[2] / "csrc/FORMAT.md"
    block = document.read_text().split("For example, ")[1].split("\n\n")[1]
    example = "".join(line.strip() + "\n" for line in block.splitlines())
    assert example.startswith("pannier-commit 1\nrename ")
    os.mkdir("d")
    pathlib.Path("d/.pannier-commit").write_text(example)
    assert _core.pending("d") == ["docstore.json", "index_store.json"]
    pathlib.Path("d/.pannier-00000000-0123456789abcdef.tmp").write_text('{"a": 1}')
    pathlib.Path("d/.pannier-00000000-fedcba9876543210.tmp").write_text("{}")
    assert _files.recover("d") is True
    assert pathlib.Path("d/docstore.json").read_text() == '{"a": 1}'


# ---- several at once ----


def test_threads_take_turns_and_readers_see_whole_commits(in_tmp) -> None:
    def commit(text: bytes) -> None:
        _files.write_files([(f"d/{n}", text) for n in "abc"], "d")

    def load() -> set[bytes]:
        return {bytes(_files.read_file(f"d/{n}")) for n in "abc"}

    def writer(number: int) -> None:
        for i in range(15):
            commit(f"{number}.{i}".encode() * 50)

    commit(b"0")
    threads = [threading.Thread(target=writer, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    seen = 0
    while any(thread.is_alive() for thread in threads):
        assert len(_files.read_stable(load, [f"d/{n}" for n in "abc"], "d")) == 1
        seen += 1
    for thread in threads:
        thread.join()
    assert len(load()) == 1 and own("d") == [] and seen > 0


def test_read_stable_loads_again_after_a_commit_and_hands_errors_on(in_tmp) -> None:
    _files.write_files([("d/a", b"1"), ("d/b", b"1")], "d")
    calls = []

    def load():
        calls.append(bytes(_files.read_file("d/a")))
        if len(calls) == 1:
            _files.write_files([("d/a", b"2"), ("d/b", b"2")], "d")
        return calls[-1], bytes(_files.read_file("d/b"))

    assert _files.read_stable(load, ["d/a", "d/b"], "d") == (b"2", b"2") and len(calls) == 2
    with pytest.raises(FileNotFoundError):
        _files.read_stable(lambda: _files.read_file("d/none"), ["d/none"], "d")


# ---- other file systems ----


@pytest.fixture
def memory():
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def test_unwrap_local() -> None:
    class Mine(LocalFileSystem):
        pass

    assert _files.unwrap_local(None) and _files.unwrap_local(LocalFileSystem())
    assert _files.unwrap_local(LocalFileSystem(auto_mkdir=True))
    assert not _files.unwrap_local(Mine()) and not _files.unwrap_local(fsspec.filesystem("memory"))
    assert not _files.unwrap_local(DirFileSystem("/tmp", LocalFileSystem()))


def test_files_of_another_file_system_are_put_whole(memory) -> None:
    _files.write_files([("bucket/ctx/a.json", b"1"), ("bucket/ctx/b.json", memoryview(b"2"))], "bucket/ctx", memory)
    assert memory.cat("bucket/ctx/a.json") == b"1" and memory.cat("bucket/ctx/b.json") == b"2"
    assert _files.read_file("bucket/ctx/b.json", memory) == b"2"
    assert _files.exists("bucket/ctx/a.json", memory) and not _files.exists("bucket/ctx/c.json", memory)
    assert sorted(_files.listdir("bucket/ctx", memory)) == ["a.json", "b.json"]
    assert result(_files.read_file, "bucket/no.json", memory)[0] is FileNotFoundError
    assert not os.path.exists("bucket")


def test_a_directory_file_system_is_asked_itself(tmp_path) -> None:
    fs = DirFileSystem(str(tmp_path / "base"), LocalFileSystem())
    os.mkdir("base")
    _files.write_files([("in/a.json", b"1")], "in", fs)
    assert pathlib.Path("base/in/a.json").read_bytes() == b"1"
    assert _files.listdir("in", fs) == ["a.json"] and _files.read_file("in/a.json", fs) == b"1"


def test_listing_takes_names_or_dictionaries_with_any_path() -> None:
    class Listing(fsspec.AbstractFileSystem):
        def ls(self, path, detail=True, **kwargs):
            return [{"name": "b/ctx/x.json"}, "s3://b/ctx/y.json", "z.json", "b/ctx/sub/", ".pannier-commit"]

    assert _files.listdir("b/ctx", Listing()) == ["x.json", "y.json", "z.json", "sub"]


def test_listing_a_missing_directory_is_the_file_systems_error(memory) -> None:
    assert result(_files.listdir, "none")[0] is FileNotFoundError
    assert result(_files.listdir, "none", memory)[0] is FileNotFoundError
