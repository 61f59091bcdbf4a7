//! The messages, as in `protocol/schema.json`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What the host says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum HostMessage {
    Exec(Exec),
    // Braces, because unknown fields of a variant without them would be let through.
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
    Error {
        code: ErrorCode,
        message: String,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    BadRequest,
    NotFound,
    NotExecutable,
    BadCwd,
    NoSuchCommand,
    Internal,
}

impl HostMessage {
    /// Reads a message and checks what the types do not say. The error is for the host's log.
    pub fn parse(json: &[u8]) -> Result<Self, String> {
        let message: Self = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        match &message {
            Self::Exec(exec) => exec.check()?,
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
