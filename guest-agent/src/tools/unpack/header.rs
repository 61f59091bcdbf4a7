//! One header block of a tar archive.
//!
//! The layout is POSIX's ustar (pax(1), "ustar Interchange Format"), with GNU tar's numbers in base 256.

use super::super::{Code, ToolError};

pub const BLOCK: usize = 512;

// Where the fields are, and how long they are.
const NAME: (usize, usize) = (0, 100);
const MODE: (usize, usize) = (100, 8);
const UID: (usize, usize) = (108, 8);
const GID: (usize, usize) = (116, 8);
const SIZE: (usize, usize) = (124, 12);
const MTIME: (usize, usize) = (136, 12);
const CHECKSUM: (usize, usize) = (148, 8);
const TYPE_AT: usize = 156;
const LINK: (usize, usize) = (157, 100);
const MAGIC: (usize, usize) = (257, 6);
const PREFIX: (usize, usize) = (345, 155);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Symlink,
    HardLink,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// As it stands in the archive.
    pub name: Vec<u8>,
    /// Where a link leads.
    pub link: Vec<u8>,
    /// Bytes of content in the archive; 0 for all but files.
    pub size: u64,
    /// Permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970, and nanoseconds on top.
    pub mtime: (i64, u32),
}

/// What a header block is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    Entry(Entry),
    /// The rest is more about the next entry, of so many bytes.
    More(More, u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum More {
    /// GNU tar's long names and link targets.
    Name,
    Link,
    /// Records of pax for the next entry, and for all that follow.
    Pax,
    GlobalPax,
}

pub fn broken(message: impl Into<String>) -> ToolError {
    ToolError::new(Code::BadArchive, message)
}

/// Reads a block that is not all zeroes.
pub fn parse(block: &[u8; BLOCK]) -> Result<Header, ToolError> {
    check_sum(block)?;
    let size = unsigned(block, SIZE, "size")?;
    let more = match block[TYPE_AT] {
        b'L' => Some(More::Name),
        b'K' => Some(More::Link),
        b'x' => Some(More::Pax),
        b'g' => Some(More::GlobalPax),
        _ => None,
    };
    if let Some(more) = more {
        return Ok(Header::More(more, size));
    }
    let name = name(block);
    let kind = kind(block[TYPE_AT], &name)?;
    Ok(Header::Entry(Entry {
        kind,
        link: text(block, LINK).to_vec(),
        // Some archivers write the size of the file into the headers of its links, too.
        size: if kind == Kind::File { size } else { 0 },
        mode: unsigned(block, MODE, "mode")? as u32 & 0o7777,
        uid: id(unsigned(block, UID, "owner")?)?,
        gid: id(unsigned(block, GID, "group")?)?,
        mtime: (number(block, MTIME, "time")?, 0),
        name,
    }))
}

pub fn id(number: u64) -> Result<u32, ToolError> {
    // The largest one means "none" to the kernel.
    let id = u32::try_from(number).ok().filter(|id| *id != u32::MAX);
    id.ok_or_else(|| broken(format!("the archive has an owner {number}")))
}

fn kind(code: u8, name: &[u8]) -> Result<Kind, ToolError> {
    let refuse = |what: &str| Err(broken(format!("{}: {what}", String::from_utf8_lossy(name))));
    match code {
        0 | b'0' | b'7' => Ok(Kind::File),
        b'1' => Ok(Kind::HardLink),
        b'2' => Ok(Kind::Symlink),
        b'5' => Ok(Kind::Folder),
        b'3' | b'4' => refuse("devices are not unpacked"),
        b'6' => refuse("named pipes are not unpacked"),
        b'S' => refuse("sparse files are not unpacked"),
        _ => refuse(&format!("entries of type {:?} are not unpacked", char::from(code))),
    }
}

fn field(block: &[u8; BLOCK], (at, length): (usize, usize)) -> &[u8] {
    &block[at..at + length]
}

/// A text up to its first NUL.
fn text(block: &[u8; BLOCK], place: (usize, usize)) -> &[u8] {
    up_to_nul(field(block, place))
}

pub fn up_to_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn name(block: &[u8; BLOCK]) -> Vec<u8> {
    let (prefix, name) = (text(block, PREFIX), text(block, NAME));
    // GNU tar's own format has other things where ustar has the beginning of a long name.
    if field(block, MAGIC) != b"ustar\0" || prefix.is_empty() {
        return name.to_vec();
    }
    [prefix, b"/", name].concat()
}

fn check_sum(block: &[u8; BLOCK]) -> Result<(), ToolError> {
    let (at, length) = CHECKSUM;
    let counted = block.iter().enumerate().map(|(place, byte)| match place {
        place if (at..at + length).contains(&place) => b' ',
        _ => *byte,
    });
    let (unsigned, signed) = counted
        .fold((0_i64, 0_i64), |(unsigned, signed), byte| (unsigned + i64::from(byte), signed + i64::from(byte as i8)));
    // Old archivers added up signed bytes.
    match number(block, CHECKSUM, "checksum")? {
        sum if sum == unsigned || sum == signed => Ok(()),
        _ => Err(broken("this is no tar archive, or it is damaged: the checksum of a header is wrong")),
    }
}

fn unsigned(block: &[u8; BLOCK], place: (usize, usize), what: &str) -> Result<u64, ToolError> {
    u64::try_from(number(block, place, what)?)
        .map_err(|_| broken(format!("a header of the archive has a negative {what}")))
}

/// A number in octal digits, or, where the first bit is set, in base 256.
fn number(block: &[u8; BLOCK], place: (usize, usize), what: &str) -> Result<i64, ToolError> {
    let field = field(block, place);
    let number = if field[0] & 0x80 == 0 { octal(field) } else { base_256(field) };
    number.ok_or_else(|| broken(format!("a header of the archive has no proper {what}")))
}

fn octal(field: &[u8]) -> Option<i64> {
    let digits = up_to_nul(field).trim_ascii();
    if digits.is_empty() {
        return Some(0);
    }
    digits.iter().try_fold(0_i64, |number, digit| match digit {
        b'0'..=b'7' => number.checked_mul(8)?.checked_add(i64::from(digit - b'0')),
        _ => None,
    })
}

/// Two's complement, less the bit that says that it is this form.
fn base_256(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { i64::from(field[0] as i8) } else { i64::from(field[0] & 0x3f) };
    field[1..].iter().try_fold(first, |number, byte| number.checked_mul(256)?.checked_add(i64::from(*byte)))
}
