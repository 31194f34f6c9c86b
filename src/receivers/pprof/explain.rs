//! What a target's answer means and what to do about it.

use http::{HeaderMap, StatusCode, Uri, header};

/// What a status other than 200 means for a scrape of `uri`. `quote` is the
/// beginning of its body.
pub(crate) fn status(status: StatusCode, headers: &HeaderMap, uri: &Uri, quote: &str) -> String {
    let path = uri.path();
    let said = if quote.is_empty() {
        String::new()
    } else {
        format!(" ({quote:?})")
    };
    let hint = match status.as_u16() {
        _ if quote.contains("already in use") => {
            "; something else profiles the program's CPU at this moment, of which Go allows one: \
             scrape it from one place only"
                .to_owned()
        }
        300..=399 => format!(
            "; the target redirects to {}: scrape that place, by path or address, or set \
             follow_redirects: true",
            location(headers)
        ),
        401 => "; it wants credentials: set basic_auth, authorization or oauth2, or check them"
            .to_owned(),
        403 => "; it refuses these credentials, or this client".to_owned(),
        404 => format!(
            "; nothing is served at {path}: a Go program serves it on the port of its HTTP \
             server once it imports _ \"net/http/pprof\"; another place is set by \
             profiling_config (path_prefix, pprof_config.NAME.path), and a profile that the \
             program does not have is switched off there (enabled: false)"
        ),
        405 => "; it does not answer GET there: check the path".to_owned(),
        200..=299 => "; a profile comes with 200 only".to_owned(),
        _ => String::new(),
    };
    format!("the target answered {status}{said}{hint}")
}

/// Text of a stranger on one line, control characters replaced.
pub(crate) fn one_line(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    clean.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn location(headers: &HeaderMap) -> String {
    headers
        .get(header::LOCATION)
        .map(|value| one_line(&String::from_utf8_lossy(value.as_bytes())))
        .unwrap_or_else(|| "nowhere".to_owned())
}
