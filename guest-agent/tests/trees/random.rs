//! Random contents, trees and changes; the same ones for the same seed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};

use super::path_of;

/// Marsaglia's xorshift64.
pub struct Random(u64);

const NAMES: [&[u8]; 14] = [
    b"a",
    b"b",
    b"main.py",
    b"lib",
    b"src",
    b"with space",
    b"tab\there",
    b"quote\"d",
    b"back\\slash",
    "ümlaut".as_bytes(),
    b"\xff\xfe",
    b"new\nline",
    b"-dash",
    b"x.txt",
];

impl Random {
    pub fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        random
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    pub fn choose<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next() as u8).collect()
    }

    fn line(&mut self) -> Vec<u8> {
        let words = ["", "}", "    return x", "def f():", "+plus", "-minus", "-- two", "@@ at", "\\ No newline", "\r"];
        match self.below(3) {
            0 => self.choose(&words).as_bytes().to_vec(),
            _ => format!("line {}", self.below(1000)).into_bytes(),
        }
    }

    /// Text with either kind of line ends, with or without the last one.
    pub fn text(&mut self) -> Vec<u8> {
        let end: &[u8] = if self.below(5) == 0 { b"\r\n" } else { b"\n" };
        let count = self.below(60);
        let mut text: Vec<u8> = (0..count).flat_map(|_| [&self.line()[..], end].concat()).collect();
        if self.below(5) == 0 {
            text.truncate(text.len().saturating_sub(end.len()));
        }
        text
    }

    pub fn content(&mut self) -> Vec<u8> {
        match self.below(10) {
            0 => Vec::new(),
            1 => {
                let length = self.below(3000);
                [&b"\0"[..], &self.bytes(length)].concat()
            }
            _ => self.text(),
        }
    }

    /// The text with some lines changed, added, removed.
    pub fn edited(&mut self, text: &[u8]) -> Vec<u8> {
        let mut lines: Vec<Vec<u8>> = text.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        for _ in 0..=self.below(4) {
            let at = self.below(lines.len() + 1);
            let line = [&self.line()[..], b"\n"].concat();
            match self.below(3) {
                0 => lines.insert(at, line),
                1 if at < lines.len() => drop(lines.remove(at)),
                _ if at < lines.len() => lines[at] = line,
                _ => lines.push(line),
            }
        }
        let mut text = lines.concat();
        if self.below(8) == 0 {
            text.pop();
        }
        text
    }

    fn name(&mut self) -> PathBuf {
        let name = NAMES[self.below(NAMES.len())];
        path_of(name).to_path_buf()
    }

    /// Fills a folder.
    pub fn fill(&mut self, folder: &Path, depth: usize) {
        for _ in 0..self.below(8) + 1 {
            let path = folder.join(self.name());
            if path.symlink_metadata().is_err() {
                self.make(&path, depth);
            }
        }
    }

    fn make(&mut self, path: &Path, depth: usize) {
        match self.below(8) {
            // Upward, so that links never lead to each other in a circle, at which git gives up.
            0 => symlink(Path::new("..").join(self.name()), path).unwrap(),
            1..=3 if depth > 0 => {
                fs::create_dir(path).unwrap();
                self.fill(path, depth - 1);
            }
            _ => self.write(path),
        }
    }

    fn write(&mut self, path: &Path) {
        fs::write(path, self.content()).unwrap();
        let mode = *self.choose(&[0o644, 0o644, 0o755, 0o600]);
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// Changes something below a folder.
    pub fn change(&mut self, root: &Path) {
        self.change_but(root, "none");
    }

    /// The same, but leaves out what has a certain name.
    pub fn change_but(&mut self, root: &Path, left_out: &str) {
        let paths = paths(root, left_out);
        let (path, other) = (self.choose(&paths).clone(), self.choose(&paths).clone());
        let metadata = path.symlink_metadata().unwrap();
        if path == root || self.below(6) == 0 {
            let folder = if metadata.is_dir() { path } else { path.parent().unwrap().to_path_buf() };
            return self.fill(&folder, 1);
        }
        match self.below(6) {
            0 => remove(&path),
            1 | 2 if !other.starts_with(&path) => {
                let target = if self.below(2) == 0 { other } else { path.with_file_name(self.name()) };
                if target != *root && !path.starts_with(&target) {
                    remove(&target);
                    fs::rename(&path, &target).unwrap();
                }
            }
            3 => {
                remove(&path);
                self.make(&path, 2);
            }
            _ if metadata.is_file() => self.change_file(&path),
            _ => {}
        }
    }

    fn change_file(&mut self, path: &Path) {
        let content = fs::read(path).unwrap();
        match self.below(4) {
            0 => fs::set_permissions(path, Permissions::from_mode(*self.choose(&[0o644, 0o755, 0o640]))).unwrap(),
            1 => fs::write(path, content).unwrap(),
            _ => fs::write(path, self.edited(&content)).unwrap(),
        }
    }
}

fn remove(path: &Path) {
    match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path).unwrap(),
        Ok(_) => fs::remove_file(path).unwrap(),
        Err(_) => {}
    }
}

/// All that is below a folder, and the folder itself, in an order that does not change.
fn paths(root: &Path, left_out: &str) -> Vec<PathBuf> {
    let mut found = vec![root.to_path_buf()];
    let mut at = 0;
    while let Some(folder) = found.get(at).cloned() {
        at += 1;
        if folder.symlink_metadata().unwrap().is_dir() {
            let mut below: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
            below.retain(|path| !path.ends_with(left_out));
            below.sort();
            found.extend(below);
        }
    }
    found
}
