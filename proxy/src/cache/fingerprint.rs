//! The fingerprint of a rule at a stage: a part of each cache key, so that a change of the rule begins with an empty cache. All
//! of the rule is part of it, with the exceptions in one list; a new field of the configuration counts by default.

use std::time::Duration;

use serde_json::Value;
use sluice_wire::{ApiVersion, Behavior, PartName, Rule};

use super::key::Fields;

/// Fields of a rule that change neither which responses are stored, nor for which requests and how long, nor who may read
/// them: how many requests pass, how long the integration may take, which bodies are accepted and buffered, and edits that are
/// applied to stored responses as to new ones.
pub(super) const NOT_IN_FINGERPRINT: [&str; 6] =
    ["throttle", "client_throttle", "timeout_ms", "body_limit", "buffer_limit", "response_headers"];

/// A rule at a stage.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleAtStage<'a> {
    /// The stage's part.
    pub(crate) stage: &'a PartName,
    pub(crate) behavior: Behavior,
    /// The ApiRoute's part.
    pub(crate) route: &'a PartName,
    pub(crate) version: Option<&'a ApiVersion>,
    pub(crate) rule: &'a Rule,
}

/// `ttl` is that of the rule at its stage.
pub(super) fn fingerprint(rule_at_stage: &RuleAtStage<'_>, ttl: Duration) -> [u8; 32] {
    let mut fields = Fields::new();
    fields.add(Some(rule_at_stage.stage.id().as_bytes()));
    fields.add(Some(rule_at_stage.route.id().as_bytes()));
    fields.add_config(&rule_at_stage.behavior);
    fields.add_config(&rule_at_stage.version);
    fields.add(Some(&ttl.as_millis().to_be_bytes()));
    // A value sorts its fields. Rules are plain data: they can be written.
    let mut rule = serde_json::to_value(rule_at_stage.rule).unwrap_or_default();
    if let Some(policy) = rule.pointer_mut("/action/Serve").and_then(Value::as_object_mut) {
        for field in NOT_IN_FINGERPRINT {
            policy.remove(field);
        }
    }
    fields.add_config(&rule);
    fields.finish()
}

#[cfg(test)]
mod tests {
    use sluice_wire::{
        AuthorizerUse, CacheScope, ClientThrottle, FieldMatch, HeaderEdits, HttpTarget, Integration, Mock, PartKind,
        RuleAction, RuleCache, RulePolicy, Throttle, Variable, VersionScheme,
    };

    use super::*;

    /// A rule in which every field has a value. A new field does not compile until it has one here.
    fn full(integration: Integration) -> Rule {
        let edits = |name: &str| HeaderEdits {
            set: vec![(format!("{name}-a"), "v ${context.stage}".parse().unwrap())],
            add: vec![(format!("{name}-b"), "w".parse().unwrap())],
            remove: vec![format!("{name}-c")],
        };
        let policy = RulePolicy {
            source: None,
            authorize: Vec::new(),
            authorizer: Some(AuthorizerUse {
                part: PartName::new(PartKind::Authorizer, "shop/idp"),
                scopes: vec!["read".into()],
            }),
            api_key: true,
            optional_key: false,
            alternative_key: false,
            throttle: Some(Throttle { rate: 5, per_ms: 1000, burst: 7 }),
            client_throttle: Some(ClientThrottle {
                throttle: Throttle { rate: 5, per_ms: 1000, burst: 7 },
                ipv4_prefix: 32,
                ipv6_prefix: 64,
            }),
            cors: None,
            cache: Some(RuleCache {
                ttl_ms: Some(1000),
                keys: vec![Variable::QueryParameter("page".into())],
                unkeyed: vec![Variable::QueryParameter("trace".into())],
                methods: vec!["GET".into()],
                scope: CacheScope::Caller,
            }),
            request_headers: edits("q"),
            response_headers: edits("r"),
            timeout_ms: 1000,
            body_limit: Some(2000),
            buffer_limit: Some(1000),
            integration,
        };
        Rule {
            name: "list".into(),
            methods: vec!["GET".into()],
            path: "/orders/{id}".parse().unwrap(),
            headers: vec![FieldMatch { name: "x-a".into(), value: Some("1".into()) }],
            query: vec![FieldMatch { name: "b".into(), value: Some("2".into()) }],
            action: RuleAction::Serve(Box::new(policy)),
        }
    }

    fn of(rule: &Rule) -> [u8; 32] {
        let (stage, route) = (PartName::new(PartKind::Stage, "shop/prod"), PartName::new(PartKind::Route, "shop/r"));
        let rule_at_stage =
            RuleAtStage { stage: &stage, behavior: Behavior::Native, route: &route, version: None, rule };
        fingerprint(&rule_at_stage, Duration::from_secs(1))
    }

    /// Paths of all values that are neither objects nor lists, and of all lists and optional fields, which can be emptied.
    fn leaves(value: &Value, at: &str, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                fields.iter().for_each(|(name, value)| leaves(value, &format!("{at}/{name}"), out))
            }
            Value::Array(items) => {
                assert!(!items.is_empty(), "{at} needs an item");
                items.iter().enumerate().for_each(|(n, item)| leaves(item, &format!("{at}/{n}"), out));
            }
            Value::Null => panic!("{at} needs a value"),
            _ => out.push(at.to_owned()),
        }
    }

    /// Other values that a field may have, of which one is valid.
    fn others(value: &Value) -> Vec<Value> {
        match value {
            Value::Bool(yes) => vec![Value::Bool(!yes)],
            Value::Number(number) => vec![(number.as_u64().unwrap() + 1).into()],
            Value::String(text) => vec![format!("{text}x").into(), "Shared".into(), "/other".into()],
            other => panic!("{other} is no leaf"),
        }
    }

    #[test]
    fn every_field_of_a_rule_counts_but_those_on_the_list() {
        let http = HttpTarget { tls: true, host: "api.example".into(), port: 443, path: Some("/v2".into()) };
        let mock = Mock { status: 200, headers: vec![("x-m".into(), "v".parse().unwrap())], body: "b".into() };
        let mut unlisted: Vec<&str> = NOT_IN_FINGERPRINT.into();
        for integration in [
            Integration::Service(PartName::new(PartKind::Upstream, "shop/orders:80")),
            Integration::Http(http),
            Integration::Mock(mock),
        ] {
            let rule = full(integration);
            let json = serde_json::to_value(&rule).unwrap();
            let mut all = Vec::new();
            leaves(&json, "", &mut all);
            assert!(all.len() > 25, "{all:?}");
            for leaf in all {
                let changed = others(json.pointer(&leaf).unwrap()).into_iter().find_map(|other| {
                    let mut json = json.clone();
                    *json.pointer_mut(&leaf).unwrap() = other;
                    serde_json::from_value::<Rule>(json).ok()
                });
                let changed = changed.unwrap_or_else(|| panic!("no other value for {leaf}"));
                let listed = NOT_IN_FINGERPRINT
                    .into_iter()
                    .find(|field| leaf.split('/').nth(3) == Some(field) && leaf.starts_with("/action/Serve/"));
                unlisted.retain(|field| Some(*field) != listed);
                assert_eq!(of(&changed) == of(&rule), listed.is_some(), "{leaf}");
            }
        }
        assert!(unlisted.is_empty(), "no fields of a rule: {unlisted:?}");
    }

    #[test]
    fn stage_route_version_behavior_and_lifetime_count() {
        let rule = full(Integration::Mock(Mock { status: 200, headers: vec![], body: String::new() }));
        let name = |kind, id: &str| PartName::new(kind, id);
        let (prod, test) = (name(PartKind::Stage, "shop/prod"), name(PartKind::Stage, "shop/test"));
        let (one, two) = (name(PartKind::Route, "shop/one"), name(PartKind::Route, "shop/two"));
        let version = |name: &str| ApiVersion { name: name.into(), scheme: VersionScheme::MediaType };
        let (v1, v2) = (version("v1"), version("v2"));
        let usual = RuleAtStage { stage: &prod, behavior: Behavior::Native, route: &one, version: None, rule: &rule };
        let all = [
            fingerprint(&usual, Duration::from_secs(1)),
            fingerprint(&usual, Duration::from_secs(2)),
            fingerprint(&RuleAtStage { stage: &test, ..usual }, Duration::from_secs(1)),
            fingerprint(&RuleAtStage { route: &two, ..usual }, Duration::from_secs(1)),
            fingerprint(&RuleAtStage { behavior: Behavior::AwsHttp, ..usual }, Duration::from_secs(1)),
            fingerprint(&RuleAtStage { version: Some(&v1), ..usual }, Duration::from_secs(1)),
            fingerprint(&RuleAtStage { version: Some(&v2), ..usual }, Duration::from_secs(1)),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all.iter().skip(n + 1).all(|other| other != one), "{n}");
        }
    }
}
