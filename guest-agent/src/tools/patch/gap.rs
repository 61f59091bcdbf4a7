//! The lines of a file while hunks are applied to it.

use std::borrow::Cow;

pub type Text<'a> = Cow<'a, [u8]>;

/// Lines with a gap among them that follows the changes, so that a change costs what it moves the gap by, however long
/// the file is.
#[derive(Debug, Default)]
pub struct Lines<'a> {
    before: Vec<Text<'a>>,
    /// Those behind the gap, the last one first.
    after: Vec<Text<'a>>,
}

impl<'a> Lines<'a> {
    pub fn new(lines: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut after: Vec<Text> = lines.map(Cow::Borrowed).collect();
        after.reverse();
        Self { before: Vec::new(), after }
    }

    pub fn len(&self) -> usize {
        self.before.len() + self.after.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(self.before.len()) {
            None => Some(&self.before[index]),
            Some(behind) => self.after.get(self.after.len().checked_sub(behind + 1)?).map(|line| &**line),
        }
    }

    /// Takes `count` lines out from `index` on, which have to be there, and leaves the gap in their place.
    pub fn take(&mut self, index: usize, count: usize) -> Vec<Text<'a>> {
        while self.before.len() > index {
            self.after.extend(self.before.pop());
        }
        while self.before.len() < index {
            self.before.extend(self.after.pop());
        }
        let kept = self.after.len() - count;
        let mut taken = self.after.split_off(kept);
        taken.reverse();
        taken
    }

    /// Puts lines in front of the gap.
    pub fn put(&mut self, lines: Vec<Text<'a>>) {
        self.before.extend(lines);
    }

    /// Whether the gap is behind the last line.
    pub fn at_end(&self) -> bool {
        self.after.is_empty()
    }

    /// The line in front of the gap.
    pub fn last_before(&mut self) -> Option<&mut Text<'a>> {
        self.before.last_mut()
    }

    pub fn into_bytes(mut self) -> Vec<u8> {
        self.after.reverse();
        let lines = self.before.iter().chain(&self.after);
        let mut bytes = Vec::with_capacity(lines.clone().map(|line| line.len()).sum());
        lines.for_each(|line| bytes.extend_from_slice(line));
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_and_put_anywhere() {
        let mut lines = Lines::new(b"abcdef".chunks(1));
        assert_eq!(lines.take(4, 1), [&b"e"[..]]);
        lines.put(vec![Cow::Borrowed(b"E"), Cow::Borrowed(b"!")]);
        assert_eq!(lines.take(0, 2), [&b"a"[..], b"b"]);
        lines.put(vec![Cow::Borrowed(b"x")]);
        assert_eq!((0..7).map_while(|index| lines.get(index)).collect::<Vec<_>>().concat(), b"xcdE!f");
        assert_eq!((lines.len(), lines.get(6), lines.at_end()), (6, None, false));
        lines.take(6, 0);
        assert!(lines.at_end());
        assert_eq!(lines.into_bytes(), b"xcdE!f");
    }
}
