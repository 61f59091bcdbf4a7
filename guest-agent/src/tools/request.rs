//! Which tool is asked for, and with what.

use std::io::{Read, Write};

use serde::{Deserialize, Serialize};

use crate::kept::Known;
use crate::message::{check_id, check_number};

use super::{diff, list, output, pack, patch, read, spare, unpack, write, Outcome, Place};

/// The tools as the host names them; `protocol/README.md` says what each does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Tool {
    List {
        path: String,
        recursive: bool,
        limit: u64,
    },
    Read {
        path: String,
        offset: u64,
        limit: u64,
    },
    Write {
        path: String,
    },
    Unpack {
        path: String,
    },
    Pack {
        path: String,
    },
    Diff {
        max_bytes: u64,
    },
    Patch {},
    Output {
        id: String,
        offset: u64,
        limit: u64,
        #[serde(deserialize_with = "Option::deserialize")]
        grep: Option<String>,
    },
    Spare {},
}

impl Tool {
    /// Checks what the types do not say.
    pub fn check(&self) -> Result<(), String> {
        let (text, numbers) = match self {
            Self::List { path, limit, .. } => (path.as_str(), [*limit, 0]),
            Self::Read { path, offset, limit } => (path.as_str(), [*offset, *limit]),
            Self::Write { path } | Self::Unpack { path } | Self::Pack { path } => (path.as_str(), [0, 0]),
            Self::Diff { max_bytes } => ("/", [*max_bytes, 0]),
            Self::Patch {} | Self::Spare {} => ("/", [0, 0]),
            Self::Output { id, offset, limit, .. } => {
                check_id(id)?;
                ("/", [*offset, *limit])
            }
        };
        if !text.starts_with('/') || text.contains('\0') {
            return Err("a path that is not absolute or contains a NUL byte".into());
        }
        numbers.into_iter().try_for_each(check_number)
    }

    /// Whether the tool reads its stdin; the others are sent none.
    pub fn takes_stdin(&self) -> bool {
        matches!(self, Self::Write { .. } | Self::Unpack { .. } | Self::Patch {})
    }

    /// The id of the kept command that it is about.
    pub fn command(&self) -> Option<&str> {
        match self {
            Self::Output { id, .. } => Some(id),
            _ => None,
        }
    }

    /// Does it. Only for the process that was forked for it. `known` is what the agent knows of the command that it is
    /// about.
    pub fn run(
        &self,
        place: &Place,
        known: Option<&Known<'_>>,
        stdin: &mut dyn Read,
        stdout: &mut dyn Write,
    ) -> Outcome {
        match self {
            Self::List { path, recursive, limit } => list::run(place, path, *recursive, *limit, stdin, stdout),
            Self::Read { path, offset, limit } => read::run(place, path, *offset, *limit, stdin, stdout),
            Self::Write { path } => write::run(place, path, stdin, stdout),
            Self::Unpack { path } => unpack::run(place, path, stdin, stdout),
            Self::Pack { path } => pack::run(place, path, stdin, stdout),
            Self::Diff { max_bytes } => diff::run(place, *max_bytes, stdin, stdout),
            Self::Patch {} => patch::run(place, stdin, stdout),
            Self::Output { id, offset, limit, grep } => {
                let page = output::Page { id, offset: *offset, limit: *limit, grep: grep.as_deref() };
                output::run(place, known, &page, stdout)
            }
            Self::Spare {} => spare::run(stdout),
        }
    }
}
