"""A real terminal: Ctrl-C in the middle of a reply stops the reply and nothing else."""

from __future__ import annotations

import codecs
import contextlib
import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CHAT = "import sys; from tutelage.cli import main; sys.argv = ['tutelage', 'chat', *sys.argv[1:]]; main()"
CTRL_C, CTRL_D = b"\x03", b"\x04"


class Terminal:
    """The other end of a pseudo-terminal."""

    def __init__(self, process: subprocess.Popen[bytes], handle: int) -> None:
        self.process = process
        self.handle = handle
        self.seen = ""
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")  # reads may end inside a character

    def type(self, keys: bytes) -> None:
        os.write(self.handle, keys)

    def wait_for(self, text: str, more: int = 0) -> str:
        """What was shown from here until `text`, and `more` characters after it, have come."""
        deadline = time.monotonic() + 180  # a busy machine is no failure
        while text not in self.seen or len(self.seen) < self.seen.index(text) + len(text) + more:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.handle], [], [], 0.2)[0]:
                try:
                    self.seen += self.decoder.decode(os.read(self.handle, 65536))
                except OSError:  # the program has left
                    assert text in self.seen, self.seen
                    break
        end = self.seen.index(text) + len(text)
        shown, self.seen = self.seen[:end], self.seen[end:]
        return shown

    def rest(self, again: bytes = b"") -> str:
        """Everything until the program leaves. `again` is typed after every five seconds in which nothing comes:
        between the prompt and the wait for a key there is a moment at which readline hears no Ctrl-C.
        """
        deadline = time.monotonic() + 180
        while True:
            assert time.monotonic() < deadline, self.seen
            if not select.select([self.handle], [], [], 5)[0]:
                with contextlib.suppress(OSError):
                    self.type(again)
                continue
            try:
                piece = os.read(self.handle, 65536)
            except OSError:
                return self.seen
            if not piece:
                return self.seen
            self.seen += self.decoder.decode(piece)


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    """`tutelage chat` as the foreground program of a terminal of its own, so that the driver turns ^C into SIGINT."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    take = f"import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); {CHAT}"
    process = subprocess.Popen(
        [sys.executable, "-c", take, *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        env=environment,
    )
    os.close(theirs)
    try:
        yield Terminal(process, ours)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def test_ctrl_c_stops_the_reply_and_keeps_the_session(long_model: Path, tmp_path: Path) -> None:
    with terminal(str(long_model), "--max-tokens", "100000", "--temperature", "1") as chat:
        chat.wait_for("you › ")
        chat.type(b"hello\n")
        chat.wait_for("long › ", more=100)
        chat.type(CTRL_C)
        reply = chat.wait_for("[stopped; what was said stays in the conversation]")
        assert "\x1b" not in reply.replace("^C", "")
        chat.wait_for("you › ")
        assert chat.process.poll() is None
        chat.type(b"/temperature 0.5\n")
        chat.wait_for("[temperature 0.5]")
        chat.type(b"again\n")
        chat.wait_for("long › ", more=50)
        chat.type(CTRL_C)
        chat.wait_for("[stopped;")
        chat.wait_for("you › ")
        chat.type(f"/save {tmp_path}/chat.jsonl\n".encode())
        chat.wait_for("[4 messages appended to")
        chat.wait_for("you › ")
        chat.type(CTRL_C)
        assert "Traceback" not in chat.rest(again=CTRL_C)
        assert chat.process.wait(20) == 0
    messages = json.loads((tmp_path / "chat.jsonl").read_text())["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[1]["cut"] is True
    assert len(messages[1]["content"]) > 50


def test_a_long_prompt_is_explained_and_history_and_ctrl_d_work(model: Path) -> None:
    with terminal(str(model), "--max-tokens", "4") as chat:
        chat.wait_for("you › ")
        chat.type(b"y" * 400 + b"\n")
        chat.wait_for("Nothing was sent and nothing was dropped.")
        chat.wait_for("you › ")
        chat.type(b"hello\n")
        chat.wait_for("tiny › ")
        chat.wait_for("you › ")
        chat.type(b"\x10\n")  # Ctrl-P: the line before
        chat.wait_for("tiny › ")
        chat.wait_for("you › ")
        chat.type(b"/undo\n")
        chat.wait_for("[taken back: hello]")
        chat.wait_for("you › ")
        chat.type(CTRL_D)
        chat.rest()
        assert chat.process.wait(20) == 0
