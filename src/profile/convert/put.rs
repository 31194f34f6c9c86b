//! Writes protobuf fields without building messages first.

use crate::profile::wire::{len, put_bytes, put_varint};

pub(super) use crate::profile::wire::{field_len, varint_len};

/// Appends an integer, left out when it is 0, as proto3 does.
#[inline]
pub(super) fn put_int(out: &mut Vec<u8>, number: u32, value: u64) {
    if value != 0 {
        put_arm(out, number, value);
    }
}

/// Appends an integer, also when it is 0: the arm of a oneof.
#[inline]
pub(super) fn put_arm(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number << 3));
    put_varint(out, value);
}

/// Appends a `fixed64`.
pub(super) fn put_fixed64(out: &mut Vec<u8>, number: u32, value: u64) {
    put_varint(out, u64::from(number << 3 | 1));
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a string, left out when it is empty.
pub(super) fn put_text(out: &mut Vec<u8>, number: u32, text: &str) {
    if !text.is_empty() {
        put_bytes(out, number, text.as_bytes());
    }
}

/// Appends a message that `content` writes.
#[inline]
pub(super) fn put_message(out: &mut Vec<u8>, number: u32, content: impl FnOnce(&mut Vec<u8>)) {
    put_varint(out, u64::from(len(number)));
    let at = out.len();
    // Most messages are short: their length has one byte.
    out.push(0);
    content(out);
    let length = out.len() - at - 1;
    match length < 0x80 {
        true => out[at] = length as u8,
        false => widen(out, at, length),
    }
}

/// Makes room for a length of several bytes.
fn widen(out: &mut Vec<u8>, at: usize, length: usize) {
    let mut prefix = Vec::with_capacity(10);
    put_varint(&mut prefix, length as u64);
    out.splice(at..=at, prefix);
}
