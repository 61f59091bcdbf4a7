//! Listing a folder: one JSON line for each file, in the order of their paths.

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{readlinkat, AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{fstatat, FileStat};
use serde::Serialize;

use super::paths::folder::each_name;
use super::paths::{failure, join, open_below, Named};
use super::{Outcome, Place, ToolError};

/// Lists the folder at `path` and, if `recursive`, the ones below it: at most `limit` entries, and then a line that
/// says so if there are more. Links are listed as links.
pub fn run(
    place: &Place,
    path: &str,
    recursive: bool,
    limit: u64,
    _stdin: &mut dyn Read,
    stdout: &mut dyn Write,
) -> Outcome {
    let named = Named::parse(path)?;
    let top = named.open(place, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
    let room = usize::try_from(limit).unwrap_or(usize::MAX);
    Listing { shown: &named.shown, top, recursive, room, stdout }.write()
}

struct Listing<'a> {
    shown: &'a str,
    top: OwnedFd,
    recursive: bool,
    /// How many more entries may be written.
    room: usize,
    stdout: &'a mut dyn Write,
}

/// What comes next, by its path below the listed folder.
enum Step {
    Show(Vec<u8>, Box<FileStat>, Option<Vec<u8>>),
    Enter(Vec<u8>),
}

#[derive(Serialize)]
struct Line<'a> {
    path: String,
    kind: &'a str,
    size: i64,
    mode: u32,
    mtime_ns: i64,
    target: Option<String>,
}

impl Listing<'_> {
    fn write(mut self) -> Outcome {
        let mut steps = self.steps(b".")?;
        while let Some(step) = steps.pop() {
            match step {
                Step::Show(..) if self.room == 0 => {
                    return Ok(self.stdout.write_all(b"{\"truncated\":true}\n")?);
                }
                Step::Show(path, stat, target) => {
                    self.show(&path, &stat, target.as_deref())?;
                    self.room -= 1;
                }
                Step::Enter(path) => steps.extend(self.steps(&path)?),
            }
        }
        Ok(())
    }

    fn show(&mut self, path: &[u8], stat: &FileStat, target: Option<&[u8]>) -> Outcome {
        let line = Line {
            path: format!("{}/{}", self.shown, String::from_utf8_lossy(path)),
            kind: kind(stat),
            size: stat.st_size,
            mode: stat.st_mode & 0o7777,
            mtime_ns: mtime_ns(stat),
            target: target.map(|target| String::from_utf8_lossy(target).into_owned()),
        };
        serde_json::to_writer(&mut *self.stdout, &line).map_err(std::io::Error::from)?;
        Ok(self.stdout.write_all(b"\n")?)
    }

    /// What is to be done for one folder, the last first. A folder that is gone by now, or something else, is empty.
    fn steps(&self, folder: &[u8]) -> Result<Vec<Step>, ToolError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
        let opened = match open_below(&self.top, folder, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
            Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP) => return Ok(Vec::new()),
            opened => opened.map_err(|errno| self.failure(folder, errno))?,
        };
        let mut steps = Vec::new();
        for name in first_names(&opened, self.room).map_err(|errno| self.failure(folder, errno))? {
            self.add_steps(&opened, folder, &name, &mut steps)?;
        }
        // As strings, `a-b` comes between the folder `a` and what is in it, since `-` comes before `/`.
        steps.sort_by_cached_key(|step| match step {
            Step::Show(path, ..) => path.clone(),
            Step::Enter(path) => [&path[..], b"/"].concat(),
        });
        steps.reverse();
        Ok(steps)
    }

    fn add_steps(&self, opened: &OwnedFd, folder: &[u8], name: &[u8], steps: &mut Vec<Step>) -> Outcome {
        let path = join(folder, name);
        let stat = match fstatat(opened.as_fd(), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(()),
            stat => stat.map_err(|errno| self.failure(&path, errno))?,
        };
        if self.recursive && kind(&stat) == "directory" {
            steps.push(Step::Enter(path.clone()));
        }
        let target = match kind(&stat) {
            // One that is no link any more is shown without.
            "symlink" => readlinkat(opened.as_fd(), name).ok().map(std::os::unix::ffi::OsStringExt::into_vec),
            _ => None,
        };
        steps.push(Step::Show(path, Box::new(stat), target));
        Ok(())
    }

    fn failure(&self, path: &[u8], errno: Errno) -> ToolError {
        failure(&format!("{}/{}", self.shown, String::from_utf8_lossy(path)), errno)
    }
}

/// The first names in a folder, in their order; as many as may be shown, and one more to know that there are more.
fn first_names(folder: &OwnedFd, room: usize) -> nix::Result<Vec<Vec<u8>>> {
    let most = room.saturating_add(1);
    let mut names: Vec<Vec<u8>> = Vec::new();
    each_name(folder, |name, _| {
        names.push(name.to_vec());
        if names.len() >= most.saturating_mul(2).max(4096) {
            names.sort_unstable();
            names.truncate(most);
        }
    })?;
    names.sort_unstable();
    names.truncate(most);
    Ok(names)
}

fn kind(stat: &FileStat) -> &'static str {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFREG => "file",
        libc::S_IFDIR => "directory",
        libc::S_IFLNK => "symlink",
        _ => "other",
    }
}

/// When a file was last changed, in nanoseconds since 1970; times that do not fit are the nearest that do.
pub fn mtime_ns(stat: &FileStat) -> i64 {
    stat.st_mtime.saturating_mul(1_000_000_000).saturating_add(stat.st_mtime_nsec)
}
