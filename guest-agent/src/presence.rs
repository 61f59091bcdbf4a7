//! Whether the host is there, as far as reading from the channel tells.
//!
//! A virtio-serial port hears in one queue what the host says, in another that a host came or went, and nothing keeps
//! the two in order. The first words of a host can be read before its coming is heard, and right behind them the end
//! of input that its predecessor left. Source: drivers/char/virtio_console.c of Linux 6.1, `port_fops_read`, `in_intr`
//! and `control_work_handler`.

/// What is known of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    Here,
    Gone,
    /// It speaks, but its coming has not been heard. No session begins meanwhile: the port takes no answer yet.
    Unannounced,
}

impl Presence {
    /// What is known of a channel that was neither read nor written yet.
    pub fn at_first(is_socket: bool) -> Self {
        if is_socket {
            Self::Here
        } else {
            Self::Gone
        }
    }

    /// The host said something.
    pub fn speaks(&mut self) {
        if *self == Self::Gone {
            *self = Self::Unannounced;
        }
    }

    /// The channel has a host: it took an answer, or said that there is nothing to read yet.
    pub fn is_certain(&mut self) {
        *self = Self::Here;
    }

    /// The end of input was read.
    pub fn ends(&mut self) {
        if *self == Self::Here {
            *self = Self::Gone;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_a_host_until_its_input_ends() {
        let mut host = Presence::at_first(true);
        host.speaks();
        assert_eq!(host, Presence::Here);
        host.ends();
        assert_eq!(host, Presence::Gone);
    }

    #[test]
    fn the_end_behind_the_first_words_of_a_host_is_that_of_another() {
        let mut host = Presence::at_first(false);
        host.ends();
        assert_eq!(host, Presence::Gone);
        host.speaks();
        for _ in 0..2 {
            host.ends();
            assert_eq!(host, Presence::Unannounced);
        }
        host.is_certain();
        host.speaks();
        assert_eq!(host, Presence::Here);
        host.ends();
        assert_eq!(host, Presence::Gone);
    }
}
