//! Cipher suites by the names that Go, and so the Collector, has for them.

use crate::settings::Problem;
use rustls::{CipherSuite, SupportedCipherSuite, crypto::CryptoProvider};
use std::sync::Arc;

/// The provider with these suites for TLS 1.2, in the provider's order, and all
/// those of TLS 1.3, which nobody chooses among: so it is in Go. None named are
/// all.
pub(super) fn restricted(
    provider: Arc<CryptoProvider>,
    names: &[String],
) -> Result<Arc<CryptoProvider>, Vec<Problem>> {
    if names.is_empty() {
        return Ok(provider);
    }
    let known: Vec<_> = provider.cipher_suites.iter().map(name).collect();
    let wrong = names
        .iter()
        .enumerate()
        .filter(|(_, name)| !known.contains(name));
    let problems: Vec<_> = wrong
        .map(|(at, _)| {
            let message = format!("no cipher suite that is known: {}", known.join(", "));
            Problem::new(format!("cipher_suites[{at}]"), message)
        })
        .collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut restricted = CryptoProvider::clone(&provider);
    restricted
        .cipher_suites
        .retain(|suite| is_tls13(suite) || names.contains(&name(suite)));
    Ok(Arc::new(restricted))
}

fn is_tls13(suite: &SupportedCipherSuite) -> bool {
    matches!(suite, SupportedCipherSuite::Tls13(_))
}

/// `TLS13_AES_128_GCM_SHA256` is `TLS_AES_128_GCM_SHA256` everywhere else.
fn name(suite: &SupportedCipherSuite) -> String {
    let suite: CipherSuite = suite.suite();
    let name = format!("{suite:?}");
    match name.strip_prefix("TLS13_") {
        Some(rest) => format!("TLS_{rest}"),
        None => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_of_tls_12_are_chosen_by_their_names_in_go() {
        let all = super::super::provider();
        let one = "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384".to_owned();
        let left = restricted(all.clone(), std::slice::from_ref(&one)).unwrap();
        let names: Vec<_> = left.cipher_suites.iter().map(name).collect();
        assert_eq!(names.len(), 4, "{names:?}");
        assert!(names.contains(&one) && names.contains(&"TLS_AES_128_GCM_SHA256".to_owned()));
        assert_eq!(restricted(all.clone(), &[]).unwrap().cipher_suites.len(), 9);
        let problems = restricted(all, &[one, "TLS_RSA_WITH_RC4_128_SHA".into()]).unwrap_err();
        assert_eq!(problems[0].path, "cipher_suites[1]");
        assert!(
            problems[0].message.contains("TLS_ECDHE_ECDSA"),
            "{problems:?}"
        );
    }
}
