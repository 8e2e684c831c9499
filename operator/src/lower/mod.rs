//! Lowers objects that define routes to one intermediate form: [`Route`]. Each kind has a file here; everything after it works
//! with the form alone and does not depend on these kinds. References are not resolved here: the form carries them with their
//! fields.

mod api_route;
mod api_rule;
mod route;
mod service_port;

pub(crate) use api_route::api_route;
pub(crate) use route::{
    ANY, Authorities, Authorization, Integration, Match, Policy, Reference, Route, Rule, ServicePort, ServiceTls,
};
pub(crate) use service_port::service_port;
