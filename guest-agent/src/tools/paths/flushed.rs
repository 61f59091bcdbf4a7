//! Seeing to it that what was acknowledged outlasts a machine that is killed.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::unistd::fsync;

use super::open_below;

/// Writes a file out: its content, and what else there is to say of it but its names.
pub fn flush(file: impl AsFd) -> nix::Result<()> {
    match fsync(file) {
        // Not every file system that somebody may mount below /workspace has this.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP | Errno::EROFS) => Ok(()),
        outcome => outcome,
    }
}

/// Writes out the names in a folder, which may be open as a place only (O_PATH).
///
/// A workspace's disk is ext4, whose journal is written in the order of the changes. So all that was made, renamed or
/// removed elsewhere on it before the folder's last change is written out, too: the folder's parents, for example.
pub fn flush_folder(folder: BorrowedFd) -> nix::Result<()> {
    flush(open_below(folder, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY, ResolveFlag::empty())?)
}
