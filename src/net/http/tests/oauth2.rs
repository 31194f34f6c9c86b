use super::*;
use base64::prelude::{BASE64_URL_SAFE_NO_PAD, Engine};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA384, RsaKeyPair, UnparsedPublicKey};
use rustls_pki_types::{PrivateKeyDer, pem::PemObject};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

const KEY: &str = include_str!("../testdata/jwt_test_only.pem");

type Forms = Arc<Mutex<Vec<(Option<String>, BTreeMap<String, String>)>>>;

/// A token server that answers the nth request with `answer(n)`; it keeps the
/// credentials and forms that it saw.
async fn token_server(
    answer: impl Fn(usize, bool) -> (u16, String) + Send + Sync + 'static,
) -> (SocketAddr, Forms) {
    let forms = Forms::default();
    let record = forms.clone();
    let count = Arc::new(AtomicUsize::new(0));
    let answer = Arc::new(answer);
    let address = raw(move |mut stream, _| {
        let (record, count, answer) = (record.clone(), count.clone(), answer.clone());
        async move {
            let mut read = Vec::new();
            let (head, form) = loop {
                let mut chunk = [0; 4096];
                let size = stream.read(&mut chunk).await.unwrap();
                read.extend_from_slice(&chunk[..size]);
                let text = String::from_utf8_lossy(&read).into_owned();
                let Some((head, form)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let length: usize = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "))
                    .unwrap()
                    .parse()
                    .unwrap();
                if form.len() >= length {
                    break (head.to_owned(), form.to_owned());
                }
            };
            let auth = head
                .lines()
                .find_map(|line| line.strip_prefix("authorization: "))
                .map(str::to_owned);
            let fields = url::form_urlencoded::parse(form.as_bytes())
                .into_owned()
                .collect();
            let (status, body) = answer(count.fetch_add(1, Ordering::SeqCst), auth.is_some());
            record.lock().unwrap().push((auth, fields));
            let response = format!(
                "HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(response.as_bytes()).await;
        }
    })
    .await;
    (address, forms)
}

fn token(number: usize, life: u32) -> (u16, String) {
    (
        200,
        json!({"access_token": format!("t{number}"), "token_type": "bearer", "expires_in": life})
            .to_string(),
    )
}

fn oauth2_client(server: SocketAddr, more: serde_json::Value) -> HttpClient {
    let mut oauth2 = json!({
        "client_id": "the client",
        "client_secret": "s&cret",
        "token_url": format!("http://{server}/token"),
    });
    oauth2
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    client(json!({"oauth2": oauth2}))
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_again() {
    let (tokens, forms) = token_server(|number, _| token(number, 3600)).await;
    let (server, seen) = recording(None, |_| text("")).await;
    let client = oauth2_client(
        tokens,
        json!({"scopes": ["a", "b"], "endpoint_params": {"audience": "x"}}),
    );
    let url = format!("http://{}/", server.address);
    let (one, two) = tokio::join!(body(&client, &url), body(&client, &url));
    one.unwrap();
    two.unwrap();
    for index in 0..2 {
        assert_eq!(
            header_of(&seen, index, "authorization").unwrap(),
            "Bearer t0"
        );
    }
    let forms = forms.lock().unwrap();
    assert_eq!(forms.len(), 1);
    let (auth, form) = &forms[0];
    // RFC 6749 2.3.1: both are form-encoded before they are joined.
    let expected = base64::prelude::BASE64_STANDARD.encode("the+client:s%26cret");
    assert_eq!(auth.as_deref(), Some(format!("Basic {expected}").as_str()));
    assert_eq!(form["grant_type"], "client_credentials");
    assert_eq!(
        (form["scope"].as_str(), form["audience"].as_str()),
        ("a b", "x")
    );
}

#[tokio::test]
async fn a_refused_token_is_replaced_once() {
    let (tokens, forms) = token_server(|number, _| token(number, 3600)).await;
    let (server, seen) = recording(None, |parts| {
        let mut response = text("");
        if parts.headers["authorization"] == "Bearer t0" && parts.uri.path() != "/fine" {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        if parts.uri.path() == "/never" {
            *response.status_mut() = StatusCode::UNAUTHORIZED;
        }
        response
    })
    .await;
    let client = oauth2_client(tokens, json!({}));
    let at = |path: &str| format!("http://{}{path}", server.address);
    body(&client, at("/fine")).await.unwrap();
    let (status, _) = body(&client, at("/")).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(header_of(&seen, 2, "authorization").unwrap(), "Bearer t1");
    // A target that takes none costs one token a request, not more.
    let (status, _) = body(&client, at("/never")).await.unwrap();
    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert_eq!(forms.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_token_is_replaced_before_its_end_and_when_the_secret_changes() {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "one").unwrap();
    let (tokens, forms) =
        token_server(|number, _| token(number, if number == 0 { 5 } else { 3600 })).await;
    let (server, _) = recording(None, |_| text("")).await;
    let client = oauth2_client(
        tokens,
        json!({"client_secret": "", "client_secret_file": secret}),
    );
    let url = format!("http://{}/", server.address);
    for _ in 0..3 {
        body(&client, &url).await.unwrap();
    }
    assert_eq!(forms.lock().unwrap().len(), 2);
    fs::write(&secret, "two").unwrap();
    body(&client, &url).await.unwrap();
    assert_eq!(forms.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_server_that_wants_the_secret_in_the_form_gets_it_there() {
    let (tokens, forms) = token_server(|number, in_header| {
        if in_header {
            (401, r#"{"error":"invalid_client"}"#.into())
        } else {
            token(number, 1)
        }
    })
    .await;
    let (server, _) = recording(None, |_| text("")).await;
    let client = oauth2_client(tokens, json!({}));
    let url = format!("http://{}/", server.address);
    body(&client, &url).await.unwrap();
    body(&client, &url).await.unwrap();
    let forms = forms.lock().unwrap();
    // It is found out once.
    assert_eq!(forms.len(), 3);
    assert_eq!(forms[1].1["client_id"], "the client");
    assert_eq!(forms[1].1["client_secret"], "s&cret");
}

#[tokio::test]
async fn a_token_server_that_refuses_is_named_and_not_stormed() {
    let (tokens, forms) = token_server(|_, _| (400, r#"{"error":"invalid_scope"}"#.into())).await;
    let client = oauth2_client(tokens, json!({}));
    for _ in 0..50 {
        let error = body(&client, "http://127.0.0.1:1/").await.unwrap_err();
        assert!(matches!(error, HttpError::Auth(_)), "{error}");
        let error = error.to_string();
        assert!(
            error.contains("invalid_scope") && error.contains(&tokens.to_string()),
            "{error}"
        );
    }
    assert_eq!(forms.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn an_assertion_is_signed() {
    let (tokens, forms) = token_server(|number, _| token(number, 3600)).await;
    let (server, seen) = recording(None, |_| text("")).await;
    let client = oauth2_client(
        tokens,
        json!({
            "client_secret": "",
            "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
            "client_certificate_key": KEY,
            "client_certificate_key_id": "k1",
            "signature_algorithm": "RS384",
            "audience": "aud",
            "claims": {"tenant": 7},
            "scopes": ["s"],
        }),
    );
    body(&client, format!("http://{}/", server.address))
        .await
        .unwrap();
    assert_eq!(header_of(&seen, 0, "authorization").unwrap(), "Bearer t0");
    let forms = forms.lock().unwrap();
    let (auth, form) = &forms[0];
    assert_eq!(*auth, None);
    assert_eq!(
        form["grant_type"],
        "urn:ietf:params:oauth:grant-type:jwt-bearer"
    );
    let (signed, signature) = form["assertion"].rsplit_once('.').unwrap();
    let key = match PrivateKeyDer::from_pem_slice(KEY.as_bytes()).unwrap() {
        PrivateKeyDer::Pkcs8(key) => RsaKeyPair::from_pkcs8(key.secret_pkcs8_der()).unwrap(),
        _ => unreachable!(),
    };
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA384, key.public_key())
        .verify(
            signed.as_bytes(),
            &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap(),
        )
        .unwrap();
    let (head, claims) = signed.split_once('.').unwrap();
    let decode = |part: &str| -> serde_json::Value {
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    };
    assert_eq!(
        decode(head),
        json!({"alg": "RS384", "typ": "JWT", "kid": "k1"})
    );
    let claims = decode(claims);
    assert_eq!(
        (&claims["iss"], &claims["sub"]),
        (&json!("the client"), &json!("the client"))
    );
    assert_eq!(
        (&claims["aud"], &claims["tenant"]),
        (&json!("aud"), &json!(7))
    );
    assert_eq!(claims["scope"], "s");
    assert_eq!(
        claims["exp"].as_u64().unwrap() - claims["iat"].as_u64().unwrap(),
        600
    );
}

#[test]
fn a_key_that_cannot_sign_is_a_problem() {
    let settings = settings(json!({"oauth2": {
        "client_id": "c", "token_url": "http://t/",
        "grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer",
        "client_certificate_key": "no key",
    }}));
    let problems = HttpClient::new(&settings).unwrap_err();
    assert_eq!(problems[0].path, "oauth2.client_certificate_key");
}
