//! Names of files, and which names are the exporter's own.

use crate::profile::{Labels, NAME};
use std::{
    fmt::Write,
    time::{SystemTime, UNIX_EPOCH},
};

/// What every file ends with.
pub(super) const SUFFIX: &str = ".pb.gz";

/// The most of one label's value that goes into a name; three of them, the time
/// and a counter stay far below the 255 bytes that file systems allow.
const MAX_PART: usize = 60;

/// The shape of the time: digits where it has a 0.
const TIME: &[u8] = b"00000000T000000.000Z";

/// The name without counter and suffix.
pub(super) fn stem(labels: &Labels, received: SystemTime) -> String {
    let mut stem = humantime::format_rfc3339_millis(received.max(UNIX_EPOCH))
        .to_string()
        .replace(['-', ':'], "");
    for value in ["job", "instance", NAME]
        .iter()
        .filter_map(|name| labels.get(name))
    {
        stem.push('_');
        stem.extend(value.chars().take(MAX_PART).map(plain));
    }
    stem
}

/// The name with a counter, which tells equal stems apart; 0 is not written.
pub(super) fn numbered(stem: &str, number: u32) -> String {
    let mut name = stem.to_owned();
    if number > 0 {
        // Writing to a String cannot fail.
        let _ = write!(name, "-{number}");
    }
    name.push_str(SUFFIX);
    name
}

/// What a file is called until it is complete: hidden, and nobody's `*.pb.gz`.
pub(super) fn temporary(name: &str) -> String {
    format!(".{name}.tmp")
}

/// Whether the exporter gives such names.
pub(super) fn is_own(name: &str) -> bool {
    let Some((time, rest)) = name.split_at_checked(TIME.len()) else {
        return false;
    };
    let shaped = time.bytes().zip(TIME).all(|(byte, shape)| match shape {
        b'0' => byte.is_ascii_digit(),
        _ => byte == *shape,
    });
    shaped && rest.ends_with(SUFFIX) && rest.starts_with(['_', '-', '.'])
}

/// Whether it is the name of a file that was never completed.
pub(super) fn is_own_temporary(name: &str) -> bool {
    name.strip_prefix('.')
        .and_then(|name| name.strip_suffix(".tmp"))
        .is_some_and(is_own)
}

/// A character that is harmless in names, shells and URLs.
fn plain(character: char) -> char {
    match character {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
        _ => '-',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn names_are_readable_harmless_and_recognised() {
        let received = UNIX_EPOCH + Duration::from_millis(1_795_373_101_123);
        let long = "x/".repeat(500);
        for (labels, expected) in [
            (
                vec![
                    ("job", "api"),
                    ("instance", "[::1]:6060"),
                    (NAME, "process_cpu"),
                    ("x", "y"),
                ],
                "20261122T184501.123Z_api_-::1-:6060_process_cpu".replace(':', "-"),
            ),
            (
                vec![("job", "../../etc/passwd\0")],
                "20261122T184501.123Z_..-..-etc-passwd-".into(),
            ),
            (vec![], "20261122T184501.123Z".into()),
            (
                vec![("job", &long)],
                format!("20261122T184501.123Z_{}", "x-".repeat(30)),
            ),
        ] {
            let stem = stem(&labels.into_iter().collect(), received);
            assert_eq!(stem, expected);
            for name in [numbered(&stem, 0), numbered(&stem, 17)] {
                assert!(is_own(&name), "{name}");
                assert!(is_own_temporary(&temporary(&name)), "{name}");
                assert!(!is_own(&temporary(&name)), "{name}");
            }
        }
        assert_eq!(numbered("a", 0), "a.pb.gz");
        assert_eq!(numbered("a", 2), "a-2.pb.gz");
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in [
            "",
            "cpu.pb.gz",
            "20261122T184501.123Z_api.pb",
            "20261122T184501.123Zapi.pb.gz",
            "20261122_184501.123Z_api.pb.gz",
            "2026112üT184501.123Z_api.pb.gz",
            "x20261122T184501.123Z_api.pb.gz",
        ] {
            assert!(!is_own(name), "{name}");
            assert!(!is_own_temporary(name), "{name}");
        }
    }
}
