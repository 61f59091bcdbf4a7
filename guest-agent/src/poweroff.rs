//! The orderly end of the guest.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::mount::{mount, MsFlags};
use nix::sys::reboot::{reboot, RebootMode};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::sync;

use crate::console::report;
use crate::reap::{self, Child};
use crate::root::Mounts;

/// How long processes may take to end after SIGTERM.
const LIMIT: Duration = Duration::from_secs(2);

/// Ends all processes, writes everything out, and resets the machine, on which the VMM exits. Only for PID 1.
pub fn run(mounts: &Mounts) -> ! {
    end_processes();
    sync();
    make_read_only(mounts);
    reset()
}

/// Resets the machine. The kernel's command line says how (`reboot=`).
pub fn reset() -> ! {
    loop {
        // It does not return; should it, a guest that stays is found by the host's own time limit.
        let _ = reboot(RebootMode::RB_AUTOBOOT);
        nix::unistd::pause();
    }
}

fn end_processes() {
    signal_all(libc::SIGTERM);
    let deadline = Instant::now() + LIMIT;
    while !reap_all() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || !wait_for_child(left) {
            signal_all(libc::SIGKILL);
            return;
        }
    }
}

/// Returns whether no process is left: what PID 1 has no part in has a parent that it has.
fn reap_all() -> bool {
    loop {
        match reap::next() {
            Child::Ended(..) => {}
            Child::Alive => return false,
            Child::None => return true,
        }
    }
}

/// Waits for SIGCHLD, which the agent has blocked. Returns whether one came in time.
fn wait_for_child(limit: Duration) -> bool {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let timeout = libc::timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
    loop {
        // SAFETY: mask and timeout outlive the call, and no information about the signal is asked for.
        let signal = unsafe { libc::sigtimedwait(mask.as_ref(), std::ptr::null_mut(), &raw const timeout) };
        if signal >= 0 || Errno::last() != Errno::EINTR {
            return signal >= 0;
        }
    }
}

/// Signals every process but this one.
fn signal_all(signal: i32) {
    // SAFETY: kill touches no memory of ours. That there is nobody to signal is no error here.
    unsafe { libc::kill(-1, signal) };
}

/// The overlays first, then what lies under them. Paths lead nowhere reliable by now, if anywhere: the guest's programs
/// could mount and unmount.
fn make_read_only(mounts: &Mounts) {
    let path = |fd: RawFd| format!("/proc/self/fd/{fd}");
    let workspace = mounts.workspace.as_ref().map(|workspace| path(workspace.as_raw_fd()));
    for target in workspace.into_iter().chain(["/".to_owned(), path(mounts.changes.as_raw_fd())]) {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        if let Err(errno) = mount(None::<&str>, target.as_str(), None::<&str>, flags, None::<&str>) {
            report(format_args!("warning: make {target} read-only: {errno}"));
        }
    }
}
