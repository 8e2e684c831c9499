//! Outages: a program ends, is suspended or restarts, and the proxies keep serving. Each test has its own API server and
//! fleet.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::load::Load;
use crate::harness::objects::Space;
use crate::harness::programs::{Fleet, Proxy};
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

const HOST: &str = "outage.example";

struct Setup {
    server: ApiServer,
    fleet: Fleet,
    space: Space,
}

/// One stage with one route, programmed on both proxies.
async fn setup(name: &str) -> anyhow::Result<Setup> {
    let server = ApiServer::start(name).await?;
    let fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "outage").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("first", "prod", "/first", mock("first"))).await?;
    space.programmed("Stage", "prod").await?;
    space.programmed("ApiRoute", "first").await?;
    assert_eq!(fleet.status(&get(HOST, "/first")).await?, 200);
    Ok(Setup { server, fleet, space })
}

async fn versions(space: &Space) -> anyhow::Result<Vec<Value>> {
    let mut versions = Vec::new();
    for (kind, name) in [("Stage", "prod"), ("ApiRoute", "first")] {
        let mut object = space.get(kind, name).await?;
        // All of the metadata: any patch changes the resource version or a time of the managed fields.
        versions.push(object["metadata"].take());
    }
    Ok(versions)
}

#[tokio::test]
async fn a_restarted_operator_patches_nothing_that_is_unchanged() -> anyhow::Result<()> {
    let Setup { server: _server, mut fleet, space } = setup("operator-back").await?;
    let before = versions(&space).await?;
    let load = Load::start(&fleet, &[get(HOST, "/first")]);
    fleet.operator.kill();
    fleet.operator.start().await?;
    // Once a new object is programmed on both proxies, the old ones have been translated.
    space.apply(&stage("marker", "marker.example")).await?;
    space.programmed_on_both("Stage", "marker").await?;
    assert_eq!(versions(&space).await?, before, "its log:\n{}", fleet.operator.log());
    load.finish().await?;
    Ok(())
}

#[tokio::test]
async fn an_operator_killed_during_edits_loses_none_and_fails_no_request() -> anyhow::Result<()> {
    let Setup { server: _server, mut fleet, space } = setup("killed").await?;
    let load = Load::start(&fleet, &[get(HOST, "/first")]);
    for round in 0..4 {
        for edit in 0..5 {
            let body = format!("{round}.{edit}");
            space.apply(&route("edited", "prod", "/edited", mock(&body))).await?;
            space.apply(&route(&format!("more-{edit}"), "prod", &format!("/more-{edit}"), mock(&body))).await?;
        }
        // Some of these are published by now, some are not.
        fleet.operator.kill();
        fleet.operator.start().await?;
    }
    for name in ["edited", "more-0", "more-1", "more-2", "more-3", "more-4"] {
        space.programmed_on_both("ApiRoute", name).await?;
        let expected = if name == "edited" { "3.4".to_owned() } else { name.replace("more-", "3.") };
        for response in fleet.all(&get(HOST, &format!("/{name}"))).await? {
            assert_eq!((response.status, response.body.as_str()), (200, expected.as_str()), "{name}");
        }
    }
    load.finish().await?;
    Ok(())
}

#[tokio::test]
async fn a_proxy_that_starts_without_an_operator_serves_the_last_known_good() -> anyhow::Result<()> {
    let Setup { server: _server, mut fleet, space } = setup("last-known-good").await?;
    fleet.operator.kill();
    for proxy in &mut fleet.proxies {
        proxy.kill();
        proxy.start().await?;
    }
    for response in fleet.all(&get(HOST, "/first")).await? {
        assert_eq!((response.status, response.body.as_str()), (200, "first"));
    }
    // It applies changes again as soon as it is connected to an operator.
    space.apply(&route("second", "prod", "/second", mock("second"))).await?;
    fleet.operator.start().await?;
    space.programmed_on_both("ApiRoute", "second").await?;
    assert_eq!(fleet.status(&get(HOST, "/second")).await?, 200);
    Ok(())
}

#[tokio::test]
async fn a_proxy_without_configuration_returns_503_and_is_not_ready() -> anyhow::Result<()> {
    let Setup { server, mut fleet, space: _ } = setup("newcomer").await?;
    let token = server.service_account_token("sluice-proxy", &["sluice-operator"]).await?;
    let known = fleet.proxies.first().context("no proxies")?;
    let (mut newcomer, mut stranger) = (
        known.newcomer("newcomer", &token)?,
        // Its token has the audience of the stream, but belongs to another service account.
        known.newcomer("stranger", &server.service_account_token("sluice-operator", &["sluice-operator"]).await?)?,
    );
    stranger.launch()?;
    eventually("the operator rejects the proxy with the token of another account", SOON, || async {
        let log = fleet.operator.log();
        anyhow::ensure!(log.contains("not to the proxies' service account"), "its log:\n{log}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    returns_503(&stranger).await?;
    fleet.operator.kill();
    newcomer.launch()?;
    returns_503(&newcomer).await?;
    fleet.operator.start().await?;
    eventually("the newcomer serves", SOON, || async {
        anyhow::ensure!(newcomer.readiness().await?.status == 200, "it is not ready");
        let status = get(HOST, "/first").send(newcomer.http).await?.status;
        anyhow::ensure!(status == 200, "it returns {status}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    returns_503(&stranger).await
}

async fn returns_503(proxy: &Proxy) -> anyhow::Result<()> {
    eventually("the proxy returns 503", SOON, || async {
        let (status, ready) = (get(HOST, "/first").send(proxy.http).await?.status, proxy.readiness().await?.status);
        anyhow::ensure!((status, ready) == (503, 503), "it returns {status}, and its readiness is {ready}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn nothing_is_programmed_while_no_proxy_is_connected() -> anyhow::Result<()> {
    let server = ApiServer::start("no-proxies").await?;
    let fleet = Fleet::of(&server, 0).await?;
    let space = Space::new(server.client().await?, "outage").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("first", "prod", "/first", mock("first"))).await?;
    for (kind, name) in [("Stage", "prod"), ("ApiRoute", "first")] {
        let condition = space.condition(kind, name, "Programmed", |condition| condition.reason == "NoProxies").await;
        let condition = condition.with_context(|| format!("the operator's log:\n{}", fleet.operator.log()))?;
        assert_eq!(condition.status, "False");
        space.condition(kind, name, "Accepted", |condition| condition.status == "True").await?;
        space.condition(kind, name, "ResolvedRefs", |condition| condition.status == "True").await?;
    }
    assert!(!fleet.operator.log().contains("forbidden"), "the chart lacks a right:\n{}", fleet.operator.log());
    Ok(())
}

#[tokio::test]
async fn a_suspended_proxy_is_not_counted_as_programmed() -> anyhow::Result<()> {
    let Setup { server: _server, fleet, space } = setup("lag").await?;
    let [lagging, prompt] = fleet.proxies.as_slice() else { anyhow::bail!("not two proxies") };
    lagging.signal("STOP")?;
    space.apply(&route("second", "prod", "/second", mock("second"))).await?;
    let pending = space
        .condition("ApiRoute", "second", "Programmed", |condition| condition.message.contains("1 of 2 proxies"))
        .await?;
    assert_eq!((pending.status.as_str(), pending.reason.as_str()), ("False", "Pending"));
    assert_eq!(get(HOST, "/second").send(prompt.http).await?.status, 200);
    lagging.signal("CONT")?;
    let programmed = space.programmed("ApiRoute", "second").await?;
    assert!(programmed.message.contains("2 of 2 proxies"), "{programmed:?}");
    assert_eq!(fleet.status(&get(HOST, "/second")).await?, 200);
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_fails_no_request() -> anyhow::Result<()> {
    let Setup { mut server, mut fleet, space } = setup("api-server-away").await?;
    let load = Load::start(&fleet, &[get(HOST, "/first")]);
    server.stop();
    for _ in 0..50 {
        assert_eq!(fleet.status(&get(HOST, "/first")).await?, 200);
    }
    // The harness' clients of the API server fail during the outage.
    load.finish().await?;
    // A proxy that restarts meanwhile serves from its disk: the operator cannot review its token.
    let proxy = fleet.proxies.first_mut().context("no proxies")?;
    proxy.kill();
    proxy.start().await?;
    let load = Load::start(&fleet, &[get(HOST, "/first")]);
    server.resume().await?;
    let space = Space { client: server.client().await?, ..space };
    space.apply(&route("second", "prod", "/second", mock("second"))).await?;
    // The watches reconnect with backoff.
    eventually("the operator has applied the change", Duration::from_secs(90), || async {
        let status = fleet.status(&get(HOST, "/second")).await?;
        anyhow::ensure!(status == 200, "the proxies return {status}");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    space.programmed("ApiRoute", "second").await?;
    load.finish().await?;
    for proxy in &fleet.proxies {
        proxy.check()?;
    }
    Ok(())
}
