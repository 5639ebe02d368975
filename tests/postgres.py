"""A real PostgreSQL for tests: Debian's package, installed if it is not there, in a cluster that is stopped."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSTALL = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "postgresql"]


class NotAvailable(Exception):  # noqa: N818  (a reason to skip, no error)
    """Why there is no PostgreSQL here, in a sentence."""


def programs() -> Path:
    """The folder with initdb and pg_ctl."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not found:
        _install()
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        raise NotAvailable("PostgreSQL was installed, but /usr/lib/postgresql/*/bin/initdb is not there")
    return found[-1].parent


def _install() -> None:
    if shutil.which("apt-get") is None or os.getuid() != 0:
        raise NotAvailable("PostgreSQL is not installed, and apt-get as root is needed to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        for command in (["apt-get", "update", "-qq"], INSTALL):
            subprocess.run(command, env=environment, check=True, capture_output=True, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        raise NotAvailable(f"PostgreSQL cannot be installed here: {error}") from error


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
    data, log = place / "data", place / "log"
    settings = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={place} -c fsync=off"

    def run(*command: str) -> None:
        own = {"user": user} if os.getuid() == 0 else {}
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=place, timeout=60, **own)  # type: ignore[call-overload]

    try:
        run(str(bin / "initdb"), "-D", str(data), "-A", "trust", "-U", "tutelage", "-E", "UTF8", "--no-sync")
        run(str(bin / "pg_ctl"), "-D", str(data), "-l", str(log), "-o", settings, "-w", "start")
        try:
            yield f"postgresql://tutelage@127.0.0.1:{port}"
        finally:
            run(str(bin / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    except (subprocess.SubprocessError, OSError) as error:
        raise NotAvailable(f"PostgreSQL does not start here: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
