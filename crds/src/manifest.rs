//! The CustomResourceDefinitions as they are shipped: generated from the types, made structural and strict.
//! How a document is judged by them outside an API server is `schema`'s.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// Every CustomResourceDefinition of the group, by plural name.
#[must_use]
pub fn definitions() -> Vec<CustomResourceDefinition> {
    vec![
        crate::ApiKey::crd(),
        crate::ApiRoute::crd(),
        crate::Authorizer::crd(),
        crate::Stage::crd(),
        crate::UsagePlan::crd(),
    ]
}
