//! Targets that files list come and go; the others notice nothing.

use crate::{
    config,
    far_end::{Behaviour, FarEnd},
    harness::{Relay, until},
    target::Target,
};
use std::{collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::symlink, path::Path};

/// Replaces the list as Kubernetes replaces mounted files: by swapping the
/// symlink of the folder.
fn swap(root: &Path, version: usize, targets: &[SocketAddr]) {
    let targets: Vec<_> = targets.iter().map(|t| format!("\"{t}\"")).collect();
    let list = format!(
        "[{{\"targets\": [{}], \"labels\": {{\"version\": \"any\"}}}}]",
        targets.join(", ")
    );
    swap_text(root, version, &list);
}

fn swap_text(root: &Path, version: usize, list: &str) {
    let data = root.join(format!("..{version}"));
    fs::create_dir_all(&data).expect("a folder");
    fs::write(data.join("targets.json"), list).expect("a list");
    symlink(data, root.join("..new")).expect("a link");
    fs::rename(root.join("..new"), root.join("..data")).expect("the swap");
    let file = root.join("targets.json");
    if !file.is_symlink() {
        symlink("..data/targets.json", file).expect("a link");
    }
}

/// Good scrapes by instance.
fn scraped(relay: &Relay) -> BTreeMap<String, u64> {
    let shown = relay.json("/api/targets");
    let targets = shown["targets"].as_array().expect("targets");
    let entry = |target: &serde_json::Value| {
        let instance = target["labels"]["instance"].as_str()?;
        Some((instance.to_owned(), target["scrapes_ok"].as_u64()?))
    };
    targets.iter().filter_map(entry).collect()
}

#[test]
fn targets_come_and_go_and_the_others_keep_their_pace() {
    let [stays, goes, comes] = [(); 3].map(|()| Target::good());
    let store = FarEnd::start(Behaviour::default());
    let folder = tempfile::tempdir().expect("a folder");
    let lists = folder.path().join("lists");
    swap(&lists, 1, &[stays.addr(), goes.addr()]);
    let jobs = [config::job_of(
        "sd",
        "file_sd_configs: [{files: [\"lists/*.json\"]}]",
        "",
    )];
    let yaml = config::relay(&jobs, &config::to(store.addr(), ""), "");
    let relay = Relay::run_in(folder, &yaml);
    let [stay, go, come] = [&stays, &goes, &comes].map(|t| t.addr().to_string());
    let count = |instance: &String| scraped(&relay).get(instance).copied();
    until("both are scraped", || {
        (count(&stay) >= Some(2) && count(&go) >= Some(1)).then_some(())
    });

    let before = count(&stay).expect("scraped");
    swap(&lists, 2, &[comes.addr(), stays.addr()]);
    until("the new one is scraped and the old one is gone", || {
        (count(&come) >= Some(1) && count(&go).is_none()).then_some(())
    });
    let gone_at = goes.requests().len();
    let after = count(&stay).expect("still scraped");
    assert!(after >= before, "its figures stay: {before}, {after}");
    until("the untouched one goes on", || {
        (count(&stay) >= Some(after + 2)).then_some(())
    });
    assert!(goes.requests().len() <= gone_at + 1, "one may be under way");

    // A list that is broken changes nothing.
    swap_text(&lists, 3, "[{");
    let seen = count(&stay).expect("scraped");
    relay.until("the error is counted", |metrics| {
        metrics.sum("discovery_errors_total", &[("job", "sd")]) > 0
    });
    until("they go on", || {
        (count(&stay) >= Some(seen + 2) && count(&come).is_some()).then_some(())
    });

    let mut times: Vec<_> = stays.requests().into_iter().map(|r| r.at).collect();
    times.sort();
    let gaps: Vec<_> = times
        .windows(2)
        .map(|w| w[1].duration_since(w[0]).unwrap_or_default().as_millis())
        .collect();
    assert!(
        gaps.iter().all(|gap| (300..1_900).contains(gap)),
        "{gaps:?}"
    );
    let served: usize = [&stays, &goes, &comes]
        .iter()
        .map(|t| t.served().len())
        .sum();
    assert!(store.stored().len() <= served);
    assert!(store.stored().iter().all(|s| s.labels["version"] == "any"));
}
