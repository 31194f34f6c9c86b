//! What a misspelt name was probably meant to be.

/// The valid name nearest to `name`, if one is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, valid: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    let wanted = plain(name);
    valid
        .into_iter()
        .map(|candidate| (distance(&wanted, &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, candidate)| (*distance, candidate.len().abs_diff(name.len())))
        .map(|(_, candidate)| candidate)
}

/// A hint for people: the nearest name, else all of them.
pub(super) fn hint<'a>(name: &str, valid: impl Iterator<Item = &'a str> + Clone) -> String {
    if let Some(near) = nearest(name, valid.clone()) {
        return format!("did you mean {near}?");
    }
    let names: Vec<_> = valid.collect();
    match names.as_slice() {
        [] => "nothing is valid here".to_owned(),
        [one] => format!("only {one} is valid"),
        [..] => format!("valid are {}", names.join(", ")),
    }
}

/// Case and the choice between `-`, `_` and nothing are no difference.
fn plain(name: &str) -> Vec<char> {
    name.chars()
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Insertions, deletions, replacements and swaps of neighbours between two names.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            let replaced = last[j] + usize::from(x != y);
            row[j + 1] = replaced.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *x == b[j - 1] && a[i - 1] == *y {
                row[j + 1] = row[j + 1].min(before[j - 1] + 1);
            }
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names() {
        let valid = ["endpoint", "tls", "sending_queue", "auth"];
        for (name, near) in [
            ("endpont", Some("endpoint")),
            ("Endpoint", Some("endpoint")),
            ("sendingQueue", Some("sending_queue")),
            ("sending-queue", Some("sending_queue")),
            ("tsl", Some("tls")),
            ("compression", None),
        ] {
            assert_eq!(nearest(name, valid), near, "{name}");
        }
    }
}
