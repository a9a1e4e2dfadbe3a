"""Takes all there is of one thing, and keeps it: processes, memory, cpu or disk. As root it first lifts what the guest bounds it by.
Nothing of it ends when it is asked to. Prints `ready` and waits for a line before it takes anything: once it takes, nothing may come out
of this machine any more."""
import ctypes, mmap, os, signal, sys, time

kind = sys.argv[1]
root = os.getuid() == 0
libc = ctypes.CDLL(None, use_errno=True)
for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)


def lift(path, text):
    try:
        with open(path, "w") as file:
            file.write(text)
    except OSError:
        pass


if root:
    lift("/sys/fs/cgroup/user/pids.max", "max")
    lift("/sys/fs/cgroup/user/memory.max", "max")
    lift("/proc/sys/kernel/sched_rt_runtime_us", "-1")
    lift("/proc/sys/kernel/pid_max", "4194304")
    lift("/proc/self/oom_score_adj", "-1000")
    lift("/sys/fs/cgroup/cgroup.procs", str(os.getpid()))


def processes():
    while True:
        try:
            if os.fork() == 0:
                os.setsid()
        except OSError:
            pass


def memory():
    try:
        while True:
            block = mmap.mmap(-1, 4 << 20)
            for at in range(0, len(block), 4096):
                block[at:at + 8] = os.urandom(8)
            libc.mlock(ctypes.addressof(ctypes.c_char.from_buffer(block)), len(block))
            kept.append(block)
            # the bound of its group ends who goes over it, so its children carry on
            if len(kept) == 16 and os.fork() == 0:
                kept.clear()
    except OSError:
        time.sleep(1000)


def cpu():
    for _ in range(64):
        if os.fork() == 0:
            break
    if root:  # before everything else in the guest, the agent too
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(99))
    while True:
        pass


def disk():
    block = os.urandom(1 << 20)
    number = 0
    os.makedirs("/home/you/flood", exist_ok=True)
    os.chdir("/home/you/flood")
    # nearly all of it without writing it, which would take minutes; the rest is written
    rest = os.statvfs(".").f_bavail * os.statvfs(".").f_frsize - (400 << 20)
    with open("reserved", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, rest)
    while True:
        try:
            with open(f"flood-{number}", "ab", buffering=0) as file:
                for _ in range(200):
                    file.write(block)
        except OSError:
            block = block[:max(1, len(block) // 2)]  # to the last block, then on and on with what is given back
            if len(block) == 1:
                for name in range(max(0, number - 50)):
                    try:
                        os.unlink(f"flood-{name}")
                    except OSError:
                        pass
                block = os.urandom(1 << 20)
        number += 1


kept = []
print("ready", flush=True)
sys.stdin.readline()
{f.__name__: f for f in (processes, memory, cpu, disk)}[kind]()
