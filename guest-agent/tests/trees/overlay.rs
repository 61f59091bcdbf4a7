//! A real overlay, mounted for the calling thread alone. Tests that use it have to run as root.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::mount::{mount, umount2, MntFlags, MsFlags};
use pyro_agent::tools::{diff, Place};

use super::Scratch;

const NOTHING: Option<&str> = None;

/// An overlay on a file system in memory.
pub struct Overlay {
    scratch: Scratch,
}

impl Overlay {
    /// Makes one whose lower layer is what `fill` puts there.
    pub fn new(fill: impl FnOnce(&Path)) -> Self {
        let overlay = Self { scratch: Scratch::new() };
        enter_namespace();
        mount(Some("tmpfs"), &overlay.scratch.0, Some("tmpfs"), MsFlags::empty(), NOTHING).expect("tmpfs");
        for name in ["lower", "upper", "work", "merged"] {
            overlay.scratch.folder(name);
        }
        fill(&overlay.lower());
        overlay.mount();
        overlay
    }

    fn mount(&self) {
        let path = |name: &str| self.scratch.path(name).display().to_string();
        let folders = format!("lowerdir={},upperdir={},workdir={}", path("lower"), path("upper"), path("work"));
        let options = format!("{folders},redirect_dir=on,metacopy=off");
        mount(Some("overlay"), &self.merged(), Some("overlay"), MsFlags::empty(), Some(&*options)).expect("overlay");
    }

    pub fn lower(&self) -> PathBuf {
        self.scratch.path("lower")
    }

    pub fn upper(&self) -> PathBuf {
        self.scratch.path("upper")
    }

    /// Where changes are made.
    pub fn merged(&self) -> PathBuf {
        self.scratch.path("merged")
    }

    pub fn folder(&self, name: &str) -> PathBuf {
        self.scratch.folder(name)
    }

    pub fn place(&self) -> Place {
        Place::open(&self.merged(), Some(&self.upper()), Some(&self.lower()), None).unwrap()
    }

    pub fn diff(&self, max_bytes: u64) -> Difference {
        let mut output = Vec::new();
        diff::run(&self.place(), max_bytes, &mut io::empty(), &mut output).unwrap();
        Difference::parse(&output)
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        let _ = umount2(&self.merged(), MntFlags::MNT_DETACH);
        let _ = umount2(&self.scratch.0, MntFlags::MNT_DETACH);
    }
}

/// Mounts of this thread are nobody else's, and end with it.
fn enter_namespace() {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    assert_eq!(result, 0, "this test has to run as root: {}", io::Error::last_os_error());
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING).unwrap();
}

/// What `diff` wrote.
pub struct Difference {
    /// The fields of each entry, and its text.
    pub entries: Vec<(serde_json::Value, String)>,
    pub text: Vec<u8>,
    pub truncated: bool,
}

impl Difference {
    fn parse(output: &[u8]) -> Self {
        let (mut entries, mut text, mut rest) = (Vec::new(), Vec::new(), output);
        loop {
            let end = rest.iter().position(|byte| *byte == b'\n').expect("a whole line");
            let line: serde_json::Value = serde_json::from_slice(&rest[..end]).unwrap();
            rest = &rest[end + 1..];
            if line.get("end").is_some() {
                assert!(rest.is_empty(), "something follows the end");
                return Self { entries, text, truncated: line["truncated"].as_bool().unwrap() };
            }
            let mut own = Vec::new();
            let length = line["text_bytes"].as_u64().unwrap();
            rest.by_ref().take(length).read_to_end(&mut own).unwrap();
            text.extend(&own);
            entries.push((line, String::from_utf8_lossy(&own).into_owned()));
        }
    }

    /// Changes and paths: `modified a`, `renamed a -> b`.
    pub fn summary(&self) -> Vec<String> {
        let short = |value: &serde_json::Value| value.as_str().unwrap().strip_prefix("/workspace/").unwrap().to_owned();
        let line = |entry: &serde_json::Value| match entry["old_path"].is_null() {
            true => format!("{} {}", entry["change"].as_str().unwrap(), short(&entry["path"])),
            false => format!(
                "{} {} -> {}",
                entry["change"].as_str().unwrap(),
                short(&entry["old_path"]),
                short(&entry["path"])
            ),
        };
        self.entries.iter().map(|(entry, _)| line(entry)).collect()
    }
}

/// Changes the merged tree by hand: unlike `fs::write` it makes the folders.
pub fn put(root: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}
