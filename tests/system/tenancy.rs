//! Tenants: references between namespaces with the definition of ReferenceGrant that Gateway API publishes, routes at the
//! Stage of another namespace, and host names of another namespace.

use serde_json::{Value, json};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::backend::{self, Backend};
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

const GRANTS: &str = "gateway.networking.k8s.io/v1beta1";

async fn spaces(names: [&str; 2]) -> anyhow::Result<(&'static Fleet, Space, Space)> {
    let fleet = Fleet::shared().await?;
    let client = ApiServer::shared().await?.client().await?;
    Ok((fleet, Space::new(client.clone(), names[0]).await?, Space::new(client, names[1]).await?))
}

/// Waits until every proxy responds with the status code.
async fn all_return(fleet: &Fleet, host: &str, path: &str, status: u16) -> anyhow::Result<()> {
    eventually(format!("{host}{path} returns {status}"), SOON, || async {
        for response in fleet.all(&get(host, path)).await? {
            anyhow::ensure!(response.status == status, "one returns {}", response.status);
        }
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_reference_to_another_namespace_is_permitted_while_a_grant_exists() -> anyhow::Result<()> {
    const HOST: &str = "grants.example";
    let (fleet, shop, shared) = spaces(["grants-shop", "grants-shared"]).await?;
    let backend = Backend::start("pets")?;
    shared.apply(&backend::service("pets")).await?;
    shared.apply(&backend::endpoints("pets", 0, Some(&backend))).await?;
    shop.apply(&stage("prod", HOST)).await?;
    let there = json!({"type": "Service", "service": {"name": "pets", "namespace": "grants-shared", "port": 80}});
    shop.apply(&route("pets", "prod", "/pets", there)).await?;
    let condition = shop.condition("ApiRoute", "pets", "ResolvedRefs", |found| found.status == "False").await?;
    assert_eq!(condition.reason, "RefNotPermitted", "{condition:?}");
    all_return(fleet, HOST, "/pets", 500).await?;
    let grant = json!({"apiVersion": GRANTS, "kind": "ReferenceGrant", "metadata": {"name": "pets"}, "spec": {
        "from": [{"group": "sluice.dev", "kind": "ApiRoute", "namespace": "grants-shop"}],
        "to": [{"group": "", "kind": "Service", "name": "pets"}],
    }});
    shared.apply(&grant).await?;
    shop.programmed("ApiRoute", "pets").await?;
    shop.condition("ApiRoute", "pets", "ResolvedRefs", |found| found.status == "True").await?;
    all_return(fleet, HOST, "/pets", 200).await?;
    shared.delete_of(GRANTS, "ReferenceGrant", "pets").await?;
    shop.condition("ApiRoute", "pets", "ResolvedRefs", |found| found.reason == "RefNotPermitted").await?;
    all_return(fleet, HOST, "/pets", 500).await
}

#[tokio::test]
async fn a_stage_accepts_routes_by_the_labels_of_their_namespace() -> anyhow::Result<()> {
    const HOST: &str = "accepts.example";
    let (fleet, team, platform) = spaces(["accepts-team", "accepts-platform"]).await?;
    let mut shared = stage("public", HOST);
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"api": "public"}}});
    shared["spec"]["accepts"] = json!({"namespaces": selector});
    platform.apply(&shared).await?;
    platform.programmed("Stage", "public").await?;
    let mut orders = route("orders", "public", "/orders", mock("orders"));
    orders["spec"]["stages"][0]["namespace"] = json!("accepts-platform");
    team.apply(&orders).await?;
    team.condition("ApiRoute", "orders", "Accepted", |found| found.reason == "NotAllowedByStage").await?;
    all_return(fleet, HOST, "/orders", 404).await?;
    let labelled = |label: &str| -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "accepts-team", "labels": {"api": label}}})
    };
    team.apply(&labelled("public")).await?;
    team.programmed("ApiRoute", "orders").await?;
    all_return(fleet, HOST, "/orders", 200).await?;
    let status = team.get("ApiRoute", "orders").await?["status"]["stages"].clone();
    assert_eq!((&status[0]["name"], &status[0]["namespace"]), (&json!("public"), &json!("accepts-platform")));
    assert_eq!(status[0]["conditions"].as_array().map(Vec::len), Some(3), "{status}");
    team.apply(&labelled("private")).await?;
    all_return(fleet, HOST, "/orders", 404).await
}

#[tokio::test]
async fn a_host_below_a_wildcard_of_another_namespace_is_conflicted_and_not_served() -> anyhow::Result<()> {
    // Creation times are whole seconds: of Stages of the same second the first by name is the owner.
    let (fleet, owner, other) = spaces(["hosts-owner", "hosts-rival"]).await?;
    owner.apply(&stage("prod", "*.hosts.example")).await?;
    owner.apply(&route("home", "prod", "/home", mock("owner"))).await?;
    owner.programmed("ApiRoute", "home").await?;
    for (name, host, base) in [("exact", "api.hosts.example", "/"), ("deeper", "*.hosts.example", "/home")] {
        let mut stage = stage(name, host);
        stage["spec"]["basePath"] = json!(base);
        other.apply(&stage).await?;
        other.condition("Stage", name, "Accepted", |found| found.reason == "Conflicted").await?;
    }
    other.apply(&route("taken", "exact", "/home", mock("other"))).await?;
    other.condition("ApiRoute", "taken", "Accepted", |found| found.reason == "StageNotServed").await?;
    for response in fleet.all(&get("api.hosts.example", "/home")).await? {
        assert_eq!(response.body, "owner");
    }
    Ok(())
}
