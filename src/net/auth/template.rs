//! Values with names of who sends in them: `team-{name}`.

use crate::net::tls::CertificateNames;

/// A value with placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(Box<str>),
    Name,
    CommonName,
    DnsName,
    Uri,
    Email,
}

// === impl Template ===

impl Template {
    /// Reads a value; what is no placeholder is an error.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            let (name, after) = after
                .split_once('}')
                .ok_or("a { is not closed: write {name}")?;
            pieces.push(match name {
                "name" => Piece::Name,
                "common_name" => Piece::CommonName,
                "dns_name" => Piece::DnsName,
                "uri" => Piece::Uri,
                "email" => Piece::Email,
                _ => {
                    return Err(format!(
                        "{{{name}}} stands for nothing: write {{name}}, {{common_name}}, \
                         {{dns_name}}, {{uri}} or {{email}}"
                    ));
                }
            });
            rest = after;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.into()));
        }
        Ok(Self(pieces))
    }

    /// The value; empty when a name that it needs is not there.
    pub(super) fn render(&self, name: &str, certificate: Option<&CertificateNames>) -> String {
        let first = |names: fn(&CertificateNames) -> &[String]| -> Option<&str> {
            names(certificate?).first().map(String::as_str)
        };
        let mut out = String::new();
        for piece in &self.0 {
            let text = match piece {
                Piece::Text(text) => Some(&**text),
                Piece::Name => Some(name),
                Piece::CommonName => certificate.and_then(|names| names.common_name.as_deref()),
                Piece::DnsName => first(|names| &names.dns),
                Piece::Uri => first(|names| &names.uris),
                Piece::Email => first(|names| &names.emails),
            };
            match text {
                Some(text) if !text.is_empty() => out.push_str(text),
                _ => return String::new(),
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_where_they_are_asked_for_and_a_missing_one_leaves_nothing() {
        let certificate = CertificateNames {
            common_name: Some("agent".into()),
            dns: vec!["a.example".into(), "b.example".into()],
            ..CertificateNames::default()
        };
        let shown = |text: &str, names| Template::parse(text).unwrap().render("me", names);
        let names = Some(&certificate);
        assert_eq!(shown("fixed", None), "fixed");
        assert_eq!(shown("{name}-x-{common_name}", names), "me-x-agent");
        assert_eq!(shown("{dns_name}", names), "a.example");
        assert_eq!(shown("x-{dns_name}", None), "");
        assert_eq!(shown("{uri}{name}", names), "");
        for wrong in ["{", "{}", "{nam}", "a{name"] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
