//! File systems that all machines have alike: mounted while the guest still waits, and carried into the root that it gets
//! later. A template's copies find them done.
//!
//! What is carried is a copy of the mount that no path leads to, so the old root keeps its own, and the new root alone
//! decides where a path leads. Source: open_tree(2) and move_mount(2), the numbers from linux/mount.h.

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::libc;

use crate::console::{Failure, Result};
use crate::mount::make_directory;

const OPEN_TREE_CLONE: libc::c_uint = 1;
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
const MOVE_MOUNT_T_SYMLINKS: libc::c_uint = 0x10;

/// A mount with all that is mounted below it, and the path that it has in every root.
pub struct Carried {
    path: &'static str,
    mounts: OwnedFd,
}

impl Carried {
    /// What is mounted at a path now.
    pub fn take(path: &'static str) -> Result<Self> {
        let mounts = copy_of(path).map_err(|errno| Failure::new(format!("copy the mount at {path}"), errno))?;
        Ok(Self { path, mounts })
    }

    pub fn path(&self) -> &'static str {
        self.path
    }

    /// Puts it where its path leads by now. What stood there may have become a link to a directory, which is followed.
    pub fn put_down(self) -> Result<()> {
        make_directory(Path::new(self.path))?;
        attach(&self.mounts, self.path).map_err(|errno| Failure::new(format!("mount {} again", self.path), errno))
    }
}

fn copy_of(path: &str) -> nix::Result<OwnedFd> {
    let path = c_string(path)?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: the path ends with a zero and outlives the call, which changes no memory.
    let result = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = Errno::result(result)? as libc::c_int;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn attach(mounts: &OwnedFd, path: &str) -> nix::Result<()> {
    let path = c_string(path)?;
    // SAFETY: both paths end with a zero and outlive the call, which changes no memory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mounts.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS,
        )
    };
    Errno::result(result).map(drop)
}

fn c_string(path: &str) -> nix::Result<CString> {
    CString::new(path).map_err(|_| Errno::EINVAL)
}
