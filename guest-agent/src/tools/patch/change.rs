//! What one part of a patch makes of one content.

use super::apply::apply;
use super::model::{Body, FilePatch, Name};
use super::plan::Wanted;
use crate::tools::text::binary::{apply_delta, Block};
use crate::tools::text::{blob, MODE_FILE, MODE_SYMLINK};
use crate::tools::{Code, ToolError};

/// How many digits of a content's name it takes to be sure enough.
const LEAST_DIGITS: usize = 7;

#[derive(Debug)]
pub struct Change {
    pub content: Vec<u8>,
    pub offset_lines: usize,
}

/// Applies one part of a patch to the file called `name`, which is what it was `before`, or not there.
pub fn changed_content(name: &str, patch: &FilePatch, before: Option<&Wanted>) -> Result<Change, ToolError> {
    check_kind(name, patch, before)?;
    let old = before.map_or(&b""[..], |before| &before.content);
    let deletes = patch.is_deleted || patch.new == Some(Name::Nothing);
    let content = match &patch.body {
        Body::Hunks(hunks) if hunks.is_empty() && deletes => Vec::new(),
        Body::Withheld if deletes => Vec::new(),
        Body::Hunks(hunks) => {
            check_purpose(name, patch)?;
            let applied = apply(old, hunks).map_err(|why| failed(format!("{name}: {why}")))?;
            if deletes && !applied.content.is_empty() {
                return Err(failed(format!("{name}: the patch deletes the file, but not all that is in it")));
            }
            return Ok(Change { content: applied.content, offset_lines: applied.offset_lines });
        }
        Body::Binary(block) => apply_binary(name, patch, block, old)?,
        Body::Withheld => {
            let message =
                format!("{name} is binary, and the patch does not hold its content (`git diff --binary` does)");
            return Err(ToolError::new(Code::BadPatch, message));
        }
    };
    Ok(Change { content, offset_lines: 0 })
}

fn failed(message: String) -> ToolError {
    ToolError::new(Code::PatchFailed, message)
}

/// A patch for a link must not change a file, nor the other way round.
fn check_kind(name: &str, patch: &FilePatch, before: Option<&Wanted>) -> Result<(), ToolError> {
    for mode in [patch.old_mode, patch.new_mode].into_iter().flatten() {
        // Git writes other permissions than its own in no patch, but took them long ago.
        if mode != MODE_SYMLINK && mode & 0o170_000 != MODE_FILE & 0o170_000 {
            return Err(ToolError::new(
                Code::BadPatch,
                format!("{name}: the patch makes no file, but mode {mode:06o}"),
            ));
        }
    }
    let Some(before) = before else { return Ok(()) };
    let for_links = patch.old_mode.or(patch.new_mode) == Some(MODE_SYMLINK);
    match (before.is_symlink, for_links) {
        (true, false) if patch.moved.is_none() || !patch.hunks().is_empty() => {
            let target = String::from_utf8_lossy(&before.content);
            Err(ToolError::new(Code::NotAFile, format!("{name} is a symbolic link to {target}; name the file itself")))
        }
        (false, true) => Err(failed(format!("{name} is not the symbolic link that the patch changes"))),
        _ => Ok(()),
    }
}

/// Whether a patch without hunks does anything.
fn check_purpose(name: &str, patch: &FilePatch) -> Result<(), ToolError> {
    let makes = patch.is_new || patch.old == Some(Name::Nothing);
    if patch.hunks().is_empty() && !makes && patch.moved.is_none() && patch.new_mode.is_none() {
        let message = format!("line {} of the patch begins changes of {name}, but there are none", patch.line);
        return Err(ToolError::new(Code::BadPatch, message));
    }
    Ok(())
}

/// A binary patch has no context; only the names of the contents tell whether it fits.
fn apply_binary(name: &str, patch: &FilePatch, block: &Block, old: &[u8]) -> Result<Vec<u8>, ToolError> {
    let bad = |why: &str| ToolError::new(Code::BadPatch, format!("{name}: the binary patch {why}"));
    let (old_id, new_id) = patch.ids.ok_or_else(|| bad("does not tell which content it is for (no `index` line)"))?;
    let fits = |id: &str, content: &[u8]| match id.bytes().all(|digit| digit == b'0') {
        true => content.is_empty(),
        false => id.len() >= LEAST_DIGITS && blob::id(content).starts_with(id),
    };
    if !fits(old_id, old) {
        let already = if fits(new_id, old) { "; it is applied already" } else { "" };
        return Err(failed(format!("{name}: the binary patch is for another content than the file has{already}")));
    }
    let new = if block.is_delta {
        apply_delta(old, &block.data).ok_or_else(|| bad("is damaged"))?
    } else {
        block.data.clone()
    };
    if fits(new_id, &new) {
        Ok(new)
    } else {
        Err(bad("makes another content than it says"))
    }
}
