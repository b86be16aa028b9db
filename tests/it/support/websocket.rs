//! A WebSocket client that can do what none should: frames byte by byte, with any bits, of any length, and no end.
//!
//! Promises: nothing is read or written for longer than its deadline.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::DEADLINE;

pub(crate) const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
pub(crate) const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
pub(crate) const PING: u8 = 0x9;
pub(crate) const PONG: u8 = 0xa;
/// The last fragment of a message.
pub(crate) const FIN: u8 = 0x80;

/// What the server has sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    /// A frame: its opcode and content.
    Frame(u8, Vec<u8>),
    /// A close frame: code and reason.
    Closed(u16, String),
    /// The end of the connection without one.
    Ended,
}

impl Got {
    /// A close frame of this code and reason.
    pub(crate) fn closed(code: u16, reason: &str) -> Self {
        Self::Closed(code, reason.to_owned())
    }
}

/// Bytes of a frame as a client sends it.
pub(crate) fn frame(first: u8, content: &[u8]) -> Vec<u8> {
    let mut frame = head(first, content.len() as u64);
    let mask = [0x3c, 0xa5, 0x0f, 0xe1];
    frame.extend(mask);
    frame.extend(content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The head of a frame up to its mask, whatever length it claims.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut head = vec![first];
    if let Ok(short) = u8::try_from(length)
        && short < 126
    {
        head.push(0x80 | short);
    } else if let Ok(medium) = u16::try_from(length) {
        head.push(0x80 | 126);
        head.extend(medium.to_be_bytes());
    } else {
        head.push(0x80 | 127);
        head.extend(length.to_be_bytes());
    }
    head
}

/// What came of reading more.
#[derive(Debug, PartialEq, Eq)]
enum Filled {
    More,
    Ended,
    Late,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct WebSocket {
    stream: TcpStream,
    read: Vec<u8>,
}

impl WebSocket {
    /// Asks for an upgrade; answers the status when there is none.
    pub(crate) fn try_open(to: SocketAddr, path: &str) -> Result<Self, u16> {
        let mut stream = TcpStream::connect_timeout(&to, DEADLINE).expect("it listens");
        stream.set_nodelay(true).expect("a setting of a socket");
        stream.set_write_timeout(Some(DEADLINE)).expect("a setting of a socket");
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {to}\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\
             sec-websocket-protocol: v0.connect.inngest.com\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut socket = Self {
            stream,
            read: Vec::new(),
        };
        let until = Instant::now() + DEADLINE;
        let end = loop {
            if let Some(end) = socket.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            let filled = socket.fill(until);
            assert_eq!(
                filled,
                Filled::More,
                "no answer: {:?}",
                String::from_utf8_lossy(&socket.read)
            );
        };
        let answer: Vec<u8> = socket.read.drain(..end).collect();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
        match status.expect("a status") {
            101 => Ok(socket),
            status => Err(status),
        }
    }

    /// A connection, which has to be possible.
    #[track_caller]
    pub(crate) fn open(to: SocketAddr, path: &str) -> Self {
        Self::try_open(to, path).expect("an upgrade")
    }

    /// Sends bytes as they are. Answers whether they could be: the other side may have closed.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// What comes next, within a time; `None` if nothing does.
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Got> {
        let until = Instant::now() + patience;
        loop {
            if let Some(got) = self.take() {
                return Some(got);
            }
            match self.fill(until) {
                Filled::More => {}
                Filled::Ended => return Some(Got::Ended),
                Filled::Late => return None,
            }
        }
    }

    /// What comes next but for pings.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Got {
        loop {
            match self.next_within(DEADLINE).expect("the server says something in time") {
                Got::Frame(PING, _) => {}
                got => return got,
            }
        }
    }

    /// How the connection ends; what comes before that is passed over.
    #[track_caller]
    pub(crate) fn end(&mut self) -> Got {
        loop {
            match self.next() {
                Got::Frame(..) => {}
                got => return got,
            }
        }
    }

    /// Whether it answers a ping, and how it ended otherwise.
    pub(crate) fn ask(&mut self) -> Result<(), Got> {
        self.send(&frame(FIN | PING, b"there?"));
        loop {
            match self.next() {
                Got::Frame(PONG, said) if said == b"there?" => return Ok(()),
                Got::Frame(..) => {}
                got => return Err(got),
            }
        }
    }

    /// A whole frame of those that were read.
    fn take(&mut self) -> Option<Got> {
        let [first, second, rest @ ..] = self.read.as_slice() else {
            return None;
        };
        let (extended, length) = match second & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes(rest.get(..2)?.try_into().ok()?))),
            127 => {
                let length = u64::from_be_bytes(rest.get(..8)?.try_into().ok()?);
                (8, usize::try_from(length).expect("the server's frames are small"))
            }
            short => (0, usize::from(short)),
        };
        let opcode = first & 0x0f;
        let content = rest.get(extended..extended + length)?.to_vec();
        self.read.drain(..2 + extended + length);
        Some(match (opcode, content.as_slice()) {
            (CLOSE, [high, low, reason @ ..]) => Got::Closed(
                u16::from_be_bytes([*high, *low]),
                String::from_utf8_lossy(reason).into_owned(),
            ),
            (CLOSE, _) => Got::Closed(1005, String::new()),
            _ => Got::Frame(opcode, content),
        })
    }

    fn fill(&mut self, until: Instant) -> Filled {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Filled::Late;
        }
        self.stream.set_read_timeout(Some(left)).expect("a setting of a socket");
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => Filled::Ended,
            Ok(count) => {
                self.read.extend_from_slice(&bytes[..count]);
                Filled::More
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Filled::Late,
            Err(_) => Filled::Ended,
        }
    }
}
