//! What a child needs to become a program, and what is said when it cannot.

use std::collections::BTreeMap;
use std::ffi::{CString, NulError};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::execve;

use crate::message::{ErrorCode, Exec};

const DEFAULT_ENVIRONMENT: [(&str, &str); 4] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/root"),
    ("USER", "root"),
    ("LANG", "C.UTF-8"),
];

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

/// Names for the messages about a start that failed.
#[derive(Debug)]
pub struct Attempt {
    program: String,
    cwd: String,
}

/// The step that failed in the child, as the first byte of its report; the error number follows.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Step {
    Setup = 0,
    Directory = 1,
    Program = 2,
}

pub const REPORT_LEN: usize = 5;

/// Everything the child needs, made before the fork.
pub struct Image {
    candidates: Vec<CString>,
    argv: Vec<CString>,
    environment: Vec<CString>,
    pub cwd: CString,
}

impl Image {
    /// `cwd` is the command's, or where that is outside of a guest.
    pub fn new(exec: &Exec, cwd: &str) -> Result<Self, NulError> {
        let mut environment = BTreeMap::from(DEFAULT_ENVIRONMENT);
        environment.extend(exec.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let entries = environment.iter().map(|(name, value)| format!("{name}={value}"));
        Ok(Self {
            candidates: c_strings(candidates(&exec.argv[0], environment["PATH"]))?,
            argv: c_strings(exec.argv.iter().cloned())?,
            environment: c_strings(entries)?,
            cwd: CString::new(cwd)?,
        })
    }

    /// Tries the candidates in turn, as a shell does: one that may not be run is passed over, but remembered.
    pub fn execute(&self) -> Errno {
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

impl Attempt {
    pub fn new(program: &str, cwd: &str) -> Self {
        Self { program: program.to_owned(), cwd: cwd.to_owned() }
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
            keep: None,
        };
        let image = Image::new(&exec, "/").unwrap();
        let environment: Vec<_> = image.environment.iter().map(|entry| entry.to_str().unwrap()).collect();
        let path = format!("PATH={}", DEFAULT_ENVIRONMENT[0].1);
        assert_eq!(environment, ["HOME=/home", "LANG=C.UTF-8", &path, "USER=root", "X=a=b"]);
    }

    #[test]
    fn reports_are_explained() {
        let attempt = Attempt::new("x", "/nowhere");
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
