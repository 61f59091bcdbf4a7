//! Which bytes of a log are from stdout and which from stderr.

use crate::poller::End;

/// Switches between the two that are remembered of a command that runs: 512 KiB.
const MOST: usize = 64 * 1024;

/// Those that are remembered of one that is over: 32 KiB.
const MOST_AFTERWARDS: usize = 4096;

/// The offsets at which a log switches from one to the other, in order. It begins with stdout.
#[derive(Debug, Default)]
pub struct Switches {
    offsets: Vec<u64>,
}

impl Switches {
    /// Notes whose output is at `offset`, the present end of the log. With too many switches what comes is taken for
    /// what came before.
    pub fn note(&mut self, offset: u64, end: End) {
        if self.stream(self.offsets.len()) != end && self.offsets.len() < MOST {
            self.offsets.push(offset);
        }
    }

    /// Nothing more is to come.
    pub fn finish(&mut self) {
        self.offsets.truncate(MOST_AFTERWARDS);
        self.offsets.shrink_to_fit();
    }

    /// Whose output is at an offset, and where that of the other begins, if it does. `passed` are the switches before an
    /// earlier offset, and is brought up to date.
    pub fn at(&self, offset: u64, passed: &mut usize) -> (End, Option<u64>) {
        *passed = (*passed).min(self.offsets.len());
        *passed += self.offsets[*passed..].partition_point(|switch| *switch <= offset);
        (self.stream(*passed), self.offsets.get(*passed).copied())
    }

    /// What follows after that many switches.
    fn stream(&self, switches: usize) -> End {
        if switches % 2 == 0 {
            End::Stdout
        } else {
            End::Stderr
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_stream() {
        let mut switches = Switches::default();
        for (offset, end) in [(0, End::Stderr), (3, End::Stderr), (5, End::Stdout), (9, End::Stderr)] {
            switches.note(offset, end);
        }
        let at = |offset| switches.at(offset, &mut 0);
        assert_eq!(at(0), (End::Stderr, Some(5)));
        assert_eq!(at(4), (End::Stderr, Some(5)));
        assert_eq!(at(5), (End::Stdout, Some(9)));
        assert_eq!(at(9), (End::Stderr, None));
        let mut passed = 0;
        assert_eq!(switches.at(7, &mut passed), (End::Stdout, Some(9)));
        assert_eq!((switches.at(100, &mut passed), passed), ((End::Stderr, None), 3));
    }

    #[test]
    fn too_many_switches_are_not_remembered() {
        let mut switches = Switches::default();
        for offset in 0..2 * MOST as u64 {
            switches.note(offset, if offset % 2 == 0 { End::Stderr } else { End::Stdout });
        }
        assert_eq!(switches.at(MOST as u64 - 2, &mut 0), (End::Stderr, Some(MOST as u64 - 1)));
        assert_eq!(switches.at(u64::MAX, &mut 0), (End::Stdout, None));
        switches.finish();
        assert_eq!(switches.at(u64::MAX, &mut 100_000), (End::Stdout, None));
        assert_eq!(switches.offsets.len(), MOST_AFTERWARDS);
    }
}
