//! What a patch finds in the workspace.
//!
//! Symbolic links are neither followed nor passed through, as by `git apply`: a link on the way to a file could lead
//! anywhere by the time that the file is replaced.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{readlinkat, OFlag, ResolveFlag};
use nix::sys::stat::{fstat, FileStat, SFlag};

use crate::tools::paths::{failure, open_below, WORKSPACE};
use crate::tools::text::binary::MAX_CONTENT_BYTES;
use crate::tools::{Code, ToolError};

/// A file or a symbolic link as it was when it was read.
#[derive(Debug, Clone)]
pub struct Original {
    /// What is in the file, or where the link leads.
    pub content: Vec<u8>,
    pub is_symlink: bool,
    /// Permission bits.
    pub mode: u32,
    pub owner: (u32, u32),
    /// What is another one when somebody has changed the file.
    pub version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version {
    size: i64,
    modified: (i64, i64),
    kind: u32,
}

impl Version {
    pub fn of(stat: &FileStat) -> Self {
        let kind = stat.st_mode & SFlag::S_IFMT.bits();
        Self { size: stat.st_size, modified: (stat.st_mtime, stat.st_mtime_nsec), kind }
    }
}

/// A path of a patch as the user knows it.
pub fn shown(path: &[u8]) -> String {
    format!("{WORKSPACE}/{}", String::from_utf8_lossy(path))
}

/// Opens what a path names without following any link; nothing if it is not there.
pub fn find(workspace: impl AsFd, path: &[u8], flags: OFlag) -> Result<Option<OwnedFd>, ToolError> {
    match open_below(workspace, path, flags | OFlag::O_NOFOLLOW, ResolveFlag::RESOLVE_NO_SYMLINKS) {
        Ok(found) => Ok(Some(found)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(refusal(path, errno)),
    }
}

/// Why a path cannot be used.
pub fn refusal(path: &[u8], errno: Errno) -> ToolError {
    match errno {
        Errno::ELOOP => {
            let message = format!("{} leads through a symbolic link, which patches do not follow", shown(path));
            ToolError::new(Code::Outside, message)
        }
        _ => failure(&shown(path), errno),
    }
}

/// Reads a file or a link; nothing if there is none. Fails for anything else, and for what is too large.
pub fn read(workspace: impl AsFd, path: &[u8]) -> Result<Option<Original>, ToolError> {
    let Some(found) = find(&workspace, path, OFlag::O_PATH)? else { return Ok(None) };
    let stat = fstat(&found)?;
    let kind = SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits());
    let content = match kind {
        SFlag::S_IFLNK => readlinkat(&found, "").map_err(|errno| refusal(path, errno))?.into_vec(),
        SFlag::S_IFREG => {
            let Some(file) = find(&workspace, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK)? else { return Ok(None) };
            read_content(path, file.into())?
        }
        SFlag::S_IFDIR => return Err(refusal(path, Errno::EISDIR)),
        _ => return Err(ToolError::new(Code::NotAFile, format!("{} is not a regular file", shown(path)))),
    };
    Ok(Some(Original {
        content,
        is_symlink: kind == SFlag::S_IFLNK,
        mode: stat.st_mode & 0o7777,
        owner: (stat.st_uid, stat.st_gid),
        version: Version::of(&stat),
    }))
}

fn read_content(path: &[u8], file: File) -> Result<Vec<u8>, ToolError> {
    let mut content = Vec::new();
    let outcome = file.take(MAX_CONTENT_BYTES as u64 + 1).read_to_end(&mut content);
    outcome.map_err(|error| failure(&shown(path), error))?;
    if content.len() > MAX_CONTENT_BYTES {
        let message =
            format!("{} is larger than {} MiB, the most that is patched", shown(path), MAX_CONTENT_BYTES >> 20);
        return Err(ToolError::new(Code::PatchFailed, message));
    }
    Ok(content)
}
