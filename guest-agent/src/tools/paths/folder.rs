//! The names in a folder, read with getdents64(2): by descriptor, and many at a time.

use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::libc;

const BUFFER_BYTES: usize = 32 << 10;

// Where the parts of a `linux_dirent64` are.
const LENGTH_AT: usize = 16;
const TYPE_AT: usize = 18;
const NAME_AT: usize = 19;

/// What a folder says of an entry's kind; file systems may leave it at `Unknown`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    File,
    Folder,
    Symlink,
    Other,
    Unknown,
}

/// Calls `take` with each name in an open folder but `.` and `..`, in the folder's own order.
pub fn each_name(folder: impl AsFd, mut take: impl FnMut(&[u8], Type)) -> nix::Result<()> {
    let mut buffer = vec![0_u8; BUFFER_BYTES];
    loop {
        let length = fill(&folder, &mut buffer)?;
        if length == 0 {
            return Ok(());
        }
        let mut rest = &buffer[..length];
        while let Some((record, after)) = next_record(rest) {
            let name = record[NAME_AT..].split(|byte| *byte == 0).next().unwrap_or_default();
            if !matches!(name, b"" | b"." | b"..") {
                take(name, kind(record[TYPE_AT]));
            }
            rest = after;
        }
    }
}

fn next_record(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = rest.get(LENGTH_AT..TYPE_AT)?;
    let length = usize::from(u16::from_ne_bytes([length[0], length[1]]));
    if length <= NAME_AT {
        return None;
    }
    rest.split_at_checked(length)
}

fn kind(code: u8) -> Type {
    match code {
        libc::DT_REG => Type::File,
        libc::DT_DIR => Type::Folder,
        libc::DT_LNK => Type::Symlink,
        libc::DT_UNKNOWN => Type::Unknown,
        _ => Type::Other,
    }
}

fn fill(folder: impl AsFd, buffer: &mut [u8]) -> nix::Result<usize> {
    let descriptor = folder.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open for as long as the borrow, and the kernel writes at most the length that it is
    // given into a buffer that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_getdents64, descriptor, buffer.as_mut_ptr(), buffer.len()) };
    Errno::result(result).map(|length| length as usize)
}
