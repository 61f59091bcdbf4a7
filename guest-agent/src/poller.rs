//! The epoll instance that everything waits in.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

const BATCH: usize = 64;

/// Which end of a command a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Status,
    Stdin,
    Stdout,
    Stderr,
}

/// What a descriptor in the poller is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Token {
    Channel,
    /// Where other channels come from.
    Listener,
    Children,
    /// An end of the command with this number.
    Command(u64, End),
    /// A pipe that nobody reads any more but that somebody may still write to.
    Leftover(u64),
}

const KIND_BITS: u32 = 3;

impl Token {
    fn pack(self) -> u64 {
        let (number, kind) = match self {
            Self::Channel => (0, 0),
            Self::Children => (0, 1),
            Self::Leftover(number) => (number, 2),
            Self::Command(number, End::Status) => (number, 3),
            Self::Command(number, End::Stdin) => (number, 4),
            Self::Command(number, End::Stdout) => (number, 5),
            Self::Command(number, End::Stderr) => (number, 6),
            Self::Listener => (0, 7),
        };
        number << KIND_BITS | kind
    }

    fn unpack(packed: u64) -> Option<Self> {
        let number = packed >> KIND_BITS;
        Some(match packed & ((1 << KIND_BITS) - 1) {
            0 => Self::Channel,
            1 => Self::Children,
            2 => Self::Leftover(number),
            3 => Self::Command(number, End::Status),
            4 => Self::Command(number, End::Stdin),
            5 => Self::Command(number, End::Stdout),
            6 => Self::Command(number, End::Stderr),
            7 => Self::Listener,
            _ => return None,
        })
    }
}

/// Nearly everything is registered edge-triggered: whoever gets a token has to read or write until it would block, and
/// a descriptor that cannot be served for now (no window, no room) costs nothing while it waits.
pub struct Poller {
    epoll: Epoll,
}

impl Poller {
    pub fn new() -> nix::Result<Self> {
        Ok(Self { epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)? })
    }

    pub fn watch_input(&self, fd: impl AsFd, token: Token) -> nix::Result<()> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, token.pack()))
    }

    pub fn watch_output(&self, fd: impl AsFd, token: Token) -> nix::Result<()> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLOUT | EpollFlags::EPOLLET, token.pack()))
    }

    /// Gives a watched input descriptor a new token, with which it is announced for as long as it is readable:
    /// there is no more to do about it than to read, and that not all at once.
    pub fn keep_watching(&self, fd: impl AsFd, token: Token) -> nix::Result<()> {
        self.epoll.modify(fd, &mut EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))
    }

    /// Watches input, and output only when `output`: a virtio port announces every consumed buffer otherwise.
    pub fn watch_both(&self, fd: impl AsFd, token: Token, output: bool) -> nix::Result<()> {
        let mut flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        flags.set(EpollFlags::EPOLLOUT, output);
        self.epoll.modify(fd, &mut EpollEvent::new(flags, token.pack()))
    }

    /// Waits for events, for as long as `limit` where there is one, and returns what is ready.
    pub fn wait(&self, limit: Option<Duration>) -> nix::Result<Vec<Token>> {
        let mut events = [EpollEvent::empty(); BATCH];
        match self.epoll.wait(&mut events, round_up(limit)) {
            Ok(count) => Ok(events[..count].iter().filter_map(|event| Token::unpack(event.data())).collect()),
            Err(Errno::EINTR) => Ok(Vec::new()),
            Err(errno) => Err(errno),
        }
    }
}

/// Whole milliseconds, rounded up: waking early would mean to go round again without anything due.
fn round_up(limit: Option<Duration>) -> EpollTimeout {
    match limit {
        None => EpollTimeout::NONE,
        Some(limit) => {
            let milliseconds = limit.as_nanos().div_ceil(1_000_000);
            EpollTimeout::try_from(milliseconds).unwrap_or(EpollTimeout::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_survive_packing() {
        let ends = [End::Status, End::Stdin, End::Stdout, End::Stderr];
        let commands = ends.map(|end| Token::Command(u64::MAX >> KIND_BITS, end));
        for token in commands.into_iter().chain([Token::Channel, Token::Children, Token::Listener, Token::Leftover(7)])
        {
            assert_eq!(Token::unpack(token.pack()), Some(token));
        }
    }

    #[test]
    fn waits_are_rounded_up() {
        assert_eq!(round_up(Some(Duration::from_micros(1001))), EpollTimeout::from(2u8));
        assert_eq!(round_up(Some(Duration::ZERO)), EpollTimeout::ZERO);
        assert_eq!(round_up(Some(Duration::MAX)), EpollTimeout::MAX);
        assert_eq!(round_up(None), EpollTimeout::NONE);
    }
}
