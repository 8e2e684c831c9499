//! Callers that are ServiceAccounts of the cluster: tokens that the API server issues, and its reviews of access.

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};
use sluice_kit::client::{Call, get};
use sluice_kit::{SOON, until as eventually};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::{ApiServer, SYSTEM};
use crate::harness::objects::Space;
use crate::harness::programs::{Fleet, Proxy};

pub(crate) const AUDIENCE: &str = "shop.example";
const HOST: &str = "accounts.example";

/// A Stage and an ApiRoute `GET /reviewed` whose callers are ServiceAccounts that RBAC allows to call it.
pub(crate) fn reviewed(host: &str) -> [Value; 3] {
    let mut route = route("reviewed", "accounts", "/reviewed", mock("reviewed"));
    route["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "reviewed"}});
    route["spec"]["rules"][0]["methods"] = json!(["GET", "POST"]);
    [stage("accounts", host), authorizer("reviewed", true), route]
}

fn authorizer(name: &str, access_reviews: bool) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Authorizer", "metadata": {"name": name},
        "spec": {"type": "ServiceAccount", "serviceAccount": {"audiences": [AUDIENCE], "accessReviews": access_reviews}},
    })
}

fn call(path: &str, token: &str) -> Call {
    get(HOST, path).header("authorization", format!("Bearer {token}"))
}

async fn responds(proxy: &Proxy, call: &Call, status: u16) -> anyhow::Result<()> {
    eventually(format!("status {status}"), SOON, || async {
        let response = call.send(proxy.http).await?;
        anyhow::ensure!(response.status == status, "the response is {} {}", response.status, response.body);
        Ok::<_, anyhow::Error>(())
    })
    .await
}

#[tokio::test]
async fn tokens_of_the_cluster_are_accepted_and_roles_decide_about_calls() -> anyhow::Result<()> {
    let server = ApiServer::start("accounts").await?;
    let mut fleet = Fleet::of(&server, 1).await?;
    let space = Space::new(server.client().await?, "accounts").await?;
    let mut open = route("open", "accounts", "/open", mock("open"));
    open["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "open"}});
    let name = json!([{"name": "x-account", "value": "${context.authorizer.principalId}"}]);
    open["spec"]["rules"][0]["response"] = json!({"headers": {"set": name}});
    for object in reviewed(HOST).iter().chain(&[authorizer("open", false), open]) {
        space.apply(object).await?;
    }
    for (kind, name) in
        [("Authorizer", "open"), ("Authorizer", "reviewed"), ("ApiRoute", "open"), ("ApiRoute", "reviewed")]
    {
        space.programmed(kind, name).await?;
    }
    let proxy = fleet.proxies.first().context("no proxies")?;

    // Tokens: of the audience, of another, of the API server's own audience, and none.
    let token = server.service_account_token("sluice-proxy", &[AUDIENCE]).await?;
    let foreign = server.service_account_token("sluice-proxy", &["other.example"]).await?;
    let own = server.service_account_token("sluice-proxy", &[]).await?;
    let response = call("/open", &token).send(proxy.http).await?;
    assert_eq!((response.status, response.body.as_str()), (200, "open"));
    let user = format!("system:serviceaccount:{SYSTEM}:sluice-proxy");
    assert_eq!(response.header("x-account"), Some(&*user));
    for rejected in [&foreign, &own, "no.such.token"] {
        assert_eq!(call("/open", rejected).send(proxy.http).await?.status, 401);
    }
    let mut tampered = token.clone().into_bytes();
    let at = tampered.len() - 10;
    tampered[at] = if tampered[at] == b'A' { b'B' } else { b'A' };
    assert_eq!(call("/open", &String::from_utf8(tampered)?).send(proxy.http).await?.status, 401);

    // Without a role the call is rejected, and with one only what it allows.
    let denied = call("/reviewed", &token).send(proxy.http).await?;
    assert_eq!(denied.status, 403, "{}", denied.body);
    assert!(denied.body.contains("apiroutes/invoke"), "{}", denied.body);
    space
        .apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "caller"},
            "rules": [{"apiGroups": ["sluice.dev"], "resources": ["apiroutes/invoke"], "resourceNames": ["reviewed"], "verbs": ["get"]}],
        }))
        .await?;
    space
        .apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "caller"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "caller"},
            "subjects": [{"kind": "ServiceAccount", "name": "sluice-proxy", "namespace": SYSTEM}],
        }))
        .await?;
    responds(proxy, &call("/reviewed", &token), 200).await?;
    assert_eq!(call("/reviewed", &token).method(Method::POST).send(proxy.http).await?.status, 403);
    let other = server.service_account_token("sluice-operator", &[AUDIENCE]).await?;
    assert_eq!(call("/reviewed", &other).send(proxy.http).await?.status, 403);

    // A role that is gone: within the time that results are used.
    space.delete_of("rbac.authorization.k8s.io/v1", "RoleBinding", "caller").await?;
    responds(proxy, &call("/reviewed", &token), 403).await?;

    // Without an operator tokens are still verified, and nothing is reviewed.
    fleet.operator.kill();
    let proxy = fleet.proxies.first().context("no proxies")?;
    assert_eq!(call("/open", &token).send(proxy.http).await?.status, 200);
    let not_asked_yet = call("/reviewed", &other).method(Method::POST);
    assert_eq!(not_asked_yet.send(proxy.http).await?.status, 503);
    // And reviewed again with the operator.
    fleet.operator.start().await?;
    let proxy = fleet.proxies.first().context("no proxies")?;
    responds(proxy, &not_asked_yet, 403).await
}
