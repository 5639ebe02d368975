"""Attempts to get out: by Python in Monty, and by a whole CPython where only the walls of the process stand."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

import pytest

from tutelage.tools.python import MAX_CODE, run_python
from tutelage.tools.sandbox import Ended, Limits, run_confined

SHORT = Limits(wall_seconds=1, cpu_seconds=1)  # for what is to be ended
linux = pytest.mark.skipif(sys.platform != "linux", reason="seccomp and Landlock are Linux's")


@pytest.mark.parametrize(
    ("code", "output"),
    [
        ("1 + 1", "2"),
        ("print('a')\n'b'", "a\nb"),
        ("x = 3", ""),
        ("import math, json\njson.dumps([math.sqrt(16)])", "[4.0]"),
        ("sum(i * i for i in range(10))", "285"),
        ("def f(n):\n    return 1 if n < 2 else n * f(n - 1)\nf(20)", "2432902008176640000"),
        ("import sys\nprint('warned', file=sys.stderr)\n'é\\u4e16'", "warned\né世"),
    ],
)
def test_code_is_run(code: str, output: str) -> None:
    ran = run_python(code)
    assert (ran.output, ran.error) == (output, "")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero (line 1)"),
        ("x = 1\n\nx.y", "(line 3)"),
        ("x = (1", "SyntaxError"),
        ("-h", "NameError"),  # never taken for an option of the program
    ],
)
def test_mistakes_are_told_with_their_line(code: str, error: str) -> None:
    assert error in run_python(code).error


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("open({path!r}).read()", "Error"),
        ("from pathlib import Path\nPath({path!r}).read_text()", "Error"),
        ("open({path!r}, 'w').write('x')", "Error"),
        ("import os\nos.listdir('/')", "Error"),
        ("import os\nos.environ['PATH']", "Error"),
        ("import socket", "ModuleNotFoundError"),
        ("import urllib.request", "ModuleNotFoundError"),
        ("import subprocess", "ModuleNotFoundError"),
        ("import ctypes", "ModuleNotFoundError"),
        ("import os\nos.system('true')", "AttributeError"),
        ("import os\nos.fork()", "AttributeError"),
        ("__import__('os').system('true')", "__import__"),
        ("().__class__.__mro__[1].__subclasses__()", "AttributeError"),
        ("(lambda: 0).__globals__", "AttributeError"),
        ("x = []\nwhile True:\n    x.append('a' * 10**6)", "MemoryError"),
        ("'a' * 10**10", "MemoryError"),
        ("10 ** 10**10", "MemoryError"),
        ("def f(n):\n    return f(n + 1)\nf(0)", "RecursionError"),
        ("import time\ntime.sleep(60)", "TimeoutError"),
        ("(" * 15_000 + "1", "SyntaxError"),
        ("x" * (MAX_CODE + 1), "characters"),
        ("'\0'", "zero byte"),
    ],
)
def test_ways_out_are_closed_and_told(code: str, error: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    ran = run_python(code.replace("{path!r}", repr(str(secret))))
    assert error in ran.error
    assert "a secret" not in ran.output + ran.error
    assert secret.read_text() == "a secret"


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass",
        "x = 7 ** (10**7)\nwhile True:\n    x = x * x",  # one operation, in which Monty does not look at its clock
        "x = []\nfor i in range(10**6):\n    x = [x]\nx",
        "print('x' * 1000)\nwhile True:\n    print('x' * 1000)",
    ],
)
def test_what_does_not_end_is_ended(code: str) -> None:
    start = time.monotonic()
    ran = run_python(code, SHORT)
    assert ran.error or len(ran.output) < SHORT.output_bytes
    assert len(ran.output) <= SHORT.output_bytes
    assert time.monotonic() - start < 10


def test_the_same_code_gives_the_same_result() -> None:
    code = "import random\n[random.random() for _ in range(3)]"
    assert run_python(code) == run_python(code)
    endless = "while True:\n    pass"
    assert run_python(endless, SHORT) == run_python(endless, SHORT)


def cpython(code: str, limits: Limits | None = None) -> Ended:
    """A real Python as the attacker: an interpreter that broke out would have no less."""
    program = os.path.realpath(sys.executable)
    return run_confined([program, "-I", "-c", code], limits or Limits(), [sys.base_prefix])


def test_an_honest_program_runs_within_the_walls() -> None:
    ended = cpython("import os\nprint(dict(os.environ))")
    assert (ended.ending, ended.code, ended.stderr) == ("exit", 0, b"")
    assert b"PATH" not in ended.stdout


@linux
@pytest.mark.parametrize(
    "code",
    [
        "open({path!r}).read()",
        "open({path!r}, 'w').write('x')",
        "import os; os.unlink({path!r})",
        "import os; os.listdir({folder!r})",
        "open({folder!r} + '/new', 'w')",
        "open('/proc/1/environ').read()",
        "open('/etc/passwd').read()",
        "import socket; socket.create_connection(('127.0.0.1', {port}), 1)",
        "import socket; socket.socket(socket.AF_UNIX)",
        "import socket; socket.socketpair()",
        "import os; os.fork()",
        "import subprocess; subprocess.run(['/bin/true'])",
        "import multiprocessing as m; p = m.Process(target=print); p.start()",
        "import os; os.kill(os.getppid(), 9)",
        "import resource as r; r.setrlimit(r.RLIMIT_AS, (r.RLIM_INFINITY, r.RLIM_INFINITY))",
        "import resource as r; r.setrlimit(r.RLIMIT_FSIZE, (10, 10))",
        "x = bytearray(2 << 30)",
    ],
)
def test_the_walls_of_the_process_hold_by_themselves(code: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("a secret")
    with socket.create_server(("127.0.0.1", 0)) as server:
        told = {
            "{path!r}": repr(str(secret)),
            "{folder!r}": repr(str(tmp_path)),
            "{port}": str(server.getsockname()[1]),
        }
        for name, value in told.items():
            code = code.replace(name, value)
        ended = cpython(code)
    assert ended.code != 0
    assert b"Error" in ended.stderr
    assert b"a secret" not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == [secret]
    assert secret.read_text() == "a secret"


@pytest.mark.parametrize(
    ("code", "ending"),
    [
        ("import time; time.sleep(60)", "time"),
        ("import os; os.close(1); os.close(2)\nimport time; time.sleep(60)", "time"),
        ("while True: pass", "time"),
        ("import signal, time; signal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", "time"),
        ("while True: print('x' * 1000)", "output"),
        ("import sys\nwhile True: sys.stderr.write('x' * 1000)", "output"),
        ("import os; os.abort()", "killed"),
    ],
)
def test_every_ending_is_told_apart_and_comes_in_time(code: str, ending: str) -> None:
    start = time.monotonic()
    ended = cpython(code, SHORT if ending != "killed" else None)
    assert ended.ending == ending
    assert len(ended.stdout) + len(ended.stderr) <= SHORT.output_bytes
    assert time.monotonic() - start < SHORT.wall_seconds + 5
