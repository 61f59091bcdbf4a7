//! The commands that the agent has inside itself, one file each.
//!
//! Each runs in a forked child of the agent with pipes for stdin, stdout and stderr, like any other command
//! (`tool_process`), so it may block, use memory and fail without any harm to the agent. `stdin` and `stdout` end with
//! an error when the tool is cancelled. Reads are not buffered; writes are, and flushed when the tool has ended.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::errno::Errno;
use serde::Serialize;

pub mod diff;
pub mod list;
pub mod output;
pub mod pack;
pub mod patch;
pub mod paths;
pub mod read;
pub mod request;
pub mod spare;
pub mod text;
pub mod unpack;
pub mod write;

/// The folders that tools work on, as open directories: no path of the guest leads to any of them but the first.
#[derive(Debug)]
pub struct Place {
    /// `/workspace`.
    pub workspace: OwnedFd,
    /// The upper layer of the overlay that is `/workspace`: all changes since the workspace was made.
    pub upper: Option<OwnedFd>,
    /// The lower one: what the workspace was made with.
    pub lower: Option<OwnedFd>,
    /// Where the output of kept commands is.
    pub commands: Option<OwnedFd>,
}

impl Place {
    /// Opens the folders by their paths; all of them have to exist.
    pub fn open(
        workspace: &Path,
        upper: Option<&Path>,
        lower: Option<&Path>,
        commands: Option<&Path>,
    ) -> io::Result<Self> {
        let open = |path: &Path| -> io::Result<OwnedFd> {
            let folder = File::open(path)?;
            if folder.metadata()?.is_dir() {
                Ok(folder.into())
            } else {
                Err(Errno::ENOTDIR.into())
            }
        };
        Ok(Self {
            workspace: open(workspace)?,
            upper: upper.map(open).transpose()?,
            lower: lower.map(open).transpose()?,
            commands: commands.map(open).transpose()?,
        })
    }
}

/// What went wrong, as the host's programs see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// A path that is not `/workspace` or below it.
    Outside,
    NotFound,
    Exists,
    NotADirectory,
    IsADirectory,
    NotAFile,
    NoSpace,
    ReadOnly,
    BadArchive,
    BadPatch,
    PatchFailed,
    BadPattern,
    UnknownCommand,
    /// Anything else; the message tells.
    Io,
}

/// Why a tool failed: what the child of the agent says on its stderr, as one JSON object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolError {
    pub code: Code,
    pub message: String,
}

pub type Outcome = Result<(), ToolError>;

impl ToolError {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What an error of the system means, with what it is about before it, such as `/workspace/a: `.
    pub fn about(subject: impl std::fmt::Display, error: &io::Error) -> Self {
        let error = Self::from_ref(error);
        Self { message: format!("{subject}: {}", error.message), ..error }
    }

    fn from_ref(error: &io::Error) -> Self {
        let errno = error.raw_os_error().map(Errno::from_raw);
        let message = errno.map_or_else(|| error.to_string(), |errno| errno.desc().to_owned());
        Self { code: errno.map_or(Code::Io, Code::of), message }
    }
}

impl Code {
    fn of(errno: Errno) -> Self {
        match errno {
            Errno::ENOENT => Self::NotFound,
            Errno::EEXIST | Errno::ENOTEMPTY => Self::Exists,
            Errno::ENOTDIR => Self::NotADirectory,
            Errno::EISDIR => Self::IsADirectory,
            Errno::ENOSPC | Errno::EDQUOT => Self::NoSpace,
            Errno::EROFS => Self::ReadOnly,
            // What openat2 answers to a path that leads out.
            Errno::EXDEV => Self::Outside,
            _ => Self::Io,
        }
    }
}

impl From<io::Error> for ToolError {
    fn from(error: io::Error) -> Self {
        Self::from_ref(&error)
    }
}

impl From<Errno> for ToolError {
    fn from(errno: Errno) -> Self {
        Self::from_ref(&errno.into())
    }
}
