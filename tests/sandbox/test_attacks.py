"""Attacks of candidates: none succeeds, and none stops the sandbox.

Each attack reports what it could do; after each one a normal call must get the right answer.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from textwrap import dedent
from typing import Any

import anyio
import pytest

import flashgraph as fg
from flashgraph.sandbox import CandidateFailed, Ran, Sandbox, SandboxLimits
from tests.sandbox.processes import server, until_idle

pytestmark = pytest.mark.anyio

SHORT = SandboxLimits(cpu_seconds=0.3, wall_seconds=20.0, memory_bytes=128 * 1024 * 1024)
BRIEF = SandboxLimits(cpu_seconds=10.0, wall_seconds=0.3)

PRELUDE = dedent(
    """
    import ctypes, errno, mmap, os, signal, socket, struct, sys, threading, time
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    X86 = os.uname().machine == "x86_64"

    def works(action, *arguments):
        "Whether a call succeeds; a negative result of the C library is a failure."
        try:
            result = action(*arguments)
        except (OSError, ValueError, RuntimeError, ImportError):
            return False
        return not (isinstance(result, int) and not isinstance(result, bool) and result < 0)

    def those_that_work(actions):
        return [name for name, action in actions.items() if works(*action)]
    """
)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Use one backend: the attacks concern the other side, which is the same for both."""
    return "asyncio"


async def attack(
    sandbox: Sandbox, code: str, limits: SandboxLimits | None = None, **arguments: Any
) -> Ran | CandidateFailed:
    """Return the end of an attack, after checking that the sandbox still works."""
    ended: Ran | CandidateFailed
    try:
        ended = await sandbox.run(PRELUDE + dedent(code), arguments=arguments, limits=limits)
    except CandidateFailed as failed:
        ended = failed
    assert (await sandbox.run("def main(n): return n + 1", arguments={"n": 41})).value == 42
    return ended


async def managed(sandbox: Sandbox, code: str, limits: SandboxLimits | None = None, **arguments: Any) -> Any:
    """Return the report of an attack that returns."""
    ended = await attack(sandbox, code, limits, **arguments)
    assert isinstance(ended, Ran), str(ended)
    return ended.value


async def failure(sandbox: Sandbox, code: str, limits: SandboxLimits | None = None, **arguments: Any) -> str:
    """Return the kind of failure that an attack ends with."""
    ended = await attack(sandbox, code, limits, **arguments)
    assert isinstance(ended, CandidateFailed), ended
    return ended.kind


async def test_no_process_can_be_made(sandbox: Sandbox) -> None:
    """Neither fork nor exec is possible in any way, so that a fork bomb cannot begin."""
    code = """
    import multiprocessing, subprocess

    def main():
        clone, fork, vfork, clone3, execve = (56, 57, 58, 435, 59) if X86 else (220, -1, -1, 435, 221)
        def start():
            process = multiprocessing.Process(target=print)
            process.start()
        return those_that_work({
            "fork": (os.fork,),
            "forkpty": (os.forkpty,),
            "spawn": (os.posix_spawn, sys.executable, ["python", "-c", "1"], {}),
            "subprocess": (subprocess.run, [sys.executable, "-c", "1"]),
            "system": (lambda: -1 if os.system("true") != 0 else 0,),
            "multiprocessing": (start,),
            "exec": (os.execv, sys.executable, ["python", "-c", "1"]),
            "raw fork": (libc.syscall, fork),
            "raw vfork": (libc.syscall, vfork),
            "raw clone": (libc.syscall, clone, signal.SIGCHLD, 0, 0, 0, 0),
            "raw clone into a namespace": (libc.syscall, clone, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0),
            "raw clone of a thread into a namespace": (libc.syscall, clone, 0x3d0f00 | 0x10000000, 0, 0, 0, 0),
            "raw clone3": (libc.syscall, clone3, 0, 0),
            "raw execve": (libc.syscall, execve, sys.executable.encode(), 0, 0),
            "x32 fork": (libc.syscall, 0x40000000 + 57),
        })
    """
    assert await managed(sandbox, code) == []


async def test_no_daemon_is_left(sandbox: Sandbox) -> None:
    """Neither a session of its own nor a thread survives the answer."""
    code = """
    def main():
        def endless():
            while True:
                time.sleep(0.001)
        for _ in range(5):
            threading.Thread(target=endless).start()
        return those_that_work({"setsid": (os.setsid,), "setpgid": (os.setpgid, 0, 0), "daemon": (libc.daemon, 0, 0)})
    """
    assert await managed(sandbox, code) == []
    await until_idle(sandbox)


@pytest.mark.parametrize(
    "hog",
    [
        "bytearray(1 << 40)",
        "[bytearray(1 << 20) for _ in range(1 << 20)]",
        "[mmap.mmap(-1, 1 << 24) for _ in range(1 << 20)]",
        "'x' * (1 << 36)",
        "[threading.stack_size(1 << 30), threading.Thread(target=print).start()]",
        "exec('a=[]\\nwhile True: a = [a, a[:], list(range(1000))]')",
    ],
)
async def test_memory_is_bounded(sandbox: Sandbox, hog: str) -> None:
    """Every request beyond the limit fails in its own process."""
    ended = await attack(sandbox, f"def main(): {hog}", SandboxLimits(memory_bytes=64 * 1024 * 1024))
    assert isinstance(ended, CandidateFailed)
    assert ended.kind in ("memory", "error", "killed"), str(ended)
    if "Thread" not in hog and "mmap" not in hog:
        assert ended.kind == "memory"


async def test_memory_is_bounded_outside_of_the_heap(sandbox: Sandbox) -> None:
    """The scratch folder, unnamed files, shared memory, pipes and stdout's files hold no more than their limits."""
    code = """
    def fill(open_):
        total = 0
        try:
            for number in range(100_000):
                with open_(number) as file:
                    while True:
                        file.write(bytes(1 << 20))
                        file.flush()
                        total += 1 << 20
                        assert total < 1 << 30
        except OSError:
            pass
        return total

    def main():
        os.mkdir("d")
        written = fill(lambda number: open(f"d/{number}", "wb"))
        inodes = 0
        try:
            while inodes < 1_000_000:
                os.symlink("x", f"d/s{inodes}")
                inodes += 1
        except OSError:
            pass
        shmget, memfd, secret = (29, 319, 447) if X86 else (194, 279, 447)
        return {
            "written": written,
            "inodes": inodes,
            "others": those_that_work({
                "memfd": (libc.syscall, memfd, b"x", 0),
                "memfd_secret": (libc.syscall, secret, 0),
                "shm": (libc.syscall, shmget, 0, 1 << 20, 0o1600),
                "stdout grows": (os.ftruncate, 1, 1 << 30),
                "stdout is written beyond its end": (os.pwrite, 1, b"x" * 10, 1 << 24),
                "larger pipes": (lambda: __import__("fcntl").fcntl(os.pipe()[1], 1031, 1 << 20),),
                "dev shm": (lambda: open("/dev/shm/x", "wb"),),
            }),
        }
    """
    done = await managed(sandbox, code, SandboxLimits(scratch_bytes=1 << 20))
    assert done["written"] <= 1 << 20
    assert done["inodes"] < 1000
    assert done["others"] == []


@pytest.mark.parametrize(
    "loop",
    [
        "while True: pass",
        "import re; re.match(r'(a+)+$', 'a' * 60 + 'b')",
        "sum(range(10 ** 15))",
        "[threading.Thread(target=lambda: sum(range(10**15))).start() for _ in range(4)]; time.sleep(100)",
        "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGXCPU, signal.SIGTERM)]\n    while True: pass",
        "hang()",
    ],
)
async def test_an_endless_loop_ends(sandbox: Sandbox, loop: str) -> None:
    """CPU time is bounded for all threads together, in C code too, whatever is caught or ignored."""
    code = f"""
def hang():
    while True:
        try:
            while True: pass
        except BaseException:
            continue

def main():
    {loop}
"""
    assert await failure(sandbox, code, SHORT) == "cpu"


@pytest.mark.parametrize(
    "sleep",
    [
        "time.sleep(10 ** 6)",
        "threading.Event().wait()",
        "signal.pause()",
        "os.read(os.pipe()[0], 1)",
        "threading.Thread(target=time.sleep, args=(1e6,)).start(); raise SystemExit",
    ],
)
async def test_an_endless_sleep_ends(sandbox: Sandbox, sleep: str) -> None:
    """Real time is bounded too, and surviving threads do not extend it."""
    expected = "error" if "SystemExit" in sleep else "timeout"
    assert await failure(sandbox, f"def main(): {sleep}", BRIEF) == expected


async def test_catching_everything_does_not_help_to_hang_on(sandbox: Sandbox) -> None:
    """The answer ends a caught exit, atexit functions, destructors and threads' exceptions."""
    code = """
    import atexit
    class Sticky:
        def __del__(self):
            time.sleep(100)
    sticky = Sticky()
    atexit.register(time.sleep, 100)
    threading.excepthook = lambda *_: time.sleep(100)
    def main():
        try:
            sys.exit()
        except BaseException:
            return "here"
    """
    assert await managed(sandbox, code) == "here"
    await until_idle(sandbox)


async def test_answers_cannot_be_read(sandbox: Sandbox, tmp_path: Path) -> None:
    """Files of the project, of the user and of this machine do not exist there, by any path."""
    answers = tmp_path / "answers.json"
    answers.write_text("42")
    project = Path(__file__).parents[2]
    code = """
    def main(paths):
        os.makedirs("a/b")
        found = []
        for path in paths:
            for number, target in enumerate([path, "/proc/self/root" + path, "/proc/1/root" + path, "/.." * 9 + path]):
                os.symlink(target, f"a/b/link{number}")
                found += [target for name in (target, f"a/b/link{number}") if works(open, name, "rb")]
                os.unlink(f"a/b/link{number}")
        for folder in ("/proc", "/sys", "/home", "/etc", "/var", "/run", "/dev/fd"):
            if os.path.isdir(folder):
                found += [folder + "/" + name for name in os.listdir(folder) if name != "ld.so.cache"]
        return found
    """
    paths = [str(answers), str(project / "pyproject.toml"), __file__, "/etc/passwd", "/etc/shadow", "/etc/hostname"]
    assert await managed(sandbox, code, paths=paths) == []


async def test_nothing_is_inherited(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate has no environment, no arguments, no descriptors but its own four, and no memory of other calls."""
    monkeypatch.setenv("API_KEY", "sesame-of-the-host")
    await sandbox.run(
        "def main(answer): return len(answer)", arguments={"answer": "-".join(["sesame", "of", "a", "call"])}
    )
    code = """
    import gc, stat

    def main():
        descriptors = {fd: stat.S_IFMT(os.fstat(fd).st_mode) for fd in range(1024) if works(os.fstat, fd)}
        needle = "sesame" + "-of"
        texts = [t for o in gc.get_objects() if isinstance(o, (dict, list, tuple))
                 for t in (o.values() if isinstance(o, dict) else o) if isinstance(t, str)]
        return {
            "descriptors": sorted(descriptors),
            "sockets": [fd for fd, kind in descriptors.items() if kind == stat.S_IFSOCK],
            "environment": dict(os.environ),
            "raw environment": libc.getenv(b"API_KEY"),
            "arguments": [a for a in sys.argv + sys.orig_argv if "work" in a or "home" in a],
            "found": [t for t in texts if needle in t and t != needle][:3],
        }
    """
    assert await managed(sandbox, code) == {
        "descriptors": [0, 1, 2, 3],
        "sockets": [3],
        "environment": {},
        "raw environment": 0,
        "arguments": [],
        "found": [],
    }


async def test_nothing_outside_can_be_written(sandbox: Sandbox) -> None:
    """Only the scratch folder is writable, and it cannot be turned into anything else."""
    code = """
    def main(package):
        mount, umount, pivot, chroot = (165, 166, 155, 161) if X86 else (40, 39, 41, 51)
        places = ["/x", "/dev/x", "/usr/lib/x", os.__file__, "/sandbox/guest/child.py", "/tmp/../x", "../x", package,
                  sys.executable, "/packages/x"]
        return those_that_work({
            **{place: (os.open, place, os.O_WRONLY | os.O_CREAT) for place in places},
            "mkdir": (os.mkdir, "/d"),
            "rename": (os.rename, "/usr/lib", "/usr/lib2"),
            "unlink": (os.unlink, os.__file__),
            "chmod": (os.chmod, "/", 0o777),
            "chown": (os.chown, ".", 0, 0),
            "link": (os.link, os.__file__, "linked"),
            "mknod": (os.mknod, "node", 0o60600, os.makedev(8, 0)),
            "mount": (libc.mount, b"tmpfs", b"/usr", b"tmpfs", 0, None),
            "remount": (libc.mount, None, b"/", None, 32, None),
            "mount proc": (libc.syscall, mount, b"proc", b"/scratch", b"proc", 0, 0),
            "umount": (libc.syscall, umount, b"/scratch", 2),
            "chroot": (os.chroot, "/scratch"),
            "raw chroot": (libc.syscall, chroot, b"/scratch"),
            "pivot": (libc.syscall, pivot, b"/", b"/scratch"),
            "unshare": (libc.unshare, 0x10000000),
            "setns": (libc.setns, 3, 0),
            "setuid": (os.setuid, 0),
            "open_tree": (libc.syscall, 428, -100, b"/", 1),
            "fsopen": (libc.syscall, 430, b"tmpfs", 0),
            "mount_setattr": (libc.syscall, 442, -100, b"/", 0, 0, 0),
        })
    """
    assert await managed(sandbox, code, package=__file__) == []


async def test_scratch_is_of_one_call(sandbox: Sandbox) -> None:
    """No other candidate finds the files that one leaves."""
    leave = "import os\ndef main():\n  open('/tmp/left', 'w').write('x'); return os.listdir('.') + os.listdir('/tmp')"
    assert await managed(sandbox, leave) == ["left", "left"]
    assert await managed(sandbox, "def main(): return os.listdir('.') + os.listdir('/tmp')") == []


async def test_no_network(sandbox: Sandbox) -> None:
    """No family has sockets; the only possible pair is connected to itself."""
    code = """
    def main(port):
        families = {name: (socket.socket, getattr(socket, name), kind)
                    for name in dir(socket) if name.startswith("AF_")
                    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW)}
        ours, theirs = socket.socketpair()
        connect, bind, listen, sendmmsg = (42, 49, 50, 307) if X86 else (203, 200, 201, 269)
        address = struct.pack("=HH4s8x", 2, socket.htons(port), socket.inet_aton("127.0.0.1"))
        return those_that_work({
            **families,
            "connection": (socket.create_connection, ("127.0.0.1", port), 1),
            "pair of datagrams": (socket.socketpair, socket.AF_UNIX, socket.SOCK_DGRAM),
            "name": (ours.bind, "name"),
            "connect": (ours.connect, "name"),
            "raw connect": (libc.syscall, connect, ours.fileno(), address, len(address)),
            "raw bind": (libc.syscall, bind, ours.fileno(), address, len(address)),
            "raw listen": (libc.syscall, listen, ours.fileno(), 1),
            "raw sendmmsg": (libc.syscall, sendmmsg, ours.fileno(), 0, 0, 0),
            "sendto": (ours.sendto, b"x", "/name"),
            "io_uring": (libc.syscall, 425, 8, ctypes.create_string_buffer(120)),
        })
    """
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        assert await managed(sandbox, code, port=listening.getsockname()[1]) == []


KILLER = """
    def main():
        me = os.getpid()
        numbers = {"tkill": 200, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_open": 434, "ptrace": 101,
                   "process_vm_readv": 310, "process_vm_writev": 311, "setpriority": 141, "kcmp": 312,
                   "pidfd_send_signal": 424, "process_madvise": 440, "sched_setaffinity": 203, "migrate_pages": 256}
        if not X86:
            numbers = {"tkill": 130, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "pidfd_open": 434, "ptrace": 117,
                       "process_vm_readv": 270, "process_vm_writev": 271, "setpriority": 140, "kcmp": 272,
                       "pidfd_send_signal": 424, "process_madvise": 440, "sched_setaffinity": 122,
                       "migrate_pages": 238}
        others = [pid for pid in [*range(-3, 200), me + 1, -me] if pid != me]
        actions = {f"kill {pid}": (os.kill, pid, signal.SIGKILL) for pid in others}
        actions |= {f"tgkill {pid}": (libc.syscall, 234 if X86 else 131, pid, pid, 9) for pid in others}
        for pid in (2, 3, 100):
            actions |= {f"{name} {pid}": (libc.syscall, number, pid, 9, 0, 0, 0) for name, number in numbers.items()}
        actions |= {
            "own other": (lambda: __import__("fcntl").fcntl(3, 8, 2),),
            "signal of the owner": (lambda: __import__("fcntl").fcntl(3, 10, 9),),
            "owner by ioctl": (lambda: __import__("fcntl").ioctl(3, 0x8901, struct.pack("i", 2)),),
            "limits of another": (lambda: __import__("resource").prlimit(2, 7, (1, 1)),),
            "traced by another": (libc.ptrace, 0, 0, 0, 0),
            "dumpable": (libc.prctl, 4, 1, 0, 0, 0),
            "tracer": (libc.prctl, 0x59616d61, -1, 0, 0, 0),
        }
        return those_that_work(actions)
"""


async def test_no_other_process_can_be_reached(sandbox: Sandbox) -> None:
    """Neither the server nor a sibling can be signalled, traced, read or limited, and a sibling notices nothing."""
    values: list[Any] = []

    async def victim() -> None:
        values.append((await sandbox.run("import time\ndef main():\n  time.sleep(0.5)\n  return 'whole'")).value)

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(victim)
        await anyio.sleep(0.1)
        assert await managed(sandbox, KILLER) == []
    assert values == ["whole"] * 3


async def test_the_server_is_still_the_first_one(sandbox: Sandbox) -> None:
    """No attack on it made the sandbox start another one."""
    first = server(sandbox)
    await attack(sandbox, KILLER)
    assert server(sandbox) == first


async def test_threads_are_bounded(sandbox: Sandbox) -> None:
    """Python and the kernel both refuse more threads, however small their stacks."""
    code = """
    def main():
        threading.stack_size(65536)
        started = 0
        try:
            while started < 10_000:
                threading.Thread(target=time.sleep, args=(100,), daemon=True).start()
                started += 1
        except RuntimeError:
            pass
        ready = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda _: time.sleep(100))
        handle, raw = ctypes.c_ulong(), 0
        while raw < 10_000 and libc.pthread_create(ctypes.byref(handle), None, ready, None) == 0:
            raw += 1
        return started + raw
    """
    assert await managed(sandbox, code, SandboxLimits(threads=20)) == 19


@pytest.mark.parametrize(
    "flood",
    [
        "while True: print('x' * 1000)",
        "while True: print('x' * 1000, file=sys.stderr)",
        "sys.stdout.write('x' * 10 ** 8)",
        "return 'x' * 10 ** 7",
        "return [0] * 10 ** 6",
    ],
)
async def test_output_is_bounded(sandbox: Sandbox, flood: str) -> None:
    """Output beyond the limit is a failure, and the output up to the limit is kept."""
    ended = await attack(sandbox, f"def main():\n    {flood}")
    assert isinstance(ended, CandidateFailed)
    assert ended.kind == "output"
    assert len(str(ended)) < 10_000


@pytest.mark.parametrize("fd", [1, 2])
async def test_output_past_python_is_bounded(sandbox: Sandbox, fd: int) -> None:
    """Writing to the descriptor itself ends at the file's sealed size."""
    code = """
    def main(fd):
        written = 0
        try:
            while written < 1 << 30:
                written += os.write(fd, bytes(1 << 16))
        except OSError:
            pass
        os.lseek(fd, 1 << 40, os.SEEK_SET)
        return written
    """
    ended = await attack(sandbox, code, fd=fd)
    assert isinstance(ended, Ran)
    assert ended.value <= 1 << 20
    assert len(ended.stdout) + len(ended.stderr) <= 1 << 20


@pytest.mark.parametrize(
    "crash",
    [
        "os._exit(0)",
        "os._exit(7)",
        "ctypes.string_at(0)",
        "ctypes.memset(ctypes.addressof(ctypes.c_int()), 1, 1 << 30)",
        "os.abort()",
        "os.close(3)",
        "import faulthandler; faulthandler._stack_overflow()",
        "os.dup2(0, 3)",
    ],
)
async def test_a_crash_is_its_own(sandbox: Sandbox, crash: str) -> None:
    """A process that ends before it returns is reported so."""
    ended = await attack(sandbox, f"def main(): {crash}")
    assert isinstance(ended, CandidateFailed)
    assert ended.kind == "killed", str(ended)


async def test_recursion_without_end_is_an_error(sandbox: Sandbox) -> None:
    """Python's own limit ends it, with a finite traceback."""
    ended = await attack(sandbox, "def main(): main()")
    assert isinstance(ended, CandidateFailed)
    assert "RecursionError" in ended.message
    assert len(ended.message) <= 4000


@pytest.mark.parametrize(
    "frame",
    [
        'b"\\xff\\xff\\xff\\xff" + b"x" * 100',
        'b"\\x05\\x00\\x00\\x00nope!"',
        "frame('[]')",
        "frame('{}')",
        "frame('{\"value\": NaN}')",
        "frame('{\"value\": \"' + chr(92) + 'ud800\"}')",
        "frame('{\"value\": ' + '[' * 50_000 + ']' * 50_000 + '}')",
        "frame('{\"value\": ' + '[' * 300 + ']' * 300 + '}')",
        "frame('{\"value\": ' + '9' * 10_000 + '}')",
        "frame('{\"ready\": true}')",
        'frame(\'{"refused": "x"}\')',
        'frame(\'{"failed": "protocol", "message": "x"}\')',
        'frame(\'{"failed": "error", "message": {}}\')',
        'frame(\'{"failed": ["error"], "message": "x"}\')',
        'frame(\'{"llm": 0, "messages": "x"}\')',
        "b'{' * 3_000_000",
    ],
)
async def test_forged_messages_are_found_out(sandbox: Sandbox, frame: str) -> None:
    """On every descriptor, a message that the sandbox's own code would not send ends that call, and no more."""
    code = f"""
    def frame(text):
        return struct.pack("<I", len(text.encode())) + text.encode()

    def main():
        for fd in range(64):
            works(os.write, fd, {frame})
        time.sleep(100)
    """
    assert await failure(sandbox, code) == "protocol"


async def test_a_forged_value_is_only_a_value(sandbox: Sandbox) -> None:
    """A candidate may send whatever it could return; a second value is ignored."""
    code = """
    def main():
        for text in (b'{"value": "first"}', b'{"value": "second"}'):
            os.write(3, struct.pack("<I", len(text)) + text)
        time.sleep(100)
    """
    assert await managed(sandbox, code) == "first"
    await until_idle(sandbox)


async def test_the_sandbox_s_own_modules_are_the_candidate_s_to_break(sandbox: Sandbox) -> None:
    """Patching the modules beside it gains nothing, and ends with the process."""
    code = """
    import builtins, json, importlib

    def main():
        for name, module in list(sys.modules.items()):
            if name.startswith("guest"):
                for attribute in list(vars(module)):
                    if not attribute.startswith("__"):
                        setattr(module, attribute, None)
        json.dumps = json.loads = builtins.print = builtins.len = None
        return 1
    """
    ended = await attack(sandbox, code)
    assert isinstance(ended, CandidateFailed)


async def test_nothing_is_left_for_the_next_candidate(sandbox: Sandbox) -> None:
    """Devices and shared files, which all candidates see, cannot be marked by times, modes or locks."""
    marks = """
    import fcntl
    def main():
        actions = {}
        for device in ("null", "zero", "random", "urandom"):
            path = "/dev/" + device
            actions |= {
                device + " times": (os.utime, path),
                device + " times of an open file": (lambda path: os.utime(os.open(path, os.O_RDONLY)), path),
                device + " mode": (os.chmod, path, 0o666),
                device + " size": (os.truncate, path, 0),
            }
        return those_that_work(actions)
    """
    assert await managed(sandbox, marks) == []
    lock = """
    import fcntl
    def main(%s):
        file = open(os.__file__, "rb")
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.lockf(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        found = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, 0, 0, 0, 0))
        %s
        return struct.unpack("hhqqi4x", found)[0] == fcntl.F_UNLCK
    """

    async def answered(messages: Any, **params: Any) -> fg.Reply:
        # While the first candidate seems to hold locks, another one finds none, and takes its own.
        assert await managed(sandbox, lock % ("", "")) is True
        return fg.Reply("go on")

    ran = await sandbox.run(PRELUDE + dedent(lock % ("llm", 'llm("x")')), llm=answered)
    assert ran.value is True


async def test_locks_of_its_own_files_seem_to_be_taken(sandbox: Sandbox) -> None:
    """A database in its folder works, with several threads too."""
    code = """
    import sqlite3
    def main():
        def fill(number):
            with sqlite3.connect("x.db", timeout=30) as database:
                database.execute("insert into t values (?)", (number,))
        with sqlite3.connect("x.db") as database:
            database.execute("create table t (a)")
        for number in range(4):
            fill(number)
        with sqlite3.connect("x.db") as database:
            return database.execute("select count(*) from t").fetchone()[0]
    """
    assert await managed(sandbox, code) == 4


async def test_sockets_carry_bytes_alone(sandbox: Sandbox) -> None:
    """Sockets carry no descriptors and no out-of-band data, and the host has no more open files afterwards."""
    before = len(os.listdir("/proc/self/fd"))
    code = """
    import array
    def main():
        channel, (mine, other) = socket.socket(fileno=os.dup(3)), socket.socketpair()
        text = b'{"value": 1}'
        mine.send(b"x")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0] * 50))]
        found = those_that_work({
            "descriptors to the host": (channel.sendmsg, [struct.pack("<I", len(text)) + text], rights),
            "descriptors to itself": (mine.sendmsg, [b"x"], rights),
            "a message": (mine.sendmsg, [b"x"]),
            "out of band": (mine.send, b"x", socket.MSG_OOB),
            "out of band to the host": (channel.send, b"x", socket.MSG_OOB),
            "out of band, received": (other.recv, 1, socket.MSG_OOB),
            "a message out of band, received": (other.recvmsg, 1, 0, socket.MSG_OOB),
        })
        return found or other.recv(1).decode()
    """
    assert await managed(sandbox, code) == "x"
    assert len(os.listdir("/proc/self/fd")) <= before


async def test_pending_signals_are_bounded(sandbox: Sandbox) -> None:
    """They count for the user on the whole machine."""
    code = """
    import signal
    def main():
        number, count = signal.SIGRTMIN + 1, 0
        signal.pthread_sigmask(signal.SIG_BLOCK, [number])
        for _ in range(1000):
            os.kill(os.getpid(), number)
        while signal.sigtimedwait([number], 0) is not None:
            count += 1
        return count
    """
    assert await managed(sandbox, code) <= 65


async def test_an_exception_that_refuses_to_be_told(sandbox: Sandbox) -> None:
    """If its text raises, is endless or hangs, the message is bounded, and time limits hold."""
    code = """
    class Nasty(Exception):
        def __str__(self):
            raise SystemExit
    def main(size):
        if size:
            raise ValueError("x" * size)
        raise Nasty
    """
    for size in (0, 10**7):
        ended = await attack(sandbox, code, size=size)
        assert isinstance(ended, CandidateFailed)
        assert ended.kind == "error"
        assert len(ended.message) <= 4000
