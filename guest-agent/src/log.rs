//! The kept output of a command: a file that forgets its middle when it grows too long.
//!
//! Offsets are logical: those of the output as it came. The file holds the first `HEAD` bytes in their place, and all
//! others in a ring of `RING` bytes behind them, so that it takes no more room however much a command writes. Its size
//! is the length of the output all the same, which is all that has to be known to read it again. What could not be
//! written for want of room is a hole in it.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{openat, OFlag};
use nix::libc;
use nix::sys::stat::Mode;

/// What is kept of the beginning of a long output, in bytes.
pub const HEAD: u64 = 64 << 20;

/// What is kept of its end.
pub const RING: u64 = 192 << 20;

/// Most that waits in memory for room on the disk. Whoever follows the command sees it whatever the disk does,
/// because nobody may lag so far behind.
pub const MAX_MEMORY: usize = 1 << 20;

/// Holes begin and end at multiples of this, as the file system makes them.
const BLOCK: u64 = 4096;

#[derive(Debug, Default)]
pub struct Log {
    /// Gone when it could not be made, or while nobody needs it.
    file: Option<File>,
    /// Length of the output in bytes.
    total: u64,
    /// The end of the output, as far as it could not be written.
    memory: VecDeque<u8>,
    /// Whether the file may have holes.
    holes: bool,
}

impl Log {
    /// Begins the log of a command. Without room for a file there is one in memory. `EEXIST` where there is a log of
    /// that id.
    pub fn create(folder: BorrowedFd<'_>, id: &str) -> nix::Result<Self> {
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(folder, id, flags, Mode::from_bits_truncate(0o600)) {
            Ok(file) => Ok(Self { file: Some(file.into()), ..Self::default() }),
            Err(Errno::EEXIST) => Err(Errno::EEXIST),
            Err(_) => Ok(Self { holes: true, ..Self::default() }),
        }
    }

    /// Opens the log of a command that is not known any more.
    pub fn open(folder: BorrowedFd<'_>, id: &str) -> io::Result<Self> {
        let file = open_file(folder, id)?;
        let total = file.metadata()?.len();
        Ok(Self { file: Some(file), total, memory: VecDeque::new(), holes: true })
    }

    /// The same log with its file open. A file that is gone leaves what is in memory.
    pub fn reopened(&self, folder: BorrowedFd<'_>, id: &str) -> Self {
        Self { file: open_file(folder, id).ok(), total: self.total, memory: self.memory.clone(), holes: true }
    }

    /// Opens the file where that is not open.
    pub fn wake(&mut self, folder: BorrowedFd<'_>, id: &str) {
        if self.file.is_none() {
            self.file = open_file(folder, id).ok();
        }
    }

    /// Closes the file; what is in memory stays.
    pub fn rest(&mut self) {
        self.file = None;
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// What the file takes of the disk at most, in bytes.
    pub fn size(&self) -> u64 {
        self.total.min(HEAD + RING)
    }

    pub fn append(&mut self, mut bytes: &[u8]) {
        let total = self.total + bytes.len() as u64;
        if total > HEAD + RING {
            // Before anything is overwritten, so that another process that reads can tell; see `has_lost`.
            self.extend(total);
        }
        if self.memory.is_empty() {
            let count = self.store(self.total, bytes);
            self.total += count as u64;
            bytes = &bytes[count..];
        }
        if !bytes.is_empty() {
            self.memory.extend(bytes);
            self.total += bytes.len() as u64;
            self.store_memory();
            self.shed(MAX_MEMORY);
        }
    }

    /// Nothing more is to come. `most` bytes may stay in memory if there is no room for them.
    pub fn finish(&mut self, most: usize) {
        self.store_memory();
        self.shed(most);
        self.memory.shrink_to_fit();
        if !self.memory.is_empty() {
            self.extend(self.total);
        }
    }

    fn store_memory(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        let start = self.total - memory.len() as u64;
        let (first, second) = memory.as_slices();
        let mut count = self.store(start, first);
        if count == first.len() {
            count += self.store(start + count as u64, second);
        }
        self.memory = memory;
        self.memory.drain(..count);
    }

    /// Forgets the beginning of what is in memory, for good.
    fn shed(&mut self, most: usize) {
        if self.memory.len() > most {
            let start = (self.total - most as u64).next_multiple_of(BLOCK).min(self.total);
            let left = (self.total - start) as usize;
            self.memory.drain(..self.memory.len() - left);
            self.holes = true;
        }
    }

    /// Writes as much as there is room for; returns how much that was.
    fn store(&mut self, offset: u64, bytes: &[u8]) -> usize {
        let Some(file) = &self.file else { return 0 };
        let mut stored = 0;
        while stored < bytes.len() {
            let (position, room) = place(offset + stored as u64);
            let end = bytes.len().min(stored + usize::try_from(room).unwrap_or(usize::MAX));
            match file.write_at(&bytes[stored..end], position) {
                Ok(0) => break,
                Ok(count) => stored += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stored
    }

    /// Makes the file's size that of the output. A file that cannot be so long loses nothing but that.
    fn extend(&self, total: u64) {
        if let Some(file) = &self.file {
            let _ = file.set_len(total);
        }
    }

    /// Reads from `offset` on, which moves on over what is not there any more. Returns how much was read; 0 at the
    /// present end.
    pub fn read(&self, offset: &mut u64, buffer: &mut [u8]) -> usize {
        while *offset < self.total {
            let memory_start = self.total - self.memory.len() as u64;
            if *offset >= memory_start {
                return self.copy_memory((*offset - memory_start) as usize, buffer);
            }
            let oldest = self.total.saturating_sub(RING).max(HEAD);
            if (HEAD..oldest).contains(offset) {
                *offset = oldest;
                continue;
            }
            let (position, room) = place(*offset);
            let there = room.min(memory_start - *offset);
            match self.read_file(position, there, buffer) {
                Ok(count) => return count,
                Err(skipped) => *offset += skipped,
            }
        }
        0
    }

    fn copy_memory(&self, start: usize, buffer: &mut [u8]) -> usize {
        let count = buffer.len().min(self.memory.len() - start);
        let bytes = self.memory.range(start..start + count);
        buffer.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
        count
    }

    /// Reads some of the `there` bytes at a position of the file, or says how many of them are not there.
    fn read_file(&self, position: u64, there: u64, buffer: &mut [u8]) -> Result<usize, u64> {
        let file = self.file.as_ref().ok_or(there)?;
        let mut limit = there;
        if self.holes {
            let data = seek(file, position, libc::SEEK_DATA).ok_or(there)?;
            if data > position {
                return Err(there.min(data - position));
            }
            limit = seek(file, position, libc::SEEK_HOLE).map_or(there, |hole| there.min(hole - position));
        }
        let limit = buffer.len().min(usize::try_from(limit).unwrap_or(usize::MAX));
        match file.read_at(&mut buffer[..limit], position) {
            Ok(0) | Err(_) => Err(there),
            Ok(count) => Ok(count),
        }
    }

    /// Whether what was read at an offset may have been overwritten by a command that goes on in the meantime.
    pub fn has_lost(&self, offset: u64) -> bool {
        let total = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |data| data.len());
        (HEAD..total.saturating_sub(RING)).contains(&offset)
    }
}

fn open_file(folder: BorrowedFd<'_>, id: &str) -> nix::Result<File> {
    openat(folder, id, OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).map(File::from)
}

/// Where a byte of the output is in the file, and how many follow it there.
fn place(offset: u64) -> (u64, u64) {
    if offset < HEAD {
        return (offset, HEAD - offset);
    }
    let in_ring = (offset - HEAD) % RING;
    (HEAD + in_ring, RING - in_ring)
}

fn seek(file: &File, position: u64, whence: libc::c_int) -> Option<u64> {
    let position = i64::try_from(position).ok()?;
    // SAFETY: lseek takes plain numbers; all reading and writing here names its position itself.
    u64::try_from(unsafe { libc::lseek(file.as_raw_fd(), position, whence) }).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::path::PathBuf;

    struct Folder(PathBuf, File);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("pyro-agent-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            let folder = File::open(&path).unwrap();
            Self(path, folder)
        }

        fn log(&self) -> Log {
            Log::create(self.1.as_fd(), "x").unwrap()
        }

        fn open(&self) -> Log {
            Log::open(self.1.as_fd(), "x").unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// Where bytes are, and which.
    fn read_all(log: &Log, mut offset: u64) -> Vec<(u64, Vec<u8>)> {
        let mut pieces: Vec<(u64, Vec<u8>)> = Vec::new();
        let mut buffer = vec![0; 100_000];
        loop {
            let count = log.read(&mut offset, &mut buffer);
            if count == 0 {
                return pieces;
            }
            match pieces.last_mut() {
                Some((start, piece)) if *start + piece.len() as u64 == offset => piece.extend(&buffer[..count]),
                _ => pieces.push((offset, buffer[..count].to_vec())),
            }
            offset += count as u64;
        }
    }

    fn numbers(range: std::ops::Range<u64>) -> Vec<u8> {
        range.flat_map(u64::to_le_bytes).collect()
    }

    #[test]
    fn what_goes_in_comes_out_even_after_the_end() {
        let folder = Folder::new("plain");
        let mut log = folder.log();
        log.append(b"one ");
        log.append(b"two");
        assert_eq!(read_all(&log, 0), [(0, b"one two".to_vec())]);
        assert_eq!(read_all(&log, 4), [(4, b"two".to_vec())]);
        assert_eq!(read_all(&log, 8), []);
        log.finish(0);
        log.rest();
        assert_eq!(read_all(&log, 0), [], "nothing is open");
        log.wake(folder.1.as_fd(), "x");
        assert_eq!(read_all(&log, 5), [(5, b"wo".to_vec())]);
        assert_eq!((folder.open().total(), log.size()), (7, 7));
        assert_eq!(Log::create(folder.1.as_fd(), "x").unwrap_err(), Errno::EEXIST);
    }

    #[test]
    fn a_long_output_keeps_its_beginning_and_its_end() {
        let folder = Folder::new("long");
        let mut log = folder.log();
        log.append(&numbers(0..1000));
        // As if it had gone on up to here, in much less time.
        let jump = HEAD + RING - 80_000;
        log.file.as_ref().unwrap().set_len(jump).unwrap();
        log.total = jump;
        let total = jump + 800_000;
        log.append(&numbers(jump / 8..total / 8));
        for log in [&log, &folder.open(), &log.reopened(folder.1.as_fd(), "x")] {
            assert_eq!((log.total(), log.size()), (total, HEAD + RING));
            for offset in [0, 7000, jump, HEAD + RING - 8, HEAD + RING, total - 80] {
                let mut at = offset;
                let mut bytes = [0; 8];
                assert!(log.read(&mut at, &mut bytes) == 8 && at == offset);
                assert_eq!(bytes.to_vec(), numbers(offset / 8..offset / 8 + 1));
            }
            assert!(log.has_lost(HEAD) && !log.has_lost(HEAD - 1) && !log.has_lost(total - RING));
        }
        let mut at = HEAD + 5;
        log.read(&mut at, &mut [0; 8]);
        assert_eq!(at, total - RING, "what is lost is passed over");
        let size = std::fs::metadata(folder.0.join("x")).unwrap();
        assert_eq!(size.len(), total);
        assert!(std::os::unix::fs::MetadataExt::blocks(&size) * 512 < 2_000_000);
    }

    /// A log on a disk without room, as far as the log can tell.
    fn without_room(log: Log) -> Log {
        Log { file: Some(File::options().read(true).write(true).open("/dev/full").unwrap()), ..log }
    }

    #[test]
    fn without_room_the_end_stays_in_memory() {
        let mut log = without_room(Log::default());
        log.append(b"No space left");
        assert_eq!(read_all(&log, 3), [(3, b"space left".to_vec())]);
        log.append(&numbers(0..MAX_MEMORY as u64 / 8));
        let pieces = read_all(&log, 0);
        assert_eq!((pieces.len(), pieces[0].0), (1, BLOCK));
        assert_eq!(pieces[0].1.len() as u64, log.total() - BLOCK);
        log.finish(1000);
        assert!(read_all(&log, 0)[0].1.len() <= 1000);
        assert_eq!(log.total(), 13 + MAX_MEMORY as u64);
    }

    #[test]
    fn with_room_again_the_rest_is_written() {
        let folder = Folder::new("room");
        let mut log = folder.log();
        log.append(&vec![b'a'; BLOCK as usize]);
        let file = log.file.take();
        log = without_room(log);
        log.append(&vec![b'b'; MAX_MEMORY]);
        log.append(&vec![b'c'; 2 * BLOCK as usize]);
        log.file = file;
        log.append(b"end");
        log.finish(0);
        let expected = |pieces: &[(u64, Vec<u8>)]| {
            let (first, second) = (&pieces[0], &pieces[1]);
            assert_eq!((pieces.len(), first), (2, &(0, vec![b'a'; BLOCK as usize])));
            assert_eq!(second.0, 3 * BLOCK);
            assert!(second.1.starts_with(b"bbb") && second.1.ends_with(b"cccend"));
        };
        expected(&read_all(&log, 0));
        expected(&read_all(&folder.open(), 0));
    }

    #[test]
    fn a_log_without_any_file_is_one_all_the_same() {
        let folder = Folder::new("none");
        let gone = File::open(&folder.0).unwrap();
        std::fs::remove_dir(&folder.0).unwrap();
        let mut log = Log::create(gone.as_fd(), "x").unwrap();
        log.append(b"text");
        log.finish(100);
        assert_eq!(read_all(&log.reopened(gone.as_fd(), "x"), 1), [(1, b"ext".to_vec())]);
    }
}
