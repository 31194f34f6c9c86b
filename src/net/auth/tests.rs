//! Who is told to be whom.

use super::{
    testing::{Issuer, Signer},
    *,
};
use crate::{
    pipeline::Reason,
    profile::Labels,
    settings::{FilePath, Secret},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::json;
use std::{fs, path::Path, sync::atomic::Ordering};

fn bearer(token: &str) -> HeaderMap {
    header_of(&format!("Bearer {token}"))
}

fn header_of(value: &str) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::AUTHORIZATION, HeaderValue::try_from(value).unwrap());
    headers
}

fn settings(yaml: serde_json::Value) -> ServerAuth {
    serde_json::from_value(yaml).unwrap()
}

fn tokens(folder: &Path, text: &str) -> FilePath {
    let path = folder.join("tokens");
    fs::write(&path, text).unwrap();
    FilePath(path)
}

fn load(settings: &ServerAuth) -> Authenticator {
    Authenticator::load(settings, Certificates::None).unwrap()
}

async fn name(authenticator: &Authenticator, headers: &HeaderMap) -> Result<String, Refused> {
    let identity = authenticator.identify(headers, None).await?;
    Ok(identity.name().to_string())
}

fn named(common_name: &str) -> CertificateNames {
    CertificateNames {
        common_name: Some(common_name.to_owned()),
        uris: vec!["spiffe://model/agent".to_owned()],
        ..CertificateNames::default()
    }
}

#[tokio::test]
async fn one_method_that_fits_is_enough() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().await;
    let signer = Signer::p256("one");
    issuer.publish(&signer);
    let mut settings = settings(json!({}));
    settings.bearer_token_file = Some(tokens(folder.path(), "alice secret\nbare\n"));
    settings.basic = Some(ServerBasicAuth {
        htpasswd: Htpasswd {
            file: None,
            inline: Some(Secret::from(format!(
                "bob:{}",
                bcrypt::hash("pw", 4).unwrap()
            ))),
        },
    });
    settings.oidc = Some(issuer.settings(folder.path()));
    let all = load(&settings);
    assert_eq!(name(&all, &bearer("secret")).await.unwrap(), "alice");
    assert_eq!(
        name(&all, &header_of("bearer   secret")).await.unwrap(),
        "alice"
    );
    assert_eq!(name(&all, &bearer("bare")).await.unwrap(), "");
    let pair = format!("Basic {}", BASE64_STANDARD.encode("bob:pw"));
    assert_eq!(name(&all, &header_of(&pair)).await.unwrap(), "bob");
    let token = signer.token(&issuer.claims("carol"));
    assert_eq!(name(&all, &bearer(&token)).await.unwrap(), "carol");
    assert_eq!(name(&all, &HeaderMap::new()).await, Err(Refused::Missing));
    for wrong in [
        "Bearer other",
        "Bearer",
        "secret",
        "Basic secret",
        "Digest secret",
        "Bearer a.b.c",
    ] {
        let refused = name(&all, &header_of(wrong)).await.unwrap_err();
        assert_eq!(refused.reason(), "wrong_credentials", "{wrong}");
        assert!(!refused.to_string().contains("secret"), "{refused}");
    }
    let challenges: Vec<_> = all.challenges().collect();
    assert_eq!(challenges.len(), 2);
}

#[tokio::test]
async fn only_tokens_that_the_issuer_signed_for_us_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().await;
    let (rsa, p256) = (Signer::rsa("rsa"), Signer::p256("ec"));
    issuer.publish(&rsa);
    issuer.publish(&p256);
    let mut settings = settings(json!({"identities": {
        "group:admins": {"labels": {"team": "admins"}},
        "*": {"labels": {"team": "{name}"}},
    }}));
    settings.oidc = Some(issuer.settings(folder.path()));
    let oidc = load(&settings);
    let mut claims = issuer.claims("alice");
    for signer in [&rsa, &p256] {
        let token = signer.token(&claims);
        let identity = oidc.identify(&bearer(&token), None).await.unwrap();
        assert_eq!(&**identity.name(), "alice");
        let labels = identity.admit(Labels::default(), None).unwrap();
        assert_eq!(labels.get("team"), Some("alice"));
    }
    claims["groups"] = json!(["people", "admins"]);
    let token = rsa.token(&claims);
    let identity = oidc.identify(&bearer(&token), None).await.unwrap();
    let labels = identity.admit(Labels::default(), None).unwrap();
    assert_eq!(labels.get("team"), Some("admins"));
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);

    let other = Signer::p256("ec");
    let changed = token.replacen('.', ".e30", 1);
    let cut = &token[..token.len() - 4];
    let none = {
        let token = rsa.token_with(&json!({"alg": "none", "kid": "rsa"}), &claims);
        token[..=token.rfind('.').unwrap()].to_owned()
    };
    let confused = rsa.token_with(&json!({"alg": "HS256", "kid": "rsa"}), &claims);
    let crossed = rsa.token_with(&json!({"alg": "ES256", "kid": "rsa"}), &claims);
    let extended = rsa.token_with(
        &json!({"alg": "RS256", "kid": "rsa", "crit": ["x"]}),
        &claims,
    );
    let mut late = issuer.claims("alice");
    late["exp"] = json!(1_000);
    let mut elsewhere = issuer.claims("alice");
    elsewhere["aud"] = json!("another");
    let mut nobody = issuer.claims("alice");
    nobody["sub"] = json!(7);
    for (what, token) in [
        ("another key", other.token(&claims).as_str()),
        ("other claims", &changed),
        ("half a signature", cut),
        ("no signature", &none),
        ("a symmetric one", &confused),
        ("an algorithm of another key", &crossed),
        ("an extension that is not known", &extended),
        ("expired", &rsa.token(&late)),
        ("another audience", &rsa.token(&elsewhere)),
        ("no name", &rsa.token(&nobody)),
    ] {
        let refused = name(&oidc, &bearer(token)).await.unwrap_err();
        assert_eq!(refused.reason(), "wrong_credentials", "{what}: {refused}");
    }
}

#[tokio::test]
async fn an_issuer_that_is_away_lets_nobody_in_and_is_not_asked_for_each_request() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().await;
    let (one, two) = (Signer::rsa("one"), Signer::p256("two"));
    issuer.publish(&one);
    issuer.is_away.store(true, Ordering::SeqCst);
    let mut settings = settings(json!({}));
    settings.oidc = Some(issuer.settings(folder.path()));
    let oidc = load(&settings);
    let good = bearer(&one.token(&issuer.claims("alice")));
    for _ in 0..3 {
        let refused = name(&oidc, &good).await.unwrap_err();
        assert!(
            matches!(refused, Refused::Unavailable { after: Some(_), .. }),
            "{refused:?}"
        );
        assert!(refused.to_string().contains("503"), "{refused}");
    }
    issuer.is_away.store(false, Ordering::SeqCst);
    // Nobody asks again so soon.
    assert!(name(&oidc, &good).await.is_err());
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 0);

    let oidc = load(&settings);
    assert!(name(&oidc, &good).await.is_ok());
    // A key that nobody knows yet: it cannot be told, as the issuer was just asked.
    let unknown = bearer(&two.token(&issuer.claims("bob")));
    for _ in 0..100 {
        let refused = name(&oidc, &unknown).await.unwrap_err();
        assert_eq!(refused.reason(), "auth_unavailable");
    }
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 1);
    assert!(name(&oidc, &good).await.is_ok());
}

#[tokio::test]
async fn keys_are_fetched_anew_for_one_that_is_not_known_and_once_an_hour() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = Issuer::start().await;
    let (one, two) = (Signer::rsa("one"), Signer::p256("two"));
    issuer.publish(&one);
    let mut settings = settings(json!({}));
    settings.oidc = Some(issuer.settings(folder.path()));
    let oidc = load(&settings);
    let first = bearer(&one.token(&issuer.claims("alice")));
    let second = bearer(&two.token(&issuer.claims("bob")));
    assert!(name(&oidc, &first).await.is_ok());
    issuer.publish(&two);
    pass(11).await;
    assert_eq!(name(&oidc, &second).await.unwrap(), "bob");
    assert_eq!(issuer.fetches.load(Ordering::SeqCst), 2);
    // What was withdrawn is forgotten in the end.
    issuer.withdraw_all();
    issuer.publish(&two);
    assert!(name(&oidc, &first).await.is_ok());
    pass(3_601).await;
    let refused = name(&oidc, &first).await.unwrap_err();
    assert_eq!(refused.reason(), "wrong_credentials");
    // Keys that cannot be renewed stay in use.
    issuer.is_away.store(true, Ordering::SeqCst);
    pass(3_601).await;
    assert_eq!(name(&oidc, &second).await.unwrap(), "bob");
}

/// Lets time pass, and only there: what is on the network takes its own.
async fn pass(seconds: u64) {
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(seconds)).await;
    tokio::time::resume();
}

#[tokio::test]
async fn a_certificate_is_one_method_or_is_wanted_beside_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(json!({"identities": {"spiffe://model/agent": {}}}));
    let certificate = named("leaf");
    let with =
        |settings: &ServerAuth, certificates| Authenticator::load(settings, certificates).unwrap();
    let name = async |all: &Authenticator, headers: HeaderMap, names| {
        let identity = all.identify(&headers, names).await?;
        Ok::<_, Refused>(identity.name().to_string())
    };
    // The first of its names that is listed.
    let alone = with(&settings, Certificates::Required);
    let uri = "spiffe://model/agent";
    let found = name(&alone, HeaderMap::new(), Some(&certificate)).await;
    assert_eq!(found.unwrap(), uri);

    settings.bearer_token_file = Some(tokens(folder.path(), "alice secret"));
    let optional = with(&settings, Certificates::Optional);
    assert_eq!(
        name(&optional, bearer("secret"), None).await.unwrap(),
        "alice"
    );
    let found = name(&optional, HeaderMap::new(), Some(&certificate)).await;
    assert_eq!(found.unwrap(), uri);
    assert_eq!(
        name(&optional, HeaderMap::new(), None).await,
        Err(Refused::Missing)
    );

    let required = with(&settings, Certificates::Required);
    let found = name(&required, HeaderMap::new(), Some(&certificate)).await;
    assert_eq!(found, Err(Refused::Missing));
    let found = name(&required, bearer("secret"), Some(&certificate)).await;
    assert_eq!(found.unwrap(), "alice");
}

#[tokio::test]
async fn rules_of_a_name_go_over_those_of_all_key_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(json!({"identities": {
        "*": {
            "labels": {"tenant": "{name}", "zone": "eu"},
            "allow": {"labels": {"juju_model": ["m-.*", "other"]}},
            "metadata": {"X-Scope-OrgID": "t-{name}", "x-cn": "{common_name}"},
        },
        "alice": {"labels": {"zone": "us", "juju_model": "m-alice"}},
        "bob": {"allow": {"labels": {"juju_model": ["only"]}}},
    }}));
    settings.bearer_token_file = Some(tokens(folder.path(), "alice a\nbob b\ncarol c\nd\n"));
    let all = load(&settings);
    let admit = async |token: &str, labels: &[(&str, &str)]| {
        let identity = all.identify(&bearer(token), None).await.unwrap();
        let labels: Labels = labels.iter().copied().collect();
        identity
            .admit(labels, None)
            .map(|labels| labels.to_string())
    };
    let arrived = [("job", "x"), ("juju_model", "theirs"), ("tenant", "root")];
    assert_eq!(
        admit("a", &arrived).await.unwrap(),
        r#"{job="x", juju_model="m-alice", tenant="alice", zone="us"}"#
    );
    assert_eq!(admit("b", &arrived).await, Err(Reason::NotAllowed));
    assert!(admit("b", &[("juju_model", "only")]).await.is_ok());
    assert!(admit("c", &[("juju_model", "m-1")]).await.is_ok());
    assert!(admit("c", &[("juju_model", "other")]).await.is_ok());
    for not in ["xm-1", "m", "others", "only"] {
        assert!(admit("c", &[("juju_model", not)]).await.is_err(), "{not}");
    }
    assert_eq!(admit("c", &[("job", "x")]).await, Err(Reason::NotAllowed));
    // Without a name there is no tenant, not even the one that arrived.
    let labels = admit("d", &[("juju_model", "m-1"), ("tenant", "root")]).await;
    assert_eq!(labels.unwrap(), r#"{juju_model="m-1", zone="eu"}"#);

    let alice = all.identify(&bearer("a"), None).await.unwrap();
    let forged: Labels = [("x-cn", "root"), ("x-scope-orgid", "root"), ("x", "y")]
        .into_iter()
        .collect();
    let certificate = named("leaf");
    assert_eq!(
        alice
            .metadata(forged.clone(), Some(&certificate))
            .to_string(),
        r#"{x="y", x-cn="leaf", x-scope-orgid="t-alice"}"#
    );
    assert_eq!(
        alice.metadata(forged, None).to_string(),
        r#"{x="y", x-scope-orgid="t-alice"}"#
    );
}

#[tokio::test]
async fn who_is_not_listed_can_be_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(json!({
        "only_listed": true,
        "identities": {"*": {}, "alice": {}, "group:x": {}},
    }));
    settings.bearer_token_file = Some(tokens(
        folder.path(),
        "alice a\nbob b\nc\n* star\ngroup:x group\n",
    ));
    let all = load(&settings);
    assert!(name(&all, &bearer("a")).await.is_ok());
    for token in ["b", "c", "star", "group"] {
        assert_eq!(
            name(&all, &bearer(token)).await,
            Err(Refused::NotListed),
            "{token}"
        );
    }
}

#[test]
fn what_is_wrong_with_settings_is_named() {
    let paths = |value: serde_json::Value, certificates| -> Vec<String> {
        let problems = settings(value).problems(certificates);
        problems.into_iter().map(|problem| problem.path).collect()
    };
    assert_eq!(paths(json!({}), Certificates::None), [""]);
    assert!(paths(json!({}), Certificates::Optional).is_empty());
    // Nobody can have that name.
    let nobody = json!({"identities": {"alice": {}, "*": {"max_requests_per_second": 9}}});
    assert_eq!(paths(nobody, Certificates::None), ["identities.alice"]);
    let wrong = json!({
        "basic": {},
        "oidc": {"issuer_url": "issuer"},
        "identities": {"a": {
            "labels": {"x": "{nam}"},
            "metadata": {"te": "x", "no name": "x"},
            "allow": {"labels": {"l": ["fine", "("]}},
        }},
    });
    assert_eq!(
        paths(wrong, Certificates::None),
        [
            "basic.htpasswd",
            "oidc.issuer_url",
            "oidc.audience",
            "identities.a.labels.x",
            "identities.a.metadata.no name",
            "identities.a.metadata.te",
            "identities.a.allow.labels.l[1]",
        ]
    );
}

#[tokio::test]
async fn nothing_that_is_secret_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(json!({
        "basic": {"htpasswd": {"inline": "bob:$apr1$r31mCLtS$FxI5ngylpYYCORMd8wFM3."}},
    }));
    settings.bearer_token_file = Some(tokens(folder.path(), "alice hunter2"));
    let printed = [
        format!("{settings:?}"),
        serde_json::to_string(&settings).unwrap(),
        format!("{:?}", load(&settings)),
        format!(
            "{:?}",
            load(&settings).identify(&bearer("hunter2"), None).await
        ),
        format!(
            "{:?}",
            load(&settings).identify(&bearer("hunter3"), None).await
        ),
    ];
    for secret in ["hunter", "r31mCLtS"] {
        assert!(!printed.concat().contains(secret), "{printed:?}");
    }
}
