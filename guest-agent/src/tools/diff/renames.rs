//! Finds out which deleted file a new one was before.
//!
//! First what the overlay itself tells of renamed folders, then equal contents, then similar texts. The limits keep
//! the cost from growing with the product of both numbers. Symbolic links stay deleted and added: git does not see that
//! a renamed one has gone, and refuses what else the patch makes below its old name.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use super::changes::{Change, Content, Layers};
use super::similarity::Signature;
use super::walk::{Item, Side};
use crate::tools::text::{blob, is_binary};

/// What a file has to keep of its text to be the same one, in percent, as in git.
const LEAST_SIMILARITY: u8 = 50;
const MAX_COMPARISONS: usize = 2000;
/// How many pairs are looked at to find those that are worth it.
const MAX_PAIRS: usize = 1_000_000;
/// Most that is read to compare texts, in bytes: of one, and of all together.
const MAX_TEXT_BYTES: u64 = 1 << 20;
const MAX_READ_BYTES: u64 = 64 << 20;

/// A new file, a deleted one, and their similarity in percent.
type Pair = (usize, usize, u8);

struct Search<'a> {
    layers: &'a Layers<'a>,
    changes: &'a [Change],
    /// Indices of what is not paired yet.
    added: Vec<usize>,
    deleted: Vec<usize>,
    pairs: Vec<Pair>,
    signatures: HashMap<usize, Option<Signature>>,
    read_bytes: u64,
}

/// Turns a deletion and an addition into one renaming, where they belong together.
pub fn pair(layers: &Layers, mut changes: Vec<Change>) -> io::Result<Vec<Change>> {
    let pairs = Search::new(layers, &changes).run()?;
    for (added, deleted, similarity) in &pairs {
        let old = changes[*deleted].old.take();
        let change = &mut changes[*added];
        (change.old, change.similarity) = (old, Some(*similarity));
    }
    changes.retain(|change| change.old.is_some() || change.new.is_some());
    Ok(changes)
}

impl<'a> Search<'a> {
    fn new(layers: &'a Layers<'a>, changes: &'a [Change]) -> Self {
        let numbered = || changes.iter().enumerate();
        let is_file = |item: &Option<Item>| item.as_ref().is_some_and(|item| !item.is_symlink());
        let added = numbered().filter(|(_, change)| change.old.is_none() && is_file(&change.new));
        let deleted = numbered().filter(|(_, change)| change.new.is_none() && is_file(&change.old));
        Self {
            layers,
            changes,
            added: added.map(|(number, _)| number).collect(),
            deleted: deleted.map(|(number, _)| number).collect(),
            pairs: Vec::new(),
            signatures: HashMap::new(),
            read_bytes: 0,
        }
    }

    fn run(mut self) -> io::Result<Vec<Pair>> {
        self.pair_as_noted()?;
        self.pair_equal()?;
        self.pair_similar()?;
        Ok(self.pairs)
    }

    fn new_item(&self, number: usize) -> &'a Item {
        self.changes[number].new.as_ref().expect("an added file")
    }

    fn old_item(&self, number: usize) -> &'a Item {
        self.changes[number].old.as_ref().expect("a deleted file")
    }

    fn accept(&mut self, pairs: Vec<Pair>) {
        let added: HashSet<usize> = pairs.iter().map(|pair| pair.0).collect();
        let deleted: HashSet<usize> = pairs.iter().map(|pair| pair.1).collect();
        self.added.retain(|number| !added.contains(number));
        self.deleted.retain(|number| !deleted.contains(number));
        self.pairs.extend(pairs);
    }

    /// Files of renamed folders: the overlay knows what they were. Those that are only in the lower layer have not even
    /// to be read.
    fn pair_as_noted(&mut self) -> io::Result<()> {
        let mut by_path: HashMap<&[u8], usize> =
            self.deleted.iter().map(|number| (self.old_item(*number).path.as_slice(), *number)).collect();
        let mut pairs = Vec::new();
        for added in self.added.clone() {
            let new = self.new_item(added);
            let Some(origin) = &new.origin else { continue };
            let Some(deleted) = by_path.get(origin.as_slice()).copied() else { continue };
            let old = self.old_item(deleted);
            let similarity = if new.side == Side::Lower || self.layers.equal(old, new)? {
                100
            } else {
                self.similarity(added, deleted)?
            };
            if similarity >= LEAST_SIMILARITY {
                by_path.remove(origin.as_slice());
                pairs.push((added, deleted, similarity));
            }
        }
        self.accept(pairs);
        Ok(())
    }

    fn pair_equal(&mut self) -> io::Result<()> {
        type Alike = (Vec<usize>, Vec<usize>);
        let mut sizes: BTreeMap<u64, Alike> = BTreeMap::new();
        for number in &self.added {
            sizes.entry(self.new_item(*number).size).or_default().0.push(*number);
        }
        for number in &self.deleted {
            sizes.entry(self.old_item(*number).size).or_default().1.push(*number);
        }
        let mut pairs = Vec::new();
        for (size, (added, deleted)) in sizes {
            // Empty files are all alike, which does not make one the other.
            if size > 0 && !added.is_empty() && !deleted.is_empty() {
                self.pair_equal_of_a_size(&added, &deleted, &mut pairs)?;
            }
        }
        self.accept(pairs);
        Ok(())
    }

    fn pair_equal_of_a_size(&self, added: &[usize], deleted: &[usize], pairs: &mut Vec<Pair>) -> io::Result<()> {
        let mut contents: HashMap<String, Vec<usize>> = HashMap::new();
        for number in deleted.iter().rev() {
            if let Some(id) = self.id(self.old_item(*number))? {
                contents.entry(id).or_default().push(*number);
            }
        }
        for number in added {
            let Some(id) = self.id(self.new_item(*number))? else { continue };
            let Some(same) = contents.get_mut(&id).filter(|same| !same.is_empty()) else { continue };
            let namesake = same.iter().rposition(|old| self.have_the_same_name(*number, *old));
            let chosen = same.remove(namesake.unwrap_or(same.len() - 1));
            pairs.push((*number, chosen, 100));
        }
        Ok(())
    }

    fn id(&self, item: &Item) -> io::Result<Option<String>> {
        let Some(content) = self.layers.open(item)? else { return Ok(None) };
        Ok(blob::id_of(content, item.size)?.map(|digest| digest.to_string()))
    }

    fn have_the_same_name(&self, added: usize, deleted: usize) -> bool {
        name_of(&self.changes[added].path) == name_of(&self.changes[deleted].path)
    }

    /// Compares texts, those with the same name first, as far as the limits go, and takes the best pairs.
    fn pair_similar(&mut self) -> io::Result<()> {
        let mut scored = Vec::new();
        for (added, deleted) in self.candidates() {
            let similarity = self.similarity(added, deleted)?;
            if similarity >= LEAST_SIMILARITY {
                scored.push((Reverse(similarity), !self.have_the_same_name(added, deleted), added, deleted));
            }
        }
        scored.sort_unstable();
        let (mut added_before, mut deleted_before) = (HashSet::new(), HashSet::new());
        let mut pairs: Vec<Pair> = Vec::new();
        for (Reverse(similarity), _, added, deleted) in scored {
            if !deleted_before.contains(&deleted) && added_before.insert(added) {
                deleted_before.insert(deleted);
                pairs.push((added, deleted, similarity));
            }
        }
        self.accept(pairs);
        Ok(())
    }

    /// What is worth comparing, those with the same name first.
    fn candidates(&self) -> Vec<(usize, usize)> {
        let mut by_name: HashMap<&[u8], Vec<usize>> = HashMap::new();
        for deleted in &self.deleted {
            by_name.entry(name_of(&self.changes[*deleted].path)).or_default().push(*deleted);
        }
        let namesakes = self.added.iter().flat_map(|added| {
            let deleted = by_name.get(name_of(&self.changes[*added].path));
            deleted.into_iter().flatten().map(|deleted| (*added, *deleted))
        });
        let all = self.added.iter().flat_map(|added| self.deleted.iter().map(|deleted| (*added, *deleted)));
        let others = all.filter(|(added, deleted)| !self.have_the_same_name(*added, *deleted));
        let namesakes = namesakes.take(MAX_PAIRS).filter(|(added, deleted)| self.may_be(*added, *deleted));
        let others = others.take(MAX_PAIRS).filter(|(added, deleted)| self.may_be(*added, *deleted));
        namesakes.chain(others).take(MAX_COMPARISONS).collect()
    }

    /// Whether the sizes allow enough similarity.
    fn may_be(&self, added: usize, deleted: usize) -> bool {
        let (new, old) = (self.new_item(added), self.old_item(deleted));
        let (smaller, larger) = (new.size.min(old.size), new.size.max(old.size));
        larger <= MAX_TEXT_BYTES && smaller > 0 && smaller * 2 >= larger
    }

    /// The similarity of two texts in percent; at most 99, because they are not equal.
    fn similarity(&mut self, added: usize, deleted: usize) -> io::Result<u8> {
        if !self.may_be(added, deleted) {
            return Ok(0);
        }
        self.sign(added, self.new_item(added))?;
        self.sign(deleted, self.old_item(deleted))?;
        match (&self.signatures[&added], &self.signatures[&deleted]) {
            (Some(new), Some(old)) => Ok(new.percent_shared_with(old).min(99)),
            _ => Ok(0),
        }
    }

    fn sign(&mut self, number: usize, item: &Item) -> io::Result<()> {
        if self.signatures.contains_key(&number) {
            return Ok(());
        }
        self.read_bytes += item.size;
        let content = if self.read_bytes > MAX_READ_BYTES { None } else { self.layers.load(item)? };
        let signature = match content {
            Some(Content::Bytes(text)) if !is_binary(&text) => Some(Signature::of(&text)),
            _ => None,
        };
        self.signatures.insert(number, signature);
        Ok(())
    }
}

fn name_of(path: &[u8]) -> &[u8] {
    crate::tools::paths::split(path).1
}
