//! Applying hunks to a content.

use std::borrow::Cow;

use super::earlier::find_earlier;
use super::explain::{explain, explain_earlier};
use super::gap::{Lines, Text};
use super::locate::{locate, Likeness, Place, Wanted};
use super::model::{Hunk, Sign};
use crate::tools::text::lines::{ends_with_crlf, split, without_end, without_newline};

#[derive(Debug, PartialEq, Eq)]
pub struct Applied {
    pub content: Vec<u8>,
    /// The farthest that a hunk stood from where it said, in lines.
    pub offset_lines: usize,
}

/// Applies the hunks, or says which one does not fit and why.
pub fn apply(content: &[u8], hunks: &[Hunk]) -> Result<Applied, String> {
    let mut file = Lines::new(split(content));
    let crlf = mostly_crlf(content);
    let mut progress = Progress::default();
    for (number, hunk) in hunks.iter().enumerate() {
        let old = hunk.before();
        let wanted = progress.wanted(hunk, &old);
        let place = locate(&file, &wanted);
        let (at, likeness) = match (find_earlier(&file, hunk, &wanted, &place), place) {
            (None, Place::At(at, likeness)) => (at, likeness),
            (earlier, place) => {
                let title = format!("hunk {} of {} ({})", number + 1, hunks.len(), hunk.title());
                let why = match earlier {
                    Some(earlier) => explain_earlier(&earlier, &place),
                    None => explain(&file, hunk, &wanted, &place),
                };
                return Err(format!("{title} {why}"));
            }
        };
        progress.note(hunk, at, old.len(), wanted.expected);
        let taken = file.take(at, old.len());
        let ends = Ends::of(&old, &taken, likeness, crlf);
        insert(&mut file, hunk, taken, &ends);
    }
    Ok(Applied { content: file.into_bytes(), offset_lines: progress.farthest })
}

/// Where the hunks before have been applied.
#[derive(Default)]
struct Progress {
    /// How many lines the file has got through them.
    grown: isize,
    /// How far the last one stood from where it said, in lines.
    offset: isize,
    farthest: usize,
    /// The end of the last one.
    end: usize,
}

impl Progress {
    fn wanted<'a>(&self, hunk: &'a Hunk, old: &'a [&'a [u8]]) -> Wanted<'a> {
        // Where nothing is replaced, the number is that of the line before.
        let first = hunk.start.map(|start| if old.is_empty() { start } else { start.saturating_sub(1) });
        let expected = first.map(|first| first.saturating_add_signed(self.grown).saturating_add_signed(self.offset));
        Wanted { lines: old, expected, from: self.end, heading: hunk.heading }
    }

    fn note(&mut self, hunk: &Hunk, at: usize, old_count: usize, expected: Option<usize>) {
        if let Some(expected) = expected {
            self.offset += at as isize - expected as isize;
            self.farthest = self.farthest.max(self.offset.unsigned_abs());
        }
        let new_count = hunk.lines.iter().filter(|line| line.sign != Sign::Removed).count();
        self.grown += new_count as isize - old_count as isize;
        self.end = at + new_count;
    }
}

fn mostly_crlf(content: &[u8]) -> bool {
    let (mut crlf, mut all) = (0, 0);
    for line in split(content) {
        crlf += usize::from(ends_with_crlf(line));
        all += 1;
    }
    crlf * 2 > all
}

/// How the ends of new lines become those of the file.
struct Ends {
    /// The file has the carriage returns that the patch lacks, or lacks those that the patch has.
    crlf: Option<bool>,
    /// Whether the last line has a newline, where patch and file do not agree about that.
    newline: Option<bool>,
}

impl Ends {
    fn of(old: &[&[u8]], taken: &[Text], likeness: Likeness, crlf: bool) -> Self {
        if old.is_empty() {
            return Self { crlf: crlf.then_some(true), newline: None };
        }
        if likeness == Likeness::Exact {
            return Self { crlf: None, newline: None };
        }
        let has_cr = |line: &[u8]| without_newline(line).ends_with(b"\r");
        let differing = old.iter().zip(taken).find(|(wanted, own)| has_cr(wanted) != has_cr(own));
        let newline = |line: &[u8]| line.ends_with(b"\n");
        let last = old.last().zip(taken.last()).filter(|(wanted, own)| newline(wanted) != newline(own));
        Self { crlf: differing.map(|(_, own)| has_cr(own)), newline: last.map(|(_, own)| newline(own)) }
    }

    fn adapt<'a>(&self, line: &Text<'a>) -> Text<'a> {
        let end: &[u8] = match self.crlf {
            Some(true) => b"\r\n",
            Some(false) => b"\n",
            None => return line.clone(),
        };
        let end = if line.ends_with(b"\n") { end } else { b"" };
        Cow::Owned([without_end(line), end].concat())
    }

    fn newline(&self) -> &'static [u8] {
        if self.crlf == Some(true) {
            b"\r\n"
        } else {
            b"\n"
        }
    }
}

/// Puts what the hunk leaves behind into the place of what was taken out.
fn insert<'a>(file: &mut Lines<'a>, hunk: &Hunk<'a>, taken: Vec<Text<'a>>, ends: &Ends) {
    let mut own = taken.into_iter();
    let mut made: Vec<Text> = Vec::with_capacity(hunk.lines.len());
    for line in &hunk.lines {
        match line.sign {
            Sign::Context => made.extend(own.next()),
            Sign::Removed => drop(own.next()),
            Sign::Added => made.push(ends.adapt(&line.text)),
        }
    }
    if made.is_empty() {
        return;
    }
    if let Some(line) = file.last_before() {
        complete(line, ends);
    }
    let last = made.len() - 1;
    made[..last].iter_mut().for_each(|line| complete(line, ends));
    if !file.at_end() || ends.newline == Some(true) {
        complete(&mut made[last], ends);
    } else if ends.newline == Some(false) {
        made[last] = Cow::Owned(
            if ends.crlf == Some(true) { without_end(&made[last]) } else { without_newline(&made[last]) }.to_vec(),
        );
    }
    file.put(made);
}

/// Gives a line that is not the last one any more its newline.
fn complete(line: &mut Text, ends: &Ends) {
    if !line.ends_with(b"\n") {
        line.to_mut().extend(ends.newline());
    }
}
