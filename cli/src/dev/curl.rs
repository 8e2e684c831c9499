//! Example calls as `curl` lines: one for each check that a rule can have. The lines are generated from the objects, so
//! that they are correct for any folder. Rules whose credentials are unknown are left out.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use sluice_crds::Authorizer;
use sluice_crds::api_route::{ApiRoute, Authorization, AuthorizationType, HttpMethod, Rule, VersionScheme};
use sluice_crds::authorizer::ServiceAccountAuthorizer;
use sluice_crds::field::ApiKeyRequirement;
use sluice_crds::source::Source;
use sluice_crds::stage::{ApiKeySource, ApiKeySourceType, Behavior, ClientAuthMode, PlainHttp, Stage, StageSpec};
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::objects::{Kind, ObjectKey};
use sluice_operator::translate::Detail;
use sluice_wire::Network;

use super::local::{Local, access_key_text, key_text};
use super::reach::{Reach, Unreachable};
use super::token_server::AUDIENCE;
use crate::report::Statuses;

/// The input of the example calls.
pub(crate) struct Context<'a> {
    /// The completed cluster state.
    pub(crate) cluster: &'a ClusterState,
    /// The local replacements for the cluster.
    pub(crate) local: &'a Local,
    /// The statuses of the objects.
    pub(crate) statuses: &'a Statuses,
    /// What is served and reachable.
    pub(crate) reach: &'a Reach,
    /// The URL of the API: `http://127.0.0.1:8080`.
    pub(crate) base: &'a str,
    /// The address for TLS, if any.
    pub(crate) https: Option<SocketAddr>,
    /// The address of the token service, if any.
    pub(crate) sts: Option<SocketAddr>,
}

/// A rule as it is served in one stage.
struct Served<'a> {
    stage_key: ObjectKey,
    route: &'a ApiRoute,
    rule: &'a Rule,
    /// The curl arguments that match it, without credentials.
    target: String,
    /// Whether neither the Stage nor the rule rejects requests from this machine because of its address.
    accepts_this_machine: bool,
    /// The Stage requires a certificate of the client.
    needs_certificate: bool,
    /// The Stage's policy decides about the request.
    has_policy: bool,
    /// Expressions decide about the request.
    has_expressions: bool,
    /// What happens instead: the Stage needs HTTPS, and there is no address for it.
    no_tls: Option<PlainHttp>,
    /// Why requests do not reach the integration.
    unreachable: Option<Unreachable>,
}

impl Served<'_> {
    /// The status of a call that passes all checks, and what the call shows.
    fn outcome(&self, what: &str) -> String {
        let name = &self.rule.name;
        match &self.unreachable {
            Some(Unreachable { status, why }) => format!("{status}: {name}, {why}"),
            None if self.has_expressions => {
                format!("{}: {name}{what}; 403 unless each expression of authorize holds", ok_status(self.rule))
            }
            None if self.has_policy => {
                format!("{}: {name}{what}; 403 unless the policy allows it", ok_status(self.rule))
            }
            None => format!("{}: {name}{what}", ok_status(self.rule)),
        }
    }
}

/// Which example calls have been written.
#[derive(Default)]
struct Shown {
    token: bool,
    signed: bool,
    key: bool,
    burst: bool,
    open: usize,
}

/// The example calls, each with its expected status code in a comment.
pub(crate) fn lines(context: &Context<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut shown = Shown::default();
    for served in context.served() {
        if !served.accepts_this_machine {
            if shown.open < 3 {
                let (target, name) = (&served.target, &served.rule.name);
                lines.push(format!(
                    "curl -i {target}   # 403: {name} does not accept 127.0.0.1; with --trusted-proxies 127.0.0.1, X-Forwarded-For states another address"
                ));
                shown.open += 1;
            }
            continue;
        }
        if let Some(http) = served.no_tls {
            if shown.open < 3 {
                let status = if http == PlainHttp::Off { 403 } else { 308 };
                let (target, name) = (&served.target, &served.rule.name);
                lines.push(format!("curl -i {target}   # {status}: {name} needs HTTPS, which --https ADDR serves"));
                shown.open += 1;
            }
            continue;
        }
        if served.needs_certificate {
            if shown.open < 3 {
                let (target, name) = (&served.target, &served.rule.name);
                lines.push(format!(
                    "curl -i {target}   # 403: {name} needs a certificate of one of the Stage's authorities: --cert FILE"
                ));
                shown.open += 1;
            }
            continue;
        }
        let authorization = served.rule.authorization.as_ref().unwrap_or(&served.route.spec.authorization);
        let needs_key = served.rule.api_key.unwrap_or(served.route.spec.api_key) == ApiKeyRequirement::Required;
        let open = authorization.type_ == AuthorizationType::None;
        match (open, needs_key) {
            (false, false) if context.is_signed(&served, authorization) => {
                shown.signed = shown.signed || context.signed_lines(&served, authorization, &mut lines);
            }
            (false, false) if !shown.token => shown.token = context.token_lines(&served, authorization, &mut lines),
            (true, true) if !shown.key => shown.key = context.key_lines(&served, &mut lines),
            (true, false) => open_lines(&served, &mut shown, &mut lines),
            _ => {}
        }
    }
    lines
}

impl<'a> Context<'a> {
    /// The rules that Stages serve. A rule that rejects all its requests is left out: its problem is reported.
    fn served(&self) -> Vec<Served<'a>> {
        let mut all = Vec::new();
        for (key, route) in &self.cluster.api_routes {
            for stage_ref in &route.spec.stages {
                let stage_key = key.target(stage_ref);
                let Some(stage) = self.cluster.stages.get(&stage_key) else { continue };
                let plain = stage.spec.tls.as_ref().map(|tls| tls.http).filter(|http| *http != PlainHttp::Serve);
                let https = plain.and(self.https);
                let object = Kind::ApiRoute.object(key);
                let rules = route.spec.rules.iter();
                for rule in rules.filter(|rule| self.reach.is_served(&object, &rule.name, &stage_key)) {
                    let target = match https {
                        Some(address) => tls_target(address, stage, route, rule),
                        None => target(self.base, stage, route, rule),
                    };
                    let sources = [&stage.spec.source, &rule.source];
                    let accepts_this_machine = sources.into_iter().flatten().all(accepts_this_machine);
                    let no_tls = plain.filter(|_| https.is_none());
                    let unreachable = self.reach.of_rule(key, rule);
                    all.push(Served {
                        stage_key: stage_key.clone(),
                        route,
                        rule,
                        target,
                        accepts_this_machine,
                        needs_certificate: needs_certificate(stage),
                        has_policy: stage.spec.policy.is_some(),
                        has_expressions: !route.spec.authorize.is_empty() || !rule.authorize.is_empty(),
                        no_tls,
                        unreachable,
                    });
                }
            }
        }
        all
    }

    /// Calls with a token, from the cache, without a token, and with another scope. False: no local issuer.
    fn token_lines(&self, served: &Served<'_>, authorization: &Authorization, lines: &mut Vec<String>) -> bool {
        let Some(endpoint) = self.token_endpoint(served, authorization) else { return false };
        let scope = authorization.scopes.first().map_or("", String::as_str);
        let account = self.service_account(served, authorization);
        let client = account.map_or_else(
            || "acme".to_owned(),
            |account| {
                let audience = account.audiences.first().map_or("", String::as_str);
                format!("system:serviceaccount:{}:caller -d audience={audience}", served.stage_key.namespace)
            },
        );
        let usage = match (self.is_of_user_pool(served, authorization), scope) {
            (false, _) => "",
            (true, "") => " -d token_use=id",
            (true, _) => " -d token_use=access",
        };
        let get = |scope: &str| {
            let scope = if scope.is_empty() { String::new() } else { format!(" -d scope={scope}") };
            format!("$(curl -s -H 'accept: text/plain' -d client_id={client}{scope}{usage} {endpoint})")
        };
        let target = &served.target;
        lines.push(format!("TOKEN={}", get(scope)));
        let call = format!("curl -i {} {target}", self.token_flags(served, authorization, "$TOKEN"));
        lines.push(format!("{call}   # {}", served.outcome(", with a token")));
        if self.is_cached(served) && served.unreachable.is_none() {
            lines.push(format!("{call}   # {}: from the cache", ok_status(served.rule)));
        }
        lines.push(format!("curl -i {target}   # 401: no token"));
        if !scope.is_empty() {
            let other = get("something.else");
            let flags = self.token_flags(served, authorization, &other);
            lines.push(format!("curl -i {flags} {target}   # 403: another scope"));
        }
        true
    }

    /// The settings of an Authorizer of ServiceAccounts.
    fn service_account(
        &self,
        served: &Served<'_>,
        authorization: &Authorization,
    ) -> Option<&'a ServiceAccountAuthorizer> {
        let key = ObjectKey::of(served.route).target(authorization.authorizer.as_ref()?);
        self.cluster.authorizers.get(&key)?.spec.service_account.as_ref()
    }

    /// Whether tokens are those of a user pool, which are for rules with scopes or for those without.
    fn is_of_user_pool(&self, served: &Served<'_>, authorization: &Authorization) -> bool {
        let key = authorization.authorizer.as_ref().map(|named| ObjectKey::of(served.route).target(named));
        key.and_then(|key| self.cluster.authorizers.get(&key)).is_some_and(|found| found.spec.cognito.is_some())
    }

    /// The curl arguments for a token, in the first place where the Authorizer looks for it.
    fn token_flags(&self, served: &Served<'_>, authorization: &Authorization, token: &str) -> String {
        let key = authorization.authorizer.as_ref().map(|named| ObjectKey::of(served.route).target(named));
        let spec = key.and_then(|key| self.cluster.authorizers.get(&key)).map(|authorizer| &authorizer.spec);
        let of_jwt = spec.and_then(|spec| spec.jwt.as_ref()).map(|jwt| &jwt.token_from);
        let introspected = || spec.and_then(|spec| spec.introspection.as_ref()).map(|spec| &spec.token_from);
        let of_pool = || spec.and_then(|spec| spec.cognito.as_ref()).map(|spec| &spec.token_from);
        let of_account = || spec.and_then(|spec| spec.service_account.as_ref()).map(|spec| &spec.token_from);
        let first = of_jwt.or_else(introspected).or_else(of_pool).or_else(of_account).and_then(|places| places.first());
        match first.map(|place| (&place.header, &place.scheme, &place.query, &place.cookie, &place.web_socket_protocol))
        {
            Some((Some(header), None, ..)) => format!("-H \"{header}: {token}\""),
            Some((Some(header), Some(scheme), ..)) => format!("-H \"{header}: {scheme} {token}\""),
            Some((None, _, Some(name), ..)) => format!("-G --data-urlencode \"{name}={token}\""),
            Some((None, _, None, Some(name), _)) => format!("-H \"cookie: {name}={token}\""),
            Some((None, _, None, None, Some(prefix))) => format!("-H \"sec-websocket-protocol: {prefix}{token}\""),
            Some((None, _, None, None, None)) | None => format!("-H \"authorization: Bearer {token}\""),
        }
    }

    /// The token endpoint of the Authorizer's issuer, if a local identity provider serves it.
    fn token_endpoint(&self, served: &Served<'_>, authorization: &Authorization) -> Option<String> {
        if let Some(account) = self.service_account(served, authorization) {
            // Nothing reviews access here.
            return self.local.cluster_token_endpoint().filter(|_| !account.access_reviews);
        }
        let key = ObjectKey::of(served.route).target(authorization.authorizer.as_ref()?);
        let spec = &self.cluster.authorizers.get(&key)?.spec;
        let issuers = spec.jwt.iter().flat_map(|jwt| jwt.issuers.iter().map(|issuer| &issuer.issuer));
        let introspected = spec.introspection.iter().filter_map(|introspection| introspection.issuer.as_ref());
        let pools =
            spec.cognito.iter().flat_map(|cognito| cognito.user_pools.iter().filter_map(|pool| pool.issuer.as_ref()));
        issuers.chain(introspected).chain(pools).find_map(|issuer| self.local.token_endpoint(issuer))
    }

    fn authorizer(&self, served: &Served<'_>, authorization: &Authorization) -> Option<(ObjectKey, &'a Authorizer)> {
        let key = ObjectKey::of(served.route).target(authorization.authorizer.as_ref()?);
        self.cluster.authorizers.get(&key).map(|found| (key, &**found))
    }

    /// Whether requests are signed with the access key of a Principal.
    fn is_signed(&self, served: &Served<'_>, authorization: &Authorization) -> bool {
        self.authorizer(served, authorization).is_some_and(|(_, found)| found.spec.iam.is_some())
    }

    /// Calls with a signature and without one. False: no access key is known.
    fn signed_lines(&self, served: &Served<'_>, authorization: &Authorization, lines: &mut Vec<String>) -> bool {
        let Some((key, authorizer)) = self.authorizer(served, authorization) else { return false };
        let Some(iam) = &authorizer.spec.iam else { return false };
        let Some(region) = iam.regions.first() else { return false };
        let of_namespace = self.cluster.principals.keys().filter(|principal| principal.namespace == key.namespace);
        let mut known = of_namespace.filter_map(|key| Some((key, access_key_text(self.cluster, key)?)));
        let (target, service) = (&served.target, &iam.service);
        let (principal, user) = match known.next() {
            // Inside of single quotes a shell changes nothing.
            Some((principal, (id, secret))) => {
                (principal.to_string(), format!("'{}'", format!("{id}:{secret}").replace('\'', r"'\''")))
            }
            None => {
                let Some(role) = self.session_lines(&key, lines) else { return false };
                let user = r#""$(field AccessKeyId):$(field SecretAccessKey)" -H "x-amz-security-token: $(field SessionToken)""#;
                (role, user.to_owned())
            }
        };
        let unless = if served.has_policy { "" } else { "; 403 unless a policy of it allows it" };
        let outcome = format!("{}{unless}", served.outcome(&format!(", signed by Principal {principal}")));
        lines.push(format!("curl -i --aws-sigv4 aws:amz:{region}:{service} -u {user} {target}   # {outcome}"));
        let behavior = self.cluster.stages.get(&served.stage_key).map(|stage| stage.spec.behavior);
        let status = if behavior == Some(Behavior::Native) { 401 } else { 403 };
        lines.push(format!("curl -i {target}   # {status}: no signature"));
        true
    }

    /// Gets temporary credentials of a role that the Authorizer accepts. The result is the role; none: there is none, or no token
    /// service.
    fn session_lines(&self, authorizer: &ObjectKey, lines: &mut Vec<String>) -> Option<String> {
        let (address, endpoint) = (self.sts?, self.local.cluster_token_endpoint()?);
        let mut roles = self.cluster.principals.iter().filter(|(key, _)| key.namespace == authorizer.namespace);
        let (key, trusted) = roles.find_map(|(key, found)| Some((key, found.spec.trust.first()?)))?;
        let account = &trusted.service_account;
        let namespace = account.namespace.as_ref().unwrap_or(&key.namespace);
        let client = format!("system:serviceaccount:{namespace}:{}", account.name);
        lines.push(format!(
            "TOKEN=$(curl -s -H 'accept: text/plain' -d client_id={client} -d audience={AUDIENCE} {endpoint})"
        ));
        let arn = self.statuses.get(&Kind::Principal.object(key)).and_then(|desired| match &desired.detail {
            Detail::Principal { arn, .. } => Some(arn.clone()),
            _ => None,
        })?;
        lines.push(format!(
            "SESSION=$(curl -s http://{address} -d Action=AssumeRoleWithWebIdentity -d Version=2011-06-15 -d RoleArn={arn} \
             -d RoleSessionName=example -d WebIdentityToken=$TOKEN)"
        ));
        lines.push(r#"field() { echo "$SESSION" | sed "s|.*<$1>||; s|</$1>.*||"; }"#.to_owned());
        Some(format!("{key} (a role)"))
    }

    /// Calls with and without an API key. False: no valid key is known.
    fn key_lines(&self, served: &Served<'_>, lines: &mut Vec<String>) -> bool {
        let Some(text) = self.key_for(&served.stage_key) else { return false };
        let target = &served.target;
        let stage = self.cluster.stages.get(&served.stage_key);
        let source = stage.and_then(|stage| stage.spec.api_key_source.as_ref());
        let Some(key) = key_flags(source, &text) else { return false };
        lines.push(format!("curl -i {key} {target}   # {}", served.outcome(", with an API key")));
        lines.push(format!("curl -i {target}   # 403: no API key"));
        true
    }

    fn key_for(&self, stage: &ObjectKey) -> Option<String> {
        let plans = self
            .cluster
            .usage_plans
            .iter()
            .filter(|(key, plan)| plan.spec.stages.iter().any(|named| key.target(&named.stage) == *stage));
        let plans: Vec<&ObjectKey> = plans.map(|(key, _)| key).collect();
        let keys = self.cluster.api_keys.iter().filter(|(key, api_key)| {
            let in_plan = api_key.spec.plans.iter().any(|plan| plans.contains(&&key.target(plan)));
            api_key.spec.enabled && in_plan
        });
        keys.map(|(key, _)| key_text(self.cluster, key)).find(Option::is_some).flatten()
    }

    fn is_cached(&self, served: &Served<'_>) -> bool {
        let stage = self.cluster.stages.get(&served.stage_key);
        let on = stage.and_then(|stage| stage.spec.cache.as_ref()).is_some_and(|cache| cache.enabled);
        on && served.rule.cache.is_some() && method(served.rule) == "GET"
    }
}

/// The curl arguments for an API key; none: clients send none.
fn key_flags(source: Option<&ApiKeySource>, key: &str) -> Option<String> {
    let Some(ApiKeySource { type_, name, scheme }) = source else { return Some(format!("-H 'x-api-key: {key}'")) };
    let name = name.as_deref()?;
    Some(match (type_, scheme) {
        (ApiKeySourceType::Header, None) => format!("-H '{name}: {key}'"),
        (ApiKeySourceType::Header, Some(scheme)) => format!("-H '{name}: {scheme} {key}'"),
        (ApiKeySourceType::Query, _) => format!("-G --data-urlencode '{name}={key}'"),
        (ApiKeySourceType::Cookie, _) => format!("-H 'cookie: {name}={key}'"),
        (ApiKeySourceType::Authorizer, _) => return None,
    })
}

fn needs_certificate(stage: &Stage) -> bool {
    let client_auth = stage.spec.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
    client_auth.is_some_and(|client_auth| client_auth.mode == ClientAuthMode::Require)
}

fn accepts_this_machine(source: &Source) -> bool {
    let contains = |list: &[String]| {
        let networks = list.iter().filter_map(|text| text.parse::<Network>().ok());
        networks.into_iter().any(|network| network.get().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)))
    };
    !contains(&source.deny) && (source.allow.is_empty() || contains(&source.allow))
}

/// Calls of a rule without checks: one call, or a burst if it has a small throttle.
fn open_lines(served: &Served<'_>, shown: &mut Shown, lines: &mut Vec<String>) {
    let (target, name) = (&served.target, &served.rule.name);
    match served.rule.throttle {
        Some(throttle) if throttle.burst <= 10 && !shown.burst => {
            let count: Vec<String> = (0..throttle.burst + 3).map(|number| (number + 1).to_string()).collect();
            let count = count.join(" ");
            lines.push(format!(
                "for i in {count}; do curl -s -o /dev/null -w '%{{http_code}} ' {target}; done; echo   # ends with 429: {name}"
            ));
            shown.burst = true;
        }
        _ if shown.open < 3 => {
            lines.push(format!("curl -i {target}   # {}", served.outcome("")));
            shown.open += 1;
        }
        _ => {}
    }
}

/// The status code of a successful call.
fn ok_status(rule: &Rule) -> String {
    rule.integration.mock.as_ref().map_or_else(|| "200".to_owned(), |mock| mock.status.to_string())
}

fn method(rule: &Rule) -> &'static str {
    match rule.methods.first() {
        None | Some(HttpMethod::Any) => "GET",
        Some(method) => method.as_str(),
    }
}

/// The curl arguments for a request over TLS; the certificate may be a self-signed one.
fn tls_target(address: SocketAddr, stage: &Stage, route: &ApiRoute, rule: &Rule) -> String {
    let Some(host) = stage.spec.hostnames.first().map(|host| host.replace("*.", "any.")) else {
        return format!("--insecure {}", target(&format!("https://{address}"), stage, route, rule));
    };
    let named = Stage { spec: StageSpec { hostnames: Vec::new(), ..stage.spec.clone() }, ..stage.clone() };
    let (port, ip) = (address.port(), address.ip());
    let target = target(&format!("https://{host}:{port}"), &named, route, rule);
    format!("--insecure --resolve {host}:{port}:{ip} {target}")
}

/// The curl arguments for a request that the rule matches.
fn target(base: &str, stage: &Stage, route: &ApiRoute, rule: &Rule) -> String {
    let mut flags = String::new();
    if method(rule) == "HEAD" {
        flags.push_str("--head ");
    } else if method(rule) != "GET" {
        flags.push_str(&format!("-X {} ", method(rule)));
    }
    if let Some(host) = stage.spec.hostnames.first() {
        flags.push_str(&format!("-H 'host: {}' ", host.replace("*.", "any.")));
    }
    for field in &rule.headers {
        flags.push_str(&format!("-H '{}: {}' ", field.name, field.value.as_deref().unwrap_or("any")));
    }
    let mut query: Vec<String> = rule.query_params.iter().map(query_pair).collect();
    let mut path = stage.spec.base_path.trim_end_matches('/').to_owned();
    if let Some(version) = &route.spec.version {
        let name = &version.name;
        match version.scheme {
            VersionScheme::Path => path.push_str(&format!("/{name}")),
            VersionScheme::Header => {
                let header = version.parameter.as_deref().unwrap_or("x-api-version");
                flags.push_str(&format!("-H '{header}: {name}' "));
            }
            VersionScheme::Query => {
                query.push(format!("{}={name}", version.parameter.as_deref().unwrap_or("version")));
            }
            VersionScheme::MediaType => flags.push_str(&format!("-H 'accept: application/json;version={name}' ")),
        }
    }
    let segments: Vec<String> = rule.path.split('/').map(example_segment).collect();
    path.push_str(&segments.join("/"));
    let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
    let url = format!("{base}{path}{query}");
    let url = if url.contains(['?', '&', '$', '(', ')', '\'', '*', ';']) { format!("'{url}'") } else { url };
    format!("{flags}{url}")
}

fn query_pair(field: &sluice_crds::api_route::ValueMatch) -> String {
    format!("{}={}", field.name, field.value.as_deref().unwrap_or("any"))
}

/// A segment of a path template, with an example value for a parameter.
fn example_segment(segment: &str) -> String {
    match segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        Some(name) if name.ends_with('+') => "a/b".to_owned(),
        Some(_) => "42".to_owned(),
        None => segment.to_owned(),
    }
}
