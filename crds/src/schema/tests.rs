//! Validation of objects, one test per kind of error.

use serde_json::json;

use super::*;

fn stage(spec: Value) -> Value {
    json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stage", "metadata": {"name": "prod"}, "spec": spec})
}

fn errors_of(kind: &str, mut object: Value) -> Vec<String> {
    validators().unwrap()[kind].validate(&mut object).iter().map(ToString::to_string).collect()
}

#[test]
fn every_schema_compiles() {
    assert_eq!(validators().unwrap().len(), 6);
}

#[test]
fn defaults_are_those_of_the_types() {
    let mut object = stage(json!({"cache": {}}));
    assert_eq!(validators().unwrap()["Stage"].validate(&mut object), []);
    let by_types: crate::Stage = serde_json::from_value(stage(json!({"cache": {}}))).unwrap();
    let by_schema: crate::Stage = serde_json::from_value(object.clone()).unwrap();
    assert_eq!(by_types, by_schema);
    assert_eq!(object["spec"]["cache"]["ttl"], json!("5m"));
    assert_eq!(object["spec"]["basePath"], json!("/"));
}

#[test]
fn null_is_absent() {
    let mut object = stage(json!({"basePath": null, "tls": null}));
    assert_eq!(validators().unwrap()["Stage"].validate(&mut object), []);
    assert_eq!(object["spec"]["basePath"], json!("/"));
    assert!(object["spec"].get("tls").is_none());
}

#[test]
fn an_unknown_field_is_rejected_with_a_suggestion() {
    assert_eq!(
        errors_of("Stage", stage(json!({"hostname": ["a.example"]}))),
        ["There is no field spec.hostname. Did you mean hostnames?"]
    );
}

#[test]
fn a_wrong_type_an_unknown_value_and_an_invalid_string_are_rejected() {
    assert_eq!(
        errors_of("Stage", stage(json!({"hostnames": "a.example"}))),
        ["spec.hostnames must be a list, but it is \"a.example\". Write it as a list: [a.example]."]
    );
    assert_eq!(
        errors_of("Stage", stage(json!({"behavior": "awsRest"}))),
        ["spec.behavior cannot be \"awsRest\": it must be one of Native, AwsRest or AwsHttp. Did you mean AwsRest?"]
    );
    assert_eq!(
        errors_of("Stage", stage(json!({"basePath": "v1/"}))),
        [
            "spec.basePath cannot be \"v1/\": a base path begins with /, does not end with one, and has no empty segments. \
          Write /v1."
        ]
    );
    assert_eq!(
        errors_of("Stage", stage(json!({"basePath": true}))),
        ["spec.basePath must be a string, but it is true. Example: /v1."]
    );
}

#[test]
fn a_missing_field_is_reported_at_its_place() {
    assert_eq!(
        errors_of("Stage", stage(json!({"tls": {}}))),
        ["spec.tls requires the field certificates. Example: [{name: api-shop-tls}]."]
    );
    let mut object = stage(json!({}));
    object.as_object_mut().unwrap().remove("spec");
    assert_eq!(errors_of("Stage", object), ["The field spec is missing."]);
}

#[test]
fn bounds_of_numbers_lists_and_sizes_hold() {
    assert_eq!(
        errors_of("Stage", stage(json!({"throttle": {"rate": 0, "burst": 0}}))),
        [
            "spec.throttle.burst cannot be 0: it must be from 1 to 1000000. Example: 200.",
            "spec.throttle.rate cannot be 0: it must be from 1 to 1000000. Example: 100.",
        ]
    );
    assert_eq!(
        errors_of("Stage", stage(json!({"throttle": {"rate": 0.5, "burst": 1}}))),
        ["spec.throttle.rate must be an integer, but it is 0.5. Example: 100."]
    );
    let many: Vec<String> = (0..33).map(|n| format!("h{n}.example")).collect();
    assert_eq!(
        errors_of("Stage", stage(json!({"hostnames": many}))),
        ["spec.hostnames has 33 items; at most 32 are allowed."]
    );
    for size in [json!("64Mi"), json!(1024), json!(1024.0), json!("1")] {
        assert!(errors_of("Stage", stage(json!({"cache": {"maxBytes": size}}))).is_empty(), "{size}");
    }
    for size in [json!("64MB"), json!(0), json!("0"), json!(1.5), json!(true)] {
        assert_eq!(errors_of("Stage", stage(json!({"cache": {"maxBytes": size}}))).len(), 1, "{size}");
    }
}

#[test]
fn a_duration_without_a_unit_is_reported_with_an_example() {
    for (found, number) in [("30", json!(30)), ("\"30\"", json!("30"))] {
        let errors = errors_of("Stage", stage(json!({"cache": {"ttl": number}})));
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert!(errors[0].starts_with("spec.cache.ttl ") && errors[0].contains(found), "{errors:?}");
        assert!(errors[0].ends_with("A duration needs a unit: write 30s for 30 seconds."), "{errors:?}");
    }
    assert_eq!(
        errors_of("Stage", stage(json!({"cache": {"ttl": "5 min"}}))),
        [
            "spec.cache.ttl cannot be \"5 min\": a duration has whole numbers of at most five digits with the units h, m, s or \
          ms, such as 30s or 1h30m. Write 5m."
        ]
    );
}

#[test]
fn an_item_that_repeats_an_identity_is_rejected() {
    assert_eq!(
        errors_of("Stage", stage(json!({"hostnames": ["a.example", "a.example"]}))),
        ["spec.hostnames[1] repeats the \"a.example\" of item 0. It must be unique in this list."]
    );
    let rule = json!({"name": "a", "methods": ["GET"], "path": "/a", "integration": {"type": "Mock", "mock": {}}});
    let spec = json!({"stages": [{"name": "prod"}], "authorization": {"type": "None"}, "rules": [rule, rule]});
    assert_eq!(
        errors_of("ApiRoute", json!({"metadata": {"name": "orders"}, "spec": spec})),
        ["spec.rules[1] repeats the name \"a\" of item 0. It must be unique in this list."]
    );
    let plan = json!({"metadata": {"name": "gold"}, "spec": {"stages": [{"name": "prod"}, {"name": "prod"}]}});
    assert_eq!(errors_of("UsagePlan", plan), ["spec.stages: each Stage may be listed once."]);
}

#[test]
fn a_violated_rule_is_reported_with_its_message_and_place() {
    let mut object = stage(json!({"cors": {"allowOrigins": ["*"], "allowCredentials": true}}));
    let errors = validators().unwrap()["Stage"].validate(&mut object);
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].path.to_string(), "spec.cors");
    assert!(errors[0].message.starts_with("spec.cors: allowCredentials cannot be combined"), "{}", errors[0].message);
}

#[test]
fn a_long_api_key_name_leaves_room_for_its_secret() {
    let key = |length: usize| json!({"metadata": {"name": "k".repeat(length)}, "spec": {}});
    assert!(errors_of("ApiKey", key(245)).is_empty());
    let errors = errors_of("ApiKey", key(246));
    assert!(errors.len() == 1 && errors[0].starts_with("metadata.name has 246 characters; at most 245"), "{errors:?}");
    assert!(errors_of("Principal", key(242)).is_empty() && errors_of("Principal", key(243)).len() == 1);
}

#[test]
fn metadata_is_validated_as_strictly_as_the_rest() {
    let with = |metadata: Value| json!({"apiVersion": "sluice.dev/v1alpha1", "kind": "Stage", "metadata": metadata, "spec": {}});
    assert!(
        errors_of("Stage", with(json!({"name": "prod", "labels": {"a": "b"}, "uid": "1", "generation": 4}))).is_empty()
    );
    assert_eq!(
        errors_of("Stage", with(json!({"name": "prod", "lables": {}}))),
        ["There is no field metadata.lables. Did you mean labels?"]
    );
    assert_eq!(errors_of("Stage", with(json!({}))), ["metadata requires the field name. Example: orders."]);
    assert_eq!(errors_of("Stage", with(json!({"name": "Prod"}))).len(), 1);
    assert_eq!(errors_of("Stage", with(json!({"name": "prod", "annotations": {"a": 1}}))).len(), 1);
}

#[test]
fn an_endless_nesting_is_cut() {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut deep = json!(1);
    for _ in 0..200 {
        deep = json!({ "a": deep });
    }
    let mut object = json!({"metadata": {"name": "deep"}, "spec": deep});
    assert_eq!(SchemaValidator::new(&schema).unwrap().validate(&mut object), []);
}

#[test]
fn a_broken_schema_is_reported() {
    assert!(matches!(
        SchemaValidator::new(&json!({"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}})),
        Err(SchemaError::Pattern { .. })
    ));
    let rule = json!({"type": "object", "x-kubernetes-validations": [{"rule": "self.", "message": "m"}]});
    assert!(matches!(SchemaValidator::new(&rule), Err(SchemaError::Rule { .. })));
}

/// A route whose only rule has these fields besides what it needs.
fn route(rule: Value) -> Value {
    let mut whole = json!({"name": "a", "methods": ["GET"], "path": "/a", "integration": {"type": "Mock", "mock": {}}});
    for (name, value) in rule.as_object().unwrap() {
        whole[name] = value.clone();
    }
    let spec = json!({"stages": [{"name": "prod"}], "authorization": {"type": "None"}, "rules": [whole]});
    json!({"metadata": {"name": "orders"}, "spec": spec})
}

#[test]
fn advice_works_when_it_is_followed() {
    let ends = |object: Value, kind: &str, advice: &str| {
        let errors = errors_of(kind, object);
        assert!(errors.len() == 1 && errors[0].ends_with(advice), "{advice}: {errors:?}");
    };
    // The rule as it is written, its advice, and the rule with the advice followed.
    for (written, advice, followed) in [
        (json!({"timeout": 30}), "write 30s for 30 seconds.", json!({"timeout": "30s"})),
        (json!({"timeout": "30"}), "write 30s for 30 seconds.", json!({"timeout": "30s"})),
        (json!({"timeout": 3000}), "write 3000ms for 3000 milliseconds.", json!({"timeout": "3000ms"})),
        (json!({"timeout": 1.5}), "write 1s500ms for 1.5 seconds.", json!({"timeout": "1s500ms"})),
        (json!({"timeout": "2 minutes"}), "Write 2m.", json!({"timeout": "2m"})),
        (json!({"limits": {"body": "10MB"}}), "Write 10M.", json!({"limits": {"body": "10M"}})),
        (json!({"limits": {"body": "1.5Mi"}}), "Write 1536Ki.", json!({"limits": {"body": "1536Ki"}})),
        (json!({"methods": "GET"}), "Write it as a list: [GET].", json!({"methods": ["GET"]})),
        (json!({"methods": ["get"]}), "Did you mean GET?", json!({"methods": ["GET"]})),
        (json!({"path": "orders"}), "Write /orders.", json!({"path": "/orders"})),
        (json!({"path": "/orders?page=1"}), "Write /orders.", json!({"path": "/orders"})),
        (json!({"path": "/orders/<id>"}), "Write /orders/{id}.", json!({"path": "/orders/{id}"})),
        (json!({"path": "/orders/[...rest]"}), "Write /orders/{rest+}.", json!({"path": "/orders/{rest+}"})),
        (json!({"path": 42}), "Write /42.", json!({"path": "/42"})),
        (json!({"name": "Get_Order"}), "Write get-order.", json!({"name": "get-order"})),
        (json!({"name": 7}), "Put it in quotes: \"7\".", json!({"name": "7"})),
        (
            json!({"throttle": {"rate": "5", "burst": 5}}),
            "Write 5 without quotes.",
            json!({"throttle": {"rate": 5, "burst": 5}}),
        ),
        (
            json!({"cache": {"keys": ["request.query.page"]}}),
            "Write request.querystring.page.",
            json!({"cache": {"keys": ["request.querystring.page"]}}),
        ),
        (
            json!({"cache": {"keys": ["${request.path.id}"]}}),
            "Write request.path.id.",
            json!({"cache": {"keys": ["request.path.id"]}}),
        ),
        (json!({"cache": {"ttl": "1d"}}), "Example: 30s.", json!({"cache": {"ttl": "1h"}})),
        (
            json!({"headers": [{"name": "X-Channel:", "value": "a"}]}),
            "Write X-Channel.",
            json!({"headers": [{"name": "X-Channel", "value": "a"}]}),
        ),
        (
            json!({"headers": [{"name": "x-flag", "value": true}]}),
            "Put it in quotes: \"true\".",
            json!({"headers": [{"name": "x-flag", "value": "true"}]}),
        ),
        (
            json!({"integration": {"type": "Http", "http": {"url": "api.example/v2"}}}),
            "Write https://api.example/v2.",
            json!({"integration": {"type": "Http", "http": {"url": "https://api.example/v2"}}}),
        ),
        (
            json!({"integration": {"type": "Mock", "mock": {"status": "204"}}}),
            "Write 204 without quotes.",
            json!({"integration": {"type": "Mock", "mock": {"status": 204}}}),
        ),
    ] {
        ends(route(written), "ApiRoute", advice);
        assert_eq!(errors_of("ApiRoute", route(followed.clone())), [""; 0], "{followed}");
    }
    for (written, advice, followed) in [
        (
            json!({"hostnames": ["API.Shop.Example"]}),
            "Write api.shop.example.",
            json!({"hostnames": ["api.shop.example"]}),
        ),
        (json!({"hostnames": ["https://api.example/v1"]}), "Write api.example.", json!({"hostnames": ["api.example"]})),
        (json!({"hostnames": ["api.example:8080"]}), "Write api.example.", json!({"hostnames": ["api.example"]})),
        (json!({"basePath": "/v1/"}), "Write /v1.", json!({"basePath": "/v1"})),
        (json!({"cache": {"enabled": "yes"}}), "Write true without quotes.", json!({"cache": {"enabled": true}})),
        (
            json!({"cors": {"allowOrigins": ["https://shop.example/"]}}),
            "Write https://shop.example.",
            json!({"cors": {"allowOrigins": ["https://shop.example"]}}),
        ),
        (
            json!({"cors": {"allowOrigins": ["shop.example"]}}),
            "Write https://shop.example.",
            json!({"cors": {"allowOrigins": ["https://shop.example"]}}),
        ),
    ] {
        ends(stage(written), "Stage", advice);
        assert_eq!(errors_of("Stage", stage(followed.clone())), [""; 0], "{followed}");
    }
}

#[test]
fn every_pattern_has_a_sentence_and_an_example_that_it_accepts() {
    let mut count = 0;
    for (kind, validator) in validators().unwrap() {
        for (pattern, regex) in &validator.patterns {
            let known = explain::known(pattern);
            let Some((_, example)) = known else { panic!("{kind}: no sentence about the pattern {pattern}") };
            assert!(example.is_empty() || regex.is_match(example), "{kind}: {example} does not match {pattern}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
