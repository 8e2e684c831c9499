//! The request that `sluice explain` builds: API keys, whose values are not printed, and signatures.

use crate::explain::{explain, json};
use crate::harness::Folder;

#[test]
fn no_value_of_a_key_is_printed() {
    const VALUE: &str = "example-key-of-globex";
    const NAME: &str = "{apiKey:default/globex}";
    let folder = Folder::copy_of("api-key");
    let manifests = folder.read("api.yaml");
    let found = manifests.find("    - name: reports\n").unwrap();
    let mut changed = manifests.clone();
    changed.insert_str(
        found,
        "    - name: forwarded
      methods: [GET]
      path: /forwarded/{id}
      apiKey: None
      integration: {type: Http, http: {url: 'https://backend.example/{id}'}}
      request: {headers: {set: [{name: x-id, value: '${request.path.id} ${request.querystring.key}'}]}}
",
    );
    folder.write("api.yaml", &changed);
    let base = "http://127.0.0.1:8080";
    let (by_name, by_value) =
        (format!("{base}/forwarded/{NAME}?key={NAME}"), format!("{base}/forwarded/{VALUE}?key={VALUE}"));
    let (host, missing) = (format!("http://{NAME}/a"), format!("{base}/nothing/{NAME}"));
    let header = format!("x-other: a {NAME}");
    for url in [&by_name, &by_value, &host, &missing] {
        for format in ["text", "json"] {
            let output = explain(&folder.0, &["GET", url, "-H", &header, "--output", format]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(text.contains(NAME) && !text.to_ascii_lowercase().contains(VALUE), "{url}: {text}");
        }
    }
    let forwarded = json(&folder.0, &["GET", &by_name]);
    assert_eq!(forwarded["upstream"]["target"], format!("/{NAME}?key={NAME}"));
    assert_eq!(forwarded["rule"]["parameters"]["id"], NAME);
    let set = forwarded["upstream"]["setHeaders"].as_array().unwrap();
    assert!(set.contains(&serde_json::json!(["x-id", format!("{NAME} {NAME}")])), "{set:?}");
    // The key is sent nevertheless.
    assert_eq!(json(&folder.0, &["GET", &format!("{base}/query/catalogue?key={NAME}")])["outcome"], "responded");
    for url in [format!("ftp://{NAME}"), format!("http://user@{NAME}/"), format!("http://a:{NAME}/")] {
        let output = explain(&folder.0, &["GET", &url]);
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{url}");
        assert!(text.contains(NAME) && !text.contains(VALUE), "{text}");
    }
}

#[test]
fn a_request_is_signed_for_the_authorizer_of_its_rule() {
    let folder = Folder::copy_of("iam");
    let other = "\
apiVersion: sluice.dev/v1alpha1
kind: Authorizer
metadata: {name: another, namespace: shop}
spec:
  type: Iam
  iam: {regions: [us-east-1], service: lambda}
---
apiVersion: sluice.dev/v1alpha1
kind: ApiRoute
metadata: {name: another, namespace: shop}
spec:
  stages: [{name: iam}]
  authorization: {type: Authorizer, authorizer: {name: another}}
  rules:
    - {name: another, methods: [GET], path: /another, integration: {type: Mock, mock: {status: 200}}}
";
    folder.write("other.yaml", other);
    for (path, authorizer) in [("/orders", "shop/aws"), ("/another", "shop/another")] {
        let url = format!("http://127.0.0.1:8080{path}");
        let found = json(&folder.0, &["GET", &url, "--principal", "shop/reporting"]);
        let (name, decision) = (&found["authorizer"]["name"], &found["authorizer"]["decision"]);
        assert_eq!((name, decision), (&authorizer.into(), &"allowed".into()), "{found}");
    }
}
