//! Packing folders and files.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{symlink, FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;

use nix::sys::stat::{makedev, mknod, Mode, SFlag};
use nix::unistd::mkfifo;
use pyro_agent::tools::{pack, Code};

use crate::archives::gnu_untar;
use crate::support::{assert_code, is_root, os, set_mtime, snapshot, Dice, Meddling, Scratch};

#[test]
fn gnu_tar_unpacks_what_is_packed() {
    let (scratch, target) = (Scratch::new(), Scratch::new());
    scratch.put("folder/file", "content");
    scratch.put(&format!("{}/{}", "a".repeat(150), "b".repeat(150)), "long");
    fs::hard_link(scratch.path("folder/file"), scratch.path("second")).unwrap();
    symlink("nowhere", scratch.path("link")).unwrap();
    symlink("t".repeat(101), scratch.path("long-link")).unwrap();
    fs::create_dir(scratch.path("empty")).unwrap();
    for (path, seconds, nanoseconds) in [("second", 1, 5), ("link", -7, 0), ("long-link", -7, 1), ("empty", 1 << 34, 0)]
    {
        set_mtime(&scratch.path(path), seconds, nanoseconds);
    }
    gnu_untar(&scratch.pack("/workspace").unwrap(), &target.path(""));
    assert_eq!(target.snapshot(), scratch.snapshot());
}

#[test]
fn a_folder_below_is_packed_relative_to_itself() {
    let (scratch, target) = (Scratch::new(), Scratch::new());
    scratch.put("a/b/file", "content");
    symlink("a", scratch.path("link")).unwrap();
    gnu_untar(&scratch.pack("/workspace/link/b").unwrap(), &target.path(""));
    assert_eq!(target.snapshot(), snapshot(&scratch.path("a/b")));
}

#[test]
fn one_file_is_packed_under_its_name() {
    let (scratch, target) = (Scratch::new(), Scratch::new());
    let content = Dice(7).bytes(600_001);
    scratch.put("folder/file", "");
    fs::write(scratch.path("folder/file"), &content).unwrap();
    symlink("folder/file", scratch.path("link")).unwrap();
    gnu_untar(&scratch.pack("/workspace/folder/file").unwrap(), &target.path(""));
    gnu_untar(&scratch.pack("/workspace/link").unwrap(), &target.path(""));
    assert_eq!(fs::read(target.path("file")).unwrap(), content);
    assert_eq!(fs::read(target.path("link")).unwrap(), content);
}

/// Names and types of the members of an archive whose names are short and that holds no content.
fn members(archive: &[u8]) -> Vec<(&[u8], u8)> {
    let headers = archive.chunks(512).filter(|block| block.starts_with(b"./") && block[156] != b'x');
    headers.map(|block| (block[..100].split(|byte| *byte == 0).next().unwrap(), block[156])).collect()
}

#[test]
fn of_pipes_sockets_and_devices_only_the_names_are_packed() {
    let scratch = Scratch::new();
    scratch.put("file", "");
    mkfifo(&scratch.path("pipe"), Mode::S_IRWXU).unwrap();
    mkfifo(&scratch.path(os(b"\x1b[2J\n\xff")), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    let mut names: Vec<(&[u8], u8)> = vec![(b"./", b'5'), (b"./\x1b[2J\n\xff", b'6')];
    if is_root() {
        mknod(&scratch.path("device"), SFlag::S_IFCHR, Mode::S_IRWXU, makedev(1, 3)).unwrap();
        names.push((b"./device", b'6'));
    }
    names.extend([(&b"./file"[..], b'0'), (b"./pipe", b'6'), (b"./socket", b'6')]);
    assert_eq!(members(&scratch.pack("/workspace").unwrap()), names);
}

#[test]
fn a_pipe_takes_one_block() {
    let scratch = Scratch::new();
    let packed = || {
        set_mtime(&scratch.path(""), 1, 0);
        scratch.pack("/workspace").unwrap().len()
    };
    let without = packed();
    for number in 0..100 {
        mkfifo(&scratch.path(number.to_string()), Mode::S_IRWXU).unwrap();
    }
    assert_eq!(packed(), without + 100 * 512);
}

#[test]
fn long_names_of_pipes_are_packed_whole() {
    let (scratch, target) = (Scratch::new(), Scratch::new());
    let name = format!("{}/{}", "a".repeat(150), "b".repeat(255));
    scratch.put(&format!("{}/file", "a".repeat(150)), "");
    mkfifo(&scratch.path(&name), Mode::S_IRWXU).unwrap();
    gnu_untar(&scratch.pack("/workspace").unwrap(), &target.path(""));
    assert!(target.path(&name).metadata().unwrap().file_type().is_fifo());
}

#[test]
fn what_cannot_be_packed_is_an_error() {
    let scratch = Scratch::new();
    scratch.put("file", "");
    mkfifo(&scratch.path("pipe"), Mode::S_IRWXU).unwrap();
    let _listener = UnixListener::bind(scratch.path("socket")).unwrap();
    symlink("../beside", scratch.path("out")).unwrap();
    assert_code(scratch.pack("/workspace/pipe"), Code::NotAFile);
    assert_code(scratch.pack("/workspace/socket"), Code::NotAFile);
    assert_code(scratch.pack("/workspace/missing"), Code::NotFound);
    assert_code(scratch.pack("/workspace/file/below"), Code::NotADirectory);
    assert_code(scratch.pack("/workspace/out"), Code::Outside);
    assert_code(scratch.pack("/etc"), Code::Outside);
}

#[test]
fn a_file_that_changes_keeps_the_size_that_was_announced() {
    for length in [0, 300_000, 5_000_000] {
        let scratch = Scratch::new();
        let content = Dice(9).bytes(1_000_000);
        fs::write(scratch.path("a"), &content).unwrap();
        scratch.put("b", "after");
        let file = File::options().write(true).open(scratch.path("a")).unwrap();
        let mut out = Meddling { file: &file, length, taken: Vec::new() };
        pack::run(&scratch.place(), "/workspace", &mut io::empty(), &mut out).unwrap();
        let target = Scratch::new();
        gnu_untar(&out.taken, &target.path(""));
        let packed = fs::read(target.path("a")).unwrap();
        assert_eq!(packed.len(), content.len());
        assert_eq!(packed[..200_000], content[..200_000]);
        assert_eq!(target.text("b"), "after");
    }
}

/// Takes a little and then fails.
struct Narrow(Vec<u8>);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.0.is_empty() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn sizes_beyond_octal_digits_are_in_a_pax_record() {
    let scratch = Scratch::new();
    File::create(scratch.path("large")).unwrap().set_len(9 << 30).unwrap();
    let mut out = Narrow(Vec::new());
    assert_code(pack::run(&scratch.place(), "/workspace/large", &mut io::empty(), &mut out), Code::Io);
    let text = String::from_utf8_lossy(&out.0[512..1024]);
    assert!(text.contains(" size=9663676416\n"), "{text}");
}

#[test]
fn a_deep_tree_is_packed() {
    let (scratch, target) = (Scratch::new(), Scratch::new());
    let deep = "d/".repeat(1100);
    fs::create_dir_all(scratch.path(&deep)).unwrap();
    scratch.put(&format!("{deep}file"), "deep");
    target.unpack("/workspace", &scratch.pack("/workspace").unwrap()).unwrap();
    assert_eq!(target.text(&format!("{deep}file")), "deep");
    assert_eq!(target.path("d").metadata().unwrap().mtime(), scratch.path("d").metadata().unwrap().mtime());
}
