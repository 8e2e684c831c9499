//! Principals: the operator generates an access key once, and reports its id.

use base64::Engine as _;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::fixtures::{mock, route, stage};
use crate::harness::api_server::ApiServer;
use crate::harness::objects::Space;
use crate::harness::programs::Fleet;
use crate::harness::signature::{Credentials, signed};
use sluice_kit::{SOON, until as eventually};

const API: &str = "sluice.dev/v1alpha1";
const HOST: &str = "last-use.example";

/// The id and the secret in a Secret.
async fn access_key(space: &Space, secret: &str) -> anyhow::Result<(String, String)> {
    let found = space.get_of("v1", "Secret", secret).await?;
    let text = |name: &str| -> anyhow::Result<String> {
        let encoded = found["data"][name].as_str().unwrap_or_default();
        Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded)?)?)
    };
    Ok((text("AWS_ACCESS_KEY_ID")?, text("AWS_SECRET_ACCESS_KEY")?))
}

#[tokio::test]
async fn a_generated_access_key_is_owned_reported_and_kept_by_a_restarted_operator() -> anyhow::Result<()> {
    let server = ApiServer::start("principals").await?;
    let mut fleet = Fleet::start(&server).await?;
    let space = Space::new(server.client().await?, "principals").await?;
    let statement = json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"});
    let authorizer = json!({"apiVersion": API, "kind": "Authorizer", "metadata": {"name": "aws"}, "spec": {"type": "Iam", "iam": {}}});
    let principal = |name: &str, spec: Value| json!({"apiVersion": API, "kind": "Principal", "metadata": {"name": name}, "spec": spec});
    let policies = json!([{"name": "all", "document": {"Version": "2012-10-17", "Statement": [statement]}}]);
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "aws"}});
    for object in [stage("prod", "principals.example"), authorizer, guarded] {
        space.apply(&object).await?;
    }
    space.apply(&principal("reporting", json!({"policies": policies}))).await?;
    for type_ in ["Accepted", "ResolvedRefs"] {
        space.condition("Principal", "reporting", type_, |found| found.status == "True").await?;
    }
    space.programmed_on_both("Principal", "reporting").await?;
    let (id, secret) = access_key(&space, "reporting-access-key").await?;
    assert!(id.len() == 20 && secret.len() == 40, "{id}");
    let owner = space.get_of("v1", "Secret", "reporting-access-key").await?["metadata"]["ownerReferences"][0].take();
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Principal"), &json!("reporting")));
    let reported = space.get("Principal", "reporting").await?;
    assert_eq!(reported["status"]["accessKeys"], json!([{"id": id}]));
    assert_eq!(reported["status"]["arn"], "arn:aws:iam::000000000000:user/reporting");
    assert!(!reported.to_string().contains(&secret), "a status never has a secret");

    // A second Principal with the same id does not take it, and the message does not have the secret.
    let data = json!({"AWS_ACCESS_KEY_ID": id, "AWS_SECRET_ACCESS_KEY": "another-secret-of-it"});
    space
        .apply(&json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "copied"}, "stringData": data}))
        .await?;
    space
        .apply(&principal("copied", json!({"accessKeys": [{"secret": {"name": "copied"}}], "policies": policies})))
        .await?;
    let conflict = space.condition("Principal", "copied", "Accepted", |found| found.reason == "Conflicted").await?;
    assert!(conflict.message.contains(&id) && !conflict.message.contains("another-secret"), "{conflict:?}");

    fleet.operator.kill();
    fleet.operator.start().await?;
    // Once a new object has a status, the old ones have been translated.
    space.apply(&principal("marker", json!({"policies": policies}))).await?;
    space.condition("Principal", "marker", "Accepted", |found| found.status == "True").await?;
    assert_eq!(access_key(&space, "reporting-access-key").await?, (id.clone(), secret));

    // Another policy that cannot be evaluated: nothing of the Principal is accepted.
    let bad = json!([{"document": {"Statement": {"Effect": "Allow", "Action": "execute-api:Invoke"}}}]);
    space.apply(&principal("reporting", json!({"policies": bad}))).await?;
    let rejected = space.condition("Principal", "reporting", "Accepted", |found| found.status == "False").await?;
    assert!(rejected.message.starts_with("spec.policies[0].document.Statement"), "{rejected:?}");
    // The id remains this Principal's.
    let kept = space.get("Principal", "reporting").await?["status"]["accessKeys"].take();
    assert_eq!(kept, json!([{"id": id}]));
    Ok(())
}

#[tokio::test]
async fn the_last_use_of_an_access_key_is_reported_once_and_kept_by_a_restarted_operator() -> anyhow::Result<()> {
    let server = ApiServer::start("last-use").await?;
    let mut fleet = Fleet::of(&server, 1).await?;
    let space = Space::new(server.client().await?, "last-use").await?;
    let statement = json!({"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"});
    let policies = json!([{"document": {"Version": "2012-10-17", "Statement": [statement]}}]);
    let mut guarded = route("guarded", "prod", "/guarded", mock("guarded"));
    guarded["spec"]["authorization"] = json!({"type": "Authorizer", "authorizer": {"name": "aws"}});
    let object = |kind: &str, name: &str, spec: Value| json!({"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec});
    for object in [
        stage("prod", HOST),
        object("Authorizer", "aws", json!({"type": "Iam", "iam": {}})),
        guarded,
        object("Principal", "used", json!({"policies": policies})),
        object("Principal", "unused", json!({"policies": policies})),
    ] {
        space.apply(&object).await?;
    }
    for name in ["used", "unused"] {
        space.programmed("Principal", name).await?;
    }
    space.programmed("ApiRoute", "guarded").await?;
    let key = access_key(&space, "used-access-key").await?;
    let proxy = fleet.proxies[0].http;
    let call = |(id, secret): &(String, String)| {
        let by = Credentials { id: id.clone(), secret: secret.clone(), session_token: None };
        signed(HOST, "/guarded", &by)
    };

    // A request with a wrong signature is no use.
    let (id, _) = &key;
    let began = Timestamp::now().as_second() / 60 * 60;
    assert_eq!(call(&(id.clone(), "another-secret-of-it".to_owned())).send(proxy).await?.status, 401);
    assert_eq!(call(&key).send(proxy).await?.status, 200);
    let last_used = async |name: &str| -> anyhow::Result<Value> {
        Ok(space.get("Principal", name).await?["status"]["accessKeys"][0]["lastUsed"].take())
    };
    eventually("the last use is reported", SOON, || async {
        anyhow::ensure!(last_used("used").await?.is_string(), "it is not");
        Ok::<_, anyhow::Error>(())
    })
    .await?;
    let time = last_used("used").await?;
    let second = time.as_str().unwrap_or_default().parse::<Timestamp>()?.as_second();
    assert!(second >= began && second <= Timestamp::now().as_second() && second % 60 == 0, "{time}");
    assert!(last_used("unused").await?.is_null());

    // Another operator keeps it, also when it writes the status for another reason.
    fleet.operator.kill();
    fleet.operator.start().await?;
    space.apply(&object("Principal", "used", json!({"policies": []}))).await?;
    space.programmed("Principal", "used").await?;
    assert_eq!((last_used("used").await?, last_used("unused").await?), (time, Value::Null));
    Ok(())
}
