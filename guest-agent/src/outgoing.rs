//! Bytes on their way to the host.

/// Capacity in bytes. Output of commands is read straight into this buffer, so that it is copied once only.
pub const CAPACITY: usize = 256 * 1024;

/// A fixed buffer that is filled at its end and written out from its start.
pub struct Outgoing {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { buffer: vec![0; CAPACITY].into_boxed_slice(), start: 0, end: 0 }
    }
}

impl Outgoing {
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What is to be written next.
    pub fn pending(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Notes that this many pending bytes were written.
    pub fn written(&mut self, count: usize) {
        self.start += count;
        if self.is_empty() {
            self.clear();
        }
    }

    pub fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
    }

    /// The space behind what is pending; see `filled`.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.buffer[self.end..]
    }

    pub fn room(&self) -> usize {
        self.buffer.len() - self.end
    }

    /// Notes that the first `count` bytes of `space` are to be sent.
    pub fn filled(&mut self, count: usize) {
        self.end += count;
    }

    /// Appends as much as there is room for and returns how much that was.
    pub fn push(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.space()[..count].copy_from_slice(&bytes[..count]);
        self.filled(count);
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_comes_out_in_order() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.push(b"abc"), 3);
        outgoing.space()[..2].copy_from_slice(b"de");
        outgoing.filled(2);
        outgoing.written(1);
        assert_eq!(outgoing.pending(), b"bcde");
        outgoing.written(4);
        assert!(outgoing.is_empty());
        assert_eq!(outgoing.room(), CAPACITY);
    }

    #[test]
    fn takes_no_more_than_fits() {
        let mut outgoing = Outgoing::default();
        assert_eq!(outgoing.push(&vec![1; CAPACITY + 5]), CAPACITY);
        assert_eq!(outgoing.push(b"x"), 0);
    }
}
