use super::*;

fn no_proxy(list: &str, host: &str, port: u16) -> bool {
    NoProxy::parse(list).matches(host, port)
}

#[test]
fn no_proxy_entries_are_gos() {
    for (list, host, port, direct) in [
        ("", "parca.example", 80, false),
        ("*", "parca.example", 80, true),
        ("example", "parca.example", 80, true),
        ("example", "example", 80, true),
        ("example", "badexample", 80, false),
        (".example", "parca.example", 80, true),
        (".example", "example", 80, false),
        ("*.example", "parca.example", 80, true),
        ("*.example", "example", 80, false),
        ("EXAMPLE", "Parca.Example.", 80, true),
        ("parca.example:7070", "parca.example", 7070, true),
        ("parca.example:7070", "parca.example", 80, false),
        ("10.0.0.0/8", "10.1.2.3", 80, true),
        ("10.0.0.0/8", "11.1.2.3", 80, false),
        ("192.0.2.1, 10.0.0.0/8", "192.0.2.1", 80, true),
        ("192.0.2.1:81", "192.0.2.1", 80, false),
        ("fd00::/8", "fd00::1", 80, true),
        ("[fd00::1]:80", "fd00::1", 80, true),
        ("fd00::1", "fd00::1", 80, true),
        ("other", "localhost", 80, true),
        ("other", "127.0.0.5", 80, true),
        ("other", "::1", 80, true),
    ] {
        assert_eq!(no_proxy(list, host, port), direct, "{list:?} {host} {port}");
    }
}

#[test]
fn a_given_proxy_is_used_for_loopback_too_unless_no_proxy_is_set() {
    let mut settings = ProxySettings {
        proxy_url: Some("http://squid:3128".into()),
        ..ProxySettings::default()
    };
    let proxies = settings.build(&|_| None).unwrap();
    assert!(proxies.choose(false, "127.0.0.1", 80).is_some());
    settings.no_proxy = Some("example".into());
    let proxies = settings.build(&|_| None).unwrap();
    assert!(proxies.choose(false, "127.0.0.1", 80).is_none());
}

#[test]
fn the_environment_is_read_in_both_cases() {
    let settings = ProxySettings {
        proxy_from_environment: true,
        ..ProxySettings::default()
    };
    let env = |name: &str| {
        let value = match name {
            "HTTP_PROXY" => "up:1",
            "https_proxy" => "https://user:p%40ss@down:2",
            "no_proxy" => "direct.example",
            _ => return None,
        };
        Some(value.to_owned())
    };
    let proxies = settings.build(&env).unwrap();
    assert_eq!(proxies.choose(false, "a", 80).unwrap().address(), "up:1");
    let secure = proxies.choose(true, "a", 443).unwrap();
    assert_eq!(secure.address(), "down:2");
    assert!(secure.tls);
    let expected = format!("Basic {}", BASE64_STANDARD.encode("user:p@ss"));
    assert_eq!(secure.authorization.as_ref().unwrap(), &expected);
    assert!(proxies.choose(true, "direct.example", 443).is_none());
    assert!(proxies.choose(true, "localhost", 443).is_none());
}

#[test]
fn prometheus_rules_are_kept() {
    let paths = |settings: &ProxySettings| -> Vec<String> {
        settings
            .problems()
            .into_iter()
            .map(|problem| problem.path)
            .collect()
    };
    let url = Some(ProxyUrl::from("http://squid:3128"));
    let header = BTreeMap::from([("x".to_owned(), vec![Secret::from("y".to_owned())])]);
    let both = ProxySettings {
        proxy_url: url.clone(),
        no_proxy: Some("a".into()),
        proxy_from_environment: true,
        ..ProxySettings::default()
    };
    assert_eq!(paths(&both), ["proxy_url", "no_proxy"]);
    let alone = ProxySettings {
        no_proxy: Some("a".into()),
        proxy_connect_header: header,
        ..ProxySettings::default()
    };
    assert_eq!(paths(&alone), ["proxy_connect_header", "no_proxy"]);
    let socks = ProxySettings {
        proxy_url: Some("socks5://squid:1080".into()),
        ..ProxySettings::default()
    };
    assert_eq!(paths(&socks), ["proxy_url"]);
}

#[test]
fn a_proxys_password_is_not_printed() {
    for text in ["http://user:hunter2@squid:3128", "user:hunter2@squid:3128"] {
        let url = ProxyUrl::from(text);
        let printed = format!("{url:?} {}", serde_json::to_string(&url).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
    }
}
