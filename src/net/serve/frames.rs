//! The frames of HTTP/2 that a client sends, counted as they come by.
//!
//! Who opens requests and takes them back at once makes work and hears nothing.
//! Nobody above tells: to hyper such a request is one whose body has ended.

/// The bytes by which HTTP/2 is told from HTTP/1.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The length, the type, flags and the stream.
const HEAD: usize = 9;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;

/// Where in its frames a client is.
#[derive(Debug, Default)]
pub(super) struct Frames {
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// So many bytes of the preface have come.
    Preface(usize),
    /// Between two frames, or within the head of one.
    Head([u8; HEAD], usize),
    /// So many bytes of a frame are still to come.
    Content(usize),
    /// It is no HTTP/2.
    Other,
}

/// What came by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    /// Requests, and trailers of some.
    pub(super) opened: u32,
    /// Requests that were taken back.
    pub(super) cancelled: u32,
}

// === impl Frames ===

impl Frames {
    /// Counts what is in the next bytes.
    pub(super) fn count(&mut self, mut bytes: &[u8]) -> Counted {
        let mut counted = Counted::default();
        while !bytes.is_empty() {
            let taken = match &mut self.place {
                Place::Other => return counted,
                Place::Preface(have) => {
                    let rest = &PREFACE[*have..];
                    let taken = rest.len().min(bytes.len());
                    self.place = match rest[..taken] == bytes[..taken] {
                        false => Place::Other,
                        true if taken == rest.len() => Place::default_head(),
                        true => Place::Preface(*have + taken),
                    };
                    taken
                }
                Place::Head(head, have) => {
                    let taken = (HEAD - *have).min(bytes.len());
                    head[*have..*have + taken].copy_from_slice(&bytes[..taken]);
                    *have += taken;
                    if *have == HEAD {
                        counted.opened += u32::from(head[3] == HEADERS);
                        counted.cancelled += u32::from(head[3] == RST_STREAM);
                        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                        self.place = Place::content(length as usize);
                    }
                    taken
                }
                Place::Content(left) => {
                    let taken = (*left).min(bytes.len());
                    self.place = Place::content(*left - taken);
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        counted
    }
}

// === impl Place ===

impl Place {
    fn default_head() -> Self {
        Self::Head([0; HEAD], 0)
    }

    fn content(left: usize) -> Self {
        match left {
            0 => Self::default_head(),
            left => Self::Content(left),
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Self::Preface(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let mut frame = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 1]);
        // A content that looks like frames.
        frame.extend([RST_STREAM].repeat(length));
        frame
    }

    #[test]
    fn frames_are_counted_whatever_pieces_they_come_in() {
        let mut wire = PREFACE.to_vec();
        for (kind, length) in [(4, 0), (1, 20), (0, 70_000), (3, 4), (1, 5), (8, 4), (3, 4)] {
            wire.extend(frame(kind, length));
        }
        for size in [1, 2, 8, 9, 10, 1_000, wire.len()] {
            let mut frames = Frames::default();
            let mut all = Counted::default();
            for piece in wire.chunks(size) {
                let counted = frames.count(piece);
                all.opened += counted.opened;
                all.cancelled += counted.cancelled;
            }
            let expected = Counted {
                opened: 2,
                cancelled: 2,
            };
            assert_eq!(all, expected, "{size}");
        }
    }

    #[test]
    fn what_is_no_http2_has_no_frames() {
        let mut frames = Frames::default();
        for text in ["P", "OST / HTTP/1.1\r\n", "\0\0\0\x03\0\0\0\0\x01"] {
            assert_eq!(frames.count(text.as_bytes()), Counted::default());
        }
    }
}
