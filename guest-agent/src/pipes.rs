//! The agent's ends of a command's pipes.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;
use nix::unistd::{read, write};

/// What a pipe holds unless it is enlarged, in bytes.
const PIPE_SIZE: usize = 64 * 1024;

/// What the pipe of a command that writes much is enlarged to: fewer switches between writer and reader.
pub const LARGE_PIPE_SIZE: i32 = 1024 * 1024;

/// Stdin. What is queued is bounded by the window that the host has.
pub struct Input {
    /// Gone when the command takes no more.
    fd: Option<OwnedFd>,
    queue: VecDeque<u8>,
    ready: bool,
    ended: bool,
}

impl Input {
    /// Without a descriptor the command has no stdin, which is as good as one that has ended.
    pub fn new(fd: Option<OwnedFd>) -> Self {
        Self { ended: fd.is_none(), fd, queue: VecDeque::new(), ready: true }
    }

    pub fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    pub fn ended(&self) -> bool {
        self.ended
    }

    /// The pipe can take more. Returns how many bytes are dealt with now.
    pub fn writable(&mut self) -> usize {
        self.ready = true;
        self.flush()
    }

    /// Passes bytes on, or keeps them for later. Returns how many are dealt with now; bytes for a command that
    /// does not read them are dealt with, too.
    pub fn feed(&mut self, bytes: &[u8]) -> usize {
        let passed = if self.queue.is_empty() { self.pass(bytes) } else { 0 };
        if self.fd.is_none() {
            return bytes.len() + self.drop_queue();
        }
        self.queue.extend(&bytes[passed..]);
        passed
    }

    /// No more is to come: the pipe is closed as soon as the queue is empty.
    pub fn end(&mut self) {
        self.ended = true;
        self.flush();
    }

    /// Closes the pipe, whatever is queued. Returns how many bytes are dealt with by that.
    pub fn close(&mut self) -> usize {
        self.fd = None;
        self.drop_queue()
    }

    fn flush(&mut self) -> usize {
        let mut queue = std::mem::take(&mut self.queue);
        let passed = self.pass(queue.make_contiguous());
        queue.drain(..passed);
        self.queue = queue;
        if self.queue.is_empty() && self.ended {
            self.fd = None;
        }
        if self.fd.is_none() {
            return passed + self.drop_queue();
        }
        passed
    }

    fn drop_queue(&mut self) -> usize {
        std::mem::take(&mut self.queue).len()
    }

    /// Writes until the pipe is full. A pipe that nobody reads is closed.
    fn pass(&mut self, bytes: &[u8]) -> usize {
        let mut passed = 0;
        while let Some(fd) = self.fd.as_ref().filter(|_| self.ready && passed < bytes.len()) {
            match write(fd, &bytes[passed..]) {
                Ok(count) => passed += count,
                Err(Errno::EAGAIN) => self.ready = false,
                Err(Errno::EINTR) => {}
                Err(_) => self.fd = None,
            }
        }
        passed
    }
}

/// Stdout or stderr.
pub struct Output {
    /// Gone at the end of the output.
    fd: Option<OwnedFd>,
    /// Whether there may be something to read.
    ready: bool,
    /// How much is still to be delivered, once that is known.
    left: Option<usize>,
    enlarged: bool,
}

impl Output {
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), ready: true, left: None, enlarged: false }
    }

    pub fn fd(&self) -> Option<&OwnedFd> {
        self.fd.as_ref()
    }

    pub fn readable(&mut self) {
        self.ready = true;
    }

    /// Whether there may be something to read now.
    pub fn is_ready(&self) -> bool {
        self.ready && !self.is_drained()
    }

    /// Whether nothing more is to be delivered.
    pub fn is_drained(&self) -> bool {
        self.fd.is_none() || self.left == Some(0)
    }

    /// Delivers what is in the pipe now and nothing after it: what comes later is from processes that the command
    /// left behind.
    pub fn stop_at_present_end(&mut self) {
        let Some(fd) = &self.fd else { return };
        let mut count: libc::c_int = 0;
        // SAFETY: FIONREAD writes one c_int, which lives longer than the call.
        let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) };
        self.left = Some(if result == 0 { usize::try_from(count).unwrap_or(0) } else { 0 });
        self.ready = true;
    }

    /// Reads into the buffer; `None` when there is nothing for now, or nothing any more.
    pub fn read(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let limit = buffer.len().min(self.left.unwrap_or(usize::MAX));
        if !self.ready || limit == 0 {
            return None;
        }
        match read_some(self.fd.as_ref()?, &mut buffer[..limit]) {
            Some(0) => self.fd = None,
            Some(count) => {
                self.left = self.left.map(|left| left - count);
                self.enlarge(count);
                return Some(count);
            }
            None => self.ready = false,
        }
        None
    }

    /// A pipe that was full is worth enlarging. It is not worth a failure.
    fn enlarge(&mut self, count: usize) {
        if let Some(fd) = self.fd.as_ref().filter(|_| count >= PIPE_SIZE && !self.enlarged) {
            self.enlarged = true;
            let _ = fcntl(fd.as_fd(), FcntlArg::F_SETPIPE_SZ(LARGE_PIPE_SIZE));
        }
    }

    pub fn into_fd(self) -> Option<OwnedFd> {
        self.fd
    }
}

/// Reads once and forgets what it was. Returns whether somebody may still write.
pub fn discard(fd: &OwnedFd) -> bool {
    read_some(fd, &mut [0; 16 * 1024]) != Some(0)
}

/// `None` when there is nothing for now. An error is as good as an end.
fn read_some(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    loop {
        match read(fd, buffer) {
            Ok(count) => return Some(count),
            Err(Errno::EAGAIN) => return None,
            Err(Errno::EINTR) => {}
            Err(_) => return Some(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::OFlag;
    use nix::unistd::pipe2;

    fn pipe() -> (OwnedFd, OwnedFd) {
        pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).unwrap()
    }

    #[test]
    fn input_waits_for_its_reader() {
        let (reader, writer) = pipe();
        let mut input = Input::new(Some(writer));
        let passed = input.feed(&vec![b'x'; PIPE_SIZE + 10]);
        assert_eq!(passed, PIPE_SIZE);
        assert_eq!(input.feed(b"yy"), 0);
        input.end();
        assert!(input.fd().is_some(), "what is queued is still to be written");
        let mut buffer = vec![0; PIPE_SIZE + 12];
        assert_eq!(read_some(&reader, &mut buffer), Some(PIPE_SIZE));
        assert_eq!(input.writable(), 12);
        assert_eq!(read_some(&reader, &mut buffer), Some(12));
        assert_eq!(&buffer[8..12], b"xxyy");
        assert_eq!(read_some(&reader, &mut buffer), Some(0));
    }

    #[test]
    fn input_that_nobody_reads_is_dealt_with() {
        let (reader, writer) = pipe();
        let mut input = Input::new(Some(writer));
        input.feed(&vec![b'x'; PIPE_SIZE + 10]);
        drop(reader);
        assert_eq!(input.writable(), 10);
        assert_eq!(input.feed(b"more"), 4);
        assert!(!input.ended(), "the host has not ended it");
    }

    #[test]
    fn closing_input_deals_with_the_queue() {
        let (_reader, writer) = pipe();
        let mut input = Input::new(Some(writer));
        input.feed(&vec![b'x'; PIPE_SIZE + 10]);
        assert_eq!(input.close(), 10);
        assert!(Input::new(None).ended());
    }

    #[test]
    fn output_stops_at_what_was_there() {
        let (reader, writer) = pipe();
        let mut output = Output::new(reader);
        write(&writer, b"before").unwrap();
        output.stop_at_present_end();
        write(&writer, b"after").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(output.read(&mut buffer), Some(4));
        assert!(!output.is_drained());
        assert_eq!(output.read(&mut buffer), Some(2));
        assert!(output.is_drained());
        assert_eq!(output.read(&mut buffer), None);
        let rest = output.into_fd().unwrap();
        assert!(discard(&rest), "the writer is still there");
        drop(writer);
        assert!(!discard(&rest));
    }

    #[test]
    fn output_ends_with_its_writers() {
        let (reader, writer) = pipe();
        let mut output = Output::new(reader);
        let mut buffer = [0; 4];
        assert_eq!(output.read(&mut buffer), None);
        assert!(!output.is_drained());
        drop(writer);
        output.readable();
        assert_eq!(output.read(&mut buffer), None);
        assert!(output.is_drained() && output.into_fd().is_none());
    }

    #[test]
    fn a_pipe_that_was_full_is_enlarged() {
        let (reader, writer) = pipe();
        write(&writer, &vec![0; PIPE_SIZE]).unwrap();
        let mut output = Output::new(reader);
        assert_eq!(output.read(&mut vec![0; 2 * PIPE_SIZE]), Some(PIPE_SIZE));
        assert_eq!(write(&writer, &vec![0; 2 * PIPE_SIZE]), Ok(2 * PIPE_SIZE));
    }
}
