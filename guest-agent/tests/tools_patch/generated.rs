//! Many patches of random changes: made by `diff`, by git, by ourselves, and made worse.

use std::fs;
use std::process::Command;

use pyro_agent::tools::diff::unified::unified;
use pyro_agent::tools::patch::{apply, parse};

use super::patch_folder;
use super::trees::overlay::Overlay;
use super::trees::random::Random;
use super::trees::*;

/// Applies hunks only.
fn apply_text(old: &[u8], patch: &[u8]) -> Result<Vec<u8>, String> {
    let patch = parse::normalized(patch);
    let files = parse::parse(&patch).map_err(|error| error.message)?;
    Ok(apply::apply(old, files[0].hunks())?.content)
}

/// What somebody makes of the numbers in a patch.
fn with_numbers(patch: &[u8], change: impl Fn(u64) -> Option<u64>) -> Vec<u8> {
    let lines = patch.split_inclusive(|byte| *byte == b'\n').map(|line| {
        let Some(numbers) = line.strip_prefix(b"@@ -") else { return line.to_vec() };
        let digits: String = numbers.iter().map(|byte| char::from(*byte)).take_while(char::is_ascii_digit).collect();
        match change(digits.parse().unwrap()) {
            Some(number) => format!("@@ -{number},3 +{number},99 @@\n").into_bytes(),
            None => b"@@ ... @@\n".to_vec(),
        }
    });
    lines.collect::<Vec<_>>().concat()
}

#[test]
fn what_diff_writes_patch_applies() {
    for seed in 1000..1050 {
        let mut random = Random::new(seed);
        let overlay = Overlay::new(|lower| random.fill(lower, 3));
        for _ in 0..=random.below(25) {
            random.change(&overlay.merged());
        }
        let difference = overlay.diff(64 << 20);
        let copy = overlay.folder("copy");
        copy_tree(&overlay.lower(), &copy);
        if !difference.text.is_empty() {
            let outcome = patch_folder(&copy, &difference.text);
            outcome.unwrap_or_else(|error| panic!("seed {seed}: {}\n{:#?}", error.message, difference.summary()));
        }
        assert_same(&read_tree(&copy), &read_tree(&overlay.merged()), &format!("seed {seed}"));
    }
}

#[test]
fn what_git_writes_for_trees_is_applied() {
    for seed in 2000..2040 {
        let mut random = Random::new(seed);
        let scratch = Scratch::new();
        let (folder, copy) = (scratch.folder("folder"), scratch.folder("copy"));
        random.fill(&folder, 2);
        copy_tree(&folder, &copy);
        git(&folder, &["init", "-q"], b"").unwrap();
        git(&folder, &["add", "-A"], b"").unwrap();
        let before = String::from_utf8(git(&folder, &["write-tree"], b"").unwrap()).unwrap();
        for _ in 0..=random.below(15) {
            random.change_but(&folder, ".git");
        }
        git(&folder, &["add", "-A"], b"").unwrap();
        let options: &[&str] = match seed % 4 {
            0 => &["diff", "--binary", "-M"],
            1 => &["diff", "--binary", "-C", "--find-copies-harder"],
            2 => &["diff", "--binary", "--no-prefix"],
            _ => &["diff", "--binary", "--no-renames", "-U1"],
        };
        let patch = git(&folder, &[options, &["--cached", before.trim()]].concat(), b"").unwrap();
        if !patch.is_empty() {
            let shown = || String::from_utf8_lossy(&patch).into_owned();
            patch_folder(&copy, &patch).unwrap_or_else(|error| panic!("seed {seed}: {}\n{}", error.message, shown()));
        }
        assert_same(&read_tree(&copy), &read_tree(&folder), &format!("seed {seed}"));
    }
}

#[test]
fn texts_are_patched_by_whatever_made_the_patch() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let scratch = Scratch::new();
        let folder = scratch.folder("folder");
        let old = random.text();
        let new = random.edited(&old);
        if old == new {
            continue;
        }
        fs::write(folder.join("old"), &old).unwrap();
        fs::write(folder.join("new"), &new).unwrap();
        let mut command = Command::new("diff");
        command.args(["-u", "old", "new"]).current_dir(&folder);
        let by_diff = run(command, b"", &[0, 1]).unwrap();
        let by_git = git(&folder, &["diff", "--no-index", "old", "new"], b"").unwrap();
        let own = [&b"--- a/x\n+++ b/x\n"[..], &unified(&old, &new).unwrap().text].concat();
        for patch in [by_diff, by_git, own] {
            assert!(apply_text(&old, &patch).unwrap() == new, "seed {seed}: {}", String::from_utf8_lossy(&patch));
        }
    }
}

/// Lines that are all different, so that their place is never in doubt.
fn distinct(random: &mut Random, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| if random.below(9) == 0 { format!("\t{number}") } else { format!("line {number}") })
        .collect()
}

#[test]
fn carelessly_written_patches_are_applied_all_the_same() {
    for seed in 0..100 {
        let mut random = Random::new(seed);
        let mut lines = distinct(&mut random, 120);
        let old = lines.join("\n") + "\n";
        for number in 0..=random.below(5) {
            let at = random.below(lines.len());
            match random.below(3) {
                0 => lines.insert(at, format!("new {number}")),
                1 => drop(lines.remove(at)),
                _ => lines[at] = format!("other {number}"),
            }
        }
        let new = lines.join("\n") + "\n";
        if old == new {
            continue;
        }
        let hunks = unified(old.as_bytes(), new.as_bytes()).unwrap().text;
        let patch = [&b"--- a/x\n+++ b/x\n"[..], &hunks].concat();
        let crlf = |text: &[u8]| String::from_utf8_lossy(text).replace('\n', "\r\n").into_bytes();
        let check = |what: &str, old: &[u8], patch: &[u8], new: &[u8]| {
            let outcome = apply_text(old, patch);
            assert!(
                outcome.as_deref() == Ok(new),
                "{what}, seed {seed}: {outcome:?}\n{}",
                String::from_utf8_lossy(patch)
            );
        };
        let (old, new) = (old.as_bytes(), new.as_bytes());
        let shift = random.below(100) as u64;
        check("wrong numbers", old, &with_numbers(&patch, |number| Some((number + 150 - shift) % 130)), new);
        check("no numbers", old, &with_numbers(&patch, |_| None), new);
        check("CR LF file", &crlf(old), &patch, &crlf(new));
        check("CR LF patch", old, &crlf(&patch), new);
        check("CR LF both", &crlf(old), &crlf(&patch), &crlf(new));
        let fenced = [&b"Like this:\n```diff\n"[..], &patch, b"```\nThat is it.\n- really\n"].concat();
        check("fenced", old, &with_numbers(&fenced, |number| Some(number + 1)), new);
        check("no newline at the end", &old[..old.len() - 1], &patch, &new[..new.len() - 1]);
        check("without its own last newline", old, &patch[..patch.len() - 1], new);
    }
}

#[test]
fn rubbish_never_panics() {
    let seeds: [&[u8]; 3] = [
        b"diff --git a/x b/y\nsimilarity index 50%\nrename from x\nrename to y\nindex 1234567..89abcde 100644\n--- a/x\n\
            +++ b/y\n@@ -1,3 +1,3 @@ f\n a\n-b\n+c\n \n\\ No newline at end of file\n",
        b"--- x\t2024-01-01\n+++ y\n@@ @@\n-a\n+b\n@@ -5 +5,0 @@\n-z\n",
        b"diff --git a/x b/x\nindex 1234567..89abcde\nGIT binary patch\ndelta 5\nMcmZQ%U|?VZVPFsd0RTSj0)_wp\n\n",
    ];
    let mut random = Random::new(7);
    for round in 0..20_000 {
        let mut patch = random.choose(&seeds).to_vec();
        if round % 50 == 0 {
            patch = random.bytes(300);
        }
        for _ in 0..random.below(12) {
            let (at, other) = (random.below(patch.len()), random.below(patch.len()));
            match random.below(4) {
                0 => patch[at] = random.next() as u8,
                1 => drop(patch.drain(at.min(other)..at.max(other))),
                2 => patch.insert(at, *random.choose(b"\n+-@ \\\"0,9\r")),
                _ => patch.extend_from_within(at.min(other)..at.max(other)),
            }
            patch.push(b'\n');
        }
        let patch = parse::normalized(&patch);
        for file in parse::parse(&patch).unwrap_or_default() {
            let _ = apply::apply(b"a\nb\n\nz", file.hunks());
        }
    }
}
