//! The multiplexer: the accepting side of yamux (HashiCorp's specification, version 0), without any input or output.
//!
//! Written out here, and not taken from a library, for three reasons: command output is read from its pipe straight
//! into the frame that carries it; window credit for stdin is given when the command has read it rather than when the
//! agent has, which bounds what the agent keeps; and little code runs, which counts where the processor is emulated.

mod header;

use std::collections::HashMap;

pub use self::header::HEADER_LEN;
use self::header::{Header, ACK, DATA, FIN, GO_AWAY, PING, RST, SYN, WINDOW_UPDATE};

/// What a new stream may send in either direction before the first window update, in bytes.
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// Streams that the host may have open at once; one more is reset.
pub const MAX_STREAMS: usize = 256;

/// Codes of a go-away frame.
const PROTOCOL_ERROR: u32 = 1;

/// What the host did.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Opened(u32),
    Data(u32, &'a [u8]),
    /// The host will send no more on this stream.
    Finished(u32),
    /// The stream is gone in both directions.
    Reset(u32),
}

/// Why the session cannot go on. `header` is what could not be accepted: where the host has begun a new session
/// without the agent noticing, it is the beginning of its hello.
#[derive(Debug, PartialEq, Eq)]
pub struct Violation {
    pub reason: &'static str,
    pub header: [u8; HEADER_LEN],
}

#[derive(Debug)]
struct Stream {
    send_window: u32,
    receive_window: u32,
    /// Received bytes that are dealt with but not yet given back as window.
    owed: u32,
    /// Whether the opening of the stream is yet to be acknowledged.
    unacknowledged: bool,
    finished: bool,
}

/// The payload of a data frame, or nothing left of any other.
#[derive(Debug, Default)]
struct Body {
    stream: u32,
    left: u32,
    flags: u16,
}

#[derive(Debug)]
enum Input {
    Header { bytes: [u8; HEADER_LEN], filled: usize },
    Body(Body),
}

impl Input {
    const START: Self = Self::Header { bytes: [0; HEADER_LEN], filled: 0 };
}

#[derive(Debug)]
pub struct Mux {
    streams: HashMap<u32, Stream>,
    input: Input,
    /// Frames of the session itself that wait to be sent, before any stream's.
    control: Vec<u8>,
}

impl Default for Mux {
    fn default() -> Self {
        Self { streams: HashMap::new(), input: Input::START, control: Vec::new() }
    }
}

impl Mux {
    /// Takes the next event out of the input; `None` when more input is needed.
    pub fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Event<'a>>, Violation> {
        loop {
            match &mut self.input {
                Input::Header { bytes, filled } => {
                    let taken = take(input, HEADER_LEN - *filled);
                    bytes[*filled..*filled + taken.len()].copy_from_slice(taken);
                    *filled += taken.len();
                    if *filled < HEADER_LEN {
                        return Ok(None);
                    }
                    let header = *bytes;
                    if let Some(opened) = self.begin(&header)? {
                        return Ok(Some(opened));
                    }
                }
                Input::Body(body) if body.left == 0 => {
                    let body = std::mem::take(body);
                    self.input = Input::START;
                    if let Some(ended) = self.end(&body) {
                        return Ok(Some(ended));
                    }
                }
                Input::Body(body) => {
                    let taken = take(input, body.left as usize);
                    if taken.is_empty() {
                        return Ok(None);
                    }
                    body.left -= taken.len() as u32;
                    let stream = body.stream;
                    // What comes after a stream's end, or for one that the agent has ended, means nothing.
                    if self.streams.get(&stream).is_some_and(|stream| !stream.finished) {
                        return Ok(Some(Event::Data(stream, taken)));
                    }
                }
            }
        }
    }

    fn begin(&mut self, bytes: &[u8; HEADER_LEN]) -> Result<Option<Event<'static>>, Violation> {
        let violation = |reason| Violation { reason, header: *bytes };
        let header = Header::parse(bytes).ok_or_else(|| violation("a header that is not yamux's"))?;
        self.input = Input::START;
        match header.kind {
            DATA | WINDOW_UPDATE => self.begin_stream_frame(&header).map_err(violation),
            _ if header.stream != 0 => Err(violation("a session frame on a stream")),
            PING => {
                if header.has(SYN) {
                    self.send_control(PING, ACK, 0, header.length);
                }
                Ok(None)
            }
            _ => Err(violation("the host went away")),
        }
    }

    fn begin_stream_frame(&mut self, header: &Header) -> Result<Option<Event<'static>>, &'static str> {
        if header.stream % 2 == 0 {
            return Err("a stream that is not the host's to open");
        }
        let opened = if header.has(SYN) { self.open(header.stream)? } else { None };
        let (delta, payload) = if header.kind == DATA { (0, header.length) } else { (header.length, 0) };
        if let Some(stream) = self.streams.get_mut(&header.stream) {
            stream.send_window = stream.send_window.checked_add(delta).ok_or("a window beyond all bounds")?;
            stream.receive_window = stream.receive_window.checked_sub(payload).ok_or("more data than the window")?;
        }
        self.input = Input::Body(Body { stream: header.stream, left: payload, flags: header.flags });
        Ok(opened)
    }

    fn open(&mut self, id: u32) -> Result<Option<Event<'static>>, &'static str> {
        if self.streams.contains_key(&id) {
            return Err("a stream that is open already");
        }
        if self.streams.len() >= MAX_STREAMS {
            self.send_control(WINDOW_UPDATE, RST, id, 0);
            return Ok(None);
        }
        let stream = Stream {
            send_window: INITIAL_WINDOW,
            receive_window: INITIAL_WINDOW,
            owed: 0,
            unacknowledged: true,
            finished: false,
        };
        self.streams.insert(id, stream);
        Ok(Some(Event::Opened(id)))
    }

    fn end(&mut self, body: &Body) -> Option<Event<'static>> {
        if body.flags & RST != 0 {
            return self.streams.remove(&body.stream).map(|_| Event::Reset(body.stream));
        }
        let stream = self.streams.get_mut(&body.stream)?;
        if body.flags & FIN == 0 || stream.finished {
            return None;
        }
        stream.finished = true;
        Some(Event::Finished(body.stream))
    }

    /// How many bytes the host takes on a stream for now; 0 for one that is gone.
    pub fn window(&self, id: u32) -> usize {
        self.streams.get(&id).map_or(0, |stream| stream.send_window as usize)
    }

    /// Makes the header for `length` bytes, which the caller has checked against `window`. With `last` the stream
    /// is over: what the host may still send on it is ignored.
    pub fn data_header(&mut self, id: u32, length: usize, last: bool) -> [u8; HEADER_LEN] {
        let length = u32::try_from(length).expect("a frame is smaller than a window");
        let mut flags = if last { FIN } else { 0 };
        if let Some(stream) = self.streams.get_mut(&id) {
            debug_assert!(length <= stream.send_window);
            stream.send_window = stream.send_window.saturating_sub(length);
            if std::mem::take(&mut stream.unacknowledged) {
                flags |= ACK;
            }
        }
        if last {
            self.streams.remove(&id);
        }
        Header { kind: DATA, flags, stream: id, length }.encode()
    }

    /// Gives `count` received bytes back to the host as window. Small amounts are put together first.
    pub fn credit(&mut self, id: u32, count: usize) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        stream.owed += u32::try_from(count).expect("no more than was received");
        if stream.owed < INITIAL_WINDOW / 2 || stream.finished {
            return;
        }
        let delta = std::mem::take(&mut stream.owed);
        stream.receive_window += delta;
        let flags = if std::mem::take(&mut stream.unacknowledged) { ACK } else { 0 };
        self.send_control(WINDOW_UPDATE, flags, id, delta);
    }

    /// Ends a stream at once, in both directions.
    pub fn reset(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.send_control(WINDOW_UPDATE, RST, id, 0);
        }
    }

    /// Tells the host that the session is over because of what it sent.
    pub fn go_away(&mut self) {
        self.send_control(GO_AWAY, 0, 0, PROTOCOL_ERROR);
    }

    /// Bytes of control frames that wait to be sent.
    pub fn waiting(&self) -> usize {
        self.control.len()
    }

    pub fn control(&mut self) -> &mut Vec<u8> {
        &mut self.control
    }

    fn send_control(&mut self, kind: u8, flags: u16, stream: u32, length: u32) {
        self.control.extend_from_slice(&Header { kind, flags, stream, length }.encode());
    }
}

fn take<'a>(input: &mut &'a [u8], limit: usize) -> &'a [u8] {
    let (taken, rest) = input.split_at(limit.min(input.len()));
    *input = rest;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u16, stream: u32, length: u32) -> Vec<u8> {
        Header { kind, flags, stream, length }.encode().to_vec()
    }

    fn data(flags: u16, stream: u32, payload: &[u8]) -> Vec<u8> {
        [&frame(DATA, flags, stream, payload.len() as u32), payload].concat()
    }

    /// Feeds the bytes one by one and joins the data, so that every split is tried.
    fn events(mux: &mut Mux, bytes: &[u8]) -> Result<Vec<String>, &'static str> {
        let mut seen = Vec::new();
        for byte in bytes.chunks(1) {
            let mut input = byte;
            while let Some(event) = mux.next(&mut input).map_err(|violation| violation.reason)? {
                seen.push(match event {
                    Event::Data(id, bytes) => format!("{id}:{}", String::from_utf8_lossy(bytes)),
                    other => format!("{other:?}"),
                });
            }
        }
        Ok(seen)
    }

    #[test]
    fn a_stream_from_opening_to_end() {
        let mut mux = Mux::default();
        let bytes = [data(SYN, 1, b"ab"), data(FIN, 1, b"c"), data(0, 1, b"late")].concat();
        assert_eq!(events(&mut mux, &bytes).unwrap(), ["Opened(1)", "1:a", "1:b", "1:c", "Finished(1)"]);
        assert_eq!(mux.data_header(1, 3, false)[3], ACK as u8);
        assert_eq!(mux.data_header(1, 0, true)[3], FIN as u8);
        assert_eq!(mux.window(1), 0);
    }

    #[test]
    fn a_window_update_can_open_a_stream() {
        let mut mux = Mux::default();
        assert_eq!(events(&mut mux, &frame(WINDOW_UPDATE, SYN, 3, 1000)).unwrap(), ["Opened(3)"]);
        assert_eq!(mux.window(3), INITIAL_WINDOW as usize + 1000);
    }

    #[test]
    fn sending_uses_the_window_up() {
        let mut mux = Mux::default();
        events(&mut mux, &frame(WINDOW_UPDATE, SYN, 1, 0)).unwrap();
        mux.data_header(1, 100, false);
        assert_eq!(mux.window(1), INITIAL_WINDOW as usize - 100);
        events(&mut mux, &frame(WINDOW_UPDATE, 0, 1, 40)).unwrap();
        assert_eq!(mux.window(1), INITIAL_WINDOW as usize - 60);
    }

    #[test]
    fn credit_is_given_in_large_pieces() {
        let mut mux = Mux::default();
        let half = INITIAL_WINDOW as usize / 2;
        events(&mut mux, &data(SYN, 1, &vec![b'x'; half])).unwrap();
        mux.credit(1, half - 1);
        assert!(mux.control().is_empty());
        mux.credit(1, 1);
        assert_eq!(*mux.control(), frame(WINDOW_UPDATE, ACK, 1, half as u32));
        events(&mut mux, &data(0, 1, &vec![b'x'; 2 * half])).unwrap();
        assert_eq!(events(&mut mux, &data(0, 1, b"x")), Err("more data than the window"));
    }

    #[test]
    fn pings_are_answered_and_answers_ignored() {
        let mut mux = Mux::default();
        let bytes = [frame(PING, SYN, 0, 77), frame(PING, ACK, 0, 78)].concat();
        assert_eq!(events(&mut mux, &bytes).unwrap(), [""; 0]);
        assert_eq!(*mux.control(), frame(PING, ACK, 0, 77));
    }

    #[test]
    fn a_reset_ends_a_stream_once() {
        let mut mux = Mux::default();
        let bytes = [frame(WINDOW_UPDATE, SYN, 1, 0), frame(WINDOW_UPDATE, RST, 1, 0), data(RST, 1, b"")].concat();
        assert_eq!(events(&mut mux, &bytes).unwrap(), ["Opened(1)", "Reset(1)"]);
        mux.reset(1);
        assert!(mux.control().is_empty());
    }

    #[test]
    fn one_stream_too_many_is_reset() {
        let mut mux = Mux::default();
        let open = |n: usize| data(SYN, n as u32 * 2 + 1, b"");
        let bytes: Vec<u8> = (0..MAX_STREAMS).flat_map(open).collect();
        assert_eq!(events(&mut mux, &bytes).unwrap().len(), MAX_STREAMS);
        assert_eq!(events(&mut mux, &open(MAX_STREAMS)).unwrap(), [""; 0]);
        assert_eq!(*mux.control(), frame(WINDOW_UPDATE, RST, MAX_STREAMS as u32 * 2 + 1, 0));
    }

    #[test]
    fn refuses_what_is_not_yamux() {
        let open = frame(WINDOW_UPDATE, SYN, 1, 0);
        let mut other_version = open.clone();
        other_version[0] = 1;
        let cases = [
            (other_version, "a header that is not yamux's"),
            (frame(4, 0, 1, 0), "a header that is not yamux's"),
            (frame(DATA, 16, 1, 0), "a header that is not yamux's"),
            (frame(DATA, SYN, 2, 0), "a stream that is not the host's to open"),
            (frame(DATA, 0, 0, 0), "a stream that is not the host's to open"),
            (frame(PING, SYN, 1, 0), "a session frame on a stream"),
            (frame(GO_AWAY, 0, 0, 0), "the host went away"),
            ([open.clone(), open.clone()].concat(), "a stream that is open already"),
            ([open.clone(), frame(WINDOW_UPDATE, 0, 1, u32::MAX)].concat(), "a window beyond all bounds"),
            ([open, frame(DATA, 0, 1, INITIAL_WINDOW + 1)].concat(), "more data than the window"),
        ];
        for (bytes, reason) in cases {
            assert_eq!(events(&mut Mux::default(), &bytes), Err(reason));
        }
    }

    #[test]
    fn hands_back_the_header_that_it_refused() {
        let mut mux = Mux::default();
        let violation = mux.next(&mut &b"PYROHnonce12345"[..]).unwrap_err();
        assert_eq!(&violation.header, b"PYROHnonce12");
    }
}
