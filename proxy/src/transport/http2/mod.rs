//! HTTP/2 connections of an endpoint. Several requests share a connection, and none of them can block the others:
//!
//! * Responses: the window of a connection is as large as those of all its streams, so that streams that are not read
//!   cannot exhaust it.
//! * Uploads: the server's window of a connection may be as small as 65,535 bytes (RFC 9113, section 6.9.2), and servers
//!   may open it only when a body is read. Small bodies share those bytes; a large one, or one of unknown size, has a
//!   connection without other uploads.
//! * Streams: a connection has as many as the server allows at the moment, up to our own limit. Beyond them requests use
//!   another connection, and beyond the limit of connections they wait, up to a deadline.

pub(super) mod connection;
pub(super) mod dedicated;
pub(super) mod queue;
pub(super) mod stream;
