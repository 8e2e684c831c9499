//! Changes of objects while the fleet serves: endpoints, deletions, and objects that cannot be translated.

use serde_json::{Value, json};

use crate::fixtures::{mock, route, service, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::backend::{self, Backend};
use crate::harness::identity::{self, Identity};
use crate::harness::load::Load;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

async fn space(name: &str) -> anyhow::Result<(&'static Fleet, Space)> {
    let fleet = Fleet::shared().await?;
    let space = Space::new(ApiServer::shared().await?.client().await?, name).await?;
    Ok((fleet, space))
}

#[tokio::test]
async fn a_change_of_endpoints_moves_the_traffic_without_a_failed_request() -> anyhow::Result<()> {
    const HOST: &str = "endpoints.example";
    let (fleet, space) = space("endpoints").await?;
    let (old, new) = (Backend::start("old")?, Backend::start("new")?);
    space.apply(&backend::service("pets")).await?;
    space.apply(&backend::endpoints("pets", 0, Some(&old))).await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("pets", "prod", "/pets", service("pets"))).await?;
    space.programmed("ApiRoute", "pets").await?;
    let call = get(HOST, "/pets");
    let served_by = async |name: &str| {
        eventually(format!("both proxies send to {name}"), SOON, || async {
            for response in fleet.all(&call).await? {
                anyhow::ensure!(response.json()["name"] == name, "one returned {response:?}");
            }
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    served_by("old").await?;
    let load = Load::start(fleet, std::slice::from_ref(&call));
    space.apply(&backend::endpoints("pets", 0, Some(&new))).await?;
    served_by("new").await?;
    let before = old.requests();
    for _ in 0..10 {
        served_by("new").await?;
    }
    assert_eq!(old.requests(), before, "the old address still gets requests");
    drop(old);
    load.finish().await?;
    Ok(())
}

#[tokio::test]
async fn a_service_without_endpoints_returns_503_until_it_has_some() -> anyhow::Result<()> {
    const HOST: &str = "empty.example";
    let (fleet, space) = space("empty").await?;
    space.apply(&backend::service("pets")).await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("pets", "prod", "/pets", service("pets"))).await?;
    space.programmed("ApiRoute", "pets").await?;
    assert_eq!(fleet.status(&get(HOST, "/pets")).await?, 503);
    let backend = Backend::start("pets")?;
    space.apply(&backend::endpoints("pets", 0, Some(&backend))).await?;
    returns_status(fleet, HOST, "/pets", 200).await
}

#[tokio::test]
async fn a_deleted_route_is_not_served_and_other_routes_are() -> anyhow::Result<()> {
    const HOST: &str = "deleted.example";
    let (fleet, space) = space("deleted").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("going", "prod", "/going", mock("going"))).await?;
    space.apply(&route("staying", "prod", "/staying", mock("staying"))).await?;
    space.programmed("ApiRoute", "going").await?;
    space.programmed("ApiRoute", "staying").await?;
    assert_eq!(fleet.status(&get(HOST, "/going")).await?, 200);
    let load = Load::start(fleet, &[get(HOST, "/staying")]);
    space.delete("ApiRoute", "going").await?;
    returns_status(fleet, HOST, "/going", 404).await?;
    load.finish().await?;
    Ok(())
}

#[tokio::test]
async fn an_object_that_cannot_be_translated_fails_closed_and_affects_no_other() -> anyhow::Result<()> {
    const HOST: &str = "broken.example";
    let (fleet, space) = space("broken").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("sound", "prod", "/sound", mock("sound"))).await?;
    let open = route("broken", "prod", "/broken", mock("secret"));
    space.apply(&open).await?;
    space.programmed("ApiRoute", "broken").await?;
    assert_eq!(fleet.status(&get(HOST, "/broken")).await?, 200);
    let load = Load::start(fleet, &[get(HOST, "/sound")]);

    // The authorizer does not exist: the route must reject its requests, not keep its earlier policy.
    let mut broken = open.clone();
    broken["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "missing"}});
    space.apply(&broken).await?;
    let condition =
        space.condition("ApiRoute", "broken", "ResolvedRefs", |condition| condition.status == "False").await?;
    assert_eq!(condition.reason, "AuthorizerNotFound");
    assert!(condition.message.contains("missing"), "{condition:?}");
    returns_status(fleet, HOST, "/broken", 500).await?;

    has_event(&space, "Warning", "AuthorizerNotFound").await?;

    // New objects are programmed meanwhile.
    space.apply(&route("late", "prod", "/late", mock("late"))).await?;
    space.programmed("ApiRoute", "late").await?;
    assert_eq!(fleet.status(&get(HOST, "/late")).await?, 200);

    space.apply(&open).await?;
    space.programmed("ApiRoute", "broken").await?;
    assert_eq!(fleet.status(&get(HOST, "/broken")).await?, 200);
    load.finish().await?;
    has_event(&space, "Normal", "ResolvedRefs").await
}

async fn has_event(space: &Space, type_: &str, reason: &str) -> anyhow::Result<()> {
    eventually(format!("a {type_} event with reason {reason} about the route"), SOON, || async {
        let events = space.list_of("events.k8s.io/v1", "Event").await?;
        let about = |event: &&Value| event["regarding"]["kind"] == "ApiRoute" && event["regarding"]["name"] == "broken";
        let found = events.iter().filter(about).any(|event| event["type"] == type_ && event["reason"] == reason);
        anyhow::ensure!(found, "there are {events:?}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn an_api_key_is_accepted_until_it_is_disabled_or_replaced() -> anyhow::Result<()> {
    const HOST: &str = "keys.example";
    let (fleet, space) = space("keys").await?;
    let secret = |key: &str| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme"}, "stringData": {"api-key": key}});
    let api_key = |enabled: bool| {
        json!({
            "apiVersion": "sluice.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": "acme"},
            "spec": {"enabled": enabled, "plans": [{"name": "gold"}], "secret": {"name": "acme"}},
        })
    };
    let (first, second) = ("first-key-0123456789abcdef", "second-key-0123456789abcdef");
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["apiKey"] = "Required".into();
    let plan = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "UsagePlan", "metadata": {"name": "gold"},
        "spec": {"stages": [{"name": "prod"}]},
    });
    for object in [stage("prod", HOST), guarded, plan, secret(first), api_key(true)] {
        space.apply(&object).await?;
    }
    for (kind, name) in [("ApiRoute", "guarded"), ("ApiKey", "acme")] {
        space.programmed(kind, name).await?;
    }
    let with = |key: &str| get(HOST, "/guarded").header("x-api-key", key);
    let returned = async |key: &str, status: u16| {
        eventually(format!("both proxies return {status} for {key}"), SOON, || async {
            let found = fleet.status(&with(key)).await?;
            anyhow::ensure!(found == status, "they return {found}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    assert_eq!(fleet.status(&with(first)).await?, 200);
    assert_eq!(fleet.status(&get(HOST, "/guarded")).await?, 403);

    space.apply(&api_key(false)).await?;
    returned(first, 403).await?;
    space.apply(&api_key(true)).await?;
    returned(first, 200).await?;

    space.apply(&secret(second)).await?;
    returned(second, 200).await?;
    assert_eq!(fleet.status(&with(first)).await?, 403, "the old key is still accepted");

    space.delete("ApiKey", "acme").await?;
    returned(second, 403).await
}

#[tokio::test]
async fn routes_of_a_deleted_authorizer_reject_their_requests() -> anyhow::Result<()> {
    const HOST: &str = "authorizer.example";
    let (fleet, space) = space("authorizer").await?;
    let identity = Identity::new()?;
    let authorizer = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Authorizer", "metadata": {"name": "customers"},
        "spec": {"type": "Jwt", "jwt": {"issuers": [{
            "issuer": identity::ISSUER, "audiences": ["shop"],
            "jwks": {"type": "ConfigMap", "configMap": {"name": "identity", "key": "jwks.json"}},
        }]}},
    });
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "customers"}});
    for object in [stage("prod", HOST), identity.config_map(), authorizer, guarded] {
        space.apply(&object).await?;
    }
    space.programmed("ApiRoute", "guarded").await?;
    let call = get(HOST, "/guarded").header("authorization", identity.bearer("ada", "")?);
    assert_eq!(fleet.status(&call).await?, 200);
    assert_eq!(fleet.status(&get(HOST, "/guarded")).await?, 401);

    // Other keys in the same ConfigMap: tokens that they did not sign are rejected.
    let exchanged = Identity::new()?;
    space.apply(&exchanged.config_map()).await?;
    let renewed = get(HOST, "/guarded").header("authorization", exchanged.bearer("ada", "")?);
    eventually("both proxies accept tokens of the new key only", SOON, || async {
        let (new, old) = (fleet.status(&renewed).await?, fleet.status(&call).await?);
        anyhow::ensure!((new, old) == (200, 401), "they return {new} for the new one, {old} for the old one");
        Ok::<_, anyhow::Error>(())
    })
    .await?;

    space.delete("Authorizer", "customers").await?;
    returns_status(fleet, HOST, "/guarded", 500).await?;
    assert_eq!(fleet.status(&renewed).await?, 500);
    let condition =
        space.condition("ApiRoute", "guarded", "ResolvedRefs", |condition| condition.status == "False").await?;
    assert_eq!(condition.reason, "AuthorizerNotFound");
    Ok(())
}

#[tokio::test]
async fn a_route_to_a_missing_service_reports_it_until_the_service_exists() -> anyhow::Result<()> {
    const HOST: &str = "missing.example";
    let (fleet, space) = space("missing").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("pets", "prod", "/pets", service("pets"))).await?;
    let condition =
        space.condition("ApiRoute", "pets", "ResolvedRefs", |condition| condition.status == "False").await?;
    assert_eq!(condition.reason, "BackendNotFound");
    returns_status(fleet, HOST, "/pets", 500).await?;
    let backend = Backend::start("pets")?;
    space.apply(&backend::endpoints("pets", 0, Some(&backend))).await?;
    space.apply(&backend::service("pets")).await?;
    space.programmed("ApiRoute", "pets").await?;
    returns_status(fleet, HOST, "/pets", 200).await
}

async fn returns_status(fleet: &Fleet, host: &str, path: &str, status: u16) -> anyhow::Result<()> {
    eventually(format!("both proxies return {status} for {path}"), SOON, || async {
        let found = fleet.status(&get(host, path)).await?;
        anyhow::ensure!(found == status, "they return {found}");
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn a_likely_mistake_is_a_condition_until_it_is_silenced_or_corrected() -> anyhow::Result<()> {
    const HOST: &str = "warned.example";
    let (fleet, space) = space("warned").await?;
    space.apply(&stage("prod", HOST)).await?;
    let mut orders = route("orders", "prod", "/orders/:id", mock("orders"));
    let warned =
        async || space.condition("ApiRoute", "orders", "Warnings", |condition| condition.status == "True").await;
    let clean = async || {
        eventually("no condition Warnings", SOON, || async {
            let conditions = space.get("ApiRoute", "orders").await?["status"]["conditions"].clone();
            let found = conditions.as_array().into_iter().flatten().any(|condition| condition["type"] == "Warnings");
            anyhow::ensure!(!found, "there are {conditions}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    space.apply(&orders).await?;
    assert_eq!(warned().await?.reason, "LiteralPattern");
    // The object is served as written.
    space.programmed("ApiRoute", "orders").await?;
    assert_eq!(fleet.status(&get(HOST, "/orders/:id")).await?, 200);
    orders["metadata"]["annotations"] = json!({"sluice.dev/silence": "LiteralPattern"});
    space.apply(&orders).await?;
    clean().await?;
    orders["metadata"]["annotations"] = json!({"sluice.dev/silence": ""});
    space.apply(&orders).await?;
    warned().await?;
    orders["spec"]["rules"][0]["path"] = json!("/orders/{id}");
    space.apply(&orders).await?;
    clean().await
}
