//! Trees that are made up, through each pair of archivers.

use std::fs;
use std::os::unix::fs::{lchown, symlink, PermissionsExt};
use std::path::PathBuf;

use crate::archives::{gnu_tar, gnu_untar};
use crate::support::{is_root, os, set_mtime, Dice, Scratch};

const TREES: u64 = 12;

fn name(dice: &mut Dice) -> Vec<u8> {
    let length = [1, 3, 10, 99, 100, 101, 155, 255][dice.below(8) as usize];
    let bytes = dice.bytes(length);
    let name: Vec<u8> = bytes.iter().map(|byte| if matches!(byte, 0 | b'/') { b'_' } else { *byte }).collect();
    // Two names that cannot be had.
    if name.iter().all(|byte| *byte == b'.') {
        b"dots".to_vec()
    } else {
        name
    }
}

fn grow(scratch: &Scratch, dice: &mut Dice) {
    let mut folders = vec![PathBuf::new()];
    let mut files: Vec<PathBuf> = Vec::new();
    let mut paths = Vec::new();
    for _ in 0..60 {
        let folder = &folders[dice.below(folders.len() as u64) as usize];
        let path = folder.join(os(&name(dice)));
        let there = scratch.path(&path);
        if there.as_os_str().len() > 3000 || there.symlink_metadata().is_ok() {
            continue;
        }
        match dice.below(5) {
            0 => {
                fs::create_dir(&there).unwrap();
                folders.push(path.clone());
            }
            1 => symlink(os(&name(dice)), &there).unwrap(),
            2 if !files.is_empty() => {
                fs::hard_link(scratch.path(&files[dice.below(files.len() as u64) as usize]), &there).unwrap();
            }
            _ => {
                let size = [0, 1, 511, 512, 513, 20_000][dice.below(6) as usize];
                fs::write(&there, dice.bytes(size)).unwrap();
                files.push(path.clone());
            }
        }
        paths.push(path);
    }
    // The deepest first, so that nothing changes a folder after this.
    paths.push(PathBuf::new());
    paths.sort();
    for path in paths.iter().rev() {
        dress(scratch, path, dice);
    }
}

fn dress(scratch: &Scratch, path: &PathBuf, dice: &mut Dice) {
    let there = scratch.path(path);
    if is_root() {
        let id = |dice: &mut Dice| [0, 1, 1000, 2_097_151, 2_097_152, u32::MAX - 1][dice.below(6) as usize];
        lchown(&there, Some(id(dice)), Some(id(dice))).unwrap();
    }
    if !there.is_symlink() {
        // A user has to be able to read it again.
        let mode = dice.below(0o10000) as u32 | if is_root() { 0 } else { 0o700 };
        fs::set_permissions(&there, fs::Permissions::from_mode(mode)).unwrap();
    }
    let seconds = [-1, 0, 1_700_000_000, 8_589_934_592][dice.below(4) as usize];
    set_mtime(&there, seconds, [0, 1, 999_999_999][dice.below(3) as usize]);
}

#[test]
fn packed_here_and_unpacked_here() {
    for seed in 1..=TREES {
        let (source, target) = (Scratch::new(), Scratch::new());
        grow(&source, &mut Dice(seed));
        target.unpack("/workspace", &source.pack("/workspace").unwrap()).unwrap();
        assert_eq!(target.snapshot(), source.snapshot(), "seed {seed}");
    }
}

#[test]
fn packed_here_and_unpacked_by_gnu_tar() {
    for seed in 1..=TREES {
        let (source, target) = (Scratch::new(), Scratch::new());
        grow(&source, &mut Dice(seed));
        gnu_untar(&source.pack("/workspace").unwrap(), &target.path(""));
        assert_eq!(target.snapshot(), source.snapshot(), "seed {seed}");
    }
}

#[test]
fn packed_by_gnu_tar_and_unpacked_here() {
    for seed in 1..=TREES {
        let (source, target) = (Scratch::new(), Scratch::new());
        grow(&source, &mut Dice(seed));
        target.unpack("/workspace", &gnu_tar(&source.path(""), &["--format", "pax"])).unwrap();
        assert_eq!(target.snapshot(), source.snapshot(), "seed {seed}");
    }
}
