//! Lines with their ends.

/// The lines of a content, each with its newline; only the last one may lack it.
pub fn split(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    content.split_inclusive(|byte| *byte == b'\n')
}

/// A line without its newline and one carriage return before that.
pub fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A line without the newline.
pub fn without_newline(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\n").unwrap_or(line)
}

/// Whether a line ends as on Windows.
pub fn ends_with_crlf(line: &[u8]) -> bool {
    line.ends_with(b"\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_keeps_its_end() {
        assert_eq!(split(b"a\r\n\nb").collect::<Vec<_>>(), [&b"a\r\n"[..], b"\n", b"b"]);
        assert_eq!(split(b"").count(), 0);
        assert_eq!(without_end(b"a\r\n"), b"a");
        assert_eq!(without_end(b"a"), b"a");
        assert_eq!(without_newline(b"a\r\n"), b"a\r");
        assert!(ends_with_crlf(b"a\r\n") && !ends_with_crlf(b"a\r"));
    }
}
