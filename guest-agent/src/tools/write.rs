//! Writing a file.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{readlinkat, AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{fchmod, fstatat, FileStat, Mode};
use nix::unistd::{fchown, geteuid, Gid, Uid};
use serde::Serialize;

use super::paths::flushed::{flush, flush_folder};
use super::paths::staged::Staged;
use super::paths::{failure, join, open_below, open_or_make, split, Named};
use super::{Code, Outcome, Place, ToolError};

const NEW_FILE_MODE: u32 = 0o644;
const BUFFER_BYTES: usize = 256 << 10;

/// As many as the kernel follows in one path.
const MAX_LINKS: usize = 40;

#[derive(Serialize)]
struct Written {
    size: u64,
    created: bool,
}

/// Makes what comes through `stdin` the content of the file at `path`, all at once at its end.
///
/// Missing folders are made. A file that is there is replaced by one of the same mode and owner, and other hard links
/// to it keep the old content. A symbolic link stays: the file that it leads to inside of the workspace is written.
/// What was written is on the disk before the answer.
pub fn run(place: &Place, path: &str, stdin: &mut dyn Read, stdout: &mut dyn Write) -> Outcome {
    let named = Named::parse(path)?;
    let failed = |errno: Errno| failure(&named.shown, errno);
    let (folder, name) = find(place, &named.below).map_err(failed)?;
    let old = existing(folder.as_fd(), &name, &named)?;
    let staged = Staged::new(folder.as_fd(), 0o600).map_err(failed)?;
    let size = fill(&staged, stdin, &named)?;
    dress(&staged, old.as_ref()).map_err(failed)?;
    flush(staged.file()).map_err(failed)?;
    staged.place(&name).map_err(failed)?;
    flush_folder(folder.as_fd()).map_err(failed)?;
    serde_json::to_writer(&mut *stdout, &Written { size, created: old.is_none() }).map_err(std::io::Error::from)?;
    Ok(stdout.write_all(b"\n")?)
}

/// The folder and the name of the file that is written, after all links.
fn find(place: &Place, path: &str) -> nix::Result<(OwnedFd, Vec<u8>)> {
    let workspace = place.workspace.as_fd();
    let mut path = path.as_bytes().to_vec();
    let (parent, name) = split(&path);
    let mut folder = open_or_make(workspace, parent, ResolveFlag::empty())?;
    let mut name = file_name(name)?;
    for _ in 0..MAX_LINKS {
        let target = match readlinkat(folder.as_fd(), &name[..]) {
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok((folder, name)),
            target => target?,
        };
        path = follow(&path, target.as_bytes())?;
        let (parent, last) = split(&path);
        folder = open_below(workspace, parent, OFlag::O_PATH | OFlag::O_DIRECTORY, ResolveFlag::empty())?;
        name = file_name(last)?;
    }
    Err(Errno::ELOOP)
}

/// Where a link leads, relative to the workspace. Absolute ones are known by the workspace's usual path.
fn follow(link: &[u8], target: &[u8]) -> nix::Result<Vec<u8>> {
    if !target.starts_with(b"/") {
        return Ok(join(split(link).0, target));
    }
    let named = std::str::from_utf8(target).ok().and_then(|target| Named::parse(target).ok());
    named.map(|named| named.below.into_bytes()).ok_or(Errno::EXDEV)
}

fn file_name(name: &[u8]) -> nix::Result<Vec<u8>> {
    match name {
        b"" | b"." | b".." => Err(Errno::EISDIR),
        _ => Ok(name.to_vec()),
    }
}

/// What the new file replaces.
fn existing(folder: BorrowedFd, name: &[u8], named: &Named) -> Result<Option<FileStat>, ToolError> {
    let stat = match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Err(Errno::ENOENT) => return Ok(None),
        stat => stat.map_err(|errno| failure(&named.shown, errno))?,
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => Ok(Some(stat)),
        libc::S_IFDIR => Err(failure(&named.shown, Errno::EISDIR)),
        _ => Err(ToolError::new(Code::NotAFile, format!("{} is not a regular file", named.shown))),
    }
}

fn fill(staged: &Staged, stdin: &mut dyn Read, named: &Named) -> Result<u64, ToolError> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut size = 0;
    loop {
        let length = match stdin.read(&mut buffer) {
            // A tool that is cancelled may see the end of its input first, and that it was cancelled if it asks again.
            Ok(0) if stdin.read(&mut buffer)? == 0 => return Ok(size),
            Ok(0) => return Err(ToolError::new(Code::Io, "input went on after its end")),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        staged.file().write_all(&buffer[..length]).map_err(|error| failure(&named.shown, error))?;
        size += length as u64;
    }
}

fn dress(staged: &Staged, old: Option<&FileStat>) -> nix::Result<()> {
    let mode = old.map_or(NEW_FILE_MODE, |old| old.st_mode & 0o7777);
    if let Some(old) = old.filter(|_| geteuid().is_root()) {
        fchown(staged.file(), Some(Uid::from_raw(old.st_uid)), Some(Gid::from_raw(old.st_gid)))?;
    }
    // After the owner, whose change takes the bits for running as the owner away.
    fchmod(staged.file(), Mode::from_bits_truncate(mode))
}
