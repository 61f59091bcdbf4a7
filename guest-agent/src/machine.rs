//! What the host tells a guest about the machine that it is to be.

use serde::{Deserialize, Serialize};

/// Bytes of entropy in an assignment.
pub const ENTROPY_LEN: usize = 32;

const MACHINE_ID_DIGITS: usize = 32;
const LONGEST_HOST_NAME: usize = 63;

/// An assignment: it comes with a session's start, see protocol/README.md.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Nanoseconds since the epoch.
    pub time_ns: u64,
    /// Hexadecimal digits of `ENTROPY_LEN` bytes.
    pub entropy: String,
    /// Hexadecimal digits, as in `/etc/machine-id`.
    pub machine_id: String,
    pub host_name: String,
    /// Whether there is a `/workspace` with changes of its own, kept commands, and tools.
    pub workspace: bool,
    /// Whether the workspace begins with what is on the seed's device.
    pub seed: bool,
}

impl Machine {
    /// Whether it says what a machine can be.
    pub fn is_sound(&self) -> bool {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        self.time_ns <= i64::MAX as u64
            && is_hex(&self.entropy, 2 * ENTROPY_LEN)
            && is_hex(&self.machine_id, MACHINE_ID_DIGITS)
            && (1..=LONGEST_HOST_NAME).contains(&self.host_name.len())
            && self.host_name.bytes().all(known)
            && (self.workspace || !self.seed)
    }

    /// The entropy as bytes.
    pub fn entropy_bytes(&self) -> [u8; ENTROPY_LEN] {
        let mut bytes = [0; ENTROPY_LEN];
        for (byte, pair) in bytes.iter_mut().zip(self.entropy.as_bytes().chunks(2)) {
            *byte = pair.iter().fold(0, |value, digit| value << 4 | value_of(*digit));
        }
        bytes
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn value_of(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'0'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            time_ns: 1,
            entropy: "0f".repeat(ENTROPY_LEN),
            machine_id: "a1".repeat(16),
            host_name: "pyro-1".into(),
            workspace: true,
            seed: true,
        }
    }

    #[test]
    fn entropy_is_read_from_its_digits() {
        let entropy = format!("ff00a9{}", "0f".repeat(ENTROPY_LEN - 3));
        let bytes = Machine { entropy, ..machine() }.entropy_bytes();
        assert_eq!(bytes[..4], [0xff, 0, 0xa9, 0x0f]);
    }

    #[test]
    fn only_what_a_machine_can_be_is_sound() {
        assert!(machine().is_sound());
        let wrong = [
            Machine { time_ns: u64::MAX, ..machine() },
            Machine { entropy: "0f".into(), ..machine() },
            Machine { entropy: "0F".repeat(ENTROPY_LEN), ..machine() },
            Machine { machine_id: "x".repeat(32), ..machine() },
            Machine { host_name: String::new(), ..machine() },
            Machine { host_name: "a".repeat(64), ..machine() },
            Machine { host_name: "a.b".into(), ..machine() },
            Machine { workspace: false, ..machine() },
        ];
        for machine in wrong {
            assert!(!machine.is_sound(), "{machine:?}");
        }
    }
}
