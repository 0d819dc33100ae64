"""Cuts the power of a file system under a process that persists, again and again.

An ext4 in a file is mounted through a loop device. A child persists numbered generations
there (the workers of kill9.py) and reports each one whose persist returned. At a random
moment ext4's shutdown ioctl ends all I/O, without writing its journal first: what no fsync
had made durable is gone, as after a power cut. The file system is then mounted anew, and
all stores must be of one generation, not older than the last that was reported; the next
persist must work and leave nothing behind.

    python tests/crash/powercut.py --rounds 200 [--worker pack] [--seed 1] [--without-fsync]

--without-fsync makes every fsync of the child do nothing, to see that this test notices:
it then expects failures. Needs root, loop devices and ext4; where that is missing it says
so and exits with 77.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pickle
import random
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from typing import Any, Callable, NamedTuple

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import kill9  # noqa: E402

SHUTDOWN = 0x8004587D  # EXT4_IOC_SHUTDOWN
NO_LOG_FLUSH = 2
SKIPPED = 77
NO_SYNC = "int fsync(int f){(void)f;return 0;} int fdatasync(int f){(void)f;return 0;} int syncfs(int f){(void)f;return 0;}\n"


class Outcome(NamedTuple):
    rounds: int
    persists: int  # that returned
    newer: int  # cuts after the commit, before the report
    leftovers: int  # cuts that left staged files or segments
    failures: list[str]


def run_quietly(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


class Disk:
    """An ext4 in a file, mounted."""

    def __init__(self, folder: str) -> None:
        self.image = os.path.join(folder, "image")
        self.root = os.path.join(folder, "mounted")
        os.mkdir(self.root)
        with open(self.image, "wb") as f:
            f.truncate(64 << 20)
        run_quietly("mkfs.ext4", "-q", "-F", self.image)
        self.mount()

    def mount(self) -> None:
        run_quietly("mount", "-o", "loop", self.image, self.root)

    def unmount(self) -> None:
        for _ in range(100):
            if subprocess.run(["umount", self.root], stderr=subprocess.DEVNULL).returncode == 0:
                return
            time.sleep(0.02)
        run_quietly("umount", "-l", self.root)

    def cut(self) -> None:
        fd = os.open(self.root, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)


def apart(work: Callable[[], Any]) -> Any:
    """What work returns, from a process that then is gone with all that it had mapped."""
    there, here = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(there)
            with open(here, "wb") as f:
                pickle.dump(_result(work), f)
        finally:
            os._exit(0)
    os.close(here)
    with open(there, "rb") as f:
        data = f.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return pickle.loads(data) if data else f"the process died ({status})"


def _result(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except Exception as e:
        return f"{type(e).__name__}: {e}"


def persist_until_cut(disk: Disk, worker: kill9.Worker, first: int, delay: float) -> tuple[int, int]:
    """(last generation reported, how many were)."""
    there, here = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(here, sys.stdout.fileno())
        os.close(there)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
        try:
            kill9.child(worker, disk.root + "/storage", first)
        finally:
            os._exit(0)
    os.close(here)
    with open(there, "rb", buffering=0) as f:
        reports = f.read(kill9.REPORT.size) or b""
        time.sleep(delay)
        disk.cut()
        os.kill(pid, signal.SIGKILL)
        while more := f.read(1 << 16):
            reports += more
    os.waitpid(pid, 0)
    whole = len(reports) // kill9.REPORT.size
    if whole == 0:
        raise RuntimeError("the child persisted nothing")
    return kill9.REPORT.unpack_from(reports, (whole - 1) * kill9.REPORT.size)[0], whole


def look(disk: Disk, worker: kill9.Worker, reported: int, generation: int) -> tuple[int, str, int]:
    """(generation found, what is wrong or "", leftovers) after the disk is back, and after
    one more persist."""
    directory = disk.root + "/storage"
    left = len(kill9.own_files(directory))
    found, wrong = kill9.check(worker, directory, reported)
    if not wrong:
        worker.persist(directory, generation)
        if kill9.check(worker, directory, generation)[1] or kill9.own_files(directory):
            wrong = f"the next persist left {kill9.own_files(directory)}"
    return found, wrong, left


def run(args: argparse.Namespace) -> Outcome:
    worker, rng = kill9.WORKERS[args.worker], random.Random(args.seed)
    failures: list[str] = []
    persists = newer = leftovers = 0
    folder = tempfile.mkdtemp(prefix="pannier-powercut-")
    disk = Disk(folder)
    try:
        apart(lambda: worker.persist(disk.root + "/storage", 0))
        os.sync()
        generation = 0
        for number in range(args.rounds):
            reported, count = persist_until_cut(disk, worker, generation + 1, rng.uniform(0, args.max_delay))
            persists += count
            disk.unmount()
            disk.mount()
            told = apart(lambda: look(disk, worker, reported, reported + 1000))
            found, wrong, left = told if isinstance(told, tuple) else (reported, told, 0)
            leftovers += bool(left)
            newer += not wrong and found > reported
            if wrong:
                failures.append(f"round {number}: {wrong}")
                shutil.rmtree(disk.root + "/storage", ignore_errors=True)
                apart(lambda: worker.persist(disk.root + "/storage", reported + 1000))
                if len(failures) == 5 and not args.without_fsync:
                    break
            generation = reported + 1000
    finally:
        disk.unmount()
        shutil.rmtree(folder)
    return Outcome(args.rounds, persists, newer, leftovers, failures)


def missing() -> str:
    """Why it cannot run here, or ""."""
    if os.geteuid() != 0:
        return "not root"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices"
    folder = tempfile.mkdtemp(prefix="pannier-powercut-")
    try:
        disk = Disk(folder)
        try:
            disk.cut()
        finally:
            disk.unmount()
    except (OSError, subprocess.CalledProcessError) as e:
        return f"no ext4 that can be cut off: {e}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return ""


def without_fsync(folder: str) -> None:
    """Runs this again with a library before the C library whose fsync does nothing."""
    source, library = os.path.join(folder, "nosync.c"), os.path.join(folder, "nosync.so")
    with open(source, "w", encoding="utf-8") as f:
        f.write(NO_SYNC)
    run_quietly("cc", "-shared", "-fPIC", "-o", library, source)
    environment = dict(os.environ, LD_PRELOAD=library)
    os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--worker", choices=sorted(kill9.WORKERS), default="pack")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-delay", type=float, default=0.05, help="seconds of persisting before the cut")
    parser.add_argument("--without-fsync", action="store_true", help="expect failures")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    why = missing()
    if why:
        print(f"skipped: {why}")
        return SKIPPED
    if args.without_fsync and "nosync" not in os.environ.get("LD_PRELOAD", ""):
        with tempfile.TemporaryDirectory(prefix="pannier-nosync-") as folder:
            without_fsync(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nothing stays mounted
    import pannier  # noqa: F401 - once, for all the children

    outcome = run(args)
    print(
        f"{outcome.rounds} power cuts, {outcome.persists} persists that returned, {outcome.leftovers} cut while writing, "
        f"{outcome.newer} found newer than reported, {len(outcome.failures)} failures"
    )
    for failure in outcome.failures[:5]:
        print(failure)
    return 1 if bool(outcome.failures) != args.without_fsync else 0


if __name__ == "__main__":
    sys.exit(main())
