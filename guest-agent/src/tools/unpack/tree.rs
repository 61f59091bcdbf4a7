//! The folder that an archive is unpacked into.
//!
//! Every path is looked up below that folder's descriptor without following any symbolic link, so there is no way out
//! of it, whatever the archive holds and whoever changes the folder meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag};
use nix::libc;
use nix::sys::stat::{fchmod, fstat, fstatat, futimens, mkdirat, umask, utimensat, FileStat, Mode, UtimensatFlags};
use nix::sys::time::TimeSpec;
use nix::unistd::{fchown, fchownat, getegid, geteuid, linkat, symlinkat, Gid, Uid};

use super::archive::Archive;
use super::header::{broken, Entry};
use crate::tools::paths::staged::{replace, Staged};
use crate::tools::paths::{brief, failure, open_below, open_or_make, split};
use crate::tools::{Code, Outcome, ToolError};

const RULES: ResolveFlag = ResolveFlag::RESOLVE_NO_SYMLINKS;

/// How many folders are kept open.
const MAX_OPEN_FOLDERS: usize = 64;

/// A folder that files are put into.
struct Folder {
    descriptor: OwnedFd,
    /// The group that new files get there.
    group: u32,
}

/// What a folder gets when everything is in it.
struct Dress {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: TimeSpec,
}

pub struct Tree {
    shown: String,
    top: OwnedFd,
    open: HashMap<Vec<u8>, Rc<Folder>>,
    /// By path. As many as there are folders in the tree: they take more room on the disk than here.
    folders: BTreeMap<Vec<u8>, Dress>,
    /// Whether files may be given away; their owner is left alone otherwise.
    root: bool,
    user: u32,
}

impl Tree {
    /// `shown` is what the user calls the folder. The process that calls this must have no use for its umask.
    pub fn new(shown: &str, top: OwnedFd) -> Self {
        // Files are made with the mode that they are to have, which saves a call for each.
        umask(Mode::empty());
        let (root, user) = (geteuid().is_root(), geteuid().as_raw());
        Self { shown: shown.to_owned(), top, open: HashMap::new(), folders: BTreeMap::new(), root, user }
    }

    pub fn make_folder(&mut self, entry: &Entry) -> Outcome {
        let path = self.clean(&entry.name)?;
        if path != b"." {
            let (parent, name) = self.parent(&path)?;
            match mkdirat(&parent.descriptor, name, Mode::from_bits_truncate(entry.mode & 0o777 | 0o700)) {
                Err(Errno::EEXIST) => self.check_folder(&parent, name, &path)?,
                outcome => outcome.map_err(|errno| self.failure(&path, errno))?,
            }
        }
        let dress = Dress { mode: entry.mode, uid: entry.uid, gid: entry.gid, mtime: mtime(entry) };
        self.folders.insert(path, dress);
        Ok(())
    }

    pub fn make_file(&mut self, entry: &Entry, archive: &mut Archive) -> Outcome {
        let path = self.clean_file(&entry.name)?;
        let (folder, name) = self.parent(&path)?;
        let failed = |errno| self.failure(&path, errno);
        let staged = Staged::new(folder.descriptor.as_fd(), entry.mode & 0o777).map_err(failed)?;
        let mut file = staged.file();
        archive.content(&mut |piece| file.write_all(piece).map_err(|error| failure(&self.shown(&path), error)))?;
        self.dress_file(file, entry, folder.group).map_err(failed)?;
        staged.place(name).map_err(failed)
    }

    pub fn make_symlink(&mut self, entry: &Entry) -> Outcome {
        let path = self.clean_file(&entry.name)?;
        let (folder, name) = self.parent(&path)?;
        let failed = |errno| self.failure(&path, errno);
        let target = &entry.link[..];
        if target.is_empty() || target.contains(&0) {
            return Err(broken(format!("{} is a symbolic link that leads nowhere", self.shown(&path))));
        }
        let descriptor = folder.descriptor.as_fd();
        match symlinkat(target, descriptor, name) {
            Err(Errno::EEXIST) => replace(descriptor, name, |temporary| symlinkat(target, descriptor, temporary)),
            outcome => outcome,
        }
        .map_err(failed)?;
        if self.must_give(entry, folder.group) {
            let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
            fchownat(descriptor, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).map_err(failed)?;
        }
        let flags = UtimensatFlags::NoFollowSymlink;
        utimensat(descriptor, name, &TimeSpec::UTIME_OMIT, &mtime(entry), flags).map_err(failed)
    }

    /// A hard link leads to a file of the tree, which is usually an earlier entry of the archive.
    pub fn make_hard_link(&mut self, entry: &Entry) -> Outcome {
        let (path, source) = (self.clean_file(&entry.name)?, self.clean_file(&entry.link)?);
        let (source_folder, source_name) = split(&source);
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
        let source_folder = open_below(&self.top, source_folder, flags, RULES);
        let source_folder = source_folder.map_err(|_| self.astray(&path, &source))?;
        let (folder, name) = self.parent(&path)?;
        let descriptor = folder.descriptor.as_fd();
        let link = |name: &[u8]| linkat(&source_folder, source_name, descriptor, name, AtFlags::empty());
        let outcome = match link(name) {
            Err(Errno::EEXIST) => replace(descriptor, name, |temporary| link(temporary.as_bytes())),
            outcome => outcome,
        };
        match outcome {
            // EPERM: folders have one name only.
            Err(Errno::ENOENT | Errno::EPERM) => Err(self.astray(&path, &source)),
            outcome => outcome.map_err(|errno| self.failure(&path, errno)),
        }
    }

    /// Gives all folders their owners, modes and times: putting files into them would have changed the latter, and
    /// might have been impossible with the former.
    pub fn finish(&mut self) -> Outcome {
        // What is in a folder comes before the folder.
        for (path, dress) in std::mem::take(&mut self.folders).into_iter().rev() {
            self.dress_folder(&path, &dress).map_err(|errno| self.failure(&path, errno))?;
        }
        Ok(())
    }

    fn dress_folder(&self, path: &[u8], dress: &Dress) -> nix::Result<()> {
        let folder = open_below(&self.top, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, RULES)?;
        let stat = fstat(&folder)?;
        if self.root && (stat.st_uid, stat.st_gid) != (dress.uid, dress.gid) {
            fchown(&folder, Some(Uid::from_raw(dress.uid)), Some(Gid::from_raw(dress.gid)))?;
        }
        if stat.st_mode & 0o7777 != dress.mode {
            fchmod(&folder, Mode::from_bits_truncate(dress.mode))?;
        }
        futimens(&folder, &TimeSpec::UTIME_OMIT, &dress.mtime)
    }

    fn dress_file(&self, file: impl AsFd, entry: &Entry, group: u32) -> nix::Result<()> {
        let file = file.as_fd();
        if self.must_give(entry, group) {
            fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
        }
        // A change of the owner takes these bits away.
        if entry.mode & 0o7000 != 0 {
            fchmod(file, Mode::from_bits_truncate(entry.mode))?;
        }
        futimens(file, &TimeSpec::UTIME_OMIT, &mtime(entry))
    }

    /// Whether a new file has another owner than it should.
    fn must_give(&self, entry: &Entry, group: u32) -> bool {
        self.root && (entry.uid, entry.gid) != (self.user, group)
    }

    /// The folder of a path, which is made if it is missing, and the path's last part.
    fn parent<'a>(&mut self, path: &'a [u8]) -> Result<(Rc<Folder>, &'a [u8]), ToolError> {
        let (parent, name) = split(path);
        if let Some(folder) = self.open.get(parent) {
            return Ok((Rc::clone(folder), name));
        }
        let folder = Rc::new(self.open_folder(parent).map_err(|errno| self.failure(parent, errno))?);
        if self.open.len() == MAX_OPEN_FOLDERS {
            self.open.clear();
        }
        self.open.insert(parent.to_vec(), Rc::clone(&folder));
        Ok((folder, name))
    }

    fn open_folder(&self, path: &[u8]) -> nix::Result<Folder> {
        let descriptor = open_or_make(&self.top, path, RULES)?;
        let stat = fstat(&descriptor)?;
        let group = if stat.st_mode & libc::S_ISGID == 0 { getegid().as_raw() } else { stat.st_gid };
        Ok(Folder { descriptor, group })
    }

    /// What is there instead of a new folder has to be one.
    fn check_folder(&self, parent: &Folder, name: &[u8], path: &[u8]) -> Outcome {
        let stat = fstatat(&parent.descriptor, name, AtFlags::AT_SYMLINK_NOFOLLOW);
        let is_folder = |stat: FileStat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        match stat.map(is_folder) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.failure(path, Errno::ENOTDIR)),
            Err(errno) => Err(self.failure(path, errno)),
        }
    }

    /// An entry's path, relative to the folder; `.` for the folder itself.
    fn clean(&self, name: &[u8]) -> Result<Vec<u8>, ToolError> {
        let refuse = |why: &str| Err(broken(format!("{}: {why}", brief(&String::from_utf8_lossy(name)))));
        if name.is_empty() || name.contains(&0) {
            return refuse("no proper name");
        }
        if name.starts_with(b"/") {
            return refuse("absolute paths are not unpacked");
        }
        let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
        if parts.contains(&&b".."[..]) {
            return refuse("paths with .. are not unpacked");
        }
        Ok(if parts.is_empty() { b".".to_vec() } else { parts.join(&b'/') })
    }

    fn clean_file(&self, name: &[u8]) -> Result<Vec<u8>, ToolError> {
        match self.clean(name)? {
            path if path == b"." => Err(broken("the archive has something else in the place of its folder")),
            path => Ok(path),
        }
    }

    fn shown(&self, path: &[u8]) -> String {
        match path {
            b"." => self.shown.clone(),
            _ => brief(&format!("{}/{}", self.shown, String::from_utf8_lossy(path))).into_owned(),
        }
    }

    fn astray(&self, path: &[u8], source: &[u8]) -> ToolError {
        broken(format!("{} is a hard link to {}, which is no file", self.shown(path), self.shown(source)))
    }

    fn failure(&self, path: &[u8], errno: Errno) -> ToolError {
        let in_the_way = |what: &str| {
            let path = self.shown(path);
            ToolError::new(Code::NotADirectory, format!("{path} cannot be a folder: {what} is in the way"))
        };
        match errno {
            Errno::ELOOP => in_the_way("a symbolic link"),
            Errno::ENOTDIR => in_the_way("a file"),
            Errno::ENAMETOOLONG => broken(format!("{}: {}", self.shown(path), errno.desc())),
            _ => failure(&self.shown(path), errno),
        }
    }
}

fn mtime(entry: &Entry) -> TimeSpec {
    TimeSpec::new(entry.mtime.0, i64::from(entry.mtime.1))
}
