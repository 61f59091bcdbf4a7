//! The headers of an archive: ustar (pax(1)), with pax records for what does not fit into one.

use nix::sys::stat::FileStat;

pub const BLOCK: usize = 512;

/// Largest numbers that the octal digits of a header can hold.
const MAX_ID: u64 = 0o777_7777;
const MAX_SIZE: u64 = 0o777_7777_7777;

const NAME_BYTES: usize = 100;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    Folder,
}

/// One file of the archive.
pub struct Member<'a> {
    kind: Kind,
    name: &'a [u8],
    target: &'a [u8],
    size: u64,
    stat: &'a FileStat,
}

impl<'a> Member<'a> {
    pub fn new(kind: Kind, name: &'a [u8], stat: &'a FileStat) -> Self {
        let size = if kind == Kind::File { u64::try_from(stat.st_size).unwrap_or_default() } else { 0 };
        Self { kind, name, target: b"", size, stat }
    }

    /// With what a link leads to.
    pub fn to(self, target: &'a [u8]) -> Self {
        Self { target, ..self }
    }

    /// The blocks before the content.
    pub fn blocks(&self) -> Vec<u8> {
        let mut blocks = extended(&self.records());
        let code = match self.kind {
            Kind::File => b'0',
            Kind::HardLink => b'1',
            Kind::Symlink => b'2',
            Kind::Folder => b'5',
        };
        let owner =
            Owner { mode: self.stat.st_mode & 0o7777, uid: self.stat.st_uid.into(), gid: self.stat.st_gid.into() };
        blocks.extend(block(self.name, self.target, code, self.size, owner, self.stat.st_mtime));
        blocks
    }

    fn records(&self) -> Vec<u8> {
        let mut records = Vec::new();
        let mut number = |key: &str, number: u64, most: u64| {
            if number > most {
                record(&mut records, key, number.to_string().as_bytes());
            }
        };
        number("size", self.size, MAX_SIZE);
        number("uid", self.stat.st_uid.into(), MAX_ID);
        number("gid", self.stat.st_gid.into(), MAX_ID);
        if self.name.len() > NAME_BYTES {
            record(&mut records, "path", self.name);
        }
        if self.target.len() > NAME_BYTES {
            record(&mut records, "linkpath", self.target);
        }
        if self.stat.st_mtime_nsec != 0 || !(0..=MAX_SIZE as i64).contains(&self.stat.st_mtime) {
            record(&mut records, "mtime", time(self.stat.st_mtime, self.stat.st_mtime_nsec).as_bytes());
        }
        records
    }
}

/// The blocks that name a pipe, a device or a socket and say nothing else of it. All stand as pipes: devices would need
/// their numbers, and tar has no type for sockets.
pub fn special(name: &[u8]) -> Vec<u8> {
    let mut records = Vec::new();
    if name.len() > NAME_BYTES {
        record(&mut records, "path", name);
    }
    let mut blocks = extended(&records);
    blocks.extend(block(name, b"", b'6', 0, Owner::default(), 0));
    blocks
}

/// The blocks of pax records for the header that comes next; none for no records.
fn extended(records: &[u8]) -> Vec<u8> {
    let mut blocks = Vec::with_capacity(BLOCK);
    if !records.is_empty() {
        blocks.extend(block(b"./pax", b"", b'x', records.len() as u64, Owner::default(), 0));
        blocks.extend(records);
        blocks.resize(blocks.len().next_multiple_of(BLOCK), 0);
    }
    blocks
}

#[derive(Default)]
struct Owner {
    mode: u32,
    uid: u64,
    gid: u64,
}

/// One header; what does not fit is cut off, and stands in the pax records before.
fn block(name: &[u8], target: &[u8], code: u8, size: u64, owner: Owner, mtime: i64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    text(&mut block[..100], name);
    octal(&mut block[100..108], owner.mode.into());
    octal(&mut block[108..116], owner.uid);
    octal(&mut block[116..124], owner.gid);
    octal(&mut block[124..136], size);
    octal(&mut block[136..148], u64::try_from(mtime).unwrap_or_default());
    block[148..156].fill(b' ');
    block[156] = code;
    text(&mut block[157..257], target);
    block[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
    octal(&mut block[148..155], sum);
    block
}

fn text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Octal digits and a NUL; a number that is too large leaves the field at 0.
fn octal(field: &mut [u8], number: u64) {
    let width = field.len() - 1;
    let number = if number >> (3 * width) == 0 { number } else { 0 };
    field[..width].copy_from_slice(format!("{number:0width$o}").as_bytes());
}

/// Appends `LENGTH KEY=VALUE\n`, where the length counts its own digits, too.
fn record(records: &mut Vec<u8>, key: &str, value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} {key}=").as_bytes());
    records.extend(value);
    records.push(b'\n');
}

/// Seconds as a decimal fraction; the kernel counts nanoseconds upwards also before 1970.
fn time(seconds: i64, nanoseconds: i64) -> String {
    if seconds >= 0 || nanoseconds == 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}
