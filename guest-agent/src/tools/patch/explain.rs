//! Why a hunk does not fit, in words that tell what to change in it.

use super::earlier::Earlier;
use super::gap::Lines;
use super::locate::{stands_at, Likeness, Place, Wanted};
use super::model::{Hunk, Sign};
use crate::tools::text::lines::without_end;

/// How much is shown of either side.
const SHOWN_LINES: usize = 12;
const SHOWN_BYTES: usize = 200;
/// How many lines may be compared to find the place that is the most like the hunk.
const MAX_COMPARED: usize = 4_000_000;

/// What is the matter with the hunk, as the end of a sentence that begins with its name, and the lines.
pub fn explain(file: &Lines, hunk: &Hunk, wanted: &Wanted, place: &Place) -> String {
    if let Place::Many(places) = place {
        let numbers: Vec<String> = places.iter().map(|at| (at + 1).to_string()).collect();
        let where_to = if wanted.expected.is_some() { "it says" } else { "other lines of the file say" };
        return format!(
            "fits in several places (lines {}), and none of them is where {where_to}; give it more lines of context",
            numbers.join(", ")
        );
    }
    if wanted.lines.is_empty() {
        return "has neither line numbers nor lines that stand in the file, so it is not known where it belongs".into();
    }
    let mut text = String::from("does not fit.");
    if is_applied_already(file, hunk) {
        text.push_str(" It looks as if it were applied already.");
    }
    let first = hunk.start.map(|start| format!(" from line {start} on")).unwrap_or_default();
    let nearest = nearest(file, wanted);
    let differing = nearest.and_then(|at| first_difference(file, wanted.lines, at));
    let from = differing.map_or(0, |offset| offset.saturating_sub(SHOWN_LINES / 2));
    let expected = wanted.lines.iter().skip(from).copied();
    text.push_str(&format!("\nThe patch expects{first}{}:\n", part(from)));
    show(&mut text, expected);
    match nearest {
        None => text.push_str("None of these lines stands in the file.\n"),
        Some(at) => {
            text.push_str(&format!("The nearest that stands in the file, from line {} on:\n", at + from + 1));
            let count = wanted.lines.len() - from;
            show(&mut text, (at + from..at + from + count).map_while(|index| file.get(index)));
            if let Some(offset) = differing {
                text.push_str(&format!("The first difference is in line {} of the file.\n", at + offset + 1));
            }
        }
    }
    text
}

/// The same for a hunk that has been applied before, as it looks.
pub fn explain_earlier(earlier: &Earlier, place: &Place) -> String {
    let otherwise = match place {
        _ if earlier.fits_again => {
            "; to add its lines once more all the same, give it more lines of context after them"
        }
        Place::Nowhere => "",
        _ => "; if it is meant for another place, correct its line numbers",
    };
    let line = earlier.at + 1;
    format!(
        "seems to be applied already: what it would make stands in the file from line {line} on. Then it is not \
        needed{otherwise}"
    )
}

fn part(from: usize) -> String {
    match from {
        0 => String::new(),
        _ => format!(", after {from} lines that are there"),
    }
}

fn show<'a>(text: &mut String, mut lines: impl Iterator<Item = &'a [u8]>) {
    for line in lines.by_ref().take(SHOWN_LINES) {
        let line = without_end(line);
        let cut = &line[..line.len().min(SHOWN_BYTES)];
        text.push_str("    ");
        text.push_str(&String::from_utf8_lossy(cut));
        text.push_str(if cut.len() < line.len() { "...\n" } else { "\n" });
    }
    let more = lines.count();
    if more > 0 {
        text.push_str(&format!("    ({more} more)\n"));
    }
}

/// The place where most lines are those of the hunk; nothing if nowhere any is.
fn nearest(file: &Lines, wanted: &Wanted) -> Option<usize> {
    let expected = wanted.expected.unwrap_or(wanted.from).min(file.len());
    let reach = MAX_COMPARED / wanted.lines.len();
    let all = expected.saturating_sub(reach / 2)..file.len().min(expected + reach / 2 + 1);
    let alike = |at: usize| {
        let same = |(offset, line): &(usize, &&[u8])| {
            let own = file.get(at + offset).unwrap_or_default();
            !line.trim_ascii().is_empty() && Likeness::TrailingSpace.holds(own, line)
        };
        wanted.lines.iter().enumerate().filter(same).count()
    };
    let best = all.map(|at| (alike(at), std::cmp::Reverse(at.abs_diff(expected)), at)).max()?;
    (best.0 > 0).then_some(best.2)
}

fn first_difference(file: &Lines, wanted: &[&[u8]], at: usize) -> Option<usize> {
    let differs = |(offset, line): &(usize, &&[u8])| {
        file.get(at + offset).is_none_or(|own| !Likeness::TrailingSpace.holds(own, line))
    };
    wanted.iter().enumerate().find(differs).map(|(offset, _)| offset)
}

/// Whether what the hunk wants to leave behind stands in the file.
fn is_applied_already(file: &Lines, hunk: &Hunk) -> bool {
    let adds = hunk.lines.iter().any(|line| line.sign == Sign::Added);
    let new = hunk.after();
    adds && (0..file.len()).any(|at| stands_at(file, &new, at, Likeness::TrailingSpace))
}
