//! Many API keys: a restarted operator reads all of them before it publishes a configuration, and keys that cannot be
//! generated delay no other object.

use base64::Engine as _;
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::load::Load;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

const HOST: &str = "many-keys.example";
/// More than are written in one round.
const KEYS: usize = 300;

fn api_key(number: usize) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": format!("key-{number}")},
        "spec": {"plans": [{"name": "gold"}]},
    })
}

#[tokio::test]
async fn a_restarted_operator_knows_every_key_and_generates_none() -> anyhow::Result<()> {
    let server = ApiServer::start("many-keys").await?;
    let mut fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "many-keys").await?;
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["apiKey"] = "Required".into();
    let plan = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "UsagePlan", "metadata": {"name": "gold"},
        "spec": {"stages": [{"name": "prod"}]},
    });
    for object in [stage("prod", HOST), guarded, plan].into_iter().chain((0..KEYS).map(api_key)) {
        space.apply(&object).await?;
    }
    for number in 0..KEYS {
        space.programmed("ApiKey", &format!("key-{number}")).await?;
    }
    space.programmed("ApiRoute", "guarded").await?;
    let last = space.get_of("v1", "Secret", &format!("key-{}-api-key", KEYS - 1)).await?;
    let key = base64::engine::general_purpose::STANDARD.decode(last["data"]["api-key"].as_str().unwrap_or_default())?;
    let versions = async || -> anyhow::Result<Vec<Value>> {
        let mut objects = space.list_of("v1", "Secret").await?;
        objects.extend(space.list_of("sluice.dev/v1alpha1", "ApiKey").await?);
        Ok(objects.into_iter().map(|mut object| object["metadata"].take()).collect())
    };
    let before = versions().await?;
    let load = Load::start(&fleet, &[get(HOST, "/guarded").header("x-api-key", String::from_utf8(key)?)]);
    fleet.operator.kill();
    fleet.operator.start().await?;
    // Once a new object is programmed, the old ones have been translated.
    space.apply(&stage("marker", "marker.example")).await?;
    let both = |message: &str| message.contains("2 of 2 proxies");
    space.condition("Stage", "marker", "Programmed", |found| both(&found.message)).await?;
    load.finish().await?;
    assert_eq!(versions().await?, before, "its log:\n{}", fleet.operator.log());
    Ok(())
}

#[tokio::test]
async fn keys_that_cannot_be_generated_delay_no_other_status() -> anyhow::Result<()> {
    let server = ApiServer::start("no-keys").await?;
    let _fleet = Fleet::start(&server).await?;
    let limited = Space::new(server.client().await?, "limited").await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "none"}, "spec": {"hard": {"secrets": "0"}},
    });
    limited.apply(&quota).await?;
    // What the ResourceQuota controller does.
    let status = json!({"status": {"hard": {"secrets": "0"}, "used": {"secrets": "0"}}});
    let quotas: Api<ResourceQuota> = Api::namespaced(limited.client.clone(), "limited");
    quotas.patch_status("none", &PatchParams::default(), &Patch::Merge(&status)).await?;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "probe"}});
    eventually("the quota is enforced", SOON, || async {
        anyhow::ensure!(limited.try_create(&secret).await?.is_err(), "the API server permits a Secret");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    for number in 0..KEYS {
        limited.apply(&api_key(number)).await?;
    }
    let space = Space::new(server.client().await?, "without-quota").await?;
    space.apply(&stage("prod", HOST)).await?;
    space.apply(&route("fine", "prod", "/fine", mock("fine"))).await?;
    space.programmed("ApiRoute", "fine").await?;
    let names_the_quota = |message: &str| message.contains("cannot generate the key") && message.contains("quota");
    for number in [0, KEYS - 1] {
        limited
            .condition("ApiKey", &format!("key-{number}"), "Accepted", |found| names_the_quota(&found.message))
            .await?;
    }
    Ok(())
}
