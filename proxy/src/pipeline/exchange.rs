//! State of one request on its way through the pipeline. Steps write into it; dropping it, with the response's body, records
//! the request.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Version};
use sluice_wire::{Behavior, Variable};

use crate::auth::{Identity, SignedRequest};
use crate::client::{Origin, Peer};
use crate::client_certificate::Certificate;
use crate::explain::{Check, Explanation};
use crate::gateway::{HostTable, Rule, Stage};
use crate::headers;
use crate::id::RequestId;
use crate::key::KeyRecord;
use crate::limit::RateLimitHeaders;
use crate::observe::{Record, Recorder};
use crate::source::{Trusted, Unreadable};
use crate::template::{Value, Variables};
use crate::transport::{Cause, Entered};

/// One request.
pub(crate) struct Exchange {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) started: Instant,
    pub(crate) id: RequestId,
    pub(crate) peer: Arc<Peer>,
    client: Client,
    pub(crate) method: Method,
    pub(crate) version: Version,
    pub(crate) host: String,
    /// Canonical, with base path and version; as the client wrote it where it has no canonical form.
    pub(crate) path: Arc<str>,
    /// Whether the client uses TLS, here or at a load balancer.
    pub(crate) secure: bool,
    pub(crate) stage: Option<Arc<Stage>>,
    /// Of its host, where it has no Stage.
    pub(crate) host_behavior: Behavior,
    /// Whether the Stage accepts the certificate of the client.
    pub(crate) is_certified: bool,
    pub(crate) rule: Option<Arc<Rule>>,
    /// The request as the client sent it, until its signature is verified.
    pub(crate) signed: Option<Box<SignedRequest>>,
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) key: Option<Arc<KeyRecord>>,
    /// The headers with the limits of the request; none: they are not asked for, or no limit was reached yet.
    pub(crate) rate_limits: Option<Box<RateLimitHeaders>>,
    pub(crate) status: u16,
    /// Why the request was rejected; empty when it was not.
    pub(crate) reason: &'static str,
    /// The expression or the statement that denies the request; none: something else has rejected it.
    pub(crate) denied_by: Option<Box<str>>,
    /// The type of AWS's gateway response; empty for others.
    pub(crate) response_type: &'static str,
    /// Result of the cache; empty for a rule without one.
    pub(crate) cache: &'static str,
    pub(crate) upstream: Option<Duration>,
    /// Why the upstream failed, before or in its response.
    pub(crate) upstream_error: Option<Cause>,
    /// Bytes of the response's body.
    pub(crate) sent: u64,
    /// Whether the response's body reached its end.
    pub(crate) complete: bool,
    /// Whether the connection ends with the response, because the client needs another one.
    pub(crate) ends_connection: bool,
    /// Whether it counts towards the limit of requests in flight.
    counted: bool,
    /// It counts towards the limit of its upstream.
    pub(crate) entered: Option<Entered>,
}

impl Exchange {
    pub(crate) fn new(
        recorder: Arc<Recorder>,
        peer: Arc<Peer>,
        parts: &Parts,
        host: String,
        path: Arc<str>,
        counted: bool,
    ) -> Box<Self> {
        peer.connection.request_began();
        let secure = headers::is_secure(&peer.origin, &parts.headers);
        let client = Client::of(&peer.origin, &parts.headers);
        Box::new(Self {
            recorder,
            started: Instant::now(),
            id: RequestId::new(),
            peer,
            client,
            method: parts.method.clone(),
            version: parts.version,
            host,
            path,
            secure,
            stage: None,
            host_behavior: Behavior::Native,
            is_certified: false,
            rule: None,
            signed: None,
            identity: None,
            key: None,
            rate_limits: None,
            status: 0,
            reason: "",
            denied_by: None,
            response_type: "",
            cache: "",
            upstream: None,
            upstream_error: None,
            sent: 0,
            complete: false,
            ends_connection: false,
            counted,
            entered: None,
        })
    }
}

impl Exchange {
    /// Adds to the explanation of the request, if there is one.
    #[inline(always)]
    pub(crate) fn explain(&self, add: impl FnOnce(&mut Explanation)) {
        if let Some(trace) = &self.peer.trace {
            trace.note(add);
        }
    }

    /// Begins a check in the explanation.
    #[inline(always)]
    pub(crate) fn begin(&self, check: Check) {
        self.explain(|found| found.begin(check));
    }

    /// Finds the Stage of the host for a path; without one, the behavior of the host.
    pub(crate) fn place(&mut self, hosts: &HostTable, path: &str) {
        self.stage = hosts.find(&self.host, path).cloned();
        if self.stage.is_none() {
            self.host_behavior = hosts.behavior(&self.host);
        }
    }

    /// The address of the client; of the nearest proxy, if it has not stated one that can be read.
    pub(crate) fn address(&self) -> IpAddr {
        match &self.client {
            Client::Stated(client) => client.0,
            Client::Connected | Client::Unreadable => self.peer.origin.address,
        }
    }

    /// The same as a header's value.
    pub(crate) fn source(&self) -> &HeaderValue {
        match &self.client {
            Client::Stated(client) => &client.1,
            Client::Connected | Client::Unreadable => &self.peer.origin.source,
        }
    }

    /// The certificate of the client; none: it has none that the Stage accepts.
    pub(crate) fn certificate(&self) -> Option<&Certificate> {
        if self.is_certified { self.peer.origin.tls.as_ref()?.presented().certificate() } else { None }
    }

    /// Whether a trusted proxy has stated something that is not an address.
    pub(crate) fn has_unreadable_client(&self) -> bool {
        matches!(self.client, Client::Unreadable)
    }

    /// Whose rejections and headers the response has.
    pub(crate) fn behavior(&self) -> Behavior {
        self.stage.as_ref().map_or(self.host_behavior, |stage| stage.behavior)
    }
}

/// Who has sent a request.
enum Client {
    /// The other end of the connection.
    Connected,
    /// The client of a trusted proxy.
    Stated(Box<(IpAddr, HeaderValue)>),
    Unreadable,
}

impl Client {
    #[inline]
    fn of(origin: &Origin, headers: &HeaderMap) -> Self {
        origin.behind.as_ref().map_or(Self::Connected, |trusted| Self::stated(trusted, origin, headers))
    }

    #[inline(never)] // most proxies have no other proxy in front
    fn stated(trusted: &Trusted, origin: &Origin, headers: &HeaderMap) -> Self {
        match trusted.client(origin.address, headers) {
            Ok(address) if address == origin.address => Self::Connected,
            Ok(address) => HeaderValue::try_from(address.to_string())
                .map_or(Self::Unreadable, |text| Self::Stated(Box::new((address, text)))),
            Err(Unreadable) => Self::Unreadable,
        }
    }
}

/// No response was begun: the client disconnected, or the proxy stopped. nginx logs this status as well.
const CLIENT_CLOSED: u16 = 499;

impl Exchange {
    fn status(&self) -> u16 {
        if self.status == 0 { CLIENT_CLOSED } else { self.status }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.peer.state.request_ended();
        self.peer.connection.request_ended(self.recorder.load.clock());
        if self.counted {
            self.recorder.load.release(self.recorder.worker);
        }
        let took = self.started.elapsed();
        self.recorder.record(&Record {
            stage: self.stage.as_ref().map(|stage| (&*stage.metrics, stage.log.as_deref())),
            rule: self.rule.as_ref().map(|rule| (&*rule.metrics, &*rule.log)),
            took,
            status: self.status(),
            variables: &Ended { exchange: self, took },
            complete: self.complete,
        });
    }
}

impl Variables for Exchange {
    #[inline(always)] // The access log names its variables: each call becomes what that variable needs.
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        match variable {
            Variable::RequestId => Some(Value::Plain(self.id.as_str())),
            Variable::SourceIp => Some(Value::Plain(self.source().to_str().unwrap_or_default())),
            Variable::HttpMethod => text(self.method.as_str()),
            Variable::Scheme => Some(Value::Plain(if self.secure { "https" } else { "http" })),
            Variable::DomainName => text(&self.host),
            Variable::Path => text(&self.path),
            Variable::Protocol => Some(Value::Plain(match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            })),
            Variable::Stage => text(&self.stage.as_ref()?.object.name),
            Variable::StageId => text(self.stage.as_ref()?.part.id()),
            Variable::Route => text(self.rule.as_ref()?.route()),
            Variable::Rule => text(&self.rule.as_ref()?.name),
            Variable::Claim(name) => {
                self.identity.as_ref().filter(|caller| !caller.has_context())?.attribute(name).map(Value::Text)
            }
            Variable::AuthorizerContext(name) => {
                self.identity.as_ref().filter(|caller| caller.has_context())?.attribute(name).map(Value::Text)
            }
            Variable::PrincipalId => text(self.identity.as_ref()?.id.as_deref().unwrap_or_default()),
            Variable::ApiKeyId => text(&self.key.as_ref()?.id),
            Variable::CustomerId => text(self.key.as_ref()?.customer.as_deref()?),
            Variable::UsagePlanId => text(self.key.as_ref()?.admits(&self.stage.as_ref()?.part)?.id()),
            Variable::SignedBy(field) => {
                let identity = self.identity.as_ref().filter(|identity| identity.kind == "Iam")?;
                identity.attribute(field.name()).map(Value::Text)
            }
            Variable::ClientCertificate(field) => text(self.certificate()?.details().field(*field)?),
            Variable::IntegrationLatency => self.upstream.map(Value::Time),
            Variable::IntegrationError => self.upstream_error.map(|cause| Value::Plain(cause.name())),
            Variable::Status => Some(Value::Number(self.status().into())),
            Variable::ResponseLength => Some(Value::Number(self.sent)),
            Variable::ErrorReason => Some(self.reason).filter(|text| !text.is_empty()).map(Value::Plain),
            Variable::DeniedBy => text(self.denied_by.as_deref()?),
            Variable::ErrorResponseType => Some(self.response_type).filter(|text| !text.is_empty()).map(Value::Plain),
            Variable::CacheStatus => Some(self.cache).filter(|text| !text.is_empty()).map(Value::Plain),
            Variable::PathParameter(_)
            | Variable::QueryParameter(_)
            | Variable::RequestHeader(_)
            | Variable::ResponseLatency => None,
        }
    }
}

/// An exchange whose response has ended.
struct Ended<'a> {
    exchange: &'a Exchange,
    /// From the request's head to the end of the response.
    took: Duration,
}

impl Variables for Ended<'_> {
    #[inline(always)]
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        match variable {
            Variable::ResponseLatency => Some(Value::Time(self.took)),
            other => self.exchange.get(other),
        }
    }
}
