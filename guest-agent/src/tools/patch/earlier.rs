//! Finding out that a hunk is in the file already.
//!
//! Who got no answer sends a patch once more. A hunk that takes lines out does not fit then. One that only adds some may
//! fit again, and would add them twice.

use super::gap::Lines;
use super::locate::{stands_at, Likeness, Place, Wanted};
use super::model::{Hunk, Sign};

/// A place at which the file has what the hunk would make of it.
#[derive(Debug, PartialEq, Eq)]
pub struct Earlier {
    /// The index of its first line.
    pub at: usize,
    /// The hunk fits there once more.
    pub fits_again: bool,
}

/// Tells where the hunk seems to have been applied before, given the place that was found for it.
///
/// Only what a hunk adds is looked for: one that makes the file shorter leaves nothing that it did not find.
pub fn find_earlier(file: &Lines, hunk: &Hunk, wanted: &Wanted, place: &Place) -> Option<Earlier> {
    let new = hunk.after();
    if new.len() <= wanted.lines.len() {
        return None;
    }
    // Its new lines were given the ends that are usual in the file.
    let stands = |at: usize, likeness: Likeness| stands_at(file, &new, at, likeness.max(Likeness::LineEnds));
    if let Place::At(at, likeness) = *place {
        // A number beyond the end meant the end, which was somewhere else before.
        let beyond = wanted.lines.is_empty() && wanted.expected > Some(at);
        let at = if beyond { at.saturating_sub(new.len()) } else { at };
        if stands(at, likeness) {
            return Some(Earlier { at, fits_again: true });
        }
    }
    // Where lines of context follow, the old ones do not stand together any more.
    let only_adds = hunk.lines.iter().all(|line| line.sign != Sign::Removed);
    let at = wanted.expected.filter(|at| only_adds && stands(*at, Likeness::LineEnds))?;
    Some(Earlier { at, fits_again: false })
}
