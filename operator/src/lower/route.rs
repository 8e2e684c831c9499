//! The intermediate form of routes: values that are parsed and valid, references that are not resolved yet, and the problems
//! found so far. Every problem that is found later points at a field of the source, so the form carries field paths.

use std::collections::BTreeSet;

use sluice_wire::{
    ApiVersion, AuthorizeTerm, ClientThrottle, Cors, FieldMatch, HeaderEdits, HttpTarget, Mock, PathTemplate,
    RuleCache, Sources, Throttle,
};

use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;

/// The routes of one object.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    /// The kind of the source.
    pub(crate) kind: Kind,
    /// The source.
    pub(crate) key: ObjectKey,
    /// The Stages that serve the rules.
    pub(crate) stages: Vec<Reference>,
    /// The version of the API that the rules are.
    pub(crate) version: Option<ApiVersion>,
    /// The field of the list of rules.
    pub(crate) rules_field: &'static str,
    /// The rules, as the source orders them.
    pub(crate) rules: Vec<Rule>,
    /// Problems of the source outside of its rules.
    pub(crate) problems: Problems,
}

/// A reference to another object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// The object.
    pub(crate) key: ObjectKey,
    /// The field that names it.
    pub(crate) field: String,
}

/// One rule.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    /// Its name, which must be unique in the route.
    pub(crate) name: String,
    /// Its field: `spec.rules[3]`.
    pub(crate) field: String,
    /// The requests that it matches; none when that is not known: then the problems say why.
    pub(crate) matches: Option<Match>,
    /// What is checked and done; none when that is not known: then the problems say why.
    pub(crate) policy: Option<Policy>,
    /// Problems found so far. A rule with any problem rejects its requests.
    pub(crate) problems: Problems,
}

/// The requests that a rule matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Match {
    /// Upper-case methods as the source orders them; none: every method.
    pub(crate) methods: Vec<&'static str>,
    /// The path below base path and version.
    pub(crate) path: PathTemplate,
    /// Headers: all must match.
    pub(crate) headers: Vec<FieldMatch>,
    /// Query parameters: all must match.
    pub(crate) query: Vec<FieldMatch>,
}

/// What is checked and done for the requests of a rule.
#[derive(Clone, Debug)]
pub(crate) struct Policy {
    /// The networks whose requests are accepted; none: every network.
    pub(crate) source: Option<Sources>,
    /// Expressions that must hold.
    pub(crate) authorize: Vec<AuthorizeTerm>,
    /// Who may call.
    pub(crate) authorization: Authorization,
    /// Whether an API key of a plan for the Stage is required.
    pub(crate) api_key: bool,
    /// Whether requests without a key are accepted nevertheless.
    pub(crate) optional_key: bool,
    /// Whether a key is accepted instead of what the authorization requires.
    pub(crate) alternative_key: bool,
    /// The rule's own throttle.
    pub(crate) throttle: Option<Throttle>,
    /// The rule's own throttle of each client.
    pub(crate) client_throttle: Option<ClientThrottle>,
    /// Cross-origin resource sharing, instead of the Stage's.
    pub(crate) cors: Option<Cors>,
    /// Caching, where the Stage has a cache.
    pub(crate) cache: Option<RuleCache>,
    /// Edits of the request's headers.
    pub(crate) request_headers: HeaderEdits,
    /// Edits of the response's headers.
    pub(crate) response_headers: HeaderEdits,
    /// The time until the response's head, in milliseconds.
    pub(crate) timeout_ms: u64,
    /// The largest request body, in bytes.
    pub(crate) body_limit: Option<u64>,
    /// The largest request body that is buffered, in bytes.
    pub(crate) buffer_limit: Option<u64>,
    /// What responds.
    pub(crate) integration: Integration,
}

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// Every client.
    Open,
    /// Callers that the Authorizer accepts, with at least one of the scopes, if there are any.
    Authorizer { authorizer: Reference, scopes: Vec<String> },
}

/// What responds.
#[derive(Clone, Debug)]
pub(crate) enum Integration {
    /// A port of a Service.
    Service(ServicePort),
    /// A URL outside the cluster.
    Http(HttpTarget),
    /// A fixed response.
    Mock(Mock),
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// The Service.
    pub(crate) service: Reference,
    /// The number of the port.
    pub(crate) port: u16,
    /// The field of the port.
    pub(crate) port_field: String,
    /// TLS as the rule demands it; none: as the port says.
    pub(crate) tls: Option<ServiceTls>,
}

/// TLS to a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceTls {
    /// The name that the certificate must have; none: the Service's.
    pub(crate) hostname: Option<String>,
    /// Who may have issued the certificate; none: the authorities of the proxy's system.
    pub(crate) ca: Option<Authorities>,
}

/// Certificates of authorities in a key of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authorities {
    /// ConfigMap or Secret.
    pub(crate) kind: Kind,
    /// The object.
    pub(crate) object: Reference,
    /// The key of its data.
    pub(crate) key: String,
}

impl Match {
    /// The methods as operations have them: `ANY` for every method.
    pub(crate) fn methods(&self) -> impl Iterator<Item = &'static str> + '_ {
        let any = self.methods.is_empty().then_some(ANY);
        any.into_iter().chain(self.methods.iter().copied())
    }

    /// The methods as proxies have them.
    pub(crate) fn wire_methods(&self) -> Vec<String> {
        let sorted: BTreeSet<&str> = self.methods.iter().copied().collect();
        sorted.into_iter().map(str::to_owned).collect()
    }
}

/// Every method that no other rule of the path names.
pub(crate) const ANY: &str = "ANY";
