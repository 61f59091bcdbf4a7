//! Finding the place of a hunk.

use super::gap::Lines;
use crate::tools::text::lines::without_end;

/// How far from its place a hunk may stand, in lines, where others like it stand farther away.
const NEAR: usize = 20;
/// How many places are named where there are too many.
const MAX_PLACES: usize = 8;

/// How much lines have to be alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likeness {
    Exact,
    /// But for their ends: CR LF, LF, or none.
    LineEnds,
    /// But for white space in the end.
    TrailingSpace,
}

pub const LIKENESSES: [Likeness; 3] = [Likeness::Exact, Likeness::LineEnds, Likeness::TrailingSpace];

impl Likeness {
    pub fn holds(self, one: &[u8], other: &[u8]) -> bool {
        match self {
            Self::Exact => one == other,
            Self::LineEnds => without_end(one) == without_end(other),
            Self::TrailingSpace => one.trim_ascii_end() == other.trim_ascii_end(),
        }
    }
}

/// What is looked for.
pub struct Wanted<'a> {
    pub lines: &'a [&'a [u8]],
    /// The index at which it should stand.
    pub expected: Option<usize>,
    /// Where the hunk before ended: the next one is looked for behind it first.
    pub from: usize,
    /// A line that comes before.
    pub heading: &'a [u8],
}

#[derive(Debug, PartialEq, Eq)]
pub enum Place {
    At(usize, Likeness),
    /// At these indices, and perhaps more, none of which is the likeliest.
    Many(Vec<usize>),
    Nowhere,
}

/// Finds where the lines stand.
pub fn locate(file: &Lines, wanted: &Wanted) -> Place {
    if wanted.lines.is_empty() {
        return match wanted.expected {
            Some(expected) => Place::At(expected.min(file.len()), Likeness::Exact),
            None if file.is_empty() => Place::At(0, Likeness::Exact),
            None => Place::Nowhere,
        };
    }
    for likeness in LIKENESSES {
        match locate_as(file, wanted, likeness) {
            Place::Nowhere => {}
            found => return found,
        }
    }
    Place::Nowhere
}

fn locate_as(file: &Lines, wanted: &Wanted, likeness: Likeness) -> Place {
    let stands = |at: &usize| stands_at(file, wanted.lines, *at, likeness);
    let end = (file.len() + 1).saturating_sub(wanted.lines.len());
    if let Some(expected) = wanted.expected {
        for distance in 0..=NEAR {
            let above = expected.checked_sub(distance).filter(|at| *at >= wanted.from);
            let below = Some(expected + distance).filter(|at| distance > 0 && (wanted.from..end).contains(at));
            match (above.filter(stands), below.filter(stands)) {
                (Some(above), Some(below)) => return Place::Many(vec![above, below]),
                (Some(at), None) | (None, Some(at)) => return Place::At(at, likeness),
                (None, None) => {}
            }
        }
    }
    let behind: Vec<usize> = (wanted.from..end).filter(stands).take(MAX_PLACES).collect();
    // Hunks may be in another order than their places.
    let found =
        if behind.is_empty() { (0..wanted.from.min(end)).filter(stands).take(MAX_PLACES).collect() } else { behind };
    match found[..] {
        [] => Place::Nowhere,
        [at] => Place::At(at, likeness),
        _ => match below_heading(file, wanted, &found) {
            Some(at) => Place::At(at, likeness),
            None => Place::Many(found),
        },
    }
}

/// The first place below the heading, if there is a heading and it stands only once in the file.
fn below_heading(file: &Lines, wanted: &Wanted, found: &[usize]) -> Option<usize> {
    if wanted.heading.is_empty() || wanted.expected.is_some() {
        return None;
    }
    let is_heading = |at: &usize| file.get(*at).is_some_and(|line| line.trim_ascii().starts_with(wanted.heading));
    let mut headings = (0..file.len()).filter(is_heading);
    let (heading, None) = (headings.next()?, headings.next()) else { return None };
    found.iter().copied().find(|at| *at >= heading)
}

/// Whether the lines stand at an index.
pub fn stands_at(file: &Lines, wanted: &[&[u8]], at: usize, likeness: Likeness) -> bool {
    wanted.iter().enumerate().all(|(offset, line)| file.get(at + offset).is_some_and(|own| likeness.holds(own, line)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::text::lines::split;

    fn find(file: &str, lines: &str, expected: Option<usize>, heading: &str) -> Place {
        let file = Lines::new(split(file.as_bytes()));
        let lines: Vec<&[u8]> = split(lines.as_bytes()).collect();
        locate(&file, &Wanted { lines: &lines, expected, from: 0, heading: heading.as_bytes() })
    }

    fn far(before: usize, text: &str, after: usize) -> String {
        ["-\n".repeat(before), text.into(), "-\n".repeat(after)].concat()
    }

    #[test]
    fn the_nearest_place_counts() {
        assert_eq!(find("x\na\nx\n", "x\n", Some(2), ""), Place::At(2, Likeness::Exact));
        assert_eq!(find("x\na\nb\nx\n", "x\n", Some(2), ""), Place::At(3, Likeness::Exact));
        assert_eq!(find("x\na\nx\n", "x\n", Some(1), ""), Place::Many(vec![0, 2]));
    }

    #[test]
    fn a_far_place_has_to_be_the_only_one() {
        assert_eq!(find(&far(100, "x\n", 5), "x\n", Some(0), ""), Place::At(100, Likeness::Exact));
        assert_eq!(find(&far(100, "x\nx\n", 5), "x\n", Some(0), ""), Place::Many(vec![100, 101]));
        assert_eq!(find(&far(3, "", 5), "x\n", Some(0), ""), Place::Nowhere);
    }

    #[test]
    fn without_a_number_the_place_has_to_be_the_only_one_below_the_heading() {
        assert_eq!(find("a\nx\n", "x\n", None, ""), Place::At(1, Likeness::Exact));
        assert_eq!(find("x\nf:\nx\nx\n", "x\n", None, ""), Place::Many(vec![0, 2, 3]));
        assert_eq!(find("x\nf:\nx\nx\n", "x\n", None, "f:"), Place::At(2, Likeness::Exact));
        assert_eq!(find("f:\nx\nf:\nx\n", "x\n", None, "f:"), Place::Many(vec![1, 3]));
    }

    #[test]
    fn lines_may_differ_in_their_ends_if_nothing_else_is_there() {
        assert_eq!(find("x\r\nx\n", "x\n", Some(0), ""), Place::At(1, Likeness::Exact));
        assert_eq!(find("x\r\n", "x\n", Some(0), ""), Place::At(0, Likeness::LineEnds));
        assert_eq!(find("x \n", "x\n", Some(0), ""), Place::At(0, Likeness::TrailingSpace));
        assert_eq!(find(" x\n", "x\n", Some(0), ""), Place::Nowhere);
    }

    #[test]
    fn numbers_beyond_all_bounds_do_no_harm() {
        assert_eq!(find("x\n", "x\n", Some(u32::MAX as usize), ""), Place::At(0, Likeness::Exact));
        assert_eq!(find("x\n", "", Some(u32::MAX as usize), ""), Place::At(1, Likeness::Exact));
        assert_eq!(find("x\n", "", None, ""), Place::Nowhere);
        assert_eq!(find("x\n", "x\nx\nx\n", Some(0), ""), Place::Nowhere);
    }
}
