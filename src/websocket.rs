//! What clients may send over a WebSocket before anybody has read it: a watch over the frames as they come in, and what a
//! broken rule is closed with.
//!
//! The library below reads a frame when all of it has come, and asks for its size only then; what it makes of a bit that has
//! to be zero looks like a connection that broke. The watch looks at the heads of frames while bytes pass by.
//!
//! Promises: no more than the limit of one message, and of one more read from the socket, is kept for a connection,
//! whatever its frames claim; fragments cost what it takes to keep them. Never: it does not change a byte, and it does not
//! judge what the library judges well.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::BoxedPayloadStream;
use actix_web::HttpRequest;
use actix_web::dev;
use actix_web::error::PayloadError;
use actix_web::web::{Bytes, Payload};
use actix_web::{Error, FromRequest as _};
use actix_ws::ProtocolError;
use futures_util::Stream;

/// Bytes that a fragment of a message counts for at least: so much is spent on keeping it.
const FRAGMENT: u64 = 256;
/// Bytes of the longest head of a frame, up to its mask: two, and eight of length.
const HEAD: usize = 10;
/// Bytes of a mask.
const MASK: u64 = 4;

/// What went wrong with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Breach {
    /// It broke.
    Gone,
    /// A message is too large.
    TooLarge,
    /// The other side does not speak the protocol.
    Protocol,
}

impl Breach {
    /// What an error of the stream of messages stands for.
    pub(crate) fn of(error: &ProtocolError) -> Self {
        let ProtocolError::Io(error) = error else {
            return match error {
                ProtocolError::Overflow => Self::TooLarge,
                _ => Self::Protocol,
            };
        };
        let of_watch = error.get_ref().and_then(|inner| inner.downcast_ref::<PayloadError>());
        match of_watch {
            Some(PayloadError::Overflow) => Self::TooLarge,
            // A text that is none, a bit that should be zero.
            None if error.kind() == io::ErrorKind::InvalidData => Self::Protocol,
            _ => Self::Gone,
        }
    }
}

/// The body of an upgraded request, with a watch over its frames. It ends with an error when a message is larger than
/// `most` bytes: [`Breach::TooLarge`] to who reads messages from it.
///
/// # Errors
/// None that is known; the library's signature has one.
pub(crate) fn watched(req: &HttpRequest, payload: Payload, most: usize) -> Result<Payload, Error> {
    let watch = Watch {
        inner: payload.into_inner(),
        heads: Heads::new(most),
        is_over: false,
    };
    let watch: BoxedPayloadStream = Box::pin(watch);
    let mut payload = dev::Payload::Stream { payload: watch };
    Payload::from_request(req, &mut payload).into_inner()
}

struct Watch {
    inner: dev::Payload,
    heads: Heads,
    is_over: bool,
}

impl Stream for Watch {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        let next = ready!(Pin::new(&mut this.inner).poll_next(cx));
        Poll::Ready(match next {
            Some(Ok(bytes)) if this.heads.pass(&bytes).is_err() => {
                this.is_over = true;
                Some(Err(PayloadError::Overflow))
            }
            next => next,
        })
    }
}

/// A message is larger than it may be.
#[derive(Debug, PartialEq, Eq)]
struct TooLarge;

/// Finds the heads of frames in a stream of bytes, wherever it is cut.
#[derive(Debug)]
struct Heads {
    most: u64,
    /// What has come of a head.
    head: [u8; HEAD],
    come: usize,
    /// Bytes of the frame's mask and content that are still to come.
    left: u64,
    /// Bytes of the message whose fragments are coming.
    gathered: u64,
}

impl Heads {
    fn new(most: usize) -> Self {
        Self {
            most: u64::try_from(most).unwrap_or(u64::MAX),
            head: [0; HEAD],
            come: 0,
            left: 0,
            gathered: 0,
        }
    }

    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
        while let Some((&first, rest)) = bytes.split_first() {
            if self.left > 0 {
                let here = u64::try_from(bytes.len()).unwrap_or(u64::MAX).min(self.left);
                self.left -= here;
                bytes = usize::try_from(here).map_or(&[][..], |here| &bytes[here..]);
                continue;
            }
            self.head[self.come] = first;
            self.come += 1;
            bytes = rest;
            if self.come == 2 && self.is_refused() {
                // Nothing after it is looked at by anybody.
                self.left = u64::MAX;
            } else if let Some(length) = self.length() {
                self.come = 0;
                self.left = length.saturating_add(MASK);
                self.weigh(length)?;
            }
        }
        Ok(())
    }

    /// Whether the library refuses a frame that begins so, whatever its length: it has no mask, a reserved bit, or an
    /// opcode that there is not.
    fn is_refused(&self) -> bool {
        let [first, second, ..] = self.head;
        second & 0x80 == 0 || first & 0x70 != 0 || !matches!(first & 0x0f, 0..=2 | 8..=10)
    }

    /// The length that the head tells, once that has come.
    fn length(&self) -> Option<u64> {
        let [_, second, extended @ ..] = &self.head;
        let bytes = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.come < 2 + bytes {
            return None;
        }
        let extended = extended[..bytes]
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        Some(if bytes == 0 { u64::from(second & 0x7f) } else { extended })
    }

    /// Whether the message that this frame is of may be so large.
    fn weigh(&mut self, length: u64) -> Result<(), TooLarge> {
        let is_last = self.head[0] & 0x80 != 0;
        let is_control = self.head[0] & 0x08 != 0;
        let size = if is_control || (is_last && self.gathered == 0) {
            length
        } else {
            self.gathered = self.gathered.saturating_add(length.max(FRAGMENT));
            self.gathered
        };
        if is_last && !is_control {
            self.gathered = 0;
        }
        if size > self.most { Err(TooLarge) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    const MOST: usize = 1_000;

    /// A frame of a client: its first byte, and so much content.
    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..=125 => frame.push(0x80 | u8::try_from(length).expect("small")),
            126..=0xffff => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).expect("small").to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend(u64::try_from(length).expect("small").to_be_bytes());
            }
        }
        frame.extend([7; 4]);
        // Bytes that look like the head of an endless frame.
        frame.extend(std::iter::repeat_n(0xff, length));
        frame
    }

    fn passes(bytes: &[u8], cut: usize) -> bool {
        let mut heads = Heads::new(MOST);
        bytes.chunks(cut).all(|chunk| heads.pass(chunk).is_ok())
    }

    #[rstest]
    #[case::nothing(vec![], true)]
    #[case::many_small([frame(0x82, 0), frame(0x82, 125), frame(0x81, 126), frame(0x82, 1_000)].concat(), true)]
    #[case::one_too_many_bytes(frame(0x82, 1_001), false)]
    #[case::only_the_head_of_it(frame(0x82, 70_000)[..10].to_vec(), false)]
    #[case::endless([vec![0x82], vec![0xff; 13]].concat(), false)]
    #[case::fragments([frame(0x02, 400), frame(0x89, 100), frame(0x80, 600), frame(0x02, 400), frame(0x80, 600)].concat(), true)]
    #[case::fragments_too_large([frame(0x02, 400), frame(0x89, 100), frame(0x80, 601)].concat(), false)]
    #[case::crumbs([frame(0x02, 1), frame(0x00, 1), frame(0x00, 0), frame(0x00, 1)].concat(), false)]
    // The library refuses these by their first two bytes.
    #[case::unmasked(vec![0x82, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], true)]
    #[case::noise(vec![0xff; 40], true)]
    #[case::reserved_opcode(frame(0x83, 70_000), true)]
    fn sizes_are_known_from_the_heads(#[case] bytes: Vec<u8>, #[case] fits: bool) {
        for cut in [1, 2, 3, 7, 64, usize::MAX] {
            assert_eq!(passes(&bytes, cut), fits, "in pieces of {cut}");
        }
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_cut(bytes in prop::collection::vec(any::<u8>(), 0..400), cut in 1..50_usize) {
            prop_assert_eq!(passes(&bytes, cut), passes(&bytes, usize::MAX));
        }

        #[test]
        fn frames_that_fit_pass(lengths in prop::collection::vec(0..=MOST, 0..8), cut in 1..300_usize) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| frame(0x82, *length)).collect();
            prop_assert!(passes(&bytes, cut));
        }
    }

    #[test]
    fn what_looks_like_a_break_and_is_none_is_told_apart() {
        let of = |error: io::Error| Breach::of(&ProtocolError::Io(error));
        assert_eq!(of(io::Error::other(PayloadError::Overflow)), Breach::TooLarge);
        assert_eq!(of(io::Error::other(PayloadError::Incomplete(None))), Breach::Gone);
        assert_eq!(of(io::ErrorKind::ConnectionReset.into()), Breach::Gone);
        assert_eq!(of(io::Error::new(io::ErrorKind::InvalidData, "bits")), Breach::Protocol);
        assert_eq!(Breach::of(&ProtocolError::UnmaskedFrame), Breach::Protocol);
        assert_eq!(Breach::of(&ProtocolError::Overflow), Breach::TooLarge);
    }
}
