//! Refusals that are about the client's certificate.
//!
//! A certificate is shown once, while connecting, and what a server makes of it holds
//! for all requests of that connection. So after a refusal the next request goes over
//! a new one, for which the files are looked at again: else a certificate that was
//! replaced would not be shown before the server closes the connection by itself,
//! and one that gets a request now and then never does.
//!
//! nginx connects who shows no certificate, or a wrong one, and answers each request
//! with 400: a status that else says that the request is bad and stays so.

use http::{HeaderMap, StatusCode, header};

/// How nginx says so.
const SIGNS: [&str; 2] = [
    "The SSL certificate error",
    "No required SSL certificate was sent",
];

/// Whether the text of an answer of HTTP 400 is about the client's certificate.
pub fn is_about_certificate(text: &str) -> bool {
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// Whether it may be the client's certificate for which a request was refused.
pub(super) fn may_be_about_certificate(status: StatusCode, headers: &HeaderMap) -> bool {
    match status.as_u16() {
        401 | 403 | 407 => true,
        400 => {
            let server = headers.get(header::SERVER);
            server.is_some_and(|server| server.as_bytes().starts_with(b"nginx"))
        }
        _ => {
            let code = headers.get(tonic::Status::GRPC_STATUS);
            // PERMISSION_DENIED, UNAUTHENTICATED.
            code.is_some_and(|code| matches!(code.as_bytes(), b"7" | b"16"))
        }
    }
}

/// The text of a proxy's page, without its tags.
pub fn words(page: &[u8]) -> String {
    let text = String::from_utf8_lossy(page);
    let mut words = String::new();
    for piece in text.split('<') {
        let piece = piece.split_once('>').map_or(piece, |(_, text)| text);
        for word in piece.split_whitespace() {
            words.push_str(word);
            words.push(' ');
        }
    }
    words.truncate(words.trim_end().len());
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nginx_says_of_certificates_is_found_in_its_pages() {
        for (said, expected) in [
            ("The SSL certificate error", true),
            ("No required SSL certificate was sent", true),
            ("Request Header Or Cookie Too Large", false),
        ] {
            let page = format!(
                "<html>\r\n<head><title>400 {said}</title></head>\r\n<body>\r\n\
                 <center><h1>400 Bad Request</h1></center>\r\n<center>{said}</center>\r\n\
                 <hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>\r\n"
            );
            let words = words(page.as_bytes());
            assert_eq!(
                words,
                format!("400 {said} 400 Bad Request {said} nginx/1.22.1")
            );
            assert_eq!(is_about_certificate(&words), expected, "{said}");
        }
    }

    #[test]
    fn only_refusals_of_who_asks_may_be_about_the_certificate() {
        for (status, name, value, expected) in [
            (401, "x", "y", true),
            (403, "x", "y", true),
            (400, "server", "nginx/1.22.1", true),
            (400, "server", "Caddy", false),
            (400, "x", "y", false),
            (413, "server", "nginx", false),
            (200, "grpc-status", "16", true),
            (200, "grpc-status", "7", true),
            (200, "grpc-status", "3", false),
            (200, "x", "y", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            let status = StatusCode::from_u16(status).unwrap();
            let found = may_be_about_certificate(status, &headers);
            assert_eq!(found, expected, "{status} {name}: {value}");
        }
    }
}
