//! The lines in which two texts differ, as a unified diff.

use std::ops::Range;

use imara_diff::sources::byte_lines;
use imara_diff::{Algorithm, Diff, Hunk, InternedInput};

use crate::tools::text::lines;

/// Lines that are shown around a difference.
const CONTEXT: u32 = 3;
/// Most lines of both texts together; comparing more takes too much memory.
const MAX_LINES: usize = 1_000_000;

/// The hunks of a diff, and how many lines are new and gone.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Hunks {
    pub text: Vec<u8>,
    pub insertions: u64,
    pub deletions: u64,
}

/// Compares two texts. `None` if they have too many lines.
pub fn unified(old: &[u8], new: &[u8]) -> Option<Hunks> {
    if lines::split(old).count() + lines::split(new).count() > MAX_LINES {
        return None;
    }
    let mut input = InternedInput::default();
    input.update_before(byte_lines(old));
    input.update_after(byte_lines(new));
    let mut diff = Diff::compute(Algorithm::Histogram, &input);
    diff.postprocess_lines(&input);
    let mut hunks = Hunks {
        text: Vec::new(),
        insertions: u64::from(diff.count_additions()),
        deletions: u64::from(diff.count_removals()),
    };
    let changes: Vec<Hunk> = diff.hunks().collect();
    for group in changes.chunk_by(|one, next| next.before.start - one.before.end <= 2 * CONTEXT) {
        write_group(&input, group, &mut hunks.text);
    }
    Some(hunks)
}

/// One `@@` with what stands around its changes.
fn write_group(input: &InternedInput<&[u8]>, group: &[Hunk], out: &mut Vec<u8>) {
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return };
    let lead = first.before.start.min(CONTEXT);
    let trail = (input.before.len() as u32 - last.before.end).min(CONTEXT);
    let before = first.before.start - lead..last.before.end + trail;
    let after = first.after.start - lead..last.after.end + trail;
    out.extend(format!("@@ -{} +{} @@\n", range(&before), range(&after)).bytes());
    let mut at = before.start;
    for change in group {
        write_lines(input, b' ', &input.before[as_range(at..change.before.start)], out);
        write_lines(input, b'-', &input.before[as_range(change.before.clone())], out);
        write_lines(input, b'+', &input.after[as_range(change.after.clone())], out);
        at = change.before.end;
    }
    write_lines(input, b' ', &input.before[as_range(at..before.end)], out);
}

fn as_range(lines: Range<u32>) -> Range<usize> {
    lines.start as usize..lines.end as usize
}

/// `first,count`: the first line counts from one; of nothing, the line before it is named.
fn range(lines: &Range<u32>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
}

fn write_lines(input: &InternedInput<&[u8]>, sign: u8, tokens: &[imara_diff::Token], out: &mut Vec<u8>) {
    for token in tokens {
        let line = input.interner[*token];
        out.push(sign);
        out.extend(line);
        if !line.ends_with(b"\n") {
            out.extend(b"\n\\ No newline at end of file\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(old: &str, new: &str) -> String {
        String::from_utf8(unified(old.as_bytes(), new.as_bytes()).unwrap().text).unwrap()
    }

    #[test]
    fn equal_texts_have_no_hunks() {
        assert_eq!(unified(b"a\n", b"a\n").unwrap(), Hunks::default());
    }

    #[test]
    fn hunks_name_their_lines() {
        assert_eq!(text("", "a\n"), "@@ -0,0 +1 @@\n+a\n");
        assert_eq!(text("a\nb\n", ""), "@@ -1,2 +0,0 @@\n-a\n-b\n");
        assert_eq!(text("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nx\n5\n"), "@@ -2,4 +2,5 @@\n 2\n 3\n 4\n+x\n 5\n");
    }

    #[test]
    fn a_missing_newline_is_told() {
        assert_eq!(text("a", "a\n"), "@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n");
        assert_eq!(text("a\nb", "b"), "@@ -1,2 +1 @@\n-a\n b\n\\ No newline at end of file\n");
    }

    #[test]
    fn changes_within_each_others_context_share_a_hunk() {
        let old: String = (0..20).map(|number| format!("{number}\n")).collect();
        let near = old.replace("\n5\n", "\nx\n").replace("\n12\n", "\ny\n");
        assert_eq!(text(&old, &near).matches("@@ -").count(), 1);
        let far = old.replace("\n5\n", "\nx\n").replace("\n13\n", "\ny\n");
        assert_eq!(text(&old, &far).matches("@@ -").count(), 2);
    }

    #[test]
    fn too_many_lines_are_not_compared() {
        assert_eq!(unified(&b"\n".repeat(MAX_LINES), b"\n"), None);
    }
}
