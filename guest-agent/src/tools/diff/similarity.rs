//! How much two texts have in common.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use crate::tools::text::lines;

/// Enough of a text to compare it with others: its lines by their hashes, sorted, each with its length in bytes.
pub struct Signature {
    lines: Vec<(u32, u32)>,
    bytes: u64,
}

impl Signature {
    pub fn of(text: &[u8]) -> Self {
        let mut lines: Vec<(u32, u32)> = lines::split(text).map(|line| (hash(line), line.len() as u32)).collect();
        lines.sort_unstable();
        Self { lines, bytes: text.len() as u64 }
    }

    /// The share of the larger text, in percent, that consists of lines which the other one has, too.
    pub fn percent_shared_with(&self, other: &Self) -> u8 {
        let (mut mine, mut theirs) = (self.lines.iter().peekable(), other.lines.iter().peekable());
        let mut shared = 0;
        while let (Some(one), Some(another)) = (mine.peek(), theirs.peek()) {
            match one.cmp(another) {
                std::cmp::Ordering::Less => drop(mine.next()),
                std::cmp::Ordering::Greater => drop(theirs.next()),
                std::cmp::Ordering::Equal => {
                    shared += u64::from(one.1);
                    mine.next();
                    theirs.next();
                }
            }
        }
        let larger = self.bytes.max(other.bytes);
        (shared * 100).checked_div(larger).unwrap_or(100) as u8
    }
}

fn hash(line: &[u8]) -> u32 {
    let mut hasher = DefaultHasher::new();
    line.hash(&mut hasher);
    hasher.finish() as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(one: &[u8], other: &[u8]) -> u8 {
        Signature::of(one).percent_shared_with(&Signature::of(other))
    }

    #[test]
    fn the_share_is_of_the_larger_one() {
        assert_eq!(shared(b"", b""), 100);
        assert_eq!(shared(b"a\nb\n", b"b\na\n"), 100);
        assert_eq!(shared(b"a\nb\n", b"a\nc\n"), 50);
        assert_eq!(shared(b"a\nb\nc\nd\n", b"a\n"), 25);
        assert_eq!(shared(b"a\na\n", b"a\n"), 50);
        assert_eq!(shared(b"a\n", b"b\n"), 0);
    }
}
