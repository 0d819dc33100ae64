"""What goes wrong around a pack is named, loses nothing, and the next persist works.

A disk that is full, files that may not grow, directories that may not be written,
formats of later releases, names that are taken. (The C tests fail every single operation
and allocation, with ENOSPC and EDQUOT among others: tests/c/test_pack*.c.)
"""

from __future__ import annotations

import errno
import os
import pickle
import resource
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator

import pytest
from llama_index.core.data_structs.data_structs import IndexDict
from llama_index.core.schema import TextNode

import pannier
from pannier import CommitError, FormatVersionError, StorageContext, _core

NOBODY = 65534


def add(context: StorageContext, first: int, n: int = 1, dim: int = 2) -> None:
    nodes = [
        TextNode(id_=f"node-{i}", text=f"text {i} " * 10, embedding=[0.5 * i, *[0.25] * (dim - 1)])
        for i in range(first, first + n)
    ]
    context.docstore.add_documents([node.model_copy(update={"embedding": None}) for node in nodes])
    context.vector_store.add(nodes)
    structs = context.index_store.index_structs()
    struct = structs[0] if structs else IndexDict(index_id="index")
    struct.nodes_dict.update({node.node_id: node.node_id for node in nodes})
    context.index_store.add_index_struct(struct)
    context.graph_store.upsert_triplet("a", "r", str(first))


def made(n: int = 4) -> StorageContext:
    context = StorageContext.from_defaults()
    add(context, 0, n)
    return context


def files(folder: Path) -> Dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def as_dict(context: StorageContext) -> Dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        context.persist(folder, format="json")
        return files(Path(folder))


def opened(folder: Path, **kwargs: Any) -> StorageContext:
    return StorageContext.open(folder, **kwargs)


# ----- Full disks -----


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A file system of one megabyte."""
    folder = Path(tempfile.mkdtemp(prefix="pannier-small-"))
    mounted = os.geteuid() == 0 and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        folder.rmdir()
        pytest.skip("no small file system: mounting one takes root")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path, leave: int) -> None:
    """Leaves about so many bytes."""
    (disk / "ballast").unlink(missing_ok=True)
    stat = os.statvfs(disk)
    with open(disk / "ballast", "wb") as f:
        f.write(bytes(max(0, stat.f_bavail * stat.f_frsize - leave)))


def test_a_full_disk(small_disk: Path) -> None:
    folder = small_disk / "storage"
    context = made()
    context.persist(str(folder), format="pack")
    add(context, 100, 40, dim=32)
    before, wanted = files(folder), as_dict(opened(folder))
    failed = 0
    for leave in (0, 1 << 12, 1 << 13, 3 << 12, 1 << 14, 5 << 12, 1 << 16):
        fill(small_disk, leave)
        try:
            context.persist(str(folder))
        except CommitError as e:
            failed += 1
            assert e.errno == errno.ENOSPC and str(folder) in str(e.filename)
            assert files(folder) == before and as_dict(opened(folder)) == wanted
            continue
        break
    assert failed >= 2 and context.generation == 2
    assert as_dict(opened(folder, check=True)) == as_dict(context)


def test_a_full_disk_at_the_first_persist_and_at_upkeep(small_disk: Path) -> None:
    folder = small_disk / "storage"
    context = made(40)
    fill(small_disk, 1 << 13)
    with pytest.raises(CommitError) as caught:
        context.persist(str(folder), format="pack")
    assert caught.value.errno == errno.ENOSPC and not any(folder.iterdir())
    fill(small_disk, 1 << 18)
    context.persist(str(folder), format="pack")
    add(context, 50)
    context.persist(str(folder))
    before = files(folder)
    fill(small_disk, 0)
    for work in (
        lambda: pannier.compact(folder),
        lambda: pannier.rollback(folder, 1),
        lambda: pannier.convert(folder, "json"),
        lambda: pannier.convert(folder, "json", out=small_disk / "other"),
    ):
        with pytest.raises(OSError) as failed:
            work()
        assert failed.value.errno == errno.ENOSPC and files(folder) == before
    (small_disk / "ballast").unlink()
    pannier.compact(folder)
    assert as_dict(opened(folder)) == as_dict(context)
    pannier.convert(folder, "json")
    before = files(folder)
    fill(small_disk, 0)
    with pytest.raises(CommitError) as caught:
        pannier.convert(folder, "pack")
    assert caught.value.errno == errno.ENOSPC and str(folder) in str(caught.value.filename)
    assert files(folder) == before


def test_files_that_may_not_grow(tmp_path: Path) -> None:
    """EFBIG, at every length from none to enough: another way to run out of room."""
    folder = tmp_path / "storage"
    context = made()
    context.persist(str(folder), format="pack")
    add(context, 100, 3)
    before, wanted = files(folder), as_dict(opened(folder))
    old, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    failed = 0
    try:
        for limit in range(0, 1 << 16, 97):
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
            try:
                context.persist(str(folder))
            except CommitError as e:
                failed += 1
                resource.setrlimit(resource.RLIMIT_FSIZE, old)
                assert e.errno == errno.EFBIG and str(folder) in str(e.filename)
                assert files(folder) == before
                continue
            break
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, ignored)
    assert failed >= 5 and context.generation == 2
    assert wanted != as_dict(opened(folder, check=True)) == as_dict(context)


# ----- Permissions -----


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that everybody can reach."""
    folder = Path(tempfile.mkdtemp(prefix="pannier-shared-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def as_nobody(work: Callable[[], Any]) -> Any:
    """What work returns, or the exception that it raises, in a process without privileges."""
    there, here = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            try:
                result = work()
            except Exception as e:
                result = e
            with open(here, "wb") as f:
                pickle.dump(result, f)
            status = 0
        finally:
            os._exit(status)
    os.close(here)
    with open(there, "rb") as f:
        data = f.read()
    assert os.waitpid(pid, 0)[1] == 0
    return pickle.loads(data)


def test_readers_need_no_write_permission(shared: Path) -> None:
    folder = shared / "storage"
    context = made()
    context.persist(str(folder), format="pack")
    add(context, 100)
    context.persist(str(folder))
    before = files(folder)
    folder.chmod(0o555)

    def read() -> Any:
        reader = StorageContext.open(folder, read_only=True)
        old = StorageContext.open(folder, generation=1, check=True)
        reloaded = reader.reload()
        again = StorageContext.from_defaults(persist_dir=str(folder))
        single = pannier.SimpleDocumentStore.from_persist_dir(str(folder))
        return (
            reader.docstore.document_exists("node-100"), old.docstore.document_exists("node-100"), reloaded,
            again.vector_store.get("node-100"), single.get_document("node-1").get_content() == "text 1 " * 10,
            [g.number for g in pannier.history(folder)], pannier.verify(folder), pannier.inspect(folder)["generation"],
        )  # fmt: skip

    try:
        assert as_nobody(read) == (True, False, False, [50.0, 0.25], True, [1, 2], [], 2)
    finally:
        folder.chmod(0o755)
    assert files(folder) == before


def test_who_may_not_write(shared: Path) -> None:
    folder = shared / "storage"
    made().persist(str(folder), format="pack")
    before = files(folder)
    folder.chmod(0o555)
    attempts: Dict[str, Callable[[], Any]] = {
        "persist": lambda: _changed(folder).persist(str(folder)),
        "rebuild": lambda: made(2).persist(str(folder)),
        "single": lambda: made(2).docstore.persist(str(folder / "docstore.json")),
        "compact": lambda: pannier.compact(folder),
        "rollback": lambda: pannier.rollback(folder, 1),
        "convert": lambda: pannier.convert(folder, "json"),
        "below": lambda: made(2).persist(str(folder / "deeper"), format="pack"),
    }
    try:
        for name, attempt in attempts.items():
            failed = as_nobody(attempt)
            assert isinstance(failed, PermissionError) and isinstance(failed, CommitError), (name, failed)
            assert failed.errno == errno.EACCES and str(folder) in str(failed.filename), (name, failed)
            assert files(folder) == before, name
    finally:
        folder.chmod(0o755)
    made(3).persist(str(folder))
    assert pannier.history(folder)[-1].number == 2


def test_who_may_not_convert(shared: Path) -> None:
    folder = shared / "storage"
    made().persist(str(folder), format="json")
    before = files(folder)
    folder.chmod(0o555)
    failed = as_nobody(lambda: pannier.convert(folder, "pack"))
    folder.chmod(0o755)
    assert isinstance(failed, PermissionError) and isinstance(failed, CommitError), failed
    assert failed.filename == str(folder / "MANIFEST") and files(folder) == before
    pannier.convert(folder, "pack")
    assert opened(folder).docstore.document_exists("node-1")


@pytest.mark.parametrize("at", ["link", "fsync", "unlink"])
def test_killed_at_the_first_step_of_a_conversion(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest that keeps a pack as private as the JSON files: never half of it."""
    made().persist(str(tmp_path), format="json")

    def killed() -> None:
        def die(*args: Any) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        monkeypatch.setattr(os, at, die)
        pannier.convert(tmp_path, "pack")

    pid = os.fork()
    if pid == 0:
        killed()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert opened(tmp_path).docstore.document_exists("node-1")
    pannier.convert(tmp_path, "pack")
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == ["MANIFEST", "seg"]


def _changed(folder: Path) -> StorageContext:
    context = StorageContext.open(folder)
    add(context, 200)
    return context


def test_a_directory_that_may_not_be_entered_and_files_that_may_not_be_read(shared: Path) -> None:
    folder = shared / "storage"
    made().persist(str(folder), format="pack")
    for path, mode in ((folder, 0o000), (folder / "MANIFEST", 0o000), (next(folder.glob("seg-*")), 0o000)):
        old = path.stat().st_mode & 0o777
        path.chmod(mode)
        try:
            for attempt in (
                lambda: StorageContext.open(folder),
                lambda: StorageContext.from_defaults(persist_dir=str(folder)),
                lambda: pannier.verify(folder),
            ):
                failed = as_nobody(attempt)
                assert isinstance(failed, PermissionError) and failed.errno == errno.EACCES, (path, failed)
                assert str(folder) in str(failed.filename), failed
        finally:
            path.chmod(old)
    assert opened(folder).docstore.document_exists("node-1")


# ----- Names that are taken -----


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_bytes(b"mine")
    context = made()
    for folder in (taken, taken / "below"):
        with pytest.raises(OSError) as caught:
            context.persist(str(folder), format="pack")
        assert isinstance(caught.value, (CommitError, NotADirectoryError, FileExistsError))
        assert str(taken) in str(caught.value)
        with pytest.raises((FileNotFoundError, NotADirectoryError)):
            opened(folder)
        assert taken.read_bytes() == b"mine"
    context.persist(str(tmp_path / "free"), format="pack")
    assert as_dict(opened(tmp_path / "free")) == as_dict(context)


@pytest.mark.parametrize("name", ["MANIFEST", ".pannier-writer"])
def test_a_directory_under_a_name_of_ours(name: str, tmp_path: Path) -> None:
    (tmp_path / name / "inside").mkdir(parents=True)
    context = made()
    if name == "MANIFEST":
        with pytest.raises(OSError, match=name):
            context.persist(str(tmp_path), format="pack")
        assert sorted(os.listdir(tmp_path)) == [name] and os.listdir(tmp_path / name) == ["inside"]
        (tmp_path / name / "inside").rmdir()
        (tmp_path / name).rmdir()
    context.persist(str(tmp_path), format="pack")
    assert as_dict(opened(tmp_path)) == as_dict(context)


# ----- Formats of later releases -----


def crc(data: bytes) -> bytes:
    return _core.crc32c(data).to_bytes(4, "little")


def make_newer(folder: Path, kind: str) -> Path:
    """The manifest, or the segment, says version 2; all checksums are right."""
    manifest = folder / "MANIFEST"
    m = bytearray(manifest.read_bytes())
    path = manifest
    if kind == "segment":
        path = next(folder.glob("seg-*"))
        s = bytearray(path.read_bytes())
        old = s[-4:]
        s[8:12] = s[-36:-32] = (2).to_bytes(4, "little")
        s[-4:] = crc(bytes(s[-64:-4]))
        path.write_bytes(bytes(s))
        at = m.index(b"\xce" + bytes(reversed(old)))
        m[at + 1 : at + 5] = bytes(reversed(s[-4:]))
        m[12:16] = crc(bytes(m[32:]))
    else:
        m[8:12] = (2).to_bytes(4, "little")
    m[28:32] = crc(bytes(m[:28]))
    manifest.write_bytes(bytes(m))
    return path


@pytest.mark.parametrize("kind", ["manifest", "segment"])
def test_a_newer_format(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "storage"
    context = made()
    context.persist(str(folder), format="pack")
    good = files(folder)
    path = make_newer(folder, kind)
    newer = files(folder)
    add(context, 100)
    attempts = [
        lambda: opened(folder),
        lambda: opened(folder, check=True),
        lambda: StorageContext.from_defaults(persist_dir=str(folder)),
        lambda: pannier.SimpleDocumentStore.from_persist_dir(str(folder)),
        lambda: pannier.convert(folder, "json"),
        lambda: pannier.verify(folder),
        lambda: context.reload(),
    ]
    if kind == "manifest":  # a commit does not look into segments that it does not merge
        attempts += [
            lambda: context.persist(str(folder)),
            lambda: pannier.history(folder),
            lambda: pannier.compact(folder),
            lambda: pannier.rollback(folder, 1),
        ]
    for attempt in attempts:
        with pytest.raises(FormatVersionError, match=f"{path.name}.*version 2.*version 1.*Update pannier"):
            attempt()
        assert files(folder) == newer
    for name, data in good.items():
        (folder / name).write_bytes(data)
    context.persist(str(folder))
    assert as_dict(opened(folder)) == as_dict(context)


@pytest.mark.parametrize("pieces", ["head", "tail"])
def test_half_of_a_newer_segment_is_damage(pieces: str, tmp_path: Path) -> None:
    context = made()
    context.persist(str(tmp_path), format="pack")
    path = next(tmp_path.glob("seg-*"))
    data = bytearray(path.read_bytes())
    where = slice(8, 12) if pieces == "head" else slice(len(data) - 36, len(data) - 32)
    data[where] = (2).to_bytes(4, "little")
    path.write_bytes(bytes(data))
    with pytest.raises((pannier.CorruptPackError, FormatVersionError), match=path.name):
        opened(tmp_path)
