"""Debian packages that tests need: root installs them where they are missing, else the test is skipped and says why."""

from __future__ import annotations

import os
import shutil
import subprocess

PATIENCE = 300  # seconds; a mirror that does not answer must not hold the tests for ever


class NotAvailableError(Exception):
    """Why a program is not here, in a sentence."""


def install(package: str) -> None:
    """Install it without a question; NotAvailableError where that cannot be done."""
    if shutil.which("apt-get") is None or os.getuid() != 0:
        raise NotAvailableError(f"{package} is not installed, and apt-get as root is needed to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    waiting = ["apt-get", "-o", f"DPkg::Lock::Timeout={PATIENCE}", "-qq"]
    try:
        for command in (["update"], ["install", "-y", "--no-install-recommends", package]):
            subprocess.run(
                [*waiting, *command], env=environment, check=True, capture_output=True, stdin=subprocess.DEVNULL,
                timeout=PATIENCE + 60,
            )  # fmt: skip
    except (subprocess.SubprocessError, OSError) as error:
        raise NotAvailableError(f"{package} cannot be installed here: {error}") from error
