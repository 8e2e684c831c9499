//! The kinds of objects that the operator works with and their identities: the lowest module of the operator.

mod key;
mod object;

pub use key::ObjectKey;
pub use object::{Kind, Object, Unparsable, secret_of};
