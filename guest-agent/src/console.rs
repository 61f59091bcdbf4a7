//! What the agent has to say to whoever reads the guest's console.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;

/// Something that could not be done while booting: what was tried, and why it failed.
#[derive(Debug)]
pub struct Failure {
    attempt: String,
    cause: String,
}

impl Failure {
    pub fn new(attempt: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { attempt: attempt.into(), cause: cause.to_string() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.attempt, self.cause)
    }
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Writes one line, `pyro-agent: ...`, to the console of the guest, or to stderr outside of a guest.
///
/// The kernel log comes first because it is written out even while the machine is being reset. Priority 3 (error)
/// is what still appears under `quiet`.
pub fn report(text: impl fmt::Display) {
    let line = format!("pyro-agent: {}\n", text.to_string().replace('\n', " "));
    if std::process::id() != 1 {
        eprint!("{line}");
    } else if write_to("/dev/kmsg", &format!("<3>{line}")).is_err() {
        // With neither of the two there is nobody to tell, and nothing better to do than to go on.
        let _ = write_to("/dev/console", &line);
    }
}

/// Goes on without what is not worth the whole guest, but says so.
pub fn warn(outcome: Result<()>) {
    if let Err(failure) = outcome {
        report(format_args!("warning: {failure}"));
    }
}

fn write_to(path: &str, text: &str) -> std::io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(text.as_bytes())
}
