//! Warnings about ApiRoutes.

use std::sync::Arc;

use sluice_crds::api_route::{Authorization, AuthorizationType, HttpMethod, IntegrationType, Rule, VersionScheme};
use sluice_crds::authorizer::{AuthorizerType, LambdaResponses};
use sluice_crds::field::ApiKeyRequirement;
use sluice_crds::stage::{ApiKeySourceType, Behavior};
use sluice_crds::warning::{
    CACHE_IN_NO_STAGE, CACHE_KEY_WITHOUT_BODY, CACHE_OF_OTHER_METHODS, CACHE_WITHOUT_KEYS, CREDENTIALS_WITHOUT_TLS,
    KEY_NEVER_NAMED, LITERAL_PATTERN, NEVER_MATCHES, OPEN_CATCH_ALL, PREFIX_REPEATED, SCOPES_NEVER_MET,
    TIMEOUT_ABOVE_AWS,
};
use sluice_crds::{ApiRoute, Authorizer, Stage};
use sluice_wire::{PathTemplate, Segment, is_removed_from_requests};

use crate::objects::{Kind, ObjectKey};
use crate::translate::references::{Referrer, resolve};
use crate::translate::stages;
use crate::translate::view::View;
use crate::translate::warnings::shared::{of_client_throttle, of_throttle, plain_and_external};
use crate::translate::warnings::{expressions, identity_sources};
use crate::warning::Warnings;

/// Headers that usually contain credentials.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "x-api-key"];

/// A rule, and where it is.
struct At<'a> {
    route: &'a ApiRoute,
    rule: &'a Rule,
    /// `spec.rules[3]`.
    field: String,
    /// The Stages that it attaches to.
    stages: &'a [(ObjectKey, &'a Arc<Stage>)],
}

/// The authorization of an ApiRoute, which rules without their own have.
#[derive(Default)]
struct SharedAuthorization {
    /// A rule has it.
    is_used: bool,
    /// A rule has it, and its clients cannot send an API key instead.
    is_needed: bool,
}

/// Warnings about an ApiRoute.
pub(crate) fn of_api_route(view: &View<'_>, key: &ObjectKey, route: &ApiRoute, warnings: &mut Warnings) {
    let stages = route.spec.stages.iter().filter_map(|reference| {
        let stage = key.target(reference);
        let found = stages::attach(view, &key.namespace, &stage).ok()?;
        Some((stage, found))
    });
    let stages: Vec<(ObjectKey, &Arc<Stage>)> = stages.collect();
    let mut shared = SharedAuthorization::default();
    for (at, rule) in route.spec.rules.iter().enumerate() {
        let at = At { route, rule, field: format!("spec.rules[{at}]"), stages: &stages };
        at.path(warnings);
        at.never_matches(warnings);
        at.cache(warnings);
        of_throttle(&format!("{}.throttle", at.field), rule.throttle, warnings);
        of_client_throttle(&format!("{}.clientThrottle", at.field), rule.client_throttle, warnings);
        at.timeout(warnings);
        at.credentials(warnings);
        at.key_never_named(view, key, warnings);
        if let Some(authorization) = &rule.authorization {
            scopes(view, key, authorization, &at.field, warnings);
            // A request with a key is served without the Authorizer.
            if !at.takes_key_instead() {
                identity_sources::of_authorization(view, key, authorization, &stages, &at.field, warnings);
            }
        } else {
            shared.is_used = true;
            shared.is_needed |= !at.takes_key_instead();
        }
    }
    if shared.is_used {
        scopes(view, key, &route.spec.authorization, "spec", warnings);
    }
    if shared.is_needed {
        identity_sources::of_authorization(view, key, &route.spec.authorization, &stages, "spec", warnings);
    }
    open_catch_alls(route, warnings);
    expressions::of_api_route(route, warnings);
}

/// Scopes that no caller of the Authorizer has.
fn scopes(view: &View<'_>, key: &ObjectKey, authorization: &Authorization, field: &str, warnings: &mut Warnings) {
    let Some(named) = authorization.authorizer.as_ref().filter(|_| !authorization.scopes.is_empty()) else { return };
    let found = resolve::<Authorizer>(view, Referrer::new(Kind::ApiRoute, key), &key.target(named));
    let Ok(type_) = found.map(|found| found.spec.type_) else { return };
    if matches!(type_, AuthorizerType::Lambda | AuthorizerType::Iam | AuthorizerType::ServiceAccount) {
        let why = format!(
            "callers of an Authorizer of type {type_:?} have no scopes, so every request is rejected with 403. Remove the scopes"
        );
        warnings.add(SCOPES_NEVER_MET, &format!("{field}.authorization.scopes"), why);
    }
}

impl At<'_> {
    fn path(&self, warnings: &mut Warnings) {
        let field = format!("{}.path", self.field);
        let segments: Vec<&str> = self.rule.path.split('/').skip(1).collect();
        for (number, segment) in segments.iter().enumerate() {
            if let Some(instead) = pattern(segment, number + 1 == segments.len()) {
                let why = format!(
                    "the segment {segment} matches only itself. Write {instead} to match {}",
                    if instead.ends_with("+}") { "the rest of the path" } else { "any segment" }
                );
                warnings.add(LITERAL_PATTERN, &field, why);
            }
        }
        let below = |prefix: &str| {
            self.rule.path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        let repeated = |prefix: &str, what: &str| {
            let rest = self.rule.path.strip_prefix(prefix).filter(|rest| !rest.is_empty()).unwrap_or("/");
            format!(
                "the path is below {what}, so the rule serves {prefix}{}. Write {rest} if that is not meant",
                self.rule.path
            )
        };
        for (stage, found) in self.stages {
            let base = found.spec.base_path.as_str();
            if base != "/" && below(base) {
                warnings.add(
                    PREFIX_REPEATED,
                    &field,
                    repeated(base, &format!("the base path {base} of Stage {stage}")),
                );
            }
        }
        let version = self.route.spec.version.as_ref().filter(|version| version.scheme == VersionScheme::Path);
        if let Some(version) = version.map(|version| format!("/{}", version.name))
            && below(&version)
        {
            warnings.add(PREFIX_REPEATED, &field, repeated(&version, &format!("the version {version}")));
        }
    }

    fn never_matches(&self, warnings: &mut Warnings) {
        for (number, header) in self.rule.headers.iter().enumerate() {
            let field = format!("{}.headers[{number}]", self.field);
            let name = header.name.to_ascii_lowercase();
            let is_forwarded = self.stages.iter().any(|(_, found)| found.spec.forward_client_headers.contains(&name));
            if is_removed_from_requests(&name) && !is_forwarded {
                let why = format!(
                    "the proxy removes the header {name} before it matches rules, so the rule matches no request. Remove \
                     the condition"
                );
                warnings.add(NEVER_MATCHES, &field, why);
            }
            if header.value.as_ref().is_some_and(|value| value.trim_matches([' ', '\t']) != value) {
                let why = "no header value begins or ends with white space (RFC 9110, section 5.5), so the rule matches no \
                           request. Remove the white space";
                warnings.add(NEVER_MATCHES, &format!("{field}.value"), why);
            }
        }
    }

    fn cache(&self, warnings: &mut Warnings) {
        let Some(cache) = &self.rule.cache else { return };
        let field = format!("{}.cache", self.field);
        for (stage, _) in self.stages.iter().filter(|(_, found)| found.spec.cache.is_none()) {
            let why = format!(
                "Stage {stage} has no cache, so it stores no response of the rule. Add spec.cache to the Stage, or remove the \
                 rule's cache"
            );
            warnings.add(CACHE_IN_NO_STAGE, &field, why);
        }
        if cache.keys.is_empty() {
            let why = "requests that differ in the query only get the same stored response. List what the \
                       response depends on in keys, for example request.querystring.page";
            warnings.add(CACHE_WITHOUT_KEYS, &field, why);
        }
        let methods: Vec<&str> = self.rule.methods.iter().map(|method| method.as_str()).collect();
        let stored: Vec<&str> = cache.methods.iter().map(|method| method.as_str()).collect();
        if self.rule.methods != [HttpMethod::Any] && !stored.iter().any(|method| methods.contains(method)) {
            let why = format!(
                "responses to {} are stored, and the rule matches {} only, so nothing is stored. Change methods, or remove the \
                 cache",
                stored.join(" and "),
                methods.join(" and ")
            );
            warnings.add(CACHE_OF_OTHER_METHODS, &format!("{field}.methods"), why);
        } else if stored.contains(&"POST") {
            let aws = self.stages.iter().any(|(_, found)| found.spec.behavior != Behavior::Native);
            let why = if aws {
                "the request body is not part of the cache key: POST requests with different bodies get the same stored \
                 response. Remove POST, unless the response does not depend on the body"
            } else {
                "a POST request with a body does not use the cache of a Stage with behavior Native. Remove POST, unless the \
                 requests have no body"
            };
            warnings.add(CACHE_KEY_WITHOUT_BODY, &format!("{field}.methods"), why);
        }
    }

    fn timeout(&self, warnings: &mut Warnings) {
        let timeout = self.rule.timeout.get().as_millis();
        for (stage, found) in self.stages {
            let (limit, api) = match found.spec.behavior {
                Behavior::Native => continue,
                Behavior::AwsRest => (29, "a REST API"),
                Behavior::AwsHttp => (30, "an HTTP API"),
            };
            if timeout > limit * 1000 {
                let why = format!(
                    "Stage {stage} behaves as {api} of AWS, which waits at most {limit}s; clients that rely on that wait up \
                     to {} here. Write {limit}s or less",
                    self.rule.timeout
                );
                warnings.add(TIMEOUT_ABOVE_AWS, &format!("{}.timeout", self.field), why);
            }
        }
    }

    fn credentials(&self, warnings: &mut Warnings) {
        let integration = &self.rule.integration;
        let http = integration.http.as_ref().filter(|_| integration.type_ == IntegrationType::Http);
        let Some(http) = http.filter(|http| plain_and_external(&http.url)) else { return };
        let changes = self.rule.request.as_ref().and_then(|request| request.headers.as_ref());
        let removes = |name: &str| {
            changes.is_some_and(|changes| changes.remove.iter().any(|removed| removed.eq_ignore_ascii_case(name)))
        };
        let set = changes.into_iter().flat_map(|changes| changes.set.iter().chain(&changes.add));
        let set = set.map(|header| header.name.to_ascii_lowercase()).find(|name| is_credential(name));
        let token = self.is_authorized() && !removes("authorization");
        let key = self.forwards_key(removes);
        let what = match (set, token, key) {
            (Some(name), ..) => format!("the header {name}"),
            (None, true, _) => "the caller's token".to_owned(),
            (None, false, true) => "the caller's API key".to_owned(),
            (None, false, false) => return,
        };
        let why = format!(
            "{what} is sent to {} without TLS. Use an https URL, or remove the header in request.headers.remove",
            http.url
        );
        warnings.add(CREDENTIALS_WITHOUT_TLS, &format!("{}.integration.http.url", self.field), why);
    }

    /// Keys that the Authorizer of the rule does not name.
    fn key_never_named(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        let requirement = self.rule.api_key.unwrap_or(self.route.spec.api_key);
        if !matches!(requirement, ApiKeyRequirement::Required | ApiKeyRequirement::Optional) {
            return;
        }
        let mut stages = self.stages.iter().filter(|(_, found)| stages::authorizers_name_keys(found));
        let Some((stage, _)) = stages.next() else { return };
        let authorization = self.rule.authorization.as_ref().unwrap_or(&self.route.spec.authorization);
        let what = match &authorization.authorizer {
            None => "the rule has no Authorizer".to_owned(),
            Some(named) => {
                let named = key.target(named);
                let Ok(found) = resolve::<Authorizer>(view, Referrer::new(Kind::ApiRoute, key), &named) else { return };
                match &found.spec.lambda {
                    Some(lambda) if lambda.responses == LambdaResponses::Policy => return,
                    Some(_) => format!("the Authorizer {named} has responses: Simple"),
                    None => format!("the Authorizer {named} is of type {:?}", found.spec.type_),
                }
            }
        };
        let effect = match requirement {
            ApiKeyRequirement::Required => "every request is rejected with 403",
            _ => "no request has a key",
        };
        let why = format!(
            "at Stage {stage} the API key is what a Lambda authorizer with responses: Policy names, and {what}, so {effect}. Use \
             such an Authorizer, or set apiKey: None"
        );
        warnings.add(KEY_NEVER_NAMED, &format!("{}.apiKey", self.field), why);
    }

    /// Whether a Stage reads the API key from a header that the rule does not remove.
    fn forwards_key(&self, removes: impl Fn(&str) -> bool) -> bool {
        let header = |stage: &Stage| match &stage.spec.api_key_source {
            None => Some("x-api-key".to_owned()),
            Some(source) => match source.type_ {
                ApiKeySourceType::Header => source.name.as_ref().map(|name| name.to_ascii_lowercase()),
                ApiKeySourceType::Cookie => Some("cookie".to_owned()),
                // The proxy removes the parameter, and clients send no key that an authorizer names.
                ApiKeySourceType::Query | ApiKeySourceType::Authorizer => None,
            },
        };
        let mut headers = self.stages.iter().filter_map(|(_, stage)| header(stage));
        self.reads_key() && headers.any(|name| !removes(&name))
    }

    fn is_authorized(&self) -> bool {
        is_authorized(self.route, self.rule)
    }

    fn reads_key(&self) -> bool {
        self.rule.api_key.unwrap_or(self.route.spec.api_key) != ApiKeyRequirement::None
    }

    /// Whether a request needs an API key, or else the credential for the Authorizer.
    fn takes_key_instead(&self) -> bool {
        self.rule.api_key.unwrap_or(self.route.spec.api_key) == ApiKeyRequirement::Alternative
    }
}

fn is_authorized(route: &ApiRoute, rule: &Rule) -> bool {
    rule.authorization.as_ref().unwrap_or(&route.spec.authorization).type_ == AuthorizationType::Authorizer
}

fn needs_key(route: &ApiRoute, rule: &Rule) -> bool {
    rule.api_key.unwrap_or(route.spec.api_key) == ApiKeyRequirement::Required
}

fn is_credential(name: &str) -> bool {
    CREDENTIALS.contains(&name)
        || ["token", "secret", "api-key", "apikey", "password"].iter().any(|part| name.contains(part))
}

/// What to write instead of a segment that is a parameter or wildcard in other programs.
fn pattern(segment: &str, last: bool) -> Option<String> {
    let word = |text: &str| {
        let name: String = text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if name.is_empty() { "name".to_owned() } else { name }
    };
    let rest = || if last { "{rest+}".to_owned() } else { "{name}".to_owned() };
    if let Some(name) = segment.strip_prefix(':').filter(|name| !name.is_empty()) {
        let greedy = last && name.ends_with(['*', '+']);
        return Some(if greedy { format!("{{{}+}}", word(name)) } else { format!("{{{}}}", word(name)) });
    }
    let stars = !segment.is_empty() && segment.bytes().all(|b| b == b'*');
    if stars || segment.contains(".*") || segment.contains(".+") {
        return Some(rest());
    }
    let name = segment.strip_prefix('*').or_else(|| segment.strip_suffix('*'))?;
    Some(if last { format!("{{{}+}}", word(name)) } else { format!("{{{}}}", word(name)) })
}

/// Rules that serve the paths beside and below a protected rule without authorization.
fn open_catch_alls(route: &ApiRoute, warnings: &mut Warnings) {
    let paths: Vec<Option<PathTemplate>> = route.spec.rules.iter().map(|rule| rule.path.parse().ok()).collect();
    let is_open = |rule: &Rule| !is_authorized(route, rule) && !needs_key(route, rule);
    let rules = || route.spec.rules.iter().zip(&paths).filter_map(|(rule, path)| Some((rule, path.as_ref()?)));
    let protected: Vec<(&Rule, &PathTemplate)> = rules().filter(|(rule, _)| !is_open(rule)).collect();
    for (at, (rule, path)) in route.spec.rules.iter().zip(&paths).enumerate() {
        let Some([prefix @ .., Segment::Greedy(_)]) =
            path.as_ref().filter(|_| is_open(rule)).map(PathTemplate::segments)
        else {
            continue;
        };
        let beside = |(_, path): &&(&Rule, &PathTemplate)| {
            let segments = path.segments();
            let covered = matches!(segments.last(), Some(Segment::Greedy(_)))
                || protected.iter().any(|(_, other)| is_below(other.segments(), segments));
            !covered && matches(prefix, segments)
        };
        if let Some((other, other_path)) = protected.iter().find(beside) {
            let why = format!(
                "the rule is open and serves every path below {} that no other rule matches, such as {other_path}/x, while the \
                 rule {} ({other_path}) is protected. Protect this rule as well, or add a protected rule \
                 {other_path}/{{rest+}}",
                display(prefix),
                other.name
            );
            warnings.add(OPEN_CATCH_ALL, &format!("spec.rules[{at}].path"), why);
        }
    }
}

/// Whether a path template is `segments` with a greedy parameter at its end.
fn is_below(template: &[Segment], segments: &[Segment]) -> bool {
    let [prefix @ .., Segment::Greedy(_)] = template else { return false };
    prefix.len() == segments.len() && matches(prefix, segments)
}

/// Whether each request for `segments` begins with a path that `prefix` matches.
fn matches(prefix: &[Segment], segments: &[Segment]) -> bool {
    prefix.len() <= segments.len()
        && prefix.iter().zip(segments).all(|(one, other)| match (one, other) {
            (Segment::Static(one), Segment::Static(other)) => one == other,
            (Segment::Static(_), _) => false,
            (Segment::Param(_) | Segment::Greedy(_), _) => true,
        })
}

fn display(prefix: &[Segment]) -> String {
    let text: String = prefix
        .iter()
        .map(|segment| match segment {
            Segment::Static(text) => format!("/{text}"),
            Segment::Param(name) => format!("/{{{name}}}"),
            Segment::Greedy(name) => format!("/{{{name}+}}"),
        })
        .collect();
    if text.is_empty() { "/".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_that_are_patterns_elsewhere_have_a_form_here() {
        for (segment, last, instead) in [
            (":id", true, Some("{id}")),
            (":order-id", false, Some("{orderid}")),
            (":path*", true, Some("{path+}")),
            ("*", false, Some("{name}")),
            ("*", true, Some("{rest+}")),
            ("**", true, Some("{rest+}")),
            ("*path", true, Some("{path+}")),
            ("file*", false, Some("{file}")),
            ("(.*)", true, Some("{rest+}")),
            (".+", false, Some("{name}")),
            ("orders", true, None),
            ("", true, None),
            ("1:cancel", true, None),
            (":", true, None),
            ("Orders(42)", false, None),
            ("{id}", true, None),
            ("a*b", true, None),
        ] {
            assert_eq!(pattern(segment, last).as_deref(), instead, "{segment}");
        }
    }
}
