//! What the operator may do in the cluster: what the chart's list says, no more, and nothing of it in vain.

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
use sluice_kit::{SOON, until as eventually};

const VERBS: [&str; 8] = ["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];

/// `verb resource.group/subresource`
fn right(verb: &str, group: &str, resource: &str) -> String {
    let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
    let dot = if group.is_empty() { "" } else { "." };
    let slash = if sub.is_empty() { "" } else { "/" };
    format!("{verb} {resource}{dot}{group}{slash}{sub}")
}

/// The rights that the chart lists.
fn listed() -> anyhow::Result<BTreeSet<String>> {
    let file = repository().join("charts/sluice/files/operator-rules.yaml");
    let rules: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(file)?)?;
    let words = |rule: &Value, field: &str| -> Vec<String> {
        rule[field].as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut all = BTreeSet::new();
    for rule in &rules {
        for group in words(rule, "apiGroups") {
            for resource in words(rule, "resources") {
                all.extend(words(rule, "verbs").iter().map(|verb| right(verb, &group, &resource)));
            }
        }
    }
    Ok(all)
}

/// The rights of a ServiceAccount, asked one by one for everything that the API server serves.
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
    // Without any binding of ours: what everybody with a token may do.
    let everybody = held(server, "sluice-proxy").await?;
    let (operator, listed) = (held(server, "sluice-operator").await?, listed()?);
    assert!(everybody.is_disjoint(&listed), "{everybody:?}");
    let own: BTreeSet<String> = operator.difference(&everybody).cloned().collect();
    assert_eq!(own, listed);
    Ok(())
}

/// What the operator asked the API server for, and what of that it was refused.
fn asked(server: &ApiServer) -> anyhow::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let (mut asked, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for line in std::fs::read_to_string(server.audit_log())?.lines() {
        // The last line may still be being written.
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let (resource, sub) = (text(&object["resource"]), text(&object["subresource"]));
        let slash = if sub.is_empty() { "" } else { "/" };
        let right = right(&text(&event["verb"]), &text(&object["apiGroup"]), &format!("{resource}{slash}{sub}"));
        if event["responseStatus"]["code"] == 403 {
            refused.insert(right.clone());
        }
        asked.insert(right);
    }
    Ok((asked, refused))
}

#[tokio::test]
async fn the_operator_needs_every_right_that_the_chart_gives_it_and_asks_for_no_other() -> anyhow::Result<()> {
    let server = ApiServer::start("rights").await?;
    let _fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "rights").await?;
    let (backend, identity) = (Backend::start("orders")?, Identity::new()?);
    fixtures::quickstart(&space, "rights.example", &backend, &identity).await?;
    for (kind, name) in [("Stage", "prod"), ("ApiRoute", "orders"), ("Authorizer", "customers"), ("ApiKey", "acme")] {
        space.programmed(kind, name).await?;
    }
    // The same news a second time makes a series of an Event, which is a patch.
    for _ in 0..2 {
        for (header, status) in [("connection", "False"), ("x-fine", "True")] {
            let mut route = route("twice", "prod", "/twice", mock("twice"));
            route["spec"]["rules"][0]["request"] = json!({"headers": {"remove": [header]}});
            space.apply(&route).await?;
            space.condition("ApiRoute", "twice", "Accepted", |found| found.status == status).await?;
        }
    }
    let listed = listed()?;
    eventually("the operator has used all its rights", SOON, || async {
        let (asked, refused) = asked(&server)?;
        anyhow::ensure!(refused.is_empty(), "it was refused {refused:?}");
        let (vain, other): (Vec<_>, Vec<_>) =
            (listed.difference(&asked).collect(), asked.difference(&listed).collect());
        anyhow::ensure!(vain.is_empty() && other.is_empty(), "not needed: {vain:?}; not listed: {other:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}
