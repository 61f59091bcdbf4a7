//! The frames on a stream: a tag, a length, a payload.

/// Longest payload in bytes.
pub const MAX_LEN: usize = 1024 * 1024;

pub const HEADER_LEN: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tag {
    Stdin = 0,
    Stdout = 1,
    Stderr = 2,
    Message = 3,
}

impl Tag {
    fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => Self::Stdin,
            1 => Self::Stdout,
            2 => Self::Stderr,
            3 => Self::Message,
            _ => return None,
        })
    }
}

/// A part of a frame. Data is passed on as it comes, a message only when it is whole.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'a> {
    Data(Tag, &'a [u8]),
    /// A data frame without data.
    Empty(Tag),
    Message(Vec<u8>),
}

/// A frame that makes everything after it on the channel meaningless.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    UnknownTag(u8),
    Oversized(u32),
}

#[derive(Debug, Default)]
pub struct Decoder {
    header: [u8; HEADER_LEN],
    filled: usize,
    /// The frame whose payload is being read, and how much of it is to come.
    body: Option<(Tag, usize)>,
    message: Vec<u8>,
}

impl Decoder {
    /// Takes the next part out of the input; `None` when more input is needed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Part<'a>>, Broken> {
        let (tag, left) = match self.body {
            Some(body) => body,
            None => match self.read_header(input)? {
                Some(body) => body,
                None => return Ok(None),
            },
        };
        let (taken, rest) = input.split_at(left.min(input.len()));
        *input = rest;
        let left = left - taken.len();
        self.body = (left > 0).then_some((tag, left));
        Ok(self.part(tag, taken, left))
    }

    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<(Tag, usize)>, Broken> {
        let (taken, rest) = input.split_at((HEADER_LEN - self.filled).min(input.len()));
        *input = rest;
        self.header[self.filled..self.filled + taken.len()].copy_from_slice(taken);
        self.filled += taken.len();
        if self.filled < HEADER_LEN {
            return Ok(None);
        }
        self.filled = 0;
        let [tag, length @ ..] = self.header;
        let length = u32::from_be_bytes(length);
        let tag = Tag::parse(tag).ok_or(Broken::UnknownTag(tag))?;
        if length as usize > MAX_LEN {
            return Err(Broken::Oversized(length));
        }
        if length == 0 && tag != Tag::Message {
            return Ok(Some((tag, 0)));
        }
        Ok(Some((tag, length as usize)))
    }

    fn part<'a>(&mut self, tag: Tag, taken: &'a [u8], left: usize) -> Option<Part<'a>> {
        if tag == Tag::Message {
            self.message.extend_from_slice(taken);
            return (left == 0).then(|| Part::Message(std::mem::take(&mut self.message)));
        }
        match (taken.is_empty(), left) {
            (false, _) => Some(Part::Data(tag, taken)),
            (true, 0) => Some(Part::Empty(tag)),
            (true, _) => None,
        }
    }
}

/// The first bytes of a frame with `length` bytes of payload.
pub fn header(tag: Tag, length: usize) -> [u8; HEADER_LEN] {
    debug_assert!(length <= MAX_LEN);
    let [a, b, c, d] = (length as u32).to_be_bytes();
    [tag as u8, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(tag: Tag, payload: &[u8]) -> Vec<u8> {
        [&header(tag, payload.len())[..], payload].concat()
    }

    fn parts(bytes: &[u8], step: usize) -> Result<Vec<(u8, Vec<u8>)>, Broken> {
        let mut decoder = Decoder::default();
        let mut seen = Vec::new();
        for chunk in bytes.chunks(step) {
            let mut input = chunk;
            while let Some(part) = decoder.next(&mut input)? {
                seen.push(match part {
                    Part::Data(tag, data) => (tag as u8, data.to_vec()),
                    Part::Empty(tag) => (tag as u8, Vec::new()),
                    Part::Message(message) => (Tag::Message as u8, message),
                });
            }
            assert!(input.is_empty());
        }
        Ok(seen)
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let bytes = [
            encoded(Tag::Message, b"{}"),
            encoded(Tag::Stdin, b"in"),
            encoded(Tag::Stdin, b""),
            encoded(Tag::Message, b""),
            encoded(Tag::Stderr, b"e"),
        ]
        .concat();
        let whole = [(3, b"{}".to_vec()), (0, b"in".to_vec()), (0, vec![]), (3, vec![]), (2, b"e".to_vec())];
        assert_eq!(parts(&bytes, bytes.len()).unwrap(), whole);
    }

    #[test]
    fn data_is_split_where_the_input_is_and_messages_are_not() {
        let bytes = [encoded(Tag::Message, b"{}"), encoded(Tag::Stdin, b"in")].concat();
        assert_eq!(parts(&bytes, 1).unwrap(), [(3, b"{}".to_vec()), (0, b"i".to_vec()), (0, b"n".to_vec())]);
    }

    #[test]
    fn the_longest_frame_is_taken_and_a_longer_one_is_not() {
        let longest = encoded(Tag::Message, &vec![b' '; MAX_LEN]);
        assert_eq!(parts(&longest, 4096).unwrap()[0].1.len(), MAX_LEN);
        assert_eq!(parts(&[3, 0, 16, 0, 1], 5), Err(Broken::Oversized(MAX_LEN as u32 + 1)));
    }

    #[test]
    fn an_unknown_tag_is_refused() {
        assert_eq!(parts(&[4, 0, 0, 0, 0], 1), Err(Broken::UnknownTag(4)));
    }
}
