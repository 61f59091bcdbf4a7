//! The life of a child that was forked for a tool: it does the work and ends, and never becomes a program.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, Signal};

use crate::tools::{Code, Outcome, Place, ToolError};

const BUFFER: usize = 64 * 1024;

const FAILED: i32 = 1;

/// What a tool is to do.
pub struct Work<'a> {
    pub place: &'a Place,
    /// Whether stdin will come.
    pub stdin: bool,
    pub run: &'a dyn Fn(&mut dyn Read, &mut dyn Write) -> Outcome,
}

/// Whether the agent has asked the child to end.
static CANCELLED: AtomicBool = AtomicBool::new(false);

/// What a panic had to say.
static FAULT: Mutex<String> = Mutex::new(String::new());

/// Does the work in the forked child, whose standard streams are in place. Returns only if it could not begin.
pub fn work_and_exit(work: &Work<'_>) -> Errno {
    if let Err(errno) = notice_sigterm() {
        return errno;
    }
    std::panic::set_hook(Box::new(|panic| *FAULT.lock().unwrap_or_else(|lock| lock.into_inner()) = panic.to_string()));
    // With the others goes the status pipe, by whose end the agent knows that the tool has begun.
    close_all_but(&work.place.descriptors());
    let outcome = catch_unwind(AssertUnwindSafe(|| work_on_streams(work))).unwrap_or_else(|_| Err(fault()));
    let code = outcome.map_or_else(|error| complain(&error), |()| 0);
    // SAFETY: _exit has no precondition; exit would run what the agent registered for its own end.
    unsafe { libc::_exit(code) }
}

fn work_on_streams(work: &Work<'_>) -> Outcome {
    let mut stdin = Guarded(standard(libc::STDIN_FILENO));
    let mut stdout = BufWriter::with_capacity(BUFFER, Guarded(standard(libc::STDOUT_FILENO)));
    (work.run)(&mut stdin, &mut stdout)?;
    Ok(stdout.flush()?)
}

fn fault() -> ToolError {
    let fault = FAULT.lock().unwrap_or_else(|lock| lock.into_inner());
    ToolError::new(Code::Io, format!("a fault in the tool: {fault}"))
}

fn complain(error: &ToolError) -> i32 {
    let json = serde_json::to_vec(error).expect("strings always have a JSON form");
    // Nobody is left to be told that nobody could be told.
    let _ = standard(libc::STDERR_FILENO).write_all(&json);
    FAILED
}

/// One of the child's standard streams, without the buffers and locks of the agent's own.
fn standard(number: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the descriptor was put in place for the child, which uses it through this value alone and never closes it.
    ManuallyDrop::new(unsafe { File::from_raw_fd(number) })
}

/// Lets a tool that is cancelled end by itself, so that it can tidy up: its next read or write fails. The agent
/// kills it when that takes too long.
fn notice_sigterm() -> nix::Result<()> {
    extern "C" fn note(_signal: libc::c_int) {
        CANCELLED.store(true, Ordering::Relaxed);
    }
    // Without SA_RESTART, so that a call that waits comes back.
    let action = SigAction::new(SigHandler::Handler(note), SaFlags::empty(), SigSet::empty());
    // SAFETY: storing into an atomic is allowed in a signal handler.
    unsafe { sigaction(Signal::SIGTERM, &action) }.map(drop)
}

/// Ends with an error instead of waiting when the tool is cancelled.
struct Guarded(ManuallyDrop<File>);

fn unless_cancelled() -> io::Result<()> {
    if CANCELLED.load(Ordering::Relaxed) {
        return Err(io::Error::other("cancelled"));
    }
    Ok(())
}

impl Read for Guarded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        unless_cancelled()?;
        let count = self.0.read(buffer)?;
        if count == 0 {
            // The agent closes the stdin of a tool that it cancels, which is not the end of what was to come.
            unless_cancelled()?;
        }
        Ok(count)
    }
}

impl Write for Guarded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        unless_cancelled()?;
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Closes everything else that the agent had open: above all the channel, and the pipes of other commands.
fn close_all_but(wanted: &[RawFd]) {
    let mut wanted: Vec<u32> = wanted.iter().filter_map(|fd| u32::try_from(*fd).ok()).collect();
    wanted.sort_unstable();
    let mut first = libc::STDERR_FILENO as u32 + 1;
    for fd in wanted.into_iter().chain([u32::MAX]) {
        if fd > first {
            // SAFETY: nothing in this process uses the descriptors any more, and it ends without dropping their owners.
            unsafe { libc::close_range(first, fd - 1, 0) };
        }
        first = first.max(fd.saturating_add(1));
    }
}

impl Place {
    /// The numbers of the open folders.
    fn descriptors(&self) -> Vec<RawFd> {
        let optional = [&self.upper, &self.lower, &self.commands].into_iter().flatten();
        [&self.workspace].into_iter().chain(optional).map(AsRawFd::as_raw_fd).collect()
    }
}
