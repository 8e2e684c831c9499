//! The operator's permissions in the cluster: exactly those that the chart lists, and it uses all of them.

use std::collections::BTreeSet;

use anyhow::Context as _;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::fixtures::{self, mock, route};
use crate::harness::api_server::{ApiServer, SYSTEM};
use crate::harness::backend::Backend;
use crate::harness::identity::Identity;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use crate::harness::repository;
use crate::service_accounts;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// `verb resource.group/subresource`
fn right(verb: &str, group: &str, resource: &str) -> String {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if sub.is_empty() { "" } else { "/" };
    format!("{verb} {resource}{dot}{group}{slash}{sub}")
}

/// The permissions that the chart lists.
fn listed() -> anyhow::Result<BTreeSet<String>> {
    let file = repository().join("charts/sluice/files/operator-rules.yaml");
    let rules: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    let strings = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for rule in &rules {
        for url in strings(rule, "nonResourceURLs") {
            all.extend(strings(rule, "verbs").iter().map(|verb| format!("{verb} {url}")));
        }
        for group in strings(rule, "apiGroups") {
            for resource in strings(rule, "resources") {
                all.extend(strings(rule, "verbs").iter().map(|verb| right(verb, &group, &resource)));
            }
        }
    }
    Ok(all)
}

/// The permissions of a ServiceAccount, reviewed for each verb of each resource that the API server serves.
async fn held(server: &ApiServer, account: &str) -> anyhow::Result<BTreeSet<String>> {
    let reviews: Api<SubjectAccessReview> = Api::all(server.client().await?);
    let names = server.kubectl(&["api-resources", "--no-headers", "-o=name"]).await?;
    let mut held = BTreeSet::new();
    for name in names.lines() {
        let (resource, group) = name.split_once('.').unwrap_or((name, ""));
        for sub in ["", "status"] {
            for verb in VERBS {
                let text = |text: &str| Some(text.to_owned());
                let attributes = ResourceAttributes {
                    verb: text(verb),
                    group: text(group),
                    resource: text(resource),
                    subresource: Some(sub.to_owned()).filter(|sub| !sub.is_empty()),
                    ..ResourceAttributes::default()
                };
                let spec = SubjectAccessReviewSpec {
                    user: Some(format!("system:serviceaccount:{SYSTEM}:{account}")),
                    groups: Some(vec!["system:serviceaccounts".to_owned(), "system:authenticated".to_owned()]),
                    resource_attributes: Some(attributes),
                    ..SubjectAccessReviewSpec::default()
                };
                let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
                let response = reviews.create(&PostParams::default(), &review).await?;
                if response.status.context("no status in the response")?.allowed {
                    let slash = if sub.is_empty() { "" } else { "/" };
                    held.insert(right(verb, group, &format!("{resource}{slash}{sub}")));
                }
            }
        }
    }
    Ok(held)
}

#[tokio::test]
async fn the_operator_has_exactly_the_permissions_of_the_chart() -> anyhow::Result<()> {
    let server = ApiServer::shared().await?;
    // An account without a binding of the chart has what every authenticated account has.
    let authenticated = held(server, "sluice-proxy").await?;
    let (operator, listed) = (held(server, "sluice-operator").await?, listed()?);
    assert!(authenticated.is_disjoint(&listed), "{authenticated:?}");
    let own: BTreeSet<String> = operator.difference(&authenticated).cloned().collect();
    // What is not a resource is in the test of what is used.
    let resources: BTreeSet<String> = listed.into_iter().filter(|right| !right.contains(" /")).collect();
    assert_eq!(own, resources);
    Ok(())
}

/// The permissions that the operator's requests needed, and those of rejected requests.
fn used(server: &ApiServer) -> anyhow::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut used, mut rejected) = (BTreeSet::new(), BTreeSet::new());
    for line in std::fs::read_to_string(server.audit_log())?.lines() {
        // The last line may still be being written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let (resource, sub) = (text(&object["resource"]), text(&object["subresource"]));
        let slash = if sub.is_empty() { "" } else { "/" };
        if !object.is_object() {
            used.insert(format!("{} {}", text(&event["verb"]), text(&event["requestURI"])));
            continue;
        }
        let right = right(&text(&event["verb"]), &text(&object["apiGroup"]), &format!("{resource}{slash}{sub}"));
        if event["responseStatus"]["code"] == 403 {
            rejected.insert(right.clone());
        }
        used.insert(right);
    }
    Ok((used, rejected))
}

#[tokio::test]
async fn the_operator_uses_every_permission_of_the_chart_and_needs_no_other() -> anyhow::Result<()> {
    let server = ApiServer::start("rights").await?;
    let fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "rights").await?;
    let (backend, identity) = (Backend::start("orders")?, Identity::new()?);
    fixtures::quickstart(&space, "rights.example", &backend, &identity).await?;
    for (kind, name) in [("Stage", "prod"), ("ApiRoute", "orders"), ("Authorizer", "customers"), ("ApiKey", "acme")] {
        space.programmed(kind, name).await?;
    }
    let api = "sluice.dev/v1alpha1";
    space.apply(&json!({"apiVersion": api, "kind": "Principal", "metadata": {"name": "acme"}, "spec": {}})).await?;
    space.condition("Principal", "acme", "Accepted", |found| found.status == "True").await?;
    // The same Event a second time becomes a series, which is a patch.
    for _ in 0..2 {
        for (header, status) in [("connection", "False"), ("x-fine", "True")] {
            let mut route = route("twice", "prod", "/twice", mock("twice"));
            route["spec"]["rules"][0]["request"] = json!({"headers": {"remove": [header]}});
            space.apply(&route).await?;
            space.condition("ApiRoute", "twice", "Accepted", |found| found.status == status).await?;
        }
    }
    // A call that the API server must allow.
    for object in service_accounts::reviewed("reviewed.rights.example") {
        space.apply(&object).await?;
    }
    space.programmed("ApiRoute", "reviewed").await?;
    let token = server.service_account_token("sluice-proxy", &[service_accounts::AUDIENCE]).await?;
    let call = get("reviewed.rights.example", "/reviewed").header("authorization", format!("Bearer {token}"));
    assert_eq!(fleet.status(&call).await?, 403);
    let listed = listed()?;
    eventually("the operator has used all its permissions", SOON, || async {
        let (used, rejected) = used(&server)?;
        anyhow::ensure!(rejected.is_empty(), "the API server rejected {rejected:?}");
        let (unused, other): (Vec<_>, Vec<_>) =
            (listed.difference(&used).collect(), used.difference(&listed).collect());
        anyhow::ensure!(unused.is_empty() && other.is_empty(), "not needed: {unused:?}; not listed: {other:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
