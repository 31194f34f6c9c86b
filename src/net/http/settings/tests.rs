use super::*;

fn parse(json: serde_json::Value) -> HttpClientSettings {
    serde_json::from_value(json).unwrap()
}

fn paths(settings: &HttpClientSettings) -> Vec<String> {
    settings
        .problems()
        .into_iter()
        .map(|problem| problem.path)
        .collect()
}

#[test]
fn redirects_and_http2_are_off_as_in_parca() {
    let settings = parse(serde_json::json!({}));
    assert!(!settings.follow_redirects && !settings.enable_http2);
    assert!(settings.problems().is_empty());
}

#[test]
fn every_key_of_prometheus_is_known() {
    let json = serde_json::json!({
        "basic_auth": {"username": "u", "username_file": "", "username_ref": "", "password": "p", "password_file": "", "password_ref": ""},
        "authorization": {"type": "Bearer", "credentials": "", "credentials_file": "f", "credentials_ref": ""},
        "oauth2": {
            "client_id": "c", "client_secret": "", "client_secret_file": "", "client_secret_ref": "",
            "client_certificate_key_id": "", "client_certificate_key": "", "client_certificate_key_file": "", "client_certificate_key_ref": "",
            "grant_type": "", "signature_algorithm": "", "iss": "", "audience": "", "claims": {"a": 1},
            "scopes": ["s"], "token_url": "https://t/", "endpoint_params": {"a": "b"},
            "tls_config": {"insecure_skip_verify": true}, "proxy_url": "http://p", "no_proxy": "",
            "proxy_from_environment": false, "proxy_connect_header": {},
        },
        "bearer_token": "", "bearer_token_file": "",
        "tls_config": {
            "ca": "", "ca_file": "", "ca_ref": "", "cert": "", "cert_file": "", "cert_ref": "",
            "key": "", "key_file": "", "key_ref": "", "server_name": "", "insecure_skip_verify": false,
            "min_version": "TLS12", "max_version": "",
        },
        "follow_redirects": true, "enable_http2": true,
        "proxy_url": "", "no_proxy": "", "proxy_from_environment": false, "proxy_connect_header": {"x": ["y"]},
        "http_headers": {"x": {"values": ["a"], "secrets": ["b"], "files": ["c"]}},
    });
    let schema = schemars::schema_for!(HttpClientSettings);
    let known = schema.get("properties").unwrap().as_object().unwrap();
    for key in json.as_object().unwrap().keys() {
        assert!(known.contains_key(key), "{key}");
    }
    let settings = parse(json);
    assert_eq!(settings.http_headers["x"].secrets[0].expose(), "b");
    assert_eq!(settings.oauth2.unwrap().claims["a"], 1);
}

#[test]
fn kinds_of_credentials_exclude_each_other() {
    for (json, path) in [
        (
            serde_json::json!({"bearer_token": "a", "bearer_token_file": "b"}),
            "bearer_token_file",
        ),
        (
            serde_json::json!({"basic_auth": {}, "bearer_token": "b"}),
            "bearer_token",
        ),
        (
            serde_json::json!({"basic_auth": {}, "authorization": {}}),
            "authorization",
        ),
        (
            serde_json::json!({"authorization": {}, "oauth2": {"client_id": "c", "token_url": "http://t"}}),
            "oauth2",
        ),
        (
            serde_json::json!({"authorization": {}, "bearer_token_file": "b"}),
            "bearer_token_file",
        ),
        (
            serde_json::json!({"basic_auth": {"username": "a", "username_file": "b"}}),
            "basic_auth.username_file",
        ),
        (
            serde_json::json!({"basic_auth": {"password": "a", "password_file": "b"}}),
            "basic_auth.password_file",
        ),
        (
            serde_json::json!({"authorization": {"credentials": "a", "credentials_file": "b"}}),
            "authorization.credentials_file",
        ),
        (
            serde_json::json!({"authorization": {"type": " basic "}}),
            "authorization.type",
        ),
        (
            serde_json::json!({"basic_auth": {"password_ref": "a"}}),
            "basic_auth.password_ref",
        ),
        (
            serde_json::json!({"oauth2": {"token_url": "http://t"}}),
            "oauth2.client_id",
        ),
        (
            serde_json::json!({"oauth2": {"client_id": "c"}}),
            "oauth2.token_url",
        ),
        (
            serde_json::json!({"oauth2": {"client_id": "c", "token_url": "http://t", "client_secret": "a", "client_secret_file": "b"}}),
            "oauth2.client_secret_file",
        ),
        (
            serde_json::json!({"oauth2": {"client_id": "c", "token_url": "http://t", "grant_type": JWT_BEARER}}),
            "oauth2.client_certificate_key",
        ),
        (
            serde_json::json!({"oauth2": {"client_id": "c", "token_url": "http://t", "signature_algorithm": "ES256"}}),
            "oauth2.signature_algorithm",
        ),
        (
            serde_json::json!({"tls_config": {"ca_ref": "a"}}),
            "tls_config.ca_ref",
        ),
        (serde_json::json!({"no_proxy": "a"}), "no_proxy"),
        (
            serde_json::json!({"http_headers": {"User-Agent": {"values": ["x"]}}}),
            "http_headers.User-Agent",
        ),
        (
            serde_json::json!({"http_headers": {"x y": {}}}),
            "http_headers.x y",
        ),
    ] {
        assert_eq!(paths(&parse(json.clone())), [path], "{json}");
    }
}

#[test]
fn secrets_do_not_print() {
    let settings = parse(serde_json::json!({
        "basic_auth": {"username": "u", "password": "hunter2"},
        "proxy_url": "http://u:hunter2@p",
        "http_headers": {"x": {"secrets": ["hunter2"]}},
        "tls_config": {"key": "hunter2"},
    }));
    let printed = format!("{settings:?} {}", serde_json::to_string(&settings).unwrap());
    assert!(!printed.contains("hunter2"), "{printed}");
}
