//! References to other namespaces: each reference field of each kind, with and without a ReferenceGrant.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use sluice_crds::condition::{Status, reason};
use sluice_crds::reference::{FIELDS, ReferenceField};
use sluice_kit::authority::Authority;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, ObjectKey};
use sluice_operator::translate::{Translation, Translator};

use crate::objects::object;

const ALLOW: &str = r#"{"Statement":{"Effect":"Allow","Action":"execute-api:Invoke","Resource":"*"}}"#;

/// The namespace of the objects that are referred to; those that refer are in `shop`.
pub(crate) const SHARED: &str = "shared";

/// A manifest of the kind of the field, with only this field referring to another namespace.
pub(crate) fn referrer(field: &ReferenceField) -> Value {
    let there = json!({"name": "target", "namespace": SHARED});
    let with = |mut value: Value, members: Value| {
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        value
    };
    let rule = |members: Value| {
        let mock = json!({"type": "Mock", "mock": {}});
        with(json!({"name": "a", "methods": ["GET"], "path": "/a", "integration": mock}), members)
    };
    let route = |members: Value, rule: Value| {
        let authorization = json!({"type": "None"});
        with(json!({"stages": [{"name": "local"}], "authorization": authorization, "rules": [rule]}), members)
    };
    let authorization = json!({"authorization": {"type": "Authorizer", "authorizer": there}});
    let jwks = |kind: &str, member: &str| {
        let source = json!({"type": kind, member: with(there.clone(), json!({"key": "jwks.json"}))});
        let issuer = json!({"issuer": "https://idp.example", "audiences": ["a"], "jwks": source});
        json!({"type": "Jwt", "jwt": {"issuers": [issuer]}})
    };
    let trusting = |kind: &str, member: &str| {
        let tls = json!({"ca": {"type": kind, member: there}});
        json!({"name": "local", "port": 80, "tls": tls})
    };
    let function = |type_: &str, member: &str, value: Value| {
        let lambda = json!({"event": "Token", "function": {"type": type_, member: value}});
        json!({"type": "Lambda", "lambda": lambda})
    };
    let invoked = |service: Value| json!({"functionName": "a", "region": "eu-west-1", "service": service});
    let ca = |kind: &str, member: &str| {
        let service = trusting(kind, member);
        route(json!({}), rule(json!({"integration": {"type": "Service", "service": service}})))
    };
    let local_ca = json!([{"type": "ConfigMap", "configMap": {"name": "local"}}]);
    let client_auth = |ca: Value, revocation: Option<Value>| {
        let settings = json!({"ca": ca, "revocation": revocation.unwrap_or_else(|| json!([]))});
        json!({"tls": {"certificates": [{"name": "local"}], "clientAuth": settings}})
    };
    let throttle = json!({"route": there, "rule": "a", "rate": 1, "burst": 1});
    let spec = match (field.kind, field.path) {
        ("ApiKey", "spec.plans[]") => json!({"plans": [there], "secret": {"name": "local"}}),
        ("ApiKey", "spec.secret") => json!({"secret": there}),
        ("ApiRoute", "spec.authorization.authorizer") => route(authorization, rule(json!({}))),
        ("ApiRoute", "spec.rules[].authorization.authorizer") => route(json!({}), rule(authorization)),
        ("ApiRoute", "spec.rules[].integration.service") => {
            let service = with(there, json!({"port": 80}));
            route(json!({}), rule(json!({"integration": {"type": "Service", "service": service}})))
        }
        ("ApiRoute", "spec.rules[].integration.service.tls.ca.configMap") => ca("ConfigMap", "configMap"),
        ("ApiRoute", "spec.rules[].integration.service.tls.ca.secret") => ca("Secret", "secret"),
        ("ApiRoute", "spec.stages[]") => route(json!({"stages": [there]}), rule(json!({}))),
        ("Authorizer", "spec.introspection.client.secret") => {
            let client = json!({"id": "gateway", "secret": there});
            let introspection = json!({"url": "https://idp.example/introspect", "client": client, "anyAudience": true});
            json!({"type": "Introspection", "introspection": introspection})
        }
        ("Authorizer", "spec.lambda.function.invoke.credentials") => {
            let invoke = json!({"functionName": "authorizer", "region": "eu-west-1", "credentials": there});
            function("Invoke", "invoke", invoke)
        }
        ("Authorizer", "spec.lambda.function.invoke.service") => {
            function("Invoke", "invoke", invoked(with(there, json!({"port": 80}))))
        }
        ("Authorizer", "spec.lambda.function.invoke.service.tls.ca.configMap") => {
            function("Invoke", "invoke", invoked(trusting("ConfigMap", "configMap")))
        }
        ("Authorizer", "spec.lambda.function.invoke.service.tls.ca.secret") => {
            function("Invoke", "invoke", invoked(trusting("Secret", "secret")))
        }
        ("Authorizer", "spec.lambda.function.service") => {
            function("Service", "service", with(there, json!({"port": 80})))
        }
        ("Authorizer", "spec.lambda.function.service.tls.ca.configMap") => {
            function("Service", "service", trusting("ConfigMap", "configMap"))
        }
        ("Authorizer", "spec.lambda.function.service.tls.ca.secret") => {
            function("Service", "service", trusting("Secret", "secret"))
        }
        ("Authorizer", "spec.jwt.issuers[].jwks.configMap") => jwks("ConfigMap", "configMap"),
        ("Authorizer", "spec.jwt.issuers[].jwks.secret") => jwks("Secret", "secret"),
        ("Principal", "spec.accessKeys[].secret") => json!({"accessKeys": [{"secret": there}]}),
        ("Principal", "spec.policies[].configMap") => {
            json!({"accessKeys": [{"secret": {"name": "local"}}], "policies": [{"configMap": there}]})
        }
        ("Stage", "spec.tls.certificates[]") => json!({"tls": {"certificates": [there]}}),
        ("Stage", "spec.tls.clientAuth.ca[].configMap") => {
            client_auth(json!([{"type": "ConfigMap", "configMap": there}]), None)
        }
        ("Stage", "spec.tls.clientAuth.ca[].secret") => client_auth(json!([{"type": "Secret", "secret": there}]), None),
        ("Stage", "spec.tls.clientAuth.revocation[].configMap") => {
            client_auth(local_ca, Some(json!([{"type": "ConfigMap", "configMap": there}])))
        }
        ("Stage", "spec.tls.clientAuth.revocation[].secret") => {
            client_auth(local_ca, Some(json!([{"type": "Secret", "secret": there}])))
        }
        ("UsagePlan", "spec.stages[]") => json!({"stages": [there]}),
        ("UsagePlan", "spec.stages[].throttles[].route") => {
            json!({"stages": [{"name": "local", "throttles": [throttle]}]})
        }
        other => panic!("this test does not know the field {other:?}: add a manifest with it"),
    };
    json!({"kind": field.kind, "metadata": {"name": "referrer", "namespace": "shop"}, "spec": spec})
}

/// An object that can be referred to.
pub(crate) fn target(kind: &str, namespace: &str, name: &str) -> Value {
    let metadata = json!({"name": name, "namespace": namespace});
    let key_set = r#"{"keys":[{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#;
    let mock = json!({"type": "Mock", "mock": {}});
    let certificate = rcgen::generate_simple_self_signed(["shared.example".to_owned()]).unwrap();
    let list = Authority::new("Shared").revocation_list(&[], 2090);
    match kind {
        "Secret" => json!({"kind": kind, "metadata": metadata, "stringData": {
            "jwks.json": key_set, "api-key": format!("sk_{:030}", namespace.len()), "client-secret": "s3cret",
            "AWS_ACCESS_KEY_ID": format!("SLCEAAAAAAAA{:08}", namespace.len()), "AWS_SECRET_ACCESS_KEY": "s3cret".repeat(4),
            "tls.crt": certificate.cert.pem(), "ca.crt": certificate.cert.pem(), "ca.crl": list, "tls.key": certificate.signing_key.serialize_pem(),
        }}),
        "ConfigMap" => json!({"kind": kind, "metadata": metadata, "data": {
            "jwks.json": key_set, "ca.crt": certificate.cert.pem(), "ca.crl": list, "policy.json": ALLOW,
        }}),
        "Service" => json!({"kind": kind, "metadata": metadata, "spec": {"ports": [{"port": 80}]}}),
        "Stage" => json!({"kind": kind, "metadata": metadata, "spec": {"hostnames": [format!("{namespace}.example")]}}),
        "UsagePlan" => json!({"kind": kind, "metadata": metadata, "spec": {"stages": [{"name": "target"}]}}),
        "Authorizer" => json!({"kind": kind, "metadata": metadata, "spec": {"type": "Jwt", "jwt": {"issuers": [{
            "issuer": "https://idp.example", "audiences": ["a"],
        }]}}}),
        "ApiRoute" => json!({"kind": kind, "metadata": metadata, "spec": {
            "stages": [{"name": "target"}], "authorization": {"type": "None"},
            "rules": [{"name": "a", "methods": ["GET"], "path": "/other", "integration": mock}],
        }}),
        other => panic!("this test has no {other}"),
    }
}

fn group(kind: &str) -> String {
    Kind::named(kind).unwrap().group()
}

pub(crate) fn grant(namespace: &str, from: (&str, &str), to: &str) -> Value {
    json!({"kind": "ReferenceGrant", "metadata": {"name": "grant", "namespace": namespace}, "spec": {
        "from": [{"group": group(from.0), "kind": from.0, "namespace": from.1}],
        "to": [{"group": group(to), "kind": to}],
    }})
}

/// The conditions of the referrer that are False, as reasons, and the messages.
fn broken(translation: &Translation, kind: &str) -> Vec<(&'static str, String)> {
    let status = &translation.statuses[&sluice_wire::ObjectRef::new(kind, "shop", "referrer")];
    let broken = status.conditions.iter().filter(|condition| condition.status != Status::True);
    broken.map(|condition| (condition.reason, condition.message.clone())).collect()
}

/// The state without any grant: the targets are there, and so are local objects that the other fields refer to.
fn state(field: &ReferenceField) -> ClusterState {
    let mut state = ClusterState::default();
    for kind in ["Stage", "Secret", "ApiRoute", "UsagePlan", "Authorizer", "Service", "ConfigMap"] {
        state.apply(object(target(kind, SHARED, "target")));
    }
    state.apply(object(target("Stage", "shop", "local")));
    state.apply(object(target("Secret", "shop", "local")));
    state.apply(object(target("Service", "shop", "local")));
    state.apply(object(target("ConfigMap", "shop", "local")));
    state.apply(object(referrer(field)));
    state
}

#[test]
fn a_reference_to_another_namespace_needs_a_grant_there_for_these_kinds_and_ends_with_it() {
    for field in FIELDS.iter().filter(|field| (field.kind, field.path) != ("ApiRoute", "spec.stages[]")) {
        let name = format!("{} {}", field.kind, field.path);
        let other_kind = if field.target == "Secret" { "ConfigMap" } else { "Secret" };
        let other_from = if field.kind == "Stage" { "ApiRoute" } else { "Stage" };
        for (case, written) in [
            ("no grant", None),
            ("a grant in the namespace of the referrer", Some(grant("shop", (field.kind, "shop"), field.target))),
            ("a grant in a third namespace", Some(grant("third", (field.kind, "shop"), field.target))),
            ("a grant for another target kind", Some(grant(SHARED, (field.kind, "shop"), other_kind))),
            ("a grant for another referring kind", Some(grant(SHARED, (other_from, "shop"), field.target))),
            ("a grant for another referring namespace", Some(grant(SHARED, (field.kind, "third"), field.target))),
        ] {
            let mut state = state(field);
            written.into_iter().for_each(|written| state.apply(object(written)));
            let found = broken(&Translator::new().translate(&state), field.kind);
            assert!(found.iter().any(|(why, _)| *why == reason::REF_NOT_PERMITTED), "{name}, {case}: {found:?}");
            // The message is the same for an object that does not exist.
            state.remove(Kind::named(field.target).unwrap(), &ObjectKey::new(SHARED, "target"));
            let without = broken(&Translator::new().translate(&state), field.kind);
            assert_eq!(without, found, "{name}, {case}: the message discloses whether the object exists");
        }
    }
}

#[test]
fn a_grant_takes_effect_and_is_withdrawn_while_running() {
    for field in FIELDS.iter().filter(|field| (field.kind, field.path) != ("ApiRoute", "spec.stages[]")) {
        let name = format!("{} {}", field.kind, field.path);
        let mut state = state(field);
        let mut translator = Translator::new();
        let before = translator.translate(&state);
        let key = (Kind::ReferenceGrant, ObjectKey::new(SHARED, "grant"));
        state.apply(object(grant(SHARED, (field.kind, "shop"), field.target)));
        let granted = translator.translate_changed(&state, &BTreeSet::from([key.clone()])).unwrap();
        assert_eq!(broken(&granted, field.kind), [], "{name}");
        assert_eq!(granted, Translator::new().translate(&state), "{name}");
        assert_ne!(granted.parts.version(), before.parts.version(), "{name}: the grant changes what is served");
        state.remove(key.0, &key.1);
        let withdrawn = translator.translate_changed(&state, &BTreeSet::from([key])).unwrap();
        assert_eq!(withdrawn, before, "{name}: nothing of the granted object is left");
    }
}

#[test]
fn a_stage_accepts_routes_of_the_namespaces_that_it_names() {
    let field = FIELDS.iter().find(|field| (field.kind, field.path) == ("ApiRoute", "spec.stages[]")).unwrap();
    let namespace = |labels: Value| json!({"kind": "Namespace", "metadata": {"name": "shop", "labels": labels}});
    let selector = json!({"from": "Selector", "selector": {"matchLabels": {"tenant": "partner"}}});
    for (accepts, labels, attaches) in [
        (json!(null), json!({}), false),
        (json!({"namespaces": {"from": "Same"}}), json!({}), false),
        (json!({"namespaces": {"from": "All"}}), json!({}), true),
        (json!({"namespaces": selector}), json!({}), false),
        (json!({"namespaces": selector}), json!({"tenant": "other"}), false),
        (json!({"namespaces": selector}), json!({"tenant": "partner"}), true),
    ] {
        let mut state = state(field);
        let mut translator = Translator::new();
        translator.translate(&state);
        // A grant is not what a Stage accepts ApiRoutes by.
        state.apply(object(grant(SHARED, ("ApiRoute", "shop"), "Stage")));
        let mut stage = target("Stage", SHARED, "target");
        stage["spec"]["accepts"] = accepts.clone();
        if accepts.is_null() {
            stage["spec"].as_object_mut().unwrap().remove("accepts");
        }
        state.apply(object(stage));
        state.apply(object(namespace(labels.clone())));
        let translation = translator.translate(&state);
        assert_eq!(translation, Translator::new().translate(&state));
        let found = broken(&translation, "ApiRoute");
        let reasons: Vec<&str> = found.iter().map(|(why, _)| *why).collect();
        let expected: &[&str] = if attaches { &[] } else { &[reason::NOT_ALLOWED_BY_STAGE] };
        assert_eq!(reasons, expected, "{accepts} with labels {labels}: {found:?}");
        state.remove(Kind::Stage, &ObjectKey::new(SHARED, "target"));
        let gone = broken(&translator.translate(&state), "ApiRoute");
        assert_eq!(gone[0].0, reason::NOT_ALLOWED_BY_STAGE, "a Stage that does not exist has the same message");
    }
}

#[test]
fn a_route_that_a_stage_does_not_accept_takes_no_operation_from_those_that_it_accepts() {
    let mut state = ClusterState::default();
    state.apply(object(target("Stage", SHARED, "target")));
    let route = |namespace: &str, created: &str| {
        let mut route = target("ApiRoute", namespace, "referrer");
        route["metadata"]["creationTimestamp"] = json!(created);
        route["spec"]["stages"][0]["namespace"] = json!(SHARED);
        route
    };
    state.apply(object(route("shop", "2026-01-01T00:00:00Z")));
    state.apply(object(route(SHARED, "2026-02-01T00:00:00Z")));
    let translation = Translator::new().translate(&state);
    let status = &translation.statuses[&sluice_wire::ObjectRef::new("ApiRoute", SHARED, "referrer")];
    assert_eq!(status.problems, Vec::<&str>::new());
    assert_eq!(broken(&translation, "ApiRoute")[0].0, reason::NOT_ALLOWED_BY_STAGE);
}

/// The statuses and parts of the namespace `shop`, as text.
fn seen_by_shop(translation: &Translation) -> Vec<String> {
    let statuses = translation.statuses.sorted();
    let statuses = statuses.iter().filter(|(object, _)| &*object.namespace == "shop");
    let parts = translation.parts.iter().filter(|(name, _)| name.fields().namespace == "shop");
    let statuses = statuses.map(|(object, status)| format!("{object}: {status:?}"));
    statuses.chain(parts.map(|(name, part)| format!("{name}: {}", part.json))).collect()
}

#[test]
fn without_a_grant_nothing_in_a_namespace_depends_on_the_objects_of_another() {
    for field in FIELDS {
        let mut with = state(field);
        // Another fleet and another namespace's ApiRoutes: nothing of them may show either.
        let mut stage = target("Stage", SHARED, "target");
        stage["spec"]["fleet"] = json!({"name": "inner"});
        stage["spec"]["accepts"] = json!({"namespaces": {
            "from": "Selector", "selector": {"matchLabels": {"tenant": "partner"}},
        }});
        with.apply(object(stage));
        let mut without = with.clone();
        for kind in ["Stage", "Secret", "ApiRoute", "UsagePlan", "Authorizer", "Service", "ConfigMap"] {
            without.remove(Kind::named(kind).unwrap(), &ObjectKey::new(SHARED, "target"));
        }
        let (with, without) = (Translator::new().translate(&with), Translator::new().translate(&without));
        assert_eq!(seen_by_shop(&with), seen_by_shop(&without), "{} {}", field.kind, field.path);
    }
}

#[test]
fn a_stage_that_cannot_be_parsed_any_more_keeps_its_requests_until_it_is_removed() {
    let stage = |namespace: &str, host: &str, created: &str, behavior: &str| {
        object(json!({"kind": "Stage", "spec": {"hostnames": [host], "behavior": behavior}, "metadata": {
            "name": "prod", "namespace": namespace, "creationTimestamp": created,
        }}))
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let mut state = ClusterState::default();
    state.apply(stage("shop", "api.shop.example", old, "Native"));
    state.apply(stage("other", "*.shop.example", new, "Native"));
    state.apply(stage("third", "api.shop.example", new, "Native"));
    let mut translator = Translator::new();
    let hosts = |translation: &Translation, namespace: &str| -> Option<(Vec<String>, bool)> {
        let name = sluice_wire::PartName::of_object(sluice_wire::PartKind::Stage, namespace, "prod");
        let sluice_wire::PartBody::Stage(part) = translation.parts.get(&name)?.decode().unwrap() else { panic!() };
        Some((part.hostnames.iter().map(ToString::to_string).collect(), part.invalid.is_some()))
    };
    let api = |invalid| Some((vec!["api.shop.example".to_owned()], invalid));
    let key = ObjectKey::new("shop", "prod");
    translator.translate(&state);
    for (behavior, own) in [("OfANewerVersion", api(true)), ("Native", api(false)), ("OfANewerVersion", api(true))] {
        state.apply(stage("shop", "api.shop.example", old, behavior));
        let changed = BTreeSet::from([(Kind::Stage, key.clone())]);
        let translation = translator.translate_changed(&state, &changed).unwrap();
        assert_eq!(translation, Translator::new().translate(&state));
        assert_eq!((hosts(&translation, "shop"), hosts(&translation, "third")), (own, None), "{behavior}");
    }
    state.remove(Kind::Stage, &key);
    let translation = translator.translate_changed(&state, &BTreeSet::from([(Kind::Stage, key)])).unwrap();
    assert_eq!(translation, Translator::new().translate(&state));
    assert_eq!((hosts(&translation, "shop"), hosts(&translation, "third")), (None, None));
}

#[test]
fn a_namespace_shares_its_host_names_by_a_grant_from_stages_to_stages_and_comes_first() {
    let stage = |namespace: &str, name: &str, created: u8, host: &str, base: &str| {
        object(json!({"kind": "Stage", "metadata": {
            "name": name, "namespace": namespace, "creationTimestamp": format!("2026-01-01T00:00:{created:02}Z"),
        }, "spec": {"hostnames": [host], "basePath": base}}))
    };
    let mut state = ClusterState::default();
    state.apply(stage(SHARED, "owner", 1, "*.x.example", "/"));
    state.apply(stage("shop", "referrer", 2, "api.x.example", "/"));
    let mut translator = Translator::new();
    assert_eq!(broken(&translator.translate(&state), "Stage")[0].0, reason::CONFLICTED);
    let key = (Kind::ReferenceGrant, ObjectKey::new(SHARED, "grant"));
    // A grant to another Stage of the owner, or from another namespace, shares nothing.
    for (from, to) in [("third", "owner"), ("shop", "other")] {
        let mut wrong = grant(SHARED, ("Stage", from), "Stage");
        wrong["spec"]["to"][0]["name"] = json!(to);
        state.apply(object(wrong));
        let translation = translator.translate(&state);
        assert_eq!(broken(&translation, "Stage")[0].0, reason::CONFLICTED, "{from} {to}");
    }
    state.apply(object(grant(SHARED, ("Stage", "shop"), "Stage")));
    let shared = translator.translate_changed(&state, &BTreeSet::from([key.clone()])).unwrap();
    assert_eq!(broken(&shared, "Stage"), []);
    assert_eq!(shared, Translator::new().translate(&state));
    // The owner takes the base path back although its Stage is newer.
    state.apply(stage(SHARED, "newer", 3, "api.x.example", "/"));
    let taken = translator.translate(&state);
    let found = broken(&taken, "Stage");
    assert!(found[0].0 == reason::CONFLICTED && !found[0].1.contains("newer"), "{found:?}");
    state.remove(Kind::Stage, &ObjectKey::new(SHARED, "newer"));
    state.remove(key.0, &key.1);
    let ended = translator.translate(&state);
    assert_eq!(broken(&ended, "Stage")[0].0, reason::CONFLICTED);
    assert_eq!(ended, Translator::new().translate(&state));
}
