//! What a client says, as bytes tell it: calls one after the other or side by side,
//! each of messages that are sound, nearly sound or anything, and cut somewhere.

use crate::support::grow;
use bytes::Bytes;
use profile_relay::profile::otlp::Compression;
use std::time::Duration;

/// Calls of one connection.
const MAX_CALLS: usize = 12;
/// Bytes of one connection.
const MAX_BYTES: usize = 2 << 20;
/// Waits of one call.
const MAX_PAUSES: usize = 4;
/// Pieces into which a body is cut.
const MAX_PIECES: usize = 64;

/// A call.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// Which method; any number.
    pub path: usize,
    /// Bits for headers.
    pub headers: u8,
    /// Whether the next call begins beside it.
    pub is_beside: bool,
    /// What is said.
    pub pieces: Vec<Piece>,
    /// And then.
    pub end: End,
}

/// A part of what is said.
#[derive(Clone, Debug)]
pub enum Piece {
    Data(Bytes),
    Pause(Duration),
}

/// How a call ends on its client's side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// As it should.
    #[default]
    Whole,
    /// It does not: the client waits.
    Silence,
    /// The client takes it back.
    Reset,
    /// With something to say behind the messages.
    Trailers,
}

/// The bytes that are left.
pub struct Script<'s>(pub &'s [u8]);

// === impl Call ===

impl Call {
    /// The time that the client itself takes.
    pub fn pauses(&self) -> Duration {
        let pauses = self.pieces.iter().map(|piece| match piece {
            Piece::Pause(time) => *time,
            Piece::Data(_) => Duration::ZERO,
        });
        pauses.sum()
    }
}

// === impl Script ===

impl Script<'_> {
    /// The next byte; 0 at the end.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    /// All calls, with `sound` messages to choose from.
    pub fn calls(mut self, sound: &[Bytes]) -> Vec<Call> {
        let mut left = MAX_BYTES;
        let mut calls = Vec::new();
        while !self.0.is_empty() && calls.len() < MAX_CALLS {
            calls.push(self.call(sound, &mut left));
        }
        calls
    }

    /// Some bytes, behind their length.
    fn some(&mut self) -> Vec<u8> {
        let length = usize::from(u16::from_le_bytes([self.byte(), self.byte()]));
        let (some, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        some.to_vec()
    }

    fn call(&mut self, sound: &[Bytes], left: &mut usize) -> Call {
        let mut call = Call {
            path: self.byte().into(),
            headers: self.byte(),
            ..Call::default()
        };
        let cut = self.byte();
        call.is_beside = cut & 0x80 != 0;
        let mut data = Vec::new();
        while !self.0.is_empty() {
            let op = self.byte();
            let shape = op >> 3;
            match op & 7 {
                0 => data.extend(framed(self.some(), shape)),
                1 => data.extend(framed(grow(&self.some()), shape)),
                2 => {
                    let which = usize::from(self.byte());
                    let message = sound[which % sound.len()].to_vec();
                    data.extend(framed(self.patched(message), shape));
                }
                3 => data.extend([(); 5].map(|()| self.byte())),
                4 => data.extend(self.some()),
                5 => {
                    call.say(&mut data, cut, left);
                    call.pieces
                        .push(Piece::Pause(Duration::from_secs(shape.into())));
                }
                _ => {
                    call.end = [End::Whole, End::Silence, End::Reset, End::Trailers]
                        [usize::from(shape & 3)];
                    break;
                }
            }
            if data.len() > *left || call.pieces.len() > MAX_PAUSES * (1 + MAX_PIECES) {
                break;
            }
        }
        call.say(&mut data, cut, left);
        call
    }

    /// Three bytes of place and one of value for each patch.
    fn patched(&mut self, mut message: Vec<u8>) -> Vec<u8> {
        let patches = self.byte() % 16;
        for _ in 0..patches {
            let place = u32::from_le_bytes([self.byte(), self.byte(), self.byte(), 0]) as usize;
            let place = place % message.len().max(1);
            let value = self.byte();
            if let Some(byte) = message.get_mut(place) {
                *byte = value;
            }
        }
        message
    }
}

impl Call {
    /// Moves what is to be said to the pieces, in pieces of `cut` bytes; 0 is whole.
    fn say(&mut self, data: &mut Vec<u8>, cut: u8, left: &mut usize) {
        let data = std::mem::take(data);
        let data = Bytes::from(data).slice_to(*left);
        *left -= data.len();
        if data.is_empty() {
            return;
        }
        let size = match usize::from(cut & 0x7f) {
            0 => data.len(),
            size => size.max(data.len() / MAX_PIECES),
        };
        let pieces = data.chunks(size).map(|piece| data.slice_ref(piece));
        self.pieces.extend(pieces.map(Piece::Data));
    }
}

trait SliceTo {
    fn slice_to(self, end: usize) -> Self;
}

impl SliceTo for Bytes {
    /// The first `end` bytes, or all.
    fn slice_to(mut self, end: usize) -> Self {
        self.truncate(end);
        self
    }
}

/// A message with its prefix: in a field of another one, compressed, or said to be so.
fn framed(message: Vec<u8>, shape: u8) -> Vec<u8> {
    let mut message = Bytes::from(message);
    if shape >> 2 & 7 != 0 {
        message = field(shape >> 2 & 7, &message);
    }
    let compression = [
        Compression::None,
        Compression::Gzip,
        Compression::Zstd,
        Compression::None,
    ][usize::from(shape & 3)];
    let message = compression.compress(&message).expect("memory holds it");
    let length = message.len() as u32;
    let flag = u8::from(shape & 3 != 0);
    [&[flag], &length.to_be_bytes()[..], &message].concat()
}

/// A message in a field of another one.
fn field(number: u8, message: &[u8]) -> Bytes {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(message.len() as u64, &mut out);
    out.extend_from_slice(message);
    out.into()
}
