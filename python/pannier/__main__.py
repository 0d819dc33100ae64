"""``python -m pannier COMMAND`` and the console script ``pannier``."""

from __future__ import annotations

import importlib
import sys
from typing import Optional, Sequence

# command: (module with main(argv) -> exit status, what it does)
COMMANDS = {
    "demo": ("pannier.demo", "build, persist, reopen and ask an index of real text, beside LlamaIndex's own stores"),
}


def usage() -> str:
    lines = ["usage: pannier COMMAND ...", ""]
    lines += [f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()]
    lines += ["", "pannier COMMAND --help tells more; pannier --version."]
    return "\n".join(lines)


def version() -> str:
    """The installed version, or "unknown" in a source tree that is not installed."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("pannier")
    except PackageNotFoundError:
        return "unknown"


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command; imports nothing but that command's module.

    Args:
        argv: the arguments; ``sys.argv[1:]`` when None.

    Returns:
        int: the exit status, 2 for a command that does not exist.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] in ("-V", "--version"):
        print(f"pannier {version()}")
        return 0
    if not args or args[0] in ("-h", "--help"):
        print(usage())
        return 0 if args else 2
    if args[0] not in COMMANDS:
        print(f"pannier: no command '{args[0]}'\n\n{usage()}", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[args[0]][0])
    return int(command.main(args[1:]))


if __name__ == "__main__":
    sys.exit(main())
