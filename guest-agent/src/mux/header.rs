//! The header of each frame of yamux.

pub const HEADER_LEN: usize = 12;

const VERSION: u8 = 0;
pub const DATA: u8 = 0;
pub const WINDOW_UPDATE: u8 = 1;
pub const PING: u8 = 2;
pub const GO_AWAY: u8 = 3;

pub const SYN: u16 = 1;
pub const ACK: u16 = 2;
pub const FIN: u16 = 4;
pub const RST: u16 = 8;

#[derive(Debug)]
pub struct Header {
    pub kind: u8,
    pub flags: u16,
    pub stream: u32,
    /// Payload length of a data frame; window, ping value or code of the others.
    pub length: u32,
}

impl Header {
    /// `None` for what no version 0 of yamux says.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Option<Self> {
        let [version, kind, f0, f1, s0, s1, s2, s3, l0, l1, l2, l3] = *bytes;
        let header = Self {
            kind,
            flags: u16::from_be_bytes([f0, f1]),
            stream: u32::from_be_bytes([s0, s1, s2, s3]),
            length: u32::from_be_bytes([l0, l1, l2, l3]),
        };
        let known = version == VERSION && kind <= GO_AWAY && header.flags <= (SYN | ACK | FIN | RST);
        known.then_some(header)
    }

    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[0] = VERSION;
        bytes[1] = self.kind;
        bytes[2..4].copy_from_slice(&self.flags.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.stream.to_be_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_be_bytes());
        bytes
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}
