//! System tests of Sluice; this library is empty, the tests are in `system/`.
