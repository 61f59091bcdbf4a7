//! Archives that want what they should not.

use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use pyro_agent::tools::Code;

use crate::archives::{archive, sealed, Member};
use crate::support::{assert_code, Dice, Scratch};

#[test]
fn nothing_gets_out_of_the_folder() {
    let absolute = std::env::temp_dir().join("pyro-tools-absolute");
    let absolute = absolute.to_str().unwrap().as_bytes();
    for name in
        [&b"../beside/file"[..], b"a/../../beside/file", b"..", b"a/..", b"/", b"/workspace/file", absolute, b""]
    {
        for code in *b"0125" {
            let scratch = Scratch::new();
            let bad = Member { name, code, link: b"file", ..Member::default() };
            assert_code(scratch.unpack("/workspace", &archive(&[Member::default(), bad])), Code::BadArchive);
            assert!(scratch.path("file").is_file(), "what came before stays");
            scratch.assert_clean();
        }
    }
    assert!(!Path::new(std::str::from_utf8(absolute).unwrap()).exists());
}

#[test]
fn a_symbolic_link_is_made_but_not_followed() {
    let scratch = Scratch::new();
    let beside = scratch.beside();
    for target in [&b"../beside"[..], beside.to_str().unwrap().as_bytes(), b"folder"] {
        let scratch = Scratch::new();
        fs::create_dir(scratch.path("folder")).unwrap();
        let link = Member { name: b"link", code: b'2', link: target, ..Member::default() };
        let through = Member { name: b"link/file", content: b"x", ..Member::default() };
        assert_code(scratch.unpack("/workspace", &archive(&[link, through])), Code::NotADirectory);
        assert!(scratch.path("link").is_symlink());
        assert_eq!(fs::read_dir(scratch.path("folder")).unwrap().count(), 0);
        scratch.assert_clean();
    }
    assert_eq!(fs::read_dir(beside).unwrap().count(), 0);
}

#[test]
fn a_file_takes_the_place_of_a_link_that_leads_out() {
    let scratch = Scratch::new();
    symlink("../beside/file", scratch.path("file")).unwrap();
    scratch.unpack("/workspace", &archive(&[Member { content: b"x", ..Member::default() }])).unwrap();
    assert!(!scratch.path("file").is_symlink());
    assert_eq!(scratch.text("file"), "x");
    scratch.assert_clean();
}

#[test]
fn a_hard_link_leads_to_a_file_inside() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("folder")).unwrap();
    symlink("..", scratch.path("up")).unwrap();
    let secret = scratch.beside().join("secret");
    fs::write(&secret, "secret").unwrap();
    for link in [
        &b"../beside/secret"[..],
        b"up/beside/secret",
        secret.to_str().unwrap().as_bytes(),
        b"missing",
        b"no/where",
        b"folder",
        b"",
        b".",
    ] {
        let member = Member { name: b"stolen", code: b'1', link, ..Member::default() };
        assert_code(scratch.unpack("/workspace", &archive(&[member])), Code::BadArchive);
        assert!(!scratch.path("stolen").exists());
    }
    fs::remove_file(secret).unwrap();
    scratch.assert_clean();
}

#[test]
fn what_is_no_file_folder_or_link_is_refused() {
    for code in *b"346SDMVXAN\x01\xff" {
        let scratch = Scratch::new();
        assert_code(scratch.unpack("/workspace", &archive(&[Member { code, ..Member::default() }])), Code::BadArchive);
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 0);
    }
    let scratch = Scratch::new();
    let sparse = Member { code: b'x', content: b"22 GNU.sparse.major=1\n", ..Member::default() };
    assert_code(scratch.unpack("/workspace", &archive(&[sparse, Member::default()])), Code::BadArchive);
    let nowhere = Member { code: b'2', ..Member::default() };
    assert_code(scratch.unpack("/workspace", &archive(&[nowhere])), Code::BadArchive);
}

#[test]
fn sizes_are_not_believed() {
    let sizes: [(&[u8], u8); 6] = [
        (b"77777777777\0", b'0'),
        (b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff", b'0'),
        (b"\x80\x7f\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b'0'),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", b'0'),
        (b"77777777777\0", b'x'),
        (b"00004000001\0", b'L'),
    ];
    for (size, code) in sizes {
        let scratch = Scratch::new();
        let mut header = Member { code, ..Member::default() }.header();
        header[124..136].copy_from_slice(size);
        let bytes = [&sealed(header)[..], &[b'x'; 2 << 20]].concat();
        assert_code(scratch.unpack("/workspace", &bytes), Code::BadArchive);
        assert_eq!(fs::read_dir(scratch.path("")).unwrap().count(), 0);
    }
}

#[test]
fn broken_headers_are_refused() {
    let scratch = Scratch::new();
    let mut headers = vec![Member::default().header(); 4];
    headers[0][100..108].copy_from_slice(b"rw-r--r-");
    headers[1][108..116].copy_from_slice(b"\x80\0\0\0\xff\xff\xff\xff");
    headers[2][108..116].copy_from_slice(b"\xff\xff\xff\xff\xff\xff\xff\xff");
    headers[3][136..148].copy_from_slice(b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff");
    for header in headers {
        assert_code(scratch.unpack("/workspace", &[&sealed(header)[..], &[0; 1024]].concat()), Code::BadArchive);
    }
    let unsealed = [&Member::default().header()[..], &[0; 1024]].concat();
    assert_code(scratch.unpack("/workspace", &unsealed), Code::BadArchive);
    assert_code(scratch.unpack("/workspace", &[b'x'; 5000]), Code::BadArchive);
    assert_code(scratch.unpack("/workspace", b""), Code::BadArchive);
    let hole = [&[0; 512][..], &archive(&[Member::default()])].concat();
    assert_code(scratch.unpack("/workspace", &hole), Code::BadArchive);
}

#[test]
fn broken_pax_records_are_refused() {
    for records in [
        &b"x path=a\n"[..],
        b"99 path=a\n",
        b"9 path=a",
        b"0 path=a\n",
        b"3 path=a\n",
        b"7 patha\n",
        b"99999999999999999999 path=a\n",
        b"10 size=x\n",
        b"11 size=-1\n",
        b"18 uid=4294967295\n",
        b"11 mtime=x\n",
        b"13 mtime=1.x\n",
        b"10 mtime=\n",
        b"12 path=a\0b\n",
        b"8 path=\n",
    ] {
        let scratch = Scratch::new();
        let pax = Member { code: b'x', content: records, ..Member::default() };
        let outcome = scratch.unpack("/workspace", &archive(&[pax, Member::default()]));
        let message = assert_code(outcome, Code::BadArchive);
        assert!(!message.is_empty());
    }
}

#[test]
fn names_that_are_too_long_are_an_error() {
    let scratch = Scratch::new();
    for name in ["n".repeat(256), "n/".repeat(3000), "n/".repeat(500_000)] {
        let long = Member { name: b"long", code: b'L', content: name.as_bytes(), ..Member::default() };
        let outcome = scratch.unpack("/workspace", &archive(&[long, Member::default()]));
        let message = assert_code(outcome, Code::BadArchive);
        assert!(message.len() < 10_000, "{} bytes", message.len());
    }
    scratch.assert_clean();
}

#[test]
fn damage_does_no_harm() {
    let members = [
        Member { name: b"folder/", code: b'5', mode: 0o755, ..Member::default() },
        Member { code: b'x', content: b"30 mtime=1700000000.123456789\n13 path=long\n", ..Member::default() },
        Member { name: b"folder/file", content: b"content", ..Member::default() },
        Member { name: b"link", code: b'2', link: b"../beside", ..Member::default() },
        Member { name: b"hard", code: b'1', link: b"long", ..Member::default() },
    ];
    let whole = archive(&members);
    let mut dice = Dice(5);
    for _ in 0..200 {
        let mut damaged = whole.clone();
        for _ in 0..=dice.below(4) {
            let place = dice.below(damaged.len() as u64) as usize;
            damaged[place] = [dice.below(256) as u8, b'/', b'.', 0, b'7'][dice.below(5) as usize];
        }
        for block in 0..damaged.len() / 512 {
            let block: &mut [u8] = &mut damaged[block * 512..][..512];
            if block[257..262] == *b"ustar" {
                let header = sealed((&*block).try_into().unwrap());
                block.copy_from_slice(&header);
            }
        }
        let scratch = Scratch::new();
        // Most fail and some do not; none may do more than that.
        let _ = scratch.unpack("/workspace", &damaged);
        assert_eq!(fs::read_dir(scratch.beside()).unwrap().count(), 0);
    }
}

/// An archive's bytes, a few at a time, so that others get a turn.
struct Slow<'a>(&'a [u8]);

impl Read for Slow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        std::thread::yield_now();
        let length = buffer.len().min(512);
        self.0.read(&mut buffer[..length])
    }
}

#[test]
fn a_folder_that_becomes_a_link_meanwhile_leads_nowhere() {
    let scratch = Scratch::new();
    symlink("../beside", scratch.path("link")).unwrap();
    fs::create_dir(scratch.path("real")).unwrap();
    let names: Vec<String> = (0..200).map(|number| format!("real/{}/file{number}", number % 80)).collect();
    let members: Vec<Member> = names.iter().map(|name| Member { name: name.as_bytes(), ..Member::default() }).collect();
    let packed = archive(&members);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for (from, to) in [("real", "aside"), ("link", "real"), ("real", "link"), ("aside", "real")] {
                    // It fails where the tool has made the folder anew.
                    let _ = fs::rename(scratch.path(from), scratch.path(to));
                }
            }
        });
        for _ in 0..6 {
            let _ = scratch.unpack_from("/workspace", &mut Slow(&packed));
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(fs::read_dir(scratch.beside()).unwrap().count(), 0);
}
