//! The blocks of git's binary patches: compressed contents, or what turns the old content into the new one.

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;

use super::base85;

/// Most bytes of compressed data in a line.
const LINE_BYTES: usize = 52;

/// What zlib uses if nobody asks for anything.
const LEVEL: u8 = 6;

/// What a binary patch may unfold to, in bytes.
pub const MAX_CONTENT_BYTES: usize = 64 << 20;

/// One block of a binary patch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    pub is_delta: bool,
    /// The whole content, or the delta, uncompressed.
    pub data: Vec<u8>,
}

/// Appends a block that holds the whole content.
pub fn write_literal(content: &[u8], out: &mut Vec<u8>) {
    out.extend(format!("literal {}\n", content.len()).bytes());
    for line in compress_to_vec_zlib(content, LEVEL).chunks(LINE_BYTES) {
        out.push(length_letter(line.len()));
        base85::encode(line, out);
        out.push(b'\n');
    }
    out.push(b'\n');
}

fn length_letter(length: usize) -> u8 {
    let length = length as u8;
    if length <= 26 {
        b'A' + length - 1
    } else {
        b'a' + length - 27
    }
}

fn letter_length(letter: u8) -> Option<usize> {
    match letter {
        b'A'..=b'Z' => Some(usize::from(letter - b'A') + 1),
        b'a'..=b'z' => Some(usize::from(letter - b'a') + 27),
        _ => None,
    }
}

/// Reads a block from lines without their ends. Returns it and how many lines it took, its blank last one not counted.
pub fn read_block(lines: &[&[u8]]) -> Result<(Block, usize), &'static str> {
    let header = std::str::from_utf8(lines.first().ok_or("nothing")?).map_err(|_| "no header")?;
    let (kind, size) = header.split_once(' ').ok_or("no header")?;
    let size: usize = size.trim_end().parse().map_err(|_| "no size")?;
    if !matches!(kind, "literal" | "delta") {
        return Err("neither literal nor delta");
    }
    let mut compressed = Vec::new();
    let body = lines[1..].iter().take_while(|line| !line.trim_ascii_end().is_empty());
    let mut count = 1;
    for line in body {
        let (letter, text) = line.split_first().ok_or("an empty line")?;
        let length = letter_length(*letter).ok_or("a line without a length")?;
        base85::decode(text.trim_ascii_end(), length, &mut compressed).ok_or("a line that is not base 85")?;
        count += 1;
    }
    let data = unfold(&compressed, size)?;
    Ok((Block { is_delta: kind == "delta", data }, count))
}

fn unfold(compressed: &[u8], size: usize) -> Result<Vec<u8>, &'static str> {
    if size > MAX_CONTENT_BYTES {
        return Err("a content that is too large");
    }
    let data = decompress_to_vec_zlib_with_limit(compressed, size).map_err(|_| "data that zlib does not take")?;
    if data.len() == size {
        Ok(data)
    } else {
        Err("another size than announced")
    }
}

/// Turns the old content into the new one as a delta says (git's pack format, "Deltified representation").
pub fn apply_delta(old: &[u8], delta: &[u8]) -> Option<Vec<u8>> {
    let (old_size, rest) = read_size(delta)?;
    let (new_size, mut rest) = read_size(rest)?;
    if old_size != old.len() || new_size > MAX_CONTENT_BYTES {
        return None;
    }
    let mut new = Vec::with_capacity(new_size);
    while let Some((instruction, after)) = rest.split_first() {
        let (piece, after) = if instruction & 0x80 == 0 {
            after.split_at_checked(usize::from(*instruction)).filter(|_| *instruction != 0)?
        } else {
            copied(old, *instruction, after)?
        };
        if new.len() + piece.len() > new_size {
            return None;
        }
        new.extend(piece);
        rest = after;
    }
    (new.len() == new_size).then_some(new)
}

/// Seven bits a byte, the lowest first; the highest bit says that there are more.
fn read_size(mut text: &[u8]) -> Option<(usize, &[u8])> {
    let mut size = 0;
    for shift in (0..35).step_by(7) {
        let (byte, after) = text.split_first()?;
        text = after;
        size |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((size, text));
        }
    }
    None
}

/// A piece of the old content: the lower four bits tell which bytes of its offset follow, the next three which of its
/// length.
fn copied<'a>(old: &'a [u8], instruction: u8, mut rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let mut numbers = [0; 2];
    for bit in 0..7 {
        if instruction & 1 << bit != 0 {
            let (byte, after) = rest.split_first()?;
            rest = after;
            let (number, place) = if bit < 4 { (0, bit) } else { (1, bit - 4) };
            numbers[number] |= usize::from(*byte) << (8 * place);
        }
    }
    let [offset, length] = numbers;
    let length = if length == 0 { 0x10000 } else { length };
    Some((old.get(offset..offset.checked_add(length)?)?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Vec<&[u8]> {
        text.split(|byte| *byte == b'\n').collect()
    }

    #[test]
    fn a_literal_comes_back() {
        for length in [0, 1, 51, 52, 53, 1000, 70_000] {
            let content: Vec<u8> = (0..length).map(|number: usize| ((number * number) >> 3) as u8).collect();
            let mut text = Vec::new();
            write_literal(&content, &mut text);
            let (block, count) = read_block(&lines(&text)).unwrap();
            assert_eq!(block, Block { is_delta: false, data: content });
            assert_eq!(lines(&text)[count], b"");
        }
    }

    #[test]
    fn rubbish_is_refused() {
        for text in ["", "literal", "literal x", "other 1", "literal 1\n!", "literal 1\nAB", "literal 99999999999"] {
            assert!(read_block(&lines(text.as_bytes())).is_err(), "{text}");
        }
        let mut text = Vec::new();
        write_literal(b"hello", &mut text);
        let longer = String::from_utf8(text).unwrap().replace("literal 5", "literal 6");
        assert_eq!(read_block(&lines(longer.as_bytes())), Err("another size than announced"));
    }

    #[test]
    fn a_delta_copies_and_inserts() {
        let delta = [&[6, 8, 0x91, 2, 3, 2][..], b"XY", &[0x90, 3]].concat();
        assert_eq!(apply_delta(b"abcdef", &delta).unwrap(), b"cdeXYabc");
    }

    #[test]
    fn a_delta_stays_within_its_bounds() {
        assert_eq!(apply_delta(b"abc", &[6, 0]), None, "another old size");
        assert_eq!(apply_delta(b"abc", &[3, 4, 0x90, 4]), None, "past the end of the old content");
        assert_eq!(apply_delta(b"abc", &[3, 2, 0x90, 3]), None, "more than announced");
        assert_eq!(apply_delta(b"abc", &[3, 4, 0x90, 3]), None, "less than announced");
        assert_eq!(apply_delta(b"abc", &[3, 3, 0]), None, "an instruction that means nothing");
        assert_eq!(apply_delta(b"abc", &[0xff; 9]), None, "a size without an end");
    }
}
