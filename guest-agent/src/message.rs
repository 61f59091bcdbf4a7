//! The messages, as in `protocol/schema.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::tools::request::Tool;

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum HostMessage {
    Exec(Exec),
    Attach { id: String, offset: u64 },
    End { id: String },
    Tool { tool: Tool },
    // Braces, because unknown fields of a variant without them would be let through.
    Commands {},
    Ping {},
    Poweroff {},
    Signal { pid: i32, signal: i32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exec {
    pub argv: Vec<String>,
    pub env: BTreeMap<String, String>,
    pub cwd: String,
    pub stdin: bool,
    /// Milliseconds. Given explicitly as null for no limit.
    #[serde(deserialize_with = "Option::deserialize")]
    pub timeout_ms: Option<u64>,
    /// The id to keep the command under. Given explicitly as null for one that ends with its stream.
    #[serde(deserialize_with = "Option::deserialize")]
    pub keep: Option<String>,
}

/// What the agent says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AgentMessage {
    Pong {},
    Ok {},
    Started {
        pid: i32,
    },
    Exited {
        #[serde(deserialize_with = "Option::deserialize")]
        exit_code: Option<i32>,
        #[serde(deserialize_with = "Option::deserialize")]
        signal: Option<i32>,
        timed_out: bool,
    },
    Commands {
        commands: Vec<CommandState>,
    },
    Error {
        code: ErrorCode,
        message: String,
    },
}

/// A kept command as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandState {
    pub id: String,
    pub pid: i32,
    pub running: bool,
    #[serde(deserialize_with = "Option::deserialize")]
    pub exit_code: Option<i32>,
    #[serde(deserialize_with = "Option::deserialize")]
    pub signal: Option<i32>,
    pub timed_out: bool,
    pub cancelled: bool,
    pub output_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    NotFound,
    NotExecutable,
    BadCwd,
    NoSuchCommand,
    IdInUse,
    NoWorkspace,
    Internal,
}

/// Checks the id of a kept command: 1 to 64 lower-case letters, digits and hyphens. Being a file's name, it is
/// neither `.` nor `..` and holds no slash by that.
pub fn check_id(id: &str) -> Result<(), String> {
    let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=64).contains(&id.len()) && id.bytes().all(known) {
        return Ok(());
    }
    Err("an id is not 1 to 64 of a-z, 0-9 and -".into())
}

/// Checks a count of bytes, which has to be one that a file can have.
pub fn check_number(number: u64) -> Result<(), String> {
    if i64::try_from(number).is_ok() {
        return Ok(());
    }
    Err(format!("{number} is too large"))
}

impl HostMessage {
    /// Reads a message and checks what the types do not say. The error is for the host's log.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let message: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match &message {
            Self::Exec(exec) => exec.check()?,
            Self::Attach { id, offset } => {
                check_id(id)?;
                check_number(*offset)?;
            }
            Self::End { id } => check_id(id)?,
            Self::Tool { tool } => tool.check()?,
            Self::Signal { signal, .. } if !(1..=64).contains(signal) => {
                return Err(format!("there is no signal {signal}"))
            }
            _ => {}
        }
        Ok(message)
    }
}

impl Exec {
    fn check(&self) -> Result<(), String> {
        let refuse = |reason: &str| Err(reason.to_owned());
        if self.argv.is_empty() {
            return refuse("argv is empty");
        }
        if !self.cwd.starts_with('/') {
            return refuse("cwd is not absolute");
        }
        if self.env.keys().any(|name| name.is_empty() || name.contains('=')) {
            return refuse("an environment name is empty or contains '='");
        }
        if self.timeout_ms == Some(0) {
            return refuse("timeout_ms is 0");
        }
        self.keep.as_deref().map_or(Ok(()), check_id)?;
        let environment = self.env.iter().flat_map(|(name, value)| [name, value]);
        if self.argv.iter().chain([&self.cwd]).chain(environment).any(|text| text.contains('\0')) {
            return refuse("a string contains a NUL byte");
        }
        Ok(())
    }
}

impl AgentMessage {
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("numbers and strings always have a JSON form")
    }
}
