//! Names of files in patches: how they are written, and which files of the workspace they mean.

use super::model::{FilePatch, Name};
use crate::tools::paths::WORKSPACE;
use crate::tools::text::quote::unquoted;
use crate::tools::text::{is_git_folder, lines};
use crate::tools::{Code, ToolError};

/// Reads what stands after `---` or `+++`: a name, perhaps in quotes, perhaps with a time behind it.
pub fn read_name(text: &[u8]) -> Name {
    let text = lines::without_end(text);
    let name = match unquoted(text) {
        Some((name, _)) => name,
        None => without_time(text).trim_ascii_end().to_vec(),
    };
    if name == b"/dev/null" {
        Name::Nothing
    } else {
        Name::Path(name)
    }
}

/// Reads a name that has nothing behind it, such as that of `rename from`.
pub fn read_plain_name(text: &[u8]) -> Vec<u8> {
    let text = lines::without_end(text);
    unquoted(text).map_or_else(|| text.to_vec(), |(name, _)| name)
}

/// A tabulator ends a name; where there is none, a date with its time does.
fn without_time(text: &[u8]) -> &[u8] {
    if let Some(end) = text.iter().position(|byte| *byte == b'\t') {
        return &text[..end];
    }
    let is_time = |window: &[u8]| {
        window.iter().zip(b" 0000-00-00 00:00").all(|(byte, shape)| match shape {
            b'0' => byte.is_ascii_digit(),
            _ => byte == shape,
        })
    };
    match text.windows(17).position(is_time) {
        Some(end) => &text[..end],
        None => text,
    }
}

/// Reads the two names after `diff --git`. Without quotes only names that are the same but for their first folder can
/// be told apart for sure.
pub fn read_git_names(text: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let text = lines::without_end(text);
    if let Some((old, rest)) = unquoted(text) {
        return Some((old, read_plain_name(rest.strip_prefix(b" ")?)));
    }
    if let Some(quote) = text.windows(2).position(|pair| pair == b" \"") {
        return Some((text[..quote].to_vec(), unquoted(&text[quote + 1..])?.0));
    }
    let spaces = || text.iter().enumerate().filter(|(_, byte)| **byte == b' ').map(|(at, _)| at);
    let same = |at: &usize| {
        let (old, new) = (&text[..*at], &text[*at + 1..]);
        old == new || (old.len() == new.len() && inside_first_folder(old) == inside_first_folder(new))
    };
    let only = || spaces().next().filter(|_| spaces().count() == 1);
    let at = spaces().find(same).or_else(only)?;
    Some((text[..at].to_vec(), text[at + 1..].to_vec()))
}

/// What is left of a path without its first part, if anything is.
fn inside_first_folder(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().position(|byte| *byte == b'/')?;
    Some(&path[slash + 1..]).filter(|rest| !rest.is_empty())
}

/// The files that a part of a patch is about, as paths relative to the workspace.
#[derive(Debug, PartialEq, Eq)]
pub struct Target {
    /// The file that has to be there; nothing if one is made.
    pub old: Option<Vec<u8>>,
    /// The file that is there afterwards; nothing if it is deleted.
    pub new: Option<Vec<u8>>,
}

/// Finds out which files are meant. `exists` tells what is there now.
pub fn target(patch: &FilePatch, exists: &dyn Fn(&[u8]) -> bool) -> Result<Target, ToolError> {
    if let Some(moved) = &patch.moved {
        return Ok(Target { old: Some(checked(&moved.from)?), new: Some(checked(&moved.to)?) });
    }
    let (git_old, git_new) = patch.git_names.as_ref().map(|(old, new)| (old.as_slice(), new.as_slice())).unzip();
    let old = path_in(patch.old.as_ref(), patch.is_new, git_old);
    let new = path_in(patch.new.as_ref(), patch.is_deleted, git_new);
    let Some(name) = new.or(old) else {
        return Err(ToolError::new(Code::BadPatch, format!("line {} names no file", patch.line)));
    };
    let path = if let Some(path) = patch.git_names.as_ref().and_then(|names| certain(names, name)) {
        choose(&[path], exists)?
    } else if let (Some(old), Some(new)) = (old, new) {
        choose(&candidates(old, new), exists)?
    } else if old.is_some() {
        choose(&made(name, b"a/"), exists)?
    } else {
        choose(&made(name, b"b/"), &|path| parent_exists(path, exists))?
    };
    Ok(Target { old: old.map(|_| path.clone()), new: new.map(|_| path) })
}

/// What one of the names after `diff --git` means, where both together leave no doubt: names that are the same have no
/// prefixes, and names that are the same but for their first folder have nothing else there.
fn certain<'a>((old, new): &(Vec<u8>, Vec<u8>), name: &'a [u8]) -> Option<&'a [u8]> {
    let is_one = name == old || name == new;
    match (inside_first_folder(old), inside_first_folder(new)) {
        _ if !is_one => None,
        _ if old == new => Some(name),
        (Some(one), Some(other)) if one == other => inside_first_folder(name),
        _ => None,
    }
}

/// The name of one side; nothing if there is no file on that side.
fn path_in<'a>(name: Option<&'a Name>, nothing: bool, from_git: Option<&'a [u8]>) -> Option<&'a [u8]> {
    match name {
        _ if nothing => None,
        Some(Name::Nothing) => None,
        Some(Name::Path(path)) => Some(path),
        None => from_git,
    }
}

/// What the name of a file that is there on one side only may mean, the most likely first.
fn made<'a>(name: &'a [u8], prefix: &[u8]) -> Vec<&'a [u8]> {
    name.strip_prefix(prefix).filter(|rest| !rest.is_empty()).into_iter().chain([name]).collect()
}

/// What both names of a file may mean, the most likely first.
fn candidates<'a>(old: &'a [u8], new: &'a [u8]) -> Vec<&'a [u8]> {
    let mut found = Vec::new();
    if let (Some(old), Some(new)) = (old.strip_prefix(b"a/"), new.strip_prefix(b"b/")) {
        // Without `rename from` two names are an old version beside the new one, as with `diff -u f.orig f`.
        found.extend([new, old]);
    }
    found.extend([new, old]);
    if let (Some(old), Some(new)) = (inside_first_folder(old), inside_first_folder(new)) {
        if old == new {
            found.push(new);
        }
    }
    found
}

fn choose(candidates: &[&[u8]], exists: &dyn Fn(&[u8]) -> bool) -> Result<Vec<u8>, ToolError> {
    let paths: Vec<Vec<u8>> = candidates.iter().filter_map(|name| checked(name).ok()).collect();
    // An absolute path may have got a prefix like any other.
    let below = paths.iter().filter_map(|path| path.strip_prefix(&WORKSPACE.as_bytes()[1..])?.strip_prefix(b"/"));
    let found = paths.iter().map(Vec::as_slice).chain(below).find(|path| exists(path));
    match found {
        Some(path) => Ok(path.to_vec()),
        None => checked(candidates.first().copied().unwrap_or_default()),
    }
}

fn parent_exists(path: &[u8], exists: &dyn Fn(&[u8]) -> bool) -> bool {
    let (parent, _) = crate::tools::paths::split(path);
    parent != b"." && exists(parent)
}

/// A name as a path relative to the workspace, unless it leads elsewhere.
fn checked(name: &[u8]) -> Result<Vec<u8>, ToolError> {
    let refuse = |why: &str| {
        let name = String::from_utf8_lossy(&name[..name.len().min(1000)]);
        ToolError::new(Code::Outside, format!("the patch names {name}, which {why}"))
    };
    let path = match name.strip_prefix(WORKSPACE.as_bytes()) {
        Some(rest) if rest.starts_with(b"/") => rest,
        _ if name.starts_with(b"/") => return Err(refuse("is not in /workspace")),
        _ => name,
    };
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.is_empty() || parts.contains(&&b".."[..]) || name.contains(&0) {
        return Err(refuse("is not the path of a file in /workspace"));
    }
    if parts.iter().any(|part| is_git_folder(part)) {
        return Err(refuse("is in a .git folder"));
    }
    Ok(parts.join(&b'/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Name {
        Name::Path(text.as_bytes().to_vec())
    }

    fn meant(old: &str, new: &str, there: &[&str]) -> Result<Target, ToolError> {
        let name = |text: &str| Some(read_name(text.as_bytes()));
        let patch = FilePatch { old: name(old), new: name(new), ..FilePatch::default() };
        target(&patch, &|path| there.iter().any(|name| name.as_bytes() == path))
    }

    fn changed(old: &str, new: &str, there: &[&str]) -> String {
        let Target { old, new } = meant(old, new, there).unwrap();
        assert!(old.is_none() || new.is_none() || old == new);
        String::from_utf8(new.or(old).unwrap()).unwrap()
    }

    #[test]
    fn names_lose_what_is_behind_them() {
        assert_eq!(read_name(b"a/b c\t2024-01-01 00:00:00\n"), path("a/b c"));
        assert_eq!(read_name(b"a/b c 2024-01-01 00:00:00.123 +0000\r\n"), path("a/b c"));
        assert_eq!(read_name(b"\"a/\\303\\244\"\t\n"), path("a/ä"));
        assert_eq!(read_name(b"/dev/null\t1970-01-01\n"), Name::Nothing);
    }

    #[test]
    fn names_after_diff_git_are_told_apart() {
        let read = |text: &str| {
            let (old, new) = read_git_names(text.as_bytes())?;
            Some((String::from_utf8(old).unwrap(), String::from_utf8(new).unwrap()))
        };
        let two = |old: &str, new: &str| Some((old.to_owned(), new.to_owned()));
        assert_eq!(read("a/x y b/x y\n"), two("a/x y", "b/x y"));
        assert_eq!(read("x y x y\n"), two("x y", "x y"));
        assert_eq!(read("a/x b/y\n"), two("a/x", "b/y"));
        assert_eq!(read("\"a/\\t\" \"b/\\t\"\n"), two("a/\t", "b/\t"));
        assert_eq!(read("a/x \"b/\\t\"\n"), two("a/x", "b/\t"));
        assert_eq!(read("a/x y b/z\n"), None);
    }

    #[test]
    fn prefixes_are_optional() {
        assert_eq!(changed("a/src/x", "b/src/x", &["src/x"]), "src/x");
        assert_eq!(changed("src/x", "src/x", &["src/x"]), "src/x");
        assert_eq!(changed("a/x", "a/x", &["a/x"]), "a/x");
        assert_eq!(changed("a/x", "a/x", &["x"]), "x");
        assert_eq!(changed("i/x", "w/x", &["x"]), "x");
        assert_eq!(changed("x.orig", "x", &["x", "x.orig"]), "x");
        assert_eq!(changed("x.orig", "x", &["x.orig"]), "x.orig");
        assert_eq!(changed("/dev/null", "b/new", &[]), "new");
        assert_eq!(changed("/dev/null", "new", &[]), "new");
        assert_eq!(changed("/dev/null", "b/new", &["b"]), "b/new");
        assert_eq!(changed("a/x", "/dev/null", &["a/x"]), "a/x");
        assert_eq!(changed("a/x", "/dev/null", &["x"]), "x");
    }

    #[test]
    fn a_line_of_git_leaves_no_doubt_about_prefixes() {
        let meant = |names: &str, there: &[&str]| {
            let patch = FilePatch { git_names: read_git_names(names.as_bytes()), ..FilePatch::default() };
            let target = target(&patch, &|path| there.iter().any(|name| name.as_bytes() == path));
            String::from_utf8(target.unwrap().new.unwrap()).unwrap()
        };
        assert_eq!(meant("a/x b/x", &["a/x", "b/x"]), "x");
        assert_eq!(meant("b/x b/x", &["x"]), "b/x");
        assert_eq!(meant("i/a/x w/a/x", &["x"]), "a/x");
        assert_eq!(meant("a/x b/y", &["y"]), "y");
    }

    #[test]
    fn absolute_names_below_the_workspace_are_taken() {
        assert_eq!(changed("/workspace/x", "/workspace/x", &["x"]), "x");
        assert_eq!(changed("a/workspace/x", "b/workspace/x", &["x"]), "x");
        assert_eq!(changed("a/workspace/x", "b/workspace/x", &["workspace/x"]), "workspace/x");
        assert_eq!(changed("./x", ".//x", &["x"]), "x");
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in
            ["../x", "a/../../x", "/etc/passwd", "/workspace/../x", "/workspaces/x", ".git/config", "x/.GIT/y", "."]
        {
            assert_eq!(meant(name, name, &[]).unwrap_err().code, Code::Outside, "{name}");
            assert_eq!(meant("/dev/null", name, &[]).unwrap_err().code, Code::Outside, "{name}");
        }
        assert_eq!(meant("/dev/null", "/dev/null", &[]).unwrap_err().code, Code::BadPatch);
    }
}
