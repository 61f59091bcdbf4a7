//! Reading hunks.
//!
//! The numbers in an `@@` line are often wrong where a language model has written it. So they are believed if what
//! follows the lines that they count does not look like more of the hunk; otherwise the lines are counted.

use std::borrow::Cow;

use super::model::{Hunk, Line, Sign};
use crate::tools::text::lines;

/// What an `@@` line says.
#[derive(Debug, Default, PartialEq, Eq)]
struct Header<'a> {
    start: Option<usize>,
    /// How many lines of the old and of the new file the hunk has.
    counts: Option<(usize, usize)>,
    heading: &'a [u8],
}

/// Reads the hunk whose `@@` line is `lines[at]`. Returns it and the index of the line behind it.
///
/// `Err` with the index of a line that is no part of a hunk, but where the hunk should have gone on.
pub fn read<'a>(all: &[&'a [u8]], at: usize) -> Result<(Hunk<'a>, usize), usize> {
    let header = parse_header(all[at]);
    let first = at + 1;
    let counted = header.counts.and_then(|counts| end_by_counts(all, first, counts));
    let end = match counted {
        Some(end) => end,
        None => end_by_looks(all, first)?,
    };
    let hunk =
        Hunk { header: all[at], start: header.start, heading: header.heading, lines: read_lines(&all[first..end]) };
    Ok((hunk, end))
}

fn parse_header(line: &[u8]) -> Header<'_> {
    let line = lines::without_end(line);
    let text = line.strip_prefix(b"@@").unwrap_or(line);
    let (middle, heading) = match find(text, b"@@") {
        Some(end) => (&text[..end], text[end + 2..].trim_ascii()),
        None => (text, &b""[..]),
    };
    let mut header = Header { heading, ..Header::default() };
    let numbers = std::str::from_utf8(middle).ok().and_then(parse_numbers);
    match numbers {
        Some((start, counts)) => (header.start, header.counts) = (Some(start), counts),
        // `@@ def f():` or `@@ def f(): @@` name a line instead.
        None if heading.is_empty() => header.heading = middle.trim_ascii(),
        None => {}
    }
    if header.heading.iter().all(|byte| *byte == b'.') {
        header.heading = b"";
    }
    header
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// `-1,2 +3,4`: where it begins, and how many lines there are.
fn parse_numbers(text: &str) -> Option<(usize, Option<(usize, usize)>)> {
    let mut words = text.split_ascii_whitespace();
    let (start, old_count) = parse_range(words.next()?.strip_prefix('-')?)?;
    let new = words.next().and_then(|word| parse_range(word.strip_prefix('+')?));
    Some((start, new.map(|(_, new_count)| (old_count, new_count))))
}

fn parse_range(text: &str) -> Option<(usize, usize)> {
    let (start, count) = text.split_once(',').unwrap_or((text, "1"));
    let number = |text: &str| text.parse::<u32>().ok().map(|number| number as usize);
    Some((number(start)?, number(count)?))
}

/// Where the hunk ends if its numbers are right; nothing if they cannot be.
fn end_by_counts(all: &[&[u8]], first: usize, (mut old, mut new): (usize, usize)) -> Option<usize> {
    let mut at = first;
    while old > 0 || new > 0 {
        match sign_of(all.get(at)?)? {
            Some(Sign::Context) => (old, new) = (old.checked_sub(1)?, new.checked_sub(1)?),
            Some(Sign::Removed) => old = old.checked_sub(1)?,
            Some(Sign::Added) => new = new.checked_sub(1)?,
            None => {}
        }
        at += 1;
    }
    if all.get(at).is_some_and(|line| line.starts_with(b"\\")) {
        at += 1;
    }
    let next = all[at..].iter().position(|line| !line.trim_ascii().is_empty()).map(|blank| at + blank);
    let goes_on = next.is_some_and(|next| {
        matches!(all[next][0], b' ' | b'+' | b'-') && !is_file_header(all, next) && !is_signature(all, next)
    });
    (!goes_on).then_some(at)
}

/// Where the hunk ends if one believes only what its lines look like.
fn end_by_looks(all: &[&[u8]], first: usize) -> Result<usize, usize> {
    let mut at = first;
    while at < all.len() && sign_of(all[at]).is_some() && !is_file_header_in_hunk(all, at) {
        at += 1;
    }
    if let Some(line) = all.get(at) {
        let ends_here = is_boundary(line) || is_file_header_in_hunk(all, at);
        if !ends_here && goes_on_behind(&all[at..]) {
            return Err(at);
        }
    }
    // Blank lines in the end stand between hunks rather than in them.
    while at > first && lines::without_end(all[at - 1]).is_empty() {
        at -= 1;
    }
    Ok(at)
}

/// Whether lines that change something follow a line that is no part of a hunk, before anything else begins.
fn goes_on_behind(rest: &[&[u8]]) -> bool {
    let own = rest.iter().take_while(|line| !is_boundary(line));
    own.filter(|line| !line.starts_with(b"--- ") && !line.starts_with(b"+++ "))
        .any(|line| line.starts_with(b"+") || line.starts_with(b"-"))
}

/// Whether a line ends a hunk for sure.
fn is_boundary(line: &[u8]) -> bool {
    [&b"@@"[..], b"diff ", b"```", b"Index: ", b"~~~"].iter().any(|start| line.starts_with(start))
}

/// Whether the names of a file begin here.
pub fn is_file_header(all: &[&[u8]], at: usize) -> bool {
    all[at].starts_with(b"--- ") && all.get(at + 1).is_some_and(|next| next.starts_with(b"+++ "))
}

/// The same where it could as well be a removed and an added line.
fn is_file_header_in_hunk(all: &[&[u8]], at: usize) -> bool {
    is_file_header(all, at) && all.get(at + 2).is_none_or(|line| line.starts_with(b"@@"))
}

/// The `-- ` below a patch that is a mail, behind which comes a version.
fn is_signature(all: &[&[u8]], at: usize) -> bool {
    let next = all.get(at + 1).and_then(|line| line.first());
    lines::without_end(all[at]) == b"-- " && !next.is_some_and(|first| b" +-@\\".contains(first))
}

/// What a line of a hunk is: `Some(None)` for the remark that a newline is missing, `None` if it is no such line.
fn sign_of(line: &[u8]) -> Option<Option<Sign>> {
    match line.first() {
        Some(b' ') => Some(Some(Sign::Context)),
        Some(b'-') => Some(Some(Sign::Removed)),
        Some(b'+') => Some(Some(Sign::Added)),
        Some(b'\\') => Some(None),
        // A blank line of context that has lost its space.
        _ if lines::without_end(line).is_empty() => Some(Some(Sign::Context)),
        _ => None,
    }
}

fn read_lines<'a>(all: &[&'a [u8]]) -> Vec<Line<'a>> {
    let mut read: Vec<Line> = Vec::with_capacity(all.len());
    for raw in all {
        match sign_of(raw) {
            Some(Some(sign)) => read.push(Line { sign, text: text_of(raw) }),
            _ => without_newline(&mut read),
        }
    }
    read
}

fn text_of(raw: &[u8]) -> Cow<'_, [u8]> {
    let blank = lines::without_end(raw).is_empty();
    let text = if blank { raw } else { &raw[1..] };
    if text.ends_with(b"\n") {
        Cow::Borrowed(text)
    } else {
        Cow::Owned([text, b"\n"].concat())
    }
}

/// The remark that a newline is missing is about the line before it.
fn without_newline(read: &mut [Line]) {
    let Some(last) = read.last_mut() else { return };
    last.text = match &last.text {
        Cow::Borrowed(text) => Cow::Borrowed(lines::without_newline(text)),
        Cow::Owned(text) => Cow::Owned(lines::without_newline(text).to_vec()),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunk(text: &str) -> Result<(Hunk<'_>, usize), usize> {
        read(&lines::split(text.as_bytes()).collect::<Vec<_>>(), 0)
    }

    fn shape(text: &str) -> (usize, String) {
        let (hunk, end) = hunk(text).unwrap();
        let signs = hunk.lines.iter().map(|line| match line.sign {
            Sign::Context => ' ',
            Sign::Removed => '-',
            Sign::Added => '+',
        });
        (end, signs.collect())
    }

    #[test]
    fn headers_may_lack_their_numbers() {
        let parse = |text: &'static str| parse_header(text.as_bytes());
        let header = parse("@@ -3,4 +5 @@ def f():\n");
        assert_eq!(header, Header { start: Some(3), counts: Some((4, 1)), heading: b"def f():" });
        assert_eq!(parse("@@\n"), Header::default());
        assert_eq!(parse("@@ ... @@\n"), Header::default());
        assert_eq!(parse("@@ def f():\n").heading, b"def f():");
        assert_eq!(parse("@@ class A @@\n").heading, b"class A");
        assert_eq!(parse("@@ -12 @@\n"), Header { start: Some(12), ..Header::default() });
        assert_eq!(parse("@@ -99999999999999999999,1 +1 @@\n").start, None);
    }

    #[test]
    fn right_numbers_tell_removed_lines_from_headers() {
        assert_eq!(shape("@@ -1,2 +1,2 @@\n--- a\n+++ b\n c\n"), (4, "-+ ".into()));
        assert_eq!(shape("@@ -1 +1 @@\n-a\n+b\n--- c\n+++ d\n@@ -1 +1 @@\n"), (3, "-+".into()));
    }

    #[test]
    fn wrong_numbers_do_not_count() {
        assert_eq!(shape("@@ -1,9 +1,9 @@\n a\n-b\n+c\n"), (4, " -+".into()));
        assert_eq!(shape("@@ -1,1 +1,1 @@\n a\n-b\n+c\n@@ -5 +5 @@\n"), (4, " -+".into()));
        assert_eq!(shape("@@ -1 +1 @@\n-b\n+c\n\n d\n```\n"), (5, "-+  ".into()));
        assert_eq!(shape("@@ -1,3 +1,3 @@\n-b\n+c\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n"), (3, "-+".into()));
    }

    #[test]
    fn what_follows_a_hunk_is_not_part_of_it() {
        assert_eq!(shape("@@ -1 +1 @@\n-b\n+c\n-- \n2.39.5\n\nFrom 1234\n- x\n"), (3, "-+".into()));
        assert_eq!(shape("@@ @@\n-b\n+c\n\n\n```\n- no line of it\n"), (3, "-+".into()));
        assert_eq!(shape("@@ @@\n-b\n+c\nThat is all.\n"), (3, "-+".into()));
    }

    #[test]
    fn a_hunk_with_a_line_that_is_none_is_refused() {
        assert_eq!(hunk("@@ -1,3 +1,3 @@\n a\nb\n-c\n+d\n").unwrap_err(), 2);
    }

    #[test]
    fn a_missing_newline_belongs_to_the_line_before() {
        let (hunk, end) = hunk("@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n").unwrap();
        assert_eq!((hunk.before(), hunk.after(), end), (vec![&b"a"[..]], vec![&b"a\n"[..]], 4));
    }
}
