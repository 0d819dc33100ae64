"""Builds pannier._core, the C extension. What does not change from machine to
machine is in pyproject.toml; here is the compiler work.

Environment:
    PANNIER_WERROR=1      warnings are errors (CI)
    PANNIER_SANITIZE=...  e.g. "address,undefined": an instrumented build
    PANNIER_COVERAGE=1    a gcov build
    PANNIER_JOBS=N        compilers at once (default: the number of CPUs)
    CC, CXX, CFLAGS, LDFLAGS, PKG_CONFIG as usual
"""

from __future__ import annotations

import glob
import os
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import SetupError

HERE = os.path.dirname(os.path.abspath(__file__))
WARNINGS = ["-Wall", "-Wextra"]
C_FLAGS = ["-std=c11", *WARNINGS, "-Wstrict-prototypes", "-Wpointer-arith"]
CXX_FLAGS = ["-std=c++17", *WARNINGS, "-fno-exceptions", "-fno-rtti"]
COMMON_FLAGS = ["-O2", "-fvisibility=hidden", "-fno-strict-aliasing"]


def sources() -> list[str]:
    """Every C file below csrc, and the one C++ file, relative to the tree's root."""
    found = glob.glob("csrc/**/*.c", root_dir=HERE, recursive=True)
    return sorted(found) + ["csrc/codec/number_leaf.cpp"]


def pkg_config(*args: str) -> list[str] | None:
    tool = os.environ.get("PKG_CONFIG", "pkg-config")
    if not shutil.which(tool):
        return None
    done = subprocess.run([tool, *args], capture_output=True, text=True)
    return shlex.split(done.stdout) if done.returncode == 0 else None


def static_library(libs: list[str]) -> list[str] | None:
    """The archive behind "-L... -lmsgpackc", where the linker would find one."""
    cc = shlex.split(os.environ.get("CC", "cc"))
    paths = [a for a in libs if a.startswith("-L")]
    for name in (a[2:] for a in libs if a.startswith("-l")):
        done = subprocess.run(
            [*cc, *paths, f"-print-file-name=lib{name}.a"], capture_output=True, text=True, check=False
        )
        if os.path.isabs(done.stdout.strip()):
            return [done.stdout.strip()]
    return None


def find_msgpack() -> tuple[list[str], list[str]]:
    """(compiler flags, linker arguments) of msgpack-c, its static library where there is one.

    pkg-config knows it as "msgpack-c" since 6.0 and as "msgpack" before.
    """
    if not shutil.which(os.environ.get("PKG_CONFIG", "pkg-config")):
        raise SetupError("pannier needs pkg-config to find its C libraries: apt-get install pkg-config")
    for name in ("msgpack-c", "msgpack"):
        flags = pkg_config("--cflags", name)
        if flags is None:
            continue
        libs = pkg_config("--libs", name) or ["-lmsgpackc"]
        return flags, static_library(libs) or libs
    raise SetupError(
        "pannier needs msgpack-c (the C library), and pkg-config knows neither 'msgpack-c' nor 'msgpack'.\n"
        "On Debian and Ubuntu: apt-get install libmsgpack-dev"
    )


def find_number_libraries() -> list[str]:
    """Compiler flags for the header-only number libraries, where they are installed.

    They are optional: without them number_leaf.cpp uses std::from_chars and
    std::to_chars, which give the same digits at about twice the time.
    """
    flags, missing = [], []
    roots = ["/usr/include", "/usr/local/include", *os.environ.get("CPATH", "").split(os.pathsep)]
    roots = [r for r in roots if r]
    if any(os.path.exists(os.path.join(r, "fast_float/fast_float.h")) for r in roots):
        flags.append("-DPN_HAVE_FAST_FLOAT=1")
    else:
        missing.append("libfast-float-dev")
    # Debian keeps dragonbox's headers in a directory with the version in its name.
    places = [p for r in roots for p in [r, *sorted(glob.glob(os.path.join(r, "dragonbox-*")), reverse=True)]]
    for place in places:
        if os.path.exists(os.path.join(place, "dragonbox/dragonbox.h")):
            flags += ["-DPN_HAVE_DRAGONBOX=1"] + ([] if place in roots else ["-isystem", place])
            break
    else:
        missing.append("libdragonbox-dev")
    if missing:
        print(
            f"pannier: note: faster number reading and printing with: apt-get install {' '.join(missing)}",
            file=sys.stderr,
        )
    return flags


class BuildExt(build_ext):
    """Compiles C and C++ with their own flags, in parallel, and only what changed.

    Beside each object lies a dependency file written by the compiler and the
    command line, so a changed header or flag rebuilds what it must and no more.
    """

    def build_extension(self, ext: Extension) -> None:
        if sys.platform != "linux":
            raise SetupError(f"pannier supports Linux only for now, not {sys.platform}.")
        self.distinguish_builds()
        msgpack_flags, msgpack_libs = find_msgpack()
        self.compiler.set_include_dirs([])  # the core must not see Python.h
        flags = [*COMMON_FLAGS, *msgpack_flags, *find_number_libraries(), *self.variant_flags()]
        # Instrumented code confuses gcc's flow analysis into false warnings.
        if os.environ.get("PANNIER_WERROR") == "1" and not self.variant_flags():
            flags.append("-Werror")
        jobs = int(os.environ.get("PANNIER_JOBS") or os.cpu_count() or 1)
        with ThreadPoolExecutor(max_workers=jobs) as pool:
            objects = list(pool.map(lambda src: self.compile_one(ext, src, flags), sources()))
        self.link(ext, objects, msgpack_libs)

    def distinguish_builds(self) -> None:
        """Instrumented objects must never be mistaken for plain ones."""
        tag = os.environ.get("PANNIER_SANITIZE", "").replace(",", "-")
        tag = tag or ("coverage" if os.environ.get("PANNIER_COVERAGE") == "1" else "")
        if tag and not self.build_temp.endswith(tag):
            self.build_temp = f"{self.build_temp}-{tag}"

    def variant_flags(self) -> list[str]:
        sanitize = os.environ.get("PANNIER_SANITIZE")
        if sanitize:
            return [
                "-O1", "-g", "-UNDEBUG", "-fno-omit-frame-pointer",
                f"-fsanitize={sanitize}", "-fno-sanitize-recover=undefined",
            ]  # fmt: skip
        if os.environ.get("PANNIER_COVERAGE") == "1":
            return ["-O0", "-g", "--coverage"]
        return []

    def compile_one(self, ext: Extension, src: str, flags: list[str]) -> str:
        cxx = src.endswith(".cpp")
        base = os.path.join(self.build_temp, os.path.splitext(src)[0])
        obj, dep, cmd = base + ".o", base + ".d", base + ".cmd"
        extra = [*flags, *(CXX_FLAGS if cxx else C_FLAGS), "-MMD", "-MF", dep]
        include = [os.path.join(HERE, "csrc")]
        if src.startswith("csrc/py/"):
            include += ext.include_dirs + self.include_dirs
        macros = [("PN_VERSION", f'"{self.distribution.get_version()}"')]
        command = repr((self.compiler.compiler_so, include, macros, extra))
        if self.force or not self.is_current(src, obj, dep, cmd, command):
            os.makedirs(os.path.dirname(base), exist_ok=True)
            self.compiler.compile(
                [src],
                output_dir=self.build_temp,
                include_dirs=include,
                macros=macros,
                extra_postargs=extra,
            )
            with open(cmd, "w", encoding="utf-8") as f:
                f.write(command)
        return obj

    @staticmethod
    def is_current(src: str, obj: str, dep: str, cmd: str, command: str) -> bool:
        try:
            built = os.stat(obj).st_mtime_ns
            with open(cmd, encoding="utf-8") as f:
                if f.read() != command:
                    return False
            with open(dep, encoding="utf-8") as f:
                needed = f.read().replace("\\\n", " ").partition(":")[2].split()
            return all(os.stat(p).st_mtime_ns < built for p in [src, *needed])
        except OSError:
            return False

    def link(self, ext: Extension, objects: list[str], libraries: list[str]) -> None:
        """One exported symbol; no libstdc++ or msgpack symbol to clash with others'."""
        exports = os.path.join(self.build_temp, "exports.map")
        with open(exports, "w", encoding="utf-8") as f:
            f.write("{ global: PyInit__core; local: *; };\n")
        args = [*libraries, f"-Wl,--version-script={exports}", "-Wl,--exclude-libs,ALL", "-lm", "-lpthread"]
        variant = [f for f in self.variant_flags() if f.startswith("-fsanitize") or f == "--coverage"]
        # A sanitizer's run-time wants to intercept the shared libraries.
        args += variant or ["-static-libstdc++", "-static-libgcc", "-Wl,-z,relro,-z,now"]
        path = self.get_ext_fullpath(ext.name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.compiler.force = True  # its own check sees neither changed arguments nor archives
        self.compiler.link_shared_object(
            objects, path, extra_postargs=args, build_temp=self.build_temp, target_lang="c++"
        )


def numpy_include() -> list[str]:
    try:
        import numpy
    except ImportError:
        raise SetupError("pannier needs numpy to build: pip install 'numpy>=2'") from None
    return [numpy.get_include()]


os.chdir(HERE)
setup(
    ext_modules=[Extension("pannier._core", sources=sources(), include_dirs=numpy_include(), language="c++")],
    cmdclass={"build_ext": BuildExt},
)
