"""Walls around one program, put up before it starts: `python -I -S confine.py LIMITS PROGRAM ARGUMENT…`.

Run as a script of its own, so that nothing happens between a fork and an exec in a process with threads. Limits of the
kernel hold everywhere; on Linux a seccomp filter also refuses sockets, other processes and all ways into them, and
Landlock every file but the program, its libraries and what the system lets anyone read of them. Standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import struct
import sys

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, _PR_CAPBSET_DROP = 38, 22, 2, 24
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000  # what a filter may answer; `_FAIL` with an error number
_NO_PERMISSION, _NO_SUCH_CALL = 1, 38  # the second makes the C library start its threads by `clone`, which is looked at
_CLONE_THREAD = 0x00010000
# Linux's numbers of calls, by processor: the audit name of the architecture, then the calls that are refused.
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_REFUSED = {
    "x86_64": {
        "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "sendmsg": 46, "bind": 49, "listen": 50,
        "socketpair": 53, "fork": 57, "vfork": 58, "kill": 62, "ptrace": 101, "mount": 165, "tkill": 200,
        "tgkill": 234, "unshare": 272, "accept4": 288, "setns": 308, "process_vm_readv": 310,
        "process_vm_writev": 311, "memfd_create": 319, "bpf": 321, "io_uring_setup": 425, "pidfd_open": 434,
        "clone3": 435, "pidfd_getfd": 438,
    },
    "aarch64": {
        "mount": 40, "unshare": 97, "ptrace": 117, "kill": 129, "tkill": 130, "tgkill": 131, "socket": 198,
        "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203, "sendto": 206, "sendmsg": 211,
        "accept4": 242, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "memfd_create": 279,
        "bpf": 280, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438,
    },
}  # fmt: skip
_CLONE = {"x86_64": 56, "aarch64": 220}
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446  # the same on both
_LANDLOCK_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # version → how many rights on files it knows; later ones: 16
_EXECUTE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 2, 1 << 3
_LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null")
_O_PATH = 0o10000000


def main() -> None:
    """Put up every wall that this system has, then become the program."""
    limits, argv = json.loads(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if libc is not None:
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        _landlock(libc, [argv[0], *limits.get("readable", [])])
    _limit(limits)
    if libc is not None:
        capability = 0
        while libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) == 0:  # or root could raise its limits again
            capability += 1
        _seccomp(libc)
    os.execve(argv[0], argv, {"LANG": "C.UTF-8"})


def _limit(limits: dict[str, int]) -> None:
    """The kernel's own limits: memory, processor time, no file written, no core dump, few descriptors."""
    values = {
        "RLIMIT_AS": limits["memory_bytes"],
        "RLIMIT_CPU": limits["cpu_seconds"],
        "RLIMIT_FSIZE": 0,
        "RLIMIT_CORE": 0,
        "RLIMIT_NOFILE": 16,
        "RLIMIT_NPROC": 0,
    }
    for name, value in values.items():
        with contextlib.suppress(ValueError, OSError):  # not every system has, or lets one lower, each of them
            resource.setrlimit(getattr(resource, name), (value, value))
    signal.alarm(limits["wall_seconds"] + 1)  # lives on in the program; the one who started it is to be quicker


def _seccomp(libc: ctypes.CDLL) -> None:
    """Refuse the calls of `_REFUSED`, and every new process that is not a thread of this one."""
    machine = os.uname().machine
    if machine not in _ARCHITECTURES:
        return
    load, equal, bits, give = 0x20, 0x15, 0x45, 0x06  # BPF: load a word, jump if equal, jump if bits are set, return
    program = [(load, 0, 0, 4), (equal, 1, 0, _ARCHITECTURES[machine]), (give, 0, 0, _KILL), (load, 0, 0, 0)]
    if machine == "x86_64":  # numbers of the x32 interface, which would slip past the list
        program += [(0x35, 0, 1, 0x40000000), (give, 0, 0, _KILL)]
    for name, number in _REFUSED[machine].items():
        error = _NO_SUCH_CALL if name == "clone3" else _NO_PERMISSION
        program += [(equal, 0, 1, number), (give, 0, 0, _FAIL | error)]
    program += [(equal, 0, 3, _CLONE[machine]), (load, 0, 0, 16), (bits, 1, 0, _CLONE_THREAD)]
    program += [(give, 0, 0, _FAIL | _NO_PERMISSION)]
    program += [(give, 0, 0, _ALLOW)]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program), ctypes.addressof(buffer)))
    if libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, head, 0, 0) != 0:
        sys.exit("the sandbox could not be closed: this kernel refuses a seccomp filter")


def _landlock(libc: ctypes.CDLL, readable: list[str]) -> None:
    """Refuse every file but those that starting the program needs; a kernel without Landlock refuses none."""
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return
    handled = (1 << _LANDLOCK_RIGHTS.get(version, 16)) - 1
    rules = ctypes.create_string_buffer(struct.pack("Q", handled), 8)
    ruleset = libc.syscall(_LANDLOCK_CREATE, rules, ctypes.c_size_t(8), 0)
    for path in [*_LIBRARIES, f"/proc/{os.getpid()}/maps", *readable]:
        if not os.path.exists(path):
            continue
        rights = _EXECUTE | _READ_FILE | (_READ_DIR if os.path.isdir(path) else 0)
        place = os.open(path, _O_PATH | os.O_CLOEXEC)
        rule = ctypes.create_string_buffer(struct.pack("=Qi", rights, place), 12)
        libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0)
        os.close(place)
    if libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0) != 0:
        sys.exit("the sandbox could not be closed: Landlock refused its rules")
    os.close(ruleset)


if __name__ == "__main__":
    main()
