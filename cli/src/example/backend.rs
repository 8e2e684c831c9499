//! The service behind the quickstart: answers every request with what it saw of it.
//! It keeps nothing; the number in each answer shows whether a response is fresh or came from a cache.

use std::sync::atomic::{AtomicU64, Ordering};

use http::{Method, StatusCode};
use serde_json::json;

use super::serve::{Answer, Call, Handler, json, text};

/// The backend.
#[derive(Debug, Default)]
pub(crate) struct Backend {
    /// Requests answered so far.
    served: AtomicU64,
    /// Appears in every answer, to tell several backends apart.
    name: String,
}

impl Backend {
    /// A backend that calls itself `name`.
    pub(crate) fn new(name: impl Into<String>) -> Self {
        Self { served: AtomicU64::new(0), name: name.into() }
    }
}

impl Handler for Backend {
    fn answer(&self, call: &Call) -> Answer {
        if call.uri().path() == "/healthz" {
            return text(StatusCode::OK, "ok\n");
        }
        let number = self.served.fetch_add(1, Ordering::Relaxed) + 1;
        let header = |name: &str| call.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let mut body = json!({
            "servedBy": self.name,
            "answer": number,
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
