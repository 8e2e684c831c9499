//! System tests: operator and proxies as processes, with backends, against a real API server.

mod api_server;
mod cel;
mod changes;
mod churn;
mod descriptors;
mod drain;
mod fixtures;
mod fleets;
mod functions;
mod grpc;
mod harness;
mod many_keys;
mod metrics;
mod names;
mod operator_cpu;
mod outages;
mod principals;
mod quickstart;
mod restarts;
mod rights;
mod service_accounts;
mod sts;
mod tenancy;
