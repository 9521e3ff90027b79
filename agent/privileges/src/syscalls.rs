//! The system calls of a session: what TLS, names, its own files and its threads need, and nothing that starts a program or looks into another.

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, apply_filter,
};

/// Why the filter is not in force. The process must not go on.
#[derive(Debug, thiserror::Error)]
#[error("filter the system calls: {0}")]
pub struct FilterError(String);

/// Calls that are allowed whatever their arguments.
const PLAIN: &[c_long] = &[
    // Descriptors that it has, and its own files: whose they are is the file system's to say.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_lseek,
    libc::SYS_openat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_readlinkat,
    libc::SYS_getdents64,
    libc::SYS_getcwd,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_ftruncate,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_pipe2,
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // Connections; which families, see `socket`.
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_shutdown,
    libc::SYS_socketpair,
    // Its memory, threads and time.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_getrandom,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getppid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getpriority,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_prlimit64,
    libc::SYS_umask,
];

/// Calls by their old names, which C libraries still use on this architecture.
#[cfg(target_arch = "x86_64")]
const OLD: &[c_long] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_mkdir,
    libc::SYS_unlink,
    libc::SYS_rename,
    libc::SYS_chmod,
    libc::SYS_getdents,
    libc::SYS_pipe,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_getpgrp,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[c_long] = &[];

/// What may be asked of descriptors: whether it is a terminal, how much can be read, not to block.
const IOCTLS: [u64; 4] = [0x5401, 0x5413, 0x541b, 0x5421];
/// The name of a thread and of memory.
const PRCTLS: [i32; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];
/// A new thread, and no namespace.
const THREAD: u64 = libc::CLONE_THREAD as u64;
const APART: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// From here on the process can do what a session does, and any other call is refused with EPERM. It must have one thread.
pub fn allow_only_a_session() -> Result<(), FilterError> {
    let old_way = filter(
        only(&[libc::SYS_clone3])?,
        SeccompAction::Allow,
        SeccompAction::Errno(errno(libc::ENOSYS)),
    )?;
    let session = filter(session()?, SeccompAction::Errno(errno(libc::EPERM)), SeccompAction::Allow)?;
    // Of several filters the strictest answer counts: clone3, whose flags cannot be looked at, is not there at all.
    apply_filter(&old_way).map_err(refused)?;
    apply_filter(&session).map_err(refused)
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn refused(error: impl std::fmt::Display) -> FilterError {
    FilterError(error.to_string())
}

fn errno(number: i32) -> u32 {
    number.unsigned_abs()
}

fn filter(rules: Rules, otherwise: SeccompAction, then: SeccompAction) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    let filter = SeccompFilter::new(rules, otherwise, then, arch).map_err(refused)?;
    filter.try_into().map_err(refused)
}

fn only(calls: &[c_long]) -> Result<Rules, FilterError> {
    Ok(calls.iter().map(|call| (*call, Vec::new())).collect())
}

fn session() -> Result<Rules, FilterError> {
    let mut rules = only(PLAIN)?;
    rules.extend(only(OLD)?);
    // Allowed for the filter before, which answers it.
    rules.extend(only(&[libc::SYS_clone3])?);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(
        libc::SYS_ioctl,
        IOCTLS.iter().map(|request| when(&[is(1, *request)?])).collect::<Result<_, _>>()?,
    );
    let prctls = PRCTLS.iter().map(|option| when(&[is(0, u64::from(option.unsigned_abs()))?]));
    rules.insert(libc::SYS_prctl, prctls.collect::<Result<_, _>>()?);
    let thread = SeccompCondition::new(0, SeccompCmpArgLen::Qword, SeccompCmpOp::MaskedEq(THREAD | APART), THREAD).map_err(refused)?;
    rules.insert(libc::SYS_clone, vec![when(&[thread])?]);
    Ok(rules)
}

/// The network, the system's log and name services, and what the kernel says of its own addresses and routes.
fn sockets() -> Result<Vec<SeccompRule>, FilterError> {
    let family = |family: i32| is(0, u64::from(family.unsigned_abs()));
    let route = is(2, u64::from(libc::NETLINK_ROUTE.unsigned_abs()))?;
    let kind = |kind: i32| {
        let value = u64::from(kind.unsigned_abs());
        SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(0xf), value).map_err(refused)
    };
    let mut rules = vec![when(&[family(libc::AF_UNIX)?])?, when(&[family(libc::AF_NETLINK)?, route])?];
    for of in [libc::AF_INET, libc::AF_INET6] {
        for one in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            rules.push(when(&[family(of)?, kind(one)?])?);
        }
    }
    Ok(rules)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, FilterError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value).map_err(refused)
}

fn when(conditions: &[SeccompCondition]) -> Result<SeccompRule, FilterError> {
    SeccompRule::new(conditions.to_vec()).map_err(refused)
}
