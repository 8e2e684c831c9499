//! Metrics of both programs after real traffic: they pass Prometheus' linter, their values are those of the traffic, and
//! the documentation lists every family.

use http::Method;

use crate::fixtures;
use crate::harness::api_server::ApiServer;
use crate::harness::backend::Backend;
use crate::harness::identity::Identity;
use crate::harness::objects::Space;
use crate::harness::programs::{Fleet, Proxy};
use crate::harness::promtool::Promtool;
use crate::harness::repository;
use sluice_kit::client::get;

const HOST: &str = "metrics.example";

#[tokio::test]
async fn the_metrics_of_both_programs_pass_the_linter_after_every_kind_of_traffic() -> anyhow::Result<()> {
    let promtool = Promtool::find().await?;
    let fleet = Fleet::shared().await?;
    let space = Space::new(ApiServer::shared().await?.client().await?, "metrics").await?;
    let (backend, identity) = (Backend::start("orders")?, Identity::new()?);
    fixtures::quickstart(&space, HOST, &backend, &identity).await?;
    for (kind, name) in [("Stage", "prod"), ("ApiRoute", "orders"), ("Authorizer", "customers"), ("ApiKey", "acme")] {
        space.programmed(kind, name).await?;
    }
    let documented = std::fs::read_to_string(repository().join("docs/metrics.md"))?;

    let operator = fleet.operator.metrics().await?;
    assert!(operator.header("content-type").is_some_and(|kind| kind.starts_with("text/plain")), "{operator:?}");
    promtool.check_metrics(&operator.body).await?;
    for line in [
        r#"sluice_proxies{fleet="default",state="current"} "#,
        r#"sluice_proxy_acks_total{fleet="default",outcome="applied"} "#,
        r#"sluice_status_patches_total{kind="ApiRoute",outcome="written"} "#,
        r#"sluice_snapshot_bytes{fleet="default"} "#,
        "sluice_translate_duration_seconds_count ",
    ] {
        assert!(operator.body.contains(line), "the operator does not report {line}:\n{}", operator.body);
    }
    named(&operator.body, &documented);

    for proxy in &fleet.proxies {
        traffic(proxy, &identity).await?;
        let page = proxy.metrics().await?.body;
        promtool.check_metrics(&page).await?;
        for line in [
            r#"sluice_requests_total{code="2xx",route="orders",stage="metrics/prod"} "#,
            r#"sluice_requests_total{code="4xx",route="orders",stage="metrics/prod"} "#,
            r#"sluice_request_duration_seconds_count{route="orders",stage="metrics/prod"} "#,
            r#"sluice_upstream_duration_seconds_count{route="orders",stage="metrics/prod"} "#,
            r#"sluice_rejects_total{reason="Unauthorized",stage="metrics/prod"} 1"#,
            r#"sluice_rejects_total{reason="ScopeMissing",stage="metrics/prod"} 1"#,
            r#"sluice_rejects_total{reason="InvalidKey",stage="metrics/prod"} 1"#,
            r#"sluice_rejects_total{reason="NotFound",stage="metrics/prod"} 1"#,
            r#"sluice_rejects_total{reason="MethodNotAllowed",stage="metrics/prod"} 1"#,
            r#"sluice_rejects_total{reason="Throttled",stage="metrics/prod"} "#,
            r#"sluice_throttled_total{scope="rule",stage="metrics/prod"} "#,
            r#"sluice_cache_requests_total{result="miss",stage="metrics/prod"} 1"#,
            r#"sluice_cache_requests_total{result="hit",stage="metrics/prod"} 1"#,
            "sluice_config_version_info{version=",
            "sluice_config_last_applied_timestamp_seconds ",
            "sluice_connections ",
        ] {
            assert!(page.contains(line), "the proxy does not report {line}:\n{page}");
        }
        named(&page, &documented);
    }
    Ok(())
}

/// One response of each kind.
async fn traffic(proxy: &Proxy, identity: &Identity) -> anyhow::Result<()> {
    let order = get(HOST, "/orders/7");
    let token = identity.bearer("ada", "orders.read")?;
    let mut statuses = Vec::new();
    for call in [
        order.clone(),
        order.clone().header("authorization", identity.bearer("ada", "other")?),
        order.clone().header("authorization", token.as_str()),
        order.header("authorization", token),
        get(HOST, "/catalog"),
        get(HOST, "/nowhere"),
        get(HOST, "/health"),
        get(HOST, "/health").method(Method::DELETE),
    ] {
        statuses.push(call.send(proxy.http).await?.status);
    }
    assert_eq!(statuses, [401, 403, 200, 200, 403, 404, 200, 405]);
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(get(HOST, "/burst").send(proxy.http).await?.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    Ok(())
}

/// Fails when the documentation lacks a family of the page.
fn named(page: &str, documented: &str) {
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let family = line.split(' ').next().unwrap_or_default();
        assert!(documented.contains(&format!("`{family}`")), "docs/metrics.md does not name {family}");
    }
}
