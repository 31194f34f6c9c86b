//! Messages of the agent's own encoder, where a checkout has them beside it in
//! `../shared/fixtures`, or where `ARROW_FIXTURES` says; skipped elsewhere.

use super::{MAX, meaning::meaning, relabelled};
use crate::profile::{
    Labels,
    arrow::{
        Arrow, Outline, Part, constant_labels, halves, outline, select_stacks, stacks_request,
        write_v1, write_v2,
    },
};
use bytes::Bytes;
use std::{fs, io::Write, path::Path};

/// A file of the fixtures, if there are any.
fn fixture(test: &str, name: &str) -> Option<Bytes> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures/arrow");
    let root = std::env::var_os("ARROW_FIXTURES").map_or(root, Into::into);
    match fs::read(root.join(name)) {
        Ok(bytes) => Some(bytes.into()),
        Err(_) => {
            // Written past the capture of output, which the summary does not see.
            let _ = writeln!(std::io::stderr(), "skipped: {test}: no ../shared/fixtures");
            None
        }
    }
}

/// The bodies of one size: v1, v2 compressed and v2 plain.
fn bodies(test: &str, size: &str) -> Option<[Arrow; 3]> {
    let file = |name: &str| fixture(test, &format!("{name}_{size}.arrows"));
    Some([
        Arrow::v1(file("v1_samples")?, file("v1_locations")?),
        Arrow::v2(file("v2_lz4")?),
        Arrow::v2(file("v2_plain")?),
    ])
}

#[test]
fn messages_of_the_agent_are_told_apart() {
    let test = "messages_of_the_agent_are_told_apart";
    for (name, part, rows) in [
        ("v1_samples_large.arrows", Part::V1Samples, 2000),
        ("v1_locations_large.arrows", Part::V1Stacks, 300),
        ("v2_lz4_large.arrows", Part::V2, 2000),
        ("v2_plain_large.arrows", Part::V2, 2000),
        ("v1_mem_samples.arrows", Part::V1Samples, 6),
    ] {
        let Some(message) = fixture(test, name) else {
            return;
        };
        let found: Outline = outline(&message).unwrap();
        assert_eq!((found.part, found.rows), (part, rows), "{name}");
        assert!(found.inflated as usize > message.len() / 2, "{found:?}");
    }
}

#[test]
fn both_schemas_say_the_same() {
    let test = "both_schemas_say_the_same";
    for size in ["small", "large"] {
        let Some(bodies) = bodies(test, size) else {
            return;
        };
        let [v1, lz4, plain] = bodies.map(|body| meaning(&body.decode(MAX).unwrap()));
        assert_eq!(v1.len(), if size == "small" { 12 } else { 2000 });
        assert_eq!(v1, lz4);
        assert_eq!(v1, plain);
    }
}

#[test]
fn what_is_written_says_what_was_read() {
    let test = "what_is_written_says_what_was_read";
    for size in ["small", "large"] {
        let Some(bodies) = bodies(test, size) else {
            return;
        };
        for body in bodies {
            let table = body.decode(MAX).unwrap();
            let expected = meaning(&table);
            let (samples, stacks) = write_v1(&table, MAX).unwrap();
            let v1 = Arrow::v1(samples, stacks);
            assert_eq!(meaning(&v1.decode(MAX).unwrap()), expected);
            let v2 = Arrow::v2(write_v2(&table, MAX).unwrap());
            assert_eq!(meaning(&v2.decode(MAX).unwrap()), expected);
        }
    }
}

#[test]
fn all_stacks_are_asked_for_as_parca_does() {
    let test = "all_stacks_are_asked_for_as_parca_does";
    for size in ["small", "large"] {
        let file = |name: &str| fixture(test, &format!("{name}_{size}.arrows"));
        let (Some(samples), Some(expected), Some(stacks)) = (
            file("v1_samples"),
            file("v1_unknown_ids"),
            file("v1_locations"),
        ) else {
            return;
        };
        let asked = stacks_request(&samples, MAX).unwrap();
        // Whoever asks for all in order is sent the bytes as they are, and both do.
        for request in [&asked, &expected] {
            let selected = select_stacks(&stacks, request, MAX).unwrap();
            assert_eq!(selected.as_ptr(), stacks.as_ptr());
        }
    }
}

#[test]
fn labels_of_the_agent_are_seen_and_set() {
    let Some(bodies) = bodies("labels_of_the_agent_are_seen_and_set", "small") else {
        return;
    };
    for body in bodies {
        let has = constant_labels(&body, MAX).unwrap();
        assert_eq!(
            has.to_string(),
            r#"{cluster="c1", node="node-a", thread_name="worker"}"#
        );
        let mut wanted = has.edit();
        wanted
            .set("cpu", "all")
            .set("model", "apps")
            .remove("cluster");
        let wanted: Labels = wanted.build();
        let changed = relabelled(&body, &wanted, MAX).unwrap();
        assert_eq!(constant_labels(&changed, MAX).unwrap(), wanted);
        let mut expected = body.decode(MAX).unwrap();
        expected.overlay(&wanted);
        assert_eq!(meaning(&changed.decode(MAX).unwrap()), meaning(&expected));
        let same = relabelled(&body, &has, MAX).unwrap();
        assert_eq!(
            meaning(&same.decode(MAX).unwrap()),
            meaning(&body.decode(MAX).unwrap())
        );
    }
}

#[test]
fn halves_are_the_whole() {
    let Some(bodies) = bodies("halves_are_the_whole", "large") else {
        return;
    };
    for body in bodies {
        let halves = halves(&body, MAX).unwrap().unwrap();
        let [one, other] = halves.map(|half| meaning(&half.decode(MAX).unwrap()));
        assert_eq!(one.len(), 1000);
        assert_eq!([one, other].concat(), meaning(&body.decode(MAX).unwrap()));
    }
}
