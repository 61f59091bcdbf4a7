//! The records of pax that say more of an entry than its header can (pax(1), "pax Extended Header").

use super::header::{broken, id, up_to_nul, Entry, Kind};
use crate::tools::ToolError;

/// What is known of an entry beyond its header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<(i64, u32)>,
}

impl Extended {
    /// Takes GNU tar's long name.
    pub fn set_name(&mut self, bytes: &[u8]) {
        self.name = Some(up_to_nul(bytes).to_vec());
    }

    /// Takes GNU tar's long link target.
    pub fn set_link(&mut self, bytes: &[u8]) {
        self.link = Some(up_to_nul(bytes).to_vec());
    }

    /// Takes records, each `LENGTH KEY=VALUE\n`.
    pub fn add(&mut self, mut records: &[u8]) -> Result<(), ToolError> {
        // Some archivers fill up with NULs.
        while !up_to_nul(records).is_empty() {
            let (key, value, rest) = split(records).ok_or_else(|| broken("the archive has a broken pax record"))?;
            self.set(key, value)?;
            records = rest;
        }
        Ok(())
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), ToolError> {
        match key {
            b"path" => self.name = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"uid" => self.uid = Some(id(decimal(value)?)?),
            b"gid" => self.gid = Some(id(decimal(value)?)?),
            b"mtime" => self.mtime = Some(time(value)?),
            // The content of these is not what the file is to hold.
            _ if key.starts_with(b"GNU.sparse.") => return Err(broken("sparse files are not unpacked")),
            _ => {}
        }
        Ok(())
    }

    /// Applies this to an entry; what this says counts more.
    pub fn complete(self, entry: &mut Entry) {
        entry.name = self.name.unwrap_or(std::mem::take(&mut entry.name));
        entry.link = self.link.unwrap_or(std::mem::take(&mut entry.link));
        if entry.kind == Kind::File {
            entry.size = self.size.unwrap_or(entry.size);
        }
        entry.uid = self.uid.unwrap_or(entry.uid);
        entry.gid = self.gid.unwrap_or(entry.gid);
        entry.mtime = self.mtime.unwrap_or(entry.mtime);
    }
}

/// The first record's key and value, and what follows it.
fn split(records: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = records.iter().position(|byte| *byte == b' ')?;
    let length = usize::try_from(decimal(&records[..space]).ok()?).ok()?;
    let (record, rest) = records.split_at_checked(length)?;
    let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|byte| *byte == b'=')?;
    Some((&record[..equals], &record[equals + 1..], rest))
}

fn decimal(digits: &[u8]) -> Result<u64, ToolError> {
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    let number = text.and_then(|text| text.parse::<u64>().ok());
    number.ok_or_else(|| broken("the archive has a pax record with a broken number"))
}

/// Seconds since 1970 as a decimal fraction, which may be negative. Digits beyond nanoseconds are cut off.
fn time(value: &[u8]) -> Result<(i64, u32), ToolError> {
    let broken = || broken("the archive has a pax record with a broken time");
    let (negative, digits) = value.strip_prefix(b"-").map_or((false, value), |digits| (true, digits));
    let point = digits.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = point.map_or((digits, &b""[..]), |point| (&digits[..point], &digits[point + 1..]));
    let seconds = i64::try_from(decimal(whole)?).map_err(|_| broken())?;
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err(broken());
    }
    let padded = fraction.iter().chain(std::iter::repeat(&b'0')).take(9);
    let nanoseconds = padded.fold(0_u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    Ok(match (negative, nanoseconds) {
        (false, _) => (seconds, nanoseconds),
        (true, 0) => (-seconds, 0),
        (true, _) => (-seconds - 1, 1_000_000_000 - nanoseconds),
    })
}
