//! Unpacking archives as they should be.

use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::Path;

use pyro_agent::tools::Code;
use serde_json::json;

use crate::archives::{archive, gnu_tar, pax_record, sealed, Member};
use crate::support::{assert_code, is_root, os, set_mtime, snapshot, Breaking, Dice, Scratch};

/// A tree with everything that an archive can hold.
fn furnish(scratch: &Scratch) {
    let long = format!("long/{}/{}", "n".repeat(200), "m".repeat(200));
    scratch.put("folder/file", "content");
    scratch.put("empty", "");
    scratch.put(&long, "long");
    fs::write(scratch.path(os(b"\xff\xfe name")), Dice(3).bytes(70_000)).unwrap();
    fs::hard_link(scratch.path("folder/file"), scratch.path("second")).unwrap();
    symlink("folder", scratch.path("link")).unwrap();
    symlink(format!("/{}", "t".repeat(300)), scratch.path("long-link")).unwrap();
    for (path, mode) in [("folder/file", 0o640), ("empty", 0o6755), ("folder", 0o1777), ("long", 0o555)] {
        fs::set_permissions(scratch.path(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    if is_root() {
        for (path, owner) in [("empty", (1000, 1001)), ("folder", (7, 0)), ("link", (0, 9)), ("second", (3_000_000, 1))]
        {
            std::os::unix::fs::lchown(scratch.path(path), Some(owner.0), Some(owner.1)).unwrap();
        }
        fs::set_permissions(scratch.path("empty"), fs::Permissions::from_mode(0o6755)).unwrap();
    }
    for (number, path) in ["folder/file", "link", "long", "folder", ""].iter().enumerate() {
        set_mtime(&scratch.path(path), 1_600_000_000 + number as i64, 0);
    }
    set_mtime(&scratch.path("empty"), -5, 0);
}

/// Times are whole seconds unless the format has more; the last thing to be set are those of files made by tests.
fn cut_times(scratch: &Scratch) {
    for (path, seen) in scratch.snapshot() {
        set_mtime(&scratch.path(path), seen.mtime.0, 0);
    }
}

#[test]
fn what_gnu_tar_packs_arrives_as_it_was() {
    for format in ["gnu", "pax", "oldgnu"] {
        let (source, scratch) = (Scratch::new(), Scratch::new());
        furnish(&source);
        if format != "pax" {
            cut_times(&source);
        }
        let unpacked = scratch.unpack("/workspace", &gnu_tar(&source.path(""), &["--format", format])).unwrap();
        assert_eq!(unpacked, json!({"files": 7, "bytes": 70_011}));
        assert_eq!(scratch.snapshot(), source.snapshot(), "{format}");
        scratch.assert_clean();
    }
}

#[test]
fn an_archive_may_come_again_over_what_it_left() {
    let (source, scratch) = (Scratch::new(), Scratch::new());
    furnish(&source);
    let packed = gnu_tar(&source.path(""), &["--format", "pax"]);
    scratch.put("folder/mine", "stays");
    scratch.unpack("/workspace", &packed).unwrap();
    scratch.put("folder/file", "changed");
    scratch.unpack("/workspace", &packed).unwrap();
    assert_eq!(scratch.text("folder/mine"), "stays");
    fs::remove_file(scratch.path("folder/mine")).unwrap();
    set_mtime(&scratch.path("folder"), 1_600_000_003, 0);
    assert_eq!(scratch.snapshot(), source.snapshot());
    scratch.assert_clean();
}

#[test]
fn times_have_nanoseconds_where_the_archive_has_them() {
    let scratch = Scratch::new();
    for (text, expected) in [
        ("1700000000.123456789", (1_700_000_000, 123_456_789)),
        ("1.5", (1, 500_000_000)),
        ("7", (7, 0)),
        ("-1.25", (-2, 750_000_000)),
        ("-3.", (-3, 0)),
        ("2.0000000019", (2, 1)),
    ] {
        let record = pax_record("mtime", text);
        let pax = Member { code: b'x', content: record.as_bytes(), ..Member::default() };
        scratch.unpack("/workspace", &archive(&[pax, Member::default()])).unwrap();
        let metadata = scratch.path("file").metadata().unwrap();
        assert_eq!((metadata.mtime(), metadata.mtime_nsec()), expected, "{text}");
    }
}

#[test]
fn folders_are_made_and_merged() {
    let scratch = Scratch::new();
    scratch.put("there/mine", "mine");
    let members = [
        Member { name: b"there/", code: b'5', mode: 0o700, ..Member::default() },
        Member { name: b"./there//yours", content: b"yours", ..Member::default() },
        Member { name: b"new/deep/file", ..Member::default() },
        Member { name: b"old-style/", ..Member::default() },
    ];
    let unpacked = scratch.unpack("/workspace/to/here", &archive(&members)).unwrap();
    assert_eq!(unpacked, json!({"files": 2, "bytes": 5}));
    scratch.unpack("/workspace", &archive(&members)).unwrap();
    assert_eq!((scratch.text("there/mine"), scratch.text("there/yours")), ("mine".into(), "yours".into()));
    let mode = |path: &str| scratch.path(path).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("there"), mode("new/deep"), mode("to/here/new")), (0o700, 0o755, 0o755));
    assert!(scratch.path("old-style").is_dir());
}

#[test]
fn the_folder_itself_can_be_a_member() {
    let scratch = Scratch::new();
    let top = Member { name: b"./", code: b'5', mode: 0o750, ..Member::default() };
    scratch.unpack("/workspace", &archive(&[top, Member::default()])).unwrap();
    let metadata = scratch.path("").metadata().unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o750, 0o1750));
}

#[test]
fn the_last_of_several_entries_counts() {
    let scratch = Scratch::new();
    let members = [
        Member { content: b"first", ..Member::default() },
        Member { code: b'2', link: b"nowhere", ..Member::default() },
        Member { content: b"last", ..Member::default() },
        Member { name: b"same", code: b'1', link: b"file", ..Member::default() },
        Member { name: b"same", code: b'1', link: b"same", ..Member::default() },
        Member { name: b"other", content: b"other", ..Member::default() },
        Member { name: b"other", code: b'1', link: b"file", ..Member::default() },
    ];
    scratch.unpack("/workspace", &archive(&members)).unwrap();
    assert_eq!(
        (scratch.text("file"), scratch.text("same"), scratch.text("other")),
        ("last".into(), "last".into(), "last".into())
    );
    assert_eq!(scratch.path("file").metadata().unwrap().nlink(), 3);
    scratch.assert_clean();
}

#[test]
fn folders_and_files_do_not_replace_each_other() {
    let scratch = Scratch::new();
    scratch.put("file", "file");
    fs::create_dir(scratch.path("folder")).unwrap();
    symlink("folder", scratch.path("link")).unwrap();
    let contents = || {
        let mut seen = scratch.snapshot();
        // A temporary name may have come and gone in it.
        seen.remove(Path::new(""));
        seen
    };
    let before = contents();
    let unpack = |name: &[u8], code: u8| {
        scratch.unpack("/workspace", &archive(&[Member { name, code, link: b"file", ..Member::default() }]))
    };
    for code in *b"012" {
        let message = assert_code(unpack(b"folder", code), Code::IsADirectory);
        assert!(message.contains("/workspace/folder"), "{message}");
        assert_code(unpack(b"file/below", code), Code::NotADirectory);
        assert_code(unpack(b"link/below", code), Code::NotADirectory);
    }
    for name in [&b"file"[..], b"link", b"file/below/", b"link/below/"] {
        assert_code(unpack(name, b'5'), Code::NotADirectory);
    }
    assert_eq!(contents(), before);
    scratch.assert_clean();
}

#[test]
fn a_link_is_followed_to_the_folder_that_is_unpacked_into() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("real")).unwrap();
    symlink("real", scratch.path("inside")).unwrap();
    symlink("../beside", scratch.path("out")).unwrap();
    let packed = archive(&[Member::default()]);
    scratch.unpack("/workspace/inside/new", &packed).unwrap();
    assert!(scratch.path("real/new/file").is_file());
    assert_code(scratch.unpack("/workspace/out", &packed), Code::Outside);
    assert_code(scratch.unpack("/workspace/out/new", &packed), Code::Outside);
    assert_code(scratch.unpack("/workspace/real/new/file", &packed), Code::NotADirectory);
    scratch.assert_clean();
}

#[test]
fn an_archive_is_whole_or_an_error_wherever_it_ends() {
    let members = [
        Member { name: b"one", content: b"new one", ..Member::default() },
        Member { name: b"folder/", code: b'5', mode: 0o755, ..Member::default() },
        Member { name: b"folder/two", content: &[b'2'; 1500], ..Member::default() },
        Member { name: b"three", ..Member::default() },
    ];
    let whole = archive(&members);
    let mut ends: Vec<usize> = (0..whole.len()).step_by(512).collect();
    ends.extend([1, 511, 513, 600, whole.len() - 1]);
    for end in ends {
        let scratch = Scratch::new();
        scratch.put("one", "old one");
        scratch.put("folder/two", "old two");
        assert_code(scratch.unpack("/workspace", &whole[..end]), Code::BadArchive);
        assert_code(scratch.unpack_from("/workspace", &mut Breaking::after(&whole[..end])), Code::Io);
        assert_eq!(scratch.text("one"), if end < 512 + 7 { "old one" } else { "new one" }, "cut off at {end}");
        let (old, new) = ("old two".to_owned(), "2".repeat(1500));
        assert_eq!(scratch.text("folder/two"), if end < 1024 + 512 + 512 + 1500 { old } else { new });
        scratch.assert_clean();
    }
    let scratch = Scratch::new();
    let padded = [&whole[..], &[0; 4096], b"not looked at"].concat();
    assert_eq!(scratch.unpack("/workspace", &padded).unwrap(), json!({"files": 3, "bytes": 1507}));
}

#[test]
fn numbers_may_be_in_base_256() {
    let scratch = Scratch::new();
    let mut member = Member { content: b"content", ..Member::default() }.bytes();
    let mut header: [u8; 512] = member[..512].try_into().unwrap();
    header[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\0\x07");
    header[136..148].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xfe");
    member[..512].copy_from_slice(&sealed(header));
    member.extend([0; 1024]);
    scratch.unpack("/workspace", &member).unwrap();
    assert_eq!(scratch.text("file"), "content");
    assert_eq!(scratch.path("file").metadata().unwrap().mtime(), -2);
}

#[test]
fn pax_records_for_all_entries_are_those_of_each() {
    let scratch = Scratch::new();
    let global = Member { code: b'g', content: b"12 mtime=99\n15 comment=abc\n", ..Member::default() };
    let local = Member { code: b'x', content: b"12 mtime=11\n", ..Member::default() };
    let second = Member { name: b"second", ..Member::default() };
    scratch.unpack("/workspace", &archive(&[global, local, Member::default(), second])).unwrap();
    let seen = snapshot(&scratch.path(""));
    assert_eq!((seen[Path::new("file")].mtime.0, seen[Path::new("second")].mtime.0), (11, 99));
}
