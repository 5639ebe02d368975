"""A real PostgreSQL for tests: Debian's package, installed if it is not there, in a cluster that is stopped."""

from __future__ import annotations

import ctypes
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from debian import NotAvailableError, install


def programs() -> Path:
    """The folder with initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        install("postgresql")
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NotAvailableError("PostgreSQL was installed, but /usr/lib/postgresql/*/bin/initdb is not there")
    return found[-1].parent


@contextmanager
def cluster() -> Iterator[str]:
    """The URL of a new cluster, without the database's name; it runs as another user if the tests are run by root."""
    bin = programs()
    user = "postgres" if os.getuid() == 0 else getpass.getuser()
    place = Path(tempfile.mkdtemp(prefix="tutelage-pg-"))
    if os.getuid() == 0:
        os.chown(place, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    data = place / "data"
    own: dict[str, Any] = {"user": user} if os.getuid() == 0 else {}
    try:
        initialise = [bin / "initdb", "-D", data, "-A", "trust", "-U", "tutelage", "-E", "UTF8", "--no-sync"]
        subprocess.run(initialise, check=True, stdout=subprocess.DEVNULL, cwd=place, timeout=60, **own)
        settings = ["-c", "listen_addresses=127.0.0.1", "-c", f"unix_socket_directories={place}", "-c", "fsync=off"]
        with (place / "log").open("wb") as log:
            server = subprocess.Popen(
                [bin / "postgres", "-D", data, "-p", str(port), *settings],
                stdout=log, stderr=log, cwd=place, preexec_fn=_die_with_parent, **own,
            )  # fmt: skip
        try:
            _wait(server, bin, port, place / "log")
            yield f"postgresql://tutelage@127.0.0.1:{port}"
        finally:
            server.send_signal(signal.SIGINT)  # a fast shutdown
            server.wait(timeout=60)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotAvailableError(f"PostgreSQL does not start here: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _die_with_parent() -> None:
    """Tests that are killed leave no server behind (prctl: PR_SET_PDEATHSIG)."""
    ctypes.CDLL(None).prctl(1, signal.SIGINT)


def _wait(server: subprocess.Popen[bytes], bin: Path, port: int, log: Path) -> None:
    for _ in range(600):
        if server.poll() is not None:
            raise NotAvailableError(f"PostgreSQL does not start here: {log.read_text(errors='replace')[-300:]}")
        if subprocess.run([bin / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode == 0:
            return
        time.sleep(0.1)
    raise NotAvailableError("PostgreSQL does not answer within a minute")
