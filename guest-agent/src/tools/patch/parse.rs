//! Reading a patch: a unified diff, with or without git's headers, as people, programs and language models write them.
//!
//! What stands between the parts of a patch is ignored, as by git and patch: prose, Markdown fences, mail headers.

use std::borrow::Cow;

use super::hunks::{self, is_file_header};
use super::model::{Body, FilePatch, Hunk, Moved};
use super::names::{read_git_names, read_name, read_plain_name};
use crate::tools::text::{binary, lines};
use crate::tools::{Code, ToolError};

/// A patch without the carriage returns that a mail program or an editor has given to all of its lines; those of the
/// files' own lines stay.
pub fn normalized(patch: &[u8]) -> Cow<'_, [u8]> {
    let is_header =
        |line: &&[u8]| [&b"--- "[..], b"+++ ", b"@@", b"diff --git "].iter().any(|start| line.starts_with(start));
    if !lines::split(patch).find(is_header).is_some_and(lines::ends_with_crlf) {
        return Cow::Borrowed(patch);
    }
    let stripped = lines::split(patch).map(|line| match line.strip_suffix(b"\r\n") {
        Some(text) => [text, b"\n"].concat(),
        None => line.to_vec(),
    });
    Cow::Owned(stripped.collect::<Vec<_>>().concat())
}

/// Reads a patch. Fails with `bad_patch` where it is none.
pub fn parse(patch: &[u8]) -> Result<Vec<FilePatch<'_>>, ToolError> {
    let mut parser = Parser { lines: lines::split(patch).collect(), at: 0 };
    let mut files = Vec::new();
    while parser.at < parser.lines.len() {
        let line = parser.lines[parser.at];
        if line.starts_with(b"diff --git ") || is_file_header(&parser.lines, parser.at) {
            files.push(parser.file()?);
        } else if line.starts_with(b"diff --cc ") || line.starts_with(b"diff --combined ") || line.starts_with(b"@@@") {
            return Err(parser.wrong("is of a diff of several files at once, which cannot be applied"));
        } else if line.starts_with(b"@@") {
            return Err(parser.wrong("begins a hunk, but no `--- old name` and `+++ new name` tell of which file"));
        } else {
            parser.at += 1;
        }
    }
    if files.is_empty() {
        let missing =
            "there is no file in the patch: it has to be a unified diff with lines `--- a/name`, `+++ b/name` and `@@`";
        return Err(ToolError::new(Code::BadPatch, missing));
    }
    Ok(files)
}

struct Parser<'a> {
    lines: Vec<&'a [u8]>,
    at: usize,
}

impl<'a> Parser<'a> {
    fn wrong(&self, why: &str) -> ToolError {
        let line = self.lines.get(self.at).copied().unwrap_or_default();
        let line = lines::without_end(line);
        let shown = String::from_utf8_lossy(&line[..line.len().min(100)]);
        ToolError::new(Code::BadPatch, format!("line {} of the patch ({shown:?}) {why}", self.at + 1))
    }

    fn file(&mut self) -> Result<FilePatch<'a>, ToolError> {
        let mut file = FilePatch { line: self.at + 1, ..FilePatch::default() };
        if let Some(names) = self.lines[self.at].strip_prefix(b"diff --git ") {
            file.git_names = read_git_names(names);
            self.at += 1;
            while self.at < self.lines.len() && read_extended(self.lines[self.at], &mut file) {
                self.at += 1;
            }
        }
        if self.lines.get(self.at).is_some_and(|line| line.starts_with(b"GIT binary patch")) {
            file.body = self.binary()?;
            return Ok(file);
        }
        if self.at < self.lines.len() && is_file_header(&self.lines, self.at) {
            file.old = Some(read_name(&self.lines[self.at][4..]));
            file.new = Some(read_name(&self.lines[self.at + 1][4..]));
            self.at += 2;
        }
        if file.body != Body::Withheld {
            file.body = Body::Hunks(self.hunks()?);
        }
        Ok(file)
    }

    fn hunks(&mut self) -> Result<Vec<Hunk<'a>>, ToolError> {
        let mut found = Vec::new();
        loop {
            let blank = self.lines[self.at..].iter().take_while(|line| line.trim_ascii().is_empty()).count();
            let next = self.lines.get(self.at + blank);
            if !next.is_some_and(|line| line.starts_with(b"@@") && !line.starts_with(b"@@@")) {
                return Ok(found);
            }
            self.at += blank;
            match hunks::read(&self.lines, self.at) {
                Ok((hunk, end)) => {
                    if hunk.lines.is_empty() {
                        return Err(self.wrong("begins a hunk without lines"));
                    }
                    found.push(hunk);
                    self.at = end;
                }
                Err(line) => {
                    self.at = line;
                    return Err(self.wrong("is no part of a hunk: its lines begin with a space, `+` or `-`"));
                }
            }
        }
    }

    fn binary(&mut self) -> Result<Body<'a>, ToolError> {
        self.at += 1;
        let own = self.lines[self.at..].iter().map(|line| lines::without_end(line));
        let rest: Vec<&[u8]> = own.take_while(|line| !line.trim_ascii().is_empty()).collect();
        let (block, count) =
            binary::read_block(&rest).map_err(|why| self.wrong(&format!("begins a binary patch that holds {why}")))?;
        self.at += count;
        Ok(Body::Binary(block))
    }
}

/// Takes a line of git's header; `false` if it is something else.
fn read_extended<'a>(line: &'a [u8], file: &mut FilePatch<'a>) -> bool {
    let line = lines::without_end(line);
    let Some((key, value)) = KEYS.iter().find_map(|key| Some((*key, line.strip_prefix(key.as_bytes())?))) else {
        return false;
    };
    let moved = file.moved.get_or_insert_default();
    match key {
        "rename from " => moved.from = read_plain_name(value),
        "rename to " => moved.to = read_plain_name(value),
        "copy from " => (moved.from, moved.is_copy) = (read_plain_name(value), true),
        "copy to " => moved.to = read_plain_name(value),
        "old mode " => file.old_mode = mode(value),
        "new mode " => file.new_mode = mode(value),
        "deleted file mode " => (file.is_deleted, file.old_mode) = (true, mode(value)),
        "new file mode " => (file.is_new, file.new_mode) = (true, mode(value)),
        "index " => read_index(value, file),
        "Binary files " => file.body = Body::Withheld,
        _ => {}
    }
    file.moved.take_if(|moved| *moved == Moved::default());
    true
}

const KEYS: [&str; 12] = [
    "rename from ",
    "rename to ",
    "copy from ",
    "copy to ",
    "old mode ",
    "new mode ",
    "deleted file mode ",
    "new file mode ",
    "similarity index ",
    "dissimilarity index ",
    "index ",
    "Binary files ",
];

fn mode(value: &[u8]) -> Option<u32> {
    u32::from_str_radix(std::str::from_utf8(value).ok()?.trim(), 8).ok()
}

/// `index old..new mode`, the last of which stands for both where it is there.
fn read_index<'a>(value: &'a [u8], file: &mut FilePatch<'a>) {
    let Ok(value) = std::str::from_utf8(value) else { return };
    let mut words = value.split_ascii_whitespace();
    file.ids = words.next().and_then(|ids| ids.split_once(".."));
    if let Some(both) = words.next().and_then(|word| mode(word.as_bytes())) {
        file.old_mode.get_or_insert(both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tools::patch::model::Name;

    #[test]
    fn what_is_around_a_patch_is_ignored() {
        let patch = b"Here it is:\n\n```diff\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n```\n- and some remarks\n";
        let files = parse(patch).unwrap();
        assert_eq!(files.len(), 1);
        assert_eq!(files[0].hunks().len(), 1);
        assert_eq!(files[0].new, Some(Name::Path(b"b/x".to_vec())));
    }

    #[test]
    fn headers_of_git_are_read() {
        let patch =
            b"diff --git a/x b/y\nold mode 100644\nnew mode 100755\nsimilarity index 90%\nrename from x\nrename to y\n\
            index 1234567..89abcde\n--- a/x\n+++ b/y\n@@ -1 +1 @@\n-a\n+b\ndiff --git a/z b/z\nnew file mode 100644\n\
            index 0000000..e69de29\n";
        let files = parse(patch).unwrap();
        assert_eq!((files[0].old_mode, files[0].new_mode), (Some(0o100_644), Some(0o100_755)));
        assert_eq!(files[0].moved, Some(Moved { from: b"x".to_vec(), to: b"y".to_vec(), is_copy: false }));
        assert_eq!(files[0].ids, Some(("1234567", "89abcde")));
        assert!(files[1].is_new && files[1].hunks().is_empty() && files[1].moved.is_none());
    }

    #[test]
    fn carriage_returns_of_the_patch_itself_go_away() {
        let patch = b"--- a/x\r\n+++ b/x\r\n@@ -1 +1 @@\r\n-a\r\n+b\r\n";
        assert_eq!(&*normalized(patch), b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n");
        let patch = b"--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\r\n+b\r\n";
        assert_eq!(&*normalized(patch), patch);
    }

    #[test]
    fn what_is_no_patch_is_told() {
        for (patch, message) in [
            ("", "there is no file"),
            ("hello\n", "there is no file"),
            ("@@ -1 +1 @@\n-a\n+b\n", "tell of which file"),
            ("--- a/x\n+++ b/x\n@@ -1 +1 @@\n", "a hunk without lines"),
            ("--- a/x\n+++ b/x\n@@ -1,2 +1,2 @@\n a\nb\n+c\n", "line 5 of the patch (\"b\") is no part of a hunk"),
            ("diff --cc x\n", "several files"),
            ("diff --git a/x b/x\nindex 1..2\nGIT binary patch\nliteral 3\n!!!\n", "a line without a length"),
        ] {
            let error = parse(patch.as_bytes()).unwrap_err();
            assert_eq!(error.code, Code::BadPatch);
            assert!(error.message.contains(message), "{}", error.message);
        }
    }
}
