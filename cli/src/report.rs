//! Tables and messages about objects for a terminal, from the operator's statuses and the proxy's diagnostics.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use sluice_crds::api_route::{HttpMethod, IntegrationType, VersionScheme};
use sluice_crds::condition::Status;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::manifests::{Loaded, Location, Problem, Severity};
use sluice_operator::objects::Object;
use sluice_operator::translate::DesiredStatus;
use sluice_wire::ObjectRef;

use crate::table;

/// The desired status of each object, from the translation.
pub(crate) type Statuses = BTreeMap<ObjectRef, Arc<DesiredStatus>>;
/// Messages of the proxy about objects that it cannot serve as written.
pub(crate) type ProxyDiagnostics = BTreeMap<ObjectRef, String>;

/// A table of the objects with their state.
pub(crate) fn objects(statuses: &Statuses, diagnostics: &ProxyDiagnostics) -> String {
    let rows: Vec<Vec<String>> = statuses
        .iter()
        .map(|(object, desired)| {
            let state = state(object, desired, diagnostics);
            vec![object.kind.to_string(), object.id(), state, desired.detail.to_string()]
        })
        .collect();
    table::render(&["KIND", "NAME", "STATE", "DETAIL"], &rows)
}

/// Problems of the files: `!` marks errors, `-` marks notes.
pub(crate) fn of_files(loaded: &Loaded) -> Vec<String> {
    let mark = |problem: &&Problem| match problem.severity {
        Severity::Error => format!("! {problem}"),
        Severity::Note => format!("- {problem}"),
    };
    loaded.problems().iter().map(mark).collect()
}

/// One message for each problem of an object: location, object, field, cause. Objects that the schema rejects are left
/// out, because the problems of their file contain the message.
pub(crate) fn of_objects(statuses: &Statuses, diagnostics: &ProxyDiagnostics, loaded: &Loaded) -> Vec<String> {
    let places = places(loaded);
    let mut all = Vec::new();
    for (object, desired) in statuses {
        let place = match places.get(object) {
            Some((_, true)) => continue,
            Some((location, false)) => format!("{location}: "),
            None => String::new(),
        };
        let bad = desired.conditions.iter().filter(|condition| condition.status == Status::False);
        all.extend(bad.map(|found| format!("! {place}{object}: {} ({})", found.message, found.reason)));
        all.extend(diagnostics.get(object).map(|message| format!("! {place}{object}: {message} (Rejected)")));
    }
    all
}

/// The warnings that hold now, marked with `?`: location, object, field, cause and remedy, code.
pub(crate) fn of_warnings(statuses: &Statuses, loaded: &Loaded) -> Vec<String> {
    let places = places(loaded);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut all = Vec::new();
    for (object, desired) in statuses {
        let place = places.get(object).map(|(location, _)| format!("{location}: ")).unwrap_or_default();
        for warning in desired.warnings.iter().filter(|warning| warning.holds(now)) {
            all.push(format!("? {place}{object}: {} ({})", warning.message, warning.code.name));
        }
    }
    all
}

/// Where each object is, and whether it cannot be parsed.
fn places(loaded: &Loaded) -> BTreeMap<ObjectRef, (&Location, bool)> {
    let places = loaded.objects().map(|located| {
        let (kind, key) = located.object.identity();
        let unparsable = matches!(located.object, Object::Unparsable(..));
        (kind.object(&key), (&located.location, unparsable))
    });
    places.collect()
}

/// Prints lines.
pub(crate) fn print(lines: &[String]) {
    lines.iter().for_each(|line| println!("{line}"));
}

/// The statuses that differ between two translations.
pub(crate) fn changed(before: &Statuses, after: &Statuses) -> Statuses {
    let differs =
        |(object, desired): &(&ObjectRef, &Arc<DesiredStatus>)| before.get(*object).is_none_or(|old| old != *desired);
    after.iter().filter(differs).map(|(object, desired)| (object.clone(), desired.clone())).collect()
}

/// `Ready`, or the reason of the first condition that is False.
fn state(object: &ObjectRef, desired: &DesiredStatus, diagnostics: &ProxyDiagnostics) -> String {
    let bad = desired.conditions.iter().find(|condition| condition.status == Status::False);
    match bad {
        Some(condition) => condition.reason.to_owned(),
        None if diagnostics.contains_key(object) => "Rejected".to_owned(),
        None => "Ready".to_owned(),
    }
}

/// A table of the served URLs: method, URL, rule, integration.
pub(crate) fn urls(cluster: &ClusterState, base: &str) -> String {
    let mut rows = Vec::new();
    for (key, route) in &cluster.api_routes {
        for stage_ref in &route.spec.stages {
            let Some(stage) = cluster.stages.get(&key.target(stage_ref)) else { continue };
            let version = route.spec.version.as_ref();
            let version = version.filter(|version| version.scheme == VersionScheme::Path);
            let version = version.map(|version| format!("/{}", version.name)).unwrap_or_default();
            let hosts =
                if stage.spec.hostnames.is_empty() { vec![String::new()] } else { stage.spec.hostnames.clone() };
            for (rule, host) in route.spec.rules.iter().flat_map(|rule| hosts.iter().map(move |host| (rule, host))) {
                let methods: Vec<&str> = rule.methods.iter().map(|method| method.as_str()).collect();
                let methods = if rule.methods == [HttpMethod::Any] { "ANY".to_owned() } else { methods.join(",") };
                let base_path = stage.spec.base_path.trim_end_matches('/');
                let host = if host.is_empty() { String::new() } else { format!(" (host {host})") };
                rows.push(vec![
                    methods,
                    format!("{base}{base_path}{version}{}{host}", rule.path),
                    format!("{}/{}", key.name, rule.name),
                    integration(&rule.integration),
                ]);
            }
        }
    }
    table::render(&["METHOD", "URL", "RULE", "INTEGRATION"], &rows)
}

fn integration(integration: &sluice_crds::api_route::Integration) -> String {
    match integration.type_ {
        IntegrationType::Service => {
            integration.service.as_ref().map(|service| format!("Service {}:{}", service.object.name, service.port))
        }
        IntegrationType::Http => integration.http.as_ref().map(|http| http.url.clone()),
        IntegrationType::Mock => integration.mock.as_ref().map(|mock| format!("Mock {}", mock.status)),
    }
    .unwrap_or_default()
}
