//! Which headers of a request go on with its profiles.

use crate::settings::Problem;
use http::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The headers (metadata in gRPC) of requests that go on to exporters.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum IncludeMetadata {
    /// `false`: none.
    Switch(bool),
    /// The names of those that go on.
    Names(Vec<String>),
}

/// The names of headers that go on.
#[derive(Clone, Debug, Default)]
pub struct Picked(Vec<HeaderName>);

// === impl IncludeMetadata ===

impl Default for IncludeMetadata {
    fn default() -> Self {
        Self::Switch(false)
    }
}

impl IncludeMetadata {
    /// Everything that is wrong.
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Switch(false) => Vec::new(),
            Self::Switch(true) => vec![Problem::new(
                "",
                "say which headers go on, as in [x-scope-orgid]: each different set of values is \
                 sent in requests of its own, and queues on disk hold them in clear",
            )],
            Self::Names(names) => (names.iter().enumerate())
                .filter_map(|(at, name)| Some(Problem::new(format!("[{at}]"), wrong(name)?)))
                .collect(),
        }
    }

    /// The names, those that are none left out.
    pub fn picked(&self) -> Picked {
        match self {
            Self::Switch(_) => Picked::default(),
            Self::Names(names) => {
                Picked(names.iter().filter_map(|name| name.parse().ok()).collect())
            }
        }
    }
}

/// Why a header cannot go on.
pub(crate) fn wrong(name: &str) -> Option<&'static str> {
    let Ok(name) = name.parse::<HeaderName>() else {
        return Some("no header name");
    };
    let of_one_hop = [
        "connection",
        "content-",
        "grpc-",
        "host",
        "te",
        "transfer-encoding",
    ];
    let of_one_hop = of_one_hop.iter().any(|own| match own.strip_suffix('-') {
        Some(_) => name.as_str().starts_with(own),
        None => name.as_str() == *own,
    });
    of_one_hop.then_some("this header belongs to one hop: it cannot go on")
}

// === impl Picked ===

impl Picked {
    /// Names in lower case and values, those of a repeated header joined by a
    /// comma. What is no text is left out.
    pub fn of<'a>(&'a self, headers: &'a HeaderMap) -> impl Iterator<Item = (&'a str, String)> {
        self.0.iter().filter_map(|name| {
            let values = headers.get_all(name).iter().map(HeaderValue::to_str);
            let values: Vec<_> = values.filter_map(Result::ok).collect();
            (!values.is_empty()).then(|| (name.as_str(), values.join(",")))
        })
    }

    /// Whether nothing goes on.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_named_headers_go_on_in_lower_case() {
        let names = IncludeMetadata::Names(vec!["X-Scope-OrgID".into(), "x-absent".into()]);
        assert!(names.problems().is_empty());
        let mut headers = HeaderMap::new();
        headers.append("x-scope-orgid", HeaderValue::from_static("a"));
        headers.append("x-scope-orgid", HeaderValue::from_static("b"));
        headers.append("authorization", HeaderValue::from_static("secret"));
        let picked = names.picked();
        let found: Vec<_> = picked.of(&headers).collect();
        assert_eq!(found, [("x-scope-orgid", "a,b".to_owned())]);
    }

    #[test]
    fn all_headers_and_those_of_one_hop_cannot_go_on() {
        let all = IncludeMetadata::Switch(true).problems();
        assert!(all[0].message.contains("say which"), "{all:?}");
        let wrong = ["content-encoding", "te", "grpc-timeout", "no name"];
        let names = IncludeMetadata::Names(wrong.map(String::from).to_vec());
        assert_eq!(names.problems().len(), wrong.len());
        assert_eq!(names.problems()[3].path, "[3]");
    }
}
