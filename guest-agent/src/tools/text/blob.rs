//! The names that git gives to contents.

use std::io::{self, Read};

use sha1_smol::{Digest, Sha1};

/// What stands for the content of a file that does not exist.
pub const ABSENT: &str = "0000000000000000000000000000000000000000";

/// The 40 hexadecimal digits by which git knows this content.
pub fn id(content: &[u8]) -> String {
    let mut hash = begin(content.len() as u64);
    hash.update(content);
    hash.digest().to_string()
}

/// The same of a content that is read bit by bit; `None` if it does not have the size that it should have.
pub fn id_of(mut content: impl Read, size: u64) -> io::Result<Option<Digest>> {
    let mut hash = begin(size);
    let mut buffer = vec![0; 64 << 10];
    let mut left = size;
    loop {
        let length = content.read(&mut buffer)?;
        if length == 0 {
            return Ok((left == 0).then(|| hash.digest()));
        }
        let Some(after) = left.checked_sub(length as u64) else { return Ok(None) };
        left = after;
        hash.update(&buffer[..length]);
    }
}

fn begin(size: u64) -> Sha1 {
    let mut hash = Sha1::new();
    hash.update(format!("blob {size}\0").as_bytes());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_git() {
        assert_eq!(id(b""), "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
        assert_eq!(id(b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn reading_gives_the_same_unless_the_size_is_another() {
        assert_eq!(id_of(&b"hello\n"[..], 6).unwrap().unwrap().to_string(), id(b"hello\n"));
        assert!(id_of(&b"hello\n"[..], 5).unwrap().is_none());
        assert!(id_of(&b"hello\n"[..], 7).unwrap().is_none());
    }
}
