"""The system calls that a program in the sandbox may make, as a seccomp filter put together by hand.

An allow list: what is not named here fails with EPERM, what is newer than the tables with ENOSYS, so that libraries
fall back. Left out on purpose are calls that reach past the namespaces or the limits (System V and POSIX message
queues and shared memory, memfd, keyrings, handles), that look into other processes (ptrace, process_vm_*, pidfd_getfd,
kcmp), that build new namespaces or mounts, that disturb the machine (sync, RT scheduling, clocks), and those where
kernels had most of their holes (bpf, io_uring, userfaultfd, perf, splice, AF_NETLINK, AF_PACKET, AF_VSOCK, ...).

The filter is a binary search over ranges of numbers. A kernel that gets a filter runs it once for every call there is
(seccomp_cache_prepare_bitmap), so a list of 200 comparisons costs 0.1 ms for each program, a tree of depth 7 nothing.

Numbers: Linux 6.1, arch/x86/entry/syscalls/syscall_64.tbl and include/uapi/asm-generic/unistd.h (aarch64).
"""

import errno
import struct

X86_64 = """
    read=0 write=1 open=2 close=3 stat=4 fstat=5 lstat=6 newfstatat=262 statx=332 lseek=8 pread64=17 pwrite64=18
    readv=19 writev=20 preadv=295 pwritev=296 preadv2=327 pwritev2=328 access=21 faccessat=269 faccessat2=439
    openat=257 openat2=437 creat=85 dup=32 dup2=33 dup3=292 fcntl=72 flock=73 fsync=74 fdatasync=75 truncate=76
    ftruncate=77 fallocate=285 fadvise64=221 readahead=187 copy_file_range=326 sendfile=40 getdents=78 getdents64=217
    getcwd=79 chdir=80 fchdir=81 rename=82 renameat=264 renameat2=316 mkdir=83 mkdirat=258 rmdir=84 link=86
    linkat=265 unlink=87 unlinkat=263 symlink=88 symlinkat=266 readlink=89 readlinkat=267 mknod=133 mknodat=259
    chmod=90 fchmod=91 fchmodat=268 chown=92 fchown=93 lchown=94 fchownat=260 umask=95 utime=132 utimes=235
    futimesat=261 utimensat=280 statfs=137 fstatfs=138 getxattr=191 lgetxattr=192 fgetxattr=193 listxattr=194
    llistxattr=195 flistxattr=196 close_range=436 ioctl=16
    mmap=9 mprotect=10 munmap=11 brk=12 mremap=25 msync=26 mincore=27 madvise=28 mlock=149 munlock=150 mlock2=325
    mlockall=151 munlockall=152 membarrier=324
    clone=56 fork=57 vfork=58 execve=59 exit=60 exit_group=231 wait4=61 waitid=247 kill=62 tkill=200 tgkill=234
    getpid=39 getppid=110 gettid=186 getpgid=121 setpgid=109 getpgrp=111 getsid=124 setsid=112 getuid=102 geteuid=107
    getgid=104 getegid=108 getgroups=115 getresuid=118 getresgid=120 capget=125 prctl=157 arch_prctl=158
    set_tid_address=218 set_robust_list=273 get_robust_list=274 rseq=334 futex=202 futex_waitv=449 getrlimit=97
    setrlimit=160 prlimit64=302 getrusage=98 times=100 getpriority=140 setpriority=141 sched_yield=24
    sched_getaffinity=204 sched_setaffinity=203 sched_getparam=143 sched_getscheduler=145 sched_getattr=315
    sched_get_priority_max=146 sched_get_priority_min=147 sched_rr_get_interval=148 getcpu=309 pidfd_open=434
    pidfd_send_signal=424 restart_syscall=219
    rt_sigaction=13 rt_sigprocmask=14 rt_sigreturn=15 rt_sigpending=127 rt_sigtimedwait=128 rt_sigqueueinfo=129
    rt_tgsigqueueinfo=297 rt_sigsuspend=130 sigaltstack=131 pause=34 alarm=37 getitimer=36 setitimer=38 nanosleep=35
    clock_nanosleep=230 clock_gettime=228 clock_getres=229 gettimeofday=96 time=201 timer_create=222
    timer_settime=223 timer_gettime=224 timer_getoverrun=225 timer_delete=226 timerfd_create=283 timerfd_settime=286
    timerfd_gettime=287 signalfd=282 signalfd4=289
    pipe=22 pipe2=293 eventfd=284 eventfd2=290 poll=7 ppoll=271 select=23 pselect6=270 epoll_create=213
    epoll_create1=291 epoll_ctl=233 epoll_wait=232 epoll_pwait=281 epoll_pwait2=441 socket=41 socketpair=53
    connect=42 accept=43 accept4=288 bind=49 listen=50 getsockname=51 getpeername=52 setsockopt=54 getsockopt=55
    sendto=44 recvfrom=45 sendmsg=46 recvmsg=47 sendmmsg=307 recvmmsg=299 shutdown=48
    uname=63 sysinfo=99 getrandom=318
"""

AARCH64 = """
    read=63 write=64 close=57 fstat=80 newfstatat=79 statx=291 lseek=62 pread64=67 pwrite64=68 readv=65 writev=66
    preadv=69 pwritev=70 preadv2=286 pwritev2=287 faccessat=48 faccessat2=439 openat=56 openat2=437 dup=23 dup3=24
    fcntl=25 flock=32 fsync=82 fdatasync=83 truncate=45 ftruncate=46 fallocate=47 fadvise64=223 readahead=213
    copy_file_range=285 sendfile=71 getdents64=61 getcwd=17 chdir=49 fchdir=50 renameat=38 renameat2=276 mkdirat=34
    linkat=37 unlinkat=35 symlinkat=36 readlinkat=78 mknodat=33 fchmod=52 fchmodat=53 fchown=55 fchownat=54 umask=166
    utimensat=88 statfs=43 fstatfs=44 getxattr=8 lgetxattr=9 fgetxattr=10 listxattr=11 llistxattr=12 flistxattr=13
    close_range=436 ioctl=29
    mmap=222 mprotect=226 munmap=215 brk=214 mremap=216 msync=227 mincore=232 madvise=233 mlock=228 munlock=229
    mlock2=284 mlockall=230 munlockall=231 membarrier=283
    clone=220 execve=221 exit=93 exit_group=94 wait4=260 waitid=95 kill=129 tkill=130 tgkill=131 getpid=172
    getppid=173 gettid=178 getpgid=155 setpgid=154 getsid=156 setsid=157 getuid=174 geteuid=175 getgid=176
    getegid=177 getgroups=158 getresuid=148 getresgid=150 capget=90 prctl=167 set_tid_address=96 set_robust_list=99
    get_robust_list=100 rseq=293 futex=98 futex_waitv=449 getrlimit=163 setrlimit=164 prlimit64=261 getrusage=165
    times=153 getpriority=141 setpriority=140 sched_yield=124 sched_getaffinity=123 sched_setaffinity=122
    sched_getparam=121 sched_getscheduler=120 sched_getattr=275 sched_get_priority_max=125 sched_get_priority_min=126
    sched_rr_get_interval=127 getcpu=168 pidfd_open=434 pidfd_send_signal=424 restart_syscall=128
    rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 rt_sigpending=136 rt_sigtimedwait=137 rt_sigqueueinfo=138
    rt_tgsigqueueinfo=240 rt_sigsuspend=133 sigaltstack=132 getitimer=102 setitimer=103 nanosleep=101
    clock_nanosleep=115 clock_gettime=113 clock_getres=114 gettimeofday=169 timer_create=107 timer_settime=110
    timer_gettime=108 timer_getoverrun=109 timer_delete=111 timerfd_create=85 timerfd_settime=86 timerfd_gettime=87
    signalfd4=74
    pipe2=59 eventfd2=19 ppoll=73 pselect6=72 epoll_create1=20 epoll_ctl=21 epoll_pwait=22 epoll_pwait2=441
    socket=198 socketpair=199 connect=203 accept=202 accept4=242 bind=200 listen=201 getsockname=204 getpeername=205
    setsockopt=208 getsockopt=209 sendto=206 recvfrom=207 sendmsg=211 recvmsg=212 sendmmsg=269 recvmmsg=243
    shutdown=210
    uname=160 sysinfo=179 getrandom=278
"""

AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h
TABLES = {"x86_64": X86_64, "aarch64": AARCH64}
CLONE3 = 435  # its flags lie in memory, where no filter can read them: ENOSYS makes the C library use clone
NEWEST = 450  # the last call of Linux 6.1; what came later does not exist for the programs

# Namespaces, as clone's flags (linux/sched.h): NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME.
CLONE_NEW = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000 | 0x00000080
SOCKET_FAMILIES = (1, 2, 10)  # AF_UNIX, AF_INET, AF_INET6; AF_VSOCK and others lie outside of the network namespace
# Anonymous memory that is shared, or made of huge pages, is not charged to a process: only private memory is allowed.
MAP_ANONYMOUS, MAP_SHARED, MAP_HUGETLB = 0x20, 0x01, 0x40000  # mman.h
# SO_SNDBUF, SO_RCVBUF and their FORCE: memory that is charged to nobody. Nothing happens, and no error is told.
SOL_SOCKET, BUFFER_OPTIONS = 1, (7, 8, 32, 33)
DENIED_IOCTLS = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX put characters into a terminal's input
# Performance counters: the sandbox hands one to a program, if at all, to be read. The second byte of a request is its
# kind (linux/ioctl.h), and theirs is "$" (linux/perf_event.h).
IOCTL_KIND, PERF_IOCTLS = 0xFF00, ord("$") << 8

# Fields of struct seccomp_data, and the instructions that are used (linux/seccomp.h, linux/bpf_common.h).
# Both architectures are little-endian: the low half comes first.
NUMBER, ARCH, ARGUMENT_0, ARGUMENT_1, ARGUMENT_2, ARGUMENT_3 = 0, 4, 16, 24, 32, 40
LOAD, AND, RETURN, IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x20, 0x54, 0x06, 0x15, 0x35, 0x45
KILL, ALLOW, ERRNO = 0x80000000, 0x7FFF0000, 0x00050000


def build_filter(machine: str) -> bytes:
    """The filter for `machine` ("x86_64" or "aarch64"), as an array of `struct sock_filter` (8 bytes each).

    Raises KeyError for another machine.
    """
    allow, deny, unknown = [_return(ALLOW)], [_return(ERRNO | errno.EPERM)], [_return(ERRNO | errno.ENOSYS)]
    actions = {number: _checked(name) or allow for name, number in system_calls(machine).items()}
    actions[CLONE3] = unknown
    # Neighbours with the same answer become one range; (first number, answer), ascending.
    ranges = [(0, actions.get(0, deny))]
    for number in range(1, NEWEST + 2):
        answer = unknown if number > NEWEST else actions.get(number, deny)
        if answer is not ranges[-1][1]:
            ranges.append((number, answer))
    ranges.append((0x40000000, deny))  # x32's calls: x86-64's with this bit, another way to everything
    program = [
        _instruction(LOAD, ARCH),
        _instruction(IF_EQUAL, AUDIT_ARCH[machine], 1, 0),
        _return(KILL),  # a 32-bit call (int 0x80): another table of numbers
        _instruction(LOAD, NUMBER),
        *_search(ranges),
    ]
    return b"".join(program)


def system_calls(machine: str) -> dict[str, int]:
    """The calls that are allowed on `machine`, by name."""
    return {name: int(number) for name, number in (entry.split("=") for entry in TABLES[machine].split())}


def _search(ranges: list[tuple[int, list[bytes]]]) -> list[bytes]:
    if len(ranges) == 1:
        return ranges[0][1]
    middle = len(ranges) // 2
    below, above = _search(ranges[:middle]), _search(ranges[middle:])
    return [_instruction(IF_AT_LEAST, ranges[middle][0], len(below), 0), *below, *above]


def _checked(name: str) -> list[bytes] | None:
    """What is done for the calls whose arguments decide."""
    allow, deny = _return(ALLOW), _return(ERRNO | errno.EPERM)
    if name == "clone":
        return [_instruction(LOAD, ARGUMENT_0), _instruction(IF_ANY_BIT, CLONE_NEW, 0, 1), deny, allow]
    if name in ("socket", "socketpair"):
        families = [
            _instruction(IF_EQUAL, family, len(SOCKET_FAMILIES) - i) for i, family in enumerate(SOCKET_FAMILIES)
        ]
        return [_instruction(LOAD, ARGUMENT_0), *families, _return(ERRNO | errno.EAFNOSUPPORT), allow]
    if name == "mmap":
        anonymous, uncharged = (IF_ANY_BIT, MAP_ANONYMOUS, 0, 2), (IF_ANY_BIT, MAP_SHARED | MAP_HUGETLB, 0, 1)
        return [_instruction(LOAD, ARGUMENT_3), _instruction(*anonymous), _instruction(*uncharged), deny, allow]
    if name == "setsockopt":
        buffers = [_instruction(IF_EQUAL, option, len(BUFFER_OPTIONS) - i) for i, option in enumerate(BUFFER_OPTIONS)]
        level = [_instruction(LOAD, ARGUMENT_1), _instruction(IF_EQUAL, SOL_SOCKET, 1, 0), allow]
        return [*level, _instruction(LOAD, ARGUMENT_2), *buffers, allow, _return(ERRNO)]
    if name == "ioctl":
        kind = [_instruction(AND, IOCTL_KIND), _instruction(IF_EQUAL, PERF_IOCTLS, 1, 0), allow, deny]
        last = len(DENIED_IOCTLS) + len(kind) - 2
        requests = [_instruction(IF_EQUAL, request, last - i) for i, request in enumerate(DENIED_IOCTLS)]
        return [_instruction(LOAD, ARGUMENT_1), *requests, *kind]
    return None


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, if_true, if_false, value)


def _return(action: int) -> bytes:
    return _instruction(RETURN, action)
