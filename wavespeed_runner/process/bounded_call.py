"""Calls a function in a child process that may take only so much time and memory: for what a stranger's file decides.

The child is a copy of this process (fork), so it starts in milliseconds with everything imported. It has one thread,
writes nothing to the terminal, and ends without cleaning up what belongs to its parent. It must not touch a GPU.

Only Linux has copies that are safe beside threads and bounds of memory that hold; elsewhere the function is called
here, without bounds.
"""

from __future__ import annotations

import errno
import faulthandler
import json
import os
import select
import signal
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, NoReturn

from ..errors import format_error, make_printable

IS_BOUNDED = sys.platform == "linux"
MAX_RESULT_BYTES = 16 * 1024 * 1024
"""Of the result as JSON."""
MAX_MESSAGE = 1000
"""Characters of an error's message."""
WAITING = 5
"""How many times longer than its processor time a child may take: on a busy machine, or reading slow disks."""
STOPPING = (signal.SIGINT, signal.SIGTERM)
PARALLELISM = "TOKENIZERS_PARALLELISM"


class BoundedCallError(Exception):
    """The function raised something, or took more than it may; the message says what, on one line."""


def call_bounded(function: Callable[..., Any], *args: Any, seconds: float, memory_bytes: int) -> Any:
    """Returns what the function returns, which has to be JSON: None, numbers, texts, lists and objects of them.

    Args:
        function: called in the child; changes it makes to objects are lost.
        args: its arguments.
        seconds: processor time after which the child is killed; it may take `WAITING` times as long.
        memory_bytes: address space that it may take beyond what this process has.

    Raises:
        BoundedCallError: the function raised, or took more, or the child died.
        KeyboardInterrupt: as anywhere; the child is killed.
    """
    if not IS_BOUNDED:
        try:
            return function(*args)
        except Exception as error:
            raise BoundedCallError(_describe(error)) from error
    source, sink = os.pipe()
    try:
        try:
            child = _fork()
        except OSError as error:
            raise BoundedCallError(f"no child process can be started for it ({error.strerror})") from None
        if child == 0:
            _run_child(sink, function, args, seconds, memory_bytes)
        try:
            os.close(sink)
            sink = -1
            content = _read_all(source, monotonic() + WAITING * seconds)
        except BaseException:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            raise
        finally:
            status = _wait(child)
    except TimeoutError:
        raise BoundedCallError(f"it takes more than {WAITING * seconds:g} seconds") from None
    finally:
        os.close(source)
        if sink >= 0:
            os.close(sink)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGXCPU:
        raise BoundedCallError(f"it takes more than {seconds:g} seconds")
    return _read_result(content, status, memory_bytes)


def _fork() -> int:
    """`os.fork`, without what Python and the tokenizers library say of it: one thread is enough for the child."""
    before = os.environ.get(PARALLELISM)
    os.environ[PARALLELISM] = "false"
    # A child that is interrupted before it knows what it is would go on as its parent.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
    child = -1
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
            return child
    finally:
        if child != 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if before is None:
            del os.environ[PARALLELISM]
        else:
            os.environ[PARALLELISM] = before


def _run_child(
    sink: int, function: Callable[..., Any], args: tuple[Any, ...], seconds: float, memory_bytes: int
) -> NoReturn:
    """Calls the function, writes its result into the pipe, and ends the process whatever happens."""
    try:
        _limit(seconds, memory_bytes)
        try:
            answer = {"result": function(*args)}
        except MemoryError:
            answer = {"error": _describe_memory(memory_bytes)}
        except BaseException as error:  # a panic of a library in Rust is no Exception
            is_memory = isinstance(error, OSError) and error.errno == errno.ENOMEM
            answer = {"error": _describe_memory(memory_bytes) if is_memory else _describe(error)}
        content = json.dumps(answer).encode()
        while content:
            content = content[os.write(sink, content) :]
    finally:
        os._exit(0)


def _limit(seconds: float, memory_bytes: int) -> None:
    """Bounds this process, ends it with its parent, and closes its way to the terminal."""
    import ctypes
    import resource

    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    for number in STOPPING:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPPING)
    null = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(null, stream)
    faulthandler.disable()
    sys.stdout = sys.stderr = os.fdopen(null, "w", encoding="utf-8")
    os.environ[PARALLELISM] = "false"
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    if tqdm := sys.modules.get("tqdm"):  # another thread may have held its lock, and is not here to give it back
        import threading

        tqdm.tqdm.set_lock(threading.RLock())
    with open("/proc/self/statm", encoding="ascii") as file:
        pages = int(file.read().split()[0])
    most = pages * resource.getpagesize() + memory_bytes
    most_seconds = max(1, round(seconds))
    # The second number of a time is that at which the child is killed though it may have caught the first signal.
    limits = {
        resource.RLIMIT_AS: (most, most),
        resource.RLIMIT_CPU: (most_seconds, most_seconds + 5),
        resource.RLIMIT_CORE: (0, 0),
    }
    for kind, wanted in limits.items():
        hard = resource.getrlimit(kind)[1]
        allowed = wanted if hard == resource.RLIM_INFINITY else (min(wanted[0], hard), min(wanted[1], hard))
        resource.setrlimit(kind, allowed)


def _read_all(source: int, deadline: float) -> bytes:
    """What the child writes until it ends. Raises `TimeoutError` when the time is over."""
    content = bytearray()
    poll = select.poll()
    poll.register(source, select.POLLIN)
    while len(content) <= MAX_RESULT_BYTES:
        left = deadline - monotonic()
        if left <= 0 or not poll.poll(1000 * left):
            raise TimeoutError
        part = os.read(source, 65536)
        if not part:
            return bytes(content)
        content += part
    raise BoundedCallError(f"its result has more than {MAX_RESULT_BYTES} bytes")


def _wait(child: int) -> int:
    """The status of a child that has ended, or is about to; 0 where somebody else has asked for it before."""
    try:
        return os.waitpid(child, 0)[1]
    except ChildProcessError:
        return 0


def _read_result(content: bytes, status: int, memory_bytes: int) -> Any:
    if not content:
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        # A library in C or Rust that gets no memory ends the process.
        what = _describe_memory(memory_bytes) if number == signal.SIGABRT else f"it ends the process (signal {number})"
        raise BoundedCallError(what)
    answer = json.loads(content)
    if "error" in answer:
        raise BoundedCallError(answer["error"])
    return answer["result"]


def _describe(error: BaseException) -> str:
    """The message, with the class where it says little without: `KeyError: 'x'`."""
    text, name = make_printable(format_error(error)), type(error).__name__
    text = text if text == name or len(text.split()) > 1 else f"{name}: {text}"
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 3]}..."


def _describe_memory(memory_bytes: int) -> str:
    return f"it takes more than {memory_bytes // 2**20} MiB of memory"
