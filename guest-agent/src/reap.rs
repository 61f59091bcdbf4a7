//! Collecting the exit statuses of children: the agent's commands, and every orphan of the guest.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Code(i32),
    Signal(i32),
}

/// One look at the children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    Ended(i32, Exit),
    /// There are children, and none has ended.
    Alive,
    /// There are no children. For PID 1: no other process is left.
    None,
}

/// Announces that children have ended.
pub struct Children {
    signals: SignalFd,
}

impl Children {
    /// Blocks SIGCHLD for the calling thread, which has to be the only one.
    pub fn watch() -> nix::Result<Self> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        mask.thread_block()?;
        Ok(Self { signals: SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)? })
    }

    /// Hands over every child that has ended. One announcement can stand for several.
    pub fn collect(&self, mut ended: impl FnMut(i32, Exit)) {
        // Any answer but a signal means that there is none; the children are looked at all the same.
        while let Ok(Some(_)) = self.signals.read_signal() {}
        while let Child::Ended(pid, exit) = next() {
            ended(pid, exit);
        }
    }
}

impl AsFd for Children {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

/// Collects one child that has ended, without waiting.
pub fn next() -> Child {
    loop {
        let mut status = 0;
        // SAFETY: the status is a live c_int. nix's waitpid is of no use here: it loses children that died of
        // a real-time signal.
        let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
        match pid {
            0 => return Child::Alive,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Child::None,
            pid if libc::WIFEXITED(status) => return Child::Ended(pid, Exit::Code(libc::WEXITSTATUS(status))),
            pid => return Child::Ended(pid, Exit::Signal(libc::WTERMSIG(status))),
        }
    }
}
