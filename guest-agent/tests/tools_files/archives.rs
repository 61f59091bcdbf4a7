//! Archives that GNU tar makes and takes, and archives made by hand.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// An archive that GNU tar makes of a folder.
pub fn gnu_tar(folder: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new("tar").args(arguments).args(["-cf", "-", "-C"]).arg(folder).arg(".").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Lets GNU tar unpack an archive into a folder.
pub fn gnu_untar(archive: &[u8], folder: &Path) {
    let mut tar = Command::new("tar")
        .args(["--warning=no-timestamp", "-xpf", "-", "-C"])
        .arg(folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    tar.stdin.take().unwrap().write_all(archive).unwrap();
    assert!(tar.wait().unwrap().success());
}

/// One member of an archive, made by hand.
pub struct Member<'a> {
    pub name: &'a [u8],
    pub link: &'a [u8],
    pub code: u8,
    pub mode: u32,
    pub content: &'a [u8],
}

impl Default for Member<'_> {
    fn default() -> Self {
        Self { name: b"file", link: b"", code: b'0', mode: 0o644, content: b"" }
    }
}

impl Member<'_> {
    pub fn header(&self) -> [u8; 512] {
        let mut block = [0; 512];
        block[..self.name.len()].copy_from_slice(self.name);
        block[100..107].copy_from_slice(format!("{:07o}", self.mode).as_bytes());
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        block[108..115].copy_from_slice(format!("{:07o}", user.as_raw()).as_bytes());
        block[116..123].copy_from_slice(format!("{:07o}", group.as_raw()).as_bytes());
        block[124..135].copy_from_slice(format!("{:011o}", self.content.len()).as_bytes());
        block[136..147].copy_from_slice(b"00000001750");
        block[156] = self.code;
        block[157..157 + self.link.len()].copy_from_slice(self.link);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = sealed(self.header()).to_vec();
        bytes.extend(self.content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }
}

/// A header with its checksum.
pub fn sealed(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

pub fn archive(members: &[Member]) -> Vec<u8> {
    let mut bytes: Vec<u8> = members.iter().flat_map(Member::bytes).collect();
    bytes.extend([0; 1024]);
    bytes
}

/// A record of a pax header, less than 100 bytes long.
pub fn pax_record(key: &str, value: &str) -> String {
    let length = key.len() + value.len() + 4;
    let length = if length < 10 { length } else { length + 1 };
    format!("{length} {key}={value}\n")
}
