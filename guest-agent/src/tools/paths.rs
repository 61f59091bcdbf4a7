//! Paths as the user names them, and what they lead to.
//!
//! Everything starts from the descriptor of `/workspace`, and the kernel sees to it that nothing leaves that folder
//! (openat2(2), RESOLVE_BENEATH). Symbolic links that stay inside are followed where a tool says so. Absolute ones
//! count as leading out, wherever they point.

pub mod flushed;
pub mod folder;
pub mod staged;

use std::borrow::Cow;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{openat2, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{mkdirat, Mode};
use nix::NixPath;

use super::{Code, Place, ToolError};

/// The folder that the tools work in.
pub const WORKSPACE: &str = "/workspace";

/// Mode of folders that nobody gave a mode.
pub const FOLDER_MODE: u32 = 0o755;

/// As long as a path can be that the kernel takes.
const MAX_SHOWN_CHARACTERS: usize = 4096;

/// How often a path is tried again that somebody renames a part of.
const ATTEMPTS: usize = 64;

/// A path below `/workspace`, or that folder itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// As the user knows it: absolute, without empty parts and `.`.
    pub shown: String,
    /// The same, relative to `/workspace`; `.` for the folder itself.
    pub below: String,
}

impl Named {
    /// Takes a path from a request. `..` is left to the kernel, which knows where links lead.
    pub fn parse(path: &str) -> Result<Self, ToolError> {
        let outside = || ToolError::new(Code::Outside, format!("{} is not in {WORKSPACE}", brief(path)));
        let rest = path.strip_prefix(WORKSPACE).ok_or_else(outside)?;
        if path.contains('\0') || !(rest.is_empty() || rest.starts_with('/')) {
            return Err(outside());
        }
        let parts: Vec<&str> = rest.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
        if parts.is_empty() {
            return Ok(Self { shown: WORKSPACE.into(), below: ".".into() });
        }
        let below = parts.join("/");
        Ok(Self { shown: format!("{WORKSPACE}/{below}"), below })
    }

    /// Opens what the path leads to; links are followed as long as they stay inside.
    pub fn open(&self, place: &Place, flags: OFlag) -> Result<OwnedFd, ToolError> {
        let opened = open_below(&place.workspace, self.below.as_bytes(), flags, ResolveFlag::empty());
        opened.map_err(|errno| failure(&self.shown, errno))
    }

    /// Opens the folder that the path leads to, after making it and its parents where they are missing.
    pub fn open_or_make_folder(&self, place: &Place) -> Result<OwnedFd, ToolError> {
        let opened = open_or_make(&place.workspace, self.below.as_bytes(), ResolveFlag::empty());
        opened.map_err(|errno| failure(&self.shown, errno))
    }
}

/// Opens a path that must not leave `folder`.
pub fn open_below<P: ?Sized + NixPath>(
    folder: impl AsFd,
    path: &P,
    flags: OFlag,
    rules: ResolveFlag,
) -> nix::Result<OwnedFd> {
    let rules = rules | ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(rules);
    let mut outcome = Err(Errno::EAGAIN);
    for _ in 0..ATTEMPTS {
        outcome = openat2(folder.as_fd(), path, how);
        // EAGAIN: something was renamed on the way, so the kernel cannot tell whether it stayed inside.
        if !matches!(outcome, Err(Errno::EAGAIN | Errno::EINTR)) {
            break;
        }
    }
    outcome
}

/// Opens a folder below `folder` as a place for `*at` calls, after making what is missing of it.
pub fn open_or_make(folder: impl AsFd, path: &[u8], rules: ResolveFlag) -> nix::Result<OwnedFd> {
    let mut missing = Vec::new();
    let mut there = path;
    let mut opened = loop {
        match open_folder(folder.as_fd(), there, rules) {
            Err(Errno::ENOENT) if there != b"." => {
                let (parent, name) = split(there);
                missing.push(name);
                there = parent;
            }
            outcome => break outcome?,
        }
    };
    for name in missing.into_iter().rev() {
        match mkdirat(&opened, name, Mode::from_bits_truncate(FOLDER_MODE)) {
            Ok(()) | Err(Errno::EEXIST) => opened = open_folder(opened.as_fd(), name, rules)?,
            Err(errno) => return Err(errno),
        }
    }
    Ok(opened)
}

/// Opens a folder as a place for `*at` calls.
fn open_folder(folder: BorrowedFd, path: &[u8], rules: ResolveFlag) -> nix::Result<OwnedFd> {
    open_below(folder, path, OFlag::O_PATH | OFlag::O_DIRECTORY, rules)
}

/// Folder and last part of a relative path without empty parts; the folder is `.` where there is none.
pub fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b".", path),
    }
}

/// A name in a folder, as a path.
pub fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    match folder {
        b"." => name.to_vec(),
        _ => [folder, b"/", name].concat(),
    }
}

/// What went wrong with `path`, with the words where the system's own would mislead.
pub fn failure(path: &str, error: impl Into<io::Error>) -> ToolError {
    let (path, error) = (brief(path), error.into());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EXDEV) => ToolError::new(
            Code::Outside,
            format!("{path} leads out of {WORKSPACE} (absolute symbolic links count as leading out)"),
        ),
        // What open(2) answers for a socket.
        Some(Errno::ENXIO) => ToolError::new(Code::NotAFile, format!("{path} is not a regular file")),
        // No file has such a name, and none is at the end of links that go round in a circle.
        Some(errno @ (Errno::ENAMETOOLONG | Errno::ELOOP)) => {
            ToolError::new(Code::NotFound, format!("{path}: {}", errno.desc()))
        }
        _ => ToolError::about(path, &error),
    }
}

/// A path for a message, which it must not make endless.
pub fn brief(path: &str) -> Cow<'_, str> {
    match path.char_indices().nth(MAX_SHOWN_CHARACTERS) {
        Some((end, _)) => Cow::Owned(format!("{}...", &path[..end])),
        None => Cow::Borrowed(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn below(path: &str) -> String {
        Named::parse(path).unwrap().below
    }

    #[test]
    fn paths_become_relative_to_the_workspace() {
        assert_eq!(below("/workspace"), ".");
        assert_eq!(below("/workspace//./"), ".");
        assert_eq!(below("/workspace/a//./b/"), "a/b");
        assert_eq!(Named::parse("/workspace/a//b/").unwrap().shown, "/workspace/a/b");
    }

    #[test]
    fn other_paths_are_outside() {
        for path in ["", "/", "a", "workspace", "/workspaces/a", "/etc/passwd", "/workspace/\0"] {
            assert_eq!(Named::parse(path).unwrap_err().code, Code::Outside, "{path}");
        }
    }

    #[test]
    fn a_path_in_a_message_is_not_endless() {
        let long = format!("/workspace/{}", "\u{e4}".repeat(10_000));
        assert_eq!(failure(&long, Errno::EIO).message.chars().count(), 4096 + "...: I/O error".len());
        assert!(Named::parse(&long[4..]).unwrap_err().message.len() < 10_000);
        assert_eq!(brief("/workspace/a"), "/workspace/a");
    }

    #[test]
    fn a_path_splits_at_its_last_slash() {
        assert_eq!(split(b"a/b/c"), (&b"a/b"[..], &b"c"[..]));
        assert_eq!(split(b"a"), (&b"."[..], &b"a"[..]));
        assert_eq!(join(b"a/b", b"c"), b"a/b/c");
        assert_eq!(join(b".", b"c"), b"c");
    }
}
