//! Manifests for the tests; the largest is the quickstart of the repository.

use serde_json::{Value, json};

use crate::harness::backend::{self, Backend};
use crate::harness::documents;
use crate::harness::identity::Identity;
use crate::harness::objects::Space;

/// A Stage for one host.
pub(crate) fn stage(name: &str, host: &str) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "Stage", "metadata": {"name": name},
        "spec": {"hostnames": [host], "accessLog": {"format": "None"}},
    })
}

/// An ApiRoute without an authorizer whose one rule is `GET path`.
pub(crate) fn route(name: &str, stage: &str, path: &str, integration: Value) -> Value {
    json!({
        "apiVersion": "sluice.dev/v1alpha1", "kind": "ApiRoute", "metadata": {"name": name},
        "spec": {
            "stages": [{"name": stage}], "authorization": {"type": "None"},
            "rules": [{"name": "only", "methods": ["GET"], "path": path, "integration": integration}],
        },
    })
}

/// A fixed response of the proxy.
pub(crate) fn mock(body: &str) -> Value {
    json!({"type": "Mock", "mock": {"status": 200, "headers": [{"name": "content-type", "value": "text/plain"}], "body": body}})
}

/// A Service of the namespace, port 80.
pub(crate) fn service(name: &str) -> Value {
    json!({"type": "Service", "service": {"name": name, "port": 80}})
}

/// `examples/quickstart` in a namespace, with another host, and with the backend and the identity provider of the test
/// instead of its Deployments, because no kubelet runs here.
pub(crate) async fn quickstart(
    space: &Space,
    host: &str,
    backend: &Backend,
    identity: &Identity,
) -> anyhow::Result<()> {
    space.apply(&identity.config_map()).await?;
    for mut object in documents("examples/quickstart")? {
        match object["kind"].as_str() {
            Some("Namespace" | "Deployment") => continue,
            Some("Stage") => object["spec"]["hostnames"] = json!([host]),
            Some("Authorizer") => {
                let issuer = &mut object["spec"]["jwt"]["issuers"][0];
                issuer["jwks"] = json!({"type": "ConfigMap", "configMap": {"name": "identity", "key": "jwks.json"}});
                issuer.as_object_mut().map(|issuer| issuer.remove("jwksUri"));
            }
            _ => {}
        }
        space.apply(&object).await?;
    }
    space.apply(&backend::endpoints("orders", 0, Some(backend))).await?;
    Ok(())
}
