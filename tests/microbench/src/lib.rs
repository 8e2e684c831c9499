//! Micro-benchmarks of the proxy; this library is empty, the benchmarks are in `benches/`.
