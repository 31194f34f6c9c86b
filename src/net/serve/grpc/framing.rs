//! The five bytes in front of a gRPC message: whether it is compressed, and its
//! length.

use super::super::{
    Failure, Kind, Received,
    body::{Buffer, Reading},
};
use bytes::Bytes;
use std::mem;

/// The length of the prefix.
pub(super) const PREFIX: usize = 5;

/// One message that comes in pieces of any size.
#[derive(Debug, Default)]
pub(super) struct Framing {
    prefix: [u8; PREFIX],
    /// The bytes of the prefix that have come.
    have: usize,
    message: Option<Frame>,
}

#[derive(Debug)]
struct Frame {
    compressed: bool,
    length: u64,
    buffer: Buffer,
}

// === impl Framing ===

impl Framing {
    /// Takes the next piece. A message that is too large fails before any of it
    /// is kept.
    pub(super) fn feed(&mut self, reading: &Reading, mut piece: &[u8]) -> Result<(), Failure> {
        if self.have < PREFIX {
            let (prefix, rest) = piece.split_at(piece.len().min(PREFIX - self.have));
            self.prefix[self.have..self.have + prefix.len()].copy_from_slice(prefix);
            self.have += prefix.len();
            piece = rest;
        }
        if self.have == PREFIX && self.message.is_none() {
            self.message = Some(Frame::begin(self.prefix, reading)?);
        }
        match &mut self.message {
            Some(frame) if !piece.is_empty() => frame.push(reading, piece),
            _ => Ok(()),
        }
    }

    /// Takes what belongs to the next of several messages off `piece`; whether the
    /// message is compressed, and the message, once it is complete.
    pub(super) fn take(
        &mut self,
        reading: &Reading,
        piece: &mut Bytes,
    ) -> Result<Option<(bool, Received)>, Failure> {
        while !piece.is_empty() {
            let part = piece.split_to(piece.len().min(self.missing()));
            self.feed(reading, &part)?;
            if self.message.is_some() && self.missing() == 0 {
                return mem::take(self).finish().map(Some);
            }
        }
        Ok(None)
    }

    /// Whether no message has begun.
    pub(super) fn is_between(&self) -> bool {
        self.have == 0
    }

    /// The bytes to the end of the prefix, or then to that of the message.
    fn missing(&self) -> usize {
        match &self.message {
            None => PREFIX - self.have,
            Some(frame) => usize::try_from(frame.length - frame.buffer.len()).unwrap_or(usize::MAX),
        }
    }

    /// Whether the message is compressed, and the message.
    pub(super) fn finish(self) -> Result<(bool, Received), Failure> {
        let Some(frame) = self.message else {
            return Err(invalid("the call has no message"));
        };
        if frame.buffer.len() < frame.length {
            let message = format!(
                "the message ends after {} of {} bytes",
                frame.buffer.len(),
                frame.length
            );
            return Err(Failure::new(Kind::Invalid, message));
        }
        Ok((frame.compressed, frame.buffer.finish()))
    }
}

// === impl Frame ===

impl Frame {
    fn begin(prefix: [u8; PREFIX], reading: &Reading) -> Result<Self, Failure> {
        let [flag, length @ ..] = prefix;
        let compressed = match flag {
            0 => false,
            1 => true,
            _ => return Err(invalid("the message does not begin as gRPC messages do")),
        };
        Ok(Self {
            compressed,
            length: reading.admit(u32::from_be_bytes(length).into())?,
            buffer: Buffer::new(reading)?,
        })
    }

    fn push(&mut self, reading: &Reading, piece: &[u8]) -> Result<(), Failure> {
        if self.buffer.len() + piece.len() as u64 > self.length {
            return Err(invalid("the call has more than one message"));
        }
        self.buffer.push(reading, piece, self.length)
    }
}

fn invalid(message: &str) -> Failure {
    Failure::new(Kind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::Budget;
    use std::time::Duration;

    fn reading() -> Reading {
        Reading {
            max: 1_000,
            max_key: "max_recv_msg_size_mib",
            patience: Duration::ZERO,
            memory: Budget::new(10_000),
        }
    }

    fn framed(flag: u8, message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[flag], &length[..], message].concat()
    }

    #[test]
    fn a_message_comes_in_pieces_of_any_size() {
        let wire = framed(1, b"a message");
        for size in 1..=wire.len() {
            let reading = reading();
            let mut framing = Framing::default();
            for piece in wire.chunks(size) {
                framing.feed(&reading, piece).unwrap();
            }
            let (compressed, received) = framing.finish().unwrap();
            assert!(compressed);
            assert_eq!(received.bytes, "a message");
            assert_eq!(reading.memory.used(), 9);
        }
    }

    #[test]
    fn several_messages_are_told_apart_in_pieces_of_any_size() {
        let wire = [framed(0, b"one"), framed(1, b""), framed(0, b"three")].concat();
        for size in 1..=wire.len() {
            let (reading, mut framing) = (reading(), Framing::default());
            let mut found = Vec::new();
            for piece in wire.chunks(size) {
                let mut piece = Bytes::copy_from_slice(piece);
                while let Some((compressed, received)) = framing.take(&reading, &mut piece).unwrap()
                {
                    assert_eq!(reading.memory.used(), received.bytes.len() as u64);
                    found.push((compressed, received.bytes));
                }
            }
            assert!(framing.is_between());
            let all = [(false, "one"), (true, ""), (false, "three")];
            assert_eq!(found, all.map(|(flag, text)| (flag, Bytes::from(text))));
            assert_eq!(reading.memory.used(), 0);
        }
    }

    #[test]
    fn an_empty_message_is_one() {
        let mut framing = Framing::default();
        framing.feed(&reading(), &framed(0, b"")).unwrap();
        let (compressed, received) = framing.finish().unwrap();
        assert!(!compressed && received.bytes.is_empty());
    }

    #[test]
    fn what_is_too_large_fails_at_its_prefix() {
        let reading = reading();
        let mut framing = Framing::default();
        let failure = framing
            .feed(&reading, &[0, 0xff, 0xff, 0xff, 0xff])
            .unwrap_err();
        assert_eq!(failure.kind(), Kind::TooLarge);
        assert!(failure.message().contains("max_recv_msg_size_mib"));
        assert_eq!(reading.memory.used(), 0);
    }

    #[test]
    fn what_is_no_single_message_is_invalid() {
        let two = [framed(0, b"one"), framed(0, b"two")].concat();
        let cases: [&[u8]; 5] = [b"", b"\0\0", b"\0\0\0\0\x09half", b"\x07\0\0\0\x01x", &two];
        for wire in cases {
            let mut framing = Framing::default();
            let result = framing
                .feed(&reading(), wire)
                .and_then(|()| framing.finish().map(|_| ()));
            assert_eq!(result.unwrap_err().kind(), Kind::Invalid, "{wire:?}");
        }
    }
}
