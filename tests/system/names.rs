//! Who has a host name keeps it: against older Stages that add the name later, and across restarts of the operator.

use serde_json::{Value, json};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

fn with_hosts(name: &str, hosts: &[&str]) -> Value {
    let mut stage = stage(name, "");
    stage["spec"]["hostnames"] = json!(hosts);
    stage
}

/// Waits until every proxy returns this body for each host.
async fn serves(fleet: &Fleet, hosts: &[&str], body: &str) -> anyhow::Result<()> {
    for host in hosts {
        eventually(format!("{host} is served by {body}"), SOON, || async {
            for response in fleet.all(&get(host, "/home")).await? {
                anyhow::ensure!(response.body == body, "one returns {} {}", response.status, response.body);
            }
            Ok::<_, anyhow::Error>(())
        })
        .await?;
    }
    Ok(())
}

async fn claims(space: &Space) -> anyhow::Result<(Value, Value)> {
    let status = space.get("Stage", "prod").await?["status"].clone();
    Ok((status["hostnames"].clone(), status["basePath"].clone()))
}

#[tokio::test]
async fn an_older_stage_that_adds_a_name_does_not_take_it_from_another_namespace() -> anyhow::Result<()> {
    let server = ApiServer::start("names").await?;
    let mut fleet = Fleet::start(&server).await?;
    let client = server.client().await?;
    // Of Stages of the same second, the one in the namespace that is first by name counts as older.
    let (older, newer) = (Space::new(client.clone(), "names-a").await?, Space::new(client, "names-b").await?);
    older.apply(&with_hosts("prod", &["own.names.example"])).await?;
    older.apply(&route("home", "prod", "/home", mock("older"))).await?;
    older.programmed("Stage", "prod").await?;
    let hosts = ["api.names.example", "v1.below.names.example"];
    newer.apply(&with_hosts("prod", &["api.names.example", "*.below.names.example"])).await?;
    newer.apply(&route("home", "prod", "/home", mock("newer"))).await?;
    newer.programmed("Stage", "prod").await?;
    serves(&fleet, &hosts, "newer").await?;
    let before = eventually("both names are recorded", SOON, || async {
        let found = claims(&newer).await?;
        anyhow::ensure!(found.0.as_array().is_some_and(|names| names.len() == 2), "{found:?}");
        Ok::<_, anyhow::Error>(found)
    })
    .await?;
    // The same name, one below the other's wildcard, and a wildcard above both.
    let added = ["own.names.example", "api.names.example", "v1.below.names.example", "*.names.example"];
    older.apply(&with_hosts("prod", &added)).await?;
    let lost = older.condition("Stage", "prod", "Accepted", |found| found.status == "False").await?;
    assert_eq!(lost.reason, "Conflicted", "{lost:?}");
    older.programmed("Stage", "prod").await?;
    serves(&fleet, &["own.names.example", "other.names.example"], "older").await?;
    serves(&fleet, &hosts, "newer").await?;
    for round in 0..2 {
        fleet.operator.kill();
        fleet.operator.start().await?;
        // Once a new object is programmed, the others have been translated.
        older.apply(&stage(&format!("marker-{round}"), &format!("marker-{round}.example"))).await?;
        older.programmed("Stage", &format!("marker-{round}")).await?;
        serves(&fleet, &hosts, "newer").await?;
        assert_eq!(claims(&newer).await?, before, "the recorded times stay");
    }
    // A claim that is given up is not recorded any more, and comes last when it comes back.
    newer.apply(&with_hosts("prod", &["*.below.names.example"])).await?;
    serves(&fleet, &["api.names.example"], "older").await?;
    eventually("the claim is removed", SOON, || async {
        let (names, _) = claims(&newer).await?;
        anyhow::ensure!(names.as_array().is_some_and(|names| names.len() == 1), "{names}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    newer.apply(&with_hosts("prod", &["api.names.example", "*.below.names.example"])).await?;
    newer.condition("Stage", "prod", "Accepted", |found| found.reason == "Conflicted").await?;
    serves(&fleet, &["api.names.example"], "older").await?;
    newer.delete("Stage", "prod").await?;
    serves(&fleet, &["own.names.example", hosts[0], hosts[1]], "older").await
}
