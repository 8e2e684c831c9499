//! Two fleets of one operator: each serves its own Stages, has its own keys, and counts its own proxies.

use anyhow::Context as _;
use serde_json::{Value, json};
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::{Fleet, Proxy};

const EDGE: &str = "edge.fleets.example";
const INNER: &str = "inner.fleets.example";

fn of_fleet(mut stage: Value, fleet: &str) -> Value {
    stage["spec"]["fleet"] = json!({"name": fleet});
    stage
}

async fn responds(proxy: &Proxy, host: &str, status: u16) -> anyhow::Result<()> {
    eventually(format!("{host} with status {status}"), SOON, || async {
        let found = get(host, "/shared").header("x-api-key", KEY).send(proxy.http).await?.status;
        anyhow::ensure!(found == status, "the status is {found}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

const KEY: &str = "edge-key-0123456789abcdef";

#[tokio::test]
async fn each_fleet_serves_its_own_stages_and_a_stage_can_move() -> anyhow::Result<()> {
    let server = ApiServer::start("fleets").await?;
    let fleet = Fleet::of(&server, 1).await?;
    let inner = fleet.proxies.first().context("no proxies")?;
    let space = Space::new(server.client().await?, "fleets").await?;
    let api = "sluice.dev/v1alpha1";
    let mut shared = route("shared", "edge", "/shared", mock("shared"));
    shared["spec"]["stages"] = json!([{"name": "edge"}, {"name": "inner"}]);
    let mut guarded = route("guarded", "edge", "/guarded", mock("guarded"));
    guarded["spec"]["apiKey"] = json!("Required");
    for object in [
        of_fleet(stage("edge", EDGE), "edge"),
        stage("inner", INNER),
        shared,
        guarded,
        json!({"apiVersion": api, "kind": "UsagePlan", "metadata": {"name": "gold"}, "spec": {"stages": [{"name": "edge"}]}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme"}, "stringData": {"api-key": KEY}}),
        json!({"apiVersion": api, "kind": "ApiKey", "metadata": {"name": "acme"},
            "spec": {"plans": [{"name": "gold"}], "secret": {"name": "acme"}}}),
    ] {
        space.apply(&object).await?;
    }
    // No proxy serves the fleet yet, and the conditions of its objects report it.
    for (kind, name) in [("Stage", "edge"), ("ApiRoute", "shared"), ("ApiKey", "acme")] {
        let condition = space.condition(kind, name, "Programmed", |found| found.reason == "NoProxies").await?;
        assert!(condition.message.contains("fleet edge"), "{kind}: {}", condition.message);
    }
    assert_eq!(space.programmed("Stage", "inner").await?.message, "1 of 1 proxies");

    let token = server.service_account_token("sluice-proxy", &["sluice-operator"]).await?;
    let mut edge = inner.newcomer("edge-0", &token)?.of_fleet("edge");
    edge.start().await?;
    for (kind, name) in [("Stage", "edge"), ("ApiRoute", "guarded"), ("ApiKey", "acme")] {
        assert_eq!(space.programmed(kind, name).await?.message, "1 of 1 proxies", "{kind} {name}");
    }
    assert_eq!(space.programmed("ApiRoute", "shared").await?.message, "2 of 2 proxies");
    for (proxy, served, foreign) in [(&edge, EDGE, INNER), (inner, INNER, EDGE)] {
        responds(proxy, served, 200).await?;
        responds(proxy, foreign, 404).await?;
    }
    let with_key = get(EDGE, "/guarded").header("x-api-key", KEY);
    assert_eq!(with_key.send(edge.http).await?.status, 200);

    // A proxy saves the configuration of its fleet only: the key is in one fleet.
    edge.saved("configuration.state", "acme").await?;
    let other = inner.saved("configuration.state", "route/fleets/shared").await?;
    assert!(!other.contains("acme") && !other.contains("guarded"));
    // Each fleet shares limits among its own proxies.
    assert_eq!(edge.saved("fleet.state", "edge").await?, "1 edge\n");
    assert_eq!(inner.saved("fleet.state", "default").await?, "1 default\n");
    let metrics = fleet.operator.metrics().await?.body;
    for line in [r#"sluice_proxies{fleet="edge",state="current"} 1"#, r#"sluice_snapshot_bytes{fleet="edge"}"#] {
        assert!(metrics.contains(line), "no {line} in:\n{metrics}");
    }

    // The Stage moves, with all parts that it needs.
    space.apply(&of_fleet(stage("edge", EDGE), "default")).await?;
    responds(inner, EDGE, 200).await?;
    responds(&edge, EDGE, 404).await?;
    assert_eq!(with_key.send(inner.http).await?.status, 200);
    for (kind, name) in [("Stage", "edge"), ("ApiRoute", "shared"), ("ApiKey", "acme")] {
        let moved = space.condition(kind, name, "Programmed", |found| found.message == "1 of 1 proxies").await?;
        assert_eq!(moved.status, "True", "{kind}");
    }

    // Another fleet on the same disk: the saved configuration is not served.
    edge.kill();
    let mut later = edge.of_fleet("later");
    later.start().await?;
    assert_eq!(later.saved("fleet.state", "later").await?, "1 later\n");
    responds(&later, INNER, 404).await
}
