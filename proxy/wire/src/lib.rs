//! The contract between operator and proxy: configuration parts, deltas, frames and acks.
//! Plain data and its parsing only: the operator and the proxy send frames and apply parts.
//!
//! Operator and proxies are updated one after the other, so each reads what a newer one writes:
//!
//! | of a newer version | what the receiver does |
//! | --- | --- |
//! | a field | ignores it; a new field has a default |
//! | a frame | ignores it, or ends the stream when it is marked `essential` |
//! | an outcome of a delta | does not count the version as applied |
//! | a kind of part | keeps, hashes and restores it, and serves nothing of it |
//! | a variant inside a part | rejects the requests that depend on this object, and on no other |
//!
//! Each side lists its [`Capabilities`] when a stream begins. The operator sends parts of every kind to every proxy of a
//! fleet, so that all of them have the same version and an updated proxy has its parts already; it does not count a proxy
//! as serving an object whose parts the proxy does not list. It sends a frame that older proxies do not know only to those
//! that list it.

mod access_review;
mod authorizer;
mod capability;
mod client_header;
pub mod codec;
mod fleet;
mod frame;
mod hash;
mod host;
mod key;
mod key_set;
mod key_use;
mod lambda_authorizer;
mod name;
mod network;
mod object;
mod part;
mod parts;
mod path;
mod principal;
mod request_policy;
mod reserved;
mod route;
mod stage;
mod tagged;
mod template;
mod token_source;
mod upstream;
mod variable;

pub use access_review::{AccessReview, Reviewed, ServiceAccountUser};
pub use authorizer::{
    Algorithm, AuthorizerKind, AuthorizerPart, ClientAuthentication, Iam, Introspection, Issuer, Jwt, KeySource,
    ServiceAccount, default_token_types, normalized_token_type,
};
pub use capability::Capabilities;
pub use client_header::{NEVER_FORWARDED, is_spoofable};
pub use fleet::{FleetName, ParseFleetError};
pub use frame::{
    Ack, Delta, Diagnostic, Down, Frame, Hello, MAX_FRAME_BYTES, MAX_PART_BYTES, Outcome, STREAM_PATH, Up, Welcome,
};
pub use hash::{Hash, ParseHashError};
pub use host::{HostPattern, ParseHostError};
pub use key::{KeyEntry, KeysPart, PlanPart, PlanStage, RuleThrottle};
pub use key_set::{Curve, KeyMaterial, KeySet, KeySetError, MAX_KEY_SET_BYTES, PublicKey, SkipReason, SkippedKey};
pub use key_use::{KeyUse, MAX_KEY_USES, Used};
pub use lambda_authorizer::{
    AwsCredentials, IdentitySource, Invocation, Lambda, LambdaEvent, LambdaFunction, LambdaInvoke, LambdaResponses,
    LambdaService, TokenPattern,
};
pub use name::{NameFields, ParsePartNameError, PartKind, PartName, SubPart};
pub use network::{Network, ParseNetworkError, Sources};
pub use object::ObjectRef;
pub use part::{DecodeError, Part, PartBody};
pub use parts::{Content, Difference, Parts};
pub use path::{ParsePathError, PathTemplate, Segment};
pub use principal::{AccessKey, DayKey, PrincipalPart, SessionDayKey};
pub use request_policy::{
    DoubleEncoding, EmptySegments, EncodedSlashes, HeaderNames, HeaderValues, ParseSettingError, PathCharacters,
    QueryCharacters, RequestPolicy, Semicolons,
};
pub use reserved::{Message, Reserved, is_hop_by_hop, is_removed_from_requests, reserved};
pub use route::{
    ApiVersion, AuthorizeTerm, AuthorizerUse, CacheScope, FieldMatch, HeaderEdits, HttpTarget, Integration, Mock,
    RoutePart, Rule, RuleAction, RuleCache, RulePolicy, VersionScheme,
};
pub use stage::{
    ApiKeySource, Behavior, CLIENT_AUTH_REQUIRED, ClientAuth, ClientThrottle, Cors, Hsts, Invalidation,
    POLICY_REQUIRED, PlainHttp, StageCache, StagePart, StagePolicy, StageTls, Throttle, TrailingSlash, Unauthorized,
};
pub use tagged::Unknown;
pub use template::{ParseTemplateError, Template, TemplatePart};
pub use token_source::TokenSource;
pub use upstream::{CertificatePart, Endpoints, UpstreamPart, UpstreamTls};
pub use variable::{CallerField, CertificateField, ParseVariableError, Variable, VariableName, VariableUse};
