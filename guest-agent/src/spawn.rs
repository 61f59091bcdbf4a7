//! Starting a process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg, OFlag};
use nix::libc;
use nix::sys::signal::{sigaction, SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::sys::stat::{umask, Mode};
use nix::unistd::{chdir, dup2_stderr, dup2_stdin, dup2_stdout, execve, fork, pipe2, setsid, write, ForkResult};

use crate::limits::CommandLimits;
use crate::message::{ErrorCode, Exec};

const DEFAULT_ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LANG", "C.UTF-8"),
];

/// Exit code of a child that did not become the program. Nobody gets to see it.
const CHILD_FAILED: i32 = 127;

/// Why a command did not start, for the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartError {
    pub code: ErrorCode,
    pub message: String,
}

impl StartError {
    pub fn internal(attempt: &str, errno: Errno) -> Self {
        Self { code: ErrorCode::Internal, message: format!("{attempt}: {}", errno.desc()) }
    }
}

/// Whatever can start a process.
pub trait Spawn {
    fn spawn(&self, exec: &Exec) -> Result<Spawned, StartError>;
}

/// Starts real processes, with what all commands of this agent have in common.
pub struct Spawner {
    null: File,
    limits: CommandLimits,
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

/// Names for the messages about a start that failed.
#[derive(Debug)]
pub struct Attempt {
    program: String,
    cwd: String,
}

/// The step that failed in the child, as the first byte of its report; the error number follows.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Step {
    Setup = 0,
    Directory = 1,
    Program = 2,
}

pub const REPORT_LEN: usize = 5;

/// Everything the child needs, made before the fork.
struct Image {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    cwd: CString,
}

struct ChildEnds {
    status: OwnedFd,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Spawn for Spawner {
    fn spawn(&self, exec: &Exec) -> Result<Spawned, StartError> {
        let image =
            Image::new(exec).map_err(|error| StartError { code: ErrorCode::BadRequest, message: error.to_string() })?;
        self.fork(exec, &image).map_err(|errno| StartError::internal("start a process", errno))
    }
}

impl Spawner {
    pub fn new(limits: CommandLimits) -> std::io::Result<Self> {
        keep_from_commands()?;
        Ok(Self { null: OpenOptions::new().read(true).write(true).open("/dev/null")?, limits })
    }

    fn fork(&self, exec: &Exec, image: &Image) -> nix::Result<Spawned> {
        let (status, child_status) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        let (stdin, child_stdin) = if exec.stdin {
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
            ForkResult::Child => self.become_program(image, &ends),
            ForkResult::Parent { child } => {
                Ok(Spawned { pid: child.as_raw(), status, stdin, stdout, stderr, attempt: Attempt::new(exec) })
            }
        }
    }

    /// Runs in the child and ends it where it does not become the program.
    fn become_program(&self, image: &Image, ends: &ChildEnds) -> ! {
        let Err((step, errno)) = self.try_program(image, ends);
        let [a, b, c, d] = (errno as i32).to_be_bytes();
        // A report that cannot be written leaves the agent with a process that exits with CHILD_FAILED.
        let _ = write(&ends.status, &[step as u8, a, b, c, d]);
        // SAFETY: _exit has no precondition; exit would run what the agent registered for its own end.
        unsafe { libc::_exit(CHILD_FAILED) }
    }

    fn try_program(&self, image: &Image, ends: &ChildEnds) -> Result<Infallible, (Step, Errno)> {
        self.set_up(ends).map_err(|errno| (Step::Setup, errno))?;
        chdir(image.cwd.as_c_str()).map_err(|errno| (Step::Directory, errno))?;
        Err((Step::Program, image.execute()))
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

impl Image {
    fn new(exec: &Exec) -> Result<Self, NulError> {
        let mut environment = BTreeMap::from(DEFAULT_ENVIRONMENT);
        environment.extend(exec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let entries = environment.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            candidates: c_strings(candidates(&exec.argv[0], environment["PATH"]))?,
            argv: c_strings(exec.argv.iter().cloned())?,
            environment: c_strings(entries)?,
            cwd: CString::new(exec.cwd.as_str())?,
        })
    }

    /// Tries the candidates in turn, as a shell does: one that may not be run is passed over, but remembered.
    fn execute(&self) -> Errno {
        let mut outcome = Errno::ENOENT;
        for candidate in &self.candidates {
            let Err(errno) = execve(candidate, &self.argv, &self.environment);
            match errno {
                Errno::ENOENT | Errno::ENOTDIR if self.candidates.len() > 1 => {}
                Errno::EACCES => outcome = errno,
                _ => return errno,
            }
        }
        outcome
    }
}

/// Marks whatever the agent has open by now, and may have inherited, as not to be passed on.
fn keep_from_commands() -> nix::Result<()> {
    const FIRST: libc::c_uint = libc::STDERR_FILENO as libc::c_uint + 1;
    // SAFETY: no descriptor is closed, and none of the agent's is meant to be passed on.
    let result = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Errno::result(result).map(drop)
}

/// Where a program can be: at its path, or in the directories of `PATH` if it is a mere name.
fn candidates(program: &str, path: &str) -> Vec<String> {
    if program.is_empty() || program.contains('/') {
        return vec![program.to_owned()];
    }
    let in_directory = |directory: &str| match directory {
        "" => format!("./{program}"),
        directory => format!("{directory}/{program}"),
    };
    path.split(':').map(in_directory).collect()
}

fn c_strings(texts: impl IntoIterator<Item = String>) -> Result<Vec<CString>, NulError> {
    texts.into_iter().map(CString::new).collect()
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

impl Attempt {
    pub fn new(exec: &Exec) -> Self {
        Self { program: exec.argv[0].clone(), cwd: exec.cwd.clone() }
    }

    /// Turns the child's report into what the host is told.
    pub fn explain(&self, report: [u8; REPORT_LEN]) -> StartError {
        let [step, errno @ ..] = report;
        let errno = Errno::from_raw(i32::from_be_bytes(errno));
        if step == Step::Directory as u8 {
            let message = format!("cannot change to directory {}: {}", self.cwd, errno.desc());
            StartError { code: ErrorCode::BadCwd, message }
        } else if step == Step::Program as u8 {
            self.explain_program(errno)
        } else {
            StartError::internal("set up a process", errno)
        }
    }

    fn explain_program(&self, errno: Errno) -> StartError {
        let (code, reason) = match errno {
            Errno::ENOENT if self.exists() => (ErrorCode::NotFound, "its interpreter does not exist"),
            Errno::ENOENT => (ErrorCode::NotFound, "no such program"),
            Errno::ENOMEM | Errno::EAGAIN | Errno::EMFILE | Errno::ENFILE | Errno::EIO => {
                (ErrorCode::Internal, errno.desc())
            }
            _ => (ErrorCode::NotExecutable, errno.desc()),
        };
        StartError { code, message: format!("cannot run {}: {reason}", self.program) }
    }

    /// Whether the program was named by a path that leads somewhere.
    fn exists(&self) -> bool {
        self.program.contains('/') && Path::new(&self.cwd).join(&self.program).exists()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_for_in_the_path() {
        assert_eq!(candidates("ls", "/a:/b::c"), ["/a/ls", "/b/ls", "./ls", "c/ls"]);
        assert_eq!(candidates("./ls", "/a"), ["./ls"]);
        assert_eq!(candidates("", "/a"), [""]);
    }

    #[test]
    fn the_environment_is_laid_over_the_default() {
        let exec = Exec {
            argv: vec!["true".into()],
            env: BTreeMap::from([("HOME".into(), "/home".into()), ("X".into(), "a=b".into())]),
            cwd: "/".into(),
            stdin: false,
            timeout_ms: None,
        };
        let image = Image::new(&exec).unwrap();
        let environment: Vec<_> = image.environment.iter().map(|entry| entry.to_str().unwrap()).collect();
        let path = format!("PATH={}", DEFAULT_ENVIRONMENT[0].1);
        assert_eq!(environment, ["HOME=/home", "LANG=C.UTF-8", &path, "USER=root", "X=a=b"]);
    }

    #[test]
    fn reports_are_explained() {
        let attempt = Attempt { program: "x".into(), cwd: "/nowhere".into() };
        let explain = |step: Step, errno: Errno| {
            let [a, b, c, d] = (errno as i32).to_be_bytes();
            attempt.explain([step as u8, a, b, c, d])
        };
        assert_eq!(explain(Step::Setup, Errno::EPERM).code, ErrorCode::Internal);
        assert_eq!(explain(Step::Directory, Errno::ENOENT).code, ErrorCode::BadCwd);
        assert_eq!(explain(Step::Program, Errno::ENOENT).code, ErrorCode::NotFound);
        assert_eq!(explain(Step::Program, Errno::ENOMEM).code, ErrorCode::Internal);
        for errno in [Errno::EACCES, Errno::ENOEXEC, Errno::EISDIR, Errno::E2BIG, Errno::ELOOP, Errno::ENOTDIR] {
            assert_eq!(explain(Step::Program, errno).code, ErrorCode::NotExecutable);
        }
    }
}
