//! Tests of the harness: the API server accepts our definitions, and its objects survive a restart.

use serde_json::json;

use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;

#[tokio::test]
async fn every_kind_of_the_group_is_listed_under_its_category() -> anyhow::Result<()> {
    let server = ApiServer::shared().await?;
    let kinds = server.kubectl(&["api-resources", "--api-group=sluice.dev", "--categories=sluice", "-o=name"]).await?;
    let mut kinds: Vec<&str> = kinds.lines().collect();
    kinds.sort_unstable();
    let expected = ["apikeys", "apiroutes", "authorizers", "principals", "stages", "usageplans"]
        .map(|kind| format!("{kind}.sluice.dev"));
    assert_eq!(kinds, expected);
    Ok(())
}

#[tokio::test]
async fn a_restarted_api_server_has_its_objects() -> anyhow::Result<()> {
    let mut server = ApiServer::start("comes-back").await?;
    let space = Space::new(server.client().await?, "kept").await?;
    space.apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kept"}})).await?;
    server.stop();
    assert!(space.get_of("v1", "ConfigMap", "kept").await.is_err(), "it still responds");
    server.resume().await?;
    let space = Space { client: server.client().await?, ..space };
    space.get_of("v1", "ConfigMap", "kept").await?;
    Ok(())
}
