//! A running command: its pipes, its time limit and its end.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::read;

use crate::pipes::{Input, Output};
use crate::poller::End;
use crate::program::{Attempt, StartError, REPORT_LEN};
use crate::reap::Exit;
use crate::spawn::Spawned;

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(1);

/// Whether the program runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    Pending,
    Done,
    Failed(StartError),
}

/// Why the agent ends a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    TimedOut,
    Cancelled,
}

pub struct Command {
    pid: i32,
    start: Start,
    status: OwnedFd,
    attempt: Attempt,
    stdin: Input,
    stdout: Option<Output>,
    stderr: Option<Output>,
    /// Which output is asked first the next time, so that neither starves the other.
    stderr_first: bool,
    /// Stdin bytes that were dealt with since `take_consumed` was last asked.
    consumed: usize,
    exit: Option<Exit>,
    ending: Option<Ending>,
    /// When the time limit is over or, once the command is being ended, the grace.
    deadline: Option<Instant>,
}

impl Command {
    pub fn new(spawned: Spawned, limit: Option<Duration>) -> Self {
        Self {
            pid: spawned.pid,
            start: Start::Pending,
            status: spawned.status,
            attempt: spawned.attempt,
            stdin: Input::new(spawned.stdin),
            stdout: Some(Output::new(spawned.stdout)),
            stderr: Some(Output::new(spawned.stderr)),
            stderr_first: false,
            consumed: 0,
            exit: None,
            ending: None,
            // A limit beyond what the clock can express is none.
            deadline: limit.and_then(|limit| Instant::now().checked_add(limit)),
        }
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn start(&self) -> &Start {
        &self.start
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// The descriptors to wait for, with what they are.
    pub fn descriptors(&self) -> impl Iterator<Item = (End, &OwnedFd)> {
        let stdin = self.stdin.fd().map(|fd| (End::Stdin, fd));
        let stdout = self.stdout.as_ref().and_then(Output::fd).map(|fd| (End::Stdout, fd));
        let stderr = self.stderr.as_ref().and_then(Output::fd).map(|fd| (End::Stderr, fd));
        [Some((End::Status, &self.status)), stdin, stdout, stderr].into_iter().flatten()
    }

    /// A descriptor has something to say.
    pub fn ready(&mut self, end: End) {
        match end {
            End::Status => self.read_status(),
            End::Stdin => self.consumed += self.stdin.writable(),
            End::Stdout | End::Stderr => self.output_ready(end),
        }
    }

    /// What was announced first was written first, as far as anybody can tell.
    fn output_ready(&mut self, end: End) {
        let (output, other) = match end {
            End::Stderr => (&mut self.stderr, &self.stdout),
            _ => (&mut self.stdout, &self.stderr),
        };
        output.iter_mut().for_each(Output::readable);
        if !other.as_ref().is_some_and(Output::is_ready) {
            self.stderr_first = end == End::Stderr;
        }
    }

    fn read_status(&mut self) {
        if self.start != Start::Pending {
            return;
        }
        let mut report = [0; REPORT_LEN];
        match read(&self.status, &mut report) {
            // Five bytes are written to a pipe whole or not at all.
            Ok(REPORT_LEN) => self.start = Start::Failed(self.attempt.explain(report)),
            // The end without a report: the program runs, or something killed the child on its way there.
            Ok(_) => self.start = Start::Done,
            // Nothing yet.
            Err(_) => {}
        }
    }

    /// Whether the host may still send stdin.
    pub fn takes_stdin(&self) -> bool {
        !self.stdin.ended()
    }

    pub fn feed_stdin(&mut self, bytes: &[u8]) {
        self.consumed += self.stdin.feed(bytes);
    }

    pub fn end_stdin(&mut self) {
        self.stdin.end();
    }

    /// How many stdin bytes were dealt with since this was last asked.
    pub fn take_consumed(&mut self) -> usize {
        std::mem::take(&mut self.consumed)
    }

    /// Reads output into the buffer; says which output it is and how much. The two take turns.
    pub fn read_output(&mut self, buffer: &mut [u8]) -> Option<(End, usize)> {
        let read = self.read_in_order(buffer);
        if read.is_some() {
            self.stderr_first = !self.stderr_first;
        }
        read
    }

    /// Gives the other output its turn if that has waited for it.
    pub fn give_turn(&mut self) {
        let other = if self.stderr_first { &self.stdout } else { &self.stderr };
        if other.as_ref().is_some_and(Output::is_ready) {
            self.stderr_first = !self.stderr_first;
        }
    }

    /// The same without turns: all that there is of one comes before what there is of the other, which is nearer to the
    /// order in which they were written. See `give_turn`.
    pub fn read_in_order(&mut self, buffer: &mut [u8]) -> Option<(End, usize)> {
        let order = if self.stderr_first { [End::Stderr, End::Stdout] } else { [End::Stdout, End::Stderr] };
        for end in order {
            let output = if end == End::Stdout { &mut self.stdout } else { &mut self.stderr };
            if let Some(count) = output.as_mut().and_then(|output| output.read(buffer)) {
                self.stderr_first = end == End::Stderr;
                return Some((end, count));
            }
        }
        None
    }

    /// Whether reading output is worth trying.
    pub fn may_have_output(&self) -> bool {
        self.start == Start::Done && self.stdout.iter().chain(&self.stderr).any(Output::is_ready)
    }

    pub fn has_exited(&self) -> bool {
        self.exit.is_some()
    }

    /// The main process has ended; what it wrote is in the pipes by now.
    pub fn exited(&mut self, exit: Exit) {
        self.read_status();
        self.exit = Some(exit);
        self.consumed += self.stdin.close();
        if self.ending.is_none() {
            self.deadline = None;
        }
        self.stdout.iter_mut().chain(&mut self.stderr).for_each(Output::stop_at_present_end);
        self.check_group();
    }

    /// Ends the grace early when nobody is left to make use of it.
    pub fn check_group(&mut self) {
        if self.exit.is_some() && self.deadline.is_some() && self.signal_group(0) == Err(Errno::ESRCH) {
            self.deadline = None;
        }
    }

    /// How the command ended and whether it was timed out, once nothing more is to come from it.
    pub fn outcome(&self) -> Option<(Exit, bool)> {
        let drained = self.stdout.iter().chain(&self.stderr).all(Output::is_drained);
        let over = self.deadline.is_none() && drained;
        self.exit.filter(|_| over).map(|exit| (exit, self.ending == Some(Ending::TimedOut)))
    }

    /// Whether it is, or was, ended on request.
    pub fn was_cancelled(&self) -> bool {
        self.ending == Some(Ending::Cancelled)
    }

    /// Does what is due: the first step of ending the command, or the second.
    pub fn expire(&mut self, now: Instant) {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        if self.ending.is_none() {
            self.terminate(Ending::TimedOut);
        } else {
            self.deadline = None;
            self.kill(libc::SIGKILL);
        }
    }

    /// SIGTERM now, SIGKILL after the grace.
    fn terminate(&mut self, ending: Ending) {
        if self.ending.is_none() && self.exit.is_none() {
            self.ending = Some(ending);
            self.deadline = Instant::now().checked_add(GRACE);
            self.kill(libc::SIGTERM);
        }
    }

    /// Ends a command whose outcome and output are wanted all the same.
    pub fn finish(&mut self) {
        self.terminate(Ending::Cancelled);
    }

    /// Nobody will send stdin any more.
    pub fn close_stdin(&mut self) {
        self.consumed += self.stdin.close();
    }

    /// Ends a command that nobody wants to hear any more of. Its outputs have to be taken afterwards.
    pub fn cancel(&mut self) {
        self.terminate(Ending::Cancelled);
        self.close_stdin();
    }

    /// Takes away the pipes of the outputs, as far as somebody may still write to them.
    pub fn take_outputs(&mut self) -> impl Iterator<Item = OwnedFd> {
        [self.stdout.take(), self.stderr.take()].into_iter().flatten().filter_map(Output::into_fd)
    }

    /// Sends a signal to the process group.
    pub fn kill(&self, signal: i32) {
        if self.signal_group(signal) == Err(Errno::ESRCH) && self.exit.is_none() {
            // The child has not made its group yet. Its process id is its own for as long as it is not reaped.
            // SAFETY: kill touches no memory of ours.
            unsafe { libc::kill(self.pid, signal) };
        }
    }

    fn signal_group(&self, signal: i32) -> nix::Result<()> {
        // SAFETY: kill touches no memory of ours. nix's own has no real-time signals.
        Errno::result(unsafe { libc::kill(-self.pid, signal) }).map(drop)
    }
}
