//! Files that take their place only when they are whole.
//!
//! A new file has no name (O_TMPFILE) until then, so that nothing is left of it however its making ends. Where
//! another one stands in its place, it gets a temporary name for the moment before it replaces that one.

use std::ffi::CStr;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{openat, renameat, AtFlags, OFlag, AT_FDCWD};
use nix::sys::stat::Mode;
use nix::unistd::{linkat, unlinkat, UnlinkatFlags};

const FLAGS: OFlag = OFlag::O_WRONLY.union(OFlag::O_CLOEXEC);

/// A file on its way into a folder.
pub struct Staged<'a> {
    folder: BorrowedFd<'a>,
    file: File,
    /// Its name until it takes its place, where the file system has no files without a name.
    temporary: Option<String>,
}

impl<'a> Staged<'a> {
    /// Begins an empty file of the given mode, less the umask.
    pub fn new(folder: BorrowedFd<'a>, mode: u32) -> nix::Result<Self> {
        match Self::unnamed(folder, mode) {
            // Not every file system that somebody may mount below /workspace has this.
            Err(Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EISDIR) => Self::named(folder, mode),
            outcome => outcome,
        }
    }

    fn unnamed(folder: BorrowedFd<'a>, mode: u32) -> nix::Result<Self> {
        let file = openat(folder, ".", FLAGS | OFlag::O_TMPFILE, Mode::from_bits_truncate(mode))?;
        Ok(Self { folder, file: file.into(), temporary: None })
    }

    fn named(folder: BorrowedFd<'a>, mode: u32) -> nix::Result<Self> {
        let flags = FLAGS | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let make = |name: &str| openat(folder, name, flags, Mode::from_bits_truncate(mode));
        let (name, file) = with_temporary_name(make)?;
        Ok(Self { folder, file: file.into(), temporary: Some(name) })
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    /// Puts the file into its place, instead of what is there, unless that is a folder (EISDIR).
    pub fn place(mut self, name: &[u8]) -> nix::Result<()> {
        if let Some(temporary) = &self.temporary {
            renameat(self.folder, temporary.as_str(), self.folder, name)?;
            self.temporary = None;
            return Ok(());
        }
        match give_name(&self.file, self.folder, name) {
            Err(Errno::EEXIST) => {
                replace(self.folder, name, |temporary| give_name(&self.file, self.folder, temporary.as_bytes()))
            }
            outcome => outcome,
        }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            let _ = unlinkat(self.folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

/// Lets `make` make something under a temporary name and moves it over `name`, which must not be a folder (EISDIR).
pub fn replace(folder: BorrowedFd, name: &[u8], make: impl FnMut(&str) -> nix::Result<()>) -> nix::Result<()> {
    let (temporary, ()) = with_temporary_name(make)?;
    let outcome = renameat(folder, temporary.as_str(), folder, name);
    // A rename between two names of the same file does nothing and succeeds, so there may be one left even then.
    let _ = unlinkat(folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    outcome
}

fn with_temporary_name<T>(mut make: impl FnMut(&str) -> nix::Result<T>) -> nix::Result<(String, T)> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!(".pyro-{}-{number}.tmp", std::process::id());
        match make(&name) {
            Err(Errno::EEXIST) => {}
            outcome => return outcome.map(|made| (name, made)),
        }
    }
}

/// Gives a file without a name its first one.
fn give_name(file: &File, folder: BorrowedFd, name: &[u8]) -> nix::Result<()> {
    const NOTHING: &CStr = c"";
    match linkat(file, NOTHING, folder, name, AtFlags::AT_EMPTY_PATH) {
        // The short way is for root only in kernels before 6.10, which answer others with this.
        Err(Errno::ENOENT) => {
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            linkat(AT_FDCWD, path.as_str(), folder, name, AtFlags::AT_SYMLINK_FOLLOW)
        }
        outcome => outcome,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::path::{Path, PathBuf};

    type Begin = for<'a> fn(BorrowedFd<'a>, u32) -> nix::Result<Staged<'a>>;

    const WAYS: [(&str, Begin); 2] = [
        ("unnamed", |folder, mode| Staged::unnamed(folder, mode)),
        ("named", |folder, mode| Staged::named(folder, mode)),
    ];

    fn folder(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("pyro-agent-staged-{}-{name}", std::process::id()));
        fs::create_dir_all(path.join("folder")).unwrap();
        path
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_takes_the_place_of_another() {
        for (way, begin) in WAYS {
            let path = folder(way);
            let opened = File::open(&path).unwrap();
            for content in ["old", "new"] {
                let staged = begin(opened.as_fd(), 0o600).unwrap();
                staged.file().write_all(content.as_bytes()).unwrap();
                staged.place(b"file").unwrap();
                assert_eq!(fs::read_to_string(path.join("file")).unwrap(), content, "{way}");
            }
            assert_eq!(names(&path), ["file", "folder"], "{way}");
            fs::remove_dir_all(&path).unwrap();
        }
    }

    #[test]
    fn nothing_is_left_of_a_file_without_a_place() {
        for (way, begin) in WAYS {
            let path = folder(&format!("{way}-lost"));
            let opened = File::open(&path).unwrap();
            drop(begin(opened.as_fd(), 0o600).unwrap());
            let staged = begin(opened.as_fd(), 0o600).unwrap();
            assert_eq!(staged.place(b"folder"), Err(Errno::EISDIR), "{way}");
            assert_eq!(names(&path), ["folder"], "{way}");
            fs::remove_dir_all(&path).unwrap();
        }
    }

    #[test]
    fn a_temporary_name_that_is_taken_is_left_alone() {
        let mut taken = Vec::new();
        let (name, ()) = with_temporary_name(|name| {
            if taken.len() == 3 {
                return Ok(());
            }
            taken.push(name.to_owned());
            Err(Errno::EEXIST)
        })
        .unwrap();
        assert!(!taken.contains(&name));
    }
}
