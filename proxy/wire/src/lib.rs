//! The contract between operator and proxy: configuration parts, deltas, frames and acks.
//! Plain data and its parsing only; how frames travel and what a part does is elsewhere.

mod authorizer;
pub mod codec;
mod frame;
mod hash;
mod host;
mod key;
mod part;
mod parts;
mod path;
mod route;
mod stage;
mod template;
mod upstream;

pub use authorizer::{Algorithm, AuthorizerPart, Issuer, Jwt, KeySource, TokenSource};
pub use frame::{Ack, Delta, Diagnostic, Down, Hello, MAX_FRAME_BYTES, MAX_PART_BYTES, Outcome, STREAM_PATH, Up};
pub use hash::{Hash, ParseHashError};
pub use host::{HostPattern, ParseHostError};
pub use key::{KeyEntry, KeysPart, PlanPart, PlanStage, RuleThrottle};
pub use part::{DecodeError, ObjectRef, Part, PartBody, PartKind, PartName};
pub use parts::{Content, Difference, Parts};
pub use path::{ParsePathError, PathTemplate, Segment};
pub use route::{
    ApiVersion, AuthorizerUse, CacheKey, CacheScope, FieldMatch, HeaderEdits, HttpTarget, Integration, Mock, RoutePart,
    Rule, RuleAction, RuleCache, RulePolicy, VersionScheme,
};
pub use stage::{Behavior, Cors, Invalidation, StageCache, StagePart, Throttle, Unauthorized};
pub use template::{ParseTemplateError, Template, TemplatePart, Variable};
pub use upstream::{CertificatePart, Endpoints, UpstreamPart};
