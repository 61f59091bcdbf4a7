//! Starting a process: a program, or a tool that the agent has inside itself.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::stat::{umask, Mode};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, fork, pipe2, setsid, write, ForkResult};

use crate::limits::CommandLimits;
use crate::message::{ErrorCode, Exec};
use crate::pipes::LARGE_PIPE_SIZE;
pub use crate::program::{Attempt, StartError, REPORT_LEN};
use crate::program::{Image, Step};
use crate::tool_process::{self, Work};

/// The folder of the guest that is elsewhere outside of a guest.
const WORKSPACE: &str = "/workspace";

/// Exit code of a child that did not become what it was to be. Nobody gets to see it.
const CHILD_FAILED: i32 = 127;

/// Whatever can start a process.
pub trait Spawn {
    fn spawn(&self, exec: &Exec) -> Result<Spawned, StartError>;

    /// Starts a child that does a tool's work.
    fn spawn_tool(&self, work: &Work<'_>) -> Result<Spawned, StartError>;
}

/// Starts real processes, with what all commands of this agent have in common.
pub struct Spawner {
    null: File,
    limits: CommandLimits,
    /// Where `/workspace` is, outside of a guest.
    workspace: Option<PathBuf>,
}

/// A process on its way to becoming the program; the agent's ends of its pipes do not block.
pub struct Spawned {
    pub pid: i32,
    /// Ends without a byte when the program runs, or carries a report for `Attempt::explain`.
    pub status: OwnedFd,
    pub stdin: Option<OwnedFd>,
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    pub attempt: Attempt,
}

struct ChildEnds {
    status: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Spawn for Spawner {
    fn spawn(&self, exec: &Exec) -> Result<Spawned, StartError> {
        let cwd = self.directory(&exec.cwd);
        let image = Image::new(exec, &cwd)
            .map_err(|error| StartError { code: ErrorCode::BadRequest, message: error.to_string() })?;
        let attempt = Attempt::new(&exec.argv[0], &cwd);
        self.fork(exec.stdin, attempt, |ends| self.try_program(&image, ends))
            .map_err(|errno| StartError::internal("start a process", errno))
    }

    fn spawn_tool(&self, work: &Work<'_>) -> Result<Spawned, StartError> {
        let spawned = self
            .fork(work.stdin, Attempt::new("a tool", "/"), |ends| self.try_tool(work, ends))
            .map_err(|errno| StartError::internal("start a process", errno))?;
        // Tools are sent much: fewer switches between writer and reader. It is not worth a failure.
        if let Some(stdin) = &spawned.stdin {
            let _ = fcntl(stdin.as_fd(), FcntlArg::F_SETPIPE_SZ(LARGE_PIPE_SIZE));
        }
        Ok(spawned)
    }
}

impl Spawner {
    pub fn new(limits: CommandLimits, workspace: Option<PathBuf>) -> std::io::Result<Self> {
        keep_from_commands()?;
        Ok(Self { null: OpenOptions::new().read(true).write(true).open("/dev/null")?, limits, workspace })
    }

    fn directory(&self, cwd: &str) -> String {
        let below = cwd.strip_prefix(WORKSPACE).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        match (&self.workspace, below) {
            (Some(workspace), Some(rest)) => format!("{}{rest}", workspace.display()),
            _ => cwd.to_owned(),
        }
    }

    /// `child` runs in the child, and returns only where it could not become what it was to be.
    fn fork(
        &self,
        stdin: bool,
        attempt: Attempt,
        child: impl FnOnce(&ChildEnds) -> (Step, Errno),
    ) -> nix::Result<Spawned> {
        let (status, child_status) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (stdin, child_stdin) = if stdin {
            let (child, agent) = pipe_with_blocking_child(PipeEnd::Read)?;
            (Some(agent), Some(child))
        } else {
            (None, None)
        };
        let (child_stdout, stdout) = pipe_with_blocking_child(PipeEnd::Write)?;
        let (child_stderr, stderr) = pipe_with_blocking_child(PipeEnd::Write)?;
        let ends = ChildEnds { status: child_status, stdin: child_stdin, stdout: child_stdout, stderr: child_stderr };
        // SAFETY: the agent has one thread, so the child is a whole copy in which everything may be called.
        match unsafe { fork() }? {
            ForkResult::Child => give_up(&ends, child(&ends)),
            ForkResult::Parent { child } => Ok(Spawned { pid: child.as_raw(), status, stdin, stdout, stderr, attempt }),
        }
    }

    fn try_program(&self, image: &Image, ends: &ChildEnds) -> (Step, Errno) {
        if let Err(errno) = self.set_up(ends) {
            return (Step::Setup, errno);
        }
        match chdir(image.cwd.as_c_str()) {
            Ok(()) => (Step::Program, image.execute()),
            Err(errno) => (Step::Directory, errno),
        }
    }

    fn try_tool(&self, work: &Work<'_>, ends: &ChildEnds) -> (Step, Errno) {
        match self.set_up(ends) {
            Ok(()) => (Step::Setup, tool_process::work_and_exit(work)),
            Err(errno) => (Step::Setup, errno),
        }
    }

    fn set_up(&self, ends: &ChildEnds) -> nix::Result<()> {
        setsid()?;
        match &ends.stdin {
            Some(stdin) => dup2_stdin(stdin)?,
            None => dup2_stdin(&self.null)?,
        }
        dup2_stdout(&ends.stdout)?;
        dup2_stderr(&ends.stderr)?;
        umask(Mode::from_bits_truncate(0o022));
        self.limits.apply()?;
        // The Rust runtime ignores SIGPIPE, and ignoring is inherited.
        let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(Signal::SIGPIPE, &default) }?;
        nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
    }
}

/// Reports from the child why it is of no use, and ends it.
fn give_up(ends: &ChildEnds, (step, errno): (Step, Errno)) -> ! {
    let [a, b, c, d] = (errno as i32).to_be_bytes();
    // A report that cannot be written leaves the agent with a process that exits with CHILD_FAILED.
    let _ = write(&ends.status, &[step as u8, a, b, c, d]);
    // SAFETY: _exit has no precondition; exit would run what the agent registered for its own end.
    unsafe { libc::_exit(CHILD_FAILED) }
}

/// Marks whatever the agent has open by now, and may have inherited, as not to be passed on.
fn keep_from_commands() -> nix::Result<()> {
    const FIRST: libc::c_uint = libc::STDERR_FILENO as libc::c_uint + 1;
    // SAFETY: no descriptor is closed, and none of the agent's is meant to be passed on.
    let result = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Errno::result(result).map(drop)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PipeEnd {
    Read,
    Write,
}

/// A pipe of which the child has the given end. Only the agent's end is non-blocking: programs do not expect that of
/// their standard streams. Returns the child's end and the agent's.
fn pipe_with_blocking_child(child: PipeEnd) -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    let (child, agent) = if child == PipeEnd::Read { (read, write) } else { (write, read) };
    fcntl(agent.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok((child, agent))
}
