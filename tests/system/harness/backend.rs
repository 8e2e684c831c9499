//! HTTP servers that are upstreams of the API: each responds with its name and with the request that it received.

use std::net::{IpAddr, UdpSocket};

use anyhow::Context as _;
use serde_json::{Value, json};
use sluice_kit::backend::described;

/// A server that responds to every request with JSON: its `name`, and the request's method, path and headers. It ends when
/// it is dropped.
#[derive(Debug)]
pub(crate) struct Backend(sluice_kit::Backend);

impl Backend {
    /// Listens on this machine's own address: the API server rejects loopback in EndpointSlices. Traffic to a machine's
    /// own address never leaves it.
    pub(crate) fn start(name: &str) -> anyhow::Result<Self> {
        let name = name.to_owned();
        Ok(Self(sluice_kit::Backend::start_on(own_address()?, None, move |head, _| described(&name, head))))
    }

    /// A server that responds to every request with this JSON.
    pub(crate) fn responding(value: &Value) -> anyhow::Result<Self> {
        let response = sluice_kit::backend::ok(&value.to_string());
        Ok(Self(sluice_kit::Backend::start_on(own_address()?, None, move |_, _| response.clone())))
    }

    /// How many requests it received.
    pub(crate) fn requests(&self) -> usize {
        self.0.requests()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The source address of this machine for other machines. Nothing is sent: connecting a UDP socket only selects a route.
pub(crate) fn own_address() -> anyhow::Result<IpAddr> {
    const HINT: &str = "the system tests need an address of this machine that is not loopback, because the API server \
                        rejects loopback in EndpointSlices";
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    // 198.51.100.0/24 is for documentation.
    socket.connect(("198.51.100.1", 9)).context(HINT)?;
    let address = socket.local_addr()?.ip();
    anyhow::ensure!(!address.is_loopback() && !address.is_unspecified(), HINT);
    Ok(address)
}

/// A Service without a selector, port 80.
pub(crate) fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "http"}]},
    })
}

/// An EndpointSlice of a Service for one backend, as the controller manager would create it. A slice has one port
/// number and every backend has another, so each has its own slice.
pub(crate) fn endpoints(service: &str, number: u32, backend: Option<&Backend>) -> Value {
    let endpoints: Vec<Value> = backend
        .iter()
        .map(|backend| json!({"addresses": [backend.0.address.ip()], "conditions": {"ready": true, "serving": true}}))
        .collect();
    let port = backend.map_or(80, |backend| backend.0.address.port());
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{service}-{number}"), "labels": {"kubernetes.io/service-name": service}},
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": port, "protocol": "TCP"}],
    })
}
