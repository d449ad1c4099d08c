"""A process whose changes of files are watched, one system call at a time, and broken off where one likes.

The kernel itself stops the process before every call that changes a file (seccomp and ptrace), so that what C++ and
Rust write is seen as well as what Python writes, and nothing of the program is replaced. Linux on x86-64 alone.
"""

import contextlib
import ctypes
import os
import platform
import signal
import struct
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

#: System calls that change files, by number: what they are called, and where their path or descriptor is.
_CALLS = {
    1: ("write", "fd"),
    2: ("open", "path 0"),
    18: ("pwrite", "fd"),
    20: ("writev", "fd"),
    76: ("truncate", "path 0"),
    77: ("ftruncate", "fd"),
    82: ("rename", "path 0"),
    83: ("mkdir", "path 0"),
    84: ("rmdir", "path 0"),
    85: ("open", "path 0"),
    86: ("link", "path 1"),
    87: ("unlink", "path 0"),
    88: ("symlink", "path 1"),
    90: ("chmod", "path 0"),
    91: ("chmod", "fd"),
    74: ("fsync", "fd"),
    75: ("fsync", "fd"),
    257: ("open", "path 1"),
    258: ("mkdir", "path 1"),
    263: ("unlink", "path 1"),
    264: ("rename", "path 1"),
    265: ("link", "path 3"),
    268: ("chmod", "path 1"),
    280: ("utime", "path 1"),
    285: ("allocate", "fd"),
    316: ("rename", "path 1"),
    326: ("write", "fd 2"),
}
_WRITES = (1, 18)  # whose third argument is how much: these can be cut in half
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long

_TRACEME, _POKEUSER, _CONT, _SYSCALL, _SETOPTIONS, _BORN, _INFO = 0, 6, 7, 24, 0x4200, 0x4201, 0x420E
_OPTIONS = 1 | 2 | 4 | 8 | 0x10 | 0x80 | 0x100000  # sysgood, fork, vfork, clone, exec, seccomp, exitkill
_EVENTS_BIRTH, _EVENT_SECCOMP = (1, 2, 3), 7
_RAX, _RDX, _ORIG_RAX = 10 * 8, 12 * 8, 15 * 8  # struct user_regs_struct


@dataclass(frozen=True)
class Op:
    """One change of a file, about to be made.

    Attributes:
        name: ``write``, ``rename``, ... path: below the root that is watched. divisible: whether half of it
            can be done. inode: of the open file that is changed, if it is one.
    """

    name: str
    path: str
    divisible: bool = False
    inode: int = field(default=0, compare=False)

    def __str__(self) -> str:
        return f"{self.name} {self.path}"


#: What happens at a change, by its number from 0: None, "kill" before it, "half" of it and then killed, or an errno.
Decide = Callable[[int, Op], "str | int | None"]


def unsupported() -> str | None:
    """Why processes cannot be traced here; None if they can."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return "system calls are traced on Linux and x86-64 only"
    try:
        status, _ = watch(lambda: 7, Path("/proc"), lambda number, op: None)
    except OSError as error:
        return f"processes cannot be traced here ({error})"
    return None if status == 7 else "processes cannot be traced here"


def forked(work: Callable[[], int]) -> int:
    """The process that does ``work``, forked off this one: it exits with the answer, or with 70 and a traceback."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        status = 70
        try:
            status = work()
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)
    return child


def watch(work: Callable[[], int], root: Path, decide: Decide) -> tuple[int, list[Op]]:
    """Do ``work`` in a process forked off this one, which should have no threads.

    Args:
        work: returns the exit status.
        root: changes of files below this folder count.
        decide: what happens at each of them.

    Returns:
        The exit status, negative for a signal, and the changes up to there.
    """

    def traced() -> int:
        _ptrace(_TRACEME, 0, 0, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        _ask_to_be_stopped()
        return work()

    child = forked(traced)
    _, stopped = os.waitpid(child, 0)
    if not os.WIFSTOPPED(stopped):
        return os.waitstatus_to_exitcode(stopped), []
    _ptrace(_SETOPTIONS, child, 0, _OPTIONS)
    _ptrace(_CONT, child, 0, 0)
    return _follow(child, str(root.resolve()) + "/", decide)


def _follow(child: int, root: str, decide: Decide) -> tuple[int, list[Op]]:
    ops: list[Op] = []
    status, dying = 0, False
    alive = {child}  # not all children: this process may have others, which go on
    while alive:
        try:
            task, stopped = os.waitpid(-1, 0x40000000)  # __WALL: threads too
        except ChildProcessError:
            break
        if not os.WIFSTOPPED(stopped):
            alive.discard(task)
            if task == child:
                status = os.waitstatus_to_exitcode(stopped)
            continue
        alive.add(task)
        how, passed_on = _CONT, 0
        sent, event = os.WSTOPSIG(stopped), stopped >> 16
        if event in _EVENTS_BIRTH:
            with contextlib.suppress(ProcessLookupError):
                alive.add(_born(task))
        if event == _EVENT_SECCOMP and not dying:
            number, arguments = _call(task)
            op = _described(task, number, arguments, root)
            if op is not None:
                wish = decide(len(ops), op)
                ops.append(op)
                if isinstance(wish, int):
                    _ptrace(_POKEUSER, task, _ORIG_RAX, -1)
                    _ptrace(_POKEUSER, task, _RAX, -wish)
                elif wish == "half" and op.divisible:
                    _ptrace(_POKEUSER, task, _RDX, arguments[2] // 2)
                    how = _SYSCALL
                elif wish is not None:
                    os.kill(child, signal.SIGKILL)
                    dying = True
                    continue
        elif sent == signal.SIGTRAP | 0x80:  # half of it is written
            os.kill(child, signal.SIGKILL)
            dying = True
            continue
        elif not event and sent not in (signal.SIGSTOP, signal.SIGTRAP):
            passed_on = sent
        try:
            _ptrace(how, task, 0, passed_on)
        except ProcessLookupError:  # killed by another
            continue
    return status, ops


def _ptrace(request: int, task: int, address: int, data: int) -> int:
    ctypes.set_errno(0)
    result = int(_libc.ptrace(request, task, address, data))
    if result == -1 and (error := ctypes.get_errno()):
        raise OSError(error, os.strerror(error))
    return result


def _born(task: int) -> int:
    """What a task that is stopped at a birth has begun."""
    number = ctypes.c_ulong()
    _ptrace(_BORN, task, 0, ctypes.addressof(number))
    return number.value


def _call(task: int) -> tuple[int, tuple[int, ...]]:
    """The number and the six arguments of the system call at which a task is stopped."""
    buffer = ctypes.create_string_buffer(128)
    _ptrace(_INFO, task, len(buffer), ctypes.addressof(buffer))
    number, *arguments = struct.unpack_from("<7Q", buffer, 24)
    return number, tuple(arguments)


def _described(task: int, number: int, arguments: tuple[int, ...], root: str) -> Op | None:
    name, where = _CALLS[number]
    kind, _, place = where.partition(" ")
    argument, inode = arguments[int(place or 0)], 0
    try:
        if kind == "fd":
            opened = f"/proc/{task}/fd/{argument & 0xFFFFFFFF}"
            path, inode = os.readlink(opened), os.stat(opened).st_ino
        else:
            folder = ctypes.c_int(arguments[int(place) - 1] & 0xFFFFFFFF).value if int(place) else -100
            start = os.readlink(f"/proc/{task}/cwd" if folder == -100 else f"/proc/{task}/fd/{folder}")
            path = os.path.normpath(os.path.join(start, _text(task, argument))) if argument else start
    except OSError:
        return None
    if not path.startswith(root):
        return None
    return Op(name, path.removeprefix(root), number in _WRITES and arguments[2] > 1, inode)


def _text(task: int, address: int) -> str:
    with open(f"/proc/{task}/mem", "rb", buffering=0) as memory:
        memory.seek(address)
        out = b""
        while b"\0" not in out:
            # To the end of a page: the next one may be of nobody.
            part = memory.read(4096 - (address + len(out)) % 4096)
            if not part:
                break
            out += part
    return os.fsdecode(out.partition(b"\0")[0])


def _ask_to_be_stopped() -> None:
    """Have the kernel stop this process, if it is traced, before every call that may change a file."""
    load, equal, any_bit, give = 0x20, 0x15, 0x45, 0x06  # BPF: ld abs, jeq, jset, ret
    stop, allow = 0x7FF00000, 0x7FFF0000
    opens = {2: 1, 257: 2}  # which argument has the flags
    program: list[tuple[int, int, int, int]] = [(load, 0, 0, 0)]
    for number in _CALLS:
        if number in opens:
            program += [
                (equal, 0, 4, number),
                (load, 0, 0, 16 + 8 * opens[number]),
                (any_bit, 0, 1, _CHANGES),
                (give, 0, 0, stop),
                (give, 0, 0, allow),
            ]
        else:
            program += [(equal, 0, 1, number), (give, 0, 0, stop)]
    program.append((give, 0, 0, allow))
    code = b"".join(struct.pack("<HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    head = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(program), ctypes.addressof(buffer)))
    set_no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    _libc.prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
    for arguments in ((set_no_new_privileges, 1, 0, 0, 0), (set_seccomp, mode_filter, ctypes.addressof(head), 0, 0)):
        if _libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "prctl")
