//! The base 85 of git's binary patches: four bytes, the first one the most significant, as five characters.

const ALPHABET: &[u8; 85] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~";

/// Appends the characters for `data`; zero bytes fill the last group.
pub fn encode(data: &[u8], out: &mut Vec<u8>) {
    for group in data.chunks(4) {
        let mut bytes = [0; 4];
        bytes[..group.len()].copy_from_slice(group);
        let mut number = u32::from_be_bytes(bytes);
        let mut characters = [0; 5];
        for place in characters.iter_mut().rev() {
            *place = ALPHABET[(number % 85) as usize];
            number /= 85;
        }
        out.extend(characters);
    }
}

/// Appends the `length` bytes that `text` stands for, or returns `None` where it stands for none.
pub fn decode(text: &[u8], length: usize, out: &mut Vec<u8>) -> Option<()> {
    if text.len() != length.div_ceil(4) * 5 {
        return None;
    }
    let end = out.len() + length;
    for group in text.chunks(5) {
        let mut number: u32 = 0;
        for character in group {
            number = number.checked_mul(85)?.checked_add(value(*character)?)?;
        }
        out.extend(number.to_be_bytes());
    }
    out.truncate(end);
    Some(())
}

fn value(character: u8) -> Option<u32> {
    ALPHABET.iter().position(|candidate| *candidate == character).map(|value| value as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_comes_back() {
        let data: Vec<u8> = (0..=255).collect();
        for length in 0..data.len() {
            let (mut text, mut back) = (Vec::new(), Vec::new());
            encode(&data[..length], &mut text);
            decode(&text, length, &mut back).unwrap();
            assert_eq!(back, &data[..length]);
        }
    }

    #[test]
    fn the_largest_group_is_the_last_number_that_fits() {
        let mut text = Vec::new();
        encode(&[0xff; 4], &mut text);
        assert_eq!(text, b"|NsC0");
        assert!(decode(b"|NsC1", 4, &mut Vec::new()).is_none());
        assert!(decode(b"~~~~~", 4, &mut Vec::new()).is_none());
    }

    #[test]
    fn other_characters_and_lengths_are_refused() {
        assert!(decode(b"0000\"", 4, &mut Vec::new()).is_none());
        assert!(decode(b"0000", 4, &mut Vec::new()).is_none());
        assert!(decode(b"00000", 5, &mut Vec::new()).is_none());
    }
}
