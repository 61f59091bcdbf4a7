//! A patch as it was read.

use std::borrow::Cow;

use crate::tools::text::binary::Block;
use crate::tools::text::lines;

/// What a patch says about one file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FilePatch<'a> {
    /// The line of the patch at which it begins, from one.
    pub line: usize,
    /// The two names after `diff --git`, if they can be told apart.
    pub git_names: Option<(Vec<u8>, Vec<u8>)>,
    /// The name after `---`.
    pub old: Option<Name>,
    /// The name after `+++`.
    pub new: Option<Name>,
    pub old_mode: Option<u32>,
    pub new_mode: Option<u32>,
    /// It says `new file mode`.
    pub is_new: bool,
    /// It says `deleted file mode`.
    pub is_deleted: bool,
    pub moved: Option<Moved>,
    /// The names of the old and new contents in git, as far as they are told.
    pub ids: Option<(&'a str, &'a str)>,
    pub body: Body<'a>,
}

/// `rename from`, `rename to` and the same with `copy`.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Moved {
    pub from: Vec<u8>,
    pub to: Vec<u8>,
    pub is_copy: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Name {
    /// `/dev/null`: there is no file.
    Nothing,
    Path(Vec<u8>),
}

#[derive(Debug, PartialEq, Eq)]
pub enum Body<'a> {
    Hunks(Vec<Hunk<'a>>),
    Binary(Block),
    /// "Binary files differ", without their contents.
    Withheld,
}

impl Default for Body<'_> {
    fn default() -> Self {
        Self::Hunks(Vec::new())
    }
}

impl FilePatch<'_> {
    pub fn hunks(&self) -> &[Hunk<'_>] {
        match &self.body {
            Body::Hunks(hunks) => hunks,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    Context,
    Removed,
    Added,
}

/// A line of a hunk, with its newline unless the patch says that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line<'a> {
    pub sign: Sign,
    pub text: Cow<'a, [u8]>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hunk<'a> {
    /// The whole `@@` line.
    pub header: &'a [u8],
    /// Where it says that it begins in the old file, counted from one; nothing if it does not say.
    pub start: Option<usize>,
    /// What stands after the numbers, or instead of them: a line that comes before the hunk.
    pub heading: &'a [u8],
    pub lines: Vec<Line<'a>>,
}

impl<'a> Hunk<'a> {
    /// The lines that it wants to find.
    pub fn before(&self) -> Vec<&[u8]> {
        self.without(Sign::Added)
    }

    /// The lines that it wants to leave behind.
    pub fn after(&self) -> Vec<&[u8]> {
        self.without(Sign::Removed)
    }

    fn without(&self, sign: Sign) -> Vec<&[u8]> {
        self.lines.iter().filter(|line| line.sign != sign).map(|line| &*line.text).collect()
    }

    /// The header as text, without its end.
    pub fn title(&self) -> String {
        let title = lines::without_end(self.header);
        String::from_utf8_lossy(&title[..title.len().min(100)]).into_owned()
    }
}
