//! Lambda authorizers whose function is behind a Service, and the API keys that it names.

use serde_json::json;

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::backend::{self, Backend};
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use sluice_kit::client::get;
use sluice_kit::{SOON, until as eventually};

#[tokio::test]
async fn a_function_is_called_at_the_endpoints_of_its_service_and_names_the_key_of_a_request() -> anyhow::Result<()> {
    const HOST: &str = "functions.example";
    let fleet = Fleet::shared().await?;
    let space = Space::new(ApiServer::shared().await?.client().await?, "functions").await?;
    let key = "key-of-acme-0123456789abcdef";
    let authorizer = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Authorizer", "metadata": {"name": "function"},
        "spec": {"type": "Lambda", "lambda": {"event": "Token", "function": {
            "type": "Service", "service": {"name": "authorizer", "port": 80, "path": "/authorize"},
        }}},
    });
    let mut named = stage("prod", HOST);
    named["spec"]["apiKeySource"] = json!({"type": "Authorizer"});
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "function"}});
    guarded["spec"]["apiKey"] = "Required".into();
    let plan = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "UsagePlan", "metadata": {"name": "gold"},
        "spec": {"stages": [{"name": "prod"}]},
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "acme"}, "stringData": {"api-key": key},
    });
    let api_key = json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "ApiKey", "metadata": {"name": "acme"},
        "spec": {"plans": [{"name": "gold"}], "secret": {"name": "acme"}},
    });
    for object in [backend::service("authorizer"), authorizer, named, guarded, plan, secret, api_key] {
        space.apply(&object).await?;
    }
    for (kind, name) in [("ApiRoute", "guarded"), ("Authorizer", "function"), ("ApiKey", "acme")] {
        space.programmed(kind, name).await?;
    }
    let call = get(HOST, "/guarded").header("authorization", "t");
    let returned = async |what: &str, status: u16| {
        eventually(format!("both proxies return {status}: {what}"), SOON, || async {
            let found = fleet.status(&call).await?;
            anyhow::ensure!(found == status, "they return {found}");
            Ok::<_, anyhow::Error>(())
        })
        .await
    };
    assert_eq!(fleet.status(&call).await?, 503, "the Service has no endpoints");
    assert_eq!(fleet.status(&get(HOST, "/guarded")).await?, 401);

    let statement = json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"});
    let decision = json!({
        "principalId": "acme", "usageIdentifierKey": key,
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
    });
    let function = Backend::responding(&decision)?;
    space.apply(&backend::endpoints("authorizer", 0, Some(&function))).await?;
    returned("the function has endpoints", 200).await?;
    assert!(function.requests() > 0);

    // The decision is remembered, and the key that it names is valid no more.
    space.delete("ApiKey", "acme").await?;
    returned("the key is deleted", 403).await?;

    space.delete_of("v1", "Service", "authorizer").await?;
    returned("the Service is deleted", 500).await?;
    let condition =
        space.condition("Authorizer", "function", "ResolvedRefs", |condition| condition.status == "False").await?;
    assert_eq!(condition.reason, "BackendNotFound");
    Ok(())
}
