//! The wire forms of Ergo Framework (3.1 and 3.2): routes as its registrars write them.

mod edf;
mod registrar;
mod route;

pub use edf::BadEdf;
pub use registrar::{Packet, WHOLE};
pub(crate) use route::host_part;
pub use route::{GenRoute, Version, answers, routes_from_base64, routes_to_base64};
