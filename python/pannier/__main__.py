"""The command line: ``pannier COMMAND`` or ``python -m pannier COMMAND``.

Nothing of LlamaIndex is imported before a command needs it.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Optional, Sequence

import pannier

# name -> (module, function of it: argv -> exit status, what it does)
COMMANDS = {
    "demo": ("demo", "main", "build, persist, reopen and query an index beside LlamaIndex's own storage"),
    "inspect": ("_commands", "inspect", "tell what is in a persisted directory"),
    "verify": ("_commands", "verify", "check every byte of a persisted directory"),
    "convert": ("_commands", "convert", "turn a directory into a pack, or back into JSON"),
    "history": ("_commands", "history", "list a pack's generations"),
    "rollback": ("_commands", "rollback", "make an earlier generation current again"),
    "compact": ("_commands", "compact", "write a pack as one segment, forget older generations"),
}


def usage() -> str:
    lines = ["usage: pannier COMMAND [ARGUMENTS]", "       pannier --version", "", "commands:"]
    lines += [f"  {name:10} {what}" for name, (_, _, what) in COMMANDS.items()]
    lines += ["", "pannier COMMAND --help tells more about one."]
    return "\n".join(lines)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run one command.

    Args:
        argv: arguments without the program's name; ``sys.argv[1:]`` when None.

    Returns:
        int: the command's exit status; 2 for a command line that makes no sense.
    """
    args = list(sys.argv[1:] if argv is None else argv)
    if args and args[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if args and args[0] in ("-V", "--version"):
        print(f"pannier {pannier.__version__}")
        return 0
    if not args or args[0] not in COMMANDS:
        if args:
            print(f"pannier: no such command: {args[0]}", file=sys.stderr)
        print(usage(), file=sys.stderr)
        return 2
    module, function, _ = COMMANDS[args[0]]
    return int(getattr(import_module(f"pannier.{module}"), function)(args[1:]) or 0)


if __name__ == "__main__":
    sys.exit(main())
