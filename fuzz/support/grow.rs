//! Protobuf out of random bytes: each is an instruction of a small machine that
//! writes fields, opens and closes messages, and repeats what it wrote. Whatever
//! it makes is well formed, and much of it has the shape of what is read.

/// Larger messages are not made, in bytes.
const MAX: usize = 256 * 1024;

/// The message that `program` makes.
pub fn grow(program: &[u8]) -> Vec<u8> {
    let mut program = program.iter().copied();
    let mut open: Vec<(u32, Vec<u8>)> = Vec::new();
    let mut out = Vec::new();
    let mut last = Vec::new();
    while let Some(byte) = program.next() {
        let number = 1 + u32::from(byte >> 3) % 16;
        let mut next = || program.next().unwrap_or_default();
        match byte & 7 {
            0 => {
                last = key(number, 0);
                varint(&mut last, u64::from(next()));
            }
            1 => {
                last = key(number, 0);
                // From the high end: negative, or beyond 32 bits.
                varint(&mut last, u64::MAX.rotate_left(u32::from(next() & 63)) ^ 1);
            }
            2 => {
                last = key(number, 1);
                last.extend([next(), next(), 0, 0, 0, 0, 0, next()]);
            }
            3 | 4 => {
                if open.len() < 100 {
                    open.push((number, std::mem::take(&mut out)));
                    last.clear();
                }
                continue;
            }
            5 => {
                let Some((number, outer)) = open.pop() else {
                    continue;
                };
                last = message(number, &out);
                out = outer;
            }
            6 => {
                let length = next() % 40;
                let content: Vec<u8> = (0..length).map(|_| next()).collect();
                last = message(number, &content);
            }
            _ => {
                let times = 1 + usize::from(next()) * usize::from(next());
                let room = MAX.saturating_sub(out.len()) / last.len().max(1);
                out.extend(last.repeat(times.min(room)));
                continue;
            }
        }
        if out.len() + last.len() <= MAX {
            out.extend_from_slice(&last);
        }
    }
    while let Some((number, outer)) = open.pop() {
        let inner = message(number, &out);
        out = outer;
        out.extend(inner);
    }
    out
}

fn key(number: u32, wire_type: u32) -> Vec<u8> {
    let mut out = Vec::new();
    varint(&mut out, u64::from(number << 3 | wire_type));
    out
}

fn message(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = key(number, 2);
    varint(&mut out, content.len() as u64);
    out.extend_from_slice(content);
    out
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
