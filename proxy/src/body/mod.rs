//! Request bodies: forwarded while they arrive, or buffered within a memory budget. Bodies of responses are in `pipeline`.

mod budget;
mod buffer;
mod error;
mod upload;

pub(crate) use budget::{MemoryBudget, Reservation};
pub(crate) use buffer::{BufferError, buffer};
pub(crate) use error::BodyError;
pub(crate) use upload::{Upload, UploadState};
