//! Roles: Pods of ServiceAccounts get temporary credentials from the operator's token service, which asks the API server about their
//! tokens, and call the API with them.

use anyhow::Context as _;
use http::Method;
use serde_json::{Value, json};
use sluice_kit::client::{Session, get};
use sluice_kit::tls::client_config;
use sluice_kit::{Response, SOON, until as eventually};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::{ApiServer, SYSTEM};
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use crate::harness::signature::{Credentials, signed};

const API: &str = "sluice.dev/v1alpha1";
const HOST: &str = "roles.example";
const ROLE: &str = "arn:aws:iam::000000000000:role/reporting";
const AUDIENCE: &str = "sts.amazonaws.com";

/// `AssumeRoleWithWebIdentity`, over TLS.
async fn assume(fleet: &Fleet, token: &str) -> anyhow::Result<Response> {
    let body = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={ROLE}&RoleSessionName=nightly&WebIdentityToken={token}"
    );
    let call = get("sts.example", "/").method(Method::POST).body(body);
    let call = call.header("content-type", "application/x-www-form-urlencoded");
    let config = client_config(&[&fleet.issued], &["http/1.1"]);
    Session::open_tls(fleet.operator.sts, "127.0.0.1", config).await?.send(&call).await
}

fn field(body: &str, name: &str) -> String {
    let after = body.split_once(&format!("<{name}>")).map_or("", |(_, after)| after);
    after.split_once('<').map_or("", |(text, _)| text).to_owned()
}

fn credentials(response: &Response) -> Credentials {
    let [id, secret, token] =
        ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| field(&response.body, name));
    Credentials { id, secret, session_token: Some(token) }
}

fn role(trusted: &str) -> Value {
    let statement = json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"});
    let document = json!({"Version": "2012-10-17", "Statement": [statement]});
    let trust = json!([{"serviceAccount": {"name": trusted, "namespace": SYSTEM}}]);
    let spec = json!({"trust": trust, "policies": [{"document": document}]});
    json!({"apiVersion": API, "kind": "Principal", "metadata": {"name": "reporting"}, "spec": spec})
}

#[tokio::test]
async fn a_service_account_gets_credentials_and_calls_with_them() -> anyhow::Result<()> {
    let server = ApiServer::start("roles").await?;
    let mut fleet = Fleet::of(&server, 1).await?;
    let space = Space::new(server.client().await?, "roles").await?;
    let authorizer = json!({"apiVersion": API, "kind": "Authorizer", "metadata": {"name": "aws"}, "spec": {"type": "Iam", "iam": {}}});
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "aws"}});
    let name = json!([{"name": "x-caller", "value": "${context.identity.userArn}"}]);
    guarded["spec"]["rules"][0]["response"] = json!({"headers": {"set": name}});
    for object in [stage("prod", HOST), authorizer, guarded, role("sluice-proxy")] {
        space.apply(&object).await?;
    }
    space.programmed("Principal", "reporting").await?;
    space.programmed("ApiRoute", "guarded").await?;
    let proxy = fleet.proxies.first().context("no proxies")?.http;
    let secret = space.get_of("v1", "Secret", "reporting-session-key").await?;
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], json!("reporting"));

    // Tokens of the right and of another audience, of another account, of the API server's own audience, and none.
    let token = server.service_account_token("sluice-proxy", &[AUDIENCE]).await?;
    let stranger = server.service_account_token("sluice-operator", &[AUDIENCE]).await?;
    let foreign = server.service_account_token("sluice-proxy", &["other.example"]).await?;
    let own = server.service_account_token("sluice-proxy", &[]).await?;
    let forged: String = token.chars().take(token.len() - 4).chain("AAAA".chars()).collect();
    for (token, status, code) in [
        (&*stranger, 403, "AccessDenied"),
        (&*foreign, 400, "InvalidIdentityToken"),
        (&*own, 400, "InvalidIdentityToken"),
        (&*forged, 400, "InvalidIdentityToken"),
        ("no.such.token", 400, "InvalidIdentityToken"),
    ] {
        let response = assume(&fleet, token).await?;
        assert_eq!((response.status, &*field(&response.body, "Code")), (status, code), "{}", response.body);
    }
    let response = assume(&fleet, &token).await?;
    assert_eq!(response.status, 200, "{}", response.body);
    assert_eq!(
        field(&response.body, "SubjectFromWebIdentityToken"),
        format!("system:serviceaccount:{SYSTEM}:sluice-proxy")
    );
    let session = credentials(&response);
    let called = signed(HOST, "/guarded", &session).send(proxy).await?;
    assert_eq!(called.status, 200, "{}", called.body);
    assert_eq!(called.header("x-caller"), Some("arn:aws:sts::000000000000:assumed-role/reporting/nightly"));
    let without = Credentials { session_token: None, ..session.clone() };
    assert_eq!(signed(HOST, "/guarded", &without).send(proxy).await?.status, 401);

    // Without an operator the session is valid, and after its restart it is as well: nothing is stored.
    fleet.operator.kill();
    assert_eq!(signed(HOST, "/guarded", &session).send(proxy).await?.status, 200);
    fleet.operator.start().await?;
    let again = eventually("the service knows its roles", SOON, || async {
        let response = assume(&fleet, &token).await?;
        anyhow::ensure!(response.status == 200, "{}", response.body);
        Ok::<_, anyhow::Error>(response)
    });
    let again = credentials(&again.await?);
    for session in [&session, &again] {
        assert_eq!(signed(HOST, "/guarded", session).send(proxy).await?.status, 200);
    }

    // A ServiceAccount that is trusted no more gets no session. Without the session key those that it had end.
    space.apply(&role("sluice-operator")).await?;
    eventually("the trust has ended", SOON, || async {
        let response = assume(&fleet, &token).await?;
        anyhow::ensure!(response.status == 403, "{}", response.body);
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    assert_eq!(signed(HOST, "/guarded", &session).send(proxy).await?.status, 200);
    space.delete_of("v1", "Secret", "reporting-session-key").await?;
    eventually("the sessions have ended", SOON, || async {
        let response = signed(HOST, "/guarded", &session).send(proxy).await?;
        anyhow::ensure!(response.status == 401, "{} {}", response.status, response.body);
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let fresh = eventually("another session key is generated", SOON, || async {
        let response = assume(&fleet, &stranger).await?;
        anyhow::ensure!(response.status == 200, "{}", response.body);
        let called = signed(HOST, "/guarded", &credentials(&response)).send(proxy).await?;
        anyhow::ensure!(called.status == 200, "{}", called.body);
        Ok::<_, anyhow::Error>(())
    });
    fresh.await
}
