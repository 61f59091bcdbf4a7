//! A change as text in git's format, which `git apply` takes and can take back.

use std::io;

use super::changes::{Change, Content, Layers};
use super::unified::unified;
use super::walk::Item;
use crate::tools::text::quote::quoted;
use crate::tools::text::{binary, blob, is_binary};

/// How many digits of a content's name are shown where nobody relies on them.
const SHORT: usize = 7;

/// A change for people and programs to read.
#[derive(Debug, Default)]
pub struct Rendered {
    /// `None` if it is too large to be shown.
    pub text: Option<Vec<u8>>,
    pub insertions: u64,
    pub deletions: u64,
    pub binary: bool,
}

/// The old or the new state of a path; nothing where there is no file.
struct State<'a> {
    item: Option<&'a Item>,
    content: Vec<u8>,
}

impl State<'_> {
    fn mode(&self) -> Option<u32> {
        self.item.map(|item| item.mode)
    }

    fn id(&self) -> String {
        self.item.map_or_else(|| blob::ABSENT.into(), |_| blob::id(&self.content))
    }
}

/// Renders a change; a type change as a deletion and an addition. `None` if a file has gone meanwhile.
pub fn render(layers: &Layers, change: &Change) -> io::Result<Option<Rendered>> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return render_states(layers, change, change.old.as_ref(), change.new.as_ref());
    };
    if change.similarity == Some(100) {
        // Nothing has to be read, however large it is.
        let text = [head(change), modes(Some(old.mode), Some(new.mode)), renaming(change, old)].concat();
        return Ok(Some(Rendered { text: Some(text), ..Rendered::default() }));
    }
    if old.is_symlink() == new.is_symlink() {
        return render_states(layers, change, Some(old), Some(new));
    }
    let gone = render_states(layers, change, Some(old), None)?;
    let made = render_states(layers, change, None, Some(new))?;
    Ok(gone.zip(made).map(|(gone, made)| Rendered {
        text: gone.text.zip(made.text).map(|(gone, made)| [gone, made].concat()),
        insertions: made.insertions,
        deletions: gone.deletions,
        binary: gone.binary || made.binary,
    }))
}

fn render_states(
    layers: &Layers,
    change: &Change,
    old: Option<&Item>,
    new: Option<&Item>,
) -> io::Result<Option<Rendered>> {
    let load = |item: Option<&Item>| item.map_or(Ok(Some(Content::Bytes(Vec::new()))), |item| layers.load(item));
    Ok(match (load(old)?, load(new)?) {
        (Some(Content::Bytes(before)), Some(Content::Bytes(after))) => {
            let old = State { item: old, content: before };
            Some(render_contents(change, &old, &State { item: new, content: after }))
        }
        (None, _) | (_, None) => None,
        _ => Some(Rendered::default()),
    })
}

fn render_contents(change: &Change, old: &State, new: &State) -> Rendered {
    let mut text = [head(change), modes(old.mode(), new.mode())].concat();
    if let (Some(_), Some(old)) = (change.similarity, old.item) {
        text.extend(renaming(change, old));
    }
    if old.item.is_some() && new.item.is_some() && old.content == new.content {
        return Rendered { text: Some(text), ..Rendered::default() };
    }
    if is_binary(&old.content) || is_binary(&new.content) {
        text.extend(index_line(old, new, blob::ABSENT.len()));
        text.extend(b"GIT binary patch\n");
        binary::write_literal(&new.content, &mut text);
        binary::write_literal(&old.content, &mut text);
        return Rendered { text: Some(text), binary: true, ..Rendered::default() };
    }
    let Some(hunks) = unified(&old.content, &new.content) else { return Rendered::default() };
    text.extend(index_line(old, new, SHORT));
    if !hunks.text.is_empty() {
        text.extend(name_line(b"--- ", b"a/", old.item.map(|item| item.path.as_slice())));
        text.extend(name_line(b"+++ ", b"b/", new.item.map(|_| change.path.as_slice())));
        text.extend(hunks.text);
    }
    Rendered { text: Some(text), insertions: hunks.insertions, deletions: hunks.deletions, binary: false }
}

fn head(change: &Change) -> Vec<u8> {
    let old = match (&change.old, change.similarity) {
        (Some(old), Some(_)) => &old.path,
        _ => &change.path,
    };
    let name = |prefix: &[u8], path: &[u8]| quoted(&[prefix, path].concat());
    [&b"diff --git "[..], &name(b"a/", old), b" ", &name(b"b/", &change.path), b"\n"].concat()
}

fn modes(old: Option<u32>, new: Option<u32>) -> Vec<u8> {
    match (old, new) {
        (None, Some(new)) => format!("new file mode {new:06o}\n"),
        (Some(old), None) => format!("deleted file mode {old:06o}\n"),
        (Some(old), Some(new)) if old != new => format!("old mode {old:06o}\nnew mode {new:06o}\n"),
        _ => String::new(),
    }
    .into_bytes()
}

fn renaming(change: &Change, old: &Item) -> Vec<u8> {
    let similarity = change.similarity.unwrap_or(100);
    let (from, to) = (quoted(&old.path), quoted(&change.path));
    let head = format!("similarity index {similarity}%\n").into_bytes();
    [&head[..], b"rename from ", &from, b"\nrename to ", &to, b"\n"].concat()
}

fn index_line(old: &State, new: &State, digits: usize) -> Vec<u8> {
    let unchanged = old.mode().filter(|mode| new.mode() == Some(*mode));
    let mode = unchanged.map(|mode| format!(" {mode:06o}")).unwrap_or_default();
    format!("index {}..{}{mode}\n", &old.id()[..digits], &new.id()[..digits]).into_bytes()
}

fn name_line(sign: &[u8], prefix: &[u8], path: Option<&[u8]>) -> Vec<u8> {
    let Some(path) = path else { return [sign, b"/dev/null\n"].concat() };
    let name = quoted(&[prefix, path].concat());
    // Programs that look for a time after the name must not find one in the name.
    let end: &[u8] = if name.contains(&b' ') { b"\t\n" } else { b"\n" };
    [sign, &name, end].concat()
}
