//! Names in patches: plain, or in quotes as in C where they hold anything unusual (git's `core.quotePath`).

/// The letters after a backslash and what they stand for.
const ESCAPES: [(u8, u8); 9] = [
    (b'a', 7),
    (b'b', 8),
    (b't', b'\t'),
    (b'n', b'\n'),
    (b'v', 11),
    (b'f', 12),
    (b'r', b'\r'),
    (b'"', b'"'),
    (b'\\', b'\\'),
];

/// The name as git writes it: as it is, or in quotes if it has control characters, quotes, backslashes or bytes that
/// are not ASCII.
pub fn quoted(name: &[u8]) -> Vec<u8> {
    if !name.iter().any(|byte| is_unusual(*byte)) {
        return name.to_vec();
    }
    let mut out = vec![b'"'];
    for byte in name {
        if !is_unusual(*byte) {
            out.push(*byte);
        } else if let Some((letter, _)) = ESCAPES.iter().find(|(_, stands_for)| stands_for == byte) {
            out.extend([b'\\', *letter]);
        } else {
            out.extend(format!("\\{byte:03o}").bytes());
        }
    }
    out.push(b'"');
    out
}

fn is_unusual(byte: u8) -> bool {
    !(b' '..0x7f).contains(&byte) || byte == b'"' || byte == b'\\'
}

/// Reads a name in quotes at the beginning of `text`. Returns it and what follows the closing quote.
pub fn unquoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut name = Vec::new();
    loop {
        let (byte, after) = rest.split_first()?;
        rest = match byte {
            b'"' => return Some((name, after)),
            b'\\' => unescape(after, &mut name)?,
            _ => {
                name.push(*byte);
                after
            }
        };
    }
}

fn unescape<'a>(text: &'a [u8], name: &mut Vec<u8>) -> Option<&'a [u8]> {
    let (letter, after) = text.split_first()?;
    if let Some((_, stands_for)) = ESCAPES.iter().find(|(candidate, _)| candidate == letter) {
        name.push(*stands_for);
        return Some(after);
    }
    let (digits, after) = text.split_at_checked(3)?;
    if !digits.iter().all(|digit| (b'0'..b'8').contains(digit)) {
        return None;
    }
    let value = digits.iter().fold(0_u32, |value, digit| value * 8 + u32::from(digit - b'0'));
    name.push(u8::try_from(value).ok()?);
    Some(after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_names_stay_as_they_are() {
        assert_eq!(quoted(b"src/a file.txt"), b"src/a file.txt");
    }

    #[test]
    fn unusual_names_are_quoted() {
        assert_eq!(quoted("ä\t\"x\"\\\x01".as_bytes()), br#""\303\244\t\"x\"\\\001""#);
    }

    #[test]
    fn every_byte_comes_back() {
        let name: Vec<u8> = (1..=255).collect();
        let text = [&quoted(&name)[..], b" rest"].concat();
        assert_eq!(unquoted(&text).unwrap(), (name, &b" rest"[..]));
    }

    #[test]
    fn broken_quotes_are_none() {
        for text in [&b"a"[..], b"\"a", b"\"\\", b"\"\\x\"", b"\"\\18", b"\"\\777\"", b"\"\\08a\""] {
            assert!(unquoted(text).is_none(), "{text:?}");
        }
    }
}
