//! Packing a folder or a file into a tar archive.

mod header;
mod stream;

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{openat, readlinkat, AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{fstat, fstatat, FileStat, Mode};

use self::header::{Kind, Member};
use self::stream::Stream;
use super::paths::folder::{each_name, Type};
use super::paths::{failure, join, open_below, split, Named};
use super::{Code, Outcome, Place, ToolError};

const FOLDER_FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);
// Without O_NONBLOCK, opening a pipe would wait for somebody to write into it.
const FILE_FLAGS: OFlag = OFlag::O_RDONLY.union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);

/// Packs the folder at `path`, with names relative to it (`./` is itself), or one file, under its own name.
///
/// A folder's files come before the folders in it, both in the order of their names. What vanishes or becomes something
/// else meanwhile is left out. Of devices, pipes and sockets only the names are packed, so that the host can tell that
/// there were some. Second and later names of a file are hard links to its first.
pub fn run(place: &Place, path: &str, _stdin: &mut dyn Read, stdout: &mut dyn Write) -> Outcome {
    let named = Named::parse(path)?;
    let opened = named.open(place, FILE_FLAGS)?;
    let stat = fstat(&opened).map_err(|errno| failure(&named.shown, errno))?;
    let mut packing = Packing { shown: &named.shown, stream: Stream::new(stdout), first_names: HashMap::new() };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => packing.pack_all(&opened)?,
        libc::S_IFREG => packing.pack_content(split(named.below.as_bytes()).1, &stat, &opened.into())?,
        _ => return Err(ToolError::new(Code::NotAFile, format!("{} is not a regular file or folder", named.shown))),
    }
    packing.stream.finish()
}

struct Packing<'a> {
    shown: &'a str,
    stream: Stream<'a>,
    /// Of the files that have several names, by device and inode.
    first_names: HashMap<(u64, u64), Vec<u8>>,
}

impl Packing<'_> {
    fn pack_all(&mut self, top: &OwnedFd) -> Outcome {
        let mut folders = vec![b".".to_vec()];
        while let Some(path) = folders.pop() {
            // By its path, since a deep tree has more folders than a process may have open.
            match open_below(top, &path[..], FOLDER_FLAGS, ResolveFlag::RESOLVE_NO_SYMLINKS) {
                Err(errno) if is_gone(errno) => {}
                opened => {
                    let opened = opened.map_err(|errno| self.failure(&path, errno))?;
                    self.pack_folder(&path, &opened, &mut folders)?;
                }
            }
        }
        Ok(())
    }

    /// Packs a folder and the files in it; the folders in it are left for later.
    fn pack_folder(&mut self, path: &[u8], opened: &OwnedFd, folders: &mut Vec<Vec<u8>>) -> Outcome {
        let stat = fstat(opened).map_err(|errno| self.failure(path, errno))?;
        let name = if path == b"." { b"./".to_vec() } else { [b"./", path, b"/"].concat() };
        self.stream.member(&Member::new(Kind::Folder, &name, &stat))?;
        let mut names = Vec::new();
        let read = each_name(opened, |name, kind| names.push((name.to_vec(), kind)));
        read.map_err(|errno| self.failure(path, errno))?;
        names.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        let mut below = Vec::new();
        for (name, kind) in names {
            let path = join(path, &name);
            match self.kind(opened, &name, &path, kind)? {
                Type::File => self.pack_file(opened, &name, &path)?,
                Type::Symlink => self.pack_symlink(opened, &name, &path)?,
                Type::Folder => below.push(path),
                Type::Other => self.stream.name(&[b"./", &path[..]].concat())?,
                Type::Unknown => {}
            }
        }
        folders.extend(below.into_iter().rev());
        Ok(())
    }

    /// Asks for what the folder does not tell.
    fn kind(&self, folder: &OwnedFd, name: &[u8], path: &[u8], kind: Type) -> Result<Type, ToolError> {
        if kind != Type::Unknown {
            return Ok(kind);
        }
        let stat = self.there(path, fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW))?;
        Ok(stat.map_or(Type::Unknown, |stat| match stat.st_mode & libc::S_IFMT {
            libc::S_IFREG => Type::File,
            libc::S_IFDIR => Type::Folder,
            libc::S_IFLNK => Type::Symlink,
            _ => Type::Other,
        }))
    }

    fn pack_file(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8]) -> Outcome {
        let opened = openat(folder, name, FILE_FLAGS | OFlag::O_NOFOLLOW, Mode::empty());
        let Some(opened) = self.there(path, opened)? else { return Ok(()) };
        let stat = fstat(&opened).map_err(|errno| self.failure(path, errno))?;
        if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
            return Ok(());
        }
        let name = [b"./", path].concat();
        if stat.st_nlink > 1 {
            let file = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.first_names.get(&file) {
                return self.stream.member(&Member::new(Kind::HardLink, &name, &stat).to(first));
            }
            self.first_names.insert(file, name.clone());
        }
        self.pack_content(&name, &stat, &opened.into())
    }

    fn pack_content(&mut self, name: &[u8], stat: &FileStat, file: &File) -> Outcome {
        self.stream.member(&Member::new(Kind::File, name, stat))?;
        let size = u64::try_from(stat.st_size).unwrap_or_default();
        self.stream.content(file, size, |error| failure(&shown(self.shown, name), error))
    }

    fn pack_symlink(&mut self, folder: &OwnedFd, name: &[u8], path: &[u8]) -> Outcome {
        let Some(stat) = self.there(path, fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW))? else {
            return Ok(());
        };
        let target = match readlinkat(folder.as_fd(), name) {
            // It is no link any more.
            Err(Errno::EINVAL) => return Ok(()),
            target => self.there(path, target)?,
        };
        let Some(target) = target.map(OsStringExt::into_vec) else { return Ok(()) };
        self.stream.member(&Member::new(Kind::Symlink, &[b"./", path].concat(), &stat).to(&target))
    }

    /// `None` for what was there and is not any more.
    fn there<T>(&self, path: &[u8], outcome: nix::Result<T>) -> Result<Option<T>, ToolError> {
        match outcome {
            Err(errno) if is_gone(errno) => Ok(None),
            outcome => outcome.map(Some).map_err(|errno| self.failure(path, errno)),
        }
    }

    fn failure(&self, path: &[u8], errno: Errno) -> ToolError {
        failure(&shown(self.shown, path), errno)
    }
}

fn shown(folder: &str, name: &[u8]) -> String {
    let name = String::from_utf8_lossy(name);
    format!("{folder}/{}", name.trim_start_matches("./"))
}

/// Whether something else is by now where a name in a folder led: nothing, a file for a folder, a link, a socket.
fn is_gone(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO)
}
