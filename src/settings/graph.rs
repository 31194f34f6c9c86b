//! The whole tree to [`Settings`]: each component against its type, and how
//! pipelines join them.
//!
//! Reads from the tree, not from types, so that a fault in one place does not
//! hide the faults in others.

use super::{
    Catalogue, Finding, Id, Kind, Node, Position, Report, Service, Settings,
    catalogue::effective,
    key_path, nearest,
    routers::Routers,
    tree::{Entry, Value},
};
use serde_json::{Map, Value as Json};
use std::collections::{BTreeMap, BTreeSet};

/// Checks everything. The second value is the configuration with all defaults
/// filled in, without secrets.
pub(super) fn assemble(tree: &Node, catalogue: &Catalogue) -> Result<(Settings, Json), Report> {
    let mut graph = Graph {
        catalogue,
        report: Report::default(),
        defined: BTreeMap::new(),
        effective: Map::new(),
        listeners: Vec::new(),
    };
    graph.top_level(tree);
    for kind in Kind::ALL {
        graph.section(tree, kind);
    }
    let service = graph.service(tree);
    graph.pipelines(tree);
    graph.duplicate_listeners();
    if !graph.report.is_empty() {
        return Err(graph.report);
    }
    let mut of = |kind| graph.defined.remove(&kind).unwrap_or_default();
    let settings = Settings {
        receivers: of(Kind::Receiver),
        processors: of(Kind::Processor),
        exporters: of(Kind::Exporter),
        extensions: of(Kind::Extension),
        service,
    };
    Ok((settings, Json::Object(graph.effective)))
}

struct Graph<'a> {
    catalogue: &'a Catalogue,
    report: Report,
    defined: BTreeMap<Kind, BTreeMap<Id, Node>>,
    effective: Map<String, Json>,
    /// Addresses that something listens on: key path, place, address.
    listeners: Vec<(String, Position, String)>,
}

// === impl Graph ===

impl Graph<'_> {
    fn wrong(&mut self, at: &Position, path: &str, message: String, hint: Option<String>) {
        self.report.push(Finding {
            at: at.clone(),
            path: path.to_owned(),
            message,
            hint,
        });
    }

    fn top_level(&mut self, tree: &Node) {
        let valid = Kind::ALL
            .iter()
            .map(|kind| kind.section())
            .chain(["service"]);
        for entry in tree.entries() {
            if !valid.clone().any(|key| key == entry.key) {
                let hint = nearest::hint(&entry.key, valid.clone());
                self.wrong(&entry.at, &entry.key, "unknown key".into(), Some(hint));
            }
        }
    }

    fn section(&mut self, tree: &Node, kind: Kind) {
        let mut values = Map::new();
        let Some(section) = tree.get(kind.section()) else {
            return;
        };
        if !matches!(section.value, Value::Mapping(_)) && !section.is_null() {
            let message = format!("expected a mapping of ids, found {}", section.describe());
            self.wrong(&section.at, kind.section(), message, None);
        }
        for entry in section.entries() {
            let path = key_path::key(kind.section(), &entry.key);
            let Some(id) = self.id(entry, &path) else {
                continue;
            };
            let mut node = entry.node.clone();
            node.path = path.as_str().into();
            if let Some(value) = self.component(kind, &id, entry, &node) {
                self.note_listeners(kind, &node, &value);
                values.insert(entry.key.clone(), value);
            }
            self.defined.entry(kind).or_default().insert(id, node);
        }
        if !values.is_empty() {
            self.effective.insert(kind.section().into(), values.into());
        }
    }

    fn id(&mut self, entry: &Entry, path: &str) -> Option<Id> {
        let id = entry.key.parse::<Id>();
        if let Err(error) = &id {
            self.wrong(&entry.at, path, error.to_string(), None);
        }
        id.ok()
    }

    /// The settings of a component with defaults, when nothing is wrong.
    fn component(&mut self, kind: Kind, id: &Id, entry: &Entry, node: &Node) -> Option<Json> {
        let Some(ty) = self.catalogue.find(kind, id.kind()) else {
            self.unknown_type(kind, id, &entry.at, &node.path);
            return None;
        };
        match self.catalogue.effective(ty, node) {
            Ok(value) => Some(value),
            Err(report) => {
                self.report.merge(report);
                None
            }
        }
    }

    fn unknown_type(&mut self, kind: Kind, id: &Id, at: &Position, path: &str) {
        let name = id.kind();
        let message = format!("there is no {kind} of type {name}");
        let elsewhere = self.catalogue.iter().find(|ty| ty.name == name);
        let hint = match elsewhere {
            Some(ty) => format!(
                "{name} is {}: move it to {}",
                ty.kind.with_article(),
                ty.kind.section()
            ),
            None => {
                let valid: Vec<_> = self.catalogue.of(kind).map(|ty| ty.name).collect();
                nearest::hint(name, valid.iter().copied())
            }
        };
        self.wrong(at, path, message, Some(hint));
    }

    fn service(&mut self, tree: &Node) -> Service {
        let mut node = match tree.get("service") {
            Some(node) => node.clone(),
            None => Node::new(Value::Mapping(Vec::new()), tree.at.clone()),
        };
        node.path = "service".into();
        // Keys of a mapping have no schema of their own, and a type would end at
        // the first of them.
        let ids = node.get("pipelines").map(Node::entries).unwrap_or_default();
        let wrong_ids: Vec<_> = ids
            .iter()
            .filter(|e| e.key.parse::<Id>().is_err())
            .collect();
        for entry in &wrong_ids {
            self.id(entry, &key_path::key("service.pipelines", &entry.key));
        }
        if !wrong_ids.is_empty() {
            return Service::default();
        }
        match effective::<Service>(&node) {
            Ok(value) => {
                let admin = value.pointer("/admin/endpoint").and_then(Json::as_str);
                if let Some(address) = admin {
                    let at = key_path::find(&node, "admin.endpoint").clone();
                    let path = "service.admin.endpoint".to_owned();
                    self.listeners.push((path, at, address.to_owned()));
                }
                self.effective.insert("service".into(), value);
            }
            Err(report) => self.report.merge(report),
        }
        node.typed().unwrap_or_default()
    }

    fn pipelines(&mut self, tree: &Node) {
        let service = tree.get("service");
        let pipelines = service.and_then(|service| service.get("pipelines"));
        let Some(pipelines) = pipelines.filter(|pipelines| !pipelines.entries().is_empty()) else {
            let entry = tree.entry("service");
            let at = entry.map_or_else(|| tree.at.clone(), |entry| entry.at.clone());
            let hint = "write service: {pipelines: {profiles: {receivers: […], exporters: […]}}}";
            let message = "there is no pipeline, so nothing would run".to_owned();
            self.wrong(&at, "service.pipelines", message, Some(hint.into()));
            return;
        };
        let mut used = BTreeSet::new();
        for entry in pipelines.entries() {
            self.pipeline(entry, &mut used);
        }
        let extensions = service.and_then(|service| service.get("extensions"));
        if let Some(extensions) = extensions {
            self.references(Kind::Extension, extensions, "service.extensions", &mut used);
        }
        self.storages(tree, extensions);
        let mut used: BTreeSet<_> = used.into_iter().map(|(k, id)| (k, id.to_owned())).collect();
        self.routers(&mut used);
        self.unused(tree, &used);
    }

    /// What routers name is used, and must be right.
    fn routers(&mut self, used: &mut BTreeSet<(Kind, String)>) {
        let Some(exporters) = self.defined.get(&Kind::Exporter) else {
            return;
        };
        let routers = Routers::of(exporters, self.catalogue);
        used.extend(routers.outputs().map(|id| (Kind::Exporter, id.to_string())));
        for finding in routers.findings() {
            self.report.push(finding);
        }
    }

    fn pipeline<'t>(&mut self, entry: &'t Entry, used: &mut BTreeSet<(Kind, &'t str)>) {
        let path = key_path::key("service.pipelines", &entry.key);
        let kind = entry.key.split('/').next().unwrap_or_default();
        if kind != "profiles" {
            let hint = match kind {
                "traces" | "metrics" | "logs" => "other signals need another program".to_owned(),
                _ => format!(
                    "name it profiles, or profiles/{}",
                    entry.key.replace('/', "-")
                ),
            };
            let message = "a pipeline carries profiles only".to_owned();
            self.wrong(&entry.at, &path, message, Some(hint));
        }
        for kind in [Kind::Receiver, Kind::Processor, Kind::Exporter] {
            let path = key_path::key(&path, kind.section());
            match entry.node.get(kind.section()) {
                Some(list) if !list.items().is_empty() => self.references(kind, list, &path, used),
                // Of the wrong type: reported with the shape.
                Some(list) if !list.is_null() && !matches!(list.value, Value::Sequence(_)) => {}
                _ if kind == Kind::Processor => {}
                _ => {
                    let message = format!("the pipeline has no {}", kind.section());
                    let hint = format!("list at least one {kind}");
                    self.wrong(&entry.at, &path, message, Some(hint));
                }
            }
        }
    }

    fn references<'t>(
        &mut self,
        kind: Kind,
        list: &'t Node,
        path: &str,
        used: &mut BTreeSet<(Kind, &'t str)>,
    ) {
        let mut seen = BTreeSet::new();
        for (i, item) in list.items().iter().enumerate() {
            let Some(name) = item.text() else { continue };
            let path = key_path::index(path, i);
            if !seen.insert(name) {
                let message = format!("{name} is listed twice");
                self.wrong(&item.at, &path, message, Some("keep one of them".into()));
                continue;
            }
            used.insert((kind, name));
            let defined = self.defined.get(&kind);
            let ids = defined.into_iter().flatten().map(|(id, _)| id.as_str());
            if name.parse::<Id>().is_err() || ids.clone().any(|id| id == name) {
                continue;
            }
            let hint = match nearest::nearest(name, ids) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("define it under {}", kind.section()),
            };
            let message = format!("{kind} {name} is not defined");
            self.wrong(&item.at, &path, message, Some(hint));
        }
    }

    /// A queue on disk is in an extension that runs.
    fn storages(&mut self, tree: &Node, extensions: Option<&Node>) {
        let running: Vec<&str> = extensions
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .filter_map(Node::text)
            .collect();
        let exporters = tree.get(Kind::Exporter.section());
        for entry in exporters.map(Node::entries).unwrap_or_default() {
            let queue = entry.node.get("sending_queue");
            let Some(storage) = queue.and_then(|queue| queue.get("storage")) else {
                continue;
            };
            let name = storage.text().filter(|_| !storage.is_null());
            let Some(name) = name.filter(|name| !running.contains(name)) else {
                continue;
            };
            let defined = tree.get(Kind::Extension.section());
            let is_defined = defined.is_some_and(|all| all.get(name).is_some());
            let hint = match nearest::nearest(name, running.iter().copied()) {
                _ if is_defined => "list it under service.extensions".to_owned(),
                Some(near) => format!("did you mean {near}?"),
                None => format!(
                    "write extensions: {{{name}: {{directory: /var/lib/profile-relay}}}} and service: {{extensions: [{name}]}}"
                ),
            };
            let path = format!(
                "{}.sending_queue.storage",
                key_path::key(Kind::Exporter.section(), &entry.key)
            );
            let message = format!("the extension {name} does not run");
            self.wrong(&storage.at, &path, message, Some(hint));
        }
    }

    fn unused(&mut self, tree: &Node, used: &BTreeSet<(Kind, String)>) {
        for kind in Kind::ALL {
            let section = tree.get(kind.section());
            for entry in section.map(Node::entries).unwrap_or_default() {
                // What has another fault may be misspelt, and meant to be used.
                if used.contains(&(kind, entry.key.clone())) || self.report.is_about(&entry.at) {
                    continue;
                }
                let hint = match kind {
                    Kind::Extension => "list it under service.extensions, or remove it".to_owned(),
                    _ => format!(
                        "list it under {} of a pipeline, or remove it",
                        kind.section()
                    ),
                };
                let path = key_path::key(kind.section(), &entry.key);
                let message = format!("the {kind} is defined but not used");
                self.wrong(&entry.at, &path, message, Some(hint));
            }
        }
    }

    /// Receivers listen on every key `endpoint`, at whatever depth.
    fn note_listeners(&mut self, kind: Kind, node: &Node, value: &Json) {
        if kind != Kind::Receiver {
            return;
        }
        let mut found = Vec::new();
        endpoints(value, "", &mut found);
        for (path, address) in found {
            let at = key_path::find(node, &path).clone();
            self.listeners
                .push((key_path::join(&node.path, &path), at, address));
        }
    }

    fn duplicate_listeners(&mut self) {
        let listeners = std::mem::take(&mut self.listeners);
        for (i, (path, at, address)) in listeners.iter().enumerate() {
            let first = listeners
                .iter()
                .take(i)
                .find(|(_, _, other)| clash(address, other));
            if let Some((first_path, first_at, _)) = first {
                let message = format!("{address} is already taken by {first_path} ({first_at})");
                let hint = "give one of them another port".to_owned();
                self.wrong(at, path, message, Some(hint));
            }
        }
    }
}

fn endpoints(value: &Json, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Json::Object(map) => {
            for (key, below) in map {
                let path = key_path::key(path, key);
                match below.as_str() {
                    Some(address) if key == "endpoint" => found.push((path, address.into())),
                    _ => endpoints(below, &path, found),
                }
            }
        }
        Json::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                endpoints(item, &key_path::index(path, i), found);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// Whether two addresses cannot be listened on at the same time.
fn clash(a: &str, b: &str) -> bool {
    let (Some((host_a, port_a)), Some((host_b, port_b))) = (a.rsplit_once(':'), b.rsplit_once(':'))
    else {
        return a == b;
    };
    let is_any = |host: &str| matches!(host, "" | "0.0.0.0" | "[::]" | "*");
    let local = |host| {
        if host == "localhost" {
            "127.0.0.1"
        } else {
            host
        }
    };
    port_a == port_b
        && port_a != "0"
        && (is_any(host_a) || is_any(host_b) || local(host_a) == local(host_b))
}
