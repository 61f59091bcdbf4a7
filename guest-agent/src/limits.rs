//! How many files the agent and its commands may have open.

use nix::libc::rlim_t;
use nix::sys::resource::{getrlimit, setrlimit, Resource};

/// What the agent asks for itself: several descriptors for each of `mux::MAX_STREAMS` commands, with room to spare.
const AGENT: rlim_t = 65_536;

/// What Linux distributions give to a process: a low soft limit, because programs that still use `select` rely on
/// it, and a high hard one for those that raise it.
const COMMAND_SOFT: rlim_t = 1024;
const COMMAND_HARD: rlim_t = 524_288;

/// The limit on open files that commands start with.
#[derive(Debug, Clone, Copy)]
pub struct CommandLimits {
    soft: rlim_t,
    hard: rlim_t,
}

/// Raises the agent's own limit and returns what its commands get. Without the right to raise it (outside of a
/// guest), commands get what the agent has.
pub fn raise() -> nix::Result<CommandLimits> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if setrlimit(Resource::RLIMIT_NOFILE, AGENT, COMMAND_HARD).is_err() {
        return Ok(CommandLimits { soft, hard });
    }
    Ok(CommandLimits { soft: COMMAND_SOFT, hard: COMMAND_HARD })
}

impl CommandLimits {
    /// Applies the limits to the calling process.
    pub fn apply(self) -> nix::Result<()> {
        setrlimit(Resource::RLIMIT_NOFILE, self.soft, self.hard)
    }
}
