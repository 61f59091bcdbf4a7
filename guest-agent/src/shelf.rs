//! How long logs are kept after their commands: the newest of them, and no more than fit.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use nix::dir::Dir;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{fstatat, Mode};
use nix::unistd::{unlinkat, UnlinkatFlags};

use crate::message::check_id;

/// Logs of commands that are over.
pub const MOST_LOGS: usize = 256;

/// What all logs may take together, those of running commands included, in bytes.
pub const MOST_BYTES: u64 = 1 << 30;

struct Kept {
    id: String,
    size: u64,
}

/// The logs of commands that are over, the oldest first.
#[derive(Default)]
pub struct Shelf {
    logs: VecDeque<Kept>,
    size: u64,
}

impl Shelf {
    /// Finds what an earlier boot has left.
    pub fn read(folder: BorrowedFd<'_>) -> Self {
        let mut found = Vec::new();
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        if let Ok(mut listing) = Dir::openat(folder, ".", flags, Mode::empty()) {
            for entry in listing.iter().flatten() {
                let Some(id) = entry.file_name().to_str().ok().filter(|id| check_id(id).is_ok()) else { continue };
                let Ok(status) = fstatat(folder, id, AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
                // What the file takes, not how long it is; the kernel counts in units of 512 bytes.
                let size = u64::try_from(status.st_blocks).unwrap_or(0) * 512;
                found.push(((status.st_mtime, status.st_mtime_nsec), Kept { id: id.to_owned(), size }));
            }
        }
        found.sort_by_key(|(modified, _)| *modified);
        let size = found.iter().map(|(_, kept)| kept.size).sum();
        Self { logs: found.into_iter().map(|(_, kept)| kept).collect(), size }
    }

    /// Puts a log of a command that is over beside the others.
    pub fn put(&mut self, id: &str, size: u64) {
        self.logs.push_back(Kept { id: id.to_owned(), size });
        self.size += size;
    }

    /// Removes the oldest logs for as long as there are too many, `elsewhere` being what those of running commands take.
    pub fn tidy(&mut self, folder: BorrowedFd<'_>, elsewhere: u64) {
        while self.logs.len() > MOST_LOGS || self.size + elsewhere > MOST_BYTES {
            let Some(oldest) = self.logs.pop_front() else { return };
            self.size -= oldest.size;
            // One that cannot be removed is in nobody's way.
            let _ = unlinkat(folder, oldest.id.as_str(), UnlinkatFlags::NoRemoveDir);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::os::fd::AsFd;
    use std::time::{Duration, SystemTime};

    fn names(folder: &std::path::Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn the_oldest_go_first() {
        let path = std::env::temp_dir().join(format!("pyro-agent-shelf-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        for age in 0..5 {
            let log = File::create(path.join(format!("x-{age}"))).unwrap();
            log.set_modified(SystemTime::now() - Duration::from_secs(60 * age)).unwrap();
        }
        fs::write(path.join("Not a log"), "x").unwrap();
        let folder = File::open(&path).unwrap();
        let mut shelf = Shelf::read(folder.as_fd());
        assert_eq!(
            shelf.logs.iter().map(|log| log.id.as_str()).collect::<Vec<_>>(),
            ["x-4", "x-3", "x-2", "x-1", "x-0"]
        );
        shelf.put("x-large", MOST_BYTES - 10);
        shelf.tidy(folder.as_fd(), 10);
        assert_eq!((names(&path), shelf.logs.len()), (6, 6));
        for number in 0..MOST_LOGS - 3 {
            shelf.put(&format!("y-{number}"), 0);
        }
        shelf.tidy(folder.as_fd(), 0);
        assert!(!path.join("x-2").exists() && path.join("x-1").exists());
        shelf.tidy(folder.as_fd(), 11);
        assert!(!path.join("x-0").exists());
        assert_eq!(shelf.logs.len(), MOST_LOGS - 3, "the large one went, too");
        fs::remove_dir_all(&path).unwrap();
    }
}
