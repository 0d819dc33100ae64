"""Turns between the two processes of a large size.

One process has the turn and runs, the other waits: while it builds what a row needs, too.
The turn goes over when a row has run for a while and again when it is done, and nobody goes
on to the next row before both have done this one. So a slow minute of the machine meets both
sides of a row, though each has a heap, a collector and page tables of its own.

The two hold the ends of a socket. A byte hands the turn over and says whether the sender has
done its row; an end of file says that the other process is gone, and from then on every turn
is this one's.
"""

from __future__ import annotations

import os
import socket
import time
from typing import Optional

SPELL = 0.02  # seconds of a turn, at least: what it finds in the processor's caches is its own
MORE, DONE = b"m", b"d"


class Turns:
    """One process's side. ``channel``: its end of the socket, or None: nobody to wait for."""

    def __init__(self, channel: Optional[socket.socket] = None, first: bool = True) -> None:
        self.channel = channel
        self.mine, self.other_done = not first, False
        self.began = 0.0
        if not first:
            self.give(MORE)

    def take(self) -> None:
        """Waits until it is this process's turn."""
        if self.channel is None or self.mine:
            return
        word = self.channel.recv(1)
        if not word:
            self.channel = None
        self.mine, self.other_done = True, self.other_done or word != MORE
        self.began = time.perf_counter()

    def give(self, word: bytes) -> None:
        if self.channel is None:
            return
        os.sync()  # what this side wrote is not the other's to wait for
        self.mine = False
        try:
            self.channel.send(word)
        except (BrokenPipeError, ConnectionResetError):
            self.channel, self.mine = None, True

    def between_repetitions(self) -> None:
        if not self.other_done and time.perf_counter() - self.began > SPELL:
            self.give(MORE)
            self.take()

    def end_row(self) -> None:
        """Returns when both have done the row; the one that was done first goes on first."""
        first = not self.other_done
        self.give(DONE)
        if first:
            self.take()
        self.other_done = False

    def leave(self) -> None:
        """The other process has every turn from now on."""
        if self.channel is not None:
            self.channel.close()
            self.channel = None
