//! `/api/v1` over HTTPS: what is told, who may act, what is refused, what the description promises.

mod described;
pub(crate) mod ground;
mod reading;
mod schema;
mod writing;
