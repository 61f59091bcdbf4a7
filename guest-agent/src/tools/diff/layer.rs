//! One layer of the overlay, looked at from outside of it.
//!
//! Paths are relative to the layer's folder, which is `.`. No symbolic link is ever followed. What is not there, or has
//! just gone, is `None`: commands change the upper layer while it is read.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use nix::errno::Errno;
use nix::fcntl::{openat, readlinkat, AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{fstat, fstatat, FileStat, Mode, SFlag};

use crate::tools::paths::folder::each_name;
use crate::tools::paths::open_below;

/// Longest value of an overlay's attribute that means anything: a path.
const MAX_ATTRIBUTE_BYTES: usize = 4096;

#[derive(Clone, Copy)]
pub struct Layer<'a>(BorrowedFd<'a>);

/// An open folder of a layer.
pub struct Folder(OwnedFd);

impl<'a> Layer<'a> {
    pub fn new(folder: &'a OwnedFd) -> Self {
        Self(folder.as_fd())
    }

    pub fn folder(&self, path: &[u8]) -> io::Result<Option<Folder>> {
        Ok(self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?.map(Folder))
    }

    pub fn stat(&self, path: &[u8]) -> io::Result<Option<FileStat>> {
        match self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)? {
            Some(found) => Ok(Some(fstat(found)?)),
            None => Ok(None),
        }
    }

    /// Opens a regular file; anything else is as good as nothing.
    pub fn file(&self, path: &[u8]) -> io::Result<Option<File>> {
        let Some(file) = self.open(path, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK)? else {
            return Ok(None);
        };
        Ok(is(&fstat(&file)?, SFlag::S_IFREG).then(|| file.into()))
    }

    /// Where a symbolic link leads.
    pub fn target(&self, path: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let Some(link) = self.open(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)? else { return Ok(None) };
        Ok(there(readlinkat(link, "").map(OsStringExt::into_vec))?)
    }

    fn open(&self, path: &[u8], flags: OFlag) -> io::Result<Option<OwnedFd>> {
        Ok(there(open_below(self.0, path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS))?)
    }
}

impl Folder {
    /// What is in the folder, in no order.
    pub fn entries(&self) -> io::Result<Vec<(Vec<u8>, FileStat)>> {
        let mut names = Vec::new();
        each_name(&self.0, |name, _| names.push(name.to_vec()))?;
        let mut entries = Vec::with_capacity(names.len());
        for name in names {
            if let Some(stat) = self.stat(&name)? {
                entries.push((name, stat));
            }
        }
        Ok(entries)
    }

    pub fn stat(&self, name: &[u8]) -> io::Result<Option<FileStat>> {
        Ok(there(fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW))?)
    }

    /// The folder `name` in this one, with what the overlay has noted about it.
    pub fn attributes(&self, name: &[u8]) -> io::Result<Attributes> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let Some(folder) = there(openat(&self.0, name, flags, Mode::empty()))? else {
            return Ok(Attributes::default());
        };
        let opaque = attribute(&folder, c"trusted.overlay.opaque")?;
        Ok(Attributes {
            opaque: opaque.as_deref() == Some(b"y"),
            redirect: attribute(&folder, c"trusted.overlay.redirect")?,
        })
    }
}

/// What an overlay notes about a folder of its upper layer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Nothing shows through of a folder of the same name below.
    pub opaque: bool,
    /// The folder below is another one: a path from the lower layer's root, or a name beside it.
    pub redirect: Option<Vec<u8>>,
}

fn attribute(folder: &OwnedFd, name: &std::ffi::CStr) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0_u8; MAX_ATTRIBUTE_BYTES];
    // SAFETY: the descriptor is open for as long as the borrow, the name ends with a NUL byte, and the kernel writes at
    // most the length that it is given into a buffer that outlives the call.
    let length = unsafe { libc::fgetxattr(folder.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    match Errno::result(length) {
        Ok(length) => {
            value.truncate(length as usize);
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP | Errno::ERANGE) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether this is of that kind.
pub fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

/// Whether this stands for something that was deleted.
pub fn is_whiteout(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}

fn there<T>(outcome: nix::Result<T>) -> nix::Result<Option<T>> {
    match outcome {
        Ok(found) => Ok(Some(found)),
        // ELOOP: a link, which counts as nothing where something else is looked for. ENXIO, ENODEV: a socket, a device.
        Err(
            Errno::ENOENT
            | Errno::ENOTDIR
            | Errno::ELOOP
            | Errno::ENAMETOOLONG
            | Errno::EXDEV
            | Errno::ENXIO
            | Errno::ENODEV
            | Errno::EINVAL,
        ) => Ok(None),
        Err(errno) => Err(errno),
    }
}
