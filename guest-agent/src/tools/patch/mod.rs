//! Applying a patch to the workspace, all or nothing.
//!
//! Patches are taken as language models write them: numbers of lines and their counts may be wrong or missing, prefixes
//! of names too, and ends of lines may be others than in the file. What is changed has to stand in the file, though,
//! and at one place only where that place is not the one that the patch names. What only adds lines that stand there
//! already is refused: it is more likely a patch that is sent twice than lines that are wanted twice.

pub mod apply;
pub mod change;
pub mod commit;
pub mod earlier;
pub mod explain;
pub mod gap;
pub mod hunks;
pub mod locate;
pub mod model;
pub mod names;
pub mod original;
pub mod parse;
pub mod plan;

use std::io::{Read, Write};
use std::os::fd::AsFd;

use serde::Serialize;

use self::plan::{Plan, Report};
use super::{Code, Outcome, Place, ToolError};

/// Largest patch, in bytes.
const MAX_PATCH_BYTES: u64 = 8 << 20;

#[derive(Debug, Serialize)]
struct Answer {
    files: Vec<Report>,
}

/// Reads a patch from `stdin`, applies it, and tells what it has changed.
pub fn run(place: &Place, stdin: &mut dyn Read, stdout: &mut dyn Write) -> Outcome {
    let mut patch = Vec::new();
    stdin.take(MAX_PATCH_BYTES + 1).read_to_end(&mut patch)?;
    if patch.len() as u64 > MAX_PATCH_BYTES {
        return Err(ToolError::new(Code::BadPatch, format!("the patch is larger than {} MiB", MAX_PATCH_BYTES >> 20)));
    }
    let patch = parse::normalized(&patch);
    let parsed = parse::parse(&patch)?;
    let mut plan = Plan::new(place.workspace.as_fd());
    let files = plan.take(&parsed)?;
    commit::commit(place.workspace.as_fd(), &plan.states)?;
    serde_json::to_writer(stdout, &Answer { files }).map_err(|error| ToolError::new(Code::Io, error.to_string()))
}
