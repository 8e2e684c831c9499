//! The example backend: responds to each request with a JSON description of it. The number in each response shows
//! whether the response came from a cache.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use serde_json::json;

use super::serve::{Call, Handler, Reply, json, text};

/// The backend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    /// Number of responses so far.
    served: AtomicU64,
    /// Name in each response, which distinguishes several backends.
    name: String,
}

impl Backend {
    /// Creates a backend with a name.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { served: AtomicU64::new(0), name: name.into() }
    }
}

impl Handler for Backend {
    fn respond(&self, call: &Call) -> Reply {
        if call.uri().path() == "/healthz" {
            return text(StatusCode::OK, "ok\n");
        }
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let header = |name: &str| call.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = json!({
            "servedBy": self.name,
            "response": number,
            "method": call.method().as_str(),
            "path": call.uri().path(),
        });
        if let Some(query) = call.uri().query() {
            body["query"] = query.into();
        }
        if let Some(customer) = header("x-customer") {
            body["customer"] = customer.into();
        }
        if let Some(order) = call.uri().path().strip_prefix("/orders/") {
            body["order"] = json!({"id": order, "status": "shipped"});
        }
        if call.uri().path() == "/catalog" {
            body["items"] = json!(["lamp", "chair", "table"]);
        }
        if !call.body().is_empty() {
            body["received"] = json!({"bytes": call.body().len()});
        }
        let status = if call.method() == Method::POST { StatusCode::CREATED } else { StatusCode::OK };
        json(status, &body)
    }
}
