use crate::profile::pprof::{
    Pprof, SyntheticProfile, Unreadable, check, compress, inflate, with_inflated,
};
use bytes::Bytes;
use flate2::{Compression, GzBuilder, read::MultiGzDecoder, write::GzEncoder};
use std::io::{Read, Write};

const MAX: u64 = 1 << 20;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn inflated(body: Vec<u8>) -> Result<Bytes, Unreadable> {
    inflate(&Bytes::from(body), MAX)
}

#[test]
fn a_plain_body_is_passed_without_a_copy() {
    let body = Bytes::from(SyntheticProfile::heap(1).encode_plain());
    assert_eq!(inflate(&body, MAX).unwrap().as_ptr(), body.as_ptr());
}

#[test]
fn members_are_joined() {
    let body = [gzip(b"one "), compress(b"two ").to_vec(), gzip(b"three")].concat();
    assert_eq!(inflated(body).unwrap().as_ref(), b"one two three");
}

#[test]
fn a_member_that_comes_twice_is_read_twice() {
    let member = gzip(b"the same trailer");
    let body = [member.clone(), member].concat();
    assert_eq!(
        inflated(body).unwrap().as_ref(),
        b"the same trailerthe same trailer"
    );
}

#[test]
fn buffers_that_are_used_again_show_nothing_of_an_earlier_body() {
    for size in [70_000, 10, 300_000, 299_999, 1, 70_000] {
        let plain: Vec<u8> = (0..size).map(|i: u64| (i * i % 249) as u8).collect();
        assert!(inflated(gzip(&plain)).unwrap() == plain, "{size}");
    }
}

#[test]
fn damaged_bodies_are_read_as_another_decoder_reads_them() {
    let plain: Vec<u8> = (0..3_000_u32)
        .map(|i| (i.wrapping_mul(i) >> 7) as u8)
        .collect();
    let whole = gzip(&plain);
    // What the header may say is Go's rule, not theirs.
    let flipped = (10 * 8..whole.len() * 8).map(|bit| {
        let mut body = whole.clone();
        body[bit / 8] ^= 1 << (bit % 8);
        body
    });
    let cut = (2..whole.len()).map(|end| whole[..end].to_vec());
    for body in flipped.chain(cut) {
        let mut expected = Vec::new();
        let theirs = MultiGzDecoder::new(body.as_slice()).read_to_end(&mut expected);
        if let Ok(ours) = inflated(body) {
            assert!(theirs.is_ok() && ours == expected);
        }
    }
}

#[test]
fn what_is_compressed_is_inflated() {
    for size in [0, 1, 100, 70_000] {
        let plain: Vec<u8> = (0..size).map(|i: u64| (i * i % 251) as u8).collect();
        let body = [compress(&plain).to_vec(), gzip(b".")].concat();
        assert_eq!(inflated(body).unwrap(), [plain.as_slice(), b"."].concat());
    }
}

#[test]
fn all_parts_of_a_header_are_read() {
    let mut body = Vec::new();
    let mut encoder = GzBuilder::new()
        .filename("heap.pb")
        .comment("made here")
        .extra(vec![1, 2, 3])
        .write(&mut body, Compression::fast());
    encoder.write_all(b"content").unwrap();
    encoder.finish().unwrap();
    assert_eq!(inflated(body.clone()).unwrap().as_ref(), b"content");
    for cut in 2..body.len() {
        assert_eq!(
            inflated(body[..cut].to_vec()),
            Err(Unreadable::TruncatedGzip),
            "cut at {cut}"
        );
    }
}

#[test]
fn broken_bodies_are_told_apart() {
    let whole = gzip(b"some content that is long enough to be deflated, enough, enough");
    let end = whole.len();
    let with = |place: usize, byte: u8| {
        let mut body = whole.clone();
        body[place] ^= byte;
        body
    };
    assert_eq!(inflated(vec![]), Err(Unreadable::Empty));
    assert_eq!(inflated(gzip(b"")), Err(Unreadable::EmptyGzip));
    assert_eq!(inflated(with(end - 8, 1)), Err(Unreadable::Checksum));
    assert_eq!(inflated(with(end - 4, 1)), Err(Unreadable::Checksum));
    assert_eq!(inflated(with(2, 1)), Err(Unreadable::CorruptGzip));
    assert_eq!(inflated(with(10, !whole[10])), Err(Unreadable::CorruptGzip));
    assert_eq!(
        inflated([whole.as_slice(), b"\r\n"].concat()),
        Err(Unreadable::TrailingGarbage { bytes: 2 })
    );
    assert_eq!(inflated(gzip(&whole)), Err(Unreadable::NestedGzip));
}

#[test]
fn a_bomb_is_refused_within_the_bound() {
    let bomb = gzip(&vec![0; 50_000_000]);
    let refused = inflate(&Bytes::from(bomb), MAX);
    assert_eq!(refused, Err(Unreadable::TooLarge { max: MAX }));
    let bombs = gzip(&vec![0; MAX as usize]).repeat(2);
    let refused = inflate(&Bytes::from(bombs), MAX);
    assert_eq!(refused, Err(Unreadable::TooLarge { max: MAX }));
    let plain = Bytes::from(vec![8; 11]);
    assert_eq!(inflate(&plain, 10), Err(Unreadable::TooLarge { max: 10 }));
}

#[test]
fn the_bound_itself_is_allowed() {
    for size in [1, 600, 70_000] {
        let body = Bytes::from(gzip(&vec![7; size]));
        assert_eq!(inflate(&body, size as u64).unwrap().len(), size);
        let less = size as u64 - 1;
        assert_eq!(
            inflate(&body, less),
            Err(Unreadable::TooLarge { max: less })
        );
    }
}

#[test]
fn a_trailer_that_lies_about_the_size_only_fails_the_checksum() {
    for lie in [[0xff; 4], [0; 4]] {
        let mut body = gzip(&vec![1; 20_000]);
        let end = body.len();
        body[end - 4..].copy_from_slice(&lie);
        assert_eq!(inflated(body), Err(Unreadable::Checksum));
    }
}

#[test]
fn work_may_inflate_another_body() {
    let (outer, inner) = (gzip(b"outer"), gzip(b"inner"));
    let both = with_inflated(&outer, MAX, |outer| {
        with_inflated(&inner, MAX, |inner| [outer, inner].concat()).unwrap()
    });
    assert_eq!(both.unwrap(), b"outerinner");
}

#[test]
fn what_is_no_pprof_is_named() {
    let cases: &[(&[u8], &str)] = &[
        (
            b"<html><body>/debug/pprof/</body></html>",
            "ask for one profile such as /debug/pprof/allocs",
        ),
        (b"\n<!DOCTYPE html>", "is HTML"),
        (b"{\"error\":\"not found\"}", "is JSON"),
        (b"[]", "is JSON"),
        (
            b"heap profile: 1: 2 [3: 4] @ heap/1048576",
            "text form of a heap profile: drop debug=1",
        ),
        (
            b"goroutine profile: total 6\n",
            "text form of a goroutine profile",
        ),
        (
            b"goroutine 1 [running]:\nmain.main()",
            "text form of a goroutine profile",
        ),
        (
            b"--- contention:\ncycles/second=1",
            "text form of a contention profile",
        ),
        (
            b"--- mutex:\ncycles/second=1",
            "text form of a mutex profile",
        ),
        (b"# runtime.MemStats", "drop debug=1"),
        (
            b"404 page not found\n",
            "it begins with \"404 page not found\"",
        ),
        (b"go 1.22 trace\0\0\0\x01", "a Go execution trace"),
        (b"FLR\0\0\x02", "a Java flight recording"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed with zstd"),
        (&[0xff; 11], "no pprof: an integer"),
        (
            b"\x0a\x04\x08\x01",
            "no pprof: it ends in the middle of a field (at byte 0",
        ),
        (
            b"\x0a\x02\x08\x01\x0d\x01\x01\x01\x01",
            "encoding of another type (at byte 4",
        ),
    ];
    for (body, expected) in cases {
        for body in [body.to_vec(), gzip(body)] {
            let pprof = Pprof::new(Bytes::from(body));
            let message = pprof.check(MAX).unwrap_err().to_string();
            assert!(
                message.contains(expected),
                "{message:?} has no {expected:?}"
            );
        }
    }
}

#[test]
fn the_first_check_decides_for_all_clones() {
    let pprof = Pprof::new(SyntheticProfile::heap(1).encode());
    let clone = pprof.clone();
    assert!(pprof.check(10).is_err());
    assert_eq!(clone.check(MAX), Err(&Unreadable::TooLarge { max: 10 }));
    let checked = check(&SyntheticProfile::heap(1).encode_plain()).unwrap();
    let known = Pprof::known(pprof.bytes().clone(), checked.clone());
    assert_eq!(known.check(0), Ok(&checked));
}
